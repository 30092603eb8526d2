//! Clusters whose hosts are where their requests were meant to go.
//!
//! Mirrors `OriginalDstCluster` of Envoy's `source/common/upstream/original_dst_cluster.cc`; when a host goes is as in 1.40: not
//! while somebody has a connection to it. Workers make hosts as they need them and post them to the main thread, which tells
//! the others. What was chosen lately is said by flags that all threads share, one for each address.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::load_balancer::OriginalDstLb;
use super::{
    Cluster, ClusterFactory, ClusterFactoryContext, ClusterImplBase, ClusterInfoImpl, ClusterTypeConfig,
    HostSetOptions, HostSharedPtr, HostVectors, InitializePhase,
};
use crate::config::cluster::{Cluster as ClusterConfig, lb_policy_name};
use crate::config::error::ConfigError;
use crate::config::reader::MessageReader;
use crate::envoy_log;
use crate::event::{DispatcherHandle, Timer};
use crate::trace::{self, Stage};

/// Such clusters among the extensions.
pub static ORIGINAL_DST_CLUSTER: ClusterFactory =
    ClusterFactory::new("envoy.cluster.original_dst", &[], |_| Ok(Arc::new(OriginalDstClusterType)))
        .or_around(read_around);

fn read_around(r: &mut MessageReader<'_>) -> Result<Arc<dyn ClusterTypeConfig>, ConfigError> {
    let policy = lb_policy_name(r)?;
    if policy != "CLUSTER_PROVIDED" {
        let message = format!(
            "cluster: LB policy {policy} is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with \
             cluster type 'ORIGINAL_DST'"
        );
        r.refuse("lb_policy", message);
    } else if r.has("load_assignment") {
        r.refuse("load_assignment", "ORIGINAL_DST clusters must have no load assignment configured");
    }
    Ok(Arc::new(OriginalDstClusterType))
}

/// There is nothing more to say than the cluster does.
#[derive(Debug)]
struct OriginalDstClusterType;

impl ClusterTypeConfig for OriginalDstClusterType {
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        Ok(OriginalDstCluster::new(cluster, context)?)
    }
}

thread_local! {
    /// The clusters of this thread, the main one, for what workers post to them.
    static CLUSTERS: RefCell<HashMap<u64, Weak<OriginalDstCluster>>> = RefCell::default();
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// What the workers have of a cluster (Envoy: `OriginalDstClusterHandle`).
#[derive(Debug)]
pub struct OriginalDstClusterHandle {
    id: u64,
    main: DispatcherHandle,
    /// Looked into when a host comes, and not when one is chosen.
    used: Mutex<HashMap<SocketAddr, Arc<AtomicBool>>>,
}

impl OriginalDstClusterHandle {
    /// The flag that an address is chosen by somebody.
    pub fn use_of(&self, address: SocketAddr) -> Arc<AtomicBool> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.entry(address).or_insert_with(|| Arc::new(AtomicBool::new(true))).clone()
    }

    /// Gives the cluster a host that a worker has made.
    pub fn post_host(&self, host: &HostSharedPtr) {
        let (id, host) = (self.id, host.clone());
        self.main.post(move || {
            let cluster = CLUSTERS.with_borrow(|clusters| clusters.get(&id).and_then(Weak::upgrade));
            if let Some(cluster) = cluster {
                cluster.add_host(&host);
            }
        });
    }

    /// Whether the address was chosen since this was asked last.
    fn take_use(&self, address: &SocketAddr) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(address).is_some_and(|used| used.swap(false, Relaxed))
    }

    fn forget(&self, addresses: &HashSet<SocketAddr>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|address, _| !addresses.contains(address));
    }
}

/// See the module's description.
pub struct OriginalDstCluster {
    base: ClusterImplBase,
    handle: Arc<OriginalDstClusterHandle>,
    options: Arc<HostSetOptions>,
    cleanup_interval: Duration,
    cleanup_timer: Timer,
}

