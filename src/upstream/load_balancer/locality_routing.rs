//! Which locality of a priority the next host is of.
//!
//! Mirrors the locality schedulers of `HostSetImpl` in Envoy's `source/common/upstream/upstream_impl.cc`, and
//! `regenerateLocalityRoutingStructures` and `tryChooseLocalLocalityHosts` of `load_balancer_impl.cc`, as of 1.40: the
//! localities of the two clusters are matched by name and not by place.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::{EdfScheduler, HostAvailability, HostCounts, LocalityBasis, ZoneAwareConfig};
use crate::upstream::{
    ClusterInfoImpl, HostSharedPtr, HostVectors, HostsPerLocality, LocalityHosts, PrioritySetImpl,
};

/// Localities that have their turns by weight, less where they have not enough hosts.
#[derive(Default)]
pub struct WeightedLocalities {
    /// Those with healthy hosts and those with degraded ones, by priority.
    per_priority: RefCell<Vec<[Option<LocalityScheduler>; 2]>>,
}

struct LocalityScheduler {
    edf: EdfScheduler,
    effective_weights: Vec<f64>,
}

impl WeightedLocalities {
    /// Takes over a change of the hosts of a priority.
    pub fn refresh(&self, priority: usize, vectors: &HostVectors) {
        let schedulers = [HostAvailability::Healthy, HostAvailability::Degraded]
            .map(|availability| LocalityScheduler::new(vectors, availability));
        let mut per_priority = self.per_priority.borrow_mut();
        if per_priority.len() <= priority {
            per_priority.resize_with(priority + 1, Default::default);
        }
        per_priority[priority] = schedulers;
    }

    /// Whether any locality has hosts and weight.
    pub fn has(&self, priority: usize, availability: HostAvailability) -> bool {
        let per_priority = self.per_priority.borrow();
        per_priority.get(priority).is_some_and(|schedulers| schedulers[availability as usize].is_some())
    }

    /// The locality whose turn it is; `None` if none has hosts and weight.
    pub fn choose(&self, priority: usize, availability: HostAvailability) -> Option<usize> {
        let mut per_priority = self.per_priority.borrow_mut();
        let scheduler = per_priority.get_mut(priority)?[availability as usize].as_mut()?;
        scheduler.edf.pick_and_add(|locality| scheduler.effective_weights[locality])
    }
}

impl LocalityScheduler {
    fn new(vectors: &HostVectors, availability: HostAvailability) -> Option<Self> {
        let localities = &vectors.per_locality.as_ref()?.localities;
        let factor = f64::from(vectors.options.overprovisioning_factor) / 100.0;
        let weight = |locality: &LocalityHosts| {
            let eligible = hosts_of(locality, availability).len();
            let counted = locality.hosts.len() - locality.excluded_hosts;
            let ratio = if counted > 0 { 1.0 * eligible as f64 / counted as f64 } else { 0.0 };
            f64::from(locality.weight) * (factor * ratio).min(1.0)
        };
        let effective_weights: Vec<f64> = localities.iter().map(weight).collect();
        let entries = effective_weights.iter().copied().enumerate().filter(|(_, weight)| *weight > 0.0);
        let entries: Vec<_> = entries.collect();
        let edf = EdfScheduler::with_picks(&entries, fastrand::u32(..));
        (!entries.is_empty()).then_some(LocalityScheduler { edf, effective_weights })
    }
}

/// The hosts of a locality that are as available as that.
fn hosts_of(locality: &LocalityHosts, availability: HostAvailability) -> &[HostSharedPtr] {
    match availability {
        HostAvailability::Healthy => &locality.healthy_hosts,
        HostAvailability::Degraded => &locality.degraded_hosts,
    }
}

/// Requests that stay in the proxy's own zone, as far as that has its share of hosts.
pub struct ZoneRouting {
    config: ZoneAwareConfig,
    /// The hosts of the cluster that the proxy belongs to.
    local: Weak<PrioritySetImpl>,
    /// How many of these there are, as of the last change.
    local_counts: Cell<Option<HostCounts>>,
    state: RefCell<LocalityRoutingState>,
    is_active: Cell<bool>,
}

enum LocalityRoutingState {
    /// All are alike.
    NoLocalityRouting,
    /// All go to the first one, which is the proxy's own.
    LocalityDirect,
    /// Some go to the first one.
    LocalityResidual {
        /// So many of 10 000.
        local_percent_to_route: u64,
        /// What each of the others can take beyond its own requests, with those before it.
        residual_capacity: Vec<u64>,
    },
}

/// Shares of hosts, of 10 000.
#[derive(Clone, Copy)]
struct LocalityPercentages {
    local: u64,
    upstream: u64,
}

impl ZoneRouting {
    /// Nothing is known yet.
    pub fn new(local: &Rc<PrioritySetImpl>, config: ZoneAwareConfig) -> Self {
        ZoneRouting {
            config,
            local: Rc::downgrade(local),
            local_counts: Cell::new(None),
            state: RefCell::new(LocalityRoutingState::NoLocalityRouting),
            is_active: Cell::new(false),
        }
    }

    /// Whether localities are not all alike.
    pub fn is_active(&self) -> bool {
        self.is_active.get()
    }

