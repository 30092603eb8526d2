//! Puts one document over another the way protobuf's `MergeFrom` does in Envoy, field by field as the API has them:
//! messages are merged, lists appended, entries of maps replaced by their key, members of a oneof replaced, and scalars
//! unless the new value is the default of its type (`0`, `""`, `false`), which protobuf cannot tell from an absent one.
//!
//! Field names are matched in either spelling and stay as the lower document has them. What the API does not have is
//! taken over for the reader to complain about, and so is a value of a wrong type.

use super::BOOTSTRAP;
use super::descriptor::{Api, Field, Kind, MessageType};
use super::scalar;
use serde_json::{Map, Value};
use std::time::Duration;

/// Merges the bootstrap `over` into `base`, both of which are objects.
pub fn merge_bootstrap(base: &mut Value, over: Value) {
    let api = Api::default();
    if let (Some(message), Value::Object(base), Value::Object(over)) = (api.message(BOOTSTRAP), base, over) {
        merge(&api, &message, base, over);
    }
}

/// Merges `over` into `base`, both of the type `message`.
pub(super) fn merge(
    api: &Api,
    message: &MessageType,
    base: &mut Map<String, Value>,
    over: Map<String, Value>,
) {
    let both_members = over.iter().filter(|(_, value)| !value.is_null()).filter_map(|(name, _)| {
        message.field(name)?.oneof.filter(|&oneof| set_members(message, oneof, &over) > 1)
    });
    let both_members: Vec<usize> = both_members.collect();
    for (name, value) in over {
        if value.is_null() {
            continue;
        }
        let field = message.field(&name);
        // Two members are left for the reader to complain about.
        if let Some(oneof) = field.and_then(|field| field.oneof).filter(|oneof| !both_members.contains(oneof))
        {
            base.retain(|key, _| {
                message.field(key).is_none_or(|other| other.oneof != Some(oneof) || is(other, field))
            });
        }
        let same = |key: &str| if field.is_some() { is_key(message, key, field) } else { key == name };
        match (field, base.iter_mut().find(|(key, _)| same(key))) {
            (Some(field), Some((_, base))) => merge_field(api, field, base, value),
            (None, Some((_, base))) => *base = value,
            (_, None) => {
                base.insert(name, value);
            }
        }
    }
}

fn is(one: &Field, other: Option<&Field>) -> bool {
    other.is_some_and(|other| one.number == other.number)
}

fn is_key(message: &MessageType, key: &str, field: Option<&Field>) -> bool {
    message.field(key).is_some_and(|other| is(other, field))
}

fn set_members(message: &MessageType, oneof: usize, fields: &Map<String, Value>) -> usize {
    let is_member = |name: &String| message.field(name).is_some_and(|field| field.oneof == Some(oneof));
    fields.iter().filter(|(name, value)| !value.is_null() && is_member(name)).count()
}

/// Merges the value of a field, which is not null, into the one there is.
pub(super) fn merge_field(api: &Api, field: &Field, base: &mut Value, over: Value) {
    if field.repeated && api.map_entry(field).is_none() {
        return append(base, over);
    }
    match (base, over) {
        (base @ Value::Null, over) => *base = over,
        (Value::Object(base), Value::Object(over)) if field.repeated => base.extend(over),
        (base, over) if field.kind == Kind::Message => merge_message(api, field, base, over),
        (base, over) => {
            if field.has_presence() || !is_default(api, field, &over) || !same_type(base, &over) {
                *base = over;
            }
        }
    }
}

/// Appends; a value that is no list stands for a list of one.
fn append(base: &mut Value, over: Value) {
    let items = |value| match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        one => vec![one],
    };
    let mut merged = items(base.take());
    merged.extend(items(over));
    *base = Value::Array(merged);
}

fn merge_message(api: &Api, field: &Field, base: &mut Value, over: Value) {
    let known = field.type_name.strip_prefix(".google.protobuf.").unwrap_or("");
    match (known, base, over) {
        ("Duration", base, over) => merge_duration(base, over),
        ("ListValue", base, over) => append(base, over),
        // An object of fields by their names.
        ("Struct", Value::Object(base), Value::Object(over)) => base.extend(over),
        // Serialized, so that only the whole can be replaced.
        ("Any", Value::Object(base), Value::Object(over)) if over.keys().all(|key| key == "@type") => {
            base.extend(over)
        }
        ("Any" | "Value" | "Timestamp", base, over) => *base = over,
        (_, Value::Object(base), Value::Object(over)) => {
            if let Some(message) = api.message(field.type_name) {
                merge(api, &message, base, over);
            }
        }
        // A wrapper written as its value is a message with one field.
        (_, base, over) => {
            let wrapped = api.message(field.type_name).filter(|_| known.ends_with("Value"));
            let keeps = |wrapped: &MessageType| {
                wrapped.fields.first().is_some_and(|inner| is_default(api, inner, value_of(&over)))
            };
            if !wrapped.is_some_and(|wrapped| keeps(&wrapped)) {
                *base = over;
            }
        }
    }
}

