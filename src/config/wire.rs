//! Protobuf's binary form into the JSON form that all readers read: `envoy.pb` files, and what servers of configuration
//! send.
//!
//! Stands where Envoy has the generated parsers. Names are those of the `.proto` files, as in the errors that the
//! readers give. What the API does not have, a field or the type of an `Any`, stays visible: the field under its
//! number, for the reader to find it unknown.

use super::descriptor::{Api, Field, Kind, MessageType};
use super::error::ConfigError;
use super::merge;
use super::scalar;
use super::wire_format::{Fields, Payload, take_fixed32, take_fixed64, take_varint};
use crate::common::base64;
use serde_json::{Map, Number, Value};
use std::time::Duration;

/// As deep as protobuf goes.
const MAX_DEPTH: u32 = 100;

/// Reads one message of the type `type_name`.
///
/// # Errors
/// The bytes are no such message; the path says which part.
pub fn decode(api: &Api, type_name: &str, data: &[u8]) -> Result<Value, ConfigError> {
    let unknown = || ConfigError::document(format!("the API has no message {type_name}"));
    let message = api.message(type_name).ok_or_else(unknown)?;
    Decoder { api, depth: 0 }.message(&message, data)
}

struct Decoder<'a> {
    api: &'a Api,
    depth: u32,
}

impl Decoder<'_> {
    /// What stands in a message, which may be one with a JSON form of its own.
    fn message(&mut self, message: &MessageType, data: &[u8]) -> Result<Value, ConfigError> {
        if self.depth >= MAX_DEPTH {
            return Err(ConfigError::document("too many messages in one another"));
        }
        self.depth += 1;
        let value = match message.name.strip_prefix("google.protobuf.") {
            Some("Any") => self.any(data),
            _ => self.fields(message, data).map(|fields| own_form(message, fields)),
        };
        self.depth -= 1;
        value
    }

    fn fields(&mut self, message: &MessageType, data: &[u8]) -> Result<Map<String, Value>, ConfigError> {
        let mut out = Map::new();
        for field in Fields::of(data) {
            let (number, payload) = field.map_err(|_| ConfigError::document("not a protobuf message"))?;
            let unknown = || (number.to_string(), Value::Bool(true));
            let Some(field) = message.field_of_number(number) else {
                out.extend([unknown()]);
                continue;
            };
            match self.put(message, field, payload, &mut out).map_err(|error| error.within(field.name))? {
                true => {}
                // As protobuf has it, a field of another wire type is another field.
                false => out.extend([unknown()]),
            }
        }
        Ok(out)
    }

    /// Puts what a field holds to the others; false if that is not of its type.
    fn put(
        &mut self,
        message: &MessageType,
        field: &Field,
        payload: Payload<'_>,
        out: &mut Map<String, Value>,
    ) -> Result<bool, ConfigError> {
        if let Some(entry) = self.api.map_entry(field) {
            let Some(data) = payload.bytes() else { return Ok(false) };
            let (key, value) = self.entry(&entry, data)?;
            let entries = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            entries.as_object_mut().map(|entries| entries.insert(key, value));
            return Ok(true);
        }
        if field.repeated {
            let mut items = Vec::new();
            match payload {
                Payload::Bytes(packed)
                    if !matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message) =>
                {
                    let mut rest = packed;
                    while !rest.is_empty() {
                        let item =
                            next_packed(field.kind, &mut rest).and_then(|item| self.scalar(field, item));
                        items.push(item.ok_or_else(|| ConfigError::document("not a packed list"))?);
                    }
                }
                _ => match self.one(field, payload)? {
                    Some(item) => items.push(item),
                    None => return Ok(false),
                },
            }
            let list = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.extend(items);
            }
            return Ok(true);
        }
        let Some(value) = self.one(field, payload)? else { return Ok(false) };
        if let Some(oneof) = field.oneof {
            // The last member is the one that is set.
            out.retain(|name, _| {
                name == field.name || message.field(name).is_none_or(|f| f.oneof != Some(oneof))
            });
        }
        match out.get_mut(field.name).filter(|_| field.kind == Kind::Message) {
            // A message may come in pieces.
            Some(earlier) => merge::merge_field(self.api, field, earlier, value),
            None => {
                out.insert(field.name.to_string(), value);
            }
        }
        Ok(true)
    }

    /// A single value; `None` if it is not of the field's type.
    fn one(&mut self, field: &Field, payload: Payload<'_>) -> Result<Option<Value>, ConfigError> {
        match (field.kind, payload) {
            (Kind::Message, Payload::Bytes(data)) => {
                let message = self.api.message(field.type_name);
                message.map(|message| self.message(&message, data)).transpose()
            }
            (Kind::String, Payload::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.into())),
                Err(_) => Err(ConfigError::document("it is not valid UTF-8")),
            },
            (Kind::Bytes, Payload::Bytes(bytes)) => Ok(Some(base64::encode(bytes).into())),
            _ => Ok(self.scalar(field, payload)),
        }
    }

    fn scalar(&self, field: &Field, payload: Payload<'_>) -> Option<Value> {
        let zigzag = |bits: u64| (bits >> 1) as i64 ^ -((bits & 1) as i64);
        Some(match (field.kind, payload) {
            (Kind::Bool, Payload::Varint(bits)) => (bits != 0).into(),
            (Kind::Enum, Payload::Varint(bits)) => {
                let known = self.api.enumeration(field.type_name)?;
                let found = known.values.iter().find(|(_, number)| *number == bits as i32);
                found.map_or_else(|| Value::from(bits as i32), |(name, _)| Value::from(*name))
            }
            (Kind::Int32, Payload::Varint(bits)) => (bits as i32).into(),
            (Kind::Int64, Payload::Varint(bits)) => (bits as i64).into(),
            (Kind::Uint32, Payload::Varint(bits)) => (bits as u32).into(),
            (Kind::Uint64, Payload::Varint(bits)) => bits.into(),
            (Kind::Sint32, Payload::Varint(bits)) => (zigzag(bits) as i32).into(),
            (Kind::Sint64, Payload::Varint(bits)) => zigzag(bits).into(),
            (Kind::Fixed32, Payload::Fixed32(bits)) => bits.into(),
            (Kind::Sfixed32, Payload::Fixed32(bits)) => (bits as i32).into(),
            (Kind::Fixed64, Payload::Fixed64(bits)) => bits.into(),
            (Kind::Sfixed64, Payload::Fixed64(bits)) => (bits as i64).into(),
            (Kind::Double, Payload::Fixed64(bits)) => float(f64::from_bits(bits)),
            // The shortest text that means the same 32 bits.
            (Kind::Float, Payload::Fixed32(bits)) => float(f32::from_bits(bits).to_string().parse().ok()?),
            _ => return None,
        })
    }

    fn entry(&mut self, entry: &MessageType, data: &[u8]) -> Result<(String, Value), ConfigError> {
        let mut fields = self.fields(entry, data)?;
        let key = match fields.remove("key") {
            Some(Value::String(key)) => key,
            Some(key) => key.to_string(),
            None => if entry.field("key").is_some_and(|key| key.kind == Kind::String) { "" } else { "0" }
                .to_string(),
        };
        let value = match (fields.remove("value"), entry.field("value")) {
            (Some(value), _) => value,
            (None, Some(field)) => self.one(field, Payload::Bytes(&[]))?.unwrap_or(Value::Null),
            (None, None) => Value::Null,
        };
        Ok((key, value))
    }

    fn any(&mut self, data: &[u8]) -> Result<Value, ConfigError> {
        let (mut url, mut content) = ("", &[][..]);
        for field in Fields::of(data) {
            match field.map_err(|_| ConfigError::document("not a protobuf message"))? {
                (1, text) => url = text.text().unwrap_or_default(),
                (2, Payload::Bytes(bytes)) => content = bytes,
                _ => {}
            }
        }
        let mut any = Map::from_iter([("@type".to_string(), Value::from(url))]);
        let message = url.rsplit_once('/').and_then(|(_, name)| self.api.message(name));
        match message.map(|message| self.message(&message, content)).transpose()? {
            Some(Value::Object(fields)) => any.extend(fields),
            // A JSON form of its own stands in a field.
            Some(value) => any.extend([("value".to_string(), value)]),
            None => any.extend([("value".to_string(), base64::encode(content).into())]),
        }
        Ok(Value::Object(any))
    }
}

