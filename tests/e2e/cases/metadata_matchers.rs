//! What is matched by what filters have said of a request, or the configuration of its route.

use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

fn typed(name: &str, message: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.http.{message}").into();
    json!({"name": name, "typed_config": config})
}

/// What the answer says of the request, and others may look at.
fn said(value: Value) -> Value {
    json!({"filter": "envoy.filters.http.ext_authz", "path": [{"key": "x-meta"}], "value": value})
}

/// Somebody is asked first, who says something of the request.
fn manager(filter: Value, routes: Value) -> Value {
    let fields = |text: &str| json!({"patterns": [{"exact": text}]});
    let asked = json!({"clear_route_cache": true, "http_service": {
        "server_uri": {"uri": "http://a", "cluster": "case0", "timeout": "5s"},
        "authorization_response": {"allowed_upstream_headers": fields("x-set"),
            "dynamic_metadata_from_headers": fields("x-meta")}}});
    json!({
        "http_filters": [
            typed("envoy.filters.http.ext_authz", "ext_authz.v3.ExtAuthz", asked),
            filter,
            typed("envoy.filters.http.router", "router.v3.Router", json!({})),
        ],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
    })
}

fn pairs(hcm: Value) -> Pairs {
    let mut pairs = Pairs::new(hcm)
        .sorted_fields()
        .with_statistics()
        .statistics(&["http.case0.rbac", "http.case0.ext_authz"]);
    for fields in ["", "x-set: 1\r\n", "x-set: 1\r\nx-meta: a\r\n", "x-set: 1\r\nx-meta: b\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n");
        let request = "GET /p HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n".to_string();
        pairs = pairs.told(request, [vec![Action::Send(answer.into())]]);
    }
    pairs
}

fn to(cluster: &str, mut more: Value) -> Value {
    more["route"] = json!({"cluster": cluster});
    more["metadata"] = json!({"filter_metadata": {"f": {"l": [1, "a"], "b": true, "n": 2.5, "o": {"z": null}}},
        "typed_filter_metadata": {"t": {"@type": "type.googleapis.com/envoy.config.core.v3.Address",
            "pipe": {"path": "/a"}}}});
    if more["match"].is_null() {
        more["match"] = json!({"prefix": "/"});
    }
    more
}

#[test]
fn rules() {
    let of_route = |path: &[&str], value: Value| {
        let path: Vec<Value> = path.iter().map(|key| json!({"key": key})).collect();
        json!({"sourced_metadata": {"metadata_source": "ROUTE",
            "metadata_matcher": {"filter": "f", "path": path, "value": value}}})
    };
    let text = |text: &str| json!({"string_match": {"exact": text}});
    let mut inverted = said(text("a"));
    inverted["invert"] = true.into();
    let any = json!({"any": true});
    let list = of_route(
        &["l"],
        json!({"list_match": {"one_of": {"or_match": {"value_matchers": [text("a"), {"bool_match": true}]}}}}),
    );
    for (permission, principal) in [
        (json!({"metadata": said(text("a"))}), any.clone()),
        (json!({"metadata": said(json!({"present_match": true}))}), any.clone()),
        (json!({"metadata": said(json!({"present_match": false}))}), any.clone()),
        (any.clone(), json!({"metadata": inverted})),
        (any.clone(), json!({"sourced_metadata": {"metadata_matcher": said(text("b"))}})),
        (any.clone(), list.clone()),
        (list, json!({"metadata": said(text("b"))})),
        (of_route(&["b"], json!({"bool_match": true})), any.clone()),
        (of_route(&["n"], json!({"double_match": {"range": {"start": 2.0, "end": 2.5}}})), any.clone()),
        (of_route(&["n"], json!({"double_match": {"exact": 2.5}})), any.clone()),
        (of_route(&["o", "z"], json!({"null_match": {}})), any.clone()),
        (of_route(&["o", "y"], json!({"null_match": {}})), any.clone()),
        (any.clone(), json!({"filter_state": {"key": "none", "string_match": {"exact": ""}}})),
    ] {
        let policy = json!({"p": {"permissions": [permission], "principals": [principal]}});
        let rbac = json!({"rules": {"action": "ALLOW", "policies": policy}});
        let filter = typed("envoy.filters.http.rbac", "rbac.v3.RBAC", rbac);
        pairs(manager(filter, json!([to("case1", json!({}))]))).run();
    }
}

#[test]
fn routes() {
    let none = typed("envoy.filters.http.cors", "cors.v3.Cors", json!({}));
    let of = |value: Value| json!({"match": {"prefix": "/", "dynamic_metadata": [said(value)]}});
    let state =
        json!({"match": {"prefix": "/", "filter_state": [{"key": "none", "string_match": {"prefix": "x"}}]}});
    let routes = json!([
        to("nohosts", state),
        to("case2", of(json!({"string_match": {"exact": "a"}}))),
        to("case1", of(json!({"present_match": true}))),
        {"match": {"prefix": "/"}, "direct_response": {"status": 202}},
    ]);
    pairs(manager(none, routes)).run();
}

#[test]
fn who_is_asked() {
    let asked = json!({"filter_enabled_metadata": said(json!({"string_match": {"exact": "a"}})),
        "deny_at_disable": {"default_value": true, "runtime_key": "x"},
        "http_service": {"server_uri": {"uri": "a", "cluster": "case2", "timeout": "5s"}}});
    let filter = typed("second", "ext_authz.v3.ExtAuthz", asked);
    pairs(manager(filter, json!([to("case1", json!({}))]))).run();
}

#[test]
fn what_a_request_says_has_to_be_right() {
    let names = [
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-max-retries",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
    ];
    for checked in [&names[..], &names[..1], &names[2..4]] {
        let router = json!({"strict_check_headers": checked});
        let mut pairs = Pairs::new(json!({
            "use_remote_address": true,
            "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
            "http_filters": [typed("envoy.filters.http.router", "router.v3.Router", router)],
        }))
        .with_statistics();
        for name in names {
            for value in [
                "9000",
                "x",
                "",
                "-1",
                "5xx",
                "5xx, reset",
                "5xx,,reset",
                "5xx,nothing",
                "cancelled",
                "internal, cancelled",
                "5xx,internal",
                "5xx\u{e9}",
            ] {
                pairs = pairs.get("a.test", "/", &format!("{name}: {value}\r\n"));
            }
        }
        pairs.run();
    }
}
