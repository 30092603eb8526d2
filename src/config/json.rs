//! JSON text into a `serde_json::Value`.
//!
//! `serde_json` alone lets the last of two equal keys win, as Envoy does; here a
//! repeated key is an error, because one of the two would be silently ignored.

use super::error::ConfigError;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Reads one JSON document.
///
/// # Errors
/// Bad syntax or a repeated key; the text names line and column.
pub fn parse_json(text: &str) -> Result<Value, ConfigError> {
    let Strict(value) = serde_json::from_str(text)
        .map_err(|e| ConfigError::document(format!("Unable to parse JSON: {e}")))?;
    Ok(value)
}

/// A value whose objects have no repeated key.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate key '{key}'")));
            }
            let Strict(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_every_kind_of_value() {
        let text = r#"{"a": [1, -2, 1.5, "x", true, null, {"b": {}}]}"#;
        assert_eq!(parse_json(text).unwrap(), json!({"a": [1, -2, 1.5, "x", true, null, {"b": {}}]}));
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, want) in [
            ("{\"a\": 1,\n \"a\": 2}", "duplicate key 'a' at line 2"),
            ("{\"a\": }", "line 1 column 7"),
            ("{} x", "trailing characters"),
            ("", "EOF"),
        ] {
            let error = parse_json(text).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
