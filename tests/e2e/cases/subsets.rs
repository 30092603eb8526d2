//! Requests that go to a subset of the hosts, by what is said of them.

use crate::harness::{Spread, new_directory, numbered_hosts, proxies};
use serde_json::{Value, json};

/// For each path, of which there are some.
const REQUESTS: usize = 30;

/// Paths, and what their routes want of hosts.
const PATHS: [&str; 12] = [
    "/stage-prod",
    "/stage-dev",
    "/stage-none",
    "/version",
    "/both",
    "/both-other",
    "/three",
    "/number",
    "/text",
    "/list",
    "/listed",
    "/nothing",
];

fn routes() -> Value {
    let to = |path: &str, labels: Value| {
        let mut route = json!({"cluster": "a"});
        if !labels.is_null() {
            route["metadata_match"] = json!({"filter_metadata": {"envoy.lb": labels}});
        }
        json!({"match": {"prefix": path}, "route": route})
    };
    json!([
        to("/stage-prod", json!({"stage": "prod"})),
        to("/stage-dev", json!({"stage": "dev"})),
        to("/stage-none", json!({"stage": "none"})),
        to("/version", json!({"version": "1"})),
        to("/both-other", json!({"version": "9", "stage": "dev"})),
        to("/both", json!({"version": "1", "stage": "dev"})),
        to("/three", json!({"version": "1", "stage": "dev", "more": true})),
        to("/number", json!({"n": 1.0})),
        to("/text", json!({"n": "1"})),
        to("/listed", json!({"tags": ["x", "y"]})),
        to("/list", json!({"tags": "y"})),
        to("/nothing", Value::Null),
    ])
}

/// Hosts with labels, of which the third and the fifth are no good.
fn hosts(spread: &Spread) -> Value {
    let labels = [
        json!({"stage": "prod", "version": "1", "n": 1}),
        json!({"stage": "prod", "version": "2", "tags": ["x", "y"]}),
        json!({"stage": "dev", "version": "1", "n": "1"}),
        json!({"stage": "dev", "version": "2", "tags": "y"}),
        json!({"version": "3", "stage": "none", "more": true}),
        json!({}),
    ];
    let host = |(number, labels): (usize, &Value)| {
        let health = if [2, 4].contains(&number) { "UNHEALTHY" } else { "HEALTHY" };
        let metadata = json!({"filter_metadata": {"envoy.lb": labels}});
        spread.host(number, json!({"metadata": metadata, "health_status": health}))
    };
    labels.iter().enumerate().map(host).collect::<Vec<_>>().into()
}

fn compare(cluster: Value) {
    let ports = numbered_hosts(6);
    let spread = Spread::new(&ports);
    let hosts = hosts(&spread);
    spread.endpoints(json!([{"lb_endpoints": hosts}])).routes(routes()).cluster(cluster).compare(
        &PATHS,
        REQUESTS,
        &["lb_"],
    );
}

fn of_cluster(config: Value) {
    compare(json!({"lb_subset_config": config}));
}

#[test]
fn fallbacks() {
    let selectors = json!([{"keys": ["stage"]}, {"keys": ["version", "stage"]}, {"keys": ["n"]}]);
    for policy in ["NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET"] {
        for default in [json!({"version": "2"}), json!({"none": 1}), json!({"version": "3"}), json!({})] {
            let any = policy == "DEFAULT_SUBSET" && default != json!({});
            if policy != "DEFAULT_SUBSET" && default != json!({}) {
                continue;
            }
            for panic_mode_any in if any { &[false, true][..] } else { &[false] } {
                of_cluster(json!({
                    "fallback_policy": policy, "default_subset": default, "subset_selectors": selectors,
                    "panic_mode_any": panic_mode_any,
                }));
            }
        }
    }
}

