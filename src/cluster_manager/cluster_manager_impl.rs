//! The clusters on the main thread, and what of them goes to the workers. Mirrors `ClusterManagerImpl` of Envoy's
//! `source/common/upstream/cluster_manager_impl.cc`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::SystemTime;

use super::ClusterManager;
use super::init_helper::ClusterManagerInitHelper;
use super::pending_updates::ClusterUpdates;
use super::thread_local_cluster_manager::ThreadLocalClusterManagerImpl;
use super::thread_local_update::ThreadLocalClusterUpdate;
use crate::common::CallbackHandle;
use crate::config::core::Locality;
use crate::config::{self, ConfigError};
use crate::envoy_log;
use crate::network::{DnsResolver, create_dns_resolver};
use crate::runtime::LoaderImpl;
use crate::stats::{Scope, Store};
use crate::stats_struct;
use crate::thread_local::{self, InstanceImpl, SlotImpl};
use crate::trace::{self, Stage};
use crate::upstream::health_checker::{HealthTransition, HostStatusCb};
use crate::upstream::load_balancer::ThreadAwareLoadBalancer;
use crate::upstream::outlier_detection::ChangeStateCb;
use crate::upstream::{
    Cluster, ClusterFactoryContext, ClusterInfoImpl, ClusterServices, HealthFlag, HostSharedPtr,
    MemberUpdateCb, NoServices, PriorityUpdateCb, create_cluster,
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

/// Where and what the proxy itself is, and what it does for its clusters.
#[derive(Clone)]
pub struct LocalInfo {
    /// Where it runs, if that is known.
    pub locality: Option<Arc<Locality>>,
    /// The cluster that it is a host of; empty where none is named.
    pub cluster: String,
    /// What it does for them.
    pub services: Rc<dyn ClusterServices>,
}

impl Default for LocalInfo {
    fn default() -> Self {
        LocalInfo { locality: None, cluster: String::new(), services: Rc::new(NoServices) }
    }
}

/// The clusters on the main thread.
pub struct ClusterManagerImpl {
    weak: Weak<ClusterManagerImpl>,
    root: Scope,
    runtime: Rc<LoaderImpl>,
    dns_resolver: Rc<dyn DnsResolver>,
    local: LocalInfo,
    slot: SlotImpl<ThreadLocalClusterManagerImpl>,
    stats: ClusterManagerStats,
    active_clusters: RefCell<ClusterMap>,
    /// Clusters that have come after the start and have no hosts yet; one of the same name may be active meanwhile.
    warming_clusters: RefCell<ClusterMap>,
    init_helper: Rc<ClusterManagerInitHelper>,
}

type ClusterMap = BTreeMap<String, ClusterData>;

/// A cluster, and what keeps the manager told of its hosts.
struct ClusterData {
    cluster: Rc<dyn Cluster>,
    last_updated: SystemTime,
    _subscriptions: Option<Subscriptions>,
    _ejections: Option<CallbackHandle<ChangeStateCb>>,
    _health_checks: Vec<CallbackHandle<HostStatusCb>>,
}

type Subscriptions = (CallbackHandle<MemberUpdateCb>, CallbackHandle<PriorityUpdateCb>);

impl ClusterData {
    fn added_via_api(&self) -> bool {
        self.cluster.info().added_via_api()
    }

    /// Whether it stays as it is: it is of the bootstrap, or there is nothing new.
    fn block_update(&self, config: &config::Cluster) -> bool {
        !self.added_via_api() || self.cluster.info().config() == config
    }
}

impl ClusterManagerImpl {
    /// Loads the clusters of the configuration, tells the workers of them and initializes them. `dns_resolver` says who looks
    /// names up, unless a cluster does.
    ///
    /// # Errors
    /// Two clusters of one name, or a host without a usable address.
    pub fn new(
        clusters: &[Arc<config::Cluster>],
        dns_resolver: Option<&config::TypedConfig>,
        local: LocalInfo,
        stats: &Arc<Store>,
        tls: &Arc<InstanceImpl>,
        runtime: &Rc<LoaderImpl>,
    ) -> Result<Rc<Self>, String> {
        let manager = ClusterManagerImpl::for_validation(clusters, dns_resolver, local, stats, tls, runtime)?;
        manager.clusters().into_iter().for_each(|cluster| manager.init_helper.add_cluster(cluster));
        manager.init_helper.on_static_load_complete();
        Ok(manager)
    }

    /// As [`ClusterManagerImpl::new`], but the clusters stay as they are, without hosts: nobody is asked for any.
    ///
    /// # Errors
    /// As there.
    pub fn for_validation(
        clusters: &[Arc<config::Cluster>],
        dns_resolver: Option<&config::TypedConfig>,
        local: LocalInfo,
        stats: &Arc<Store>,
        tls: &Arc<InstanceImpl>,
        runtime: &Rc<LoaderImpl>,
    ) -> Result<Rc<Self>, String> {
        let _stage = trace::scope(Stage::ClusterManagerStarts, None, 0, clusters.len() as u64, 0);
        let root = stats.root_scope();
        let dns_resolver = create_dns_resolver(dns_resolver, &thread_local::dispatcher())
            .map_err(|error| error.to_string())?;
        let manager = Rc::new_cyclic(|weak: &Weak<ClusterManagerImpl>| {
            let to_manager = weak.clone();
            ClusterManagerImpl {
                weak: weak.clone(),
                slot: tls.allocate_slot(),
                stats: ClusterManagerStats::new(&root.create_scope("cluster_manager.")),
                root,
                runtime: runtime.clone(),
                dns_resolver,
                local,
                active_clusters: RefCell::default(),
                warming_clusters: RefCell::default(),
                init_helper: ClusterManagerInitHelper::new(Box::new(move |cluster| {
                    if let Some(manager) = to_manager.upgrade() {
                        manager.on_cluster_init(cluster);
                    }
                })),
            }
        });
        manager.load_static_clusters(clusters)?;
        Ok(manager)
    }

    fn load_static_clusters(&self, configs: &[Arc<config::Cluster>]) -> Result<(), String> {
        for config in configs {
            let cluster = self.load_cluster(config, false).map_err(|e| e.to_string())?;
            let mut active = self.active_clusters.borrow_mut();
            if active.insert(config.name.clone(), self.data_of(cluster)).is_some() {
                return Err(format!("cluster manager: duplicate cluster '{}'", config.name));
            }
        }
        let clusters = self.clusters();
        self.stats.cluster_added.add(clusters.len() as u64);
        self.update_gauges();
        let infos: Vec<Arc<ClusterInfoImpl>> = clusters.iter().map(|c| c.info().clone()).collect();
        let local = self.local.cluster.clone();
        self.slot.set(move |dispatcher| ThreadLocalClusterManagerImpl::new(dispatcher, &infos, &local));
        Ok(())
    }

    fn load_cluster(
        &self,
        config: &Arc<config::Cluster>,
        added_via_api: bool,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        trace::instant(Stage::LoadCluster, None, 0, self.active_clusters.borrow().len() as u64, 0);
        let dispatcher = thread_local::dispatcher();
        let context = ClusterFactoryContext {
            root: &self.root,
            dispatcher: &dispatcher,
            dns_resolver: &self.dns_resolver,
            local_locality: self.local.locality.as_ref(),
            runtime: &self.runtime,
            services: &*self.local.services,
            added_via_api,
        };
        let cluster = create_cluster(config, &context)?;
        self.runtime.add_user(cluster.info());
        Ok(cluster)
    }

    fn data_of(&self, cluster: Rc<dyn Cluster>) -> ClusterData {
        let slot = self.slot.clone();
        let ejections = cluster.base().outlier_detector().map(|detector| {
            detector.add_changed_state_cb(move |host, flag| {
                if flag == HealthFlag::FailedOutlierCheck && host.health_flag_get(flag) {
                    envoy_log!(
                        Upstream,
                        debug,
                        "host {} in cluster {} was ejected by the outlier detector",
                        host.address(),
                        host.cluster().name()
                    );
                    post_thread_local_health_failure(&slot, host);
                }
            })
        });
        let slot = self.slot.clone();
        let health_checks = cluster.base().add_host_check_complete_cb(move |host, changed, _| {
            if changed == HealthTransition::Changed && host.health_flag_get(HealthFlag::FailedActiveHc) {
                post_thread_local_health_failure(&slot, host);
            }
        });
        ClusterData {
            cluster,
            last_updated: SystemTime::now(),
            _subscriptions: None,
            _ejections: ejections,
            _health_checks: health_checks,
        }
    }

    /// Adds a cluster, or puts it in the place of the one that has its name. While the server starts it is active at once; later
    /// it is so when it has its first hosts, and the other serves until then. False when nothing changes: it is known as it
    /// is, or it is one of the bootstrap, which stay.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had. The clusters are as before, but it is counted.
    pub fn add_or_update_cluster(&self, config: &Arc<config::Cluster>) -> Result<bool, ConfigError> {
        let name = config.name.as_str();
        let existing = [&self.active_clusters, &self.warming_clusters].map(|map| {
            let map = map.borrow();
            map.get(name).map(|data| (data.cluster.clone(), data.block_update(config)))
        });
        if existing.iter().flatten().any(|(_, blocks)| *blocks) {
            return Ok(false);
        }
        let is_update = existing.iter().any(Option::is_some);
        if is_update {
            self.stats.cluster_modified.inc()
        } else {
            self.stats.cluster_added.inc()
        }
        let cluster = self.load_cluster(config, true)?;
        for (old, _) in existing.iter().flatten() {
            self.init_helper.remove_cluster(old);
        }
        if self.init_helper.all_clusters_initialized() {
            self.start_warming(name, cluster);
        } else {
            envoy_log!(Upstream, info, "add/update cluster {} during init", name);
            self.put(&self.active_clusters, name, self.data_of(cluster.clone()));
            update_of(&cluster).with_entry(&cluster).post(&self.slot);
            self.init_helper.add_cluster(cluster);
        }
        self.update_gauges();
        Ok(true)
    }

    fn start_warming(&self, name: &str, cluster: Rc<dyn Cluster>) {
        envoy_log!(Upstream, info, "add/update cluster {} starting warming", name);
        self.put(&self.warming_clusters, name, self.data_of(cluster.clone()));
        let (manager, weak) = (self.weak.clone(), Rc::downgrade(&cluster));
        cluster.initialize(Box::new(move || {
            if let (Some(manager), Some(cluster)) = (manager.upgrade(), weak.upgrade()) {
                manager.on_warming_complete(&cluster);
            }
        }));
    }

    fn on_warming_complete(&self, cluster: &Rc<dyn Cluster>) {
        let name = cluster.info().name();
        let is_it = |data: &ClusterData| Rc::ptr_eq(&data.cluster, cluster);
        if !self.warming_clusters.borrow().get(name).is_some_and(is_it) {
            return; // Another one is warming in its place.
        }
        let Some(warm) = self.warming_clusters.borrow_mut().remove(name) else { return };
        self.put(&self.active_clusters, name, warm);
        envoy_log!(Upstream, info, "warming cluster {} complete", name);
        self.pass_on_hosts(cluster, update_of(cluster).with_entry(cluster));
        self.update_gauges();
    }

    fn put(&self, map: &RefCell<ClusterMap>, name: &str, data: ClusterData) {
        let old = map.borrow_mut().insert(name.to_string(), data);
        drop(old);
    }

    /// A cluster that the workers know has its first hosts.
    fn on_cluster_init(&self, cluster: &Rc<dyn Cluster>) {
        self.pass_on_hosts(cluster, update_of(cluster));
    }

    /// Passes the hosts of a cluster to the workers with `update`, and every later change too.
    fn pass_on_hosts(&self, cluster: &Rc<dyn Cluster>, update: ThreadLocalClusterUpdate) {
        let thread_aware = cluster.info().load_balancer().thread_aware(cluster.info());
        if let Some(thread_aware) = &thread_aware {
            thread_aware.refresh(cluster.priority_set());
        }
        let subscriptions = self.subscribe(cluster, thread_aware);
        update.with_hosts(cluster).post(&self.slot);
        let mut active = self.active_clusters.borrow_mut();
        if let Some(data) =
            active.get_mut(cluster.info().name()).filter(|data| Rc::ptr_eq(&data.cluster, cluster))
        {
            data._subscriptions = Some(subscriptions);
        }
    }

    /// Has every change of the hosts passed to the workers for as long as what is returned lives.
    fn subscribe(
        &self,
        cluster: &Rc<dyn Cluster>,
        thread_aware: Option<Rc<dyn ThreadAwareLoadBalancer>>,
    ) -> Subscriptions {
        let hosts = || {
            cluster.priority_set().host_sets_per_priority().iter().map(|set| set.hosts().len() as u64).sum()
        };
        trace::instant(Stage::OnClusterInit, None, 0, trace::detail(hosts), 0);
        let name = cluster.info().cluster_name().clone();
        let (member_slot, member_name) = (self.slot.clone(), name.clone());
        let drains_all = cluster.info().config().common_lb_config.close_connections_on_host_set_change;
        let all = Rc::downgrade(cluster.priority_set());
        let member = cluster.priority_set().add_member_update_cb(move |added, removed| {
            if drains_all && !(added.is_empty() && removed.is_empty()) {
                let sets = all.upgrade().map(|set| set.host_sets_per_priority()).unwrap_or_default();
                let mut hosts: Vec<_> = sets.iter().flat_map(|set| set.hosts().to_vec()).collect();
                hosts.extend_from_slice(removed);
                let name = member_name.clone();
                member_slot.run_on_all_threads(move |worker| worker.remove_hosts(&name, &hosts));
            } else if !removed.is_empty() {
                let (name, removed) = (member_name.clone(), removed.to_vec());
                member_slot.run_on_all_threads(move |worker| worker.remove_hosts(&name, &removed));
            }
        });
        let (set, slot) = (Rc::downgrade(cluster.priority_set()), self.slot.clone());
        let window = cluster.info().config().common_lb_config.update_merge_window;
        let updates = ClusterUpdates::new(&self.weak, window, move |priority, added, removed| {
            let Some(set) = set.upgrade() else { return };
            let Some(vectors) = set.host_sets_per_priority().get(priority as usize).map(|h| h.vectors())
            else {
                return;
            };
            if let Some(thread_aware) = &thread_aware {
                thread_aware.refresh(&set);
            }
            let update = ThreadLocalClusterUpdate::new(&name);
            update.with_change(priority, vectors, added, removed).post(&slot);
        });
        let priority = cluster.priority_set().add_priority_update_cb(move |priority, added, removed| {
            updates.on_update(priority, added, removed)
        });
        (member, priority)
    }

    fn update_gauges(&self) {
        self.stats.active_clusters.set(self.active_clusters.borrow().len() as u64);
        self.stats.warming_clusters.set(self.warming_clusters.borrow().len() as u64);
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
        self.active_clusters.borrow().values().map(|data| data.cluster.clone()).collect()
    }

    /// When the active cluster of that name was made.
    pub fn last_updated(&self, name: &str) -> Option<SystemTime> {
        self.active_clusters.borrow().get(name).map(|data| data.last_updated)
    }

    /// Removes a cluster here and on the workers, where its pools drain; false when there is none, or it is one of the
    /// bootstrap, which stay.
    pub fn remove_cluster(&self, name: &str) -> bool {
        let [active, warming] = [&self.active_clusters, &self.warming_clusters].map(|map| {
            let mut map = map.borrow_mut();
            map.get(name).is_some_and(ClusterData::added_via_api).then(|| map.remove(name)).flatten()
        });
        if let Some(data) = &active {
            self.init_helper.remove_cluster(&data.cluster);
            envoy_log!(Upstream, info, "removing cluster {}", name);
            let name = data.cluster.info().cluster_name().clone();
            self.slot.run_on_all_threads(move |worker| worker.remove_cluster(&name));
        }
        if warming.is_some() {
            envoy_log!(Upstream, info, "removing warming cluster {}", name);
        }
        let removed = active.is_some() || warming.is_some();
        drop((active, warming));
        if removed {
            self.stats.cluster_removed.inc();
            self.update_gauges();
        }
        removed
    }

    /// Tells the workers that a host failed its health checks or was ejected.
    pub fn post_thread_local_health_failure(&self, host: &HostSharedPtr) {
        post_thread_local_health_failure(&self.slot, host);
    }

    /// Lets go of the clusters at shutdown.
    pub fn shutdown(&self) {
        drop((self.warming_clusters.take(), self.active_clusters.take()));
    }
}

fn post_thread_local_health_failure(slot: &SlotImpl<ThreadLocalClusterManagerImpl>, host: &HostSharedPtr) {
    let host = host.clone();
    slot.run_on_all_threads(move |worker| worker.on_host_health_failure(&host));
}

fn update_of(cluster: &Rc<dyn Cluster>) -> ThreadLocalClusterUpdate {
    ThreadLocalClusterUpdate::new(cluster.info().cluster_name())
}
