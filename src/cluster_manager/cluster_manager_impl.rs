//! The clusters on the main thread, and what of them goes to the workers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ClusterManager;
use super::init_helper::ClusterManagerInitHelper;
use super::thread_local_cluster_manager::ThreadLocalClusterManagerImpl;
use crate::common::CallbackHandle;
use crate::config;
use crate::stats::{Scope, Store};
use crate::stats_struct;
use crate::thread_local::{self, InstanceImpl, SlotImpl};
use crate::trace::{self, Stage};
use crate::upstream::{
    Cluster, ClusterFactoryContext, ClusterInfoImpl, ClusterName, HostSharedPtr, HostVectors, MemberUpdateCb,
    PriorityUpdateCb, create_cluster,
};

stats_struct! {
    /// `cluster_manager.`
    pub struct ClusterManagerStats {
        counters: [
            cluster_added,
            cluster_modified,
            cluster_removed,
            cluster_updated,
            cluster_updated_via_merge,
            update_merge_cancelled,
            update_out_of_merge_window,
        ],
        gauges: [active_clusters, warming_clusters],
        histograms: [],
    }
}

/// See the module's description.
pub struct ClusterManagerImpl {
    slot: SlotImpl<ThreadLocalClusterManagerImpl>,
    stats: ClusterManagerStats,
    active_clusters: RefCell<BTreeMap<String, Rc<dyn Cluster>>>,
    init_helper: Rc<ClusterManagerInitHelper>,
    /// Keep the callbacks below registered.
    subscriptions: Rc<RefCell<Vec<Subscription>>>,
}

/// Keeps callbacks of one cluster registered.
#[expect(dead_code, reason = "held for their drop")]
enum Subscription {
    Priority(CallbackHandle<PriorityUpdateCb>),
    Member(CallbackHandle<MemberUpdateCb>),
}

impl ClusterManagerImpl {
    /// Loads the clusters of the configuration, tells the workers of them and initializes them.
    ///
    /// # Errors
    /// Two clusters of one name, or a host without a usable address.
    pub fn new(
        clusters: &[Arc<config::Cluster>],
        stats: &Arc<Store>,
        tls: &Arc<InstanceImpl>,
    ) -> Result<Rc<Self>, String> {
        let _stage = trace::scope(Stage::ClusterManagerStarts, None, 0, clusters.len() as u64, 0);
        let root = stats.root_scope();
        let active_clusters = load_clusters(clusters, &root)?;
        let manager_stats = ClusterManagerStats::new(&root.create_scope("cluster_manager."));
        manager_stats.cluster_added.add(active_clusters.len() as u64);
        manager_stats.active_clusters.set(active_clusters.len() as u64);
        manager_stats.warming_clusters.set(0);

        let slot: SlotImpl<ThreadLocalClusterManagerImpl> = tls.allocate_slot();
        let infos: Vec<Arc<ClusterInfoImpl>> = active_clusters.values().map(|c| c.info().clone()).collect();
        slot.set(move |dispatcher| ThreadLocalClusterManagerImpl::new(dispatcher, &infos));

        let subscriptions: Rc<RefCell<Vec<Subscription>>> = Rc::default();
        let (to_slot, to_subscriptions) = (slot.clone(), subscriptions.clone());
        let init_helper = ClusterManagerInitHelper::new(Box::new(move |cluster| {
            let subscribed = on_cluster_init(&to_slot, cluster);
            to_subscriptions.borrow_mut().extend(subscribed);
        }));
        for cluster in active_clusters.values() {
            init_helper.add_cluster(cluster.clone());
        }
        init_helper.on_static_load_complete();
        Ok(Rc::new(ClusterManagerImpl {
            slot,
            stats: manager_stats,
            active_clusters: RefCell::new(active_clusters),
            init_helper,
            subscriptions,
        }))
    }

    /// `cluster_manager.` statistics.
    pub fn stats(&self) -> &ClusterManagerStats {
        &self.stats
    }

    /// The workers' way to the clusters.
    pub fn handle(&self) -> ClusterManager {
        ClusterManager { slot: self.slot.clone() }
    }

    /// Has every thread record the lists of its pools; call it when a recording has begun.
    pub fn record_lists(&self) {
        self.slot.run_on_all_threads(|clusters| clusters.record_lists());
    }

    /// Calls back once all clusters are initialized; at once when they are.
    pub fn set_initialized_cb(&self, callback: Box<dyn FnOnce()>) {
        self.init_helper.set_initialized_cb(callback);
    }

