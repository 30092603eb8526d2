//! Masks of fields: `a.b,c`. Stands where Envoy has protobuf's `FieldMaskUtil`.

use super::descriptor::{Api, Kind};
use serde_json::{Map, Value};

/// Whether a path leads through single messages of the type `type_name` to a field.
pub fn is_path(api: &Api, type_name: &str, path: &str) -> bool {
    let Some(message) = api.message(type_name) else { return false };
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(field) = message.fields.iter().find(|field| field.name == first) else { return false };
    match rest {
        None => true,
        Some(rest) => field.kind == Kind::Message && !field.repeated && is_path(api, field.type_name, rest),
    }
}

/// What the paths lead to, and nothing else.
pub fn trimmed(message: &Value, paths: &[&str]) -> Value {
    let Some(fields) = message.as_object() else { return message.clone() };
    let mut out = Map::new();
    for (name, value) in fields {
        let of_field: Vec<&str> = paths.iter().filter_map(|path| path.strip_prefix(name.as_str())).collect();
        let below: Vec<&str> = of_field.iter().filter_map(|rest| rest.strip_prefix('.')).collect();
        if of_field.contains(&"") {
            out.insert(name.clone(), value.clone());
        } else if !below.is_empty() {
            out.insert(name.clone(), trimmed(value, &below));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_single_messages() {
        let is_path = |path| is_path(&Api::default(), "envoy.config.cluster.v3.Cluster", path);
        for path in ["name", "load_assignment", "load_assignment.cluster_name", "load_assignment.endpoints"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "nosuch", "name.x", "load_assignment.nosuch", "load_assignment.endpoints.priority"] {
            assert!(!is_path(path), "{path}");
        }
    }

    #[test]
    fn only_what_is_named_is_left() {
        let message = json!({ "a": { "b": 1, "c": 2 }, "ab": 3, "d": [4] });
        assert_eq!(trimmed(&message, &["a.b", "d"]), json!({ "a": { "b": 1 }, "d": [4] }));
        assert_eq!(trimmed(&message, &["a", "a.b"]), json!({ "a": { "b": 1, "c": 2 } }));
        assert_eq!(trimmed(&message, &["a.x"]), json!({ "a": {} }));
        assert_eq!(trimmed(&message, &["x"]), json!({}));
    }
}
