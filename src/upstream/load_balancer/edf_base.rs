//! Load balancing with weights: one schedule for each set of hosts that can be chosen from.
//!
//! Mirrors `EdfLoadBalancerBase` of Envoy's `source/common/upstream/load_balancer_impl.cc`. The schedule
//! is used for equal weights too, as 1.1 does for static clusters: they then take turns. A schedule is made when it is
//! first asked: most workers have no request for most clusters, and most clusters are never in panic.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{EdfScheduler, HostsSource, LoadBalancerBase, LoadBalancerContext, SourceType};
use crate::common::CallbackHandle;
use crate::upstream::{
    ClusterInfoImpl, HostImpl, HostSetImpl, HostSharedPtr, PrioritySetImpl, PriorityUpdateCb, WorkerHost,
};

/// Chooses hosts by weight.
pub struct EdfLoadBalancerBase {
    schedules: Rc<Schedules>,
    _update: CallbackHandle<PriorityUpdateCb>,
}

/// What the update callback refreshes.
struct Schedules {
    base: LoadBalancerBase,
    host_weight: fn(&HostImpl) -> f64,
    /// Where in the order of hosts this load balancer starts, so that not all workers start alike.
    seed: u64,
    per_priority: RefCell<Vec<PrioritySchedules>>,
}

struct PrioritySchedules {
    all: Schedule,
    healthy: Schedule,
    degraded: Schedule,
}

/// The hosts that can be chosen from, and once one was, whose turn it is.
struct Schedule {
    hosts: Arc<Vec<HostSharedPtr>>,
    turns: Option<Box<Turns>>,
}

struct Turns {
    hosts: Vec<Rc<WorkerHost>>,
    edf: EdfScheduler,
}

impl EdfLoadBalancerBase {
    /// Follows `priority_set`. `host_weight` says the weight of a host whenever it is scheduled; `seed`
    /// is any number.
    pub fn new(
        priority_set: &Rc<PrioritySetImpl>,
        info: &Arc<ClusterInfoImpl>,
        host_weight: fn(&HostImpl) -> f64,
        seed: u64,
    ) -> Self {
        let schedules = Rc::new(Schedules {
            base: LoadBalancerBase::new(priority_set, info),
            host_weight,
            seed,
            per_priority: RefCell::default(),
        });
        for host_set in priority_set.host_sets_per_priority() {
            schedules.refresh(&host_set);
        }
        let (weak_schedules, weak_set) = (Rc::downgrade(&schedules), Rc::downgrade(priority_set));
        let update = priority_set.add_priority_update_cb(move |priority, _, _| {
            if let (Some(schedules), Some(set)) = (weak_schedules.upgrade(), weak_set.upgrade()) {
                schedules.on_priority_update(&set, priority);
            }
        });
        EdfLoadBalancerBase { schedules, _update: update }
    }

    /// The host whose turn it is.
    #[inline]
    pub fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let Schedules { base, host_weight, seed, per_priority } = &*self.schedules;
        let source = base.host_source_to_use(context);
        let mut per_priority = per_priority.borrow_mut();
        let schedule = per_priority.get_mut(source.priority)?.of(source);
        let turns = schedule.turns.get_or_insert_with(|| Turns::new(&schedule.hosts, *host_weight, *seed));
        turns.pick(*host_weight)
    }
}

impl Schedules {
    fn on_priority_update(&self, priority_set: &PrioritySetImpl, priority: u32) {
        self.base.recalculate(priority_set);
        // An update of a priority may have made the empty ones below it.
        let known = self.per_priority.borrow().len();
        for host_set in priority_set.host_sets_per_priority() {
            if host_set.priority() == priority || host_set.priority() as usize >= known {
                self.refresh(&host_set);
            }
        }
    }

    fn refresh(&self, host_set: &HostSetImpl) {
        let schedule = |hosts| Schedule { hosts, turns: None };
        let schedules = PrioritySchedules {
            all: schedule(host_set.hosts()),
            healthy: schedule(host_set.healthy_hosts()),
            degraded: schedule(host_set.degraded_hosts()),
        };
        let mut per_priority = self.per_priority.borrow_mut();
        let old = match per_priority.get_mut(host_set.priority() as usize) {
            Some(old) => Some(std::mem::replace(old, schedules)),
            None => {
                per_priority.reserve_exact(1);
                per_priority.push(schedules);
                None
            }
        };
        drop(per_priority);
        drop(old);
    }
}

impl PrioritySchedules {
    fn of(&mut self, source: HostsSource) -> &mut Schedule {
        match source.source_type {
            SourceType::AllHosts => &mut self.all,
            SourceType::HealthyHosts => &mut self.healthy,
            SourceType::DegradedHosts => &mut self.degraded,
        }
    }
}

impl Turns {
    fn new(hosts: &[HostSharedPtr], host_weight: fn(&HostImpl) -> f64, seed: u64) -> Box<Self> {
        let mut edf = EdfScheduler::with_capacity(hosts.len());
        for (index, host) in hosts.iter().enumerate() {
            edf.add(host_weight(host), index);
        }
        let hosts = hosts.iter().map(|host| WorkerHost::new(host.clone())).collect();
        let mut turns = Box::new(Turns { hosts, edf });
        let skipped = seed.checked_rem(turns.hosts.len() as u64).unwrap_or(0);
        for _ in 0..skipped {
            turns.pick(host_weight);
        }
        turns
    }

    #[inline]
    fn pick(&mut self, host_weight: fn(&HostImpl) -> f64) -> Option<Rc<WorkerHost>> {
        let hosts = &self.hosts;
        let index = self.edf.pick_and_add(|index| host_weight(&hosts[index]))?;
        self.hosts.get(index).cloned()
    }
}
