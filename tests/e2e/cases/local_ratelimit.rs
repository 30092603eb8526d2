//! The local rate limit filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

/// With `over` over a bucket that nothing comes back to.
fn limit(tokens: u32, over: Value) -> Value {
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": tokens, "fill_interval": "3600s"},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
    });
    for (name, value) in over.as_object().expect("fields") {
        config[name] = value.clone();
    }
    config
}

fn to(prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}})
}

fn to_with(prefix: &str, of_route: Value) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"l": of_route}})
}

const GRPC: &str = "content-type: application/grpc\r\n";
const STATISTICS: &[&str] =
    &["limit.", "other.", "http.case0.downstream_rq_4xx", "http.case0.downstream_rq_completed"];

#[test]
fn what_is_too_much() {
    let add = |key: &str, value: &str| json!([{"header": {"key": key, "value": value}}]);
    let cases = [
        json!({}),
        json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"}),
        json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true}),
        json!({"enable_retry_after_header": true, "response_headers_to_add": add("x-a", "%REQ(:path)% %RESPONSE_CODE%")}),
        json!({"status": {"code": "ServiceUnavailable"}}),
        json!({"status": {"code": 200}}),
        json!({"rate_limited_as_resource_exhausted": true}),
        json!({"filter_enforced": null}),
        json!({"filter_enforced": {"default_value": {"numerator": 0}},
            "request_headers_to_add_when_not_enforced": add("x-late", "%REQ(:path)%"), "response_headers_to_add": add("x-a", "b"),
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true}),
        json!({"filter_enabled": null}),
        json!({"filter_enabled": {"default_value": {"numerator": 0}, "runtime_key": "on"}}),
        json!({"filter_enforced": {"default_value": {"numerator": 100}, "runtime_key": "off"}}),
        json!({"token_bucket": null}),
        json!({"token_bucket": null, "enable_x_ratelimit_headers": "DRAFT_VERSION_03"}),
    ];
    for case in cases {
        let runtime =
            json!({"layered_runtime": {"layers": [{"name": "l", "static_layer": {"on": 100, "off": 0}}]}});
        let routes = json!([to("/"), {"match": {"prefix": "*"}, "direct_response": {"status": 200}}]);
        let mut pairs =
            Pairs::new(chain("l", limit(2, case), routes)).statistics(STATISTICS).bootstrap(runtime);
        for path in ["/a", "/b", "/c", "*"] {
            pairs = pairs.get("h", path, "").get("h", path, GRPC);
        }
        let head = "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n";
        pairs.raw(format!("{head}content-length: 3\r\n\r\nabc")).run();
    }
}

#[test]
fn routes_and_connections_have_their_own() {
    let per_connection = json!({"local_rate_limit_per_downstream_connection": true, "enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
    let other = |tokens, mut over: Value| {
        over["stat_prefix"] = "other".into();
        limit(tokens, over)
    };
    let routes = json!([
        to_with("/one", other(1, json!({}))),
        to_with("/three", other(3, json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"}))),
        to_with("/off", other(1, json!({"filter_enabled": null}))),
        to_with("/connection/one", other(1, per_connection.clone())),
        to_with("/connection/two", other(2, per_connection.clone())),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": {"l": other(1, json!({}))}},
        to("/"),
    ]);
    let mut pairs = Pairs::new(chain("l", limit(4, json!({})), routes.clone())).statistics(STATISTICS);
    for path in ["/one", "/three", "/off", "/direct", "/nothing"] {
        for _ in 0..4 {
            pairs = pairs.get("h", path, "");
        }
    }
    pairs.run();
    let mut pairs = Pairs::new(chain("l", limit(4, per_connection), routes)).statistics(STATISTICS);
    for paths in [
        &["/a"; 4][..],
        &["/a"; 6],
        &["/connection/one"; 1],
        &["/connection/one"; 3],
        &["/connection/two"; 2],
        &["/connection/two"; 3],
        &["/", "/connection/one", "/connection/two", "/", "/connection/one"],
        &["/connection/two", "/connection/one", "/"],
        &["/connection/one", "/connection/two"],
        &["/", "/connection/two", "/three", "/one", "/", "/three", "/three", "/three"],
    ] {
        pairs = pairs.one_by_one(paths);
    }
    pairs.run();
}

#[test]
fn tokens_come_back() {
    let delay = json!({"name": "f", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "0.1s", "percentage": {"numerator": 100}},
    }});
    for (interval, tokens) in [("0.05s", 1), ("0.5s", 9)] {
        let bucket = json!({"max_tokens": 1, "tokens_per_fill": tokens, "fill_interval": interval});
        let mut config = chain("l", limit(1, json!({"token_bucket": bucket})), json!([to("/")]));
        config["http_filters"].as_array_mut().expect("filters").insert(0, delay.clone());
        let mut pairs = Pairs::new(config).statistics(STATISTICS);
        for _ in 0..5 {
            pairs = pairs.get("h", "/", "");
        }
        pairs.run();
    }
}
