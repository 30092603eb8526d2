//! Connections that fail or end, and who takes their place.

use std::cell::{Cell, RefCell};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
use serde_json::{Value, json};
use std::os::fd::AsRawFd;

use super::fixture::*;
use crate::conn_pool::Instance;
use crate::upstream::ResourcePriority;

/// One connection at a time.
fn one_connection() -> Value {
    json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] } })
}

/// A fixture whose upstream refuses connections.
fn refusing() -> Fixture {
    let f = Fixture::new();
    drop(f.listener.take());
    f
}

#[test]
fn a_refused_connection_fails_what_waits() {
    let f = refusing();
    let _request = f.start("a");
    f.counted(&[CREATED, QUEUED]);
    f.await_told(&["a failed RemoteConnectionFailure"]);
    f.settle();
    assert_eq!(f.lists(), (0, 0, 0));
    f.counted(&[CONNECT_FAILED, UNQUEUED, DELETED, "rq_pending_failure_eject+1"]);
    f.nothing_is_left();
}

#[test]
fn a_connection_that_takes_too_long_fails_what_waits() {
    // A queue of one that is full: the kernel drops further SYNs.
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    listen(&fd, Backlog::new(0).unwrap()).unwrap();
    let listener = TcpListener::from(fd);
    let _queued = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let options = json!({ "connect_timeout": "0.05s" });
    let f = Fixture::towards(listener, ResourcePriority::Default, options);
    let _request = f.start("a");
    f.counted(&[CREATED, QUEUED]);
    f.await_told(&["a failed Timeout"]);
    f.settle();
    let counted = "rq_pending_failure_eject+1 cx_connect_timeout+1";
    f.counted(&[CONNECT_FAILED, UNQUEUED, DELETED, counted]);
    f.nothing_is_left();
}

#[test]
fn an_address_that_cannot_be_bound_fails_what_waits() {
    let bind = json!({ "source_address": { "address": "192.0.2.1", "port_value": 0 } });
    let f = Fixture::with(json!({ "upstream_bind_config": bind }));
    let _request = f.start("a");
    f.counted(&[CREATED, QUEUED]);
    f.told(&[]);
    f.await_told(&["a failed LocalConnectionFailure"]);
    f.settle();
    let counted = "rq_pending_failure_eject+1 bind_errors+1";
    f.counted(&[CONNECT_FAILED, UNQUEUED, DELETED, counted]);
    f.nothing_is_left();
}

#[test]
fn a_failed_connection_fails_all_that_wait_newest_first() {
    let f = Fixture::with(one_connection());
    drop(f.listener.take());
    let _requests = [f.start("a"), f.start("b"), f.start("c")];
    assert_eq!(f.lists(), (0, 1, 3));
    let failed = "failed RemoteConnectionFailure";
    f.await_told(&[&format!("c {failed}"), &format!("b {failed}"), &format!("a {failed}")]);
    f.settle();
    f.counted(&[
        QUEUED,
        QUEUED,
        QUEUED,
        UNQUEUED,
        UNQUEUED,
        UNQUEUED,
        CREATED,
        CONNECT_FAILED,
        DELETED,
        "cx_overflow+2 rq_pending_failure_eject+3",
    ]);
}

#[test]
fn what_asks_again_while_it_fails_is_not_failed_again() {
    let f = refusing();
    let request = f.request("a");
    let again = f.request("again");
    let (pool, next) = (Rc::downgrade(&f.pool()), again.clone());
    *request.on_failure.borrow_mut() = Some(Box::new(move || {
        let pool = pool.upgrade().unwrap();
        assert!(ask(&pool, &next).is_some());
        assert_eq!(pool.base.num_pending(), 1);
    }));
    // How many connections have failed when it fails: it has had one of its own.
    let failed = Rc::new(Cell::new(0));
    let (host, to) = (f.host.clone(), failed.clone());
    *again.on_failure.borrow_mut() = Some(Box::new(move || to.set(host.stats().cx_connect_fail().value())));
    f.ask(&request);
    f.await_told(&["a failed RemoteConnectionFailure", "again failed RemoteConnectionFailure"]);
    assert_eq!(failed.get(), 2);
    f.settle();
    f.counted(&[CREATED, QUEUED, CONNECT_FAILED, UNQUEUED, DELETED, "rq_pending_failure_eject+1"].repeat(2));
}

