//! What a choice of a host costs, by policy and by the number of hosts, and what a change of hosts does.
//!
//!     cargo run --profile dist --example balancers

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use legate::config::core::Locality;
use legate::config::endpoint::HealthStatus;
use legate::config::{UnknownFields, parse_bootstrap};
use legate::filters::LINKED;
use legate::network::Address;
use legate::stats::Store;
use legate::upstream::load_balancer::{LoadBalancerContext, LoadBalancerParams};
use legate::upstream::{ClusterInfoImpl, HostImpl, HostSharedPtr, HostVectors, PrioritySetImpl};
use serde_json::{Value, json};

const CHOICES: u64 = 1_000_000;

/// Each request is another one.
struct Numbered(u64);

impl LoadBalancerContext for Numbered {
    fn compute_hash_key(&self) -> Option<u64> {
        Some(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

fn info(cluster: Value) -> Arc<ClusterInfoImpl> {
    let raw = json!({ "static_resources": { "clusters": [cluster] } });
    let mut bootstrap = parse_bootstrap(raw, UnknownFields::default(), &LINKED).expect("a bootstrap");
    let config = bootstrap.static_resources.clusters.remove(0);
    ClusterInfoImpl::new(&config, &Store::new(1).root_scope(), false).expect("a cluster")
}

fn hosts(info: &Arc<ClusterInfoImpl>, count: usize, is_weighted: bool) -> Arc<Vec<HostSharedPtr>> {
    let host = |number: usize| {
        let [a, b] = (number as u16).to_be_bytes();
        let weight = if is_weighted { 1 + number as u32 % 7 } else { 1 };
        let address = Address::Ip(([127, 0, a, b], 80).into());
        HostImpl::new(info.clone(), "", address, Locality::default(), 0, weight, HealthStatus::Healthy)
    };
    Arc::new((0..count).map(host).collect())
}

fn main() {
    println!("policy                    hosts   ns/choice   us/change");
    for (policy, is_weighted) in [
        ("ROUND_ROBIN", false),
        ("ROUND_ROBIN", true),
        ("LEAST_REQUEST", false),
        ("LEAST_REQUEST", true),
        ("RANDOM", false),
        ("RING_HASH", true),
        ("MAGLEV", true),
    ] {
        for count in [10, 1_000, 10_000] {
            let info = info(json!({ "name": "a", "lb_policy": policy }));
            let set = PrioritySetImpl::new();
            let params = LoadBalancerParams { priority_set: &set, local_priority_set: None, info: &info };
            let balancer = info.load_balancer().create(&params);
            let hosts = hosts(&info, count, is_weighted);
            let change = Instant::now();
            set.update_hosts(0, HostVectors::partition(hosts.clone(), &Arc::default()), &hosts, &[]);
            // The first choice makes what it needs.
            assert!(balancer.choose_host(&Numbered(0)).is_some());
            let change = change.elapsed();
            let start = Instant::now();
            for number in 0..CHOICES {
                black_box(balancer.choose_host(black_box(&Numbered(number))));
            }
            let name = format!("{policy}{}", if is_weighted { ", weights" } else { "" });
            let per_choice = start.elapsed().as_nanos() as u64 / CHOICES;
            println!("{name:25} {count:6} {per_choice:11} {:11}", change.as_micros());
        }
    }
}