/// The JSON form of a message, which some of protobuf's own have.
fn own_form(message: &MessageType, mut fields: Map<String, Value>) -> Value {
    let Some(name) = message.name.strip_prefix("google.protobuf.") else { return Value::Object(fields) };
    let part = |name: &str| fields.get(name).and_then(Value::as_i64).unwrap_or(0);
    match name {
        "Duration" => duration(part("seconds"), part("nanos")),
        "Timestamp" => timestamp(part("seconds"), part("nanos")),
        "Struct" => fields.remove("fields").unwrap_or_else(|| Value::Object(Map::new())),
        "ListValue" => fields.remove("values").unwrap_or_else(|| Value::Array(Vec::new())),
        "Value" => match fields.into_iter().next() {
            Some((kind, _)) if kind == "null_value" => Value::Null,
            Some((_, value)) => value,
            None => Value::Null,
        },
        "FieldMask" => {
            let paths = fields.get("paths").and_then(Value::as_array).into_iter().flatten();
            Value::from(paths.filter_map(Value::as_str).collect::<Vec<_>>().join(","))
        }
        // A wrapper of something unknown besides is left for the reader.
        _ if name.ends_with("Value") && fields.len() <= 1 => {
            match (fields.remove("value"), message.fields.first()) {
                (Some(value), _) => value,
                (None, Some(field)) if fields.is_empty() => default_of(field.kind),
                _ => Value::Object(fields),
            }
        }
        _ => Value::Object(fields),
    }
}

fn default_of(kind: Kind) -> Value {
    match kind {
        Kind::Bool => false.into(),
        Kind::String | Kind::Bytes => "".into(),
        Kind::Float | Kind::Double => 0.0.into(),
        _ => 0.into(),
    }
}

fn duration(seconds: i64, nanos: i64) -> Value {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let nanos = u32::try_from(nanos.unsigned_abs()).unwrap_or(u32::MAX);
    let amount = Duration::from_secs(seconds.unsigned_abs()).checked_add(Duration::from_nanos(nanos.into()));
    format!("{sign}{}", scalar::duration_text(amount.unwrap_or(Duration::MAX))).into()
}

/// RFC 3339, by Howard Hinnant's way from days to a date.
pub(super) fn timestamp(seconds: i64, nanos: i64) -> Value {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let fraction = scalar::fraction_text(u32::try_from(nanos).unwrap_or(0));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z").into()
}

/// As protobuf writes it: a whole number without a fraction.
pub(crate) fn float(value: f64) -> Value {
    const EXACT: f64 = (1_u64 << 53) as f64;
    match Number::from_f64(value) {
        Some(_) if value.fract() == 0.0 && value.abs() <= EXACT => Value::from(value as i64),
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
    }
}

fn next_packed<'a>(kind: Kind, rest: &mut &'a [u8]) -> Option<Payload<'a>> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => take_fixed64(rest).map(Payload::Fixed64),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => take_fixed32(rest).map(Payload::Fixed32),
        _ => take_varint(rest).map(Payload::Varint),
    }
}