#[test]
fn a_request_cancelled_while_others_fail_is_not_failed() {
    let f = Fixture::with(one_connection());
    drop(f.listener.take());
    let first = f.request("a");
    let handle = RefCell::new(f.ask(&first));
    let second = f.start("b");
    *second.on_failure.borrow_mut() = Some(Box::new(move || handle.take().unwrap().cancel()));
    f.await_told(&["b failed RemoteConnectionFailure"]);
    f.settle();
    f.told(&[]);
    f.nothing_is_left();
}

#[test]
fn a_remote_close_resets_the_request() {
    let f = Fixture::new();
    let (_request, peer) = f.serving("a");
    drop(peer);
    f.await_lists((0, 0, 0));
    f.settle();
    f.told(&["a reset ConnectionTermination"]);
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_remote_with_active_rq+1";
    f.counted(&[RELEASED, DELETED, destroyed]);
    f.nothing_is_left();
}

#[test]
fn a_request_that_is_reset_closes_its_connection() {
    let f = Fixture::new();
    let (request, mut peer) = f.serving("a");
    request.reset();
    assert_eq!(f.lists(), (0, 0, 0));
    f.settle();
    f.told(&["a reset LocalReset"]);
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1";
    f.counted(&[RELEASED, DELETED, destroyed]);
    assert!(peer.is_closed());
}

#[test]
fn a_response_that_is_no_http_closes_the_connection() {
    let f = Fixture::new();
    let (_request, mut peer) = f.serving("a");
    peer.send("nonsense\r\n\r\n");
    f.await_lists((0, 0, 0));
    f.settle();
    f.told(&["a reset ProtocolError"]);
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1 cx_protocol_error+1";
    f.counted(&[RELEASED, DELETED, destroyed]);
}

#[test]
fn an_idle_client_that_the_upstream_closes_goes() {
    let f = Fixture::new();
    let [first, _second] = f.idle();
    drop(first);
    f.await_lists((1, 0, 0));
    f.settle();
    f.counted(&[DELETED]);
}

#[test]
fn an_idle_client_goes_after_the_idle_timeout() {
    let f = Fixture::with(json!({ "common_http_protocol_options": { "idle_timeout": "0.05s" } }));
    let (_request, mut peer) = f.serving("a");
    peer.send(OK);
    f.await_told(&["a 200"]);
    f.await_lists((0, 0, 0));
    f.settle();
    f.counted(&[RELEASED, DELETED, "cx_idle_timeout+1"]);
    assert!(peer.is_closed());
}

#[test]
fn an_unasked_response_closes_the_idle_client() {
    let closing_408 = "HTTP/1.1 408 Timeout\r\nconnection: close\r\n\r\n";
    for (response, counted) in [(OK, "cx_protocol_error+1"), (closing_408, "")] {
        let f = Fixture::new();
        let [mut peer] = f.idle();
        peer.send(response);
        f.await_lists((0, 0, 0));
        f.settle();
        f.counted(&[DELETED, counted]);
    }
}

#[test]
fn a_closed_client_is_replaced_when_more_wait_than_are_left() {
    let f = Fixture::with(one_connection());
    let (_first, peer) = f.serving("a");
    let _waiting = f.start("b");
    f.counted(&[QUEUED, "cx_overflow+1"]);
    drop(peer);
    let _fresh = f.serve("b");
    f.told(&["a reset ConnectionTermination", "b ready"]);
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_remote_with_active_rq+1";
    f.counted(&[RELEASED, DELETED, destroyed, CREATED, CONNECTED, UNQUEUED, ATTACHED]);
    assert_eq!(f.lists(), (0, 1, 0));
}

#[test]
fn a_closed_client_is_not_replaced_while_enough_are_left() {
    let f = Fixture::new();
    let (first, _peer) = f.serving("a");
    let _waiting = f.start("b");
    f.counted(&[CREATED, QUEUED]);
    first.reset();
    assert_eq!(f.lists(), (0, 1, 1));
    let _second = f.serve("b");
    f.settle();
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1";
    f.counted(&[RELEASED, DELETED, destroyed, CONNECTED, UNQUEUED, ATTACHED]);
}

