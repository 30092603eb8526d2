//! Getting a client: new ones, idle ones, the queue.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::super::pool::Clients::{Busy, Ready};
use super::fixture::*;
use crate::conn_pool::{HttpInstance, Instance};
use crate::http::Protocol;
use crate::upstream::ResourcePriority;

#[test]
fn with_nothing_ready_a_connection_is_made_and_the_request_waits() {
    let f = Fixture::new();
    assert_eq!((f.pool().protocol(), f.lists()), (Protocol::Http11, (0, 0, 0)));
    assert!(!f.pool().has_active_connections());
    let request = f.request("a");
    assert!(f.ask(&request).is_some());
    assert_eq!(f.lists(), (0, 1, 1));
    assert!(f.pool().has_active_connections());
    f.counted(&[CREATED, QUEUED]);
    f.told(&[]);
}

#[test]
fn a_pool_of_high_priority_counts_into_its_own_breakers() {
    let f = Fixture::with_priority(ResourcePriority::High, json!({}));
    let _request = f.start("a");
    f.counted(&[CREATED, QUEUED]);
    let mut peer = f.serve("a");
    f.counted(&[CONNECTED, UNQUEUED, ATTACHED]);
    peer.send(OK);
    drop(peer);
    f.await_lists((0, 0, 0));
    f.settle();
    f.counted(&[RELEASED, DELETED]);
    f.nothing_is_left();
}

#[test]
fn a_connected_client_serves_the_request_that_waits() {
    let f = Fixture::new();
    let _request = f.start("a");
    f.counted(&[CREATED, QUEUED]);
    let _peer = f.serve("a");
    f.told(&["a ready"]);
    assert_eq!(f.lists(), (0, 1, 0));
    f.counted(&[CONNECTED, UNQUEUED, ATTACHED]);
}

#[test]
fn every_request_that_finds_nothing_ready_makes_a_connection() {
    let f = Fixture::new();
    let _requests = [f.start("a"), f.start("b"), f.start("c")];
    assert_eq!(f.lists(), (0, 3, 3));
    f.counted(&[CREATED, QUEUED, CREATED, QUEUED, CREATED, QUEUED]);
    f.await_lists((0, 3, 0));
    f.counted(&[CONNECTED, UNQUEUED, ATTACHED].repeat(3));
}

#[test]
fn requests_are_served_oldest_first() {
    let f = Fixture::new();
    let _requests = [f.start("a"), f.start("b"), f.start("c")];
    f.await_told(&["a ready", "b ready", "c ready"]);
}

#[test]
fn a_cancelled_request_leaves_its_connection_to_become_ready() {
    let f = Fixture::new();
    let request = f.request("a");
    let handle = f.ask(&request).unwrap();
    f.counted(&[CREATED, QUEUED]);
    handle.cancel();
    assert_eq!(f.lists(), (0, 1, 0));
    f.counted(&[UNQUEUED, "rq_cancelled+1"]);
    handle.cancel();
    f.counted(&[]);
    f.await_lists((1, 0, 0));
    f.counted(&[CONNECTED]);
    f.told(&[]);
    assert!(!f.pool().has_active_connections());
}

#[test]
fn cancelling_takes_the_right_request_out_of_the_middle() {
    let f = Fixture::new();
    let _first = f.start("a");
    let second = f.request("b");
    let handle = f.ask(&second).unwrap();
    let _third = f.start("c");
    handle.cancel();
    f.await_told(&["a ready", "c ready"]);
    f.await_lists((1, 2, 0));
    drop(handle);
    f.counted(
        &[&[CREATED, QUEUED, CONNECTED, UNQUEUED].repeat(3)[..], &[ATTACHED, ATTACHED, "rq_cancelled+1"]]
            .concat(),
    );
}

