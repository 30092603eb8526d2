//! Which connections to hosts there are: those of one client, and those that are made before somebody needs them.

use crate::harness::{Action, Case, Kind, Site, Wire, proxies};
use serde_json::{Value, json};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

fn stat(site: &Site, kind: Kind, name: &str, value: u64) {
    let outcome = site.proxy.admin.wait_for_stat(&format!("cluster.case0.{name}"), value);
    assert_eq!(outcome, Ok(()), "{kind:?}: {name}");
}

fn ask(client: &mut Wire) {
    client.send(GET);
    assert!(client.answer(false).starts_with(b"HTTP/1.1 200"));
}

#[test]
fn connections_of_one_client() {
    for (own, expected) in [(true, 2), (false, 1)] {
        for kind in proxies() {
            let cluster = json!({
                "connection_pool_per_downstream_connection": own,
                "common_http_protocol_options": {"idle_timeout": "0.3s"},
                "circuit_breakers": {"thresholds": [{"max_connection_pools": 5, "track_remaining": true}]},
            });
            let case = Case::new("of one client").cluster(cluster).scripts(vec![vec![Action::Serve]; 3]);
            let site = Site::start(kind, &[&case]);
            let mut clients = [Wire::connect(site.port(0)), Wire::connect(site.port(0))];
            for client in [0, 1, 0, 1] {
                ask(&mut clients[client]);
            }
            stat(&site, kind, "upstream_cx_total", expected);
            stat(&site, kind, "upstream_cx_active", expected);
            stat(&site, kind, "circuit_breakers.default.remaining_cx_pools", 5 - expected);
            // A pool goes with its last connection.
            stat(&site, kind, "upstream_cx_active", 0);
            stat(&site, kind, "circuit_breakers.default.remaining_cx_pools", 5);
            ask(&mut clients[0]);
            stat(&site, kind, "upstream_cx_total", expected + 1);
        }
    }
}

/// So many requests at a time, and how many connections there are then.
fn preconnected(kind: Kind, cluster: &Value, requests: usize) -> u64 {
    let held = [Action::Head, Action::Pause(60_000)].to_vec();
    let case = Case::new("preconnected").cluster(cluster.clone()).scripts(vec![held; 20]);
    let site = Site::start(kind, &[&case]);
    let mut clients = Vec::new();
    for count in 1..=requests {
        let mut client = Wire::connect(site.port(0));
        client.send(GET);
        stat(&site, kind, "upstream_rq_active", count as u64);
        clients.push(client);
    }
    // What is connecting becomes ready: nothing else says so.
    std::thread::sleep(std::time::Duration::from_millis(100));
    site.proxy.admin.stat("cluster.case0.upstream_cx_total").unwrap_or(0)
}

#[test]
fn connections_before_they_are_needed() {
    for ratio in [1.0, 1.25, 1.5, 2.0, 3.0] {
        let policy = json!({"preconnect_policy": {"per_upstream_preconnect_ratio": ratio}});
        for requests in [1, 3] {
            let seen: Vec<u64> =
                proxies().iter().map(|kind| preconnected(*kind, &policy, requests)).collect();
            let least = (requests as f64 * ratio).ceil() as u64;
            assert!(seen.iter().all(|connections| *connections == seen[0]), "{ratio} {requests}: {seen:?}");
            assert!(seen[0] >= least, "{ratio} {requests}: {seen:?}");
        }
    }
    // Not beyond what there may be.
    let limited = json!({
        "preconnect_policy": {"per_upstream_preconnect_ratio": 3.0},
        "circuit_breakers": {"thresholds": [{"max_connections": 2}]},
    });
    for kind in proxies() {
        assert_eq!(preconnected(kind, &limited, 1), 2, "{kind:?}");
    }
}

#[test]
fn raw_connections_before_they_are_needed() {
    for kind in proxies() {
        let script = [Action::Send(b"hello".to_vec()), Action::Pause(60_000)].to_vec();
        let case = Case::new("raw")
            .tcp_proxy(json!({}))
            .cluster(json!({"preconnect_policy": {"per_upstream_preconnect_ratio": 2.0}}))
            .scripts(vec![script; 20]);
        let site = Site::start(kind, &[&case]);
        let mut first = Wire::connect(site.port(0));
        assert_eq!(first.take(5), b"hello", "{kind:?}");
        stat(&site, kind, "upstream_cx_total", 2);
    }
}