    /// The active clusters, by name.
    pub fn clusters(&self) -> Vec<Rc<dyn Cluster>> {
        self.active_clusters.borrow().values().cloned().collect()
    }

    /// Removes a cluster here and on the workers, where its pools drain; false when there is none.
    pub fn remove_cluster(&self, name: &str) -> bool {
        let Some(removed) = self.active_clusters.borrow_mut().remove(name) else { return false };
        crate::envoy_log!(Upstream, info, "removing cluster {}", name);
        self.stats.cluster_removed.inc();
        self.stats.active_clusters.set(self.active_clusters.borrow().len() as u64);
        let name = removed.info().cluster_name().clone();
        self.slot.run_on_all_threads(move |worker| worker.remove_cluster(&name));
        true
    }

    /// Tells the workers that a host failed its health checks or was ejected.
    pub fn post_thread_local_health_failure(&self, host: &HostSharedPtr) {
        let host = host.clone();
        self.slot.run_on_all_threads(move |worker| worker.on_host_health_failure(&host));
    }

    /// Lets go of the clusters at shutdown.
    pub fn shutdown(&self) {
        self.subscriptions.borrow_mut().clear();
        self.active_clusters.borrow_mut().clear();
    }
}

fn load_clusters(
    configs: &[Arc<config::Cluster>],
    root: &Scope,
) -> Result<BTreeMap<String, Rc<dyn Cluster>>, String> {
    let dispatcher = thread_local::dispatcher();
    let context = ClusterFactoryContext { root, dispatcher: &dispatcher, added_via_api: false };
    let mut clusters: BTreeMap<String, Rc<dyn Cluster>> = BTreeMap::new();
    for config in configs {
        trace::instant(Stage::LoadCluster, None, 0, clusters.len() as u64, 0);
        let cluster = create_cluster(config, &context).map_err(|e| e.to_string())?;
        if clusters.insert(config.name.clone(), cluster).is_some() {
            return Err(format!("cluster manager: duplicate cluster '{}'", config.name));
        }
    }
    Ok(clusters)
}

/// A cluster has its first hosts: passes them to the workers, and every later change too.
fn on_cluster_init(
    slot: &SlotImpl<ThreadLocalClusterManagerImpl>,
    cluster: &Rc<dyn Cluster>,
) -> [Subscription; 2] {
    let hosts =
        || cluster.priority_set().host_sets_per_priority().iter().map(|set| set.hosts().len() as u64).sum();
    trace::instant(Stage::OnClusterInit, None, 0, trace::detail(hosts), 0);
    let name = cluster.info().cluster_name().clone();
    let (member_slot, member_name) = (slot.clone(), name.clone());
    let member = cluster.priority_set().add_member_update_cb(move |_, removed| {
        if !removed.is_empty() {
            let (name, removed) = (member_name.clone(), removed.to_vec());
            member_slot.run_on_all_threads(move |worker| worker.remove_hosts(&name, &removed));
        }
    });
    let set = Rc::downgrade(cluster.priority_set());
    let (priority_slot, priority_name) = (slot.clone(), name.clone());
    let priority = cluster.priority_set().add_priority_update_cb(move |priority, added, removed| {
        let Some(vectors) = set
            .upgrade()
            .and_then(|s| s.host_sets_per_priority().get(priority as usize).map(|h| h.vectors()))
        else {
            return;
        };
        post_cluster_update(&priority_slot, &priority_name, priority, vectors, added, removed);
    });
    for host_set in cluster.priority_set().host_sets_per_priority() {
        let hosts = host_set.hosts();
        if !hosts.is_empty() {
            post_cluster_update(slot, &name, host_set.priority(), host_set.vectors(), &hosts, &[]);
        }
    }
    [Subscription::Member(member), Subscription::Priority(priority)]
}

fn post_cluster_update(
    slot: &SlotImpl<ThreadLocalClusterManagerImpl>,
    name: &ClusterName,
    priority: u32,
    vectors: Arc<HostVectors>,
    added: &[HostSharedPtr],
    removed: &[HostSharedPtr],
) {
    let (name, added, removed) = (name.clone(), added.to_vec(), removed.to_vec());
    slot.run_on_all_threads(move |worker| {
        worker.update_cluster_membership(&name, priority, vectors.clone(), &added, &removed);
    });
}
