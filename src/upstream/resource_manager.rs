//! Circuit breakers: how much of a resource a cluster may use at a time.
//!
//! Mirrors Envoy's `source/common/upstream/resource_manager_impl.h`. The counts are shared by all
//! threads, so a limit may be passed by as many as there are threads that ask at the same moment.
//!
//! Differs in how the gauges are kept: Envoy sets them after every change. Here they change by one only
//! when the count passes the limit, which exactly one thread sees; so nothing is lost between threads
//! and an ordinary increment costs one atomic addition.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::HostImpl;
use crate::config::cluster::{RetryBudget, Thresholds};
use crate::config::core::RoutingPriority;
use crate::stats::{GaugeRef, Scope};

/// Which limits and connections a request uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResourcePriority {
    /// Everything that does not ask for more.
    #[default]
    Default = 0,
    /// Has limits and connections of its own.
    High = 1,
}

impl ResourcePriority {
    /// All priorities, by number.
    pub const ALL: [ResourcePriority; 2] = [ResourcePriority::Default, ResourcePriority::High];

    /// The name in stats.
    pub fn name(self) -> &'static str {
        match self {
            ResourcePriority::Default => "default",
            ResourcePriority::High => "high",
        }
    }
}

impl From<ResourcePriority> for RoutingPriority {
    fn from(priority: ResourcePriority) -> Self {
        match priority {
            ResourcePriority::Default => RoutingPriority::Default,
            ResourcePriority::High => RoutingPriority::High,
        }
    }
}

impl From<RoutingPriority> for ResourcePriority {
    fn from(priority: RoutingPriority) -> Self {
        match priority {
            RoutingPriority::Default => ResourcePriority::Default,
            RoutingPriority::High => ResourcePriority::High,
        }
    }
}

crate::stats_block! {
    /// Whether a limit is reached.
    struct OpenGauges {
        counters: [],
        gauges: [cx_open, cx_pool_open, rq_open, rq_pending_open, rq_retry_open],
        histograms: [],
    }
}

crate::stats_block! {
    /// How much is left, where that is asked for.
    struct RemainingGauges {
        counters: [],
        gauges: [remaining_cx, remaining_cx_pools, remaining_pending, remaining_retries, remaining_rq],
        histograms: [],
    }
}

/// The limits of a cluster for one priority.
pub struct ResourceManagerImpl {
    counts: [Count; 5],
    open: OpenGauges,
    remaining: Option<RemainingGauges>,
    retry_budget: Option<RetryBudget>,
    max_connections_per_host: Option<u32>,
}

/// How much of a resource is taken.
struct Count {
    max: AtomicU64,
    current: AtomicU64,
    /// Only for a limit of 0, which no count ever passes: whether the gauge already says open.
    opened_at_zero: AtomicBool,
}

impl Count {
    fn new(max: u64) -> Self {
        Count { max: AtomicU64::new(max), current: AtomicU64::new(0), opened_at_zero: AtomicBool::new(false) }
    }
}

/// The resources, by their places among the counts.
#[derive(Clone, Copy)]
enum Kind {
    Connections,
    PendingRequests,
    Requests,
    Retries,
    ConnectionPools,
}

const KINDS: [Kind; 5] =
    [Kind::Connections, Kind::PendingRequests, Kind::Requests, Kind::Retries, Kind::ConnectionPools];

