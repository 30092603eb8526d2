//! A subset: its hosts, and how one of them is chosen.
//!
//! Mirrors `PriorityLbSubset`, `HostSubsetImpl` and `SingleHostLbSubset` of Envoy 1.40's `subset_lb.cc`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::SubsetConfig;
use crate::common::CallbackHandle;
use crate::upstream::load_balancer::{LoadBalancer, LoadBalancerContext, LoadBalancerParams};
use crate::upstream::{
    ClusterInfoImpl, HostSetOptions, HostSharedPtr, HostVectors, PrioritySetImpl, PriorityUpdateCb,
    WorkerHost,
};

/// See the module's description.
pub struct LbSubset {
    /// Those of the priority that is being updated.
    pushed: RefCell<Vec<HostSharedPtr>>,
    is_active: Cell<bool>,
    kind: Kind,
}

enum Kind {
    Hosts(HostSubset),
    /// One for each priority, of which the first is taken, whatever its health.
    Single(RefCell<BTreeMap<u32, Rc<WorkerHost>>>),
}

struct HostSubset {
    priority_set: Rc<PrioritySetImpl>,
    lb: Box<dyn LoadBalancer>,
    _thread_aware: Option<CallbackHandle<PriorityUpdateCb>>,
}

/// What is needed to make subsets.
pub struct SubsetMaker {
    pub config: Arc<SubsetConfig>,
    pub info: Arc<ClusterInfoImpl>,
    pub local_priority_set: Option<Rc<PrioritySetImpl>>,
}

impl SubsetMaker {
    /// One without hosts.
    pub fn make(&self, is_single: bool) -> Rc<LbSubset> {
        let kind =
            if is_single { Kind::Single(RefCell::default()) } else { Kind::Hosts(self.make_host_subset()) };
        Rc::new(LbSubset { pushed: RefCell::default(), is_active: Cell::new(false), kind })
    }

    fn make_host_subset(&self) -> HostSubset {
        let priority_set = PrioritySetImpl::new();
        let thread_aware = self.config.inner.thread_aware(&self.info);
        // Before the balancer hears of a change.
        let thread_aware = thread_aware.map(|thread_aware| {
            let set = Rc::downgrade(&priority_set);
            priority_set.add_priority_update_cb(move |_, _, _| {
                set.upgrade().iter().for_each(|set| thread_aware.refresh(set));
            })
        });
        let lb = self.config.inner.create(&LoadBalancerParams {
            priority_set: &priority_set,
            local_priority_set: self.local_priority_set.as_ref(),
            info: &self.info,
        });
        HostSubset { priority_set, lb, _thread_aware: thread_aware }
    }

    /// What holds of the hosts of all subsets, unless their weights depend on how many there are.
    pub fn options(&self, original: &Arc<HostSetOptions>) -> Arc<HostSetOptions> {
        if self.config.locality_weight_aware || original.locality_weights.is_empty() {
            return original.clone();
        }
        Arc::new(HostSetOptions { locality_weights: BTreeMap::new(), ..(**original).clone() })
    }

    fn scaled(
        &self,
        hosts: &[HostSharedPtr],
        original: &HostVectors,
        options: &Arc<HostSetOptions>,
    ) -> Arc<HostSetOptions> {
        let is_scaled = self.config.locality_weight_aware && self.config.scale_locality_weight;
        if !is_scaled || options.locality_weights.is_empty() {
            return options.clone();
        }
        let mut scaled = (**options).clone();
        for (locality, weight) in &mut scaled.locality_weights {
            let count = |hosts: &[HostSharedPtr]| hosts.iter().filter(|h| h.locality() == locality).count();
            let (kept, all) = (count(hosts), count(&original.hosts));
            *weight = match all {
                0 => 0,
                all => ((u64::from(*weight) * kept as u64) as f32 / all as f32).round() as u32,
            };
        }
        Arc::new(scaled)
    }
}

impl LbSubset {
    /// Whether it has hosts, healthy or not.
    pub fn is_active(&self) -> bool {
        self.is_active.get()
    }

    /// Whether there is never more than one host in a priority.
    pub fn is_single(&self) -> bool {
        matches!(self.kind, Kind::Single(_))
    }

    /// Takes a host that belongs to it; false where there is one.
    pub fn push_host(&self, host: &HostSharedPtr) -> bool {
        let mut pushed = self.pushed.borrow_mut();
        let has_room = !self.is_single() || pushed.is_empty();
        if has_room && !pushed.last().is_some_and(|last| Arc::ptr_eq(last, host)) {
            pushed.push(host.clone());
        }
        has_room
    }

    /// What has been pushed is all that there is in a priority.
    pub fn finalize(
        &self,
        priority: u32,
        maker: &SubsetMaker,
        original: &HostVectors,
        options: &Arc<HostSetOptions>,
    ) {
        let pushed = self.pushed.take();
        match &self.kind {
            Kind::Single(hosts) => {
                let old = match pushed.first() {
                    Some(host) if hosts.borrow().get(&priority).is_some_and(|old| is(old, host)) => None,
                    Some(host) => hosts.borrow_mut().insert(priority, WorkerHost::new(host.clone())),
                    None => hosts.borrow_mut().remove(&priority),
                };
                drop(old);
                self.is_active.set(!hosts.borrow().is_empty());
            }
            Kind::Hosts(HostSubset { priority_set, .. }) => {
                let sets = priority_set.host_sets_per_priority();
                let known = sets.get(priority as usize).map(|set| set.hosts()).unwrap_or_default();
                let (added, removed) = (without(&pushed, &known), without(&known, &pushed));
                let options = maker.scaled(&pushed, original, options);
                let vectors = HostVectors::partition(Arc::new(pushed), &options);
                priority_set.update_hosts(priority, vectors, &added, &removed);
                let sets = priority_set.host_sets_per_priority();
                self.is_active.set(sets.iter().any(|set| !set.hosts().is_empty()));
            }
        }
    }

    /// A host of it, if any is available.
    pub fn choose_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        match &self.kind {
            Kind::Hosts(HostSubset { lb, .. }) => lb.choose_host(context),
            Kind::Single(hosts) => hosts.borrow().values().next().cloned(),
        }
    }
}

fn is(host: &WorkerHost, other: &HostSharedPtr) -> bool {
    Arc::ptr_eq(host.shared(), other)
}

fn without(hosts: &[HostSharedPtr], others: &[HostSharedPtr]) -> Vec<HostSharedPtr> {
    let others: HashSet<_> = others.iter().map(Arc::as_ptr).collect();
    hosts.iter().filter(|host| !others.contains(&Arc::as_ptr(host))).cloned().collect()
}
