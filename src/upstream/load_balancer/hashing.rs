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

use serde_json::Value;

use super::bounded_load::BoundedLoad;
use super::hashing_config::HashingOptions;
use super::{HostCounts, LoadBalancer, LoadBalancerContext, LoadBalancerParams, PriorityLoad};
use crate::common::CallbackHandle;
use crate::upstream::{
    ClusterInfoImpl, ENVOY_LB, HostSetImpl, HostSharedPtr, HostVectors, PrioritySetImpl, PriorityUpdateCb,
    WorkerHost,
};

/// Which host a number leads to; of the hosts of one priority.
pub trait HashingTable: Debug + Send + Sync {
    /// The place of the host in the list that the table was made of. Another attempt leads to another place, if not always to
    /// another host.
    fn place(&self, hash: u64, attempt: u32) -> Option<usize>;

    /// How many entries there are, and the fewest and the most that a host has.
    fn figures(&self) -> (u64, [u64; 2]);
}

/// What a table knows of a host.
#[derive(Debug)]
pub struct HostShare {
    /// What is hashed of it.
    pub key: String,
    /// Its share of the requests.
    pub weight: f64,
}

/// Makes a table of hosts, whose shares have the sum 1; at least one.
pub trait TableFactory: Debug + Send + Sync {
    /// The table.
    fn make(&self, hosts: &[HostShare]) -> Box<dyn HashingTable>;
}

/// How the tables of a cluster are made.
#[derive(Debug)]
pub struct HashingTables {
    pub factory: Box<dyn TableFactory>,
    pub options: HashingOptions,
}

/// A table, and the hosts that its places are.
pub struct SharedTable {
    table: Box<dyn HashingTable>,
    hosts: Arc<Vec<HostSharedPtr>>,
    /// Of these hosts, where loads are bounded.
    pub(super) weights: Box<[f64]>,
}

impl HashingTables {
    /// The table of a snapshot; `None` where there are no hosts.
    fn table_of(&self, vectors: &HostVectors, panic: bool) -> Option<Arc<SharedTable>> {
        let cell = &vectors.tables[usize::from(panic)];
        if let Some(made) = cell.get() {
            return Some(made.clone());
        }
        let (hosts, weights) = self.normalized(vectors, panic)?;
        let make = || {
            let shares = hosts.iter().zip(&weights);
            let shares: Vec<_> = shares
                .map(|(host, weight)| HostShare { key: self.hash_key(host), weight: *weight })
                .collect();
            let table = self.factory.make(&shares);
            let is_bounded = self.options.balance_factor.is_some();
            let weights = if is_bounded { weights.into() } else { Box::default() };
            Arc::new(SharedTable { table, hosts, weights })
        };
        Some(cell.get_or_init(make).clone())
    }

    /// Hosts with their shares of the requests (Envoy: `normalizeWeights`): all hosts where the priority is in panic.
    fn normalized(&self, vectors: &HostVectors, panic: bool) -> Option<(Arc<Vec<HostSharedPtr>>, Vec<f64>)> {
        let mut weights = Vec::new();
        if !self.options.locality_weighted {
            let hosts = if panic { &vectors.hosts } else { &vectors.healthy_hosts };
            normalize_host_weights(hosts, 1.0, &mut weights);
            return (!hosts.is_empty()).then(|| (hosts.clone(), weights));
        }
        let localities = &vectors.per_locality.as_ref()?.localities;
        let sum: u64 = localities.iter().map(|locality| u64::from(locality.weight)).sum();
        let mut all = Vec::new();
        for locality in localities.iter().filter(|locality| locality.weight > 0) {
            let hosts = if panic { &locality.hosts } else { &locality.healthy_hosts };
            normalize_host_weights(hosts, f64::from(locality.weight) / sum as f64, &mut weights);
            all.extend_from_slice(hosts);
        }
        (!all.is_empty()).then(|| (Arc::new(all), weights))
    }

    /// What is hashed of a host (Envoy: `HashingLoadBalancer::hashKey`, as of 1.40).
    fn hash_key(&self, host: &HostSharedPtr) -> String {
        let metadata = host.metadata().and_then(|metadata| metadata.value(ENVOY_LB, "hash_key"));
        let said = metadata.and_then(Value::as_str).filter(|key| !key.is_empty());
        match said {
            Some(key) => key.to_string(),
            None if self.options.by_hostname && !host.hostname().is_empty() => host.hostname().to_string(),
            None => host.address().to_string(),
        }
    }
}

fn normalize_host_weights(hosts: &[HostSharedPtr], of_all: f64, weights: &mut Vec<f64>) {
    let sum: u64 = hosts.iter().map(|host| u64::from(host.weight())).sum();
    weights.extend(hosts.iter().map(|host| f64::from(host.weight()) * of_all / sum as f64));
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
    tables: &HashingTables,
    show: impl Fn(u64, [u64; 2]),
) {
    let load = load_of(priority_set, info);
    for (set, panic) in priority_set.host_sets_per_priority().iter().zip(&load.panic) {
        if let Some(made) = tables.table_of(&set.vectors(), *panic) {
            let (size, per_host) = made.table.figures();
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
    tables: Arc<HashingTables>,
    load: RefCell<PriorityLoad>,
    per_priority: RefCell<Vec<PriorityTable>>,
    bounded: Option<BoundedLoad>,
}

struct PriorityTable {
    panic: bool,
    /// Its hosts as this worker has them, those that were chosen.
    of_worker: Box<[OnceCell<Rc<WorkerHost>>]>,
    table: Option<Arc<SharedTable>>,
}

impl HashingLoadBalancer {
    /// Follows the hosts.
    pub fn new(params: &LoadBalancerParams<'_>, tables: Arc<HashingTables>) -> Self {
        let priority_set = params.priority_set;
        let state = Rc::new(State {
            info: params.info.clone(),
            bounded: tables.options.balance_factor.map(BoundedLoad::new),
            tables,
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
            let table = self.tables.table_of(&set.vectors(), *panic);
            let hosts = table.as_ref().map_or(0, |made| made.hosts.len());
            PriorityTable { panic: *panic, of_worker: (0..hosts).map(|_| OnceCell::new()).collect(), table }
        };
        let per_priority = priority_set.host_sets_per_priority().iter().zip(&load.panic).map(table).collect();
        self.load.replace(load);
        let old = self.per_priority.replace(per_priority);
        drop(old);
    }

    fn choose(&self, hash: u64, attempt: u32) -> Option<Rc<WorkerHost>> {
        let (priority, _) = self.load.borrow().choose(hash);
        let per_priority = self.per_priority.borrow();
        let PriorityTable { panic, table, of_worker } = per_priority.get(priority)?;
        if *panic && attempt == 0 {
            self.info.stats().lb_healthy_panic().inc();
        }
        let made = table.as_ref()?;
        let place = made.table.place(hash, attempt)?;
        let place = match &self.bounded {
            Some(bounded) => bounded.place(hash, place, &made.hosts, &made.weights, &self.info),
            None => place,
        };
        Some(of_worker.get(place)?.get_or_init(|| WorkerHost::new(made.hosts[place].clone())).clone())
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
