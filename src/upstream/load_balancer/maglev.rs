//! A table of fixed size whose entries the hosts take in turns, each in an order of its own.
//!
//! Mirrors `MaglevTable` of Envoy's `source/common/upstream/maglev_lb.cc`. The turns go by the hosts' keys, as in 1.40, and not by
//! their place in the list.

use std::sync::Arc;

use super::hashing::{HashingTable, HostShare, TableFactory};
use super::hashing_config::{
    ConsistentHashingLbConfig, HashingOptions, HashingPolicy, LocalityWeightedLbConfig,
};
use super::{LoadBalancerConfig, LoadBalancerFactory};
use crate::common::xxhash::xxh64;
use crate::config::error::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::message;

/// Maglev among the extensions.
pub static MAGLEV: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.maglev",
    &["envoy.extensions.load_balancing_policies.maglev.v3.Maglev"],
    |r| {
        let config = MaglevPolicy::read(r)?;
        let locality = config.locality_weighted_lb_config.as_ref();
        let options = HashingOptions::of_policy(&config.consistent_hashing_lb_config, locality);
        Ok(policy(r, "table_size", config.table_size, options))
    },
)
.or_around(of_cluster);

const DEFAULT_TABLE_SIZE: u32 = 65_537;
/// The API's rule.
const LARGEST_TABLE_SIZE: u32 = 5_000_011;

message! {
    /// `MaglevLbConfig` of a cluster.
    pub struct OfCluster = "envoy.config.cluster.v3.Cluster.MaglevLbConfig" {
        /// A prime number; default 65 537.
        pub table_size: u32 = DEFAULT_TABLE_SIZE,
    }
}

message! {
    /// The extension.
    pub struct MaglevPolicy = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev" {
        /// A prime number; default 65 537.
        pub table_size: u32 = DEFAULT_TABLE_SIZE,
        /// What all that hash say alike.
        pub consistent_hashing_lb_config: ConsistentHashingLbConfig,
        /// Places of hosts have weights.
        pub locality_weighted_lb_config: Option<LocalityWeightedLbConfig>,
    }
}

fn of_cluster(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let config: OfCluster = r.message("maglev_lb_config")?.unwrap_or_default();
    let options = HashingOptions::of_cluster(r)?;
    Ok(policy(r, "maglev_lb_config.table_size", config.table_size, options))
}

/// `field` is where the size stands.
fn policy(
    r: &MessageReader<'_>,
    field: &str,
    table_size: u32,
    options: HashingOptions,
) -> Arc<dyn LoadBalancerConfig> {
    // What is larger has been refused.
    if table_size <= LARGEST_TABLE_SIZE && !is_prime(table_size) {
        r.refuse(field, "The table size of maglev must be prime number");
    }
    HashingPolicy::new(Box::new(Maglev { table_size }), options, |scope| {
        let stats = MaglevStats::new(&scope.create_scope("maglev_lb."));
        Box::new(move |_, per_host| {
            stats.min_entries_per_host.set(per_host[0]);
            stats.max_entries_per_host.set(per_host[1]);
        })
    })
}

crate::stats_struct! {
    /// `maglev_lb.`
    struct MaglevStats {
        counters: [],
        gauges: [max_entries_per_host, min_entries_per_host],
        histograms: [],
    }
}

/// How tables are made.
#[derive(Debug)]
struct Maglev {
    table_size: u32,
}

fn is_prime(number: u32) -> bool {
    number > 1 && !(2..=number.isqrt()).any(|divisor| number.is_multiple_of(divisor))
}

/// Whose each entry is.
#[derive(Debug)]
struct Table {
    entries: Vec<u32>,
    /// The fewest and the most that a host has.
    per_host: [u64; 2],
}

/// A host that takes entries.
struct Taker {
    number: u32,
    weight: f64,
    offset: u64,
    skip: u64,
    next: u64,
    target: f64,
    taken: u64,
}

impl TableFactory for Maglev {
    fn make(&self, hosts: &[HostShare]) -> Box<dyn HashingTable> {
        const FREE: u32 = u32::MAX;
        let size = u64::from(self.table_size);
        let mut keys: Vec<(u32, &HostShare)> = (0..).zip(hosts).collect();
        keys.sort_by(|a, b| a.1.key.cmp(&b.1.key));
        let taker = |(number, host): &(u32, &HostShare)| Taker {
            number: *number,
            weight: host.weight,
            offset: xxh64(host.key.as_bytes(), 0) % size,
            skip: xxh64(host.key.as_bytes(), 1) % (size - 1) + 1,
            next: 0,
            target: 0.0,
            taken: 0,
        };
        let mut takers: Vec<_> = keys.iter().map(taker).collect();
        let most = hosts.iter().map(|host| host.weight).fold(0.0, f64::max);
        let mut entries = vec![FREE; size as usize];
        let mut left = size;
        'full: for round in 1_u64.. {
            for taker in &mut takers {
                if round as f64 * taker.weight < taker.target {
                    continue;
                }
                taker.target += most;
                let mut entry = taker.entry(size);
                while entries[entry] != FREE {
                    taker.next += 1;
                    entry = taker.entry(size);
                }
                entries[entry] = taker.number;
                taker.next += 1;
                taker.taken += 1;
                left -= 1;
                if left == 0 {
                    break 'full;
                }
            }
        }
        let taken = || takers.iter().map(|taker| taker.taken);
        // Of one host alone Envoy does not count the entries.
        let per_host =
            if takers.len() == 1 { [1, 1] } else { [taken().min().unwrap_or(0), taken().max().unwrap_or(0)] };
        Box::new(Table { entries, per_host })
    }
}

impl Taker {
    fn entry(&self, size: u64) -> usize {
        ((self.offset + self.skip * self.next) % size) as usize
    }
}

impl HashingTable for Table {
    fn place(&self, hash: u64, attempt: u32) -> Option<usize> {
        let hash = if attempt > 0 { hash ^ (!0 - u64::from(attempt) + 1) } else { hash };
        self.entries.get((hash % self.entries.len() as u64) as usize).map(|number| *number as usize)
    }

    fn figures(&self) -> (u64, [u64; 2]) {
        (self.entries.len() as u64, self.per_host)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::endpoint::HealthStatus::Healthy;
    use crate::upstream::load_balancer::test_hosts::TestHosts;

    #[test]
    fn entries_are_shared_by_weight() {
        let config =
            json!({ "name": "a", "lb_policy": "MAGLEV", "maglev_lb_config": { "table_size": 1009 } });
        let hosts = TestHosts::of(config);
        hosts.update(0, &[(1, 1, Healthy), (2, 3, Healthy)]);
        let main = hosts.info.load_balancer().thread_aware(&hosts.info).unwrap();
        main.refresh(&hosts.set);
        let stats = MaglevStats::new(&hosts.info.scope().create_scope("maglev_lb."));
        let shown = [stats.min_entries_per_host.value(), stats.max_entries_per_host.value()];
        assert_eq!(shown, [253, 756]);
        let balancer = hosts.info.load_balancer().create(&hosts.params());
        let counts = hosts.counts(&*balancer, 4000);
        // Ten standard deviations are 270.
        assert!((730..1270).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn primes_are_told_from_other_numbers() {
        let primes: Vec<_> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(LARGEST_TABLE_SIZE) && !is_prime(5_000_013));
        assert!(is_prime(u32::MAX - 4) && !is_prime(u32::MAX));
    }
}
