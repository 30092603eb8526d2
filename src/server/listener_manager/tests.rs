//! Listeners that come, change and go, with a worker of their own and real sockets.

mod limits;
mod stopping;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::ListenerManagerImpl;
use crate::access_log::AccessLogManager;
use crate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use crate::config::{self, ConfigError, UnknownFields, parse_bootstrap};
use crate::event::{Dispatcher, RunType};
use crate::filters::network::NetworkFilterConfig;
use crate::filters::{FactoryContext, LINKED, ServerFactoryContext};
use crate::init::{ManagerImpl, TargetImpl, WatcherImpl};
use crate::network::{Address, NetworkFilterFactory, NetworkFilterFactoryCb};
use crate::runtime::LoaderImpl;
use crate::server::drain_manager::DrainManagerImpl;
use crate::server::guard_dog::GuardDogImpl;
use crate::server::options::DrainStrategy;
use crate::server::worker::WorkerImpl;
use crate::stats::{Counter, Store};
use crate::thread_local::{self, InstanceImpl};

/// A main thread with one worker; drains take no time, or for ever.
struct Fixture {
    dispatcher: Rc<Dispatcher>,
    manager: Rc<ListenerManagerImpl>,
    clusters: Rc<ClusterManagerImpl>,
    context: ServerFactoryContext,
    drain_manager: Arc<DrainManagerImpl>,
    init_manager: Rc<ManagerImpl>,
    watcher: WatcherImpl,
    store: Arc<Store>,
}

impl Fixture {
    fn new(drain_time: Duration) -> Self {
        let dispatcher = Dispatcher::new("main");
        thread_local::enter_thread(&dispatcher);
        let (store, tls) = (Store::new(1), InstanceImpl::new());
        let worker = WorkerImpl::new(0, || {}).unwrap();
        tls.register_thread(worker.dispatcher().clone());
        let runtime = LoaderImpl::empty(&store);
        let clusters =
            ClusterManagerImpl::new(&[], None, LocalInfo::default(), &store, &tls, &runtime).unwrap();
        let date_provider = tls.allocate_slot();
        date_provider.set(|dispatcher| crate::http::DateProvider::new(dispatcher));
        let context = ServerFactoryContext {
            cluster_manager: clusters.handle(),
            runtime,
            access_log_manager: AccessLogManager::new(&store, Duration::from_secs(3600)),
            date_provider,
            local_address: Address::local_machine(false),
            service_cluster: String::new(),
            service_zone: String::new(),
            service_node: String::new(),
            health_check_failed: Arc::default(),
            stats: store.clone(),
        };
        let init_manager = ManagerImpl::new("Server");
        Fixture {
            dispatcher,
            manager: ListenerManagerImpl::new(&store, vec![worker], &init_manager),
            clusters,
            context,
            drain_manager: DrainManagerImpl::new(drain_time, DrainStrategy::Immediate),
            init_manager,
            watcher: WatcherImpl::new("test", || {}),
            store,
        }
    }

    /// With the worker running.
    fn started(drain_time: Duration) -> Self {
        let fixture = Fixture::new(drain_time);
        fixture.start();
        fixture
    }

    fn start(&self) {
        self.init_manager.initialize(&self.watcher);
        self.manager.start_workers(&GuardDogImpl::new(&self.store, "workers", &Default::default()));
    }

    fn update(&self, config: &config::Listener) -> Result<bool, String> {
        self.manager.add_or_update_listener(config, &self.context, &self.drain_manager)
    }

    fn port(&self, name: &str) -> u16 {
        let listener = self.manager.active_listener(name).unwrap();
        listener.address().ip().unwrap().port()
    }

    /// Added, modified, removed, failed; active, warming, draining.
    fn counts(&self) -> [u64; 7] {
        let stats = &self.manager.stats;
        let counters = [
            &stats.listener_added,
            &stats.listener_modified,
            &stats.listener_removed,
            &stats.listener_create_failure,
        ];
        let [added, modified, removed, failed] = counters.map(Counter::value);
        let gauges =
            [&stats.total_listeners_active, &stats.total_listeners_warming, &stats.total_listeners_draining];
        let [active, warming, draining] = gauges.map(|gauge| gauge.value());
        [added, modified, removed, failed, active, warming, draining]
    }

    #[track_caller]
    fn run_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "waiting for {what}: {:?}", self.counts());
            self.dispatcher.run(RunType::NonBlock);
            std::thread::yield_now();
        }
    }

    /// Waits until the worker has taken the listeners that were added so far.
    fn settle(&self, created: u64) {
        self.run_until("the worker", || self.manager.stats.listener_create_success.value() == created);
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.store.counters().iter().map(Counter::name).filter(|name| name.starts_with(prefix)).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.manager.stop_workers();
        self.clusters.shutdown();
        thread_local::shutdown_thread();
    }
}