#[test]
fn a_closed_connection_is_counted_by_the_side_that_closed_it() {
    let f = Fixture::new();
    let (request, _peer) = f.serving("a");
    request.reset();
    assert_eq!(f.destroyed(), (1, 1, 0));
    let [peer] = f.idle();
    drop(peer);
    f.await_lists((0, 0, 0));
    assert_eq!(f.destroyed(), (2, 1, 1));

    let f = refusing();
    let _request = f.start("a");
    f.await_lists((0, 0, 0));
    assert_eq!(f.destroyed(), (1, 0, 1));
}

#[test]
fn a_client_counts_until_its_deferred_deletion() {
    let f = Fixture::new();
    let (request, _peer) = f.serving("a");
    request.reset();
    assert_eq!(f.lists(), (0, 0, 0));
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1";
    f.counted(&[destroyed]);
    f.dispatcher.clear_deferred_delete_list();
    f.counted(&[RELEASED, DELETED]);
}

#[test]
fn closing_the_pool_closes_everything_at_once() {
    let f = Fixture::with(one_connection());
    let [mut peer] = f.idle();
    let _serving = f.start("a");
    f.await_request(&mut peer, "a");
    let _waiting = f.start("b");
    f.forget();
    f.pool().close();
    assert_eq!(f.lists(), (0, 0, 0));
    f.nothing_is_left();
    assert!(peer.is_closed());
    f.told(&["a reset ConnectionTermination", "b failed LocalConnectionFailure"]);
}

#[test]
fn closing_the_pool_closes_what_is_idle_and_what_connects() {
    let f = Fixture::new();
    let [mut idle, mut other] = f.idle();
    let _serving = f.start("a");
    f.await_request(&mut other, "a");
    let _second = f.start("b");
    f.await_request(&mut idle, "b");
    idle.send(OK);
    f.await_lists((1, 1, 0));
    f.forget();
    f.pool().close();
    assert_eq!(f.lists(), (0, 0, 0));
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1";
    f.counted(&[RELEASED, DELETED, DELETED, destroyed]);
    assert!(idle.is_closed() && other.is_closed());
}

#[test]
fn a_pool_that_is_dropped_lets_go_of_everything() {
    let f = Fixture::with(one_connection());
    let (_serving, mut peer) = f.serving("a");
    let waiting = f.request("b");
    let handle = f.ask(&waiting);
    drop(f.pool.take());
    assert!(peer.is_closed());
    drop(handle);
    f.settle();
    f.nothing_is_left();
}

#[test]
fn a_request_may_give_up_as_soon_as_it_gets_a_client() {
    let f = Fixture::with(one_connection());
    let give_up = |request: &Rc<Request>| {
        let this = Rc::downgrade(request);
        *request.on_ready.borrow_mut() = Some(Box::new(move || this.upgrade().unwrap().reset()));
    };
    let (_first, mut peer) = f.serving("a");
    let second = f.request("b");
    give_up(&second);
    f.ask(&second);
    peer.send(OK);
    // It counts as waiting until it is served, so the connection it closes is replaced.
    f.await_lists((1, 0, 0));
    f.settle();
    let destroyed = "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1";
    let replaced = &[CREATED, CONNECTED, DELETED, destroyed];
    f.counted(&[&[RELEASED, QUEUED, UNQUEUED, ATTACHED, RELEASED, "cx_overflow+1"], &replaced[..]].concat());
    f.told(&["a 200", "b ready", "b reset LocalReset"]);
    let third = f.request("c");
    give_up(&third);
    f.ask(&third);
    assert_eq!(f.lists(), (0, 0, 0));
    f.settle();
    f.counted(&[ATTACHED, RELEASED, DELETED, destroyed, "circuit_breakers.default.cx_open-1"]);
}

#[test]
fn a_client_given_up_at_once_is_not_replaced_while_enough_are_left() {
    let f = Fixture::with(json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 2 }] } }));
    let (_busy, _its_peer) = f.serving("a");
    let (_first, mut peer) = f.serving("b");
    let request = f.request("c");
    let this = Rc::downgrade(&request);
    *request.on_ready.borrow_mut() = Some(Box::new(move || this.upgrade().unwrap().reset()));
    f.ask(&request);
    peer.send(OK);
    f.await_told(&["b 200", "c ready", "c reset LocalReset"]);
    f.settle();
    assert_eq!(f.lists(), (0, 1, 0));
    assert!(peer.is_closed());
}
