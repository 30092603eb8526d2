//! The pool with an upstream at its end: who gets which connection, and what is left.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Callbacks, ConnPoolImpl, ConnectionData, TcpInstance, UpstreamCallbacks};
use crate::buffer::Buffer;
use crate::config::core::Locality;
use crate::config::endpoint::HealthStatus;
use crate::config::{UnknownFields, parse_bootstrap};
use crate::conn_pool::base::Pool;
use crate::conn_pool::{Cancellable, Instance, PoolFailureReason};
use crate::event::{Dispatcher, RunType};
use crate::network::{Address, ConnectionEvent};
use crate::stats::{Scope, Store};
use crate::trace::Ids;
use crate::upstream::test_support::OfThisFloor;
use crate::upstream::{ClusterInfoImpl, HostImpl, ResourcePriority, WorkerHost};

struct Fixture {
    dispatcher: Rc<Dispatcher>,
    host: Rc<WorkerHost>,
    pool: Rc<ConnPoolImpl>,
    listener: RefCell<Option<TcpListener>>,
    scope: Scope,
}

impl Fixture {
    /// `limits` are those of the cluster.
    fn new(limits: Value) -> Fixture {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let cluster = json!({"name": "a", "circuit_breakers": {"thresholds": [limits]}});
        let raw = json!({ "static_resources": { "clusters": [cluster] } });
        let bootstrap = parse_bootstrap(raw, UnknownFields::default(), &OfThisFloor).unwrap();
        let scope = Store::new(1).root_scope();
        let info = ClusterInfoImpl::new(&bootstrap.static_resources.clusters[0], &scope, false).unwrap();
        let address = Address::Ip(listener.local_addr().unwrap());
        let host = HostImpl::new(info, "", address, Locality::default(), 0, 1, HealthStatus::Unknown);
        let host = WorkerHost::new(host);
        let dispatcher = Dispatcher::new("test");
        let pool = ConnPoolImpl::new(&dispatcher, host.clone(), ResourcePriority::Default);
        Fixture { dispatcher, host, pool, listener: RefCell::new(Some(listener)), scope }
    }

    fn ask(&self, user: &Rc<User>) -> Option<Rc<dyn Cancellable>> {
        let callbacks: Weak<dyn Callbacks> = Rc::downgrade(user) as _;
        self.pool.new_connection(callbacks, Ids::default())
    }

    #[track_caller]
    fn run_until(&self, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "it does not come");
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    #[track_caller]
    fn accept(&self) -> TcpStream {
        let mut peer = None;
        self.run_until(|| {
            peer = self.listener.borrow().as_ref().unwrap().accept().ok();
            peer.is_some()
        });
        let peer = peer.unwrap().0;
        peer.set_nonblocking(true).unwrap();
        peer
    }

    #[track_caller]
    fn await_end(&self, peer: &mut TcpStream) {
        self.run_until(|| match peer.read(&mut [0; 100]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        });
    }

    /// The lengths of the lists: ready, busy, pending.
    fn lists(&self) -> (usize, usize, usize) {
        (self.pool.num_ready(), self.pool.num_busy(), self.pool.base().num_pending())
    }

    fn counter(&self, name: &str) -> u64 {
        let name = format!("cluster.a.upstream_{name}");
        self.scope.store().counters().iter().find(|c| c.name() == name).map_or(0, |c| c.value())
    }

