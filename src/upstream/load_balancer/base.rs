//! The first half of every choice: the priority, and which of its hosts.
//!
//! Mirrors `LoadBalancerBase`, `ZoneAwareLoadBalancerBase` and `hostSourceToUse` of Envoy's
//! `source/common/upstream/load_balancer_impl.cc`. Envoy recomputes the loads in callbacks of its own;
//! here the load balancer on top calls [`LoadBalancerBase::recalculate`] from its one callback. Where there is nothing to
//! choose from, it is known beforehand which hosts they are.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::locality_routing::{WeightedLocalities, ZoneRouting};
use super::{
    HostAvailability, HostCounts, LoadBalancerContext, LoadBalancerParams, LocalityLbConfig, PriorityLoad,
};
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
    /// The healthy ones of this locality.
    LocalityHealthyHosts(usize),
    /// The degraded ones of this locality.
    LocalityDegradedHosts(usize),
}

/// The hosts to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsSource {
    /// Their priority.
    pub priority: usize,
    /// Which of them.
    pub source_type: SourceType,
}

/// Knows how requests are spread over priorities and localities.
pub struct LoadBalancerBase {
    info: Arc<ClusterInfoImpl>,
    priority_set: Weak<PrioritySetImpl>,
    load: RefCell<Rc<PriorityLoad>>,
    /// While there is nothing to choose from.
    always: Cell<Option<HostsSource>>,
    /// Whether a priority that is in panic gets no requests.
    fails_in_panic: bool,
    weighted: Option<Box<WeightedLocalities>>,
    zones: Option<Box<ZoneRouting>>,
}

impl LoadBalancerBase {
    /// For the hosts of now.
    pub fn new(params: &LoadBalancerParams<'_>, config: &LocalityLbConfig) -> Self {
        let base = LoadBalancerBase {
            info: params.info.clone(),
            priority_set: Rc::downgrade(params.priority_set),
            load: RefCell::default(),
            always: Cell::default(),
            fails_in_panic: config.zone_aware.fail_traffic_on_panic,
            weighted: config.weighted.then(Box::default),
            zones: params
                .local_priority_set
                .map(|local| Box::new(ZoneRouting::new(local, config.zone_aware.clone()))),
        };
        base.recalculate_load(params.priority_set);
        for host_set in params.priority_set.host_sets_per_priority() {
            base.refresh_localities(host_set.priority(), params.priority_set);
        }
        base.foresee();
        base
    }

    /// Takes over a change of the hosts of a priority, or of their health.
    pub fn recalculate(&self, priority: u32, priority_set: &PrioritySetImpl) {
        self.recalculate_load(priority_set);
        self.refresh_localities(priority, priority_set);
        if priority == 0 {
            self.regenerate_locality_routing_structures(priority_set);
        }
        self.foresee();
    }

    /// Takes over a change of the hosts of the cluster that the proxy belongs to.
    pub fn on_local_update(&self) {
        if let Some(priority_set) = self.priority_set.upgrade() {
            self.regenerate_locality_routing_structures(&priority_set);
            self.foresee();
        }
    }

    fn recalculate_load(&self, priority_set: &PrioritySetImpl) {
        let host_sets = priority_set.host_sets_per_priority();
        let counts: Vec<HostCounts> = host_sets.iter().map(|set| HostCounts::of(&set.vectors())).collect();
        self.load.replace(Rc::new(PriorityLoad::compute(&counts, self.info.healthy_panic_threshold())));
    }

    fn refresh_localities(&self, priority: u32, priority_set: &PrioritySetImpl) {
        if let (Some(weighted), Some(host_set)) =
            (&self.weighted, priority_set.host_sets_per_priority().get(priority as usize))
        {
            weighted.refresh(priority as usize, &host_set.vectors());
        }
    }

    fn regenerate_locality_routing_structures(&self, priority_set: &PrioritySetImpl) {
        if let Some(zones) = &self.zones {
            zones.regenerate(&priority_set.host_sets_per_priority()[0].vectors(), &self.info);
        }
    }

    fn foresee(&self) {
        let load = self.load.borrow();
        let is_simple = matches!(load.healthy[..], [100])
            && load.panic[..] == [false]
            && !self.weighted.as_ref().is_some_and(|weighted| weighted.has(0, HostAvailability::Healthy))
            && !self.zones.as_ref().is_some_and(|zones| zones.is_active());
        let source = HostsSource { priority: 0, source_type: SourceType::HealthyHosts };
        self.always.set(is_simple.then_some(source));
    }

    /// The hosts from which the next one is to be chosen; `None` if the request is to fail.
    #[inline(always)]
    pub fn host_source_to_use(&self, context: &dyn LoadBalancerContext) -> Option<HostsSource> {
        let always = self.always.get();
        if always.is_some() { always } else { self.choose_source(context) }
    }

    fn choose_source(&self, context: &dyn LoadBalancerContext) -> Option<HostsSource> {
        // Kept alive by a count of its own while the context is asked.
        let own = self.load.borrow().clone();
        let other = match own.healthy.len() {
            1 => None,
            _ => self.priority_set.upgrade().and_then(|set| context.determine_priority_load(&set, &own)),
        };
        let (priority, availability) = choose_host_set(other.as_ref().unwrap_or(&own));
        // All hosts where the chosen priority is in panic by the cluster's own reckoning.
        if own.panic.get(priority) == Some(&true) {
            self.info.stats().lb_healthy_panic().inc();
            let all = HostsSource { priority, source_type: SourceType::AllHosts };
            return (!self.fails_in_panic).then_some(all);
        }
        let in_locality = |locality| match availability {
            HostAvailability::Healthy => SourceType::LocalityHealthyHosts(locality),
            HostAvailability::Degraded => SourceType::LocalityDegradedHosts(locality),
        };
        let weighted = self.weighted.as_ref();
        if let Some(locality) = weighted.and_then(|weighted| weighted.choose(priority, availability)) {
            return Some(HostsSource { priority, source_type: in_locality(locality) });
        }
        if let Some(zones) = self.zones.as_ref().filter(|zones| priority == 0 && zones.is_active()) {
            match zones.choose(&self.info) {
                Ok(Some(locality)) => {
                    return Some(HostsSource { priority, source_type: in_locality(locality) });
                }
                Ok(None) => {}
                Err(()) => return None,
            }
        }
        let source_type = match availability {
            HostAvailability::Healthy => SourceType::HealthyHosts,
            HostAvailability::Degraded => SourceType::DegradedHosts,
        };
        Some(HostsSource { priority, source_type })
    }
}

fn choose_host_set(load: &PriorityLoad) -> (usize, HostAvailability) {
    match load.healthy[0] {
        100 => (0, HostAvailability::Healthy),
        _ => load.choose(fastrand::u64(..)),
    }
}