/// All of them: the name that runtime has for the limit, and what is configured.
fn limits(thresholds: &Thresholds) -> [(Kind, &'static str, u64); 5] {
    [
        (Kind::Connections, "max_connections", thresholds.max_connections.into()),
        (Kind::PendingRequests, "max_pending_requests", thresholds.max_pending_requests.into()),
        (Kind::Requests, "max_requests", thresholds.max_requests.into()),
        (Kind::Retries, "max_retries", thresholds.max_retries.into()),
        (
            Kind::ConnectionPools,
            "max_connection_pools",
            thresholds.max_connection_pools.map_or(u64::MAX, u64::from),
        ),
    ]
}

impl ResourceManagerImpl {
    /// With the limits of `thresholds` and gauges in `scope`, which ends in `circuit_breakers.<name>.`.
    pub fn new(thresholds: &Thresholds, max_connections_per_host: Option<u32>, scope: &Scope) -> Self {
        let manager = ResourceManagerImpl {
            counts: limits(thresholds).map(|(_, _, max)| Count::new(max)),
            open: OpenGauges::new(scope),
            remaining: thresholds.track_remaining.then(|| RemainingGauges::new(scope)),
            retry_budget: thresholds.retry_budget.clone(),
            max_connections_per_host,
        };
        // A budget does not move it.
        if let (Some(remaining), Some(_)) = (&manager.remaining, &manager.retry_budget) {
            remaining.remaining_retries().add(thresholds.max_retries.into());
        }
        for resource in KINDS.map(|kind| manager.of(kind)) {
            if let Some(remaining) = resource.remaining() {
                remaining.add(resource.left());
            }
        }
        manager
    }

    #[inline]
    fn of(&self, kind: Kind) -> Resource<'_> {
        Resource { manager: self, kind }
    }

    /// Connections of all pools and TCP proxies.
    #[inline]
    pub fn connections(&self) -> Resource<'_> {
        self.of(Kind::Connections)
    }

    /// Requests that wait for a connection.
    #[inline]
    pub fn pending_requests(&self) -> Resource<'_> {
        self.of(Kind::PendingRequests)
    }

    /// Requests in flight.
    #[inline]
    pub fn requests(&self) -> Resource<'_> {
        self.of(Kind::Requests)
    }

    /// Retries in flight.
    #[inline]
    pub fn retries(&self) -> Resource<'_> {
        self.of(Kind::Retries)
    }

    /// Connection pools, of all hosts and threads together.
    #[inline]
    pub fn connection_pools(&self) -> Resource<'_> {
        self.of(Kind::ConnectionPools)
    }

    /// How many retries there may be now (Envoy 1.40: `RetryBudgetImpl::max`).
    /// Whether there may be another connection to a host of the cluster.
    pub fn can_create_connection(&self, host: &HostImpl) -> bool {
        let has_room = |max: u32| host.stats().cx_active().value() < max.into();
        self.max_connections_per_host.is_none_or(has_room) && self.connections().can_create()
    }

    fn budgeted(&self, budget: &RetryBudget) -> u64 {
        let active = self.requests().count() + self.pending_requests().count();
        let share = budget.budget_percent.value / 100.0 * active as f64;
        (share as u64).max(budget.min_retry_concurrency.into())
    }

    /// Sets the limits anew: `limit` is given the name of each, as runtime has it, and what is configured.
    pub fn set_limits(&self, thresholds: &Thresholds, limit: impl Fn(&str, u64) -> u64) {
        for (kind, name, configured) in limits(thresholds) {
            self.of(kind).set_max(limit(name, configured));
        }
    }
}

/// What the gauges say of this one goes with it; another of the same name may be there already, or still.
impl Drop for ResourceManagerImpl {
    fn drop(&mut self) {
        for kind in KINDS {
            let resource = self.of(kind);
            resource.open_gauge().sub(resource.is_open().into());
            if let Some(remaining) = resource.remaining() {
                remaining.sub(resource.left());
            }
        }
    }
}

/// A count with a limit.
#[derive(Clone, Copy)]
pub struct Resource<'a> {
    manager: &'a ResourceManagerImpl,
    kind: Kind,
}

