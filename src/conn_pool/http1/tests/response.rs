//! What becomes of a client whose response is complete.

use serde_json::json;

use super::fixture::*;
use crate::buffer::Buffer;

#[test]
fn after_the_response_the_client_is_ready() {
    let f = Fixture::new();
    let (_request, mut peer) = f.serving("a");
    peer.send(OK);
    f.await_told(&["a 200"]);
    assert_eq!(f.lists(), (1, 0, 0));
    f.counted(&[RELEASED]);
    assert!(!peer.is_closed());
}

#[test]
fn a_response_before_the_request_is_complete_closes_the_client() {
    let f = Fixture::new();
    let request = f.request("a");
    request.whole.set(false);
    f.ask(&request);
    let mut peer = f.serve("a");
    f.forget();
    peer.send(OK);
    f.await_told(&["a 200"]);
    f.settle();
    assert_eq!(f.lists(), (0, 0, 0));
    f.counted(&[RELEASED, DELETED, "cx_destroy_with_active_rq+1 cx_destroy_local_with_active_rq+1"]);
    assert!(peer.is_closed());
}

#[test]
fn a_request_completed_by_its_body_is_complete() {
    let f = Fixture::new();
    let request = f.request("a");
    request.whole.set(false);
    f.ask(&request);
    let mut peer = f.serve("a");
    request.encoder.borrow().as_ref().unwrap().encode_data(&mut Buffer::new(), true);
    f.forget();
    peer.send(OK);
    f.await_told(&["a 200"]);
    assert_eq!(f.lists(), (1, 0, 0));
}

#[test]
fn connection_close_closes_the_client() {
    for value in ["close", "Close"] {
        let f = Fixture::new();
        let (_request, mut peer) = f.serving("a");
        peer.send(&format!("HTTP/1.1 200 OK\r\nconnection: {value}\r\ncontent-length: 0\r\n\r\n"));
        f.await_told(&["a 200"]);
        assert_eq!(f.lists(), (0, 0, 0));
        f.settle();
        f.counted(&[RELEASED, DELETED, "cx_close_notify+1"]);
        assert!(peer.is_closed());
    }
}

#[test]
fn a_response_that_ends_with_the_connection_closes_the_client() {
    // The limit, reached as well, does not count: the upstream was first.
    let f = Fixture::with(json!({ "max_requests_per_connection": 1 }));
    let (_request, mut peer) = f.serving("a");
    peer.send("HTTP/1.1 200 OK\r\n\r\nbody");
    drop(peer);
    f.await_told(&["a 200", "a end"]);
    f.settle();
    assert_eq!(f.lists(), (0, 0, 0));
    f.counted(&[RELEASED, DELETED]);
}

#[test]
fn an_http_10_response_without_keep_alive_closes_the_client() {
    let f = Fixture::new();
    let (_request, mut peer) = f.serving("a");
    peer.send("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n");
    f.await_told(&["a 200"]);
    assert_eq!(f.lists(), (0, 0, 0));
    f.settle();
    f.counted(&[RELEASED, DELETED, "cx_close_notify+1"]);
    assert!(peer.is_closed());
}

#[test]
fn an_http_10_response_with_keep_alive_leaves_the_client_ready() {
    let f = Fixture::new();
    let (_request, mut peer) = f.serving("a");
    peer.send("HTTP/1.0 200 OK\r\nconnection: close, Keep-Alive\r\ncontent-length: 0\r\n\r\n");
    f.await_told(&["a 200"]);
    assert_eq!(f.lists(), (1, 0, 0));
    f.counted(&[RELEASED]);
}

#[test]
fn the_last_request_allowed_closes_the_client() {
    let f = Fixture::with(json!({ "max_requests_per_connection": 2 }));
    let (_request, mut peer) = f.serving("a");
    peer.send(OK);
    f.await_lists((1, 0, 0));
    f.counted(&[RELEASED]);
    let _second = f.start("b");
    f.await_request(&mut peer, "b");
    f.counted(&[ATTACHED]);
    peer.send(OK);
    f.await_lists((0, 0, 0));
    f.settle();
    f.counted(&[RELEASED, DELETED, "cx_max_requests+1"]);
    f.told(&["a 200", "b ready", "b 200"]);
    assert!(peer.is_closed());
}
