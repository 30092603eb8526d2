//! Hosts take turns, as often as their weight says.
//!
//! Mirrors `RoundRobinLoadBalancer` of Envoy's `source/common/upstream/load_balancer_impl.h`.

use std::rc::Rc;
use std::sync::Arc;

use super::slow_start::SlowStartMessage;
use super::{
    EdfLoadBalancerBase, LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory,
    LoadBalancerParams, LocalityLbConfig, SlowStartConfig,
};
use crate::config::error::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::message;
use crate::runtime::SnapshotImpl;
use crate::upstream::WorkerHost;

/// Round robin among the extensions.
pub static ROUND_ROBIN: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.round_robin",
    &["envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"],
    |r| {
        let config = OfPolicy::read(r)?;
        let slow_start = SlowStartConfig::new(config.slow_start_config.as_ref());
        Ok(Arc::new(RoundRobin { locality: config.locality_lb_config.into(), slow_start }))
    },
)
.or_around(of_cluster);

message! {
    /// `RoundRobinLbConfig` of a cluster.
    pub struct OfCluster = "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig" {
        /// How new hosts get their requests.
        pub slow_start_config: Option<SlowStartMessage>,
    }
}

message! {
    /// The extension.
    pub struct OfPolicy = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" {
        /// How new hosts get their requests.
        pub slow_start_config: Option<SlowStartMessage>,
        /// What the places of hosts count for.
        pub locality_lb_config: Option<super::locality_config::OfPolicy>,
    }
}

fn of_cluster(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let config: OfCluster = r.message("round_robin_lb_config")?.unwrap_or_default();
    let slow_start = SlowStartConfig::new(config.slow_start_config.as_ref());
    Ok(Arc::new(RoundRobin { locality: LocalityLbConfig::of_cluster(r)?, slow_start }))
}

/// How hosts take turns.
#[derive(Debug, Default)]
struct RoundRobin {
    locality: LocalityLbConfig,
    slow_start: Option<SlowStartConfig>,
}

impl LoadBalancerConfig for RoundRobin {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        Box::new(RoundRobinLoadBalancer::new(params, self, fastrand::u64(..)))
    }

    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.slow_start.iter().for_each(|config| config.on_new_snapshot(snapshot));
    }
}

/// Round robin.
pub struct RoundRobinLoadBalancer {
    edf: EdfLoadBalancerBase,
}

impl RoundRobinLoadBalancer {
    /// Follows the hosts and starts at host `seed` modulo their number.
    fn new(params: &LoadBalancerParams<'_>, config: &RoundRobin, seed: u64) -> Self {
        let RoundRobin { locality, slow_start } = config;
        RoundRobinLoadBalancer { edf: EdfLoadBalancerBase::new(params, locality, slow_start.as_ref(), seed) }
    }
}

