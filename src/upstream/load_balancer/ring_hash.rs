//! A ring of numbers on which each host has many places: a request goes to the next place on it.
//!
//! Mirrors `RingHashLoadBalancer` of Envoy's `source/common/upstream/ring_hash_lb.cc`, place by place: the sums are those of doubles,
//! in Envoy's order.

use std::sync::Arc;

use super::hashing::{HashingTable, HostShare, TableFactory};
use super::hashing_config::{
    ConsistentHashingLbConfig, HashingOptions, HashingPolicy, LocalityWeightedLbConfig,
};
use super::{LoadBalancerConfig, LoadBalancerFactory};
use crate::common::murmur::murmur2;
use crate::common::xxhash::xxh64;
use crate::config::error::ConfigError;
use crate::config::reader::{EnumTable, FromMessage, MessageReader};
use crate::{enum_fields, message};

/// Ring hash among the extensions.
pub static RING_HASH: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.ring_hash",
    &["envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"],
    of_policy,
)
.or_around(of_cluster);

/// The size that a ring has at least and at most, where nobody says.
const SIZES: [u32; 2] = [1024, 8 * 1024 * 1024];

message! {
    /// `RingHashLbConfig` of a cluster.
    pub struct OfCluster = "envoy.config.cluster.v3.Cluster.RingHashLbConfig" {
        /// Places, at least; default 1024.
        pub minimum_ring_size: Option<u32>,
        /// Places, at most; default 8 388 608.
        pub maximum_ring_size: Option<u32>,
        /// What places are hashed with.
        pub hash_function: HashFunction,
    }
}

message! {
    /// The extension.
    pub struct RingHash = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash" {
        /// Places, at least; default 1024.
        pub minimum_ring_size: Option<u32>,
        /// Places, at most; default 8 388 608.
        pub maximum_ring_size: Option<u32>,
        /// What places are hashed with.
        pub hash_function: PolicyHash,
        /// What all that hash say alike.
        pub consistent_hashing_lb_config: Option<ConsistentHashingLbConfig>,
        /// The older way to say it.
        pub use_hostname_for_hashing: bool,
        /// The older way to say it.
        pub hash_balance_factor: Option<u32>,
        /// Places of hosts have weights.
        pub locality_weighted_lb_config: Option<LocalityWeightedLbConfig>,
    }
}

/// What places are hashed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashFunction {
    /// XXH64.
    #[default]
    XxHash,
    /// That of GCC.
    MurmurHash2,
}

impl HashFunction {
    /// API names.
    const TABLE: &EnumTable<Self> = &[("XX_HASH", Self::XxHash), ("MURMUR_HASH_2", Self::MurmurHash2)];
}

/// As the extension says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PolicyHash {
    /// XXH64.
    #[default]
    DefaultHash,
    /// XXH64.
    XxHash,
    /// That of GCC.
    MurmurHash2,
}

impl PolicyHash {
    /// API names.
    const TABLE: &EnumTable<Self> = &[
        ("DEFAULT_HASH", Self::DefaultHash),
        ("XX_HASH", Self::XxHash),
        ("MURMUR_HASH_2", Self::MurmurHash2),
    ];
}

enum_fields! { HashFunction, PolicyHash }

fn of_policy(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let config = RingHash::read(r)?;
    let hash_function = match config.hash_function {
        PolicyHash::MurmurHash2 => HashFunction::MurmurHash2,
        PolicyHash::DefaultHash | PolicyHash::XxHash => HashFunction::XxHash,
    };
    let common = config.consistent_hashing_lb_config.unwrap_or(ConsistentHashingLbConfig {
        use_hostname_for_hashing: config.use_hostname_for_hashing,
        hash_balance_factor: config.hash_balance_factor,
    });
    let options = HashingOptions::of_policy(&common, config.locality_weighted_lb_config.as_ref());
    let sizes = [config.minimum_ring_size, config.maximum_ring_size];
    Ok(policy(r, "minimum_ring_size", sizes, hash_function, options))
}

