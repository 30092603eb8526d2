//! The fault filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};
use std::time::Duration;

fn fault(mut config: Value) -> Value {
    config["@type"] = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault".into();
    config
}

fn always() -> Value {
    json!({"numerator": 100})
}

fn to(prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}})
}

fn to_with(prefix: &str, of_route: Value) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"f": fault(of_route)}})
}

const GRPC: &str = "content-type: application/grpc\r\n";
const STATISTICS: &[&str] =
    &["http.case0.fault.", "http.case0.downstream_rq_5xx", "http.case0.downstream_rq_completed"];

#[test]
fn aborts() {
    let routes = json!([
        to_with("/none", json!({})),
        to_with("/grpc", json!({"abort": {"grpc_status": 5, "percentage": always()}})),
        to_with("/never", json!({"abort": {"http_status": 500, "percentage": {"numerator": 0}}})),
        to_with("/without", json!({"abort": {"http_status": 500}})),
        to_with("/unknown", json!({"abort": {"http_status": 599, "percentage": always()}})),
        to_with("/body", json!({"abort": {"http_status": 418, "percentage": always(), "response_body": "own words"}})),
        to_with("/grpcbody", json!({"abort": {"grpc_status": 5, "percentage": always(), "response_body": "own words"}})),
        to_with("/other", json!({"abort": {"http_status": 500, "percentage": always()}, "upstream_cluster": "case2"})),
        to_with("/same", json!({"abort": {"http_status": 500, "percentage": always()}, "upstream_cluster": "case1"})),
        to_with("/nodes", json!({"abort": {"http_status": 500, "percentage": always()}, "downstream_nodes": ["a", "b"]})),
        to_with("/headers", json!({"abort": {"http_status": 500, "percentage": always()},
            "headers": [{"name": "x-a", "string_match": {"exact": "1"}}, {"name": "x-b", "present_match": true}]})),
        to_with("/quiet", json!({"abort": {"http_status": 500, "percentage": always()}, "disable_downstream_cluster_stats": true})),
        to_with("/full", json!({"abort": {"http_status": 500, "percentage": always()}, "max_active_faults": 0})),
        to_with("/metadata", json!({"abort": {"http_status": 500, "percentage": always()}, "filter_metadata": {"a": "b"}})),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": {"f": fault(json!({"abort": {"http_status": 500, "percentage": always()}}))}},
        {"match": {"prefix": "/redirect"}, "redirect": {"host_redirect": "x"}},
        to("/"),
    ]);
    let config = json!({"abort": {"http_status": 503, "percentage": always()}});
    let mut config = chain("f", fault(config), routes);
    let metadata = json!({"header": {"key": "x-metadata", "value": "%DYNAMIC_METADATA(f:a)%"}});
    config["route_config"]["response_headers_to_add"] = json!([metadata]);
    let mut pairs = Pairs::new(config).statistics(STATISTICS);
    for path in [
        "/",
        "/none",
        "/grpc",
        "/never",
        "/without",
        "/unknown",
        "/body",
        "/grpcbody",
        "/other",
        "/same",
        "/full",
        "/metadata",
        "/direct",
        "/redirect",
        "/nothing",
    ] {
        pairs = pairs.get("h", path, "").get("h", path, GRPC);
    }
    for lines in ["", "x-envoy-downstream-service-node: a\r\n", "x-envoy-downstream-service-node: c\r\n"] {
        pairs = pairs.get("h", "/nodes", lines);
    }
    for lines in ["", "x-a: 1\r\n", "x-a: 1\r\nx-b: 2\r\n"] {
        pairs = pairs.get("h", "/headers", lines);
    }
    for path in ["/", "/quiet", "/never", "/full"] {
        pairs = pairs.get("h", path, "x-envoy-downstream-service-cluster: some.one\r\n");
        pairs = pairs.get("h", path, "x-envoy-downstream-service-cluster: \r\n");
    }
    let head = "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n";
    pairs = pairs.raw(format!("{head}content-length: 3\r\n\r\nabc"));
    pairs.raw(format!("{head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")).run();
}