#[test]
fn a_ready_client_is_used_at_once() {
    let f = Fixture::new();
    let [mut peer] = f.idle();
    assert_eq!(f.lists(), (1, 0, 0));
    let request = f.request("a");
    assert!(f.ask(&request).is_none());
    f.told(&["a ready"]);
    assert_eq!(f.lists(), (0, 1, 0));
    f.counted(&[ATTACHED]);
    f.await_request(&mut peer, "a");
}

#[test]
fn the_client_used_last_is_used_next() {
    let f = Fixture::new();
    let [mut first, mut second, mut third] = f.idle();
    let _requests = [f.start("a"), f.start("b"), f.start("c")];
    f.await_request(&mut third, "a");
    f.await_request(&mut second, "b");
    f.await_request(&mut first, "c");
    f.counted(&[ATTACHED, ATTACHED, ATTACHED]);
}

#[test]
fn a_client_that_has_answered_serves_what_waits() {
    let f = Fixture::with(json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] } }));
    let (_first, mut peer) = f.serving("a");
    let _waiting = [f.start("b"), f.start("c")];
    f.counted(&[QUEUED, QUEUED, "cx_overflow+2"]);
    peer.send(OK);
    f.await_request(&mut peer, "b");
    f.told(&["a 200", "b ready"]);
    assert_eq!(f.lists(), (0, 1, 1));
    // "c" still has to wait.
    f.counted(&[RELEASED, UNQUEUED, ATTACHED, "cx_overflow+1"]);
    peer.send(OK);
    f.await_request(&mut peer, "c");
    peer.send(OK);
    f.await_told(&["b 200", "c ready", "c 200"]);
    assert_eq!(f.lists(), (1, 0, 0));
}

#[test]
fn between_two_requests_of_a_client_the_loop_polls() {
    let f = Fixture::with(json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] } }));
    let (first, mut peer) = f.serving("a");
    let _waiting = f.start("b");
    // The second of two timers of 0 ms runs in the pass in which the response came, behind all else.
    let seen = Rc::new(Cell::new((0, 0)));
    let (pool, to) = (Rc::downgrade(&f.pool()), seen.clone());
    let probe = f.dispatcher.create_timer(move || {
        let pool = pool.upgrade().unwrap();
        to.set((pool.clients.len(Ready), pool.clients.len(Busy)));
    });
    let relay = f.dispatcher.create_timer(move || probe.enable_timer(Duration::ZERO));
    *first.on_response.borrow_mut() = Some(Box::new(move || relay.enable_timer(Duration::ZERO)));
    peer.send(OK);
    f.await_request(&mut peer, "b");
    assert_eq!(seen.get(), (1, 0));
}

#[test]
fn a_client_whose_fin_is_in_the_kernel_is_not_given_to_what_waits() {
    let f = Fixture::with(json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] } }));
    let (first, mut peer) = f.serving("a");
    let _waiting = f.start("b");
    f.counted(&[QUEUED, "cx_overflow+1"]);
    peer.send(OK);
    // The connection is closed while its response is read: the read does not see it any more.
    let peer = Cell::new(Some(peer));
    *first.on_response.borrow_mut() = Some(Box::new(move || drop(peer.take())));
    let _fresh = f.serve("b");
    f.told(&["a 200", "b ready"]);
    f.settle();
    assert_eq!(f.lists(), (0, 1, 0));
    f.counted(&[RELEASED, DELETED, CREATED, CONNECTED, UNQUEUED, ATTACHED]);
}

#[test]
fn a_client_whose_fin_came_with_the_response_is_not_given_to_what_waits() {
    let f = Fixture::with(json!({ "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] } }));
    let (_first, mut peer) = f.serving("a");
    let _waiting = f.start("b");
    peer.send(OK);
    drop(peer);
    let _fresh = f.serve("b");
    f.told(&["a 200", "b ready"]);
    f.settle();
    f.counted(&[RELEASED, DELETED, CREATED, QUEUED, CONNECTED, UNQUEUED, ATTACHED, "cx_overflow+1"]);
}
