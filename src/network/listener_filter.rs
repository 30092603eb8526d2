//! Listener filters: what looks at a socket between accept and its connection. Mirrors `ListenerFilter` and
//! `ListenerFilterCallbacks` of Envoy's `include/envoy/network/filter.h`.

use std::rc::{Rc, Weak};

use super::{ConnectionSocket, FilterStatus};
use crate::event::Dispatcher;

/// A filter on accepted sockets.
pub trait ListenerFilter {
    /// A socket was accepted. Behind [`FilterStatus::StopIteration`] it waits, for as long as the listener allows, until
    /// the filter calls [`ListenerFilterCallbacks::continue_filter_chain`].
    fn on_accept(&self, callbacks: &Weak<dyn ListenerFilterCallbacks>) -> FilterStatus;
}

/// A listener filter's way back.
pub trait ListenerFilterCallbacks {
    /// The socket, until its connection is made. What a filter has of it goes with the filter then; a socket that somebody
    /// else still holds, as what watches it and is being called, is closed.
    fn socket(&self) -> Option<Rc<ConnectionSocket>>;
    /// The worker's dispatcher.
    fn dispatcher(&self) -> Rc<Dispatcher>;
    /// Goes on with the next filter; without `success` the socket is closed.
    fn continue_filter_chain(&self, success: bool);
}

/// Makes a filter for a socket. It belongs to a worker, and holds what it needs by counts of the worker's own.
pub type ListenerFilterFactoryCb = Box<dyn Fn() -> Rc<dyn ListenerFilter>>;

/// Gives the sockets of a listener one kind of filter; shared by all workers.
pub trait ListenerFilterFactory: Send + Sync {
    /// What does so on the calling worker; asked for once a worker.
    fn on_worker(&self) -> ListenerFilterFactoryCb;
}
