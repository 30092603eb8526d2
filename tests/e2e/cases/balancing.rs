//! Which of several hosts a request goes to.

use crate::harness::{Keyed, Kind, PATIENCE, Spread, new_directory, numbered_hosts as hosts, proxies};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Keys that are asked for.
const KEYS: usize = 1000;

/// Hosts with these weights.
fn weighted(ports: &[u16], weights: &[u32], cluster: &Value) -> Spread {
    let spread = Spread::new(ports);
    let host =
        |(number, weight): (usize, &u32)| spread.host(number, json!({"load_balancing_weight": weight}));
    let hosts: Vec<_> = weights.iter().enumerate().map(host).collect();
    spread.endpoints(json!([{"lb_endpoints": hosts}])).cluster(cluster.clone())
}

/// Where the keys lead, and what statistics say of the table.
fn outcome(
    kind: Kind,
    ports: &[u16],
    weights: &[u32],
    cluster: &Value,
) -> (Vec<String>, BTreeMap<String, u64>) {
    let proxy = weighted(ports, weights, cluster).start(kind);
    let mut client = Keyed::connect(&proxy);
    let chosen = (0..KEYS).map(|i| client.ask(&format!("key-{i}"))).collect();
    let is_of_the_table = |name: &String| name.contains("ring_hash_lb.") || name.contains("maglev_lb.");
    let statistics = proxy.admin.stats().into_iter().filter(|(name, _)| is_of_the_table(name)).collect();
    (chosen, statistics)
}

/// Envoy chooses the same host for each key.
fn same_host_for_each_key(cluster: &Value) {
    let ports = hosts(5);
    for weights in [&[1, 1, 1, 1, 1][..], &[1, 2, 3, 1], &[7, 1, 100], &[3]] {
        let outcomes: Vec<_> =
            proxies().into_iter().map(|kind| outcome(kind, &ports, weights, cluster)).collect();
        let [(ours, our_statistics), (theirs, their_statistics)] = outcomes.as_slice() else { return };
        let differ = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).count();
        assert_eq!(differ, 0, "of {KEYS} keys with weights {weights:?}: {ours:?} instead of {theirs:?}");
        assert_eq!(our_statistics, their_statistics, "{weights:?}");
        assert!(!our_statistics.is_empty());
    }
}

#[test]
fn a_ring_leads_keys_where_envoys_does() {
    same_host_for_each_key(&json!({"lb_policy": "RING_HASH"}));
}

#[test]
fn a_small_ring_of_another_hash_leads_keys_where_envoys_does() {
    same_host_for_each_key(&json!({
        "lb_policy": "RING_HASH",
        "ring_hash_lb_config": {
            "minimum_ring_size": 10, "maximum_ring_size": 100, "hash_function": "MURMUR_HASH_2",
        },
    }));
}

#[test]
fn maglev_leads_keys_where_envoys_does() {
    same_host_for_each_key(&json!({"lb_policy": "MAGLEV"}));
}

#[test]
fn a_small_maglev_table_of_a_policy_leads_keys_where_envoys_does() {
    same_host_for_each_key(&json!({"load_balancing_policy": {"policies": [{"typed_extension_config": {
        "name": "maglev",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
            "table_size": 1009,
        },
    }}]}}));
}

/// Hosts by places, weights, names and keys of their own; all of them in two priorities.
#[test]
fn keys_lead_where_envoys_do_whatever_is_said_of_hosts() {
    let ports = hosts(6);
    let spread = Spread::new(&ports);
    let key = |key: &str| json!({"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": key}}}});
    let weight = |weight: u32| json!({"load_balancing_weight": weight});
    let endpoints = json!([
        {"locality": {"zone": "b"}, "load_balancing_weight": 3, "lb_endpoints": [
            spread.host(0, weight(5)), spread.host(1, key("one")),
        ]},
        {"locality": {"zone": "a"}, "load_balancing_weight": 1, "lb_endpoints": [
            spread.host(2, weight(2)), spread.host(3, key("two")), spread.host(4, json!({"health_status": "UNHEALTHY"})),
        ]},
        {"priority": 1, "locality": {"zone": "c"}, "load_balancing_weight": 1, "lb_endpoints": [spread.host(5, json!({}))]},
    ]);
    let factor = json!({"load_assignment": {"policy": {"overprovisioning_factor": 100}}});
    for common in [json!({}), json!({"locality_weighted_lb_config": {}})] {
        for lb_policy in ["RING_HASH", "MAGLEV"] {
            let spread = Spread::new(&ports)
                .endpoints(endpoints.clone())
                .cluster(factor.clone())
                .cluster(json!({"lb_policy": lb_policy, "common_lb_config": common}));
            let chosen = |kind| {
                let proxy = spread.start(kind);
                let mut client = Keyed::connect(&proxy);
                (0..KEYS).map(|i| client.ask(&format!("key-{i}"))).collect::<Vec<_>>()
            };
            let outcomes: Vec<_> = proxies().into_iter().map(chosen).collect();
            let [ours, theirs] = outcomes.as_slice() else { return };
            assert_eq!(ours, theirs, "{lb_policy} {common}");
            let missing = ["0", "1", "2", "3", "5"].iter().find(|host| !ours.contains(&host.to_string()));
            assert_eq!(missing, None, "{lb_policy} {common}");
        }
    }
}

/// Requests that are answered when all have come.
struct Gate {
    arrived: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn wait(&self, until: impl Fn(usize, bool) -> bool) {
        let arrived = self.arrived.lock().expect("the lock");
        let waits = |now: &mut (usize, bool)| !until(now.0, now.1);
        let (_arrived, result) =
            self.changed.wait_timeout_while(arrived, PATIENCE, waits).expect("the lock again");
        assert!(!result.timed_out(), "nothing comes any more");
    }

