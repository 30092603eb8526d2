//! What a configuration says of hosts and clusters: canaries, other tries, access logs and headers.

use super::retries::{get, manager, merged, policy, status};
use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

fn extension(kind: &str, name: &str, message: &str, more: Value) -> Value {
    let config =
        json!({"@type": format!("type.googleapis.com/envoy.extensions.retry.{kind}.{name}.v3.{message}")});
    let category = if kind == "host" { "host_predicates" } else { "priorities" };
    json!({"name": format!("envoy.retry_{category}.{name}"), "typed_config": merged(&config, more)})
}

/// A host that refuses what it gets.
fn refuses(more: Value) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.9", "port_value": 1}});
    merged(&json!({"endpoint": {"address": address}, "load_balancing_weight": 10_000}), more)
}

const ALL: &str = "%UPSTREAM_METADATA(envoy.lb)% %UPSTREAM_METADATA(envoy.lb:a)% %METADATA(UPSTREAM_HOST:envoy.lb:a):1% \
    %UPSTREAM_METADATA(envoy.lb:o:l)% %UPSTREAM_METADATA(envoy.lb:o:l:x)% %UPSTREAM_METADATA(f)% \
    %METADATA(UPSTREAM_HOST:envoy.lb:n)% %CLUSTER_METADATA(c:d)% %CLUSTER_METADATA(c)% %METADATA(CLUSTER:c:e)% \
    %METADATA(CLUSTER:g)% %UPSTREAM_HOST_NAME%";

#[test]
fn formats() {
    let said = json!({"envoy.lb": {"a": "text", "n": 7, "canary": "yes", "o": {"l": [true, null, 1.5]}}});
    let fields = json!([{"header": {"key": "x-host", "value": "%UPSTREAM_METADATA(envoy.lb:a)%"}},
        {"header": {"key": "x-none", "value": "%UPSTREAM_METADATA(envoy.lb:b)%"}}]);
    let hcm =
        manager(json!({}), json!({"response_headers_to_add": fields, "request_headers_to_add": fields}));
    let cluster = json!({"metadata": {"filter_metadata": {"c": {"d": "e", "e": 1}}}});
    Pairs::new(hcm)
        .cluster(cluster)
        .log_format(&format!("{ALL}\n"))
        .host(json!({"metadata": {"filter_metadata": said}, "endpoint": {"hostname": "name:1"}}))
        .told(get("/", ""), [status("200", "")])
        .told(get("/nohosts", ""), [])
        .run();
}

#[test]
fn canaries() {
    for canary in [json!(true), json!(false), json!("true"), json!(1)] {
        let said = json!({"metadata": {"filter_metadata": {"envoy.lb": {"canary": canary}}}});
        let canary = "x-envoy-upstream-canary: true\r\n";
        Pairs::new(manager(json!({}), json!({})))
            .with_statistics()
            .host(said)
            .told(get("/", ""), [status("200", "")])
            .told(get("/", ""), [status("503", canary)])
            .told(get("/", ""), [vec![Action::Close]])
            .run();
    }
}

/// Nearly all requests would go to a host that refuses them, if it was wanted.
#[test]
fn hosts_that_are_left_out() {
    let said = json!({"metadata": {"filter_metadata": {"envoy.lb": {"stage": ["one", "two"], "n": 1, "canary": true}}}});
    let omit = |labels: Value| {
        let more = json!({"metadata_match": {"filter_metadata": {"envoy.lb": labels}}});
        json!([extension("host", "omit_host_metadata", "OmitHostMetadataConfig", more)])
    };
    let canaries = json!([extension("host", "omit_canary_hosts", "OmitCanaryHostsPredicate", json!({}))]);
    let other = json!({"metadata_match": {"filter_metadata": {"f": {"n": 1}}}});
    for predicates in [
        omit(json!({"n": 1})),
        omit(json!({"n": 1.0, "stage": "two"})),
        omit(json!({"n": 2, "stage": "two"})),
        omit(json!({"none": 1})),
        canaries,
        json!([extension("host", "omit_host_metadata", "OmitHostMetadataConfig", other)]),
    ] {
        let policy = policy(json!({"retry_on": "connect-failure", "num_retries": 1,
            "retry_host_predicate": predicates, "host_selection_retry_max_attempts": 13_000}));
        Pairs::new(manager(policy, json!({})))
            .with_statistics()
            .other_hosts([refuses(said.clone())])
            .told(get("/", ""), [])
            .told(get("/", ""), [])
            .run();
    }
}

/// All requests would go to a host that refuses them, if its priority was wanted.
#[test]
fn priorities_that_were_tried() {
    for (frequency, retries) in [(1, 1), (1, 3), (2, 1), (2, 2), (2, 4)] {
        let priority = extension(
            "priority",
            "previous_priorities",
            "PreviousPrioritiesConfig",
            json!({"update_frequency": frequency}),
        );
        let policy = policy(json!({"retry_on": "5xx", "num_retries": retries, "retry_priority": priority}));
        let pairs = Pairs::new(manager(policy, json!({}))).with_statistics();
        let bad = || status("503", "");
        pairs
            .first_choice([refuses(json!({}))])
            .told(get("/", ""), [bad(), bad(), bad(), bad()])
            .told(get("/", ""), [status("200", "")])
            .run();
    }
}
