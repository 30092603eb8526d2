//! Whether metadata says what is looked for.
//!
//! Mirrors `metadataLabelMatch` of Envoy 1.40's `source/common/config/metadata.cc`, and `ValueUtil::equal` of
//! `source/common/protobuf/utility.cc`.

use serde_json::{Map, Value};

use crate::config::core::Metadata;

/// Whether `metadata` has all of `labels` for `filter`. With `list_as_any` a list has a value that is in it.
pub fn metadata_label_match(
    labels: &Map<String, Value>,
    metadata: Option<&Metadata>,
    filter: &str,
    list_as_any: bool,
) -> bool {
    let Some(Value::Object(said)) = metadata.and_then(|metadata| metadata.filter_metadata.get(filter)) else {
        return labels.is_empty();
    };
    labels.iter().all(|(key, wanted)| match said.get(key) {
        Some(Value::Array(values)) if list_as_any => values.iter().any(|value| metadata_equal(value, wanted)),
        Some(value) => metadata_equal(value, wanted),
        None => false,
    })
}

/// Whether they are the same, a number as a number however it is written.
pub fn metadata_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| metadata_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| metadata_equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_labels_have_to_be_there() {
        let of = |value: Value| value.as_object().unwrap().clone();
        let said = Metadata {
            filter_metadata: of(json!({ "f": { "a": 1, "l": ["x", "y"], "o": { "k": [1.0] } } })),
        };
        for (labels, any, expected) in [
            (json!({}), true, true),
            (json!({ "a": 1.0 }), true, true),
            (json!({ "a": "1" }), true, false),
            (json!({ "a": 1, "b": 1 }), true, false),
            (json!({ "l": "y" }), true, true),
            (json!({ "l": "y" }), false, false),
            (json!({ "l": ["x", "y"] }), false, true),
            (json!({ "o": { "k": [1] } }), true, true),
        ] {
            let matches = metadata_label_match(&of(labels.clone()), Some(&said), "f", any);
            assert_eq!(matches, expected, "{labels} {any}");
        }
        for metadata in [None, Some(&said)] {
            assert!(metadata_label_match(&Map::new(), metadata, "g", true));
            assert!(!metadata_label_match(&of(json!({ "a": 1 })), metadata, "g", true));
        }
    }
}
