//! Puts `--config-yaml` over the configuration file the way protobuf's
//! `MergeFrom` does in Envoy: messages are merged, lists appended, scalars
//! replaced unless the new value is the default of its type (`0`, `""`, `false`),
//! which protobuf cannot tell from an absent one. Members of a oneof are
//! replaced even then: an admin port of 0 wins over any other.

use super::scalar::parse_duration;
use serde_json::{Map, Value};
use std::time::Duration;

/// Lists of the bootstrap outside of other lists.
const LISTS: &[&str] = &[
    "admin.access_log",
    "layered_runtime.layers",
    "static_resources.clusters",
    "static_resources.listeners",
];
/// Scalar members of a oneof outside of lists.
const ONEOF_SCALARS: &[&str] = &["admin.address.socket_address.port_value"];
/// A message whose only fields are the members of a oneof: another member replaces the one there is.
const ONEOF: &str = "admin.address";

/// Merges the bootstrap `over` into `base`. Field names are matched in either
/// spelling and stay as `base` has them.
pub fn merge_bootstrap(base: &mut Value, over: Value) {
    merge_value(base, over, "");
}

fn merge_value(base: &mut Value, over: Value, path: &str) {
    if LISTS.contains(&path) {
        return merge_list(base, over);
    }
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => merge_object(base, over, path),
        (base, over) if path == "stats_flush_interval" => merge_duration(base, over),
        (base, over) => {
            let kept = is_default(&over)
                && !ONEOF_SCALARS.contains(&path)
                && std::mem::discriminant(base) == std::mem::discriminant(&over);
            // A value of another type is taken over for the reader to complain about.
            if !kept {
                *base = over;
            }
        }
    }
}

/// Appends; a value that is no list stands for a list of one.
fn merge_list(base: &mut Value, over: Value) {
    let items = |value| match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        one => vec![one],
    };
    let mut merged = items(base.take());
    merged.extend(items(over));
    *base = Value::Array(merged);
}

fn merge_object(base: &mut Map<String, Value>, over: Map<String, Value>, path: &str) {
    // Two members are left for the reader to complain about; null is none.
    let is_one_member = path == ONEOF && over.values().filter(|value| !value.is_null()).count() == 1;
    for (name, value) in over {
        let existing = base.iter_mut().find(|(key, _)| camel_case(key) == camel_case(&name));
        match existing {
            // The entries of a map are replaced as a whole.
            Some((_, base)) if path == "node.metadata" => *base = value,
            Some((key, base)) => {
                let key = snake_case(key);
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                merge_value(base, value, &path);
            }
            None => {
                if is_one_member && !value.is_null() {
                    base.clear();
                }
                base.insert(name, value);
            }
        }
    }
}

/// A duration is a message of seconds and nanoseconds, merged separately.
fn merge_duration(base: &mut Value, over: Value) {
    if let (Ok(b), Ok(o)) = (parse_duration(base), parse_duration(&over)) {
        let pick = |base, over| if over == 0 { base } else { over };
        let nanos = pick(b.subsec_nanos().into(), o.subsec_nanos().into());
        let merged = Duration::from_secs(pick(b.as_secs(), o.as_secs()));
        let merged = merged + Duration::from_nanos(nanos);
        let text = format!("{}.{:09}", merged.as_secs(), merged.subsec_nanos());
        let text = text.trim_end_matches('0').trim_end_matches('.');
        *base = Value::String(format!("{text}s"));
    } else {
        *base = over;
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

fn camel_case(name: &str) -> String {
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

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(mut base: Value, over: Value) -> Value {
        merge_bootstrap(&mut base, over);
        base
    }

    #[test]
    fn messages_merge_lists_append_scalars_replace() {
        let base = json!({"node": {"id": "a", "cluster": "c"}, "static_resources": {"clusters": [1]}});
        let over = json!({"node": {"id": "b"}, "staticResources": {"clusters": [2]}, "admin": {}});
        let want = json!({
            "node": {"id": "b", "cluster": "c"},
            "static_resources": {"clusters": [1, 2]},
            "admin": {},
        });
        assert_eq!(merged(base, over), want);
    }

    #[test]
    fn one_kind_of_address_replaces_another() {
        let socket = json!({"admin": {"address": {"socket_address": {"address": "::1", "port_value": 1}}}});
        let pipe = json!({"admin": {"address": {"pipe": {"path": "@a"}}}});
        assert_eq!(merged(socket.clone(), pipe.clone()), pipe);
        assert_eq!(merged(pipe, socket.clone()), socket);
        let mode = json!({"admin": {"address": {"pipe": {"mode": 0o600}}}});
        let want = json!({"admin": {"address": {"pipe": {"path": "@a", "mode": 0o600}}}});
        assert_eq!(merged(json!({"admin": {"address": {"pipe": {"path": "@a"}}}}), mode), want);
        let none = json!({"admin": {"address": {"pipe": null}}});
        assert_eq!(merged(socket.clone(), none)["admin"]["address"]["socket_address"]["port_value"], 1);
        let both =
            json!({"admin": {"address": {"pipe": {"path": "@a"}, "socket_address": {"port_value": 2}}}});
        assert_eq!(merged(socket, both)["admin"]["address"].as_object().map(Map::len), Some(2));
    }

    #[test]
    fn defaults_replace_nothing_but_a_wrong_type_shows() {
        let base = json!({"a": {"port": 80, "name": "x", "on": true}});
        let over = json!({"a": {"port": 0, "name": "", "on": false}});
        assert_eq!(merged(base.clone(), over), base);
        assert_eq!(merged(base.clone(), json!({"a": null})), base);
        let wrong = merged(json!({"node": {"id": "x"}}), json!({"node": {"id": false}}));
        assert_eq!(wrong["node"]["id"], json!(false));
    }

    #[test]
    fn a_port_of_zero_replaces_another() {
        let admin = |port: u16| json!({"admin": {"address": {"socket_address": {"port_value": port}}}});
        assert_eq!(merged(admin(9901), admin(0)), admin(0));
        assert_eq!(merged(admin(9901), admin(9902)), admin(9902));
    }

    #[test]
    fn a_single_value_counts_as_a_list_of_one() {
        let clusters = |v: Value| json!({"static_resources": {"clusters": v}});
        let (a, b) = (json!({"name": "a"}), json!({"name": "b"}));
        for (base, over) in [(a.clone(), b.clone()), (json!([a]), b.clone()), (a.clone(), json!([b]))] {
            assert_eq!(merged(clusters(base), clusters(over)), clusters(json!([a, b])));
        }
        assert_eq!(merged(clusters(json!([a])), clusters(Value::Null)), clusters(json!([a])));
    }

    #[test]
    fn entries_of_metadata_are_replaced_whole() {
        let base = json!({"node": {"metadata": {"a": {"x": 1}, "b": 1}}});
        let over = json!({"node": {"metadata": {"a": {"y": 2}}}});
        let want = json!({"node": {"metadata": {"a": {"y": 2}, "b": 1}}});
        assert_eq!(merged(base, over), want);
    }

    #[test]
    fn durations_merge_seconds_and_nanoseconds() {
        for (base, over, want) in [
            ("0.5s", "299s", "299.5s"),
            ("5s", "0s", "5s"),
            ("5s", "0.25s", "5.25s"),
            ("5s", "10s", "10s"),
            ("5s", "bad", "bad"),
        ] {
            let base = json!({"stats_flush_interval": base});
            let merged = merged(base, json!({"statsFlushInterval": over}));
            assert_eq!(merged["stats_flush_interval"], json!(want));
        }
    }
}
