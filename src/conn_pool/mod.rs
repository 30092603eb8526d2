//! Connection pools: one per worker, host, priority and protocol.
//!
//! Mirrors Envoy's `include/envoy/http/conn_pool.h` and the pools behind it. Pools of other protocols come here beside
//! [`http1`], upon the same [`base`].

mod base;
pub mod http1;
pub mod tcp;

use std::rc::{Rc, Weak};

use crate::http::{Protocol, StreamDecoder, StreamEncoder};
use crate::trace::Ids;
use crate::upstream::WorkerHost;

/// Why a pool could not serve a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolFailureReason {
    /// A limit of the circuit breakers was reached.
    Overflow,
    /// The connection attempt failed on this side.
    LocalConnectionFailure,
    /// The connection attempt failed on the other side.
    RemoteConnectionFailure,
    /// The connection attempt took longer than connect_timeout.
    Timeout,
}

/// What a pool tells about a request given to it.
pub trait Callbacks {
    /// A connection is there: the request can be sent through `encoder`.
    fn on_pool_ready(&self, encoder: Rc<dyn StreamEncoder>, host: &Rc<WorkerHost>);
    /// There will be no connection. `host` is missing for an overflow.
    fn on_pool_failure(
        &self,
        reason: PoolFailureReason,
        transport_failure_reason: &str,
        host: Option<&Rc<WorkerHost>>,
    );
}

/// A request that waits for a connection.
pub trait Cancellable {
    /// Gives the request up; its callbacks will not be called.
    fn cancel(&self);
    /// The same; a connection that is being made and that nobody else waits for is closed.
    fn cancel_and_close_excess(&self) {
        self.cancel();
    }
}

/// Called when a pool has no request left.
pub type DrainedCb = Rc<dyn Fn()>;

/// Called when a pool has neither a request nor a connection left.
pub type IdleCb = Box<dyn Fn()>;

/// A pool of any protocol, as those who keep it see it.
pub trait Instance {
    /// The host that the pool connects to.
    fn host(&self) -> &Rc<WorkerHost>;
    /// Has `callback` called when no request is left; at once when there is none. The pool goes on serving.
    fn add_drained_callback(&self, callback: DrainedCb);
    /// Has `callback` called each time that neither a request nor a connection is left.
    fn set_idle_callback(&self, callback: IdleCb);
    /// Closes idle connections, and the others after their request.
    fn drain_connections(&self);
    /// Closes connections whose host is not to be spoken to any more, where a pool has such that belong to no request it knows
    /// the end of; or else drains them.
    fn close_connections(&self) {
        self.drain_connections();
    }
    /// Whether a request waits or is served.
    fn has_active_connections(&self) -> bool;
    /// Closes all connections; the pool is going away.
    fn close(&self);
    /// Records how many requests and connections there are in each list, for the stage recorder.
    fn record_lists(&self);
}

/// An HTTP pool of any version.
pub trait HttpInstance: Instance {
    /// The protocol spoken upstream.
    fn protocol(&self) -> Protocol;
    /// Asks for a connection, on behalf of the stream that `ids` name to the stage recorder. The callbacks may run before
    /// this returns; a handle is returned only while the request waits.
    fn new_stream(
        &self,
        response_decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
        ids: Ids,
    ) -> Option<Rc<dyn Cancellable>>;
}