#[test]
fn fallbacks_of_selectors() {
    of_cluster(json!({
        "fallback_policy": "ANY_ENDPOINT",
        "default_subset": {"version": "2"},
        "subset_selectors": [
            {"keys": ["stage"], "fallback_policy": "NO_FALLBACK"},
            {"keys": ["version", "stage"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["stage"]},
            {"keys": ["n"], "fallback_policy": "DEFAULT_SUBSET"},
            {"keys": ["tags"], "fallback_policy": "ANY_ENDPOINT"},
        ],
    }));
    of_cluster(json!({
        "fallback_policy": "NO_FALLBACK",
        "subset_selectors": [
            {"keys": ["more", "version", "stage"], "fallback_policy": "KEYS_SUBSET",
                "fallback_keys_subset": ["version", "stage"]},
            {"keys": ["version", "stage"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["version"]},
            {"keys": ["version"], "fallback_policy": "ANY_ENDPOINT"},
            {"keys": ["stage"]},
        ],
    }));
}

#[test]
fn lists_and_single_hosts() {
    let selectors = json!([{"keys": ["tags"]}, {"keys": ["n", "stage"]}]);
    for list_as_any in [false, true] {
        of_cluster(json!({"subset_selectors": selectors, "list_as_any": list_as_any}));
        of_cluster(json!({
            "subset_selectors": [{"keys": ["stage"], "single_host_per_subset": true}, {"keys": ["version"]}],
            "fallback_policy": "DEFAULT_SUBSET", "default_subset": {"tags": "y"}, "list_as_any": list_as_any,
        }));
    }
}

#[test]
fn no_selectors_are_no_subsets() {
    of_cluster(json!({"fallback_policy": "NO_FALLBACK"}));
    of_cluster(json!({}));
}

#[test]
fn every_balancer_chooses_within_subsets() {
    let config = json!({"fallback_policy": "ANY_ENDPOINT", "subset_selectors": [{"keys": ["stage"]}]});
    for lb_policy in ["LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"] {
        compare(json!({"lb_policy": lb_policy, "lb_subset_config": config}));
    }
}

#[test]
fn the_extension() {
    let inner = json!({"policies": [{"typed_extension_config": {"name": "rr", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    }}}]});
    for redundant in [false, true] {
        compare(json!({"load_balancing_policy": {"policies": [{"typed_extension_config": {
            "name": "subset",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset",
                "subset_selectors": [{"keys": ["version"]}, {"keys": ["stage"]}],
                "allow_redundant_keys": redundant,
                "fallback_policy": "DEFAULT_SUBSET",
                "default_subset": {"tags": "y"},
                "subset_lb_policy": inner,
            },
        }}]}}));
    }
}

#[test]
fn criteria_of_clusters_and_lists_of_them() {
    let ports = numbered_hosts(6);
    let said = |labels: Value| json!({"filter_metadata": {"envoy.lb": labels}});
    let routes = json!([
        {"match": {"prefix": "/weighted"}, "route": {
            "metadata_match": said(json!({"stage": "dev"})),
            "weighted_clusters": {"clusters": [
                {"name": "a", "weight": 1, "metadata_match": said(json!({"version": "2"}))},
            ]},
        }},
        {"match": {"prefix": "/over"}, "route": {
            "metadata_match": said(json!({"stage": "dev"})),
            "weighted_clusters": {"clusters": [
                {"name": "a", "weight": 1, "metadata_match": said(json!({"stage": "prod"}))},
            ]},
        }},
        {"match": {"prefix": "/list"}, "route": {"cluster": "a", "metadata_match": said(json!({
            "version": "7", "fallback_list": [{"version": "8"}, {"version": "2"}, {"stage": "prod"}],
        }))}},
        {"match": {"prefix": "/empty"}, "route": {"cluster": "a", "metadata_match": said(json!({
            "version": "1", "fallback_list": [],
        }))}},
        {"match": {"prefix": "/none"}, "route": {"cluster": "a", "metadata_match": said(json!({}))}},
        {"match": {"prefix": "/other"}, "route": {"cluster": "a", "metadata_match": {"filter_metadata": {"x": {"stage": "dev"}}}}},
    ]);
    for policy in ["METADATA_NO_FALLBACK", "FALLBACK_LIST"] {
        for fallback in ["NO_FALLBACK", "ANY_ENDPOINT"] {
            let spread = Spread::new(&ports);
            let hosts = hosts(&spread);
            spread
                .endpoints(json!([{"lb_endpoints": hosts}]))
                .routes(routes.clone())
                .cluster(json!({"lb_subset_config": {
                    "metadata_fallback_policy": policy, "fallback_policy": fallback,
                    "subset_selectors": [{"keys": ["version"]}, {"keys": ["stage"]}, {"keys": ["stage", "version"]}],
                }}))
                .compare(&["/weighted", "/over", "/list", "/empty", "/none", "/other"], REQUESTS, &["lb_"]);
        }
    }
}

