//! What things take of the proxy's memory.

use crate::harness::{Kind, Launch, Proxy, new_directory};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// A cluster under a name as istio makes them, with three hosts.
fn cluster(number: usize) -> Value {
    let name = format!("outbound|80||service-{number:05}.namespace.svc.cluster.local");
    let endpoint = |host: usize| {
        let address = format!("10.{}.{}.{host}", number / 250, number % 250);
        json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": 8080}}}})
    };
    json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [endpoint(1), endpoint(2), endpoint(3)]}
    ]}})
}

/// Bytes of its own that a proxy with so many clusters and two workers has in memory: how much of its code is there is
/// another matter.
fn resident(clusters: usize) -> usize {
    let clusters: Vec<Value> = (0..clusters).map(cluster).collect();
    let admin = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
    let bootstrap = json!({"admin": admin, "static_resources": {"clusters": clusters}});
    let launch = Launch { workers: 2, patience: Duration::from_secs(60), ..Launch::default() };
    let proxy = Proxy::start(Kind::Legate, &bootstrap, new_directory(Kind::Legate), launch);
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
}

#[test]
fn a_cluster_takes_ten_kilobytes_at_most() {
    let (few, many) = (100, 1600);
    let each = (resident(many) - resident(few)) / (many - few);
    assert!(each <= 10 * 1024, "{each} bytes");
    println!("{each} bytes a cluster");
}
