//! [`StateOperator`]: `%DYNAMIC_METADATA(...)%`, `%UPSTREAM_METADATA(...)%` and `%FILTER_STATE(...)%`.
//!
//! Mirrors `MetadataFormatter` and `FilterStateFormatter` of Envoy 1.40's
//! `source/common/formatter/stream_info_formatter.cc`. Of filter state, plain text and fields are printed: no object has a
//! protobuf message.

use serde_json::Value;

use super::command_parser::{Command, Written};
use super::json_text::write_value;
use crate::stream_info::{Route, StreamInfoImpl};

/// What filters have said of the stream, or left in it.
#[derive(Debug)]
pub(super) enum StateOperator {
    /// A filter's metadata, or a value in it.
    DynamicMetadata { filter: Box<str>, path: Vec<Box<str>>, max_length: Option<usize> },
    /// What a configuration has to say of something, or a value in it.
    Configured { of: Configured, filter: Box<str>, path: Vec<Box<str>>, max_length: Option<usize> },
    /// An object's text.
    FilterState { key: Box<str>, is_plain: bool, max_length: Option<usize> },
    /// A field of an object.
    FilterStateField { key: Box<str>, field: Box<str>, max_length: Option<usize> },
}

/// What the configuration has to say something of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Configured {
    Route,
    VirtualHost,
    Cluster,
    UpstreamHost,
}

impl Configured {
    /// What is said for `filter`, to who looks at it.
    fn look<T>(self, info: &StreamInfoImpl, filter: &str, look: impl FnOnce(Option<&Value>) -> T) -> T {
        let (route, cluster, host) = (info.route(), info.upstream_cluster_info(), info.upstream_host());
        let all = match self {
            Configured::Route => route.as_deref().and_then(Route::metadata),
            Configured::VirtualHost => route.as_deref().and_then(Route::virtual_host_metadata),
            Configured::Cluster => {
                cluster.as_ref().and_then(|cluster| Some(&cluster.metadata()?.filter_metadata))
            }
            Configured::UpstreamHost => {
                host.as_ref().and_then(|host| Some(&host.metadata()?.filter_metadata))
            }
        };
        look(all.and_then(|all| all.get(filter)))
    }
}

impl StateOperator {
    /// The operator of that command, if it is one of these.
    ///
    /// # Errors
    /// Envoy's text for arguments that are missing or wrong.
    pub(super) fn new(command: &Command<'_>) -> Option<Result<StateOperator, String>> {
        match command.name {
            "DYNAMIC_METADATA" => Some(StateOperator::of_filter(command, None)),
            "CLUSTER_METADATA" => Some(StateOperator::of_filter(command, Some(Configured::Cluster))),
            "UPSTREAM_METADATA" => Some(StateOperator::of_filter(command, Some(Configured::UpstreamHost))),
            "METADATA" => Some(StateOperator::metadata(command)),
            // Nothing is left there.
            "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => Some(StateOperator::filter_state(command)),
            _ => None,
        }
    }

    fn of_filter(command: &Command<'_>, of: Option<Configured>) -> Result<StateOperator, String> {
        if command.argument.is_empty() {
            return Err(format!("{} requires parameters", command.name));
        }
        if of.is_some() && command.max_length.is_some() {
            return Err(format!("{} does not allow length to be specified.", command.name));
        }
        Ok(StateOperator::at(of, command.argument, command.max_length))
    }

    /// `of` is `None` for what filters have said.
    fn at(of: Option<Configured>, argument: &str, max_length: Option<usize>) -> StateOperator {
        let mut keys = argument.split(':').map(Box::from);
        let (filter, path) = (keys.next().unwrap_or_default(), keys.collect());
        match of {
            None => StateOperator::DynamicMetadata { filter, path, max_length },
            Some(of) => StateOperator::Configured { of, filter, path, max_length },
        }
    }

    fn metadata(command: &Command<'_>) -> Result<StateOperator, String> {
        let (of, rest) = command.argument.split_once(':').unwrap_or((command.argument, ""));
        let configured = match of {
            "DYNAMIC" => None,
            "ROUTE" => Some(Configured::Route),
            "VIRTUAL_HOST" => Some(Configured::VirtualHost),
            "CLUSTER" => Some(Configured::Cluster),
            "UPSTREAM_HOST" => Some(Configured::UpstreamHost),
            "LISTENER" | "LISTENER_FILTER_CHAIN" => return Err(format!("{of} is not supported yet")),
            _ => return Err(format!("{of} is not supported type of metadata")),
        };
        Ok(StateOperator::at(configured, rest, command.max_length))
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
        let field = parts.next();
        if (form == "FIELD") != field.is_some() {
            let text = "Invalid filter state serialize type, FIELD should be used with the field name.";
            return Err(text.to_string());
        }
        if let Some(field) = field.filter(|_| command.name == "FILTER_STATE") {
            let max_length = command.max_length;
            return Ok(StateOperator::FilterStateField { key: key.into(), field: field.into(), max_length });
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
            StateOperator::Configured { of, filter, path, max_length } => {
                let written = of.look(info, filter, |value| {
                    write_metadata(line, path.iter().fold(value, |value, key| value?.get(&**key)))
                });
                (written, max_length)
            }
            StateOperator::FilterState { key, is_plain, max_length } => {
                let object = info.filter_state().filter(|_| *is_plain).and_then(|state| state.get_data(key));
                (write_text(line, object.and_then(|object| object.serialize_as_string())), max_length)
            }
            StateOperator::FilterStateField { key, field, max_length } => {
                let object = info.filter_state().and_then(|state| state.get_data(key));
                let number = object.and_then(|object| object.get_field(field));
                (write_text(line, number.map(|number| number.to_string())), max_length)
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

fn write_text(line: &mut Vec<u8>, text: Option<String>) -> Written {
    line.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
    text.map_or(Written::Nothing, |_| Written::Text)
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