    /// Takes over a change of the hosts of the first priority, or of the proxy's own cluster.
    pub fn regenerate(&self, upstream: &HostVectors, info: &ClusterInfoImpl) {
        info.stats().lb_recalculate_zone_structures().inc();
        self.local_counts.set(self.local_vectors().map(|vectors| HostCounts::of(&vectors)));
        let state = self.state_of(upstream, info).unwrap_or(LocalityRoutingState::NoLocalityRouting);
        self.is_active.set(!matches!(state, LocalityRoutingState::NoLocalityRouting));
        self.state.replace(state);
    }

    fn state_of(&self, upstream: &HostVectors, info: &ClusterInfoImpl) -> Option<LocalityRoutingState> {
        let of_upstream = upstream.per_locality.as_ref().filter(|all| all.localities.len() > 1)?;
        let local = self.local_vectors()?;
        let of_local = local.per_locality.as_ref();
        let forced_from = self.config.force_local_zone;
        if forced_from.is_none() && of_local.is_none_or(|all| all.localities.len() < 2) {
            return None;
        }
        let Some(of_local) = of_local.filter(|all| all.has_local_locality) else {
            info.stats().lb_local_cluster_not_ok().inc();
            return None;
        };
        if (upstream.healthy_hosts.len() as u64) < info.zone_min_cluster_size(self.config.min_cluster_size) {
            info.stats().lb_zone_cluster_too_small().inc();
            return None;
        }
        let percentages = self.percentages(of_local, of_upstream);
        let LocalityPercentages { local, upstream } = percentages[0];
        if of_upstream.has_local_locality {
            let healthy = of_upstream.localities[0].healthy_hosts.len();
            let is_forced = forced_from.is_some_and(|least| healthy >= least as usize);
            if upstream > 0 && upstream >= local || is_forced {
                return Some(LocalityRoutingState::LocalityDirect);
            }
        }
        let own = if of_upstream.has_local_locality { upstream * 10_000 } else { 0 };
        let mut sum = 0;
        let residual = |(i, share): (usize, &LocalityPercentages)| {
            if i > 0 || !of_upstream.has_local_locality {
                sum += share.upstream.saturating_sub(share.local);
            }
            sum
        };
        Some(LocalityRoutingState::LocalityResidual {
            local_percent_to_route: own.checked_div(local).unwrap_or(0),
            residual_capacity: percentages.iter().enumerate().map(residual).collect(),
        })
    }

    fn local_vectors(&self) -> Option<std::sync::Arc<HostVectors>> {
        Some(self.local.upgrade()?.host_sets_per_priority().first()?.vectors())
    }

    fn percentages(&self, local: &HostsPerLocality, upstream: &HostsPerLocality) -> Vec<LocalityPercentages> {
        let size = |locality: &LocalityHosts| match self.config.locality_basis {
            LocalityBasis::HealthyHostsNum => locality.healthy_hosts.len() as u64,
            LocalityBasis::HealthyHostsWeight => {
                locality.healthy_hosts.iter().map(|host| u64::from(host.weight())).sum()
            }
        };
        let sum = |all: &HostsPerLocality| all.localities.iter().map(size).sum::<u64>();
        let (of_local, of_upstream) = (sum(local), sum(upstream));
        let sizes: HashMap<_, _> = local.localities.iter().map(|l| (&l.locality, size(l))).collect();
        let share = |locality: &LocalityHosts| match size(locality) {
            0 => LocalityPercentages { local: 0, upstream: 0 },
            size => LocalityPercentages {
                local: (10_000 * sizes.get(&locality.locality).copied().unwrap_or(0))
                    .checked_div(of_local)
                    .unwrap_or(0),
                upstream: (10_000 * size).checked_div(of_upstream).unwrap_or(0),
            },
        };
        upstream.localities.iter().map(share).collect()
    }

    /// The locality whose turn it is, `None` if they are all alike for this request.
    ///
    /// # Errors
    /// The request is to fail.
    pub fn choose(&self, info: &ClusterInfoImpl) -> Result<Option<usize>, ()> {
        let percent: u32 = info.zone_routing_enabled(self.config.routing_enabled);
        if percent < 100 && (percent == 0 || fastrand::u32(..100) >= percent) {
            return Ok(None);
        }
        if self.local_counts.get().is_none_or(|local| local.in_panic(info.healthy_panic_threshold())) {
            info.stats().lb_local_cluster_not_ok().inc();
            return if self.config.fail_traffic_on_panic { Err(()) } else { Ok(None) };
        }
        Ok(self.choose_locality(info))
    }

    fn choose_locality(&self, info: &ClusterInfoImpl) -> Option<usize> {
        let stats = info.stats();
        let state = self.state.borrow();
        let (local_percent_to_route, residual_capacity) = match &*state {
            LocalityRoutingState::NoLocalityRouting => return None,
            LocalityRoutingState::LocalityDirect => {
                stats.lb_zone_routing_all_directly().inc();
                return Some(0);
            }
            LocalityRoutingState::LocalityResidual { local_percent_to_route, residual_capacity } => {
                (*local_percent_to_route, residual_capacity)
            }
        };
        if fastrand::u64(..10_000) < local_percent_to_route {
            stats.lb_zone_routing_sampled().inc();
            return Some(0);
        }
        stats.lb_zone_routing_cross_zone().inc();
        let all = residual_capacity.last().copied().unwrap_or(0);
        if all == 0 {
            stats.lb_zone_no_capacity_left().inc();
            return Some(fastrand::usize(..residual_capacity.len()));
        }
        let threshold = fastrand::u64(..all);
        residual_capacity.iter().position(|capacity| threshold < *capacity)
    }
}