/// A listener that answers with `body`.
fn listener(name: &str, body: &str) -> config::Listener {
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": name,
        "route_config": { "virtual_hosts": [{ "name": "v", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": body } } },
        ] }] },
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        } }],
    });
    let listener = json!({
        "name": name, "stat_prefix": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "hcm", "typed_config": hcm }] }],
    });
    let raw = json!({ "static_resources": { "listeners": [listener] } });
    parse_bootstrap(raw, UnknownFields::default(), &LINKED).unwrap().static_resources.listeners.remove(0)
}

/// The body of the next answer, and whether the connection ends with it; `None` if it has ended.
fn ask(stream: &mut TcpStream) -> Option<(String, bool)> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
        answer.extend_from_slice(&bytes[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && !body.is_empty()
        {
            return Some((body.to_string(), head.contains("connection: close")));
        }
    }
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

/// Never reached in a test.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_listener_that_comes_later_serves() {
    let f = Fixture::started(LONG);
    assert_eq!(f.update(&listener("a", "one")), Ok(true));
    assert_eq!(f.counts(), [1, 0, 0, 0, 1, 0, 0]);
    f.settle(1);
    let mut stream = connect(f.port("a"));
    assert_eq!(ask(&mut stream), Some(("one".into(), false)));
    assert_eq!(f.update(&listener("a", "one")), Ok(false));
    assert_eq!(f.counts(), [1, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn an_update_serves_new_connections_and_the_old_ones_drain() {
    let f = Fixture::started(LONG);
    f.update(&listener("a", "one")).unwrap();
    f.settle(1);
    let port = f.port("a");
    let mut old = connect(port);
    assert_eq!(ask(&mut old), Some(("one".into(), false)));
    f.update(&listener("a", "two")).unwrap();
    assert_eq!((f.counts(), f.port("a")), ([1, 1, 0, 0, 1, 0, 1], port));
    f.settle(2);
    f.run_until("the end of the old one's listening", || {
        f.manager.draining_listeners.borrow()[0].listener.socket().is_none()
    });
    for _ in 0..5 {
        assert_eq!(ask(&mut connect(port)), Some(("two".into(), false)));
    }
    assert_eq!(ask(&mut old), Some(("one".into(), true)), "it is told to go");
}

#[test]
fn when_the_drain_is_over_nothing_is_left() {
    let f = Fixture::started(Duration::ZERO);
    f.update(&listener("a", "one")).unwrap();
    f.settle(1);
    let mut old = connect(f.port("a"));
    ask(&mut old).unwrap();
    let port = f.port("a");
    assert!(!f.names("listener.a.").is_empty() && !f.names("http.a.").is_empty());
    assert!(f.manager.remove_listener("a") && !f.manager.remove_listener("a"));
    f.run_until("the end of the drain", || f.counts() == [1, 0, 1, 0, 0, 0, 0]);
    assert_eq!(ask(&mut old), None);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    f.run_until("the end of what it counted", || {
        f.names("listener.a.").is_empty() && f.names("http.a.").is_empty()
    });
}

#[test]
fn an_address_is_one_listeners_and_a_failure_changes_nothing() {
    let f = Fixture::started(LONG);
    f.update(&listener("a", "one")).unwrap();
    f.settle(1);
    let address = |port: u16| {
        config::Address::SocketAddress(config::address::SocketAddress {
            address: "127.0.0.1".into(),
            port_value: port,
            ipv4_compat: false,
        })
    };
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = config::Listener {
        address: address(held.local_addr().unwrap().port()),
        enable_reuse_port: Some(false),
        ..listener("a", "two")
    };
    let error = f.update(&busy).unwrap_err();
    assert!(error.starts_with("error adding listener 'a': cannot bind '127.0.0.1:"), "{error}");
    assert_eq!(f.counts(), [1, 0, 0, 1, 1, 0, 0]);
    assert_eq!(ask(&mut connect(f.port("a"))), Some(("one".into(), false)));
    // A free address of its own is no reason to refuse, and the old socket closes.
    let port = f.port("a");
    drop(held);
    f.update(&busy).unwrap();
    f.settle(2);
    assert_eq!(ask(&mut connect(f.port("a"))), Some(("two".into(), false)));
    f.run_until("the old socket's end", || TcpStream::connect(("127.0.0.1", port)).is_err());
    let again = config::Listener { address: busy.address.clone(), ..listener("b", "three") };
    let error = f.update(&again).unwrap_err();
    assert!(error.contains("'b' has duplicate address '127.0.0.1:"), "{error}");
}

#[test]
fn a_removed_listener_may_come_again_while_it_drains() {
    let f = Fixture::started(LONG);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = config::address::SocketAddress {
        address: "127.0.0.1".into(),
        port_value: held.local_addr().unwrap().port(),
        ipv4_compat: false,
    };
    drop(held);
    let at = |body: &str| config::Listener {
        address: config::Address::SocketAddress(address.clone()),
        enable_reuse_port: Some(false),
        ..listener("a", body)
    };
    f.update(&at("one")).unwrap();
    f.settle(1);
    assert!(f.manager.remove_listener("a"));
    assert_eq!(f.update(&at("two")), Ok(true));
    f.settle(2);
    f.run_until("the end of the old one's listening", || {
        f.manager.draining_listeners.borrow()[0].listener.socket().is_none()
    });
    assert_eq!(ask(&mut connect(f.port("a"))), Some(("two".into(), false)));
    assert_eq!(f.counts(), [2, 0, 1, 0, 1, 0, 1]);
}

thread_local! {
    /// What the filters of this thread's listeners wait for.
    static TARGETS: RefCell<Vec<TargetImpl>> = const { RefCell::new(Vec::new()) };
}

/// A filter that needs something before it serves.
#[derive(Debug)]
struct WaitingConfig;

struct WaitingFactory;

impl NetworkFilterFactory for WaitingFactory {
    fn on_worker(&self, _dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        Box::new(|_| {})
    }
}

impl NetworkFilterConfig for WaitingConfig {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        let target = TargetImpl::new("test", || {});
        context.init_manager.add(&target);
        TARGETS.with_borrow_mut(|targets| targets.push(target));
        Ok(Box::new(WaitingFactory))
    }
}

fn waiting(name: &str, body: &str) -> config::Listener {
    let mut listener = listener(name, body);
    listener.filter_chains[0].filters.insert(0, config::Filter::of("waiting", WaitingConfig));
    listener
}

fn ready() -> bool {
    TARGETS.with_borrow_mut(Vec::pop).unwrap().ready()
}

#[test]
fn what_is_not_warm_serves_not_and_may_be_replaced_or_removed() {
    let f = Fixture::started(LONG);
    f.update(&listener("a", "one")).unwrap();
    f.settle(1);
    f.update(&waiting("a", "two")).unwrap();
    assert_eq!(f.counts(), [1, 1, 0, 0, 1, 1, 0]);
    assert_eq!(ask(&mut connect(f.port("a"))), Some(("one".into(), false)));
    f.update(&waiting("a", "three")).unwrap();
    assert_eq!(f.counts(), [1, 2, 0, 0, 1, 1, 0]);
    assert!(ready());
    assert_eq!(f.counts(), [1, 2, 0, 0, 1, 0, 1]);
    f.settle(2);
    assert!(!ready(), "what was replaced is not waited for");
    f.update(&waiting("b", "four")).unwrap();
    assert!(f.manager.remove_listener("b") && !ready());
    assert_eq!(f.counts(), [2, 2, 1, 0, 1, 0, 1]);
}

#[test]
fn before_the_workers_start_the_server_waits_for_it() {
    let f = Fixture::new(LONG);
    f.update(&waiting("a", "one")).unwrap();
    f.update(&listener("b", "one")).unwrap();
    f.update(&listener("b", "two")).unwrap();
    assert_eq!(f.counts(), [2, 1, 0, 0, 2, 0, 0]);
    f.init_manager.initialize(&f.watcher);
    assert_eq!(f.init_manager.state(), crate::init::State::Initializing);
    assert!(ready());
    assert_eq!(f.init_manager.state(), crate::init::State::Initialized);
    f.manager.start_workers(&GuardDogImpl::new(&f.store, "workers", &Default::default()));
    f.settle(2);
    assert_eq!(ask(&mut connect(f.port("b"))), Some(("two".into(), false)));
}

#[test]
fn the_server_does_not_wait_for_one_that_was_replaced() {
    let f = Fixture::new(LONG);
    f.update(&waiting("a", "one")).unwrap();
    f.init_manager.initialize(&f.watcher);
    let target = TARGETS.with_borrow_mut(Vec::pop);
    f.update(&listener("a", "two")).unwrap();
    assert_eq!(f.init_manager.state(), crate::init::State::Initializing);
    // What it waited for has no other owner.
    drop(target);
    assert_eq!(f.init_manager.state(), crate::init::State::Initialized);
}

#[test]
fn listeners_of_the_bootstrap_stay() {
    let f = Fixture::new(LONG);
    f.manager.add_listener(&listener("a", "one"), &f.context, &f.drain_manager, "a").unwrap();
    f.start();
    f.settle(1);
    assert_eq!(f.update(&listener("a", "two")), Ok(false));
    assert!(!f.manager.remove_listener("a"));
    assert_eq!(ask(&mut connect(f.port("a"))), Some(("one".into(), false)));
    assert_eq!(f.counts(), [1, 0, 0, 0, 1, 0, 0]);
}
