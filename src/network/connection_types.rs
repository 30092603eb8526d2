//! What a connection is to those above it. Mirrors Envoy's `include/envoy/network/connection.h`.

use crate::stats::{Counter, Gauge};

/// What happened to a connection. The numbers are Envoy's and appear in its logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionEvent {
    /// The peer closed, or the socket failed.
    RemoteClose = 0,
    /// This side closed.
    LocalClose = 1,
    /// The connection attempt succeeded.
    Connected = 2,
}

/// How to close. The numbers are Envoy's and appear in its logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionCloseType {
    /// Flush what is pending, then close.
    FlushWrite = 0,
    /// Close now.
    NoFlush = 1,
    /// Flush, then wait for the peer or the delayed close timeout.
    FlushWriteAndDelay = 2,
    /// Close now, with a reset. Of Envoy 1.40.
    AbortReset = 4,
}

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// In use.
    Open,
    /// Waiting for a flush, the peer or a timer, to be closed then.
    Closing,
    /// The socket is closed.
    Closed,
}

/// Told of a connection's events, in the order of registration.
pub trait ConnectionCallbacks {
    /// The connection was established or closed.
    fn on_event(&self, event: ConnectionEvent);
    /// More is waiting to be written than the buffer limit.
    fn on_above_write_buffer_high_watermark(&self) {}
    /// What waits to be written has fallen below half of the limit.
    fn on_below_write_buffer_low_watermark(&self) {}
}

/// Where a connection counts its bytes; shared by all connections of one owner.
pub struct ConnectionStats {
    /// Bytes read.
    pub read_total: Counter,
    /// Bytes in read buffers.
    pub read_current: Gauge,
    /// Bytes written.
    pub write_total: Counter,
    /// Bytes in write buffers.
    pub write_current: Gauge,
    /// Failures to bind the source address.
    pub bind_errors: Option<Counter>,
    /// Connections closed by the delayed close timer.
    pub delayed_close_timeouts: Option<Counter>,
}
