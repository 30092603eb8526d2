//! Clusters that come, change and go while others serve.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Weak as ArcWeak};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Fixture, ResourcePriority, clusters};
use crate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use crate::config::cluster::Cluster as ClusterConfig;
use crate::config::extension::TypedConfig;
use crate::config::{self, ConfigError};
use crate::event::{Dispatcher, RunType};
use crate::runtime::LoaderImpl;
use crate::stats::{Counter, Gauge, Histogram, Store};
use crate::thread_local::{InstanceImpl, enter_thread, shutdown_thread};
use crate::trace::{self, Stage};
use crate::upstream::test_support::cluster_info;
use crate::upstream::{
    Cluster, ClusterFactoryContext, ClusterImplBase, ClusterInfoImpl, ClusterName, ClusterTypeConfig,
    InitializePhase,
};

thread_local! {
    /// The clusters that wait to be told their hosts, the newest last.
    static WAITING: RefCell<Vec<Weak<Waiting>>> = const { RefCell::new(Vec::new()) };
}

/// A cluster that is told its hosts by somebody.
struct Waiting {
    base: ClusterImplBase,
    callback: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Cluster for Waiting {
    fn base(&self) -> &ClusterImplBase {
        &self.base
    }

    fn initialize_phase(&self) -> InitializePhase {
        InitializePhase::Secondary
    }

    fn initialize(&self, callback: Box<dyn FnOnce()>) {
        *self.callback.borrow_mut() = Some(callback);
    }
}

#[derive(Debug)]
struct WaitingType;

impl ClusterTypeConfig for WaitingType {
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        let info = ClusterInfoImpl::new(cluster, context.root, context.added_via_api)?;
        let base = ClusterImplBase::new(info);
        let cluster = Rc::new(Waiting { base, callback: RefCell::default() });
        WAITING.with_borrow_mut(|waiting| waiting.push(Rc::downgrade(&cluster)));
        Ok(cluster)
    }
}

/// The newest cluster that waits.
fn newest() -> Weak<Waiting> {
    WAITING.with_borrow(|waiting| waiting.last().cloned()).unwrap()
}

/// Its hosts are known: there are none.
fn tell_hosts(cluster: &Weak<Waiting>) {
    let cluster = cluster.upgrade().unwrap();
    let callback = cluster.callback.take().unwrap();
    cluster.base.on_pre_init_complete(callback);
}

fn waiting(config: Value) -> Arc<config::Cluster> {
    let mut config = clusters(json!([config])).remove(0);
    let cluster_type: Arc<dyn ClusterTypeConfig> = Arc::new(WaitingType);
    Arc::make_mut(&mut config).cluster_type = TypedConfig::new("waiting", cluster_type);
    config
}

fn manager(configs: &[Arc<config::Cluster>]) -> (Rc<ClusterManagerImpl>, Arc<Store>) {
    enter_thread(&Dispatcher::new("test"));
    let (store, tls) = (Store::new(1), InstanceImpl::new());
    let runtime = LoaderImpl::empty(&store);
    (ClusterManagerImpl::new(configs, None, LocalInfo::default(), &store, &tls, &runtime).unwrap(), store)
}

/// Added, modified, removed, active, warming.
fn counts(manager: &ClusterManagerImpl) -> [u64; 5] {
    let stats = manager.stats();
    let [added, modified, removed] =
        [&stats.cluster_added, &stats.cluster_modified, &stats.cluster_removed].map(Counter::value);
    [added, modified, removed, stats.active_clusters.value(), stats.warming_clusters.value()]
}

