//! [`MessageReader`]: reads one protobuf message in its JSON form, field by
//! field, and reports with the full path whatever is wrong.
//!
//! It stands where Envoy has the protobuf JSON parser and the generated
//! validation. Each field that is asked for counts as known; when the message
//! is done, every key that nobody asked for is an unknown field.
//!
//! Different on purpose: a field written twice (as `snake_case` and
//! `camelCase`) is an error, where Envoy lets one of the two win.

use super::error::ConfigError;
use super::scalar;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What to do with a field (or enum name) the API structs here do not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// Refuse the configuration: the default.
    #[default]
    Reject,
    /// Skip it and remember its path: `--allow-unknown-static-fields`. Fields that
    /// are known but not supported yet stay errors.
    Allow,
}

/// What all readers of one document share.
#[derive(Debug, Default)]
pub struct ParseContext {
    unknown: UnknownFields,
    skipped: RefCell<Vec<String>>,
}

impl ParseContext {
    /// A context for one document.
    pub fn new(unknown: UnknownFields) -> Self {
        Self { unknown, skipped: RefCell::default() }
    }

    /// Full paths of what was skipped under [`UnknownFields::Allow`].
    pub fn into_skipped(self) -> Vec<String> {
        self.skipped.into_inner()
    }

    fn unknown(&self, path: String, what: &str) -> Result<(), ConfigError> {
        match self.unknown {
            UnknownFields::Reject => Err(ConfigError::new(path, what)),
            UnknownFields::Allow => {
                self.skipped.borrow_mut().push(path);
                Ok(())
            }
        }
    }
}

