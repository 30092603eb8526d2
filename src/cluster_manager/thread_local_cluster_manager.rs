//! The clusters and connection pools of one thread. Mirrors `ThreadLocalClusterManagerImpl` of Envoy's
//! `source/common/upstream/cluster_manager_impl.cc`.
//!
//! Envoy finds a cluster by its name and a host's pools by the host, both in hash tables, for each request. Here a name has
//! a number ([`ClusterName`]), which is the cluster's place in a list, and the pools of a host hang on the handle that the
//! worker's load balancer has of it ([`WorkerHost`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::cluster_entry::ClusterEntry;
use super::conn_pool_map::{HttpConnPoolMap, HttpPoolKey, TcpConnPoolMap};
use crate::conn_pool::http1::ConnPoolImpl;
use crate::conn_pool::tcp::{self, TcpInstance};
use crate::conn_pool::{DrainedCb, HttpInstance};
use crate::envoy_log;
use crate::event::Dispatcher;
use crate::trace::{self, Stage};
use crate::upstream::{
    ClusterInfoImpl, ClusterName, HostSharedPtr, HostVectors, PrioritySetImpl, ResourcePriority, WorkerHost,
};

/// See the module's description.
pub struct ThreadLocalClusterManagerImpl {
    weak: Weak<ThreadLocalClusterManagerImpl>,
    dispatcher: Rc<Dispatcher>,
    /// By the number of the name.
    thread_local_clusters: RefCell<Vec<Option<Rc<ClusterEntry>>>>,
    /// The hosts of the cluster that the proxy belongs to, if it is named.
    local_priority_set: OnceCell<Rc<PrioritySetImpl>>,
    /// By the host's identity: the same address added again is another host with other pools.
    host_http_conn_pool_map: RefCell<HashMap<usize, Rc<ConnPoolsContainer>>>,
}

/// The pools of one host. (Envoy has a container for each kind.)
struct ConnPoolsContainer {
    host: HostSharedPtr,
    pools: HttpConnPoolMap,
    /// There where one was asked for.
    tcp_pools: OnceCell<TcpConnPoolMap>,
    ready_to_drain: Cell<bool>,
    drains_remaining: Cell<usize>,
}

impl ConnPoolsContainer {
    fn size(&self) -> usize {
        self.pools.size() + self.tcp_pools.get().map_or(0, TcpConnPoolMap::size)
    }

    fn add_drained_callback(&self, callback: &DrainedCb) {
        self.pools.add_drained_callback(callback.clone());
        if let Some(pools) = self.tcp_pools.get() {
            pools.add_drained_callback(callback.clone());
        }
    }

    /// Raw connections, of which nobody knows when they are done, may be closed.
    fn on_host_health_failure(&self) {
        self.pools.drain_connections();
        let Some(pools) = self.tcp_pools.get() else { return };
        if self.host.cluster().close_connections_on_host_health_failure() {
            pools.close_connections();
        } else {
            pools.drain_connections();
        }
    }

    fn record_lists(&self) {
        self.pools.record_lists();
        if let Some(pools) = self.tcp_pools.get() {
            pools.record_lists();
        }
    }

    fn clear(&self) {
        self.pools.clear();
        if let Some(pools) = self.tcp_pools.get() {
            pools.clear();
        }
    }
}

fn identity(host: &HostSharedPtr) -> usize {
    Arc::as_ptr(host) as usize
}

impl ThreadLocalClusterManagerImpl {
    /// `local_cluster` is the one of them that the proxy belongs to, if any.
    pub(super) fn new(
        dispatcher: &Rc<Dispatcher>,
        clusters: &[Arc<ClusterInfoImpl>],
        local_cluster: &str,
    ) -> Rc<Self> {
        let this = Rc::new_cyclic(|weak| ThreadLocalClusterManagerImpl {
            weak: weak.clone(),
            dispatcher: dispatcher.clone(),
            thread_local_clusters: RefCell::default(),
            local_priority_set: OnceCell::new(),
            host_http_conn_pool_map: RefCell::default(),
        });
        // First of all, since all others follow its hosts.
        if let Some(info) = clusters.iter().find(|info| info.name() == local_cluster) {
            envoy_log!(Upstream, debug, "adding TLS local cluster {}", info.name());
            let entry = ClusterEntry::new(&this.weak, info.clone(), None);
            _ = this.local_priority_set.set(entry.priority_set().clone());
            this.insert(entry);
        }
        for info in clusters.iter().filter(|info| info.name() != local_cluster) {
            envoy_log!(Upstream, debug, "adding TLS initial cluster {}", info.name());
            this.insert(this.entry(info));
        }
        this
    }

