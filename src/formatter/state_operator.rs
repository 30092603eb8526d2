//! [`StateOperator`]: `%DYNAMIC_METADATA(...)%` and `%FILTER_STATE(...)%`.
//!
//! Mirrors `MetadataFormatter` and `FilterStateFormatter` of Envoy 1.40's
//! `source/common/formatter/stream_info_formatter.cc`. Of filter state, only plain text is printed: no object has a
//! protobuf message or fields of its own.

use serde_json::Value;

use super::command_parser::{Command, Written};
use super::json_text::write_value;
use crate::stream_info::StreamInfoImpl;

/// What filters have said of the stream, or left in it.
#[derive(Debug)]
pub(super) enum StateOperator {
    /// A filter's metadata, or a value in it.
    DynamicMetadata { filter: Box<str>, path: Vec<Box<str>>, max_length: Option<usize> },
    /// What a route, or a virtual host, has to say; or a value in it.
    OfRoute { of_host: bool, filter: Box<str>, path: Vec<Box<str>>, max_length: Option<usize> },
    /// An object's text.
    FilterState { key: Box<str>, is_plain: bool, max_length: Option<usize> },
}

impl StateOperator {
    /// The operator of that command, if it is one of these.
    ///
    /// # Errors
    /// Envoy's text for arguments that are missing or wrong.
    pub(super) fn new(command: &Command<'_>) -> Option<Result<StateOperator, String>> {
        match command.name {
            "DYNAMIC_METADATA" => Some(StateOperator::dynamic_metadata(command)),
            "METADATA" => Some(StateOperator::metadata(command)),
            // Nothing is left there.
            "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => Some(StateOperator::filter_state(command)),
            _ => None,
        }
    }

    fn dynamic_metadata(command: &Command<'_>) -> Result<StateOperator, String> {
        if command.argument.is_empty() {
            return Err(format!("{} requires parameters", command.name));
        }
        let mut keys = command.argument.split(':').map(Box::from);
        let filter = keys.next().unwrap_or_default();
        Ok(StateOperator::DynamicMetadata { filter, path: keys.collect(), max_length: command.max_length })
    }

    fn metadata(command: &Command<'_>) -> Result<StateOperator, String> {
        let (of, rest) = command.argument.split_once(':').unwrap_or((command.argument, ""));
        let mut keys = rest.split(':').map(Box::from);
        let filter = keys.next().unwrap_or_default();
        let (path, max_length) = (keys.collect(), command.max_length);
        match of {
            "DYNAMIC" => Ok(StateOperator::DynamicMetadata { filter, path, max_length }),
            "ROUTE" | "VIRTUAL_HOST" => {
                Ok(StateOperator::OfRoute { of_host: of == "VIRTUAL_HOST", filter, path, max_length })
            }
            "CLUSTER" | "UPSTREAM_HOST" | "LISTENER" | "LISTENER_FILTER_CHAIN" => {
                Err(format!("{of} is not supported yet"))
            }
            _ => Err(format!("{of} is not supported type of metadata")),
        }
    }

    fn filter_state(command: &Command<'_>) -> Result<StateOperator, String> {
        let mut parts = command.argument.split(':');
        let key = parts.next().unwrap_or_default();
        if key.is_empty() {
            return Err("Invalid filter state configuration, key cannot be empty.".to_string());
        }
        let form = parts.next().unwrap_or("TYPED");
        if !matches!(form, "PLAIN" | "TYPED" | "FIELD") {
            return Err("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.".to_string());
        }
        if (form == "FIELD") != parts.next().is_some() {
            let text = "Invalid filter state serialize type, FIELD should be used with the field name.";
            return Err(text.to_string());
        }
        let is_plain = form == "PLAIN" && command.name == "FILTER_STATE";
        Ok(StateOperator::FilterState { key: key.into(), is_plain, max_length: command.max_length })
    }

    /// Appends the value.
    pub(super) fn write(&self, line: &mut Vec<u8>, info: &StreamInfoImpl) -> Written {
        let start = line.len();
        let (written, max_length) = match self {
            StateOperator::DynamicMetadata { filter, path, max_length } => {
                (write_metadata(line, info.dynamic_metadata(filter, path).as_ref()), max_length)
            }
            StateOperator::OfRoute { of_host, filter, path, max_length } => {
                let route = info.route();
                let all = route.as_deref().and_then(|route| match of_host {
                    true => route.virtual_host_metadata(),
                    false => route.metadata(),
                });
                let value = all.and_then(|all| all.get(&**filter));
                let value = path.iter().fold(value, |value, key| value?.get(&**key));
                (write_metadata(line, value), max_length)
            }
            StateOperator::FilterState { key, is_plain, max_length } => {
                let object = info.filter_state().filter(|_| *is_plain).and_then(|state| state.get_data(key));
                let text = object.and_then(|object| object.serialize_as_string());
                line.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
                (text.map_or(Written::Nothing, |_| Written::Text), max_length)
            }
        };
        match (written, max_length) {
            (Written::Text, Some(max)) => line.truncate(start + max),
            (Written::Json, Some(max)) => return Written::JsonUpTo(*max),
            _ => {}
        }
        written
    }
}

fn write_metadata(line: &mut Vec<u8>, value: Option<&Value>) -> Written {
    match value {
        None | Some(Value::Null) => Written::Nothing,
        Some(Value::String(text)) => {
            line.extend_from_slice(text.as_bytes());
            Written::Text
        }
        Some(value) => {
            write_value(line, value);
            Written::Json
        }
    }
}
