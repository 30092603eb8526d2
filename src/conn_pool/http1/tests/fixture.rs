//! The pool with an upstream at its end, and how to look at both.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::ConnPoolImpl;
use super::super::pool::Clients::{Busy, Ready};
use crate::buffer::Buffer;
use crate::config::core::Locality;
use crate::config::endpoint::HealthStatus;
use crate::config::{UnknownFields, parse_bootstrap};
use crate::conn_pool::{Callbacks, Cancellable, HttpInstance, Instance, PoolFailureReason};
use crate::event::{Dispatcher, RunType};
use crate::http::{
    HeaderId, HeaderMap, HeaderMapPtr, StreamCallbacks, StreamDecoder, StreamEncoder, StreamResetReason,
};
use crate::network::Address;
use crate::stats::{Scope, Store};
use crate::trace::Ids;
use crate::upstream::test_support::OfThisFloor;
use crate::upstream::{ClusterInfoImpl, HostImpl, ResourcePriority, WorkerHost};

/// A response that leaves the connection open.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// T1: a client is made.
pub const CREATED: &str =
    "cx_total+1 cx_active+1 cx_http1_total+1 host.cx_total+1 host.cx_active+1 connections+1";
/// A request has joined the queue.
pub const QUEUED: &str = "rq_pending_total+1 rq_pending_active+1 pending_requests+1";
/// T13: a request has left the queue.
pub const UNQUEUED: &str = "rq_pending_active-1 pending_requests-1";
/// A connection attempt has succeeded.
pub const CONNECTED: &str = "cx_connect_ms+1";
/// T12: a request was given to a client.
pub const ATTACHED: &str = "rq_total+1 rq_active+1 host.rq_total+1 host.rq_active+1 requests+1";
/// A request has left its client.
pub const RELEASED: &str = "rq_active-1 host.rq_active-1 requests-1";
/// A connection attempt has failed.
pub const CONNECT_FAILED: &str = "cx_connect_fail+1 host.cx_connect_fail+1";
/// T16: deferred deletion has dropped a client.
pub const DELETED: &str = "cx_active-1 host.cx_active-1 connections-1 cx_length_ms+1";

type Log = Rc<RefCell<Vec<String>>>;
type Numbers = BTreeMap<String, i64>;

/// See the module's description.
pub struct Fixture {
    pub dispatcher: Rc<Dispatcher>,
    pub host: Rc<WorkerHost>,
    /// Taken out by a test that drops the pool.
    pub pool: RefCell<Option<Rc<ConnPoolImpl>>>,
    /// Taken out by a test whose upstream refuses connections.
    pub listener: RefCell<Option<TcpListener>>,
    priority: ResourcePriority,
    scope: Scope,
    log: Log,
    before: RefCell<Numbers>,
}

impl Fixture {
    /// A pool of priority default, and a cluster with default options.
    pub fn new() -> Fixture {
        Fixture::with(json!({}))
    }

    /// A pool of priority default; `options` are further fields of the cluster.
    pub fn with(options: Value) -> Fixture {
        Fixture::with_priority(ResourcePriority::Default, options)
    }

    pub fn with_priority(priority: ResourcePriority, options: Value) -> Fixture {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Fixture::towards(listener, priority, options)
    }

    pub fn towards(listener: TcpListener, priority: ResourcePriority, mut options: Value) -> Fixture {
        options["name"] = "a".into();
        let raw = json!({ "static_resources": { "clusters": [options] } });
        let bootstrap = parse_bootstrap(raw, UnknownFields::default(), &OfThisFloor).unwrap();
        let scope = Store::new(1).root_scope();
        let info = ClusterInfoImpl::new(&bootstrap.static_resources.clusters[0], &scope, false).unwrap();
        let address = Address::Ip(listener.local_addr().unwrap());
        let host = HostImpl::new(info, "", address, Locality::default(), 0, 1, HealthStatus::Unknown);
        let host = WorkerHost::new(host);
        let dispatcher = Dispatcher::new("test");
        let pool = ConnPoolImpl::new(&dispatcher, host.clone(), priority);
        let fixture = Fixture {
            dispatcher,
            host,
            pool: RefCell::new(Some(pool)),
            listener: RefCell::new(Some(listener)),
            priority,
            scope,
            log: Log::default(),
            before: RefCell::default(),
        };
        *fixture.before.borrow_mut() = fixture.numbers();
        fixture
    }

