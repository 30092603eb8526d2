//! Load balancing with weights: one schedule for each set of hosts that can be chosen from, where they are not alike.
//!
//! Mirrors `EdfLoadBalancerBase` of Envoy's `source/common/upstream/load_balancer_impl.cc`, as of 1.40: hosts of one weight need no
//! schedule. (In 1.1 those of a static cluster have one in either case.)

use std::rc::Rc;

use super::{
    EdfScheduler, LoadBalancerContext, LoadBalancerParams, LocalityLbConfig, PerSource, SlowStart,
    SlowStartConfig,
};
use crate::upstream::{HostImpl, WorkerHost};

/// Chooses hosts by weight.
pub struct EdfLoadBalancerBase {
    sources: PerSource<Hosts>,
    slow_start: Option<Rc<SlowStart>>,
}

enum Hosts {
    /// Which are all alike.
    Alike(Vec<Rc<WorkerHost>>),
    Weighted(Turns),
}

impl EdfLoadBalancerBase {
    /// Follows the hosts; `seed` is where in their order this load balancer starts, so that not all workers start alike.
    pub fn new(
        params: &LoadBalancerParams<'_>,
        config: &LocalityLbConfig,
        slow_start: Option<&SlowStartConfig>,
        seed: u64,
    ) -> Self {
        // Knows of new hosts before they are chosen from.
        let slow_start = slow_start.map(|config| SlowStart::new(params.priority_set, config));
        EdfLoadBalancerBase { sources: PerSource::new(params, config, seed), slow_start }
    }

    /// The host whose turn it is by `host_weight`; `unweighted_pick` says which one where all weigh the same, and may count
    /// turns.
    #[inline]
    pub fn choose_host_once(
        &self,
        context: &dyn LoadBalancerContext,
        unweighted_pick: impl FnOnce(&[Rc<WorkerHost>], &mut u64) -> Option<Rc<WorkerHost>>,
        host_weight: impl Fn(&HostImpl) -> f64,
    ) -> Option<Rc<WorkerHost>> {
        let slow_start = self.slow_start.as_deref();
        let weight = |host: &HostImpl| match slow_start {
            Some(slow_start) => slow_start.apply(host_weight(host), host),
            None => host_weight(host),
        };
        self.sources.choose(
            context,
            |hosts, turn| {
                let is_slow = slow_start.is_some_and(SlowStart::has_hosts);
                if hosts.len() < 2 || !is_slow && weigh_the_same(&hosts) {
                    return Hosts::Alike(hosts);
                }
                Hosts::Weighted(Turns::new(hosts, weight, turn as u32))
            },
            |hosts, turn| match hosts {
                Hosts::Alike(hosts) => unweighted_pick(hosts, turn),
                Hosts::Weighted(turns) => turns.pick(weight),
            },
        )
    }
}

fn weigh_the_same(hosts: &[Rc<WorkerHost>]) -> bool {
    hosts.windows(2).all(|pair| pair[0].weight() == pair[1].weight())
}

/// Hosts, and whose turn it is.
struct Turns {
    hosts: Vec<Rc<WorkerHost>>,
    edf: EdfScheduler,
}

impl Turns {
    /// Begins as if so many hosts had had their turns.
    fn new(hosts: Vec<Rc<WorkerHost>>, host_weight: impl Fn(&HostImpl) -> f64, picks: u32) -> Self {
        let entries: Vec<_> = hosts.iter().map(|host| host_weight(host)).enumerate().collect();
        Turns { edf: EdfScheduler::with_picks(&entries, picks), hosts }
    }

    /// The host whose turn it is, which has its next turn by its weight of now.
    #[inline]
    fn pick(&mut self, host_weight: impl Fn(&HostImpl) -> f64) -> Option<Rc<WorkerHost>> {
        let hosts = &self.hosts;
        let index = self.edf.pick_and_add(|index| host_weight(&hosts[index]))?;
        self.hosts.get(index).cloned()
    }
}
