//! The binary form, with `prost-reflect` as the judge: what it writes of a document must be read as the document is.

use super::*;
use crate::config::descriptor::Api;
use crate::config::wire;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::de::DeserializeSeed;
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(&include_bytes!("../../../proto/envoy.fds")[..]).unwrap());

fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap()
}

/// The binary form of a document.
fn wire_of(name: &str, document: &Value) -> Vec<u8> {
    message(name).deserialize(document).unwrap().encode_to_vec()
}

fn decoded(name: &str, data: &[u8]) -> Value {
    wire::decode(&Api::default(), name, data).unwrap()
}

/// What the judge says in JSON of what it reads.
fn judged(name: &str, data: &[u8]) -> Value {
    let read = DynamicMessage::decode(message(name), data).unwrap();
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(true);
    read.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

/// Numbers as doubles, which the numbers of a `Struct` are.
fn with_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(with_doubles).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_doubles(value))).collect()
        }
        other => other,
    }
}

fn example(text: &str) -> Value {
    yaml::parse_yaml(text).unwrap()
}

fn examples() -> Vec<Value> {
    let everything = example(include_str!("../../../fuzz/src/targets/bootstrap.yaml"));
    let key = protocol_options::UPSTREAM_HTTP_PROTOCOL_OPTIONS;
    let options = json!({"@type": format!("type.googleapis.com/{key}"), "explicit_http_config": {"http_protocol_options": {
        "accept_http_10": true, "allow_absolute_url": false, "override_stream_error_on_invalid_http_message": false}}});
    vec![
        base(),
        everything,
        with(CLUSTER, "typed_extension_protocol_options", json!({ key: options })),
        with(
            "",
            "layered_runtime",
            json!({"layers": [
                {"name": "s", "static_layer": {"a": {"b": 1.5, "c": "x", "d": true}, "f": {"numerator": 5}}},
                {"name": "a", "admin_layer": {}},
            ]}),
        ),
        with("/node", "metadata", json!({"list": [1.5, null, {"x": "y"}], "none": null})),
        with(
            "",
            "watchdogs",
            json!({"worker_watchdog": {
            "miss_timeout": "0.1s", "kill_timeout": "3.000000001s", "multikill_threshold": {"value": 30.25}}}),
        ),
        with(LISTENER, "address", json!({"pipe": {"path": "@a"}})),
        with(LISTENER, "bind_to_port", json!(false)),
        with(
            CLUSTER,
            "circuit_breakers",
            json!({"thresholds": [
            {"priority": "HIGH", "max_connections": 0, "track_remaining": true}]}),
        ),
        with(
            &format!("{LISTENER}/filter_chains/0"),
            "filter_chain_match",
            json!({
            "destination_port": 80, "source_ports": [1, 65535], "source_type": "EXTERNAL",
            "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}),
        ),
    ]
}

#[test]
fn every_example_is_the_same_in_json_and_in_binary_form() {
    for document in examples() {
        let data = wire_of(BOOTSTRAP, &document);
        let value = decoded(BOOTSTRAP, &data);
        assert_eq!(with_doubles(value.clone()), with_doubles(judged(BOOTSTRAP, &data)));
        assert_eq!(accept(value), accept(document));
    }
}

#[test]
fn every_kind_of_value_is_as_the_judge_has_it() {
    let long = "x".repeat(300);
    for (name, document) in [
        ("google.protobuf.Timestamp", json!("1969-12-31T23:59:59.000000005Z")),
        ("google.protobuf.Timestamp", json!("2024-02-29T12:34:56Z")),
        ("google.protobuf.Duration", json!("-1.500s")),
        ("google.protobuf.Struct", json!({"a": [null, true, "x", -1.25, {"b": {}}], "c": []})),
        ("google.protobuf.FieldMask", json!("a,b.c")),
        ("google.protobuf.BytesValue", json!("AAEC/w==")),
        ("google.protobuf.BytesValue", json!("+w==")),
        ("google.protobuf.Int64Value", json!(-5)),
        ("google.protobuf.DoubleValue", json!(0.1)),
        ("google.protobuf.FloatValue", json!(0.25)),
        ("envoy.type.v3.Int64Range", json!({"start": -9_007_199_254_740_993_i64, "end": 7})),
        (
            "envoy.config.core.v3.Node",
            json!({"id": long, "dynamic_parameters": {"a": {"params": {"k": "v", "": ""}}}}),
        ),
        (
            "envoy.config.route.v3.RouteAction",
            json!({"cluster": "c", "timeout": "0s", "hash_policy": [{"header": {"header_name": "h"}}, {"terminal": true}]}),
        ),
        (
            "envoy.config.core.v3.TypedExtensionConfig",
            json!({"name": "n", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "2s"}}),
        ),
        (
            "envoy.config.cluster.v3.Cluster",
            json!({"metadata": {"filter_metadata": {"f": {"k": 1.5}}}, "lb_policy": "MAGLEV", "dns_lookup_family": 4,
                   "upstream_bind_config": {"freebind": false}, "type": "STATIC"}),
        ),
    ] {
        let data = wire_of(name, &document);
        let (got, want) = (decoded(name, &data), judged(name, &data));
        assert_eq!(with_doubles(got), with_doubles(want), "{name}");
    }
}

#[test]
fn what_the_api_lacks_and_what_is_no_message_is_told() {
    let unknown = [wire_of(BOOTSTRAP, &base()), vec![0xa0, 0x1f, 1]].concat();
    assert_eq!(refuse(decoded(BOOTSTRAP, &unknown)), "500: unknown field");
    // Text where a number is expected.
    let typed = [wire_of(BOOTSTRAP, &base()), vec![0x0a, 2, 0x08, 1]].concat();
    assert_eq!(refuse(decoded(BOOTSTRAP, &typed)), "node.1: unknown field");
    let any = json!({"@type": "type.googleapis.com/a.B", "value": ""});
    let mut wrong = prost_reflect::DynamicMessage::new(message("google.protobuf.Any"));
    wrong.set_field_by_name("type_url", prost_reflect::Value::String("type.googleapis.com/a.B".into()));
    assert_eq!(decoded("google.protobuf.Any", &wrong.encode_to_vec()), any);
    let fail = |data: &[u8]| wire::decode(&Api::default(), BOOTSTRAP, data).unwrap_err().to_string();
    assert_eq!(fail(&[0x0a, 3, 0x0a, 1, 0xff]), "node.id: it is not valid UTF-8");
    assert_eq!(fail(&[0x0a, 3, 0x0a, 2, 0xff]), "node: not a protobuf message");
    assert_eq!(fail(&[0xff]), "not a protobuf message");
    let struct_field = message("envoy.config.core.v3.Node").get_field_by_name("metadata").unwrap().number();
    assert_eq!(struct_field, 3);
}

#[test]
fn messages_do_not_nest_without_end() {
    let mut data = Vec::new();
    for _ in 0..200 {
        // google.protobuf.Value { struct_value/list_value: ListValue { values: .. } }
        let list = [&[0x0a][..], &length(data.len()), &data].concat();
        data = [&[0x32][..], &length(list.len()), &list].concat();
    }
    let error = wire::decode(&Api::default(), "google.protobuf.Value", &data).unwrap_err();
    assert_eq!(error.message(), "too many messages in one another");
}

fn length(length: usize) -> Vec<u8> {
    if length < 128 { vec![length as u8] } else { vec![length as u8 | 128, (length >> 7) as u8] }
}

#[test]
fn merging_is_what_reading_one_behind_the_other_is() {
    let over = json!({
        "node": {"cluster": "d", "locality": {"zone": "z"}, "metadata": {"a": {"y": 2}}},
        "stats_flush_interval": "0.5s",
        "admin": {"address": {"socket_address": {"port_value": 0, "address": "::1"}}},
        "static_resources": {"clusters": [{"name": "c2"}]},
        "cluster_manager": {"local_cluster_name": "c2"},
    });
    let mut others = examples();
    others.push(over);
    for first in &others {
        for second in &others {
            let data = [wire_of(BOOTSTRAP, first), wire_of(BOOTSTRAP, second)].concat();
            let want = judged(BOOTSTRAP, &data);
            assert_eq!(with_doubles(decoded(BOOTSTRAP, &data)), with_doubles(want.clone()));
            let mut merged = first.clone();
            merge::merge_bootstrap(&mut merged, second.clone());
            let canonical = judged(BOOTSTRAP, &wire_of(BOOTSTRAP, &merged));
            assert_eq!(with_doubles(canonical), with_doubles(want));
        }
    }
}
