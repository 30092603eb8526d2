//! The first half of every choice: the priority, and which of its hosts.
//!
//! Mirrors `LoadBalancerBase` and `hostSourceToUse` of Envoy's
//! `source/common/upstream/load_balancer_impl.cc`. Envoy recomputes the loads in callbacks of its own;
//! here the load balancer on top calls [`LoadBalancerBase::recalculate`] from its one callback.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::{HostAvailability, HostCounts, LoadBalancerContext, PriorityLoad};
use crate::upstream::{ClusterInfoImpl, PrioritySetImpl};

/// Which hosts of a priority are chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// All: the priority is in panic.
    AllHosts,
    /// The healthy ones.
    HealthyHosts,
    /// The degraded ones.
    DegradedHosts,
}

/// The hosts to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsSource {
    /// Their priority.
    pub priority: usize,
    /// Which of them.
    pub source_type: SourceType,
}

/// Knows how requests are spread over priorities.
pub struct LoadBalancerBase {
    info: Arc<ClusterInfoImpl>,
    priority_set: Weak<PrioritySetImpl>,
    load: RefCell<Rc<PriorityLoad>>,
}

impl LoadBalancerBase {
    /// For the hosts of now.
    pub fn new(priority_set: &Rc<PrioritySetImpl>, info: &Arc<ClusterInfoImpl>) -> Self {
        let base = LoadBalancerBase {
            info: info.clone(),
            priority_set: Rc::downgrade(priority_set),
            load: RefCell::default(),
        };
        base.recalculate(priority_set);
        base
    }

    /// Takes over a change of hosts or of their health.
    pub fn recalculate(&self, priority_set: &PrioritySetImpl) {
        let host_sets = priority_set.host_sets_per_priority();
        let counts: Vec<HostCounts> = host_sets.iter().map(|set| HostCounts::of(&set.vectors())).collect();
        self.load.replace(Rc::new(PriorityLoad::compute(&counts, self.info.healthy_panic_threshold())));
    }

    /// The hosts from which the next one is to be chosen.
    #[inline(always)]
    pub fn host_source_to_use(&self, context: &dyn LoadBalancerContext) -> HostsSource {
        let load = self.load.borrow();
        if load.healthy.len() == 1 {
            return self.source_of(choose_host_set(&load), &load);
        }
        // Kept alive by a count of its own while the context is asked.
        let own = load.clone();
        drop(load);
        let other = self.priority_set.upgrade().and_then(|set| context.determine_priority_load(&set, &own));
        self.source_of(choose_host_set(other.as_ref().unwrap_or(&own)), &own)
    }

    /// All hosts where the chosen priority is in panic by the cluster's own reckoning.
    #[inline]
    fn source_of(&self, chosen: (usize, HostAvailability), load: &PriorityLoad) -> HostsSource {
        let (priority, availability) = chosen;
        if load.panic.get(priority) == Some(&true) {
            self.info.stats().lb_healthy_panic().inc();
            return HostsSource { priority, source_type: SourceType::AllHosts };
        }
        let source_type = match availability {
            HostAvailability::Healthy => SourceType::HealthyHosts,
            HostAvailability::Degraded => SourceType::DegradedHosts,
        };
        HostsSource { priority, source_type }
    }
}

#[inline]
fn choose_host_set(load: &PriorityLoad) -> (usize, HostAvailability) {
    match load.healthy[0] {
        100 => (0, HostAvailability::Healthy),
        _ => load.choose(fastrand::u64(..)),
    }
}
