//! A socket on its way through the listener filters. Mirrors `ConnectionHandlerImpl::ActiveSocket` of Envoy's
//! `source/server/connection_handler_impl.cc`; what happens after the time is over is 1.40's `ActiveTcpSocket`.
//!
//! A listener without listener filters makes none.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::connection_handler::ActiveListener;
use super::listener_config::ListenerConfig;
use super::open_connection::OpenConnection;
use crate::common::linked_list::NodeKey;
use crate::envoy_log;
use crate::event::{Dispatcher, Timer};
use crate::network::{ConnectionSocket, FilterStatus, ListenerFilter, ListenerFilterCallbacks};
use crate::trace::{self, Stage};

/// See the module's description.
pub(super) struct ActiveSocket {
    weak: Weak<ActiveSocket>,
    listener: Weak<ActiveListener>,
    config: Arc<ListenerConfig>,
    dispatcher: Rc<Dispatcher>,
    socket: RefCell<Option<Rc<ConnectionSocket>>>,
    open: Cell<Option<OpenConnection>>,
    /// None once it is over: what a filter has of the socket goes with it.
    filters: RefCell<Vec<Rc<dyn ListenerFilter>>>,
    /// The filter that is next.
    next: Cell<usize>,
    timer: RefCell<Option<Timer>>,
    /// Its place among those that wait.
    pub(super) key: Cell<Option<NodeKey>>,
}

impl ActiveSocket {
    pub(super) fn new(
        listener: &Weak<ActiveListener>,
        config: &Arc<ListenerConfig>,
        dispatcher: &Rc<Dispatcher>,
        (socket, open): (ConnectionSocket, OpenConnection),
        filters: Vec<Rc<dyn ListenerFilter>>,
    ) -> Rc<Self> {
        config.stats().downstream_pre_cx_active.inc();
        Rc::new_cyclic(|weak| ActiveSocket {
            weak: weak.clone(),
            listener: listener.clone(),
            config: config.clone(),
            dispatcher: dispatcher.clone(),
            socket: RefCell::new(Some(Rc::new(socket))),
            open: Cell::new(Some(open)),
            filters: RefCell::new(filters),
            next: Cell::new(0),
            timer: RefCell::default(),
            key: Cell::new(None),
        })
    }

    /// Whether a filter has yet to go on.
    pub(super) fn is_waiting(&self) -> bool {
        self.socket.borrow().is_some()
    }

    /// Limits the time that it waits.
    pub(super) fn start_timer(&self, timeout: Duration) {
        if timeout.is_zero() {
            return;
        }
        let weak = self.weak.clone();
        let timer = self.dispatcher.create_timer(move || {
            if let Some(this) = weak.upgrade() {
                this.on_timeout();
            }
        });
        timer.enable_timer(timeout);
        *self.timer.borrow_mut() = Some(timer);
    }

    fn on_timeout(&self) {
        let Some(listener) = self.listener.upgrade() else { return };
        let config = &self.config;
        trace::instant(Stage::ActiveSocketTimeout, None, 0, self.next.get() as u64, 0);
        config.stats().downstream_pre_cx_timeout.inc();
        envoy_log!(
            ConnHandler,
            debug,
            "listener filter times out after {} ms",
            config.listener_filters_timeout().as_millis()
        );
        if config.continue_on_listener_filters_timeout() {
            envoy_log!(ConnHandler, debug, "fallback to default listener filter");
            self.new_connection(&listener);
        } else {
            self.let_go();
        }
        listener.remove_socket(self);
    }

    fn next_filter(&self) -> Option<Rc<dyn ListenerFilter>> {
        let next = self.next.get();
        self.next.set(next + 1);
        self.filters.borrow().get(next).cloned()
    }

    /// Ends the filters; returns the socket, unless one is still held by somebody.
    fn let_go(&self) -> Option<(ConnectionSocket, OpenConnection)> {
        let (filters, socket, open) = (self.filters.take(), self.socket.take(), self.open.take());
        drop(filters);
        Rc::try_unwrap(socket?).ok().zip(open)
    }

    fn new_connection(&self, listener: &ActiveListener) {
        if let Some((socket, open)) = self.let_go() {
            listener.new_filtered_connection(socket, open);
        }
    }
}

impl ListenerFilterCallbacks for ActiveSocket {
    fn socket(&self) -> Option<Rc<ConnectionSocket>> {
        self.socket.borrow().clone()
    }

    fn dispatcher(&self) -> Rc<Dispatcher> {
        self.dispatcher.clone()
    }

    fn continue_filter_chain(&self, success: bool) {
        // A filter's way back is weak: this holds it for as long as the filters run.
        let (Some(listener), Some(_this)) = (self.listener.upgrade(), self.weak.upgrade()) else { return };
        if !self.is_waiting() {
            return;
        }
        trace::instant(Stage::ContinueFilterChain, None, 0, self.next.get() as u64, success.into());
        let callbacks: Weak<dyn ListenerFilterCallbacks> = self.weak.clone();
        if success {
            while let Some(filter) = self.next_filter() {
                if filter.on_accept(&callbacks) == FilterStatus::StopIteration {
                    return;
                }
            }
            self.new_connection(&listener);
        } else {
            self.let_go();
        }
        listener.remove_socket(self);
    }
}

impl Drop for ActiveSocket {
    fn drop(&mut self) {
        self.config.stats().downstream_pre_cx_active.dec();
    }
}
