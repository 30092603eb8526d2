//! What the API's own rules say of a message that has been read.

use super::MessageReader;
use crate::config::descriptor::Field;
use crate::config::error::ConfigError;
use crate::config::validate;
use serde_json::Value;

impl MessageReader<'_> {
    /// Notes the fields whose values break a rule, and gives back what has to be there and is not.
    pub(super) fn check_rules(&self) -> Vec<ConfigError> {
        let Some(message) = self.message.as_ref() else { return Vec::new() };
        let mut absent = Vec::new();
        for (i, field) in message.fields.iter().enumerate().filter(|(_, field)| !field.rules.is_empty()) {
            let given = self.given.iter().find(|given| given.field == Some(i) && !given.value.is_null());
            // What is not supported has been noted.
            if given.is_some_and(|given| !given.read) {
                continue;
            }
            let value = given.map(|given| given.value);
            for violation in validate::check(self.context.api(), field, value) {
                let is_absent = violation.at.is_empty() && value.is_none_or(is_nothing);
                match is_absent {
                    true => absent.push(self.absence(field.name, &violation.words)),
                    false => self.refuse(&format!("{}{}", field.name, violation.at), violation.words),
                }
            }
        }
        for (i, oneof) in message.oneofs.iter().enumerate().filter(|(_, oneof)| oneof.required) {
            let names: Vec<_> = message.members(i).map(|Field { name, .. }| *name).collect();
            if !names.iter().any(|name| self.has(name)) {
                absent.push(self.error(oneof.name, format!("is required (one of {})", names.join(", "))));
            }
        }
        absent
    }
}

/// What is as good as absent.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
