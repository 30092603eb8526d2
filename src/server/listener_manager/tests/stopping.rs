//! What is added when listeners have been told to stop.

use super::{Fixture, LONG, listener, waiting};
use crate::config;
use crate::config::listener::TrafficDirection;
use crate::server::drain_manager::DrainDirection;

fn inbound(config: config::Listener) -> config::Listener {
    config::Listener { traffic_direction: TrafficDirection::Inbound, ..config }
}

#[test]
fn none_is_added_or_changed_in_a_direction_that_was_stopped() {
    let f = Fixture::started(LONG);
    f.update(&inbound(listener("a", "one"))).unwrap();
    f.update(&listener("b", "one")).unwrap();
    f.settle(2);
    f.manager.stop_listeners(DrainDirection::InboundOnly);
    assert_eq!(f.update(&inbound(listener("a", "two"))), Ok(false));
    assert_eq!(f.update(&inbound(listener("c", "one"))), Ok(false));
    assert_eq!(f.update(&listener("b", "two")), Ok(true));
    f.manager.stop_listeners(DrainDirection::All);
    f.manager.stop_listeners(DrainDirection::InboundOnly);
    assert_eq!(f.update(&listener("b", "three")), Ok(false));
    assert_eq!(f.counts(), [2, 1, 0, 0, 2, 0, 1]);
}

#[test]
fn one_that_is_not_warm_yet_goes() {
    let f = Fixture::started(LONG);
    f.update(&listener("a", "one")).unwrap();
    f.settle(1);
    for config in [waiting("a", "two"), inbound(waiting("b", "one")), waiting("c", "one")] {
        f.update(&config).unwrap();
    }
    assert_eq!(f.counts(), [3, 1, 0, 0, 1, 3, 0]);
    f.manager.stop_listeners(DrainDirection::InboundOnly);
    assert_eq!(f.counts(), [3, 1, 0, 0, 1, 2, 0]);
    f.manager.stop_listeners(DrainDirection::All);
    assert_eq!(f.counts(), [3, 1, 0, 0, 1, 0, 0]);
}
