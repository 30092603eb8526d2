//! How requests are spread over the places where hosts run.

use crate::harness::{Spread, numbered_hosts};
use serde_json::{Value, json};

const REQUESTS: usize = 400;

/// A group of hosts: its zone, its weight if it has one, and the health of its hosts, `h` or another letter.
type Group = (&'static str, Option<u32>, &'static str);

fn groups(spread: &Spread, ports: usize, groups: &[Group]) -> Value {
    let mut number = 0;
    let mut host = |letter: char| {
        number += 1;
        let status = match letter {
            'h' => "HEALTHY",
            'd' => "DEGRADED",
            'r' => "DRAINING",
            _ => "UNHEALTHY",
        };
        spread.host((number - 1) % ports, json!({"health_status": status}))
    };
    let group = |(zone, weight, hosts): &Group| {
        let hosts: Vec<_> = hosts.chars().map(&mut host).collect();
        let mut group = json!({"lb_endpoints": hosts});
        if !zone.is_empty() {
            group["locality"] = json!({"zone": zone});
        }
        if let Some(weight) = weight {
            group["load_balancing_weight"] = json!(weight);
        }
        group
    };
    groups.iter().map(group).collect::<Vec<_>>().into()
}

const ALL: &[&str] = &["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"];

/// The cluster has these hosts and localities have weights.
fn weighted(kinds: &[&str], hosts: &[Group]) {
    let ports = numbered_hosts(6);
    for lb_policy in kinds {
        let spread = Spread::new(&ports);
        let endpoints = groups(&spread, ports.len(), hosts);
        spread
            .endpoints(endpoints)
            .cluster(json!({"lb_policy": lb_policy, "common_lb_config": {"locality_weighted_lb_config": {}}}))
            .compare(&["/"], REQUESTS, &["lb_"]);
    }
}

#[test]
fn localities_have_weights() {
    weighted(ALL, &[("b", Some(1), "h"), ("a", Some(3), "hh")]);
    weighted(ALL, &[("b", Some(1), "hh"), ("a", None, "h"), ("c", Some(2), "h")]);
    weighted(ALL, &[("a", None, "hh")]);
    weighted(ALL, &[("a", None, "h"), ("b", None, "h")]);
    weighted(&["ROUND_ROBIN"], &[("", Some(4), "h"), ("b", Some(1), "h")]);
}

#[test]
fn localities_have_less_weight_where_hosts_are_unhealthy() {
    weighted(ALL, &[("a", Some(5), "huuu"), ("b", Some(5), "hhhh")]);
    weighted(&["ROUND_ROBIN"], &[("a", Some(5), "hr"), ("b", Some(5), "hh")]);
    weighted(&["ROUND_ROBIN", "MAGLEV"], &[("a", Some(1), "u"), ("b", Some(9), "hhh")]);
    weighted(&["ROUND_ROBIN"], &[("a", Some(1), "d"), ("b", Some(3), "d")]);
    weighted(&["RANDOM", "RING_HASH"], &[("a", Some(1), "huu"), ("b", Some(3), "u")]);
}

/// A proxy in zone `z1`, whose own cluster has hosts of `local`.
fn zone_aware(lb_policy: &str, local: &[Group], upstream: &[Group], config: &Value, runtime: &Value) {
    let ports = numbered_hosts(6);
    let spread = Spread::new(&ports);
    let own = groups(&spread, ports.len(), local);
    let endpoints = groups(&spread, ports.len(), upstream);
    let statistics = ["lb_", "zone."];
    let mut common = json!({});
    if !config.is_null() {
        common["zone_aware_lb_config"] = config.clone();
    }
    spread
        .endpoints(endpoints)
        .cluster(json!({"lb_policy": lb_policy, "common_lb_config": common}))
        .other_cluster(
            json!({"name": "local", "load_assignment": {"cluster_name": "local", "endpoints": own}}),
        )
        .bootstrap(json!({
            "node": {"id": "n", "cluster": "c", "locality": {"zone": "z1"}},
            "cluster_manager": {"local_cluster_name": "local"},
            "layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}]},
        }))
        .compare(&["/"], REQUESTS, &statistics);
}

#[test]
fn requests_stay_in_their_zone() {
    let (none, small) = (Value::Null, json!({"min_cluster_size": 1}));
    let runtime = json!({});
    let (z1, z2) = (("z1", None, "hh"), ("z2", None, "hh"));
    for lb_policy in ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH"] {
        zone_aware(lb_policy, &[z1, z2], &[z1, z2], &small, &runtime);
    }
    let one_more = ("z2", None, "hhhh");
    zone_aware("ROUND_ROBIN", &[z1, z2], &[one_more, z1], &none, &runtime);
    zone_aware("ROUND_ROBIN", &[z1, z2], &[z1, z2], &none, &runtime);
    zone_aware("ROUND_ROBIN", &[z1, z2], &[z1, one_more], &small, &runtime);
    zone_aware("RANDOM", &[("z1", None, "hhh"), z2], &[z1, one_more], &small, &runtime);
    zone_aware("ROUND_ROBIN", &[z1, z2], &[("z3", None, "h"), ("z2", None, "hh")], &small, &runtime);
}

#[test]
fn zones_do_not_always_matter() {
    let small = json!({"min_cluster_size": 1});
    let (z1, z2) = (("z1", None, "hh"), ("z2", None, "hh"));
    for local in [
        &[z2, ("z3", None, "h")][..],
        &[z1],
        &[("z1", None, "hu"), ("z2", None, "uuu")],
        &[("z1", None, "u"), ("z2", None, "h")],
        &[],
    ] {
        for fails in [false, true] {
            let config = json!({"min_cluster_size": 1, "fail_traffic_on_panic": fails});
            zone_aware("ROUND_ROBIN", local, &[z1, z2], &config, &json!({}));
        }
    }
    let half = json!({"min_cluster_size": 1, "routing_enabled": {"value": 50}});
    zone_aware("ROUND_ROBIN", &[z1, z2], &[z1, z2], &half, &json!({}));
    for runtime in [
        json!({"upstream.zone_routing.enabled": 0}),
        json!({"upstream.zone_routing.enabled": 25}),
        json!({"upstream.zone_routing.min_cluster_size": 5}),
    ] {
        zone_aware("RANDOM", &[z1, z2], &[z1, z2], &small, &runtime);
    }
}
