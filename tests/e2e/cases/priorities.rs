//! How requests are spread over priorities, by the health of their hosts.

use crate::harness::{Spread, numbered_hosts};
use serde_json::{Value, json};

const REQUESTS: usize = 400;

/// Hosts of each priority by their health, one letter each: healthy, unhealthy, degraded, draining (`r`), timeout; a digit
/// before a letter is the weight.
fn priorities(ports: &[u16], priorities: &[&str]) -> Spread {
    let spread = Spread::new(ports);
    let mut number = 0;
    let group = |(priority, hosts): (usize, &&str)| {
        let mut group = Vec::new();
        let mut weight = 1;
        for letter in hosts.chars() {
            if let Some(digit) = letter.to_digit(10) {
                weight = digit;
                continue;
            }
            let status = match letter {
                'h' => "HEALTHY",
                'u' => "UNHEALTHY",
                'd' => "DEGRADED",
                'r' => "DRAINING",
                't' => "TIMEOUT",
                _ => "UNKNOWN",
            };
            let more = json!({"health_status": status, "load_balancing_weight": weight});
            group.push(spread.host(number % ports.len(), more));
            (number, weight) = (number + 1, 1);
        }
        json!({"priority": priority, "lb_endpoints": group})
    };
    let groups: Vec<_> = priorities.iter().enumerate().map(group).collect();
    spread.endpoints(json!(groups))
}

/// Whatever chooses, it comes out as with Envoy.
fn compare(kinds: &[&str], hosts: &[&str], cluster: &Value) {
    let ports = numbered_hosts(8);
    for lb_policy in kinds {
        priorities(&ports, hosts).cluster(cluster.clone()).cluster(json!({"lb_policy": lb_policy})).compare(
            &["/"],
            REQUESTS,
            &["lb_", "membership_"],
        );
    }
}

const ALL: &[&str] = &["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"];

#[test]
fn what_is_left_goes_to_the_next_priority() {
    let none = json!({});
    compare(ALL, &["hu", "hh"], &none);
    compare(&["ROUND_ROBIN"], &["hhhuu", "h"], &none);
    compare(&["ROUND_ROBIN"], &["huuu", "huuu", "hu"], &none);
    compare(&["ROUND_ROBIN"], &["u", "t", "h"], &none);
    compare(&["ROUND_ROBIN"], &["hrr", "h"], &none);
    let little = json!({"load_assignment": {"policy": {"overprovisioning_factor": 100}}});
    compare(&["ROUND_ROBIN", "MAGLEV"], &["hhhu", "h"], &little);
}

#[test]
fn degraded_hosts_get_what_healthy_ones_cannot_take() {
    let none = json!({});
    compare(ALL, &["hd"], &none);
    compare(&["ROUND_ROBIN"], &["hduu"], &none);
    compare(&["ROUND_ROBIN"], &["dd", "hu"], &none);
    compare(&["ROUND_ROBIN", "RING_HASH"], &["udd", "du"], &none);
    compare(&["RANDOM"], &["d"], &none);
}

#[test]
fn panic() {
    let none = json!({});
    compare(ALL, &["huu"], &none);
    compare(ALL, &["uu", "uuuu"], &none);
    compare(&["ROUND_ROBIN"], &["uuhu", "uuu"], &none);
    compare(&["ROUND_ROBIN"], &["rrr"], &none);
    compare(&["ROUND_ROBIN"], &["huuuuuuu", "hh"], &none);
    for percent in [0.0, 20.0, 29.9, 100.0] {
        let threshold = json!({"common_lb_config": {"healthy_panic_threshold": {"value": percent}}});
        compare(&["ROUND_ROBIN", "RING_HASH"], &["huu"], &threshold);
        compare(&["ROUND_ROBIN", "RANDOM"], &["uu", "u"], &threshold);
        compare(&["LEAST_REQUEST"], &["hh"], &threshold);
    }
}

#[test]
fn requests_may_fail_in_panic() {
    let fails = json!({"common_lb_config": {"zone_aware_lb_config": {"fail_traffic_on_panic": true}}});
    compare(ALL, &["huu"], &fails);
    compare(&["ROUND_ROBIN", "MAGLEV"], &["uu", "uu"], &fails);
    compare(&["ROUND_ROBIN"], &["huuu", "hh"], &fails);
    compare(&["ROUND_ROBIN"], &["huuu", "huu"], &fails);
}

#[test]
fn weights_may_count_for_health() {
    let weighted = json!({"load_assignment": {"policy": {"weighted_priority_health": true}}});
    compare(ALL, &["1h3u", "h"], &weighted);
    compare(&["ROUND_ROBIN"], &["9h1u", "h"], &weighted);
    compare(&["ROUND_ROBIN"], &["1h1d8u", "h"], &weighted);
    compare(&["ROUND_ROBIN"], &["1h9r", "h"], &weighted);
    compare(&["ROUND_ROBIN"], &["9uhh"], &weighted);
    compare(&["ROUND_ROBIN"], &["1h9u", "9u1h"], &weighted);
}