impl LoadBalancer for RoundRobinLoadBalancer {
    #[inline]
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let next = |hosts: &[Rc<WorkerHost>], turn: &mut u64| {
            let at = turn.checked_rem(hosts.len() as u64)?;
            *turn = turn.wrapping_add(1);
            hosts.get(at as usize).cloned()
        };
        self.edf.choose_host_once(context, next, |host| f64::from(host.weight()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::endpoint::HealthStatus::{Degraded, Healthy, Unhealthy};
    use crate::upstream::load_balancer::test_hosts::TestHosts as Fixture;
    use crate::upstream::load_balancer::{NoContext, PriorityLoad};
    use crate::upstream::test_support::port;
    use crate::upstream::{HostImpl, PrioritySetImpl};

    impl Fixture {
        fn load_balancer(&self, seed: u64) -> RoundRobinLoadBalancer {
            RoundRobinLoadBalancer::new(&self.params(), &RoundRobin::default(), seed)
        }

        fn panics(&self) -> u64 {
            self.info.stats().lb_healthy_panic().value()
        }
    }

    fn picks(load_balancer: &RoundRobinLoadBalancer, count: usize) -> Vec<u16> {
        (0..count).map(|_| port(load_balancer.choose_host(&NoContext).unwrap().shared())).collect()
    }

    #[test]
    fn without_hosts_there_is_none_and_panic() {
        let fixture = Fixture::new();
        let load_balancer = fixture.load_balancer(5);
        assert!(load_balancer.choose_host(&NoContext).is_none());
        assert_eq!(fixture.panics(), 1);
        fixture.update(0, &[(1, 1, Healthy)]);
        assert_eq!(picks(&load_balancer, 2), [1, 1]);
        assert_eq!(fixture.panics(), 1);
    }

    #[test]
    fn hosts_take_turns_from_the_seed_on() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 1, Healthy), (2, 1, Healthy), (3, 1, Healthy)]);
        assert_eq!(picks(&fixture.load_balancer(0), 4), [1, 2, 3, 1]);
        assert_eq!(picks(&fixture.load_balancer(5), 4), [3, 1, 2, 3]);
    }

    #[test]
    fn weights_are_respected_and_changes_of_hosts_followed() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 1, Healthy), (2, 3, Healthy)]);
        let load_balancer = fixture.load_balancer(0);
        let count = |picked: &[u16], port| picked.iter().filter(|p| **p == port).count();
        let picked = picks(&load_balancer, 400);
        assert_eq!((count(&picked, 1), count(&picked, 2)), (100, 300));
        fixture.update(0, &[(2, 1, Healthy), (3, 4, Healthy)]);
        let picked = picks(&load_balancer, 500);
        assert_eq!((count(&picked, 1), count(&picked, 2), count(&picked, 3)), (0, 100, 400));
    }

    #[test]
    fn a_changed_weight_counts_without_an_update() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 2, Healthy), (2, 1, Healthy)]);
        let load_balancer = fixture.load_balancer(0);
        fixture.set.host_sets_per_priority()[0].hosts()[0].set_weight(3);
        picks(&load_balancer, 8);
        assert_eq!(picks(&load_balancer, 400).iter().filter(|p| **p == 1).count(), 300);
    }

    #[test]
    fn unhealthy_hosts_are_left_out_until_panic() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 1, Healthy), (2, 1, Unhealthy), (3, 1, Healthy)]);
        let load_balancer = fixture.load_balancer(0);
        assert_eq!(picks(&load_balancer, 4), [1, 3, 1, 3]);
        assert_eq!(fixture.panics(), 0);
        fixture.update(0, &[(1, 1, Healthy), (2, 1, Unhealthy), (3, 1, Unhealthy)]);
        assert_eq!(picks(&load_balancer, 4), [1, 2, 3, 1]);
        assert_eq!(fixture.panics(), 4);
    }

    #[test]
    fn degraded_hosts_help_out() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 1, Unhealthy), (2, 1, Degraded), (3, 1, Degraded)]);
        let load_balancer = fixture.load_balancer(0);
        assert_eq!(picks(&load_balancer, 4), [2, 3, 2, 3]);
    }

    #[test]
    fn the_next_priority_takes_what_is_left() {
        let fixture = Fixture::new();
        let load_balancer = fixture.load_balancer(0);
        fixture.update(0, &[(1, 1, Healthy), (2, 1, Unhealthy)]);
        fixture.update(2, &[(9, 1, Healthy)]);
        let picked = picks(&load_balancer, 4000);
        let first = picked.iter().filter(|p| **p == 1).count();
        // 70 % of them; ten standard deviations are 290.
        assert!((2510..3090).contains(&first), "{first}");
        assert!(picked.iter().all(|p| [1, 9].contains(p)));
        fixture.update(0, &[]);
        assert_eq!(picks(&load_balancer, 3), [9, 9, 9]);
    }

    /// Wants none of the hosts with these ports, and all requests at a priority of its own.
    #[derive(Default)]
    struct Tried {
        ports: Vec<u16>,
        retries: u32,
        asked: Cell<u32>,
        load: Option<Rc<PriorityLoad>>,
    }

    impl LoadBalancerContext for Tried {
        fn should_select_another_host(&self, host: &HostImpl) -> bool {
            self.asked.set(self.asked.get() + 1);
            self.ports.iter().any(|p| host.address().to_string().ends_with(&format!(":{p}")))
        }

        fn host_selection_retry_count(&self) -> u32 {
            self.retries
        }

        fn determine_priority_load(&self, _: &PrioritySetImpl, _: &PriorityLoad) -> Option<Rc<PriorityLoad>> {
            self.load.clone()
        }
    }

    #[test]
    fn a_request_may_want_another_host() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 1, Healthy), (2, 1, Healthy), (3, 1, Healthy)]);
        let choose = |ports: &[u16], retries| {
            let context = Tried { ports: ports.to_vec(), retries, ..Tried::default() };
            let chosen = fixture.load_balancer(0).choose_host(&context).unwrap();
            (port(chosen.shared()), context.asked.get())
        };
        assert_eq!(choose(&[], 5), (1, 1));
        assert_eq!(choose(&[1], 1), (2, 2));
        assert_eq!(choose(&[1, 2], 2), (3, 3));
        // Rather one that is not wanted than none.
        assert_eq!(choose(&[1, 2], 1), (2, 2));
        assert_eq!(choose(&[1], 0), (1, 1));
    }

    #[test]
    fn a_request_may_want_another_priority() {
        let fixture = Fixture::new();
        fixture.update(0, &[(1, 1, Healthy)]);
        let second = PriorityLoad { healthy: vec![0, 100], degraded: vec![0, 0], panic: vec![false, false] };
        let context = Tried { load: Some(Rc::new(second)), ..Tried::default() };
        let load_balancer = fixture.load_balancer(0);
        let chosen = || port(load_balancer.choose_host(&context).unwrap().shared());
        let picks = || [chosen(), picks(&load_balancer, 1)[0]];
        assert_eq!(picks(), [1, 1], "there is no other");
        fixture.update(1, &[(2, 1, Healthy)]);
        assert_eq!(picks(), [2, 1]);
    }

    #[test]
    fn a_dropped_load_balancer_no_longer_listens() {
        let fixture = Fixture::new();
        drop(fixture.load_balancer(0));
        fixture.update(0, &[(1, 1, Healthy)]);
        assert_eq!(Rc::strong_count(&fixture.set), 1);
    }
}