    pub fn pool(&self) -> Rc<ConnPoolImpl> {
        self.pool.borrow().clone().unwrap()
    }

    /// A request that sends itself as soon as it gets a client. Not yet given to the pool.
    pub fn request(&self, name: &str) -> Rc<Request> {
        Rc::new_cyclic(|weak| Request {
            weak: weak.clone(),
            name: name.to_string(),
            log: self.log.clone(),
            whole: Cell::new(true),
            encoder: RefCell::default(),
            on_ready: RefCell::default(),
            on_failure: RefCell::default(),
            on_response: RefCell::default(),
        })
    }

    /// Asks the pool for a client for `request`.
    pub fn ask(&self, request: &Rc<Request>) -> Option<Rc<dyn Cancellable>> {
        ask(&self.pool(), request)
    }

    /// A new request that has asked the pool already.
    pub fn start(&self, name: &str) -> Rc<Request> {
        let request = self.request(name);
        self.ask(&request);
        request
    }

    /// A request that is being served, by a connection of its own. Forgets what this has counted.
    pub fn serving(&self, name: &str) -> (Rc<Request>, Peer) {
        let request = self.start(name);
        let peer = self.serve(name);
        self.forget();
        (request, peer)
    }

    /// Accepts a connection and waits for the request `name` on it.
    pub fn serve(&self, name: &str) -> Peer {
        let mut peer = self.accept();
        self.await_request(&mut peer, name);
        peer
    }

    /// `N` idle connections; the last one became idle last. Forgets what this has counted.
    pub fn idle<const N: usize>(&self) -> [Peer; N] {
        let requests: Vec<_> = (0..N).map(|i| self.start(&format!("idle{i}"))).collect();
        let mut peers: Vec<Peer> = (0..N).map(|_| self.accept()).collect();
        for peer in &mut peers {
            self.run_until("a request", || peer.next_path().is_some());
            let answered = self.lists().0 + 1;
            peer.send(OK);
            self.run_until("an idle client", || self.lists().0 == answered);
        }
        drop(requests);
        self.forget();
        peers.try_into().ok().unwrap()
    }

    /// Forgets what was counted and told so far.
    pub fn forget(&self) {
        *self.before.borrow_mut() = self.numbers();
        self.log.borrow_mut().clear();
    }

    pub fn accept(&self) -> Peer {
        let mut peer = None;
        self.run_until("a connection", || {
            peer = peer.take().or_else(|| self.try_accept());
            peer.is_some()
        });
        peer.unwrap()
    }

    /// Accepts a connection that is there already, without running the loop.
    pub fn try_accept(&self) -> Option<Peer> {
        match self.listener.borrow().as_ref().unwrap().accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true).unwrap();
                Some(Peer { socket, received: Vec::new() })
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    /// Waits for the request `name` on a connection.
    #[track_caller]
    pub fn await_request(&self, peer: &mut Peer, name: &str) {
        let mut path = None;
        self.run_until("a request", || {
            path = peer.next_path();
            path.is_some()
        });
        assert_eq!(path.unwrap(), format!("/{name}"));
    }

