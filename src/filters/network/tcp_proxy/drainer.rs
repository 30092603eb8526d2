//! Upstream connections that write what is left for them when the client is gone already.
//!
//! Mirrors `Drainer` and `UpstreamDrainManager` of Envoy's `source/common/tcp_proxy/tcp_proxy.cc`; a worker has one manager
//! for each filter of the configuration.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::config::Config;
use super::upstream_callbacks::UpstreamCallbacks;
use crate::buffer::Buffer;
use crate::common::linked_list::{Arena, NodeKey, Only};
use crate::conn_pool::tcp::ConnectionData;
use crate::event::Dispatcher;
use crate::network::{ConnectionCloseType, ConnectionEvent};
use crate::trace::{self, Stage};

/// Has the drainers of a worker.
pub(super) struct UpstreamDrainManager {
    weak: Weak<UpstreamDrainManager>,
    config: Arc<Config>,
    dispatcher: Rc<Dispatcher>,
    drainers: Arena<Drainer, Only>,
}

impl UpstreamDrainManager {
    pub fn new(config: &Arc<Config>, dispatcher: &Rc<Dispatcher>) -> Rc<Self> {
        Rc::new_cyclic(|weak| UpstreamDrainManager {
            weak: weak.clone(),
            config: config.clone(),
            dispatcher: dispatcher.clone(),
            drainers: Arena::default(),
        })
    }

    /// Keeps a connection that is closing until it has closed.
    pub fn add(&self, connection: ConnectionData, callbacks: Rc<UpstreamCallbacks>) {
        let drainer = Rc::new(Drainer {
            parent: self.weak.clone(),
            config: self.config.clone(),
            callbacks,
            connection,
            key: Cell::new(None),
        });
        let upstream = drainer.connection.connection();
        let left = upstream.write_buffer_length() as u64;
        trace::instant(Stage::DrainerComes, Some(upstream.id()), 0, left, 0);
        self.config.stats.upstream_flush_total.inc();
        self.config.stats.upstream_flush_active.inc();
        drainer.callbacks.drain(&drainer);
        drainer.key.set(Some(self.drainers.push_front(Only, drainer.clone())));
    }

    fn remove(&self, drainer: &Drainer) {
        if let Some(removed) = drainer.key.take().and_then(|key| self.drainers.remove(key)) {
            self.dispatcher.deferred_delete(removed);
        }
    }
}

impl Drop for UpstreamDrainManager {
    fn drop(&mut self) {
        while let Some(drainer) = self.drainers.front(Only) {
            // The way back here is gone, so the list is emptied here.
            self.remove(&drainer);
            drainer.cancel_drain();
        }
    }
}

/// See the module's description.
pub(super) struct Drainer {
    parent: Weak<UpstreamDrainManager>,
    config: Arc<Config>,
    callbacks: Rc<UpstreamCallbacks>,
    connection: ConnectionData,
    key: Cell<Option<NodeKey>>,
}

impl Drainer {
    pub fn on_event(&self, event: ConnectionEvent) {
        if event == ConnectionEvent::Connected {
            return;
        }
        trace::instant(Stage::DrainerEvent, Some(self.connection.connection().id()), 0, event as u64, 0);
        self.callbacks.disable_idle_timer();
        self.config.stats.upstream_flush_active.dec();
        if let Some(parent) = self.parent.upgrade() {
            parent.remove(self);
        }
    }

    /// Nobody is there to whom it could go: as the kernel does for a socket that is shut, the connection is closed.
    pub fn on_data(&self, data: &mut Buffer) {
        if !data.is_empty() {
            data.clear();
            self.cancel_drain();
        }
    }

    pub fn on_idle_timeout(&self) {
        self.config.stats.idle_timeout.inc();
        self.cancel_drain();
    }

    fn cancel_drain(&self) {
        self.connection.connection().close(ConnectionCloseType::NoFlush);
    }
}