/// The values of an enum: API name, number, and what it means here. `None`
/// marks a value of the API that is not supported yet.
pub type EnumTable<T> = [(&'static str, u32, Option<T>)];

/// Reads one message. Methods that take a field name accept it in the document
/// as `snake_case` or `camelCase`; `null` is the same as absent.
#[derive(Debug)]
pub struct MessageReader<'a> {
    context: &'a ParseContext,
    path: String,
    fields: Option<&'a Map<String, Value>>,
    known: Vec<&'a str>,
}

/// A message type that can be read from its JSON form.
pub trait FromMessage: Sized {
    /// Reads every field of the message; the caller checks for unknown ones.
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError>;
}

/// Edits by which a misspelled name may differ.
const MISSPELLING: usize = 2;

impl<'a> MessageReader<'a> {
    /// A reader for the message `value` found at `path`. `null` is the empty
    /// message.
    pub fn new(context: &'a ParseContext, value: &'a Value, path: String) -> Result<Self, ConfigError> {
        let fields = match value {
            Value::Object(fields) => Some(fields),
            Value::Null => None,
            _ => {
                let got = scalar::describe(value);
                return Err(ConfigError::new(path, format!("expected an object, got {got}")));
            }
        };
        Ok(Self { context, path, fields, known: Vec::new() })
    }

    /// Full path of this message.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Full path of the field `name` of this message.
    pub fn field_path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// An error about the field `name` of this message.
    pub fn error(&self, name: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.field_path(name), message)
    }

    /// An error about the missing field `name`; names a key that looks like a misspelling of it.
    pub fn missing(&self, name: &str, message: &str) -> ConfigError {
        let known = |key: &str| self.known.contains(&key);
        let keys = self.fields.into_iter().flat_map(Map::keys).filter(|key| !known(key));
        match keys.min_by_key(|key| strsim::levenshtein(key, name)) {
            Some(key) if strsim::levenshtein(key, name) <= MISSPELLING => {
                self.error(name, format!("{message}; the unknown field '{key}' looks like it"))
            }
            _ => self.error(name, message),
        }
    }

    /// Fails (or notes it) when the document has a field nobody asked for.
    pub fn finish(self) -> Result<(), ConfigError> {
        for key in self.fields.into_iter().flat_map(Map::keys) {
            if !self.known.contains(&key.as_str()) {
                self.context.unknown(self.field_path(key), "unknown field")?;
            }
        }
        Ok(())
    }

    /// The raw value of a field, `None` if absent or `null`.
    pub fn value(&mut self, name: &str) -> Result<Option<&'a Value>, ConfigError> {
        let Some(fields) = self.fields else {
            return Ok(None);
        };
        let camel = camel_case(name);
        let snake = fields.get_key_value(name);
        let camel = (camel != name).then(|| fields.get_key_value(&camel)).flatten();
        if let (Some(_), Some((key, _))) = (snake, camel) {
            let message = format!("the field is given twice, also as '{key}'");
            return Err(self.error(name, message));
        }
        let Some((key, value)) = snake.or(camel) else {
            return Ok(None);
        };
        self.known.push(key);
        Ok(Some(value).filter(|v| !v.is_null()))
    }

    /// Whether a field is present and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.fields.is_some_and(|fields| {
            let value = fields.get(name).or_else(|| fields.get(&camel_case(name)));
            value.is_some_and(|v| !v.is_null())
        })
    }

    /// Fails if the field, which the API has, is set: legate cannot honour it yet.
    /// `null` and the empty list are the same as absent.
    pub fn unsupported(&mut self, name: &str) -> Result<(), ConfigError> {
        match self.value(name)? {
            None => Ok(()),
            Some(Value::Array(items)) if items.is_empty() => Ok(()),
            Some(_) => Err(self.error(name, "this field is not supported yet")),
        }
    }

    /// [`unsupported`](Self::unsupported) for several fields.
    pub fn unsupported_fields(&mut self, names: &[&str]) -> Result<(), ConfigError> {
        names.iter().try_for_each(|name| self.unsupported(name))
    }

    /// For a boolean whose default is false: only `true` is not supported.
    pub fn unsupported_if_true(&mut self, name: &str) -> Result<(), ConfigError> {
        if self.bool(name)? {
            return Err(self.error(name, "true is not supported yet"));
        }
        Ok(())
    }

    /// Which member of a oneof is set, if any.
    ///
    /// # Errors
    /// More than one is set.
    pub fn at_most_one(&mut self, names: &[&'static str]) -> Result<Option<&'static str>, ConfigError> {
        let mut set = None;
        for name in names.iter().copied() {
            if self.value(name)?.is_none() {
                continue;
            }
            if let Some(other) = set.replace(name) {
                let message = format!("only one of '{other}' and '{name}' may be set");
                return Err(ConfigError::new(self.path.clone(), message));
            }
        }
        Ok(set)
    }

    /// Which member of a oneof is set; one has to be.
    pub fn exactly_one(&mut self, names: &[&'static str]) -> Result<&'static str, ConfigError> {
        self.at_most_one(names)?.ok_or_else(|| {
            let names = names.join(", ");
            ConfigError::new(self.path.clone(), format!("one of {names} is required"))
        })
    }

    /// A string; empty when absent.
    pub fn string(&mut self, name: &str) -> Result<String, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(String::new());
        };
        expect_string(value).map_err(|e| self.error(name, e))
    }

    /// A string that must not be empty.
    pub fn required_string(&mut self, name: &str) -> Result<String, ConfigError> {
        let text = self.string(name)?;
        if text.is_empty() {
            return Err(self.missing(name, "is required and must not be empty"));
        }
        Ok(text)
    }

    /// A string that may become (part of) a header value: no NUL, CR or LF.
    pub fn header_text(&mut self, name: &str) -> Result<String, ConfigError> {
        let text = self.string(name)?;
        check_header_text(&text).map_err(|e| self.error(name, e))?;
        Ok(text)
    }

    /// A list of strings.
    pub fn strings(&mut self, name: &str) -> Result<Vec<String>, ConfigError> {
        self.items(name)?
            .into_iter()
            .map(|(path, value)| expect_string(value).map_err(|e| ConfigError::new(path, e)))
            .collect()
    }

    /// A boolean; false when absent.
    pub fn bool(&mut self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.scalar(name, scalar::parse_bool)?.unwrap_or(false))
    }

    /// A `BoolValue`, which may also be written as `{value: true}`.
    pub fn opt_bool(&mut self, name: &str) -> Result<Option<bool>, ConfigError> {
        match self.wrapper(name)? {
            Some(mut wrapper) => {
                let value = wrapper.bool("value")?;
                wrapper.finish().map(|()| Some(value))
            }
            None => self.scalar(name, scalar::parse_bool),
        }
    }

    /// An unsigned integer; 0 when absent.
    pub fn u32(&mut self, name: &str) -> Result<u32, ConfigError> {
        Ok(self.scalar(name, scalar::parse_u32)?.unwrap_or(0))
    }

    /// A `UInt32Value`, which may also be written as `{value: 5}`.
    pub fn opt_u32(&mut self, name: &str) -> Result<Option<u32>, ConfigError> {
        match self.wrapper(name)? {
            Some(mut wrapper) => {
                let value = wrapper.u32("value")?;
                wrapper.finish().map(|()| Some(value))
            }
            None => self.scalar(name, scalar::parse_u32),
        }
    }

    /// A `UInt32Value` whose value, when present, must lie in `range`.
    pub fn opt_u32_in(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, ConfigError> {
        let value = self.opt_u32(name)?;
        match value {
            Some(n) if !range.contains(&n) => Err(self.error(name, out_of_range(n, &range))),
            _ => Ok(value),
        }
    }

    /// A list of unsigned integers, each in `range`.
    pub fn u32s_in(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<Vec<u32>, ConfigError> {
        let mut numbers = Vec::new();
        for (path, value) in self.items(name)? {
            let number = scalar::parse_u32(value).map_err(|e| ConfigError::new(&path, e))?;
            if !range.contains(&number) {
                return Err(ConfigError::new(path, out_of_range(number, &range)));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// A floating point number.
    pub fn opt_f64(&mut self, name: &str) -> Result<Option<f64>, ConfigError> {
        self.scalar(name, scalar::parse_f64)
    }

    /// A signed 64-bit integer; 0 when absent.
    pub fn i64(&mut self, name: &str) -> Result<i64, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(0);
        };
        scalar::parse_integer(value).and_then(|n| i64::try_from(n).ok()).ok_or_else(|| {
            let got = scalar::describe(value);
            self.error(name, format!("expected an integer, got {got}"))
        })
    }

    /// A duration, zero or more.
    pub fn duration(&mut self, name: &str) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let parsed = scalar::parse_duration(value).map_err(|e| self.error(name, e))?;
        Ok(Some(parsed))
    }

    /// A duration that, when present, must be more than zero.
    pub fn positive_duration(&mut self, name: &str) -> Result<Option<Duration>, ConfigError> {
        let value = self.duration(name)?;
        if value.is_some_and(|d| d.is_zero()) {
            return Err(self.error(name, "must be greater than 0s"));
        }
        Ok(value)
    }

    /// An enum given by name (any case, as in Envoy) or by number; `None` when
    /// absent.
    pub fn enumeration<T: Copy>(
        &mut self,
        name: &str,
        table: &EnumTable<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let names = || table.iter().map(|row| row.0).collect::<Vec<_>>().join(", ");
        let by_name = value.as_str().and_then(|text| {
            let text = text.replace('-', "_");
            table.iter().find(|row| row.0.eq_ignore_ascii_case(&text))
        });
        let row = match (by_name, scalar::parse_integer(value), value) {
            (Some(row), _, _) => row,
            (None, Some(number), _) => {
                table.iter().find(|row| i128::from(row.1) == number).ok_or_else(|| {
                    let message = format!("{number} is not one of the values of {}", names());
                    self.error(name, message)
                })?
            }
            (None, None, Value::String(text)) => {
                let what = format!("unknown value {text:?}, expected one of {}", names());
                self.context.unknown(self.field_path(name), &what)?;
                return Ok(None);
            }
            _ => {
                let got = scalar::describe(value);
                let message = format!("expected one of {}, got {got}", names());
                return Err(self.error(name, message));
            }
        };
        match row.2 {
            Some(meaning) => Ok(Some(meaning)),
            None => Err(self.error(name, format!("{} is not supported yet", row.0))),
        }
    }

    /// A message, checked for unknown fields; `None` when absent.
    pub fn message<T: FromMessage>(&mut self, name: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        self.read_at(value, self.field_path(name)).map(Some)
    }

    /// A message that must be present.
    pub fn required_message<T: FromMessage>(&mut self, name: &str) -> Result<T, ConfigError> {
        self.message(name)?.ok_or_else(|| self.missing(name, "is required"))
    }

    /// A list of messages.
    pub fn messages<T: FromMessage>(&mut self, name: &str) -> Result<Vec<T>, ConfigError> {
        let items = self.items(name)?;
        items.into_iter().map(|(path, value)| self.read_at(value, path)).collect()
    }

    /// The entries of a map field with their paths, `field["key"]`.
    pub fn map(&mut self, name: &str) -> Result<Vec<(&'a str, String, &'a Value)>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(Vec::new());
        };
        let Value::Object(entries) = value else {
            let got = scalar::describe(value);
            return Err(self.error(name, format!("expected an object, got {got}")));
        };
        let base = self.field_path(name);
        let entry = |(key, value): (&'a String, &'a Value)| (key.as_str(), format!("{base}[{key:?}]"), value);
        Ok(entries.iter().map(entry).collect())
    }

    /// A `google.protobuf.Any`: the message's full type name and a reader for its
    /// fields, to be `finish`ed by the caller. It has to be present.
    pub fn any(&mut self, name: &str) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
        match self.value(name)? {
            Some(value) => any_at(self.context, value, self.field_path(name)),
            None => Err(self.missing(name, "is required")),
        }
    }

    /// An `Any` found elsewhere, for example as the value of a map.
    pub fn any_at(
        &self,
        value: &'a Value,
        path: String,
    ) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
        any_at(self.context, value, path)
    }

    fn read_at<T: FromMessage>(&self, value: &Value, path: String) -> Result<T, ConfigError> {
        let mut reader = MessageReader::new(self.context, value, path)?;
        let message = T::read(&mut reader)?;
        reader.finish()?;
        Ok(message)
    }

    /// A reader for a wrapper type that is spelled out as a message.
    fn wrapper(&mut self, name: &str) -> Result<Option<MessageReader<'a>>, ConfigError> {
        match self.value(name)? {
            Some(value @ Value::Object(_)) => {
                MessageReader::new(self.context, value, self.field_path(name)).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn scalar<T>(
        &mut self,
        name: &str,
        parse: fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        parse(value).map(Some).map_err(|e| self.error(name, e))
    }

    /// A value that is not a list counts as a list of one, as in Envoy.
    fn items(&mut self, name: &str) -> Result<Vec<(String, &'a Value)>, ConfigError> {
        let values: &[Value] = match self.value(name)? {
            None => &[],
            Some(Value::Array(values)) => values,
            Some(one) => std::slice::from_ref(one),
        };
        let base = self.field_path(name);
        let item = |(i, value)| (format!("{base}[{i}]"), value);
        Ok(values.iter().enumerate().map(item).collect())
    }
}

fn any_at<'a>(
    context: &'a ParseContext,
    value: &'a Value,
    path: String,
) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
    let mut reader = MessageReader::new(context, value, path)?;
    let url = match reader.value("@type")? {
        Some(Value::String(url)) => url,
        Some(other) => {
            let got = scalar::describe(other);
            return Err(reader.error("@type", format!("expected a string, got {got}")));
        }
        None => return Err(reader.error("@type", "is required")),
    };
    match url.rsplit_once('/') {
        Some((host, type_name)) if !host.is_empty() && !type_name.is_empty() => Ok((type_name, reader)),
        _ => {
            let message = format!("must start with 'type.googleapis.com/', got {url:?}");
            Err(reader.error("@type", message))
        }
    }
}

/// The error for an `Any` of a type that has no reader here.
pub fn unknown_type(r: &MessageReader<'_>, type_name: &str, supported: &[&str]) -> ConfigError {
    let supported = supported.join(", ");
    r.error("@type", format!("unknown or unsupported type '{type_name}', supported here: {supported}"))
}

/// Refuses what cannot stand in a header value.
pub fn check_header_text(text: &str) -> Result<(), String> {
    if text.contains(['\0', '\r', '\n']) {
        return Err(format!("must not contain NUL, CR or LF, got {text:?}"));
    }
    Ok(())
}

fn expect_string(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        // An element of a list may be null, which is the empty string.
        Value::Null => Ok(String::new()),
        _ => Err(format!("expected a string, got {}", scalar::describe(value))),
    }
}

fn out_of_range(n: u32, range: &RangeInclusive<u32>) -> String {
    let (low, high) = (range.start(), range.end());
    if *high == u32::MAX {
        format!("{n} is out of range, must be at least {low}")
    } else {
        format!("{n} is out of range, expected {low}..={high}")
    }
}

/// The JSON name protobuf gives a field: `_x` becomes `X`.
pub(super) fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            out.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}