impl<'a> Resource<'a> {
    #[inline]
    fn taken(self) -> &'a Count {
        &self.manager.counts[self.kind as usize]
    }

    fn open_gauge(self) -> GaugeRef<'a> {
        let gauges = &self.manager.open;
        match self.kind {
            Kind::Connections => gauges.cx_open(),
            Kind::PendingRequests => gauges.rq_pending_open(),
            Kind::Requests => gauges.rq_open(),
            Kind::Retries => gauges.rq_retry_open(),
            Kind::ConnectionPools => gauges.cx_pool_open(),
        }
    }

    fn remaining(self) -> Option<GaugeRef<'a>> {
        let gauges = self.manager.remaining.as_ref()?;
        Some(match self.kind {
            Kind::Connections => gauges.remaining_cx(),
            Kind::PendingRequests => gauges.remaining_pending(),
            Kind::Requests => gauges.remaining_rq(),
            // What a budget leaves depends on what else there is.
            Kind::Retries if self.manager.retry_budget.is_some() => return None,
            Kind::Retries => gauges.remaining_retries(),
            Kind::ConnectionPools => gauges.remaining_cx_pools(),
        })
    }

    /// Whether the limit is not reached yet.
    #[inline]
    pub fn can_create(self) -> bool {
        match (self.kind, &self.manager.retry_budget) {
            (Kind::Retries, Some(budget)) => self.count() < self.manager.budgeted(budget),
            _ => self.count() < self.max(),
        }
    }

    /// Changes the limit, and the gauges with it. What another thread takes at that moment may be missing from them until the
    /// limit changes again.
    fn set_max(self, max: u64) {
        if self.max() == max {
            return;
        }
        let (old_left, was_open) = (self.left(), self.is_open());
        let taken = self.taken();
        taken.max.store(max, Relaxed);
        taken.opened_at_zero.store(max == 0 && self.count() > 0, Relaxed);
        self.open_gauge().add(u64::from(self.is_open()).wrapping_sub(was_open.into()));
        if let Some(remaining) = self.remaining() {
            remaining.add(self.left().wrapping_sub(old_left));
        }
    }

    /// How many may still be taken.
    fn left(self) -> u64 {
        self.max().saturating_sub(self.count())
    }

    /// Whether the limit is reached; one of 0 is when somebody has tried.
    fn is_open(self) -> bool {
        match self.max() {
            0 => self.taken().opened_at_zero.load(Relaxed),
            max => self.count() >= max,
        }
    }

    /// Takes one, whether or not the limit allows it.
    #[inline]
    pub fn inc(self) {
        let (before, max) = (self.taken().current.fetch_add(1, Relaxed), self.max());
        if before < max {
            if let Some(remaining) = self.remaining() {
                remaining.dec();
            }
            if before + 1 == max {
                self.open_gauge().inc();
            }
        } else if max == 0 && !self.taken().opened_at_zero.swap(true, Relaxed) {
            self.open_gauge().inc();
        }
    }

    /// Gives one back that [`Resource::inc`] took.
    #[inline]
    pub fn dec(self) {
        let (before, max) = (self.taken().current.fetch_sub(1, Relaxed), self.max());
        debug_assert!(before > 0, "dec without inc");
        if before <= max {
            if let Some(remaining) = self.remaining() {
                remaining.inc();
            }
            if before == max {
                self.open_gauge().dec();
            }
        }
    }

    /// Whether there is a limit, or somebody is shown how much is left.
    pub fn is_watched(self) -> bool {
        self.max() != u64::MAX || self.manager.remaining.is_some()
    }

    /// The limit.
    #[inline]
    pub fn max(self) -> u64 {
        self.taken().max.load(Relaxed)
    }

    /// How many are taken; may exceed the limit for a while.
    #[inline]
    pub fn count(self) -> u64 {
        self.taken().current.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::core::Percent;
    use crate::stats::{Store, register_thread};

    fn manager(thresholds: &Thresholds) -> (ResourceManagerImpl, Scope) {
        let scope = Store::new(4).root_scope().create_scope("cb.");
        (ResourceManagerImpl::new(thresholds, None, &scope), scope)
    }

    #[test]
    fn a_limit_opens_and_closes() {
        let (manager, scope) = manager(&Thresholds { max_connections: 2, ..Thresholds::default() });
        let (cx, open) = (manager.connections(), scope.gauge("cx_open"));
        cx.inc();
        assert!(cx.can_create());
        assert_eq!((cx.count(), cx.max(), open.value()), (1, 2, 0));
        cx.inc();
        assert!(!cx.can_create());
        assert_eq!(open.value(), 1);
        cx.dec();
        assert!(cx.can_create());
        assert_eq!((cx.count(), open.value()), (1, 0));
    }

    #[test]
    fn above_the_limit_the_gauges_stay_put() {
        let thresholds = Thresholds { max_retries: 1, track_remaining: true, ..Thresholds::default() };
        let (manager, scope) = manager(&thresholds);
        let gauges = || (scope.gauge("rq_retry_open").value(), scope.gauge("remaining_retries").value());
        let retries = manager.retries();
        assert_eq!(gauges(), (0, 1));
        for _ in 0..3 {
            retries.inc();
            assert_eq!(gauges(), (1, 0));
        }
        retries.dec();
        retries.dec();
        assert_eq!((retries.count(), gauges()), (1, (1, 0)));
        retries.dec();
        assert_eq!(gauges(), (0, 1));
    }

    #[test]
    fn a_budget_grows_with_the_requests() {
        let budget = RetryBudget { budget_percent: Percent { value: 50.0 }, min_retry_concurrency: 1 };
        let thresholds = Thresholds { retry_budget: Some(budget), max_retries: 0, ..Thresholds::default() };
        let (manager, _scope) = manager(&thresholds);
        let allowed = || {
            let retries = manager.retries();
            let before = retries.count();
            while retries.can_create() {
                retries.inc();
            }
            let allowed = retries.count();
            (before..allowed).for_each(|_| retries.dec());
            allowed
        };
        assert_eq!(allowed(), 1);
        (0..5).for_each(|_| manager.requests().inc());
        assert_eq!(allowed(), 2);
        (0..3).for_each(|_| manager.pending_requests().inc());
        assert_eq!(allowed(), 4);
    }

    #[test]
    fn a_limit_of_zero_is_open_from_the_first_use_on() {
        let (manager, scope) = manager(&Thresholds { max_connections: 0, ..Thresholds::default() });
        let (cx, open) = (manager.connections(), scope.gauge("cx_open"));
        assert!(!cx.can_create());
        assert_eq!(open.value(), 0);
        for _ in 0..2 {
            cx.inc();
            assert_eq!(open.value(), 1);
            cx.dec();
            assert_eq!((cx.count(), open.value()), (0, 1));
        }
    }

    #[test]
    fn defaults_and_names() {
        let (manager, scope) = manager(&Thresholds::default());
        let limits = [
            manager.connections(),
            manager.pending_requests(),
            manager.requests(),
            manager.retries(),
            manager.connection_pools(),
        ]
        .map(Resource::max);
        assert_eq!(limits, [1024, 1024, 1024, 3, u64::MAX]);
        let names: Vec<String> = scope.store().gauges().iter().map(|g| g.name().to_owned()).collect();
        assert_eq!(
            names,
            ["cb.cx_open", "cb.cx_pool_open", "cb.rq_open", "cb.rq_pending_open", "cb.rq_retry_open"]
        );
    }

    #[test]
    fn threads_that_fight_over_the_limit_leave_the_gauges_right() {
        let thresholds = Thresholds { max_requests: 2, track_remaining: true, ..Thresholds::default() };
        let (manager, scope) = manager(&thresholds);
        std::thread::scope(|threads| {
            for shard in 1..=4 {
                let requests = manager.requests();
                threads.spawn(move || {
                    register_thread(shard);
                    for _ in 0..10_000 {
                        requests.inc();
                        requests.dec();
                    }
                });
            }
        });
        assert_eq!(manager.requests().count(), 0);
        assert_eq!((scope.gauge("rq_open").value(), scope.gauge("remaining_rq").value()), (0, 2));
    }

    #[test]
    fn priorities_follow_the_configuration() {
        assert_eq!(ResourcePriority::from(RoutingPriority::High), ResourcePriority::High);
        assert_eq!(ResourcePriority::ALL.map(ResourcePriority::name), ["default", "high"]);
    }
}