impl OriginalDstCluster {
    /// Without hosts yet.
    ///
    /// # Errors
    /// What its extensions ask for and cannot be had.
    pub fn new(
        config: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<Self>, ConfigError> {
        let handle = Arc::new(OriginalDstClusterHandle {
            id: NEXT_ID.fetch_add(1, Relaxed),
            main: context.dispatcher.handle(),
            used: Mutex::default(),
        });
        let lb = OriginalDstLb::new(config.original_dst_lb_config.as_deref(), &handle);
        let info = ClusterInfoImpl::with_provided_lb(config, context.root, context.added_via_api, lb)?;
        let cluster = Rc::new_cyclic(|weak: &Weak<Self>| {
            let weak = weak.clone();
            OriginalDstCluster {
                base: ClusterImplBase::new(info),
                handle,
                options: Arc::default(),
                cleanup_interval: config.cleanup_interval,
                cleanup_timer: context.dispatcher.create_timer(move || {
                    if let Some(cluster) = weak.upgrade() {
                        cluster.cleanup();
                    }
                }),
            }
        });
        CLUSTERS.with_borrow_mut(|clusters| clusters.insert(cluster.handle.id, Rc::downgrade(&cluster)));
        cluster.cleanup_timer.enable_timer(cluster.cleanup_interval);
        Ok(cluster)
    }

    fn hosts(&self) -> Arc<Vec<HostSharedPtr>> {
        self.priority_set().host_sets_per_priority().first().map(|set| set.hosts()).unwrap_or_default()
    }

    fn add_host(&self, host: &HostSharedPtr) {
        trace::instant(Stage::AddHost, None, 0, self.hosts().len() as u64, 0);
        let mut hosts = self.hosts().to_vec();
        hosts.push(host.clone());
        self.update(hosts, std::slice::from_ref(host), &[]);
    }

    /// Removes what nobody has chosen since the last time and nobody has a connection to. The hosts of an address go together.
    fn cleanup(&self) {
        envoy_log!(Upstream, trace, "Stale original dst hosts cleanup triggered.");
        let hosts = self.hosts();
        if !hosts.is_empty() {
            envoy_log!(Upstream, debug, "Cleaning up stale original dst hosts.");
            let stale = self.stale_addresses(&hosts);
            trace::instant(Stage::CleanupOriginalDst, None, 0, hosts.len() as u64, stale.len() as u64);
            if !stale.is_empty() {
                let is_stale =
                    |host: &HostSharedPtr| host.address().ip().is_some_and(|address| stale.contains(address));
                let (removed, kept) = hosts.iter().cloned().partition::<Vec<_>, _>(is_stale);
                self.handle.forget(&stale);
                self.update(kept, &[], &removed);
            }
        }
        self.cleanup_timer.enable_timer(self.cleanup_interval);
    }

    fn stale_addresses(&self, hosts: &[HostSharedPtr]) -> HashSet<SocketAddr> {
        let with_connections: HashSet<&SocketAddr> = hosts
            .iter()
            .filter(|host| host.stats().cx_active().value() > 0)
            .filter_map(|host| host.address().ip())
            .collect();
        let addresses: HashSet<SocketAddr> =
            hosts.iter().filter_map(|host| host.address().ip()).copied().collect();
        let is_stale = |address: &SocketAddr| {
            let keeps = self.handle.take_use(address) || with_connections.contains(address);
            match keeps {
                true => envoy_log!(Upstream, debug, "Keeping active host {}.", address),
                false => envoy_log!(Upstream, debug, "Removing stale host {}.", address),
            }
            !keeps
        };
        addresses.into_iter().filter(is_stale).collect()
    }

    fn update(&self, hosts: Vec<HostSharedPtr>, added: &[HostSharedPtr], removed: &[HostSharedPtr]) {
        let vectors = HostVectors::partition(Arc::new(hosts), &self.options);
        self.priority_set().update_hosts(0, vectors, added, removed);
    }
}

impl Cluster for OriginalDstCluster {
    fn base(&self) -> &ClusterImplBase {
        &self.base
    }

    fn initialize_phase(&self) -> InitializePhase {
        InitializePhase::Primary
    }

    fn initialize(&self, callback: Box<dyn FnOnce()>) {
        self.base.on_pre_init_complete(callback);
    }
}

impl Drop for OriginalDstCluster {
    fn drop(&mut self) {
        // The thread may be going, and its clusters with it.
        let _ = CLUSTERS.try_with(|clusters| clusters.borrow_mut().remove(&self.handle.id));
    }
}

#[cfg(test)]
mod tests;