    fn entry(&self, info: &Arc<ClusterInfoImpl>) -> Rc<ClusterEntry> {
        ClusterEntry::new(&self.weak, info.clone(), self.local_priority_set.get())
    }

    fn insert(&self, entry: Rc<ClusterEntry>) {
        let number = entry.info().cluster_name().number();
        let mut clusters = self.thread_local_clusters.borrow_mut();
        if clusters.len() <= number {
            clusters.resize_with(number + 1, || None);
        }
        let old = clusters[number].replace(entry);
        drop(clusters);
        if let Some(old) = old {
            old.drain_conn_pools();
        }
    }

    /// A cluster by its name.
    #[inline]
    pub fn get(&self, name: &ClusterName) -> Option<Rc<ClusterEntry>> {
        self.thread_local_clusters.borrow().get(name.number())?.clone()
    }

    /// Takes a cluster in, without hosts yet. That of the same name goes; its pools drain.
    pub(super) fn add_or_update_cluster(&self, info: &Arc<ClusterInfoImpl>) {
        let is_known = self.get(info.cluster_name()).is_some();
        let what = if is_known { "updating" } else { "adding" };
        envoy_log!(Upstream, debug, "{} TLS cluster {}", what, info.name());
        self.insert(self.entry(info));
    }

    /// Takes over a change of hosts from the main thread.
    pub(super) fn update_cluster_membership(
        &self,
        name: &ClusterName,
        priority: u32,
        vectors: Arc<HostVectors>,
        hosts_added: &[HostSharedPtr],
        hosts_removed: &[HostSharedPtr],
    ) {
        let Some(entry) = self.get(name) else { return };
        trace::instant(
            Stage::UpdateClusterMembership,
            None,
            0,
            hosts_added.len() as u64,
            hosts_removed.len() as u64,
        );
        envoy_log!(
            Upstream,
            debug,
            "membership update for TLS cluster {} added {} removed {}",
            name,
            hosts_added.len(),
            hosts_removed.len()
        );
        entry.priority_set().update_hosts(priority, vectors, hosts_added, hosts_removed);
    }

    /// Drains the pools of hosts that are gone. The load balancer has let go of them before.
    pub(super) fn remove_hosts(&self, name: &ClusterName, hosts_removed: &[HostSharedPtr]) {
        envoy_log!(
            Upstream,
            debug,
            "removing hosts for TLS cluster {} removed {}",
            name,
            hosts_removed.len()
        );
        trace::instant(Stage::RemoveHosts, None, 0, hosts_removed.len() as u64, 0);
        self.drain_conn_pools(hosts_removed);
    }

    /// Forgets a cluster; its pools drain.
    pub(super) fn remove_cluster(&self, name: &ClusterName) {
        envoy_log!(Upstream, debug, "removing TLS cluster {}", name);
        let removed = self.thread_local_clusters.borrow_mut().get_mut(name.number()).and_then(Option::take);
        if let Some(removed) = removed {
            removed.drain_conn_pools();
        }
    }

    /// A host failed its health checks or was ejected: its connections are replaced, its pools kept.
    pub(super) fn on_host_health_failure(&self, host: &HostSharedPtr) {
        if let Some(container) = self.container(host) {
            trace::instant(Stage::HostHealthFailure, None, 0, 0, 0);
            container.on_host_health_failure();
        }
    }

    /// Records the lists of all pools, for a recording that begins behind their last change.
    pub(super) fn record_lists(&self) {
        self.host_http_conn_pool_map.borrow().values().for_each(|container| container.record_lists());
    }

    fn container(&self, host: &HostSharedPtr) -> Option<Rc<ConnPoolsContainer>> {
        self.host_http_conn_pool_map.borrow().get(&identity(host)).cloned()
    }

