//! Balancers by a number of the request: the same number leads to the same host.
//!
//! Mirrors `ThreadAwareLoadBalancerBase` of Envoy's `source/common/upstream/thread_aware_lb_impl.cc`. There the main thread builds a
//! table for each priority and workers ask for it under a lock. Here the table belongs to the snapshot of the hosts that it is
//! made of: the main thread builds it before the snapshot goes to the workers, and who comes first builds it where that has not
//! been foreseen.

use std::cell::{OnceCell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use super::{HostCounts, LoadBalancer, LoadBalancerContext, PriorityLoad};
use crate::common::CallbackHandle;
use crate::upstream::{
    ClusterInfoImpl, HostSetImpl, HostSharedPtr, HostVectors, PrioritySetImpl, PriorityUpdateCb, WorkerHost,
};

/// Which host a number leads to; of the hosts of one priority.
pub trait HashingTable: Debug + Send + Sync {
    /// The place of the host in the list that the table was made of. Another attempt leads to another place, if not always to
    /// another host.
    fn place(&self, hash: u64, attempt: u32) -> Option<usize>;

    /// How many entries there are, and the fewest and the most that a host has.
    fn figures(&self) -> (u64, [u64; 2]);
}

/// Makes a table of hosts and their weights, whose sum is 1; at least one.
pub trait TableFactory: Debug + Send + Sync {
    /// The table.
    fn make(&self, hosts: &[(HostSharedPtr, f64)]) -> Arc<dyn HashingTable>;
}

/// Hosts with their share of the requests (Envoy: `normalizeHostWeights`).
fn normalized(hosts: &[HostSharedPtr]) -> Vec<(HostSharedPtr, f64)> {
    let sum: u64 = hosts.iter().map(|host| u64::from(host.weight())).sum();
    hosts.iter().map(|host| (host.clone(), f64::from(host.weight()) * 1.0 / sum as f64)).collect()
}

/// The hosts that a table is made of: all where the priority is in panic.
fn table_hosts(vectors: &HostVectors, panic: bool) -> &Arc<Vec<HostSharedPtr>> {
    if panic { &vectors.hosts } else { &vectors.healthy_hosts }
}

/// The table of a snapshot; `None` where there are no hosts.
fn table_of(vectors: &HostVectors, panic: bool, factory: &dyn TableFactory) -> Option<Arc<dyn HashingTable>> {
    let hosts = table_hosts(vectors, panic);
    let make = || factory.make(&normalized(hosts));
    (!hosts.is_empty()).then(|| vectors.tables[usize::from(panic)].get_or_init(make).clone())
}

fn load_of(priority_set: &PrioritySetImpl, info: &ClusterInfoImpl) -> PriorityLoad {
    let host_sets = priority_set.host_sets_per_priority();
    let counts: Vec<_> = host_sets.iter().map(|set| HostCounts::of(&set.vectors())).collect();
    PriorityLoad::compute(&counts, info.healthy_panic_threshold())
}

/// Builds the tables that workers will share, and has them shown.
pub fn refresh(
    priority_set: &PrioritySetImpl,
    info: &ClusterInfoImpl,
    factory: &dyn TableFactory,
    show: impl Fn(u64, [u64; 2]),
) {
    let load = load_of(priority_set, info);
    for (set, panic) in priority_set.host_sets_per_priority().iter().zip(&load.panic) {
        if let Some(table) = table_of(&set.vectors(), *panic, factory) {
            let (size, per_host) = table.figures();
            show(size, per_host);
        }
    }
}

/// See the module's description.
pub struct HashingLoadBalancer {
    state: Rc<State>,
    _update: CallbackHandle<PriorityUpdateCb>,
}

struct State {
    info: Arc<ClusterInfoImpl>,
    factory: Arc<dyn TableFactory>,
    load: RefCell<PriorityLoad>,
    per_priority: RefCell<Vec<PriorityTable>>,
}

struct PriorityTable {
    panic: bool,
    table: Option<Arc<dyn HashingTable>>,
    hosts: Arc<Vec<HostSharedPtr>>,
    /// As this worker has them, those that were chosen.
    of_worker: Vec<OnceCell<Rc<WorkerHost>>>,
}

impl HashingLoadBalancer {
    /// Follows `priority_set`.
    pub fn new(
        priority_set: &Rc<PrioritySetImpl>,
        info: &Arc<ClusterInfoImpl>,
        factory: Arc<dyn TableFactory>,
    ) -> Self {
        let state = Rc::new(State {
            info: info.clone(),
            factory,
            load: RefCell::default(),
            per_priority: RefCell::default(),
        });
        state.refresh(priority_set);
        let (weak_state, weak_set) = (Rc::downgrade(&state), Rc::downgrade(priority_set));
        let update = priority_set.add_priority_update_cb(move |_, _, _| {
            if let (Some(state), Some(set)) = (weak_state.upgrade(), weak_set.upgrade()) {
                state.refresh(&set);
            }
        });
        HashingLoadBalancer { state, _update: update }
    }
}

impl State {
    fn refresh(&self, priority_set: &PrioritySetImpl) {
        let load = load_of(priority_set, &self.info);
        let table = |(set, panic): (&Rc<HostSetImpl>, &bool)| {
            let vectors = set.vectors();
            let hosts = table_hosts(&vectors, *panic).clone();
            PriorityTable {
                panic: *panic,
                table: table_of(&vectors, *panic, &*self.factory),
                of_worker: hosts.iter().map(|_| OnceCell::new()).collect(),
                hosts,
            }
        };
        let per_priority = priority_set.host_sets_per_priority().iter().zip(&load.panic).map(table).collect();
        self.load.replace(load);
        let old = self.per_priority.replace(per_priority);
        drop(old);
    }

    fn choose(&self, hash: u64, attempt: u32) -> Option<Rc<WorkerHost>> {
        let (priority, _) = self.load.borrow().choose(hash);
        let per_priority = self.per_priority.borrow();
        let PriorityTable { panic, table, hosts, of_worker } = per_priority.get(priority)?;
        if *panic && attempt == 0 {
            self.info.stats().lb_healthy_panic().inc();
        }
        let place = table.as_ref()?.place(hash, attempt)?;
        Some(of_worker.get(place)?.get_or_init(|| WorkerHost::new(hosts[place].clone())).clone())
    }
}

impl LoadBalancer for HashingLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.state.choose(context.compute_hash_key().unwrap_or_else(|| fastrand::u64(..)), 0)
    }

    fn choose_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let hash = context.compute_hash_key().unwrap_or_else(|| fastrand::u64(..));
        let mut host = self.state.choose(hash, 0)?;
        let mut attempt = 0;
        while attempt < context.host_selection_retry_count() && context.should_select_another_host(&host) {
            attempt += 1;
            host = self.state.choose(hash, attempt)?;
        }
        Some(host)
    }
}

/// What is hashed of a host (Envoy: `HashingLoadBalancer::hashKey`).
pub fn hash_key(host: &HostSharedPtr, by_hostname: bool) -> String {
    match by_hostname && !host.hostname().is_empty() {
        true => host.hostname().to_string(),
        false => host.address().to_string(),
    }
}