    #[track_caller]
    pub fn run_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "waiting for {what}");
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    /// Runs the loop until the requests have been told exactly this since the last time.
    #[track_caller]
    pub fn await_told(&self, expected: &[&str]) {
        self.run_until(&expected.join(", "), || self.log.borrow().len() >= expected.len());
        self.told(expected);
    }

    /// Compares what the requests have been told since the last time.
    #[track_caller]
    pub fn told(&self, expected: &[&str]) {
        assert_eq!(*self.log.borrow(), expected);
        self.log.borrow_mut().clear();
    }

    /// Runs the loop until nothing more can come of what has happened.
    pub fn settle(&self) {
        for _ in 0..5 {
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    /// The lengths of the lists: ready, busy, pending.
    pub fn lists(&self) -> (usize, usize, usize) {
        let pool = self.pool();
        (pool.clients.len(Ready), pool.clients.len(Busy), pool.base.num_pending())
    }

    /// Runs the loop until the lists have these lengths.
    #[track_caller]
    pub fn await_lists(&self, expected: (usize, usize, usize)) {
        self.run_until(&format!("lists {expected:?}"), || self.lists() == expected);
    }

    /// Compares all that was counted since the last time: names without `upstream_`, and differences.
    #[track_caller]
    pub fn counted(&self, expected: &[&str]) {
        let now = self.numbers();
        let before = self.before.replace(now.clone());
        let mut differences = now;
        for (name, value) in before {
            *differences.entry(name).or_default() -= value;
        }
        differences.retain(|_, value| *value != 0);
        let mut wanted = Numbers::new();
        for change in expected.iter().flat_map(|changes| changes.split_whitespace()) {
            let sign = change.rfind(['+', '-']).unwrap();
            *wanted.entry(change[..sign].to_string()).or_default() += change[sign..].parse::<i64>().unwrap();
        }
        wanted.retain(|_, value| *value != 0);
        assert_eq!(differences, wanted);
    }

    /// Compares the gauges and breakers that must be 0 when nothing is left.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        for (name, value) in self.numbers() {
            let gauge = name.ends_with("_active") || name.ends_with("connections") || name.ends_with("_open");
            assert!(value == 0 || !gauge && !name.ends_with("requests"), "{name} is {value}");
        }
    }

    /// Connections closed, of these by this side, and by the peer.
    pub fn destroyed(&self) -> (u64, u64, u64) {
        let stats = self.host.cluster().stats();
        (
            stats.upstream_cx_destroy().value(),
            stats.upstream_cx_destroy_local().value(),
            stats.upstream_cx_destroy_remote().value(),
        )
    }

    /// Everything that the pool counts. Bytes are left out: they are the connection's business. So is what
    /// [`Fixture::destroyed`] tells.
    fn numbers(&self) -> Numbers {
        let cluster = self.host.cluster();
        let store = self.scope.store();
        store.merge_histograms();
        let counters = store.counters().into_iter().map(|c| (c.name().to_string(), c.value()));
        let gauges = store.gauges().into_iter().map(|g| (g.name().to_string(), g.value()));
        let samples = store.histograms().into_iter().map(|h| (h.name().to_string(), h.cumulative().count));
        let short = |name: String| name.replace("cluster.a.", "").replace("upstream_", "");
        let mut numbers: Numbers = counters
            .chain(gauges)
            .chain(samples)
            .filter(|(name, _)| !name.contains("_bytes_"))
            .filter(|(name, _)| {
                !["cx_destroy", "cx_destroy_local", "cx_destroy_remote"].iter().any(|n| name.ends_with(n))
            })
            .map(|(name, value)| (short(name), value as i64))
            .collect();
        for (name, value) in self.host.stats().all() {
            numbers.insert(format!("host.{name}"), value as i64);
        }
        for priority in ResourcePriority::ALL {
            let prefix = if priority == self.priority { "" } else { "other." };
            let resources = cluster.resource_manager(priority);
            for (name, resource) in [
                ("connections", resources.connections()),
                ("pending_requests", resources.pending_requests()),
                ("requests", resources.requests()),
            ] {
                numbers.insert(format!("{prefix}{name}"), resource.count() as i64);
            }
        }
        numbers
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.borrow_mut().take() {
            pool.close();
        }
    }
}