    fn get_or_create_container(&self, host: &HostSharedPtr) -> Rc<ConnPoolsContainer> {
        let mut map = self.host_http_conn_pool_map.borrow_mut();
        let hosts = map.len() as u64;
        map.entry(identity(host))
            .or_insert_with(|| {
                trace::instant(Stage::GetContainer, None, 0, hosts, 0);
                Rc::new(ConnPoolsContainer {
                    host: host.clone(),
                    pools: HttpConnPoolMap::new(&self.dispatcher, host),
                    tcp_pools: OnceCell::new(),
                    ready_to_drain: Cell::new(false),
                    drains_remaining: Cell::new(0),
                })
            })
            .clone()
    }

    pub(super) fn http_conn_pool(
        &self,
        host: &Rc<WorkerHost>,
        priority: ResourcePriority,
        key: HttpPoolKey,
    ) -> Option<Rc<dyn HttpInstance>> {
        self.container_of(host)
            .pools
            .get_pool(priority, key, || ConnPoolImpl::new(&self.dispatcher, host.clone(), priority))
    }

    pub(super) fn tcp_conn_pool(
        &self,
        host: &Rc<WorkerHost>,
        priority: ResourcePriority,
    ) -> Option<Rc<dyn TcpInstance>> {
        let container = self.container_of(host);
        let pools = container.tcp_pools.get_or_init(|| TcpConnPoolMap::new(&self.dispatcher, host.shared()));
        pools.get_pool(priority, (), || tcp::ConnPoolImpl::new(&self.dispatcher, host.clone(), priority))
    }

    #[inline]
    fn container_of(&self, host: &Rc<WorkerHost>) -> Rc<ConnPoolsContainer> {
        host.kept::<ConnPoolsContainer>().unwrap_or_else(|| {
            let container = self.get_or_create_container(host.shared());
            host.keep(&container);
            container
        })
    }

    #[cfg(test)]
    pub(super) fn set_pool(&self, host: &HostSharedPtr, pool: Rc<dyn HttpInstance>) {
        let container = self.get_or_create_container(host);
        container.pools.get_pool(ResourcePriority::Default, (None, crate::http::Protocol::Http11), || pool);
    }

    pub(super) fn drain_conn_pools(&self, hosts: &[HostSharedPtr]) {
        for host in hosts {
            if let Some(container) = self.container(host) {
                self.drain_container(&container);
            }
        }
    }

    fn drain_container(&self, container: &Rc<ConnPoolsContainer>) {
        trace::instant(Stage::DrainConnPools, None, 0, container.size() as u64, 0);
        container.drains_remaining.set(container.drains_remaining.get() + container.size());
        let (manager, weak) = (self.weak.clone(), Rc::downgrade(container));
        let callback: DrainedCb = Rc::new(move || {
            let (Some(manager), Some(container)) = (manager.upgrade(), weak.upgrade()) else { return };
            let left = container.drains_remaining.get().saturating_sub(1);
            container.drains_remaining.set(left);
            if left == 0 && container.ready_to_drain.get() {
                manager.clear_container(&container);
            }
        });
        container.add_drained_callback(&callback);
        // Idle pools have called back already; the map must not go while they are being told.
        container.ready_to_drain.set(true);
        if container.drains_remaining.get() == 0 {
            self.clear_container(container);
        }
    }

    fn clear_container(&self, container: &ConnPoolsContainer) {
        trace::instant(Stage::ClearContainer, None, 0, container.size() as u64, 0);
        container.clear();
        let removed = self.host_http_conn_pool_map.borrow_mut().remove(&identity(&container.host));
        drop(removed);
    }
}

impl Drop for ThreadLocalClusterManagerImpl {
    fn drop(&mut self) {
        envoy_log!(Upstream, debug, "shutting down thread local cluster manager");
        let hosts = self.host_http_conn_pool_map.borrow().len() as u64;
        let clusters = self.thread_local_clusters.borrow().iter().flatten().count() as u64;
        trace::instant(Stage::ClusterManagerGoes, None, 0, hosts, clusters);
        // Pools first: the weak way back to this object is gone, so nothing calls in any more.
        self.host_http_conn_pool_map.borrow_mut().clear();
        let clusters = std::mem::take(&mut *self.thread_local_clusters.borrow_mut());
        drop(clusters);
    }
}