    fn change(&self, change: impl Fn(&mut (usize, bool))) {
        change(&mut self.arrived.lock().expect("the lock"));
        self.changed.notify_all();
    }
}

/// Hosts that answer when the gate opens.
fn hosts_behind(count: usize, gate: &Arc<Gate>) -> Vec<u16> {
    let host = |number: usize| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let gate = gate.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let gate = gate.clone();
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    if stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                        gate.change(|now| now.0 += 1);
                        gate.wait(|_, open| open);
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                        _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
        });
        port
    };
    (0..count).map(host).collect()
}

/// Where requests go that wait for each other.
fn chosen_at_a_time(kind: Kind, gate: &Gate, spread: &Spread, keys: &[usize]) -> Vec<String> {
    gate.change(|now| *now = (0, false));
    let proxy = spread.start(kind);
    let send = |(i, key): (usize, &usize)| {
        let mut client = Keyed::connect(&proxy);
        client.send(&format!("x-key: key-{key}\r\n"));
        gate.wait(|arrived, _| arrived > i);
        client
    };
    let clients: Vec<_> = keys.iter().enumerate().map(send).collect();
    gate.change(|now| now.1 = true);
    clients.into_iter().map(|mut client| client.answer()).collect()
}

#[test]
fn loads_are_bounded_as_in_envoy() {
    let old = |lb_policy: &str, factor: u32| {
        json!({"lb_policy": lb_policy, "common_lb_config": {
        "consistent_hashing_lb_config": {"hash_balance_factor": factor}}})
    };
    let new = json!({"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "r", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
        "consistent_hashing_lb_config": {"hash_balance_factor": 120},
    }}}]}});
    let (same, several) = ([7; 20], [1, 2, 3, 1, 1, 1, 2, 9, 9, 9, 4, 4, 5, 5, 1, 1, 1, 1]);
    for (cluster, weights, keys) in [
        (old("RING_HASH", 100), &[1, 1, 1, 1, 1][..], &same[..]),
        (old("MAGLEV", 150), &[1, 1, 1, 1], &several),
        (old("RING_HASH", 200), &[1, 4, 2], &several),
        (new, &[1, 1, 2, 1], &several),
    ] {
        let gate = Arc::new(Gate { arrived: Mutex::default(), changed: Condvar::new() });
        let spread = weighted(&hosts_behind(weights.len(), &gate), weights, &cluster);
        let outcomes: Vec<_> =
            proxies().into_iter().map(|kind| chosen_at_a_time(kind, &gate, &spread, keys)).collect();
        let [ours, theirs] = outcomes.as_slice() else { return };
        assert_eq!(ours, theirs, "{cluster} {weights:?}");
    }
}

#[test]
fn random_and_least_request_spread_requests_as_envoy_does() {
    let ports = hosts(2);
    for (cluster, weights, range) in [
        (json!({"lb_policy": "RANDOM"}), [1, 50], 400..600),
        (json!({"lb_policy": "LEAST_REQUEST"}), [1, 1], 400..600),
        (json!({"lb_policy": "LEAST_REQUEST"}), [1, 4], 200..201),
        (
            json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 10}}),
            [1, 1],
            400..600,
        ),
    ] {
        for kind in proxies() {
            let (chosen, _) = outcome(kind, &ports, &weights, &cluster);
            let first = chosen.iter().filter(|host| *host == "0").count();
            let all = chosen.iter().all(|host| ["0", "1"].contains(&host.as_str()));
            assert!(all && range.contains(&first), "{kind:?} {cluster} {weights:?}: {first} of {KEYS}");
        }
    }
}

#[test]
fn what_is_refused() {
    let policy = |name: &str, mut config: Value| {
        config["@type"] =
            json!(format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{name}"));
        let extension = json!({"name": name, "typed_config": config});
        json!({"load_balancing_policy": {"policies": [{"typed_extension_config": extension}]}})
    };
    let hostname = json!({"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}});
    let of_maglev = |size: u32| json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": size}});
    let sizes = json!({"minimum_ring_size": 9, "maximum_ring_size": 3});
    let not_prime = "The table size of maglev must be prime number";
    let turned = "ring hash: minimum_ring_size (9) > maximum_ring_size (3)";
    let unnamed = "Cannot use hostname for consistent hashing loadbalancing for cluster of type: 'envoy.cluster.static'";
    let cases = [
        (of_maglev(8), not_prime),
        (of_maglev(u32::MAX - 4), "value must be less than or equal to 5000011"),
        (policy("maglev.v3.Maglev", json!({"table_size": 8})), not_prime),
        (json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": sizes.clone()}), turned),
        (policy("ring_hash.v3.RingHash", sizes), turned),
        (json!({"lb_policy": "RING_HASH", "common_lb_config": hostname}), unnamed),
        (json!({"common_lb_config": hostname}), unnamed),
    ];
    for kind in proxies() {
        for (cluster, message) in &cases {
            let directory = new_directory(kind);
            let path = directory.join("bootstrap.json");
            std::fs::write(&path, weighted(&[1], &[1], cluster).document(&directory).to_string())
                .expect("a file");
            let output = kind.run(&["--mode", "validate", "-c", &path.to_string_lossy()]);
            let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{kind:?} {cluster}: {said}");
            assert!(said.contains(message), "{kind:?} {cluster}: {said}");
            std::fs::remove_dir_all(&directory).expect("the directory gone");
        }
    }
}
