//! Options of clusters: what each does with connections, requests and statistics is the same with both proxies.

use super::dns_clusters::{Upstreams, alike, cluster as dns_cluster, hosts, site, wait_for};
use crate::harness::{DnsAnswer, DnsServer, Wire, proxies};
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

fn host(address: &str, port: u16) -> Value {
    json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}})
}

fn cluster(name: &str, hosts: &[Value], more: &Value) -> Value {
    let mut cluster = json!({
        "name": name, "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    });
    merge(&mut cluster, more);
    cluster
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.iter().for_each(|(key, value)| merge(into.entry(key).or_insert(json!({})), value));
        }
        (into, more) => *into = more.clone(),
    }
}

fn ask(wire: &mut Wire) -> String {
    wire.send("GET / HTTP/1.1\r\nhost: a.test\r\nx-cluster: c\r\n\r\n");
    let answer = String::from_utf8_lossy(&wire.answer(false)).into_owned();
    let lines = answer.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !["date", "x-envoy-upstream-service-time", "x-pad", "content-length"].contains(&name)
    });
    lines.collect::<Vec<_>>().join("|")
}

/// What of a cluster's statistics has moved.
fn moved(site: &crate::harness::Site, cluster: &str) -> Vec<String> {
    let prefix = format!("cluster.{cluster}.");
    let of = |(name, value): (&String, &u64)| Some(format!("{} {value}", name.strip_prefix(&prefix)?));
    let mut moved: Vec<String> =
        site.proxy.admin.stats().iter().filter(|(_, value)| **value > 0).filter_map(of).collect();
    moved.retain(|line| !line.contains("bytes"));
    moved.sort();
    moved
}

#[test]
fn clusters_of_each_kind_have_the_same_statistics() {
    let here = [host("127.0.0.1", 80)];
    let by_name = [host("localhost", 80)];
    let policy = |name: &str| json!({"lb_policy": name});
    let tracked = json!({"circuit_breakers": {"thresholds": [{"track_remaining": true, "retry_budget": {}, "max_retries": 7}]}});
    let clusters = [
        cluster("static", &here, &json!({})),
        cluster("strict", &by_name, &json!({"type": "STRICT_DNS"})),
        cluster("logical", &by_name, &json!({"type": "LOGICAL_DNS"})),
        json!({"name": "original", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}),
        cluster("least", &here, &policy("LEAST_REQUEST")),
        cluster("random", &here, &policy("RANDOM")),
        cluster("ring", &here, &policy("RING_HASH")),
        cluster("maglev", &here, &policy("MAGLEV")),
        cluster("tracked", &here, &tracked),
        cluster("other", &here, &json!({"alt_stat_name": "named"})),
    ];
    alike(|proxy| {
        let site = site(proxy, &clusters);
        let stats = site.proxy.admin.stats();
        let mut lines: Vec<String> = stats
            .iter()
            .filter(|(name, _)| name.starts_with("cluster.") || name.starts_with("cluster_manager."))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        lines.sort();
        assert!(lines.len() > 900, "{}", lines.len());
        lines
    });
}

#[test]
fn requests_that_are_dropped_for_overload() {
    for (share, all) in [(100, true), (0, false)] {
        alike(|proxy| {
            let upstreams = Upstreams::start(1);
            let drop = json!({"category": "a", "drop_percentage": {"numerator": share}});
            let policy = json!({"load_assignment": {"policy": {"drop_overloads": [drop]}}});
            let site = site(proxy, &[cluster("c", &[host("127.0.1.1", upstreams.port)], &policy)]);
            let answer = ask(&mut Wire::connect(site.port(0)));
            assert_eq!(answer.contains("drop overload"), all, "{proxy:?} {answer}");
            [vec![answer], moved(&site, "c")].concat()
        });
    }
}

#[test]
fn a_share_of_requests_is_dropped_for_overload() {
    alike(|proxy| {
        let upstreams = Upstreams::start(1);
        let drop =
            json!({"category": "a", "drop_percentage": {"numerator": 500_000, "denominator": "MILLION"}});
        let policy = json!({"load_assignment": {"policy": {"drop_overloads": [drop]}}});
        let site = site(proxy, &[cluster("c", &[host("127.0.1.1", upstreams.port)], &policy)]);
        let mut wire = Wire::connect(site.port(0));
        // Of 200 there are always both.
        let mut answers: Vec<String> = (0..200).map(|_| ask(&mut wire)).collect();
        answers.sort();
        answers.dedup();
        answers
    });
}

#[test]
fn a_host_has_no_more_connections_than_it_may() {
    alike(|proxy| {
        let upstreams = Upstreams::start(1);
        let one = json!({"circuit_breakers": {"per_host_thresholds": [{"max_connections": 1}]}});
        let site = site(proxy, &[cluster("c", &[host("127.0.1.1", upstreams.port)], &one)]);
        let slow = |_| {
            let mut wire = Wire::connect(site.port(0));
            wire.send("GET /slow HTTP/1.1\r\nhost: a.test\r\nx-cluster: c\r\n\r\n");
            wire
        };
        let mut wires: Vec<Wire> = (0..2).map(slow).collect();
        let stat = |name: &str| site.proxy.admin.stat(&format!("cluster.c.{name}")).unwrap_or_default();
        // On one worker they share a pool; on two, each pool has one, whatever the limit.
        wait_for(&true, || stat("upstream_rq_pending_active") + stat("upstream_rq_active") == 2);
        let connections = stat("upstream_cx_total");
        assert!(stat("upstream_cx_overflow") > 0, "{proxy:?}");
        upstreams.let_go();
        let answers: Vec<u8> = wires.iter_mut().map(|wire| wire.answer(false)[9]).collect();
        vec![format!("{answers:?} {}", connections <= 2)]
    });
}

