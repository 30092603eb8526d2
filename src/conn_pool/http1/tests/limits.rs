//! Circuit breakers.

use serde_json::{Value, json};

use super::fixture::*;
use crate::upstream::ResourcePriority;

fn with_limits(priority: ResourcePriority, mut limits: Value) -> Fixture {
    limits["priority"] = priority.name().to_uppercase().into();
    Fixture::with_priority(priority, json!({ "circuit_breakers": { "thresholds": [limits] } }))
}

#[test]
fn too_many_waiting_requests_overflow() {
    for priority in ResourcePriority::ALL {
        let f = with_limits(priority, json!({ "max_pending_requests": 1 }));
        let _first = f.start("a");
        let open = format!("circuit_breakers.{}.rq_pending_open", priority.name());
        f.counted(&[CREATED, QUEUED, &format!("{open}+1")]);
        let second = f.request("b");
        assert!(f.ask(&second).is_none());
        f.told(&["b failed Overflow"]);
        assert_eq!(f.lists(), (0, 1, 1));
        f.counted(&["rq_pending_overflow+1"]);
        let _peer = f.serve("a");
        f.counted(&[CONNECTED, UNQUEUED, ATTACHED, &format!("{open}-1")]);
    }
}

#[test]
fn where_nothing_may_wait_everything_overflows() {
    let f = with_limits(ResourcePriority::Default, json!({ "max_pending_requests": 0 }));
    let _refused = f.start("a");
    f.told(&["a failed Overflow"]);
    f.counted(&["rq_pending_overflow+1"]);
    assert_eq!(f.lists(), (0, 0, 0));
}

#[test]
fn beyond_the_limit_of_connections_requests_wait() {
    for priority in ResourcePriority::ALL {
        let f = with_limits(priority, json!({ "max_connections": 1 }));
        let open = format!("circuit_breakers.{}.cx_open", priority.name());
        let _first = f.start("a");
        f.counted(&[CREATED, QUEUED, &format!("{open}+1")]);
        let second = f.request("b");
        assert!(f.ask(&second).is_some());
        assert_eq!(f.lists(), (0, 1, 2));
        f.counted(&[QUEUED, "cx_overflow+1"]);
        let mut peer = f.serve("a");
        drop(f.listener.take());
        peer.send(OK);
        f.await_request(&mut peer, "b");
        drop(peer);
        f.await_lists((0, 0, 0));
        f.settle();
        f.nothing_is_left();
    }
}

#[test]
fn a_pool_without_a_connection_gets_one_beyond_the_limit() {
    for priority in ResourcePriority::ALL {
        let f = with_limits(priority, json!({ "max_connections": 1 }));
        // Another pool of the cluster has used up the limit.
        let connections = f.host.cluster().resource_manager(priority).connections();
        connections.inc();
        f.forget();
        let _first = f.start("a");
        assert_eq!(f.lists(), (0, 1, 1));
        f.counted(&[CREATED, QUEUED, "cx_overflow+1"]);
        let _second = f.start("b");
        assert_eq!(f.lists(), (0, 1, 2));
        f.counted(&[QUEUED, "cx_overflow+1"]);
        f.host.cluster().resource_manager(priority).connections().dec();
    }
}

#[test]
fn beyond_the_limit_of_requests_what_asks_an_idle_client_overflows() {
    for priority in ResourcePriority::ALL {
        let f = with_limits(priority, json!({ "max_requests": 1 }));
        let open = format!("circuit_breakers.{}.rq_open", priority.name());
        let [_idle] = f.idle();
        // Another pool of the cluster has used up the limit.
        let requests = || f.host.cluster().resource_manager(priority).requests();
        requests().inc();
        f.counted(&["requests+1", &format!("{open}+1")]);
        let refused = f.request("a");
        assert!(f.ask(&refused).is_none());
        f.told(&["a failed Overflow"]);
        f.counted(&["rq_active_overflow+1"]);
        assert_eq!(f.lists(), (1, 0, 0));
        requests().dec();
        let _served = f.start("b");
        f.told(&["b ready"]);
        assert_eq!(f.lists(), (0, 1, 0));
    }
}

#[test]
fn beyond_the_limit_of_requests_what_waits_overflows_when_its_client_is_there() {
    let f = with_limits(ResourcePriority::Default, json!({ "max_requests": 0 }));
    let _requests = [f.start("a"), f.start("b")];
    assert_eq!(f.lists(), (0, 2, 2));
    f.forget();
    f.await_told(&["a failed Overflow", "b failed Overflow"]);
    f.await_lists((2, 0, 0));
    f.settle();
    f.counted(&[UNQUEUED, UNQUEUED, CONNECTED, CONNECTED, "rq_active_overflow+2"]);
}

#[test]
fn the_limits_of_one_priority_are_not_those_of_the_other() {
    let options = json!({ "circuit_breakers": { "thresholds": [
        { "priority": "DEFAULT", "max_connections": 0, "max_pending_requests": 0 },
    ] } });
    let f = Fixture::with_priority(ResourcePriority::High, options);
    let _requests = [f.start("a"), f.start("b")];
    assert_eq!(f.lists(), (0, 2, 2));
    f.counted(&[CREATED, QUEUED, CREATED, QUEUED]);
}
