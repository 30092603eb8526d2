//! How many connections a listener has at most.

use std::io::Read;
use std::net::TcpStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Fixture, LONG, ask, connect, listener};
use crate::config::extension::TypedConfig;
use crate::config::runtime::{LayerSpecifier, LayeredRuntime, RuntimeLayer};
use crate::config::{self, ConfigError};
use crate::filters::FactoryContext;
use crate::filters::listener::ListenerFilterConfig;
use crate::network::{
    FilterStatus, ListenerFilter, ListenerFilterCallbacks, ListenerFilterFactory, ListenerFilterFactoryCb,
};
use crate::runtime::LoaderImpl;

/// Has the active listener "a" take one connection at most.
fn limit_to_one(f: &Fixture) {
    let values = json!({ "envoy.resource_limits.listener.a.connection_limit": 1 });
    let values = values.as_object().unwrap().clone();
    let layer = RuntimeLayer { name: "static".into(), specifier: LayerSpecifier::Static(values) };
    let loader = LoaderImpl::new(LayeredRuntime { layers: vec![layer] }, "", &f.store);
    loader.add_user(&f.manager.active_listener("a").unwrap());
}

/// Whether it is closed before anything was said.
fn is_refused(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    !stream.read(&mut [0]).is_ok_and(|length| length > 0)
}

#[test]
fn those_of_a_listener_that_it_replaced_do_not_count() {
    let f = Fixture::started(LONG);
    f.update(&listener("a", "one")).unwrap();
    f.settle(1);
    let mut old = connect(f.port("a"));
    ask(&mut old).unwrap();
    f.update(&listener("a", "two")).unwrap();
    f.settle(2);
    f.run_until("the end of the old one's listening", || {
        f.manager.draining_listeners.borrow()[0].listener.socket().is_none()
    });
    limit_to_one(&f);
    let mut new = connect(f.port("a"));
    assert_eq!(ask(&mut new), Some(("two".into(), false)));
    assert!(is_refused(connect(f.port("a"))));
    assert_eq!(ask(&mut old), Some(("one".into(), true)));
}

/// Never goes on.
#[derive(Debug)]
struct Holding;

impl ListenerFilterConfig for Holding {
    fn create_filter_factory(
        &self,
        _context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError> {
        Ok(Box::new(Holding))
    }
}

impl ListenerFilterFactory for Holding {
    fn on_worker(&self) -> ListenerFilterFactoryCb {
        Box::new(|| Rc::new(Holding))
    }
}

impl ListenerFilter for Holding {
    fn on_accept(&self, _callbacks: &Weak<dyn ListenerFilterCallbacks>) -> FilterStatus {
        FilterStatus::StopIteration
    }
}

#[test]
fn those_that_wait_for_a_listener_filter_count() {
    let f = Fixture::started(LONG);
    let config: Arc<dyn ListenerFilterConfig> = Arc::new(Holding);
    let filter =
        config::ListenerFilter { name: "holding".into(), typed_config: TypedConfig::new("holding", config) };
    let holding = config::Listener {
        listener_filters: vec![filter],
        listener_filters_timeout: Duration::from_secs(1),
        ..listener("a", "one")
    };
    f.update(&holding).unwrap();
    f.settle(1);
    limit_to_one(&f);
    let waiting = connect(f.port("a"));
    assert!(is_refused(connect(f.port("a"))));
    let active = f.manager.active_listener("a").unwrap();
    assert_eq!(active.stats().downstream_cx_overflow.value(), 1);
    assert!(!active.inc_open_connections());
    assert!(is_refused(waiting), "its time is over");
    f.run_until("room for another one", || active.inc_open_connections());
}