fn of_cluster(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let config: OfCluster = r.message("ring_hash_lb_config")?.unwrap_or_default();
    let sizes = [config.minimum_ring_size, config.maximum_ring_size];
    let options = HashingOptions::of_cluster(r)?;
    Ok(policy(r, "ring_hash_lb_config.minimum_ring_size", sizes, config.hash_function, options))
}

/// `field` is where the smaller size stands.
fn policy(
    r: &MessageReader<'_>,
    field: &str,
    [minimum, maximum]: [Option<u32>; 2],
    hash_function: HashFunction,
    options: HashingOptions,
) -> Arc<dyn LoadBalancerConfig> {
    let (minimum_ring_size, maximum_ring_size) = (minimum.unwrap_or(SIZES[0]), maximum.unwrap_or(SIZES[1]));
    // What is larger has been refused.
    if minimum_ring_size <= SIZES[1] && minimum_ring_size > maximum_ring_size {
        let message = format!(
            "ring hash: minimum_ring_size ({minimum_ring_size}) > maximum_ring_size ({maximum_ring_size})"
        );
        r.refuse(field, message);
    }
    let ring = Ring { minimum_ring_size, maximum_ring_size, hash_function };
    HashingPolicy::new(Box::new(ring), options, |scope| {
        let stats = RingHashStats::new(&scope.create_scope("ring_hash_lb."));
        Box::new(move |size, per_host| {
            stats.size.set(size);
            stats.min_hashes_per_host.set(per_host[0]);
            stats.max_hashes_per_host.set(per_host[1]);
        })
    })
}

crate::stats_struct! {
    /// `ring_hash_lb.`
    struct RingHashStats {
        counters: [],
        gauges: [max_hashes_per_host, min_hashes_per_host, size],
        histograms: [],
    }
}

/// How rings are made.
#[derive(Debug)]
struct Ring {
    minimum_ring_size: u32,
    maximum_ring_size: u32,
    hash_function: HashFunction,
}

/// The places, and whose they are, in order.
#[derive(Debug)]
struct Places {
    places: Vec<(u64, u32)>,
    /// The fewest and the most that a host has.
    per_host: [u64; 2],
}

impl TableFactory for Ring {
    fn make(&self, hosts: &[HostShare]) -> Box<dyn HashingTable> {
        let smallest = hosts.iter().map(|host| host.weight).fold(1.0, f64::min);
        let scale = ((smallest * f64::from(self.minimum_ring_size)).ceil() / smallest)
            .min(f64::from(self.maximum_ring_size));
        let mut places = Vec::with_capacity(scale.ceil() as usize);
        let mut per_host = [u64::MAX, 0];
        let (mut current, mut target) = (0.0, 0.0);
        for (number, host) in (0..).zip(hosts) {
            let mut key = host.key.clone().into_bytes();
            key.push(b'_');
            let length = key.len();
            target += scale * host.weight;
            let mut i = 0;
            while current < target {
                key.truncate(length);
                key.extend_from_slice(itoa::Buffer::new().format(i).as_bytes());
                let hash = match self.hash_function {
                    HashFunction::XxHash => xxh64(&key, 0),
                    HashFunction::MurmurHash2 => murmur2(&key),
                };
                places.push((hash, number));
                i += 1;
                current += 1.0;
            }
            per_host = [per_host[0].min(i), per_host[1].max(i)];
        }
        places.sort_unstable_by_key(|(hash, _)| *hash);
        Box::new(Places { places, per_host })
    }
}

impl HashingTable for Places {
    fn place(&self, hash: u64, attempt: u32) -> Option<usize> {
        let next = self.places.partition_point(|(place, _)| *place < hash);
        let first = if next == self.places.len() { 0 } else { next };
        let at = (first + attempt as usize).checked_rem(self.places.len())?;
        Some(self.places[at].1 as usize)
    }

