//! Draining connections, and pools that are to go.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::json;

use super::fixture::*;
use crate::conn_pool::Instance;

/// Adds a drained callback that counts its calls.
fn count_drained(f: &Fixture) -> Rc<Cell<usize>> {
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    f.pool().add_drained_callback(Rc::new(move || count.set(count.get() + 1)));
    calls
}

#[test]
fn draining_connections_closes_idle_ones_now_and_others_after_their_request() {
    let f = Fixture::new();
    let [mut idle, mut busy] = f.idle();
    let _request = f.start("a");
    f.await_request(&mut busy, "a");
    f.forget();
    f.pool().drain_connections();
    assert_eq!(f.lists(), (0, 1, 0));
    f.settle();
    f.counted(&[DELETED]);
    assert!(idle.is_closed() && !busy.is_closed());
    busy.send(OK);
    f.await_told(&["a 200"]);
    f.settle();
    f.counted(&[RELEASED, DELETED, "cx_max_requests+1"]);
    assert!(busy.is_closed());
    let _next = f.serving("b");
    assert_eq!(f.lists(), (0, 1, 0));
}

#[test]
fn draining_connections_leaves_one_request_to_a_connecting_client() {
    let f = Fixture::new();
    let _request = f.start("a");
    f.pool().drain_connections();
    assert_eq!(f.lists(), (0, 1, 1));
    let mut peer = f.serve("a");
    f.forget();
    peer.send(OK);
    f.await_lists((0, 0, 0));
    f.settle();
    f.counted(&[RELEASED, DELETED, "cx_max_requests+1"]);
}

#[test]
fn a_pool_without_requests_is_drained_at_once() {
    let f = Fixture::new();
    let [mut peer] = f.idle();
    let calls = count_drained(&f);
    assert_eq!((calls.get(), f.lists()), (1, (0, 0, 0)));
    f.settle();
    f.counted(&[DELETED]);
    assert!(peer.is_closed());
}

#[test]
fn a_pool_is_drained_when_its_last_response_is_complete() {
    let f = Fixture::new();
    let [_idle, mut busy] = f.idle();
    let _request = f.start("a");
    f.await_request(&mut busy, "a");
    let calls = count_drained(&f);
    f.forget();
    assert_eq!((calls.get(), f.lists()), (0, (1, 1, 0)));
    busy.send(OK);
    f.await_told(&["a 200"]);
    assert_eq!((calls.get(), f.lists()), (1, (0, 0, 0)));
    f.settle();
    f.counted(&[RELEASED, DELETED, DELETED]);
}

#[test]
fn a_pool_is_drained_when_its_last_request_dies() {
    let f = Fixture::new();
    let (request, _peer) = f.serving("a");
    let calls = count_drained(&f);
    assert_eq!(calls.get(), 0);
    request.reset();
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_pool_is_drained_when_its_last_connection_attempt_fails() {
    let f = Fixture::new();
    drop(f.listener.take());
    let _request = f.start("a");
    let calls = count_drained(&f);
    assert_eq!(calls.get(), 0);
    f.await_told(&["a failed RemoteConnectionFailure"]);
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_pool_whose_last_request_is_cancelled_drains_once_the_client_has_connected() {
    let f = Fixture::new();
    let request = f.request("a");
    let handle = f.ask(&request).unwrap();
    let calls = count_drained(&f);
    handle.cancel();
    assert_eq!((calls.get(), f.lists()), (0, (0, 1, 0)));
    f.run_until("the drain", || calls.get() > 0);
    assert_eq!((calls.get(), f.lists()), (1, (0, 0, 0)));
}

#[test]
fn a_cancelled_request_may_be_the_last() {
    let f = Fixture::with(json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] } }));
    let (first, _peer) = f.serving("a");
    let waiting = f.request("b");
    let handle = f.ask(&waiting).unwrap();
    let calls = count_drained(&f);
    drop(f.listener.take());
    first.reset();
    assert_eq!((calls.get(), f.lists()), (0, (0, 1, 1)));
    handle.cancel();
    assert_eq!(calls.get(), 0);
    f.run_until("the drain", || calls.get() > 0);
    assert_eq!(f.lists(), (0, 0, 0));
}

#[test]
fn a_draining_pool_goes_on_serving_and_calls_back_every_time() {
    let f = Fixture::new();
    let calls = count_drained(&f);
    let other = count_drained(&f);
    let before = (calls.get(), other.get());
    let (_request, mut peer) = f.serving("a");
    peer.send(OK);
    f.await_told(&["a 200"]);
    assert_eq!((calls.get(), other.get()), (before.0 + 1, before.1 + 1));
    assert_eq!(f.lists(), (0, 0, 0));
}

#[test]
fn a_pool_is_active_while_a_request_waits_or_is_served() {
    let f = Fixture::new();
    assert!(!f.pool().has_active_connections());
    let request = f.request("a");
    let handle = f.ask(&request).unwrap();
    assert!(f.pool().has_active_connections());
    let mut peer = f.serve("a");
    drop(handle);
    assert!(f.pool().has_active_connections());
    peer.send(OK);
    f.await_lists((1, 0, 0));
    assert!(!f.pool().has_active_connections());
}
