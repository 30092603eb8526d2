//! What stands in a message and nobody asked for: fields that the API does not have, and those that
//! are not supported yet.

use super::{MessageReader, nearest};
use crate::config::descriptor::{Field, Kind};
use crate::config::scalar;
use serde_json::Value;

impl MessageReader<'_> {
    /// Notes the fields that the API does not have; true when that is an error.
    pub(super) fn note_unknown(&self, asked_for_all: bool) -> bool {
        let mut wrong = false;
        // What a message that the API does not have may hold is known when it has been read.
        let unknown = self.given.iter().filter(|given| given.field.is_none() && !given.read);
        for given in unknown.filter(|_| asked_for_all || self.message.is_some()) {
            // The number of a field that came in binary form looks like no name.
            let is_name = !given.key.starts_with(|c: char| c.is_ascii_digit());
            let fields = self.message.iter().filter(|_| is_name).flat_map(|message| &message.fields);
            let what = match nearest(given.key, fields.map(|field| field.name).filter(|name| !self.has(name)))
            {
                Some(name) => format!("unknown field, did you mean '{name}'?"),
                None => "unknown field".to_string(),
            };
            wrong |= self.context.unknown(self.field_path(given.key), &what);
        }
        wrong
    }

    /// Notes the fields that are set and were not asked for.
    pub(super) fn note_unsupported(&self) {
        for given in self.given.iter().filter(|given| !given.read) {
            let field = given.field.and_then(|i| self.message.as_ref()?.fields.get(i));
            let Some(field) = field else { continue };
            if let Some(what) = self.unsupported_words(field, given.value) {
                self.refuse_field(field.name, what);
            }
        }
    }

    /// What is not supported of a field that nobody asked for, if it is set: what protobuf cannot tell
    /// from an absent value is none.
    fn unsupported_words(&self, field: &Field, value: &Value) -> Option<String> {
        let default = match (field.kind, value) {
            (_, Value::Null) => true,
            _ if field.repeated => is_empty(value),
            (Kind::Message, Value::Bool(value)) => return Some(format!("{value} is not supported yet")),
            (Kind::Bool, _) if scalar::parse_bool(value) == Ok(true) => {
                return Some("true is not supported yet".to_string());
            }
            (Kind::Enum, _) => {
                let known = self.context.api().enumeration(field.type_name)?;
                match scalar::parse_enum(value, &known.values) {
                    Some(Ok(name)) if Some(name) != known.values.first().map(|first| first.0) => {
                        return Some(format!("{name} is not supported yet"));
                    }
                    found => !field.has_presence() && matches!(found, Some(Ok(_))),
                }
            }
            (Kind::Bool, _) => !field.has_presence() && scalar::parse_bool(value).is_ok(),
            (Kind::String | Kind::Bytes, Value::String(text)) => !field.has_presence() && text.is_empty(),
            (Kind::Message, _) => false,
            _ => !field.has_presence() && scalar::parse_f64(value) == Ok(0.0),
        };
        (!default).then(|| "this field is not supported yet".to_string())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}
