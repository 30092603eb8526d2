//! Filters that streams are made with or without: as the connection manager says, and as their routes say.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

fn any(kind: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    config
}

/// A filter that says its name in a header, and whether it was spoken to by a route.
fn marker(of: &str, kind: &str) -> Value {
    let header =
        json!({"header": {"key": "x-filter", "value": of}, "append_action": "APPEND_IF_EXISTS_OR_ADD"});
    let mutations = json!({"mutations": {"request_mutations": [{"append": header}], "response_mutations": [{"append": header}]}});
    any(&format!("envoy.extensions.filters.http.header_mutation.v3.{kind}"), mutations)
}

fn said(config: Value) -> Value {
    any("envoy.config.route.v3.FilterConfig", config)
}

#[test]
fn filters_are_turned_off_and_on() {
    let to = |prefix: &str, said: Value| json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": said});
    let spoken = |name: &str| marker(&format!("route to {name}"), "HeaderMutationPerRoute");
    let weighted = |weight: u32, said: Value| json!({"name": "case2", "weight": weight, "typed_per_filter_config": said});
    let routes = json!([
        to("/a-off", json!({"a": said(json!({"disabled": true}))})),
        to("/b-on", json!({"b": said(json!({"config": {}}))})),
        to("/b-spoken", json!({"b": spoken("b")})),
        to("/b-config", json!({"b": said(json!({"config": spoken("b")}))})),
        to("/both", json!({"a": said(json!({"disabled": true, "config": spoken("a")})), "b": spoken("b")})),
        to("/left-out", json!({"b": said(json!({"is_optional": true, "config": any("envoy.config.core.v3.Node", json!({}))}))})),
        to("/router", json!({"b": said(json!({"is_optional": true, "config":
            any("envoy.extensions.filters.http.router.v3.Router", json!({}))}))})),
        to("/c-on", json!({"c": said(json!({"config": {}}))})),
        to("/d-on", json!({"d": said(json!({"config": {}}))})),
        to("/unknown", json!({"nobody": said(json!({"disabled": true}))})),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200},
            "typed_per_filter_config": {"a": said(json!({"disabled": true}))}},
        {"match": {"prefix": "/weighted"},
            "typed_per_filter_config": {"a": said(json!({"disabled": true}))},
            "route": {"weighted_clusters": {"header_name": "x-number", "clusters": [
                weighted(1, json!({})),
                weighted(1, json!({"a": said(json!({"config": {}}))})),
                weighted(1, json!({"b": spoken("b")})),
            ]}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
    ]);
    let mut config = chain("a", marker("a", "HeaderMutation"), routes);
    let disabled =
        |name: &str| json!({"name": name, "disabled": true, "typed_config": marker(name, "HeaderMutation")});
    let filters = config["http_filters"].as_array_mut().unwrap();
    filters.insert(1, disabled("b"));
    filters.insert(2, json!({"name": "c", "typed_config": marker("c", "HeaderMutation")}));
    filters
        .insert(3, json!({"name": "d", "is_optional": true, "typed_config": marker("d", "HeaderMutation")}));
    filters.insert(4, json!({"name": "e", "is_optional": true, "typed_config": any("envoy.config.core.v3.Node", json!({}))}));
    filters.insert(5, json!({"name": "f", "is_optional": true}));
    // The virtual host turns off what the table speaks to, and the table turns off another.
    config["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] =
        json!({"c": said(json!({"disabled": true}))});
    config["route_config"]["typed_per_filter_config"] = json!({
        "c": marker("table to c", "HeaderMutationPerRoute"),
        "d": said(json!({"disabled": true})),
    });
    let mut pairs = Pairs::new(config);
    for path in [
        "/a-off",
        "/b-on",
        "/b-spoken",
        "/b-config",
        "/both",
        "/left-out",
        "/router",
        "/c-on",
        "/d-on",
        "/unknown",
        "/direct",
        "/",
    ] {
        pairs = pairs.get("h", path, "");
    }
    for number in 0..3 {
        pairs = pairs.get("h", "/weighted", &format!("x-number: {number}\r\n"));
    }
    // Answered before there is a route, and where there is none.
    pairs.raw("GET /a-off HTTP/1.1\r\nconnection: close\r\n\r\n".into()).run();
}

#[test]
fn filters_are_turned_on_without_any_that_is_off() {
    let b = json!({"b": said(json!({"config": {}}))});
    let routes = json!([
        {"match": {"prefix": "/on"}, "route": {"cluster": "case1"}, "typed_per_filter_config": b},
        {"match": {"prefix": "/other"}, "route": {"cluster": "case1"}},
    ]);
    let mut config = chain("b", marker("b", "HeaderMutation"), routes);
    config["http_filters"][0]["disabled"] = true.into();
    Pairs::new(config).get("h", "/on", "").get("h", "/other", "").get("h", "/none", "").run();
}
