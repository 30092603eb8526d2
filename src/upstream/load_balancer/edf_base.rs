//! Load balancing with weights: one schedule for each set of hosts that can be chosen from.
//!
//! Mirrors `EdfLoadBalancerBase` of Envoy's `source/common/upstream/load_balancer_impl.cc`. The schedule
//! is used for equal weights too, as 1.1 does for static clusters: they then take turns.

use std::rc::Rc;
use std::sync::Arc;

use super::{EdfScheduler, LoadBalancerContext, PerSource};
use crate::upstream::{ClusterInfoImpl, HostImpl, PrioritySetImpl, WorkerHost};

/// What a host's weight is whenever it is scheduled.
pub type HostWeight = fn(&HostImpl) -> f64;

/// Chooses hosts by weight.
pub struct EdfLoadBalancerBase {
    sources: PerSource<Turns>,
    host_weight: HostWeight,
    /// Where in the order of hosts this load balancer starts, so that not all workers start alike.
    seed: u64,
}

impl EdfLoadBalancerBase {
    /// Follows `priority_set`; `seed` is any number.
    pub fn new(
        priority_set: &Rc<PrioritySetImpl>,
        info: &Arc<ClusterInfoImpl>,
        host_weight: HostWeight,
        seed: u64,
    ) -> Self {
        EdfLoadBalancerBase { sources: PerSource::new(priority_set, info), host_weight, seed }
    }

    /// The host whose turn it is.
    #[inline]
    pub fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let EdfLoadBalancerBase { sources, host_weight, seed } = self;
        sources.choose(
            context,
            |hosts| Turns::new(hosts, host_weight, *seed),
            |turns| turns.pick(host_weight),
        )
    }
}

/// Hosts, and whose turn it is.
pub struct Turns {
    hosts: Vec<Rc<WorkerHost>>,
    edf: EdfScheduler,
}

impl Turns {
    /// Begins as if `seed` hosts, modulo their number, had had their turns.
    pub fn new(hosts: Vec<Rc<WorkerHost>>, host_weight: impl Fn(&HostImpl) -> f64, seed: u64) -> Self {
        let mut edf = EdfScheduler::with_capacity(hosts.len());
        for (index, host) in hosts.iter().enumerate() {
            edf.add(host_weight(host), index);
        }
        let mut turns = Turns { hosts, edf };
        let skipped = seed.checked_rem(turns.hosts.len() as u64).unwrap_or(0);
        for _ in 0..skipped {
            turns.pick(&host_weight);
        }
        turns
    }

    /// The host whose turn it is, which has its next turn by its weight of now.
    #[inline]
    pub fn pick(&mut self, host_weight: impl Fn(&HostImpl) -> f64) -> Option<Rc<WorkerHost>> {
        let hosts = &self.hosts;
        let index = self.edf.pick_and_add(|index| host_weight(&hosts[index]))?;
        self.hosts.get(index).cloned()
    }
}