    fn figures(&self) -> (u64, [u64; 2]) {
        (self.places.len() as u64, self.per_host)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::endpoint::HealthStatus::{Healthy, Unhealthy};
    use crate::upstream::load_balancer::LoadBalancerContext;
    use crate::upstream::load_balancer::test_hosts::TestHosts;
    use crate::upstream::test_support::port;

    struct Keyed(u64, u32, u16);

    impl LoadBalancerContext for Keyed {
        fn compute_hash_key(&self) -> Option<u64> {
            Some(self.0)
        }

        fn should_select_another_host(&self, host: &crate::upstream::HostImpl) -> bool {
            host.address().ip().unwrap().port() == self.2
        }

        fn host_selection_retry_count(&self) -> u32 {
            self.1
        }
    }

    fn hosts(config: Value) -> TestHosts {
        TestHosts::of(json!({ "name": "a", "lb_policy": "RING_HASH", "ring_hash_lb_config": config }))
    }

    /// Size, and the fewest and the most places of a host, as statistics say.
    fn shown(hosts: &TestHosts) -> [u64; 3] {
        let main = hosts.info.load_balancer().thread_aware(&hosts.info).unwrap();
        main.refresh(&hosts.set);
        let stats = RingHashStats::new(&hosts.info.scope().create_scope("ring_hash_lb."));
        [stats.size.value(), stats.min_hashes_per_host.value(), stats.max_hashes_per_host.value()]
    }

    #[test]
    fn places_are_as_many_as_in_envoy() {
        let weighted = [(1, 1, Healthy), (2, 2, Healthy), (3, 3, Healthy), (4, 1, Healthy)];
        let ring = hosts(json!({}));
        ring.update(0, &weighted);
        assert_eq!(shown(&ring), [1029, 147, 441]);
        let small = hosts(json!({ "minimum_ring_size": 10, "maximum_ring_size": 12 }));
        small.update(0, &weighted);
        assert_eq!(shown(&small), [12, 1, 5]);
    }

    #[test]
    fn a_number_leads_to_the_same_host_and_most_do_when_another_one_goes() {
        let ring = hosts(json!({}));
        let balancer = ring.info.load_balancer().create(&ring.params());
        let chosen = |hash| port(balancer.choose_host(&Keyed(hash, 0, 0)).unwrap().shared());
        assert!(balancer.choose_host(&Keyed(1, 0, 0)).is_none());
        ring.update(0, &[(1, 1, Healthy), (2, 1, Healthy), (3, 1, Healthy)]);
        let numbers: Vec<u64> = (0..300).map(|i: u64| xxh64(&i.to_le_bytes(), 0)).collect();
        let before: Vec<_> = numbers.iter().map(|hash| chosen(*hash)).collect();
        assert_eq!(before, numbers.iter().map(|hash| chosen(*hash)).collect::<Vec<_>>());
        ring.update(0, &[(1, 1, Healthy), (2, 1, Unhealthy), (3, 1, Healthy)]);
        let now: Vec<_> = numbers.iter().map(|hash| chosen(*hash)).collect();
        assert!(!now.contains(&2));
        // Each of the others has half as many places again.
        let moved = before.iter().zip(&now).filter(|(before, now)| **before != 2 && before != now).count();
        assert!(moved < 75, "{moved} of 300");
    }

    #[test]
    fn a_host_that_is_not_wanted_is_passed_over() {
        let ring = hosts(json!({}));
        ring.update(0, &[(1, 1, Healthy), (2, 1, Healthy)]);
        let balancer = ring.info.load_balancer().create(&ring.params());
        let chosen =
            |retries, unwanted| port(balancer.choose_host(&Keyed(7, retries, unwanted)).unwrap().shared());
        let first = chosen(50, 0);
        assert_eq!((chosen(50, 3 - first), chosen(50, first), chosen(0, first)), (first, 3 - first, first));
    }
}
