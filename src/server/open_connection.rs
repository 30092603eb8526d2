//! What a listener counts of its connections while one is open, from accept on. Mirrors `openConnections()` of 1.40's
//! `envoy/network/listener.h`; Envoy 1.1 has no limit.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::listener_config::{ListenerConfig, PerHandlerListenerStats};

/// Where the connections of a listener are counted, which they outlive.
pub(super) struct Counted {
    pub(super) config: Arc<ListenerConfig>,
    pub(super) handler_stats: PerHandlerListenerStats,
}

/// Counts for as long as it lives, with the listener's socket at first and then with its connection.
pub(super) struct OpenConnection(Rc<Counted>);

impl OpenConnection {
    /// Counts one more, unless the listener has as many as it may.
    pub(super) fn new(counted: &Rc<Counted>) -> Option<Self> {
        counted.config.inc_open_connections().then(|| OpenConnection(counted.clone()))
    }
}

impl Deref for OpenConnection {
    type Target = Counted;

    fn deref(&self) -> &Counted {
        &self.0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.config.dec_open_connections();
    }
}