    /// All gauges and circuit breakers that tell of what goes on are at zero.
    #[track_caller]
    fn nothing_is_left(&self) {
        self.dispatcher.clear_deferred_delete_list();
        for gauge in self.scope.store().gauges() {
            let name = gauge.name();
            assert!(!(name.ends_with("_active") && gauge.value() != 0), "{name} is {}", gauge.value());
        }
        let resources = self.host.cluster().resource_manager(ResourcePriority::Default);
        let counts = [resources.connections(), resources.pending_requests(), resources.requests()];
        assert_eq!(counts.map(|resource| resource.count()), [0; 3]);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// Who asks for a connection, and what they are told.
#[derive(Default)]
struct User {
    weak: Weak<User>,
    connection: RefCell<Option<ConnectionData>>,
    failure: Cell<Option<PoolFailureReason>>,
    received: RefCell<Vec<u8>>,
    event: Cell<Option<ConnectionEvent>>,
}

impl User {
    fn new() -> Rc<User> {
        Rc::new_cyclic(|weak| User { weak: weak.clone(), ..User::default() })
    }

    fn has_connection(&self) -> bool {
        self.connection.borrow().is_some()
    }

    fn leave(&self) {
        drop(self.connection.take());
    }
}

impl Callbacks for User {
    fn on_pool_ready(&self, connection: ConnectionData, _host: &Rc<WorkerHost>) {
        connection.add_upstream_callbacks(self.weak.clone());
        *self.connection.borrow_mut() = Some(connection);
    }

    fn on_pool_failure(&self, reason: PoolFailureReason, _transport: &str, _host: Option<&Rc<WorkerHost>>) {
        self.failure.set(Some(reason));
    }
}

impl UpstreamCallbacks for User {
    fn on_upstream_data(&self, data: &mut Buffer, _end_stream: bool) {
        self.received.borrow_mut().extend(data.to_vec());
        data.clear();
    }

    fn on_event(&self, event: ConnectionEvent) {
        self.event.set(Some(event));
    }

    fn on_above_write_buffer_high_watermark(&self) {}
    fn on_below_write_buffer_low_watermark(&self) {}
}

#[test]
fn a_connection_ends_with_its_user() {
    let f = Fixture::new(json!({}));
    let user = User::new();
    let _waiting = f.ask(&user);
    assert_eq!(f.lists(), (0, 1, 1));
    let mut peer = f.accept();
    f.run_until(|| user.has_connection());
    peer.write_all(b"hello").unwrap();
    f.run_until(|| *user.received.borrow() == b"hello");
    assert_eq!(f.lists(), (0, 1, 0));
    user.leave();
    f.await_end(&mut peer);
    assert_eq!((f.lists(), f.counter("cx_destroy_local_with_active_rq")), ((0, 0, 0), 1));
    f.nothing_is_left();
}

#[test]
fn the_user_is_told_of_the_end() {
    let f = Fixture::new(json!({}));
    let user = User::new();
    let _waiting = f.ask(&user);
    let peer = f.accept();
    f.run_until(|| user.has_connection());
    drop(peer);
    f.run_until(|| user.event.get() == Some(ConnectionEvent::RemoteClose));
    assert_eq!((f.lists(), f.counter("cx_destroy_remote_with_active_rq")), ((0, 0, 0), 1));
    f.nothing_is_left();
}

#[test]
fn who_leaves_before_leaves_the_connection_to_the_next() {
    let f = Fixture::new(json!({}));
    let (first, second) = (User::new(), User::new());
    f.ask(&first).expect("a handle").cancel();
    let mut peer = f.accept();
    f.run_until(|| f.lists() == (1, 0, 0));
    assert!(f.ask(&second).is_none() && second.has_connection() && !first.has_connection());
    assert_eq!((f.lists(), f.counter("cx_total"), f.counter("rq_cancelled")), ((0, 1, 0), 1, 1));
    peer.write_all(b"x").unwrap();
    f.run_until(|| *second.received.borrow() == b"x");
}

#[test]
fn what_comes_for_nobody_ends_the_connection() {
    let f = Fixture::new(json!({}));
    f.ask(&User::new()).expect("a handle").cancel();
    let mut peer = f.accept();
    f.run_until(|| f.lists() == (1, 0, 0));
    peer.write_all(b"x").unwrap();
    f.await_end(&mut peer);
    assert_eq!(f.lists(), (0, 0, 0));
    f.nothing_is_left();
}

#[test]
fn limits() {
    let f = Fixture::new(json!({"max_connections": 1, "max_pending_requests": 1}));
    let users = [User::new(), User::new(), User::new()];
    let _first = f.ask(&users[0]);
    let mut peer = f.accept();
    f.run_until(|| users[0].has_connection());
    let _second = f.ask(&users[1]);
    assert!(f.ask(&users[2]).is_none());
    assert_eq!(users[2].failure.get(), Some(PoolFailureReason::Overflow));
    assert_eq!((f.lists(), f.counter("rq_pending_overflow"), f.counter("cx_overflow")), ((0, 1, 1), 1, 1));
    users[0].leave();
    f.await_end(&mut peer);
    let _other = f.accept();
    f.run_until(|| users[1].has_connection());
    users[1].leave();
    f.nothing_is_left();
}

#[test]
fn nobody_is_there() {
    let f = Fixture::new(json!({}));
    drop(f.listener.take());
    let user = User::new();
    let _waiting = f.ask(&user);
    f.run_until(|| user.failure.get() == Some(PoolFailureReason::RemoteConnectionFailure));
    assert_eq!((f.lists(), f.counter("cx_connect_fail")), ((0, 0, 0), 1));
    f.nothing_is_left();
}

#[test]
fn drained_when_the_last_user_is_gone() {
    let f = Fixture::new(json!({}));
    let user = User::new();
    let _waiting = f.ask(&user);
    let _peer = f.accept();
    f.run_until(|| user.has_connection());
    let drained = Rc::new(Cell::new(false));
    let is_drained = drained.clone();
    f.pool.add_drained_callback(Rc::new(move || is_drained.set(true)));
    f.pool.drain_connections();
    assert!(!drained.get() && user.has_connection());
    user.leave();
    f.run_until(|| drained.get());
}

#[test]
fn a_connection_for_nobody_is_closed_and_who_waits_for_another_waits_on() {
    let f = Fixture::new(json!({}));
    let (first, second) = (User::new(), User::new());
    let leaves = f.ask(&first).expect("a handle");
    let _waits = f.ask(&second).expect("a handle");
    assert_eq!(f.lists(), (0, 2, 2));
    leaves.cancel_and_close_excess();
    assert_eq!((f.lists(), first.failure.get(), second.failure.get()), ((0, 1, 1), None, None));
    f.run_until(|| second.has_connection());
    second.leave();
    f.nothing_is_left();
}

#[test]
fn what_a_user_leaves_behind_is_written() {
    let f = Fixture::new(json!({}));
    let user = User::new();
    let _waiting = f.ask(&user);
    let mut peer = f.accept();
    f.run_until(|| user.has_connection());
    let length = 16 << 20;
    let mut data = Buffer::new();
    data.add(&vec![b'x'; length]);
    user.connection.borrow().as_ref().expect("a connection").connection().write(&mut data, false);
    user.leave();
    assert_eq!((f.lists(), f.counter("cx_destroy")), ((0, 1, 0), 0), "it is being flushed");
    let (mut received, mut buffer) = (0, vec![0; 1 << 16]);
    f.run_until(|| match peer.read(&mut buffer) {
        Ok(0) => true,
        Ok(n) => {
            received += n;
            false
        }
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    });
    assert_eq!(received, length);
    assert_eq!((f.lists(), f.counter("cx_destroy_local_with_active_rq")), ((0, 0, 0), 1));
    f.nothing_is_left();
}
