//! Any host, whatever its weight.
//!
//! Mirrors `RandomLoadBalancer` of Envoy's `source/common/upstream/load_balancer_impl.cc`.

use std::rc::Rc;
use std::sync::Arc;

use super::{LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory, PerSource};
use crate::upstream::{ClusterInfoImpl, PrioritySetImpl, WorkerHost};

/// Random choice among the extensions.
pub static RANDOM: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.random",
    &["envoy.extensions.load_balancing_policies.random.v3.Random"],
    |_| Ok(Arc::new(Random)),
)
.or_around(|_| Ok(Arc::new(Random)));

/// There is nothing more to say.
#[derive(Debug)]
struct Random;

impl LoadBalancerConfig for Random {
    fn create(
        &self,
        priority_set: &Rc<PrioritySetImpl>,
        info: &Arc<ClusterInfoImpl>,
    ) -> Box<dyn LoadBalancer> {
        Box::new(RandomLoadBalancer { sources: PerSource::new(priority_set, info) })
    }
}

/// See the module's description.
pub struct RandomLoadBalancer {
    sources: PerSource<Vec<Rc<WorkerHost>>>,
}

impl LoadBalancer for RandomLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.sources.choose(context, |hosts| hosts, |hosts| any_of(hosts).cloned())
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
        let balancer = Random.create(&hosts.set, &hosts.info);
        assert!(balancer.choose_host(&NoContext).is_none());
        hosts.update(0, &[(1, 1, Healthy), (2, 100, Healthy), (3, 1, Unhealthy)]);
        let counts = hosts.counts(&*balancer, 10_000);
        // Ten standard deviations are 500.
        assert!((4500..5500).contains(&counts[&1]) && counts[&1] + counts[&2] == 10_000, "{counts:?}");
    }
}
