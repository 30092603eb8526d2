//! What a balancer has for each set of hosts that can be chosen from.
//!
//! Mirrors what the balancers of Envoy's `source/common/upstream/load_balancer_impl.cc` keep by `HostsSource`: schedules, or places
//! in the list. It is made when the set is first chosen from: most workers have no request for most clusters, and most clusters
//! are never in panic.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{HostsSource, LoadBalancerBase, LoadBalancerContext, SourceType};
use crate::common::CallbackHandle;
use crate::upstream::{
    ClusterInfoImpl, HostSetImpl, HostSharedPtr, PrioritySetImpl, PriorityUpdateCb, WorkerHost,
};

/// See the module's description. A change of hosts throws it away.
pub struct PerSource<T> {
    sources: Rc<Sources<T>>,
    _update: CallbackHandle<PriorityUpdateCb>,
}

/// What the update callback refreshes.
struct Sources<T> {
    base: LoadBalancerBase,
    per_priority: RefCell<Vec<[Source<T>; 3]>>,
}

struct Source<T> {
    hosts: Arc<Vec<HostSharedPtr>>,
    made: Option<Box<T>>,
}

impl<T: 'static> PerSource<T> {
    /// Follows `priority_set`.
    pub fn new(priority_set: &Rc<PrioritySetImpl>, info: &Arc<ClusterInfoImpl>) -> Self {
        let sources = Rc::new(Sources {
            base: LoadBalancerBase::new(priority_set, info),
            per_priority: RefCell::default(),
        });
        for host_set in priority_set.host_sets_per_priority() {
            sources.refresh(&host_set);
        }
        let (weak_sources, weak_set) = (Rc::downgrade(&sources), Rc::downgrade(priority_set));
        let update = priority_set.add_priority_update_cb(move |priority, _, _| {
            if let (Some(sources), Some(set)) = (weak_sources.upgrade(), weak_set.upgrade()) {
                sources.on_priority_update(&set, priority);
            }
        });
        PerSource { sources, _update: update }
    }

    /// Chooses from the hosts whose turn it is, with what `make` makes of them when it is first needed.
    #[inline(always)]
    pub fn choose(
        &self,
        context: &dyn LoadBalancerContext,
        make: impl FnOnce(Vec<Rc<WorkerHost>>) -> T,
        choose: impl FnOnce(&mut T) -> Option<Rc<WorkerHost>>,
    ) -> Option<Rc<WorkerHost>> {
        let Sources { base, per_priority } = &*self.sources;
        let source = base.host_source_to_use(context);
        let mut per_priority = per_priority.borrow_mut();
        let Source { hosts, made } = &mut per_priority.get_mut(source.priority)?[place(source)];
        choose(made.get_or_insert_with(|| {
            Box::new(make(hosts.iter().map(|host| WorkerHost::new(host.clone())).collect()))
        }))
    }
}

impl<T> Sources<T> {
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
        let sources = [host_set.hosts(), host_set.healthy_hosts(), host_set.degraded_hosts()]
            .map(|hosts| Source { hosts, made: None });
        let mut per_priority = self.per_priority.borrow_mut();
        let old = match per_priority.get_mut(host_set.priority() as usize) {
            Some(old) => Some(std::mem::replace(old, sources)),
            None => {
                per_priority.reserve_exact(1);
                per_priority.push(sources);
                None
            }
        };
        drop(per_priority);
        drop(old);
    }
}

#[inline]
fn place(source: HostsSource) -> usize {
    match source.source_type {
        SourceType::AllHosts => 0,
        SourceType::HealthyHosts => 1,
        SourceType::DegradedHosts => 2,
    }
}
