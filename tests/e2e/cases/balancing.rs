//! Which of several hosts a request goes to.

use crate::harness::{Kind, Launch, PATIENCE, ParsedReply, Proxy, minimal, new_directory, proxies};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// Keys that are asked for.
const KEYS: usize = 1000;

/// Hosts that answer with their number, for as long as the test runs.
fn hosts(count: usize) -> Vec<u16> {
    let host = |number: usize| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream, number));
            }
        });
        port
    };
    (0..count).map(host).collect()
}

/// Requests without a body, each with the same answer.
fn answer(mut stream: TcpStream, number: usize) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read.extend_from_slice(&buffer[..length]);
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            read.drain(..end + 4);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// A bootstrap whose one listener leads to a cluster of hosts with these weights.
fn bootstrap(directory: &std::path::Path, ports: &[u16], weights: &[u32], cluster: &Value) -> Value {
    let endpoint = |(port, weight): (&u16, &u32)| {
        json!({
            "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}},
            "load_balancing_weight": weight,
        })
    };
    let endpoints: Vec<_> = ports.iter().zip(weights).map(endpoint).collect();
    let mut cluster = cluster.clone();
    cluster["name"] = json!("a");
    cluster["load_assignment"] = json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": endpoints}]});
    let mut document = minimal(directory);
    let any = |name: &str| format!("type.googleapis.com/{name}");
    let routes = json!([{
        "match": {"prefix": "/"},
        "route": {"cluster": "a", "hash_policy": [{"header": {"header_name": "x-key"}}]},
    }]);
    document["static_resources"] = json!({
        "listeners": [{
            "name": "l",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "http",
                "typed_config": {
                    "@type": any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "l",
                    "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
                    "http_filters": [{
                        "name": "router",
                        "typed_config": {"@type": any("envoy.extensions.filters.http.router.v3.Router")},
                    }],
                },
            }]}],
        }],
        "clusters": [cluster],
    });
    document
}

/// A kept-alive client of a proxy.
struct Keyed {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Keyed {
    fn connect(proxy: &Proxy) -> Keyed {
        let port = proxy.admin.listeners()["l"];
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Keyed { stream, read: Vec::new() }
    }

    /// The number of the host that answers to a key, or the status where none does.
    fn ask(&mut self, key: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-key: {key}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).expect("a request");
        let mut buffer = [0; 4096];
        loop {
            let whole = ParsedReply::parse(&self.read).filter(|reply| {
                reply.header("content-length").is_some_and(|length| length == reply.body.len().to_string())
            });
            if let Some(reply) = whole {
                self.read.clear();
                return match reply.status {
                    200 => String::from_utf8_lossy(&reply.body).into_owned(),
                    status => format!("status {status}"),
                };
            }
            let length = self.stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&buffer[..length]);
        }
    }
}

fn start(kind: Kind, ports: &[u16], weights: &[u32], cluster: &Value) -> Proxy {
    let directory = new_directory(kind);
    let document = bootstrap(&directory, ports, weights, cluster);
    Proxy::start(kind, &document, directory, Launch::default())
}

/// Where the keys lead, and what statistics say of the table.
fn outcome(
    kind: Kind,
    ports: &[u16],
    weights: &[u32],
    cluster: &Value,
) -> (Vec<String>, BTreeMap<String, u64>) {
    let proxy = start(kind, ports, weights, cluster);
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
            std::fs::write(&path, bootstrap(&directory, &[1], &[1], cluster).to_string()).expect("a file");
            let output = kind.run(&["--mode", "validate", "-c", &path.to_string_lossy()]);
            let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{kind:?} {cluster}: {said}");
            assert!(said.contains(message), "{kind:?} {cluster}: {said}");
            std::fs::remove_dir_all(&directory).expect("the directory gone");
        }
    }
}