/// Asks `pool` for a client for `request`.
pub fn ask(pool: &ConnPoolImpl, request: &Rc<Request>) -> Option<Rc<dyn Cancellable>> {
    let decoder: Weak<dyn StreamDecoder> = request.weak.clone();
    let callbacks: Weak<dyn Callbacks> = request.weak.clone();
    pool.new_stream(decoder, callbacks, Ids::default())
}

type Hook = RefCell<Option<Box<dyn Fn()>>>;

/// What stands for the router: one request, which writes down all that it is told.
pub struct Request {
    weak: Weak<Request>,
    name: String,
    log: Log,
    /// Whether it sends itself whole, or only its head.
    pub whole: Cell<bool>,
    pub encoder: RefCell<Option<Rc<dyn StreamEncoder>>>,
    /// Run before the request is sent, when it failed, and with the end of the response.
    pub on_ready: Hook,
    pub on_failure: Hook,
    pub on_response: Hook,
}

fn run(hook: &Hook) {
    if let Some(f) = hook.borrow().as_ref() {
        f();
    }
}

impl Request {
    fn tell(&self, what: &str) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }

    /// Gives up, as when the downstream has gone away.
    pub fn reset(&self) {
        let encoder = self.encoder.borrow().clone().unwrap();
        encoder.stream().reset_stream(StreamResetReason::LocalReset);
    }
}

impl Callbacks for Request {
    fn on_pool_ready(&self, encoder: Rc<dyn StreamEncoder>, _host: &Rc<WorkerHost>) {
        self.tell("ready");
        encoder.stream().add_callbacks(self.weak.clone());
        *self.encoder.borrow_mut() = Some(encoder.clone());
        run(&self.on_ready);
        let mut headers = HeaderMap::new();
        headers.set(HeaderId::Method, b"GET");
        headers.set(HeaderId::Path, format!("/{}", self.name).as_bytes());
        headers.set(HeaderId::Authority, b"host");
        encoder.encode_headers(&headers.shared(), self.whole.get());
    }

    fn on_pool_failure(&self, reason: PoolFailureReason, transport: &str, host: Option<&Rc<WorkerHost>>) {
        let refused = reason == PoolFailureReason::RemoteConnectionFailure;
        assert_eq!(transport, if refused { "delayed connect error: Connection refused" } else { "" });
        assert!(host.is_some() || reason == PoolFailureReason::Overflow);
        self.tell(&format!("failed {reason:?}"));
        run(&self.on_failure);
    }
}

impl StreamDecoder for Request {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        self.tell(&headers.borrow().status().to_string());
        if end_stream {
            run(&self.on_response);
        }
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        data.clear();
        if end_stream {
            self.tell("end");
            run(&self.on_response);
        }
    }

    fn decode_trailers(&self, _trailers: HeaderMapPtr) {
        self.tell("trailers");
        run(&self.on_response);
    }
}

impl StreamCallbacks for Request {
    fn on_reset_stream(&self, reason: StreamResetReason) {
        self.tell(&format!("reset {reason:?}"));
    }
    fn on_above_write_buffer_high_watermark(&self) {}
    fn on_below_write_buffer_low_watermark(&self) {}
}

/// The upstream's end of one connection.
pub struct Peer {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    pub fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    /// The path of the next request, once its head is there.
    fn next_path(&mut self) -> Option<String> {
        let mut piece = [0; 4096];
        match self.socket.read(&mut piece) {
            Ok(n) => self.received.extend_from_slice(&piece[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let text = String::from_utf8(self.received.clone()).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n")?;
        self.received = rest.as_bytes().to_vec();
        head.split(' ').nth(1).map(str::to_string)
    }

    /// Whether the pool has closed its end.
    pub fn is_closed(&mut self) -> bool {
        match self.socket.read(&mut [0; 4096]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}
