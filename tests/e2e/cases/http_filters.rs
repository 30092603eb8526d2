//! HTTP filters, held against Envoy request by request.

use crate::harness::Pairs;
use serde_json::{Value, json};

/// A chain of one filter before the router, and routes with what they say to it.
pub fn chain(name: &str, config: Value, routes: Value) -> Value {
    let router = json!({"name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    json!({
        "http_filters": [{"name": name, "typed_config": config}, router],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
    })
}

#[test]
fn buffer() {
    let kind = |what: &str| format!("type.googleapis.com/envoy.extensions.filters.http.buffer.v3.{what}");
    let to = |prefix: &str, of_route: Value| {
        let mut of_route = of_route;
        of_route["@type"] = kind("BufferPerRoute").into();
        json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"b": of_route}})
    };
    let routes = json!([
        to("/off", json!({"disabled": true})),
        to("/more", json!({"buffer": {"max_request_bytes": 20}})),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}},
        {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
    ]);
    let config = chain("b", json!({"@type": kind("Buffer"), "max_request_bytes": 10}), routes);
    let mut pairs = Pairs::new(config);
    for path in ["/", "/off", "/more", "/direct"] {
        pairs = pairs.get("h", path, "");
        for body in ["", "12345", "1234567890", "12345678901", &"x".repeat(30)] {
            let length = body.len();
            let chunk = if body.is_empty() { String::new() } else { format!("{length:x}\r\n{body}\r\n") };
            let head = format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n");
            pairs = pairs
                .raw(format!("{head}content-length: {length}\r\n\r\n{body}"))
                .raw(format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"));
        }
    }
    pairs.run();
}

#[test]
fn header_mutation() {
    let kind =
        |what: &str| format!("type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.{what}");
    let append = |key: &str, value: &str, action: &str| json!({"append": {"header": {"key": key, "value": value}, "append_action": action}});
    let mutations = |level: &str| {
        json!({
            "request_mutations": [
                append("x-level", level, "APPEND_IF_EXISTS_OR_ADD"),
                append("x-last", level, "OVERWRITE_IF_EXISTS_OR_ADD"),
                append("x-first", level, "ADD_IF_ABSENT"),
                append("x-over", level, "OVERWRITE_IF_EXISTS"),
                append("x-path", "%REQ(:path)% %REQ(x-last)%", "APPEND_IF_EXISTS_OR_ADD"),
                {"remove": format!("x-{level}")},
                {"remove_on_match": {"key_matcher": {"prefix": "x-drop-"}}},
            ],
            "response_mutations": [
                append("x-level", level, "APPEND_IF_EXISTS_OR_ADD"),
                append("x-asked", "%REQ(x-ask)% %RESP(x-answer)%", "APPEND_IF_EXISTS_OR_ADD"),
                {"remove": "x-secret"},
            ],
        })
    };
    for most_specific in [false, true] {
        let per_route = |level: &str| json!({"hm": {"@type": kind("HeaderMutationPerRoute"), "mutations": mutations(level)}});
        let mut config = chain(
            "hm",
            json!({"@type": kind("HeaderMutation"), "mutations": mutations("filter"), "most_specific_header_mutations_wins": most_specific}),
            json!([
                {"match": {"prefix": "/route"}, "route": {"cluster": "case1"}, "typed_per_filter_config": per_route("route")},
                {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": per_route("route")},
                {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
            ]),
        );
        config["route_config"]["typed_per_filter_config"] = per_route("table");
        config["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = per_route("host");
        let answer = "HTTP/1.1 200 OK\r\nx-secret: s\r\nx-answer: yes\r\ncontent-length: 2\r\n\r\nok";
        let mut pairs = Pairs::new(config).answer(answer);
        for path in ["/route", "/", "/direct"] {
            for lines in [
                "",
                "x-last: own\r\nx-first: own\r\nx-over: own\r\nx-drop-a: a\r\nx-ask: ask\r\nx-route: r\r\nx-host: h\r\n",
            ] {
                pairs = pairs.get("h", path, lines);
            }
        }
        pairs.run();
    }
}
