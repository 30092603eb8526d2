//! What a balancer has for each set of hosts that can be chosen from.
//!
//! Mirrors what the balancers of Envoy's `source/common/upstream/load_balancer_impl.cc` keep by `HostsSource`: schedules, or places
//! in the list. It is made when the set is first chosen from: most workers have no request for most clusters, and most clusters
//! are never in panic.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{
    HostsSource, LoadBalancerBase, LoadBalancerContext, LoadBalancerParams, LocalityLbConfig, SourceType,
};
use crate::common::CallbackHandle;
use crate::upstream::{HostSetImpl, HostSharedPtr, PrioritySetImpl, PriorityUpdateCb, WorkerHost};

/// See the module's description. A change of hosts throws it away.
pub struct PerSource<T> {
    sources: Rc<Sources<T>>,
    _updates: [Option<CallbackHandle<PriorityUpdateCb>>; 2],
}

/// What the update callback refreshes.
struct Sources<T> {
    base: LoadBalancerBase,
    per_priority: RefCell<Vec<PrioritySources<T>>>,
    seed: u64,
}

struct PrioritySources<T> {
    /// All hosts, the healthy ones and the degraded ones.
    all: [Source<T>; 3],
    /// The healthy ones and the degraded ones of each locality.
    localities: Box<[[Source<T>; 2]]>,
}

struct Source<T> {
    hosts: Arc<Vec<HostSharedPtr>>,
    made: Option<Box<T>>,
    /// Goes on when the hosts change.
    turn: u64,
}

impl<T: 'static> PerSource<T> {
    /// Follows the hosts; `seed` is where those who count turns begin.
    pub fn new(params: &LoadBalancerParams<'_>, config: &LocalityLbConfig, seed: u64) -> Self {
        let sources = Rc::new(Sources {
            base: LoadBalancerBase::new(params, config),
            per_priority: RefCell::default(),
            seed,
        });
        for host_set in params.priority_set.host_sets_per_priority() {
            sources.refresh(&host_set);
        }
        let (weak_sources, weak_set) = (Rc::downgrade(&sources), Rc::downgrade(params.priority_set));
        let update = params.priority_set.add_priority_update_cb(move |priority, _, _| {
            if let (Some(sources), Some(set)) = (weak_sources.upgrade(), weak_set.upgrade()) {
                sources.on_priority_update(&set, priority);
            }
        });
        let weak_sources = Rc::downgrade(&sources);
        let on_local_update = move |_, _: &[HostSharedPtr], _: &[HostSharedPtr]| {
            if let Some(sources) = weak_sources.upgrade() {
                sources.base.on_local_update();
            }
        };
        let local = params.local_priority_set.map(|local| local.add_priority_update_cb(on_local_update));
        PerSource { sources, _updates: [Some(update), local] }
    }

    /// Chooses from the hosts whose turn it is, with what `make` makes of them when it is first needed. Both are given
    /// the turn.
    #[inline(always)]
    pub fn choose(
        &self,
        context: &dyn LoadBalancerContext,
        make: impl FnOnce(Vec<Rc<WorkerHost>>, u64) -> T,
        choose: impl FnOnce(&mut T, &mut u64) -> Option<Rc<WorkerHost>>,
    ) -> Option<Rc<WorkerHost>> {
        let Sources { base, per_priority, .. } = &*self.sources;
        let source = base.host_source_to_use(context)?;
        let mut per_priority = per_priority.borrow_mut();
        let Source { hosts, made, turn } = per_priority.get_mut(source.priority)?.get_mut(source)?;
        let made = made.get_or_insert_with(|| {
            Box::new(make(hosts.iter().map(|host| WorkerHost::new(host.clone())).collect(), *turn))
        });
        choose(made, turn)
    }
}

impl<T> Sources<T> {
    fn on_priority_update(&self, priority_set: &PrioritySetImpl, priority: u32) {
        self.base.recalculate(priority, priority_set);
        // An update of a priority may have made the empty ones below it.
        let known = self.per_priority.borrow().len();
        for host_set in priority_set.host_sets_per_priority() {
            if host_set.priority() == priority || host_set.priority() as usize >= known {
                self.refresh(&host_set);
            }
        }
    }

    fn refresh(&self, host_set: &HostSetImpl) {
        let vectors = host_set.vectors();
        let mut per_priority = self.per_priority.borrow_mut();
        let at = host_set.priority() as usize;
        if per_priority.len() <= at {
            per_priority.reserve_exact(1);
            per_priority.push(PrioritySources::new(self.seed));
        }
        let old = per_priority[at].refresh(
            [&vectors.hosts, &vectors.healthy_hosts, &vectors.degraded_hosts],
            vectors.per_locality.iter().flat_map(|all| {
                all.localities.iter().map(|locality| [&locality.healthy_hosts, &locality.degraded_hosts])
            }),
            self.seed,
        );
        drop(per_priority);
        drop(old);
    }
}

impl<T> PrioritySources<T> {
    fn new(seed: u64) -> Self {
        let source = || Source { hosts: Arc::default(), made: None, turn: seed };
        PrioritySources { all: [source(), source(), source()], localities: Box::default() }
    }

    /// Takes other hosts; returns the old ones.
    fn refresh<'a>(
        &mut self,
        all: [&Arc<Vec<HostSharedPtr>>; 3],
        localities: impl Iterator<Item = [&'a Arc<Vec<HostSharedPtr>>; 2]>,
        seed: u64,
    ) -> Self {
        let [a, b, c] = self.all.each_ref().map(|source| source.turn);
        let after = |hosts: &Arc<Vec<HostSharedPtr>>, turn| Source { hosts: hosts.clone(), made: None, turn };
        let turn = |i: usize, j: usize| {
            self.localities.get(i).map_or(seed, |sources: &[Source<T>; 2]| sources[j].turn)
        };
        let in_locality = |(i, [healthy, degraded]): (usize, [&Arc<Vec<HostSharedPtr>>; 2])| {
            [after(healthy, turn(i, 0)), after(degraded, turn(i, 1))]
        };
        let new = PrioritySources {
            all: [after(all[0], a), after(all[1], b), after(all[2], c)],
            localities: localities.enumerate().map(in_locality).collect(),
        };
        std::mem::replace(self, new)
    }

    #[inline]
    fn get_mut(&mut self, source: HostsSource) -> Option<&mut Source<T>> {
        match source.source_type {
            SourceType::AllHosts => Some(&mut self.all[0]),
            SourceType::HealthyHosts => Some(&mut self.all[1]),
            SourceType::DegradedHosts => Some(&mut self.all[2]),
            SourceType::LocalityHealthyHosts(locality) => Some(&mut self.localities.get_mut(locality)?[0]),
            SourceType::LocalityDegradedHosts(locality) => Some(&mut self.localities.get_mut(locality)?[1]),
        }
    }
}
