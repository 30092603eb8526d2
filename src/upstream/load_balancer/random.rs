//! Any host, whatever its weight.
//!
//! Mirrors `RandomLoadBalancer` of Envoy's `source/common/upstream/load_balancer_impl.cc`.

use std::rc::Rc;
use std::sync::Arc;

use super::{
    LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory, LoadBalancerParams,
    LocalityLbConfig, PerSource,
};
use crate::config::reader::FromMessage;
use crate::message;
use crate::upstream::WorkerHost;

/// Random choice among the extensions.
pub static RANDOM: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.random",
    &["envoy.extensions.load_balancing_policies.random.v3.Random"],
    |r| {
        let config = OfPolicy::read(r)?;
        Ok(Arc::new(Random { locality: config.locality_lb_config.into() }))
    },
)
.or_around(|r| Ok(Arc::new(Random { locality: LocalityLbConfig::of_cluster(r)? })));

message! {
    /// The extension.
    pub struct OfPolicy = "envoy.extensions.load_balancing_policies.random.v3.Random" {
        /// What the places of hosts count for.
        pub locality_lb_config: Option<super::locality_config::OfPolicy>,
    }
}

/// How it is chosen.
#[derive(Debug, Default)]
struct Random {
    locality: LocalityLbConfig,
}

impl LoadBalancerConfig for Random {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        Box::new(RandomLoadBalancer { sources: PerSource::new(params, &self.locality, 0) })
    }
}

/// See the module's description.
pub struct RandomLoadBalancer {
    sources: PerSource<Vec<Rc<WorkerHost>>>,
}

impl LoadBalancer for RandomLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.sources.choose(context, |hosts, _| hosts, |hosts, _| any_of(hosts).cloned())
    }
}

/// One of them; `None` where there are none.
pub(super) fn any_of<T>(items: &[T]) -> Option<&T> {
    items.get(fastrand::u64(..).checked_rem(items.len() as u64)? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus::{Healthy, Unhealthy};
    use crate::upstream::load_balancer::NoContext;
    use crate::upstream::load_balancer::test_hosts::TestHosts;

    #[test]
    fn hosts_are_chosen_alike_whatever_their_weight_while_they_are_healthy() {
        let hosts = TestHosts::new();
        let balancer = Random::default().create(&hosts.params());
        assert!(balancer.choose_host(&NoContext).is_none());
        hosts.update(0, &[(1, 1, Healthy), (2, 100, Healthy), (3, 1, Unhealthy)]);
        let counts = hosts.counts(&*balancer, 10_000);
        // Ten standard deviations are 500.
        assert!((4500..5500).contains(&counts[&1]) && counts[&1] + counts[&2] == 10_000, "{counts:?}");
    }
}
