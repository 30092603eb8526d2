//! Connection pools of raw connections: one per worker, host and priority.
//!
//! Mirrors Envoy's `include/envoy/tcp/conn_pool.h` and `source/common/tcp/conn_pool.cc`. As in 1.40 who gets a connection is
//! its only user: what 1.1 gives back to the pool is closed here, and only one that nobody has had waits.

mod active_client;
mod pool;
#[cfg(test)]
mod tests;

use std::rc::{Rc, Weak};

pub use self::active_client::ConnectionData;
pub use self::pool::ConnPoolImpl;
use super::{Cancellable, Instance, PoolFailureReason};
use crate::buffer::Buffer;
use crate::network::ConnectionEvent;
use crate::trace::Ids;
use crate::upstream::WorkerHost;

/// What a pool tells about a connection that it was asked for.
pub trait Callbacks {
    /// The connection is there.
    fn on_pool_ready(&self, connection: ConnectionData, host: &Rc<WorkerHost>);
    /// There will be none. `host` is missing for an overflow.
    fn on_pool_failure(
        &self,
        reason: PoolFailureReason,
        transport_failure_reason: &str,
        host: Option<&Rc<WorkerHost>>,
    );
}

/// Told of what befalls the connection that one has.
pub trait UpstreamCallbacks {
    /// Data has come; the callee takes what is in it. `end_stream` comes once, where half of a connection may be closed.
    fn on_upstream_data(&self, data: &mut Buffer, end_stream: bool);
    /// The connection is closed.
    fn on_event(&self, event: ConnectionEvent);
    /// More is waiting to be written than the buffer limit.
    fn on_above_write_buffer_high_watermark(&self);
    /// What waits to be written has fallen below half of the limit.
    fn on_below_write_buffer_low_watermark(&self);
}

/// A pool of raw connections.
pub trait TcpInstance: Instance {
    /// Asks for a connection, on behalf of the stream that `ids` name to the stage recorder. The callbacks may run before
    /// this returns; a handle is returned only while the request waits.
    fn new_connection(&self, callbacks: Weak<dyn Callbacks>, ids: Ids) -> Option<Rc<dyn Cancellable>>;
}
