//! The clusters of one thread, with their pools, over a real loop and real sockets.

mod merging;
mod updates;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ClusterEntry, ClusterManagerImpl, LocalInfo};
use crate::buffer::Buffer;
use crate::config::{self, UnknownFields, parse_bootstrap};
use crate::conn_pool::{Callbacks, HttpInstance, PoolFailureReason};
use crate::event::{Dispatcher, RunType};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, Protocol, StreamDecoder, StreamEncoder};
use crate::runtime::LoaderImpl;
use crate::stats::Store;
use crate::thread_local::{InstanceImpl, enter_thread, shutdown_thread};
use crate::trace::Ids;
use crate::upstream::load_balancer::NoContext;
use crate::upstream::test_support::OfThisFloor;
use crate::upstream::{
    ClusterInfoImpl, ClusterName, HostSharedPtr, HostVectors, ResourcePriority, WorkerHost,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn clusters(configs: Value) -> Vec<Arc<config::Cluster>> {
    let raw = json!({ "static_resources": { "clusters": configs } });
    parse_bootstrap(raw, UnknownFields::default(), &OfThisFloor).unwrap().static_resources.clusters
}

fn of(configs: &[Arc<config::Cluster>]) -> Result<Rc<ClusterManagerImpl>, String> {
    let (store, tls) = (Store::new(1), InstanceImpl::new());
    ClusterManagerImpl::new(configs, None, LocalInfo::default(), &store, &tls, &LoaderImpl::empty(&store))
}

/// A manager whose cluster `a` has as many hosts as there are listeners.
struct Fixture {
    dispatcher: Rc<Dispatcher>,
    manager: Rc<ClusterManagerImpl>,
    info: Arc<ClusterInfoImpl>,
    listeners: Vec<TcpListener>,
}

impl Fixture {
    fn new(hosts: usize) -> Fixture {
        Fixture::with(hosts, json!({}))
    }

    /// `options` are further fields of the cluster.
    fn with(hosts: usize, mut options: Value) -> Fixture {
        let listeners: Vec<_> = (0..hosts).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let endpoint = |listener: &TcpListener| {
            listener.set_nonblocking(true).unwrap();
            let port = listener.local_addr().unwrap().port();
            let address = json!({ "address": "127.0.0.1", "port_value": port });
            json!({ "endpoint": { "address": { "socket_address": address } } })
        };
        let endpoints: Vec<Value> = listeners.iter().map(endpoint).collect();
        options["name"] = "a".into();
        options["load_assignment"] =
            json!({ "cluster_name": "a", "endpoints": [{ "lb_endpoints": endpoints }] });
        let dispatcher = Dispatcher::new("test");
        enter_thread(&dispatcher);
        let configs = clusters(json!([options]));
        let manager = of(&[]).unwrap();
        manager.add_or_update_cluster(&configs[0]).unwrap();
        let info = manager.clusters()[0].info().clone();
        Fixture { dispatcher, manager, info, listeners }
    }

    fn entry(&self) -> Rc<ClusterEntry> {
        self.manager.handle().get(&ClusterName::of("a")).unwrap()
    }

    fn pool(&self, priority: ResourcePriority, protocol: Protocol) -> Option<Rc<dyn HttpInstance>> {
        self.entry().http_conn_pool(priority, protocol, &NoContext)
    }

    fn default_pool(&self) -> Rc<dyn HttpInstance> {
        self.pool(ResourcePriority::Default, Protocol::Http11).unwrap()
    }

    /// The number of pools, by priority.
    fn pools(&self) -> [u64; 2] {
        ResourcePriority::ALL.map(|priority| self.info.resource_manager(priority).connection_pools().count())
    }

    fn connections(&self) -> u64 {
        self.info.stats().upstream_cx_active().value()
    }

    fn host(&self, index: usize) -> HostSharedPtr {
        self.manager.clusters()[0].priority_set().host_sets_per_priority()[0].hosts()[index].clone()
    }

    /// Removes a host, as a discovery service does.
    fn remove_host(&self, index: usize) {
        let removed = self.host(index);
        let set = self.manager.clusters()[0].priority_set().clone();
        let left = set.host_sets_per_priority()[0]
            .hosts()
            .iter()
            .filter(|h| !Arc::ptr_eq(h, &removed))
            .cloned()
            .collect();
        set.update_hosts(0, HostVectors::partition(Arc::new(left), &Arc::default()), &[], &[removed]);
    }

    /// A request that `pool` is serving, and the upstream's end of its connection.
    fn serving(&self, pool: &Rc<dyn HttpInstance>) -> (Rc<Request>, TcpStream) {
        let request = Request::start(pool);
        self.run_until("a client", || request.ready.get());
        let mut peer = None;
        self.run_until("a connection", || {
            peer = peer.take().or_else(|| self.listeners.iter().find_map(|l| l.accept().ok()));
            peer.is_some()
        });
        let (peer, _) = peer.unwrap();
        peer.set_nonblocking(true).unwrap();
        (request, peer)
    }

    /// Answers a request and waits until it knows.
    fn answer(&self, request: &Request, peer: &mut TcpStream) {
        peer.write_all(OK.as_bytes()).unwrap();
        self.run_until("the response", || request.answered.get());
        self.settle();
    }

    #[track_caller]
    fn run_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "waiting for {what}");
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    fn settle(&self) {
        for _ in 0..5 {
            self.dispatcher.run(RunType::NonBlock);
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.manager.shutdown();
        shutdown_thread();
    }
}

fn is_closed(peer: &mut TcpStream) -> bool {
    loop {
        match peer.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// What stands for the router.
#[derive(Default)]
struct Request {
    encoder: RefCell<Option<Rc<dyn StreamEncoder>>>,
    ready: Cell<bool>,
    answered: Cell<bool>,
}

impl Request {
    fn start(pool: &Rc<dyn HttpInstance>) -> Rc<Request> {
        let request = Rc::new(Request::default());
        let weak = Rc::downgrade(&request);
        let decoder: Weak<dyn StreamDecoder> = weak.clone();
        pool.new_stream(decoder, weak, Ids::default());
        request
    }
}

impl Callbacks for Request {
    fn on_pool_ready(&self, encoder: Rc<dyn StreamEncoder>, _host: &Rc<WorkerHost>) {
        let mut headers = HeaderMap::new();
        headers.set(HeaderId::Method, b"GET");
        headers.set(HeaderId::Path, b"/");
        encoder.encode_headers(&headers.shared(), true);
        *self.encoder.borrow_mut() = Some(encoder);
        self.ready.set(true);
    }

    fn on_pool_failure(&self, reason: PoolFailureReason, _transport: &str, _host: Option<&Rc<WorkerHost>>) {
        panic!("{reason:?}");
    }
}

impl StreamDecoder for Request {
    fn decode_headers(&self, _headers: HeaderMapPtr, end_stream: bool) {
        self.answered.set(end_stream);
    }
    fn decode_data(&self, _data: &mut Buffer, _end_stream: bool) {}
    fn decode_trailers(&self, _trailers: HeaderMapPtr) {}
}

#[test]
fn clusters_are_counted_and_found_by_name() {
    let f = Fixture::new(1);
    let stats = f.manager.stats();
    assert_eq!((stats.cluster_added.value(), stats.active_clusters.value()), (1, 1));
    assert_eq!(f.entry().info().name(), "a");
    assert!(f.manager.handle().get(&ClusterName::of("b")).is_none());
    assert!(!f.manager.remove_cluster("b"));
    assert_eq!(stats.cluster_removed.value(), 0);
    let called = Rc::new(Cell::new(false));
    let to = called.clone();
    f.manager.set_initialized_cb(Box::new(move || to.set(true)));
    assert!(called.get());
}

#[test]
fn two_clusters_of_one_name_are_refused() {
    enter_thread(&Dispatcher::new("test"));
    let mut configs = clusters(json!([{ "name": "a" }]));
    configs.push(configs[0].clone());
    let error = of(&configs).err().unwrap();
    assert_eq!(error, "cluster manager: duplicate cluster 'a'");
    shutdown_thread();
}

#[test]
fn without_a_host_there_is_no_pool() {
    let f = Fixture::new(0);
    assert!(f.pool(ResourcePriority::Default, Protocol::Http11).is_none());
    assert_eq!(f.info.stats().upstream_cx_none_healthy().value(), 1);
}

#[test]
fn pools_are_apart_by_priority_and_protocol() {
    let f = Fixture::new(1);
    let keys = [
        (ResourcePriority::Default, Protocol::Http10),
        (ResourcePriority::Default, Protocol::Http11),
        (ResourcePriority::High, Protocol::Http10),
        (ResourcePriority::High, Protocol::Http11),
    ];
    let pools = keys.map(|(priority, protocol)| f.pool(priority, protocol).unwrap());
    assert_eq!(f.pools(), [2, 2]);
    let again = keys.map(|(priority, protocol)| f.pool(priority, protocol).unwrap());
    for (i, pool) in pools.iter().enumerate() {
        for (j, other) in again.iter().enumerate() {
            assert_eq!(Rc::ptr_eq(pool, other), i == j, "{:?} and {:?}", keys[i], keys[j]);
        }
    }
    assert_eq!(f.pools(), [2, 2]);
}

#[test]
fn a_connection_of_one_pool_is_not_used_by_another() {
    let f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    f.answer(&request, &mut peer);
    assert!(!pool.has_active_connections());
    let other = f.pool(ResourcePriority::Default, Protocol::Http10).unwrap();
    let (_second, _peer) = f.serving(&other);
    let high = f.pool(ResourcePriority::High, Protocol::Http11).unwrap();
    let (_third, _peer) = f.serving(&high);
    assert_eq!(f.connections(), 3);
    let breakers = ResourcePriority::ALL.map(|p| f.info.resource_manager(p).connections().count());
    assert_eq!(breakers, [2, 1]);
}

#[test]
fn every_host_has_its_pools() {
    let f = Fixture::new(2);
    let [first, second, third] = [f.default_pool(), f.default_pool(), f.default_pool()];
    assert!(!Arc::ptr_eq(first.host().shared(), second.host().shared()));
    assert!(!Rc::ptr_eq(&first, &second));
    assert!(Rc::ptr_eq(&first, &third));
    assert_eq!(f.pools(), [2, 0]);
}

#[test]
fn the_limit_on_pools_frees_an_idle_pool_of_the_host() {
    let limits = json!([{ "max_connection_pools": 1 }]);
    let f = Fixture::with(1, json!({ "circuit_breakers": { "thresholds": limits } }));
    let open = || f.info.scope().store().find_gauge("cluster.a.circuit_breakers.default.cx_pool_open");
    let pool = f.default_pool();
    assert_eq!(open().unwrap().value(), 1);
    let (request, mut peer) = f.serving(&pool);
    assert!(f.pool(ResourcePriority::Default, Protocol::Http10).is_none());
    assert!(f.pool(ResourcePriority::High, Protocol::Http10).is_some());
    f.answer(&request, &mut peer);
    assert!(!is_closed(&mut peer));
    let other = f.pool(ResourcePriority::Default, Protocol::Http10).unwrap();
    assert!(!Rc::ptr_eq(&pool, &other));
    assert_eq!((f.pools(), f.connections()), ([1, 1], 0));
    assert!(is_closed(&mut peer));
    let weak = Rc::downgrade(&pool);
    drop(pool);
    assert!(weak.upgrade().is_none());
    assert!(!Rc::ptr_eq(&f.pool(ResourcePriority::Default, Protocol::Http11).unwrap(), &other));
    assert_eq!(open().unwrap().value(), 1);
}

#[test]
fn the_limit_on_pools_does_not_free_those_of_other_hosts() {
    let limits = json!([{ "max_connection_pools": 1 }]);
    let f = Fixture::with(2, json!({ "circuit_breakers": { "thresholds": limits } }));
    let _first = f.default_pool();
    assert!(f.pool(ResourcePriority::Default, Protocol::Http11).is_none());
    assert_eq!(f.pools(), [1, 0]);
}

/// As a client and its request see it: the answer says that the connection ends.
const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[test]
fn an_empty_pool_gives_its_place_to_one_of_another_host() {
    let limits = json!([{ "max_connection_pools": 1, "track_remaining": true }]);
    let f = Fixture::with(2, json!({ "circuit_breakers": { "thresholds": limits } }));
    let gauge = |name: &str| {
        let name = format!("cluster.a.circuit_breakers.default.{name}");
        f.info.scope().store().find_gauge(&name).unwrap().value()
    };
    let mut hosts = Vec::new();
    for _ in 0..4 {
        let pool = f.default_pool();
        hosts.push(Arc::as_ptr(pool.host().shared()));
        assert_eq!((f.pools()[0], gauge("cx_pool_open"), gauge("remaining_cx_pools")), (1, 1, 0));
        let (request, mut peer) = f.serving(&pool);
        peer.write_all(LAST.as_bytes()).unwrap();
        f.run_until("the response", || request.answered.get());
        f.settle();
        assert_eq!((f.pools()[0], gauge("cx_pool_open"), gauge("remaining_cx_pools")), (0, 0, 1));
        let weak = Rc::downgrade(&pool);
        drop(pool);
        assert!(weak.upgrade().is_none());
    }
    assert!(hosts[0] != hosts[1] && hosts[0] == hosts[2] && hosts[1] == hosts[3]);
    // An idle connection keeps the place.
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    f.answer(&request, &mut peer);
    assert!(f.pool(ResourcePriority::Default, Protocol::Http11).is_none());
    drop(peer);
    f.run_until("the pool's end", || f.pools()[0] == 0);
    assert_eq!((gauge("cx_pool_open"), gauge("remaining_cx_pools")), (0, 1));
}

#[test]
fn an_empty_pool_of_a_host_that_drains_gives_one_place_back() {
    let limits = json!([{ "max_connection_pools": 9 }]);
    let f = Fixture::with(1, json!({ "circuit_breakers": { "thresholds": limits } }));
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    let other = f.pool(ResourcePriority::Default, Protocol::Http10).unwrap();
    let (second, mut second_peer) = f.serving(&other);
    f.manager.remove_cluster("a");
    f.answer(&request, &mut peer);
    assert_eq!((f.pools(), f.connections()), ([1, 0], 1));
    f.answer(&second, &mut second_peer);
    assert_eq!((f.pools(), f.connections()), ([0, 0], 0));
}

#[test]
fn without_a_limit_an_empty_pool_stays() {
    let f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    peer.write_all(LAST.as_bytes()).unwrap();
    f.run_until("the response", || request.answered.get());
    f.settle();
    assert_eq!((f.pools(), f.connections()), ([1, 0], 0));
    assert!(Rc::ptr_eq(&f.default_pool(), &pool));
}

#[test]
fn pools_of_a_removed_cluster_go_when_they_are_idle() {
    let f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    f.answer(&request, &mut peer);
    f.pool(ResourcePriority::High, Protocol::Http11);
    assert!(f.manager.remove_cluster("a"));
    assert!(f.manager.handle().get(&ClusterName::of("a")).is_none());
    let stats = f.manager.stats();
    assert_eq!((stats.cluster_removed.value(), stats.active_clusters.value()), (1, 0));
    assert_eq!(f.pools(), [0, 0]);
    let weak = Rc::downgrade(&pool);
    drop(pool);
    f.settle();
    assert!(weak.upgrade().is_none() && is_closed(&mut peer));
    assert_eq!(f.connections(), 0);
}

#[test]
fn pools_of_a_removed_cluster_finish_their_requests() {
    let f = Fixture::new(1);
    let pool = f.default_pool();
    let (request, mut peer) = f.serving(&pool);
    let high = f.pool(ResourcePriority::High, Protocol::Http11).unwrap();
    let (other, mut other_peer) = f.serving(&high);
    let weak = Rc::downgrade(&pool);
    drop((pool, high));
    f.manager.remove_cluster("a");
    f.settle();
    assert_eq!((f.pools(), f.connections()), ([1, 1], 2));
    f.answer(&request, &mut peer);
    // The last pool to drain takes all of them along.
    assert_eq!((f.pools(), f.connections()), ([1, 1], 1));
    assert!(weak.upgrade().is_some() && is_closed(&mut peer));
    f.answer(&other, &mut other_peer);
    assert_eq!((f.pools(), f.connections()), ([0, 0], 0));
    assert!(weak.upgrade().is_none() && is_closed(&mut other_peer));
}

#[test]
fn pools_of_a_removed_host_finish_and_those_of_others_stay() {
    let f = Fixture::new(2);
    let mut pools = [f.default_pool(), f.default_pool()];
    if !Arc::ptr_eq(pools[0].host().shared(), &f.host(0)) {
        pools.reverse();
    }
    let (request, mut peer) = f.serving(&pools[0]);
    let (kept, mut kept_peer) = f.serving(&pools[1]);
    f.remove_host(0);
    f.settle();
    assert_eq!((f.pools(), f.connections()), ([2, 0], 2));
    for _ in 0..3 {
        assert!(Rc::ptr_eq(&f.default_pool(), &pools[1]));
    }
    f.answer(&request, &mut peer);
    f.answer(&kept, &mut kept_peer);
    assert_eq!((f.pools(), f.connections()), ([1, 0], 1));
    assert!(is_closed(&mut peer) && !is_closed(&mut kept_peer));
}

#[test]
fn the_last_host_gone_leaves_nothing_to_choose() {
    let f = Fixture::new(1);
    drop(f.default_pool());
    f.remove_host(0);
    assert!(f.pool(ResourcePriority::Default, Protocol::Http11).is_none());
    assert_eq!((f.pools(), f.info.stats().upstream_cx_none_healthy().value()), ([0, 0], 1));
}

#[test]
fn a_failed_host_has_its_connections_replaced() {
    let f = Fixture::new(1);
    let pool = f.default_pool();
    let high = f.pool(ResourcePriority::High, Protocol::Http11).unwrap();
    let (idle, mut idle_peer) = f.serving(&high);
    f.answer(&idle, &mut idle_peer);
    let (request, mut peer) = f.serving(&pool);
    f.manager.post_thread_local_health_failure(&f.host(0));
    f.settle();
    assert!(is_closed(&mut idle_peer) && !is_closed(&mut peer));
    assert_eq!(f.connections(), 1);
    f.answer(&request, &mut peer);
    assert!(is_closed(&mut peer));
    assert_eq!((f.connections(), f.info.stats().upstream_cx_max_requests().value()), (0, 1));
    assert!(Rc::ptr_eq(&f.default_pool(), &pool));
    assert_eq!(f.pools(), [1, 1]);
    let (_next, _peer) = f.serving(&pool);
}

#[test]
fn pools_go_with_their_thread() {
    let f = Fixture::new(1);
    let (_request, mut peer) = f.serving(&f.default_pool());
    assert_eq!((f.pools(), f.connections()), ([1, 0], 1));
    f.manager.shutdown();
    shutdown_thread();
    assert_eq!((f.pools(), f.connections()), ([0, 0], 0));
    assert!(is_closed(&mut peer));
}

#[test]
fn every_thread_has_its_own_pools() {
    let (dispatcher, tls) = (Dispatcher::new("main"), InstanceImpl::new());
    enter_thread(&dispatcher);
    let (to_main, from_worker) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let dispatcher = Dispatcher::new("worker");
        enter_thread(&dispatcher);
        to_main.send(dispatcher.handle()).unwrap();
        dispatcher.run(RunType::RunUntilExit);
        shutdown_thread();
    });
    let handle = from_worker.recv().unwrap();
    tls.register_thread(handle.clone());
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 1 } });
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
    let assignment = json!({ "cluster_name": "a", "endpoints": endpoints });
    let configs = clusters(json!([{ "name": "a", "load_assignment": assignment }]));
    let store = Store::new(1);
    let manager = ClusterManagerImpl::new(
        &configs,
        None,
        LocalInfo::default(),
        &store,
        &tls,
        &LoaderImpl::empty(&store),
    )
    .unwrap();
    let pool = |manager: &super::ClusterManager| {
        manager
            .get(&ClusterName::of("a"))
            .unwrap()
            .http_conn_pool(ResourcePriority::Default, Protocol::Http11, &NoContext)
            .unwrap()
    };
    let here = Rc::as_ptr(&pool(&manager.handle())) as *const () as usize;
    let (to_main, from_worker) = std::sync::mpsc::channel();
    let on_worker = manager.handle();
    handle.post(move || to_main.send(Rc::as_ptr(&pool(&on_worker)) as *const () as usize).unwrap());
    assert_ne!(from_worker.recv().unwrap(), here);
    let info = manager.clusters()[0].info().clone();
    let pools = || info.resource_manager(ResourcePriority::Default).connection_pools().count();
    assert_eq!(pools(), 2);
    handle.exit();
    worker.join().unwrap();
    assert_eq!(pools(), 1);
    manager.shutdown();
    shutdown_thread();
    assert_eq!(pools(), 0);
}