#[test]
fn localities_keep_their_weights_or_not() {
    let ports = numbered_hosts(6);
    for (aware, scaled) in [(false, false), (true, false), (true, true)] {
        let spread = Spread::new(&ports);
        let host = |number: usize, stage: &str| {
            spread.host(number, json!({"metadata": {"filter_metadata": {"envoy.lb": {"stage": stage}}}}))
        };
        let endpoints = json!([
            {"locality": {"zone": "a"}, "load_balancing_weight": 4, "lb_endpoints": [
                host(0, "prod"), host(1, "dev"), host(2, "dev"), host(3, "dev"),
            ]},
            {"locality": {"zone": "b"}, "load_balancing_weight": 2, "lb_endpoints": [
                host(4, "prod"), host(5, "prod"),
            ]},
        ]);
        spread
            .endpoints(endpoints)
            .routes(routes())
            .cluster(json!({
                "common_lb_config": {"locality_weighted_lb_config": {}},
                "lb_subset_config": {
                    "fallback_policy": "ANY_ENDPOINT",
                    "subset_selectors": [{"keys": ["stage"]}],
                    "locality_weight_aware": aware, "scale_locality_weight": scaled,
                },
            }))
            .compare(&["/stage-prod", "/stage-dev", "/nothing"], 1000, &["lb_"]);
    }
}

#[test]
fn what_is_refused() {
    let selector = |more: Value| {
        let mut selector = json!({"keys": ["a", "b"]});
        selector.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"lb_subset_config": {"subset_selectors": [selector]}})
    };
    let policy = json!({"policies": [{"typed_extension_config": {"name": "rr", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    }}}]});
    let partial = "cluster: load_balancing_policy cannot be combined with partial fields (zone_aware_lb_config, \
         locality_weighted_lb_config, consistent_hashing_lb_config) of common_lb_config";
    let cases = [
        (selector(json!({"fallback_policy": "KEYS_SUBSET"})), "fallback_keys_subset cannot be empty"),
        (
            selector(json!({"fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["a", "b"]})),
            "fallback_keys_subset cannot be equal to keys",
        ),
        (
            selector(json!({"fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["c"]})),
            "fallback_keys_subset must be a subset of selector keys",
        ),
        (
            selector(json!({"fallback_policy": "NO_FALLBACK", "fallback_keys_subset": ["a"]})),
            "fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy",
        ),
        (
            json!({"lb_subset_config": {"locality_weight_aware": true, "subset_selectors": [{"keys": ["a"]}]}}),
            "Locality weight aware subset LB requires that a locality_weighted_lb_config be set in a",
        ),
        (
            json!({"load_balancing_policy": policy, "lb_subset_config": {"subset_selectors": [{"keys": ["a"]}]}}),
            "cluster: load_balancing_policy cannot be combined with lb_subset_config",
        ),
        (
            json!({"lb_policy": "CLUSTER_PROVIDED", "lb_subset_config": {"subset_selectors": [{"keys": ["a"]}]}}),
            "cluster: LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config",
        ),
        (
            json!({"load_balancing_policy": policy, "common_lb_config": {"locality_weighted_lb_config": {}}}),
            partial,
        ),
    ];
    let taken = [
        json!({"lb_policy": "ROUND_ROBIN", "least_request_lb_config": {"choice_count": 3}}),
        json!({"lb_policy": "RANDOM", "ring_hash_lb_config": {"minimum_ring_size": 3}}),
        json!({"lb_policy": "LEAST_REQUEST", "maglev_lb_config": {"table_size": 1009}}),
        json!({"lb_policy": "MAGLEV", "round_robin_lb_config": {"slow_start_config": {"slow_start_window": "3s"}}}),
        json!({"load_balancing_policy": policy, "lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 1009}}),
        json!({"load_balancing_policy": policy, "lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}),
        json!({"common_lb_config": {"close_connections_on_host_set_change": true, "override_host_status": {"statuses": ["HEALTHY"]}}}),
    ];
    for kind in proxies() {
        let validate = |cluster: &Value| {
            let directory = new_directory(kind);
            let path = directory.join("bootstrap.json");
            let document = Spread::new(&[1]).cluster(cluster.clone()).document(&directory);
            std::fs::write(&path, document.to_string()).expect("a file");
            let output = kind.run(&["--mode", "validate", "-c", &path.to_string_lossy()]);
            std::fs::remove_dir_all(&directory).expect("the directory gone");
            let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            (output.status.code(), said.into_owned())
        };
        for (cluster, message) in &cases {
            let (code, said) = validate(cluster);
            assert_eq!(code, Some(1), "{kind:?} {cluster}: {said}");
            assert!(said.contains(message), "{kind:?} {cluster}: {said}");
        }
        for cluster in &taken {
            let (code, said) = validate(cluster);
            assert_eq!(code, Some(0), "{kind:?} {cluster}: {said}");
        }
    }
}