#[test]
fn requests_say_themselves() {
    let config = json!({
        "abort": {"header_abort": {}, "percentage": always()},
        "delay": {"header_delay": {}, "percentage": always()},
        "response_rate_limit": {"header_limit": {}, "percentage": always()},
    });
    let config = chain("f", fault(config), json!([to("/")]));
    let mut pairs = Pairs::new(config).statistics(STATISTICS).slow(Duration::from_millis(200));
    for value in [
        "200",
        "404",
        "599",
        "600",
        "100",
        "199",
        "0",
        "x",
        "",
        "+404",
        "404 ",
        "4 04",
        "-404",
        "404x",
        "99999999999999999999",
    ] {
        pairs = pairs.get("h", "/", &format!("x-envoy-fault-abort-request: {value}\r\n"));
        pairs = pairs.get("h", "/", &format!("x-envoy-fault-abort-grpc-request: {value}\r\n{GRPC}"));
    }
    for value in ["0", "10", "300", "-5", "x"] {
        pairs = pairs.get("h", "/", &format!("x-envoy-fault-delay-request: {value}\r\n"));
    }
    for value in ["0", "1", "1000", "x"] {
        pairs = pairs.get("h", "/", &format!("x-envoy-fault-throughput-response: {value}\r\n"));
    }
    for value in ["0", "100", "200", "x", "-1"] {
        pairs = pairs.get(
            "h",
            "/",
            &format!(
                "x-envoy-fault-abort-request: 404\r\nx-envoy-fault-abort-request-percentage: {value}\r\n"
            ),
        );
        pairs = pairs.get(
            "h",
            "/",
            &format!("x-envoy-fault-delay-request: 1\r\nx-envoy-fault-delay-request-percentage: {value}\r\n"),
        );
        pairs = pairs.get("h", "/", &format!("x-envoy-fault-throughput-response: 9\r\nx-envoy-fault-throughput-response-percentage: {value}\r\n"));
    }
    pairs = pairs.get("h", "/", "x-envoy-fault-abort-request: 404\r\nx-envoy-fault-abort-request: 405\r\n");
    pairs =
        pairs.get("h", "/", "x-envoy-fault-abort-request: 404\r\nx-envoy-fault-abort-grpc-request: 5\r\n");
    pairs.get("h", "/", "x-envoy-fault-abort-request: 404\r\nx-envoy-fault-delay-request: 300\r\n").run();
}

#[test]
fn delays() {
    let delay = json!({"fixed_delay": "0.3s", "percentage": always()});
    let routes = json!([
        to_with("/both", json!({"delay": delay, "abort": {"http_status": 500, "percentage": always()}})),
        to_with(
            "/never",
            json!({"delay": {"fixed_delay": "0.3s", "percentage": {"numerator": 0, "denominator": "MILLION"}}})
        ),
        to_with("/nothing", json!({"filter_metadata": {"a": "b"}})),
        to_with(
            "/metadata",
            json!({"delay": {"fixed_delay": "0.001s", "percentage": always()}, "filter_metadata": {"a": "b"}})
        ),
        to("/"),
    ]);
    let mut config = chain("f", fault(json!({"delay": delay, "max_active_faults": 1})), routes);
    let metadata = json!({"header": {"key": "x-metadata", "value": "%DYNAMIC_METADATA(f:a)%"}});
    config["route_config"]["response_headers_to_add"] = json!([metadata]);
    let mut pairs = Pairs::new(config).statistics(STATISTICS).slow(Duration::from_millis(200));
    for path in ["/", "/both", "/never", "/metadata"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-envoy-downstream-service-cluster: c\r\n"
        );
        pairs = pairs
            .get("h", path, "")
            .raw(format!("{head}content-length: 3\r\n\r\nabc"))
            .raw(format!("{head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    }
    pairs.run();
}

#[test]
fn slow_responses() {
    let slow = |kbps: u32| json!({"response_rate_limit": {"fixed_limit": {"limit_kbps": kbps}, "percentage": always()}});
    let mut metadata = slow(1000);
    metadata["filter_metadata"] = json!({"a": "b"});
    let routes = json!([
        to_with("/slower", slow(1)),
        to_with("/metadata", metadata),
        to_with("/fast", slow(1000)),
        to_with("/never", json!({})),
        to("/")
    ]);
    let mut config = chain("f", fault(slow(4)), routes);
    config["route_config"]["response_headers_to_add"] =
        json!([{"header": {"key": "x-metadata", "value": "%DYNAMIC_METADATA(f:a)%"}}]);
    let body = "x".repeat(2048);
    let chunked = format!("400\r\n{}\r\n400\r\n{}\r\n0\r\n", &body[..1024], &body[1024..]);
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2048\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunked}\r\n"),
        "HTTP/1.1 204 No Content\r\n\r\n".to_string(),
    ] {
        let mut pairs = Pairs::new(config.clone())
            .answer(&answer)
            .whole()
            .statistics(STATISTICS)
            .slow(Duration::from_millis(250));
        for path in ["/", "/slower", "/fast", "/never", "/metadata"] {
            pairs = pairs.get("h", path, "");
        }
        pairs.run();
    }
}

