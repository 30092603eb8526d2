//! The health check filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

fn check(mut config: Value) -> Value {
    config["@type"] = "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck".into();
    config["headers"] = json!([{"name": ":path", "string_match": {"prefix": "/health"}}]);
    let mut config = chain("h", config, json!([{"match": {"prefix": "/"}, "route": {"cluster": "case1"}}]));
    config["drain_timeout"] = "0.05s".into();
    config
}

const STATISTICS: &[&str] = &[
    "http.case0.health_check.",
    "http.case0.downstream_rq_completed",
    "http.case0.downstream_rq_total",
    "http.case0.downstream_rq_2xx",
    "http.case0.downstream_rq_5xx",
    "cluster.case1.upstream_rq_2xx",
    "cluster.case1.upstream_rq_503",
    "cluster.case1.upstream_rq_completed",
];

fn pairs(config: Value) -> Pairs {
    let head = "POST /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n";
    Pairs::new(check(config))
        .statistics(STATISTICS)
        .get("h", "/health", "")
        .get("h", "/other", "")
        .raw(format!("{head}content-length: 3\r\n\r\nabc"))
        .raw(format!("{head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
        .get("h", "/healthy", "content-type: application/grpc\r\n")
        .raw("HEAD /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_string())
}

#[test]
fn who_answers() {
    let node = json!({"node": {"id": "n", "cluster": "mine"}});
    for pass_through in [false, true] {
        for bootstrap in [json!({}), node.clone()] {
            let config = json!({"pass_through_mode": pass_through});
            pairs(config.clone()).bootstrap(bootstrap.clone()).run();
            pairs(config).bootstrap(bootstrap).post("/healthcheck/fail").run();
        }
    }
}

#[test]
fn answers_of_the_upstream_are_kept() {
    let config = json!({"pass_through_mode": true, "cache_time": "60s"});
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nx-envoy-degraded: 1\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nx-envoy-degraded: 1\r\nx-envoy-upstream-healthchecked-cluster: u\r\nx-envoy-immediate-health-check-fail: no\r\n\r\n",
    ] {
        pairs(config.clone()).answer(answer).run();
        pairs(config.clone()).answer(answer).post("/healthcheck/fail").run();
    }
}

#[test]
fn clusters_have_to_be_healthy_enough() {
    for (cluster, percent) in [
        ("case1", 100.0),
        ("case1", 0.0),
        ("nohosts", 0.0),
        ("nohosts", 0.5),
        ("none", 0.0),
        ("none", 50.0),
        ("refused", 100.0),
    ] {
        let percentages = json!({cluster: {"value": percent}});
        let config = json!({"pass_through_mode": false, "cluster_min_healthy_percentages": percentages});
        pairs(config.clone()).run();
        if cluster == "nohosts" {
            pairs(config).post("/healthcheck/fail").run();
        }
    }
}