/// The names of all statistics that begin so.
fn names(store: &Arc<Store>, prefix: &str) -> Vec<String> {
    let counters = store.counters().iter().map(Counter::name).collect::<Vec<_>>();
    let gauges = store.gauges().iter().map(Gauge::name).collect::<Vec<_>>();
    let histograms = store.histograms().iter().map(|h| Histogram::name(h).to_string()).collect();
    [counters, gauges, histograms].concat().into_iter().filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn a_cluster_that_comes_later_serves_when_it_is_warm() {
    let (manager, _) = manager(&[]);
    assert!(manager.add_or_update_cluster(&waiting(json!({ "name": "a" }))).unwrap());
    assert!(manager.handle().get(&ClusterName::of("a")).is_none());
    assert_eq!(counts(&manager), [1, 0, 0, 0, 1]);
    let first = newest();
    // Another one of its name takes its place before it serves.
    assert!(!manager.add_or_update_cluster(&waiting(json!({ "name": "a" }))).unwrap());
    let config = waiting(json!({ "name": "a", "connect_timeout": "7s" }));
    assert!(manager.add_or_update_cluster(&config).unwrap());
    assert!(first.upgrade().is_none());
    let before = SystemTime::now();
    tell_hosts(&newest());
    assert!(manager.last_updated("a").unwrap() <= before, "when it was made");
    assert_eq!(manager.handle().get(&ClusterName::of("a")).unwrap().info().connect_timeout().as_secs(), 7);
    assert_eq!(counts(&manager), [1, 1, 0, 1, 0]);
    assert!(manager.remove_cluster("a"));
    assert!(newest().upgrade().is_none());
    shutdown_thread();
}

/// Posts that were recorded so far.
fn posts() -> usize {
    let events = trace::collect().into_iter().flat_map(|thread| thread.events);
    events.filter(|event| event.stage == Stage::Post as u16).count()
}

/// A worker never has a part of it.
#[test]
fn a_cluster_and_all_its_hosts_reach_a_worker_in_one_post() {
    enter_thread(&Dispatcher::new("test"));
    let (store, tls) = (Store::new(1), InstanceImpl::new());
    let manager =
        ClusterManagerImpl::new(&[], None, LocalInfo::default(), &store, &tls, &LoaderImpl::empty(&store))
            .unwrap();
    let worker = Dispatcher::new("worker");
    tls.register_thread(worker.handle());
    let host = |port: u16, priority: u32| {
        let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
        json!({ "priority": priority, "lb_endpoints": [{ "endpoint": { "address": address } }] })
    };
    let assignment = json!({ "cluster_name": "a", "endpoints": [host(1, 0), host(2, 1)] });
    let config = clusters(json!([{ "name": "a", "load_assignment": assignment }])).remove(0);
    trace::enable();
    assert!(manager.add_or_update_cluster(&config).unwrap());
    let posts = posts();
    trace::disable();
    let sets = manager.handle().get(&ClusterName::of("a")).unwrap().priority_set().host_sets_per_priority();
    let hosts: Vec<usize> = sets.iter().map(|set| set.hosts().len()).collect();
    assert_eq!((hosts, posts), (vec![1, 1], 1));
    worker.run(RunType::NonBlock);
    shutdown_thread();
}

#[test]
fn an_update_replaces_when_it_is_warm_and_requests_finish_in_the_old_one() {
    let mut f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    let old: ArcWeak<ClusterInfoImpl> = Arc::downgrade(&f.info);
    let update = waiting(json!({ "name": "a", "connect_timeout": "7s" }));
    assert!(f.manager.add_or_update_cluster(&update).unwrap());
    assert_eq!((counts(&f.manager), f.entry().info().connect_timeout().as_secs()), ([1, 1, 0, 1, 1], 5));
    tell_hosts(&newest());
    assert_eq!((counts(&f.manager), f.entry().info().connect_timeout().as_secs()), ([1, 1, 0, 1, 0], 7));
    assert!(!f.manager.add_or_update_cluster(&update).unwrap());
    // Statistics go on under the name.
    assert_eq!(f.entry().info().stats().upstream_cx_active().value(), 1);
    assert_eq!(f.entry().info().stats().upstream_cx_total().value(), 1);
    drop(pool);
    f.answer(&request, &mut peer);
    assert_eq!(f.connections(), 0);
    drop(request);
    f.info = cluster_info();
    assert!(old.upgrade().is_none());
}

#[test]
fn what_is_removed_leaves_nothing() {
    let mut f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    let (cluster, info) = (Rc::downgrade(&f.manager.clusters()[0]), Arc::downgrade(&f.info));
    let store = f.info.scope().store().clone();
    assert!(names(&store, "cluster.a.").len() > 80);
    f.manager.remove_cluster("a");
    assert!(cluster.upgrade().is_none());
    drop(pool);
    f.answer(&request, &mut peer);
    drop(request);
    f.settle();
    f.info = cluster_info();
    assert!(info.upgrade().is_none());
    assert_eq!(names(&store, "cluster."), Vec::<String>::new());
    assert_eq!(counts(&f.manager), [1, 0, 1, 0, 0]);
}

#[test]
fn the_start_does_not_wait_for_what_is_removed() {
    let (manager, store) = manager(&[waiting(json!({ "name": "of the bootstrap" }))]);
    let of_bootstrap = newest();
    manager.add_or_update_cluster(&waiting(json!({ "name": "a" }))).unwrap();
    let a = newest();
    assert_eq!(counts(&manager), [2, 0, 0, 2, 0]);
    assert!(manager.handle().get(&ClusterName::of("a")).is_some(), "it is active at once");
    let initialized = Rc::new(std::cell::Cell::new(false));
    let to = initialized.clone();
    manager.set_initialized_cb(Box::new(move || to.set(true)));
    tell_hosts(&of_bootstrap);
    assert!(!initialized.get());
    assert!(manager.remove_cluster("a"));
    assert!(initialized.get() && a.upgrade().is_none());
    assert_eq!(names(&store, "cluster.a."), Vec::<String>::new());
    manager.shutdown();
    assert!(of_bootstrap.upgrade().is_none());
    shutdown_thread();
}

#[test]
fn clusters_of_the_bootstrap_stay() {
    let config = clusters(json!([{ "name": "a" }])).remove(0);
    let (manager, _) = manager(&[config]);
    let update = clusters(json!([{ "name": "a", "connect_timeout": "7s" }])).remove(0);
    assert!(!manager.add_or_update_cluster(&update).unwrap() && !manager.remove_cluster("a"));
    let entry = manager.handle().get(&ClusterName::of("a")).unwrap();
    assert_eq!(entry.info().connect_timeout().as_secs(), 5);
    assert_eq!(entry.info().resource_manager(ResourcePriority::Default).requests().max(), 1024);
    assert_eq!(counts(&manager), [1, 0, 0, 1, 0]);
    shutdown_thread();
}

#[test]
fn idle_connections_go_with_their_cluster_though_a_stream_holds_it() {
    let f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    f.answer(&request, &mut peer);
    assert_eq!(f.connections(), 1);
    let held = f.entry();
    f.manager.remove_cluster("a");
    f.settle();
    let while_held = f.connections();
    drop(held);
    f.settle();
    assert_eq!((while_held, f.connections()), (0, 0));
}

#[test]
fn what_remains_is_right_when_a_cluster_was_replaced_in_between() {
    let limits = json!([{ "max_requests": 10, "track_remaining": true }]);
    let mut f = Fixture::with(1, json!({ "circuit_breakers": { "thresholds": limits } }));
    let store = f.info.scope().store().clone();
    let left = || store.find_gauge("cluster.a.circuit_breakers.default.remaining_rq").unwrap().value();
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    assert_eq!(left(), 9);
    let update = waiting(
        json!({ "name": "a", "connect_timeout": "7s", "circuit_breakers": { "thresholds": limits } }),
    );
    f.manager.add_or_update_cluster(&update).unwrap();
    tell_hosts(&newest());
    drop(pool);
    f.answer(&request, &mut peer);
    drop(request);
    f.settle();
    f.info = cluster_info();
    assert_eq!(left(), 10);
}