#[test]
fn the_runtime_has_the_last_word() {
    let own = json!({
        "delay": {"fixed_delay": "0.001s", "percentage": always()},
        "abort": {"http_status": 501, "percentage": always()},
        "delay_percent_runtime": "own.delay_percent",
        "abort_percent_runtime": "own.abort_percent",
        "delay_duration_runtime": "own.delay_duration",
        "abort_http_status_runtime": "own.status",
        "max_active_faults_runtime": "own.max",
    });
    let plain = json!({
        "delay": {"fixed_delay": "0.001s", "percentage": {"numerator": 0}},
        "abort": {"http_status": 501, "percentage": {"numerator": 0}},
    });
    let grpc = json!({"abort": {"grpc_status": 5, "percentage": always()}});
    let config = chain("f", fault(plain), json!([to_with("/own", own), to_with("/grpc", grpc), to("/")]));
    let cases = [
        json!({}),
        json!({"fault.http.abort.abort_percent": 100, "fault.http.abort.http_status": 404}),
        json!({"fault.http.delay.fixed_delay_percent": 100, "fault.http.delay.fixed_duration_ms": 300}),
        json!({"fault.http.abort.abort_percent": {"numerator": 10000, "denominator": "TEN_THOUSAND"}, "fault.http.max_active_faults": 0}),
        json!({"own.abort_percent": 0, "own.delay_percent": 0, "fault.http.abort.abort_percent": 0}),
        json!({"own.status": 404, "own.delay_duration": 300, "fault.http.abort.grpc_status": 7}),
        json!({"own.max": 0}),
        json!({"fault.http.c.abort.abort_percent": 0}),
        json!({"fault.http.c.delay.fixed_delay_percent": 0, "own.delay_duration": 300}),
        json!({"fault.http.c.abort.abort_percent": 100, "fault.http.c.abort.http_status": 404, "fault.http.abort.http_status": 405,
            "fault.http.c.abort.grpc_status": 9}),
        json!({"fault.http.c.delay.fixed_delay_percent": 100, "fault.http.c.delay.fixed_duration_ms": 300}),
    ];
    for runtime in cases {
        let layers = json!({"layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}]}});
        let mut pairs = Pairs::new(config.clone())
            .statistics(STATISTICS)
            .slow(Duration::from_millis(200))
            .bootstrap(layers);
        for path in ["/", "/own", "/grpc"] {
            for lines in ["", "x-envoy-downstream-service-cluster: c\r\n"] {
                pairs = pairs.get("h", path, lines).get("h", path, &format!("{GRPC}{lines}"));
            }
        }
        pairs.run();
    }
}