/// Where connections come from, and how large their segments may be.
type Connections = Arc<Mutex<Vec<(String, u32)>>>;

/// An upstream whose responses have a header of so many bytes, and what it sees of each connection.
fn upstream(header: usize) -> (u16, Connections) {
    let listener = TcpListener::bind("[::]:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let told = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let peer = stream.peer_addr().expect("its peer").ip().to_canonical().to_string();
            let size = getsockopt(&stream, sockopt::TcpMaxSeg).unwrap_or_default();
            told.lock().expect("no panic").push((peer, size));
            let mut wire = Wire::new(stream);
            while !wire.head().is_empty() {
                let answer =
                    format!("HTTP/1.1 200 OK\r\nx-pad: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(header));
                if wire.stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    (port, seen)
}

#[test]
fn heads_of_responses_up_to_their_limit() {
    for (size, limit) in [(1900, 2), (2100, 2), (60_000, 0), (81_000, 80), (90_000, 0), (90_000, 100)] {
        alike(|proxy| {
            let (port, _) = upstream(size);
            let more = match limit {
                0 => json!({}),
                limit => json!({"common_http_protocol_options": {"max_response_headers_kb": limit}}),
            };
            let site = site(proxy, &[cluster("c", &[host("127.0.0.1", port)], &more)]);
            let answer = ask(&mut Wire::connect(site.port(0)));
            [vec![format!("{size} {limit} {answer}")], moved(&site, "c")].concat()
        });
    }
}

#[test]
fn where_connections_come_from() {
    let address = |text: &str| json!({"address": text, "port_value": 0});
    let segments = json!([{"level": 6, "name": 2, "int_value": 600, "state": "STATE_PREBIND"}]);
    let binds = [
        json!({"source_address": address("127.0.0.9")}),
        json!({"socket_options": segments}),
        json!({"source_address": address("127.0.0.9"), "socket_options": segments}),
        json!({"source_address": address("::1"), "extra_source_addresses": [{"address": address("127.0.0.7")}], "socket_options": segments}),
        json!({"source_address": address("::1"), "socket_options": segments,
               "extra_source_addresses": [{"address": address("127.0.0.7"), "socket_options": {}}]}),
        json!({"source_address": address("::1"), "additional_source_addresses": [address("127.0.0.6")]}),
        // That cannot be bound, unless the kernel does not look.
        json!({"source_address": address("203.0.113.9")}),
        json!({"source_address": address("203.0.113.9"), "freebind": true}),
        json!({"source_address": address("::1")}),
        // Nobody knows such an option.
        json!({"socket_options": [{"level": 6, "name": 9999, "int_value": 1}]}),
        json!({"socket_options": [{"level": 6, "name": 9999, "int_value": 1, "state": "STATE_LISTENING"}]}),
    ];
    for bind in binds {
        alike(|proxy| {
            let (port, seen) = upstream(1);
            let bound = json!({"upstream_bind_config": bind});
            let site = site(proxy, &[cluster("c", &[host("127.0.0.1", port)], &bound)]);
            let answer = ask(&mut Wire::connect(site.port(0)));
            let seen = seen
                .lock()
                .expect("no panic")
                .iter()
                .map(|(peer, size)| format!("{peer} {}", *size <= 600))
                .collect::<Vec<_>>();
            // What cannot be bound is connected nevertheless, and maybe seen.
            let seen = if answer.starts_with("HTTP/1.1 200") { seen } else { Vec::new() };
            let errors = site.proxy.admin.stat("cluster.c.bind_errors");
            vec![format!("{bind} {answer} {seen:?} {errors:?}")]
        });
    }
}

#[test]
fn a_change_of_hosts_may_close_all_connections() {
    for closes in [true, false] {
        for proxy in proxies() {
            let upstreams = Upstreams::start(2);
            let dns = DnsServer::start();
            dns.set("h.test", DnsAnswer::of(&["127.0.1.1"]));
            let more = json!({
                "dns_refresh_rate": "0.05s", "dns_lookup_family": "V4_ONLY",
                "common_lb_config": {"close_connections_on_host_set_change": closes},
            });
            let site =
                site(proxy, &[dns_cluster("c", "STRICT_DNS", &dns, &[("h.test", upstreams.port)], &more)]);
            let mut wire = Wire::connect(site.port(0));
            assert!(ask(&mut wire).ends_with("127.0.1.1"), "{proxy:?}");
            dns.set("h.test", DnsAnswer::of(&["127.0.1.1", "127.0.1.2"]));
            wait_for(&2, || hosts(&site, "c").len());
            let active = || site.proxy.admin.stat("cluster.c.upstream_cx_active");
            if closes {
                wait_for(&Some(0), active);
            } else {
                assert_eq!(active(), Some(1), "{proxy:?}");
            }
            assert!(ask(&mut wire).starts_with("HTTP/1.1 200"), "{proxy:?}");
        }
    }
}

#[test]
fn the_protocol_of_the_downstream() {
    alike(|proxy| {
        let upstreams = Upstreams::start(1);
        let more = json!({"protocol_selection": "USE_DOWNSTREAM_PROTOCOL"});
        let site = site(proxy, &[cluster("c", &[host("127.0.1.1", upstreams.port)], &more)]);
        vec![ask(&mut Wire::connect(site.port(0)))]
    });
}
