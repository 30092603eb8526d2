//! The fields of a message that have a single value each: text, numbers, durations and enums, and lists of them.

use super::{EnumTable, MessageReader};
use crate::config::error::{ConfigError, Kind};
use crate::config::scalar;
use serde_json::Value;
use std::time::Duration;

impl<'a> MessageReader<'a> {
    /// A string; empty when absent.
    pub fn string(&mut self, name: &str) -> Result<String, ConfigError> {
        let text = self.value(name)?.map(expect_string).transpose();
        Ok(self.or_refuse(name, text).flatten().unwrap_or_default())
    }

    /// The value, unless it is wrong, which is noted.
    fn or_refuse<T>(&self, name: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.refuse(name, message)).ok()
    }

    /// A list of strings.
    pub fn strings(&mut self, name: &str) -> Result<Vec<String>, ConfigError> {
        let items = self.items(name)?.into_iter();
        Ok(items.filter_map(|(path, value)| self.or_refuse_at(path, expect_string(value))).collect())
    }

    fn or_refuse_at<T>(&self, path: String, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.context.note(ConfigError::new(path, message))).ok()
    }

    /// A boolean; false when absent.
    pub fn bool(&mut self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.scalar(name, scalar::parse_bool)?.unwrap_or(false))
    }

    /// A `BoolValue`, which may also be written as `{value: true}`.
    pub fn opt_bool(&mut self, name: &str) -> Result<Option<bool>, ConfigError> {
        match self.wrapper(name)? {
            Some(wrapper) => Ok(wrapper.read_with(|wrapper| wrapper.bool("value")).ok()),
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
            Some(wrapper) => Ok(wrapper.read_with(|wrapper| wrapper.u32("value")).ok()),
            None => self.scalar(name, scalar::parse_u32),
        }
    }

    /// A list of unsigned integers.
    pub fn u32s(&mut self, name: &str) -> Result<Vec<u32>, ConfigError> {
        let items = self.items(name)?.into_iter();
        Ok(items.filter_map(|(path, value)| self.or_refuse_at(path, scalar::parse_u32(value))).collect())
    }

    /// A floating point number.
    pub fn opt_f64(&mut self, name: &str) -> Result<Option<f64>, ConfigError> {
        self.scalar(name, scalar::parse_f64)
    }

    /// The bytes of `name`, which stand there in base64; none when it is absent.
    ///
    /// # Errors
    /// It is no base64.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>, ConfigError> {
        Ok(self.scalar(name, scalar::parse_bytes)?.unwrap_or_default())
    }

    /// An unsigned 64-bit integer, of its own or in its wrapper.
    pub fn opt_u64(&mut self, name: &str) -> Result<Option<u64>, ConfigError> {
        let parse = |value: &Value| {
            let number = scalar::parse_integer(value).and_then(|n| u64::try_from(n).ok());
            number.ok_or_else(|| format!("expected an unsigned integer, got {}", scalar::describe(value)))
        };
        match self.wrapper(name)? {
            Some(wrapper) => Ok(wrapper.read_with(|wrapper| wrapper.scalar("value", parse)).ok().flatten()),
            None => self.scalar(name, parse),
        }
    }

    /// A signed 64-bit integer; 0 when absent.
    pub fn i64(&mut self, name: &str) -> Result<i64, ConfigError> {
        let parse = |value: &Value| {
            let number = scalar::parse_integer(value).and_then(|n| i64::try_from(n).ok());
            number.ok_or_else(|| format!("expected an integer, got {}", scalar::describe(value)))
        };
        Ok(self.scalar(name, parse)?.unwrap_or(0))
    }

    /// A duration, zero or more.
    pub fn duration(&mut self, name: &str) -> Result<Option<Duration>, ConfigError> {
        self.scalar(name, scalar::parse_duration)
    }

    /// An enum given by name (any case, as in Envoy) or by number; `None` when
    /// absent.
    pub fn enumeration<T: Copy>(
        &mut self,
        name: &str,
        table: &EnumTable<T>,
    ) -> Result<Option<T>, ConfigError> {
        let value = self.value(name)?;
        Ok(value.and_then(|value| self.enum_value(name, self.field_path(name), value, table)))
    }

    /// The number of an enum's value, of which all are supported.
    pub fn enum_number(&mut self, name: &str) -> Result<Option<i32>, ConfigError> {
        let known = self.context.api().enumeration(self.type_of(name));
        self.enumeration(name, known.as_ref().map_or(&[][..], |known| &known.values))
    }

    /// A list of enums.
    pub fn enumerations<T: Copy>(&mut self, name: &str, table: &EnumTable<T>) -> Result<Vec<T>, ConfigError> {
        let items = self.items(name)?.into_iter();
        Ok(items.filter_map(|(path, value)| self.enum_value(name, path, value, table)).collect())
    }

    /// A value, found at `path`, of the enum that the field `name` has.
    fn enum_value<T: Copy>(
        &self,
        name: &str,
        path: String,
        value: &Value,
        table: &EnumTable<T>,
    ) -> Option<T> {
        let known = self.context.api().enumeration(self.type_of(name));
        let values = known.as_ref().map_or(&[][..], |known| &known.values[..]);
        let names = || values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let error = match (scalar::parse_enum(value, values), value) {
            (Some(Ok(found)), _) => match table.iter().find(|row| row.0 == found) {
                Some(row) => return Some(row.1),
                None => ConfigError::new(path, format!("{found} is not supported yet")).of_kind(Kind::Field),
            },
            (Some(Err(_)), _) => {
                ConfigError::new(path, format!("value must be one of the defined enum values: {}", names()))
            }
            (None, Value::String(text)) => {
                self.context.unknown(path, &format!("unknown value {text:?}, expected one of {}", names()));
                return None;
            }
            (None, _) => {
                let got = scalar::describe(value);
                ConfigError::new(path, format!("expected one of {}, got {got}", names()))
            }
        };
        self.context.note(error);
        None
    }

    fn scalar<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        Ok(self.or_refuse(name, parse(value)))
    }

    /// A reader for a wrapper type that is spelled out as a message.
    fn wrapper(&mut self, name: &str) -> Result<Option<MessageReader<'a>>, ConfigError> {
        match self.value(name)? {
            Some(value @ Value::Object(_)) if !self.type_of(name).is_empty() => {
                MessageReader::new(self.context, self.type_of(name), value, self.field_path(name)).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn expect_string(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        // An element of a list may be null, which is the empty string.
        Value::Null => Ok(String::new()),
        _ => Err(format!("expected a string, got {}", scalar::describe(value))),
    }
}