/// The value of a wrapper.
fn value_of(value: &Value) -> &Value {
    value.as_object().map_or(value, |fields| fields.get("value").unwrap_or(&Value::Null))
}

/// A duration is a message of seconds and nanoseconds, merged separately.
fn merge_duration(base: &mut Value, over: Value) {
    if let (Ok(b), Ok(o)) = (scalar::parse_duration(base), scalar::parse_duration(&over)) {
        let seconds = if o.as_secs() == 0 { b.as_secs() } else { o.as_secs() };
        let nanos = if o.subsec_nanos() == 0 { b.subsec_nanos() } else { o.subsec_nanos() };
        *base = Value::String(scalar::duration_text(Duration::new(seconds, nanos)));
    } else {
        *base = over;
    }
}

fn is_default(api: &Api, field: &Field, value: &Value) -> bool {
    match (field.kind, value) {
        (_, Value::Null | Value::Bool(false)) => true,
        (Kind::Enum, _) => {
            let known = api.enumeration(field.type_name);
            let first = known.as_ref().and_then(|known| known.values.first()).map(|first| first.0);
            let values = known.as_ref().map_or(&[][..], |known| &known.values);
            scalar::parse_enum(value, values).is_some_and(|found| found.ok() == first)
        }
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

fn same_type(one: &Value, other: &Value) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged_as(name: &str, base: Value, over: Value) -> Value {
        let api = Api::default();
        let (Value::Object(mut base), Value::Object(over)) = (base, over) else { panic!("no objects") };
        merge(&api, &api.message(name).unwrap(), &mut base, over);
        Value::Object(base)
    }

    fn merged(base: Value, over: Value) -> Value {
        merged_as(BOOTSTRAP, base, over)
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
        const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
        let base =
            json!({"name": "x", "respect_dns_ttl": true, "lb_policy": "RANDOM", "protocol_selection": 1});
        let over =
            json!({"name": "", "respectDnsTtl": false, "lb_policy": "ROUND_ROBIN", "protocol_selection": 0});
        assert_eq!(merged_as(CLUSTER, base.clone(), over), base);
        assert_eq!(merged_as(CLUSTER, base.clone(), json!({"name": null})), base);
        // A wrapper is a message whose value may be the default.
        let limit = |value: Value| json!({"per_connection_buffer_limit_bytes": value});
        for over in [json!(0), json!({"value": 0}), json!({})] {
            assert_eq!(merged_as(CLUSTER, limit(json!(7)), limit(over)), limit(json!(7)));
        }
        assert_eq!(merged_as(CLUSTER, limit(json!(7)), limit(json!(8))), limit(json!(8)));
        let wrong = merged(json!({"node": {"id": "x"}}), json!({"node": {"id": false}}));
        assert_eq!(wrong["node"]["id"], json!(false));
        assert_eq!(merged(json!({"nod": 1}), json!({"nod": 0}))["nod"], json!(0));
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
    fn entries_of_metadata_and_of_maps_are_replaced_whole() {
        let base = json!({"node": {"metadata": {"a": {"x": 1}, "b": 1}}});
        let over = json!({"node": {"metadata": {"a": {"y": 2}}}});
        let want = json!({"node": {"metadata": {"a": {"y": 2}, "b": 1}}});
        assert_eq!(merged(base, over), want);
        let instances = |entries: Value| json!({"certificate_provider_instances": entries});
        let base = instances(json!({"a": {"name": "x"}, "b": {"name": "y"}}));
        let over = instances(json!({"b": {"typed_config": {}}}));
        assert_eq!(merged(base, over), instances(json!({"a": {"name": "x"}, "b": {"typed_config": {}}})));
    }

    #[test]
    fn an_any_is_replaced_whole() {
        let any = |config: Value| json!({"default_regex_engine": {"name": "x", "typed_config": config}});
        let base = any(json!({"@type": "a/b", "x": 1}));
        for (over, want) in [
            (json!({"@type": "a/c", "y": 2}), json!({"@type": "a/c", "y": 2})),
            (json!({"@type": "a/c"}), json!({"@type": "a/c", "x": 1})),
        ] {
            assert_eq!(merged(base.clone(), any(over)), any(want));
        }
    }

    #[test]
    fn durations_merge_seconds_and_nanoseconds() {
        for (base, over, want) in [
            ("0.5s", "299s", "299.500s"),
            ("5s", "0s", "5s"),
            ("5s", "0.25s", "5.250s"),
            ("5s", "10s", "10s"),
            ("5s", "bad", "bad"),
        ] {
            let base = json!({"stats_flush_interval": base});
            let merged = merged(base, json!({"statsFlushInterval": over}));
            assert_eq!(merged["stats_flush_interval"], json!(want));
        }
    }
}
