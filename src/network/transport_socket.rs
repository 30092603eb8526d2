//! What moves bytes between a connection's buffers and its socket: plain now, TLS later.
//!
//! Mirrors Envoy's `include/envoy/network/transport_socket.h`. Envoy's transport socket keeps a
//! pointer to its callbacks; here each call carries them, so that there is no cycle to break.

use std::os::fd::BorrowedFd;

use super::ConnectionEvent;
use crate::buffer::Buffer;

/// What the connection does after an I/O step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PostIoAction {
    /// Goes on.
    KeepOpen,
    /// Closes: the socket failed.
    Close,
}

/// The outcome of a read or write step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoResult {
    /// What to do next.
    pub action: PostIoAction,
    /// Bytes moved.
    pub bytes_processed: usize,
    /// Whether the peer's end of stream was read.
    pub end_stream_read: bool,
}

/// What a transport socket may ask of its connection.
pub trait TransportSocketCallbacks {
    /// Runs `f` with the socket's fd; `None` once it is closed.
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>));
    /// The connection's id, for logs.
    fn connection_id(&self) -> u64;
    /// Whether a read buffer of `length` bytes is to be handed up before reading on.
    fn should_drain_read_buffer(&self, length: usize) -> bool;
    /// Asks for another read later in this pass: data may be left in the socket.
    fn set_read_buffer_ready(&self);
    /// Whether the kernel has told that the peer closed its side: then a short read does not mean
    /// an empty socket, because the end of the stream is still to be read and its edge is spent.
    fn peer_closed(&self) -> bool;
    /// Raises an event to the connection's callbacks.
    fn raise_event(&self, event: ConnectionEvent);
}

/// A connection's transport.
pub trait TransportSocket {
    /// The protocol that was negotiated; empty for none.
    fn protocol(&self) -> &str {
        ""
    }
    /// Why the transport failed; empty for no reason.
    fn failure_reason(&self) -> &str {
        ""
    }
    /// Whether pending data can still be flushed on close.
    fn can_flush_close(&self) -> bool {
        true
    }
    /// The connection is closing its socket.
    fn close_socket(&self, _event: ConnectionEvent) {}
    /// Reads until the socket is empty, ends or fails, or the buffer is full.
    fn do_read(&self, callbacks: &dyn TransportSocketCallbacks, buffer: &mut Buffer) -> IoResult;
    /// Writes until the buffer is empty or the socket full; then passes on the end of the stream.
    fn do_write(
        &self,
        callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
        end_stream: bool,
    ) -> IoResult;
    /// The underlying connection is there.
    fn on_connected(&self, callbacks: &dyn TransportSocketCallbacks);
}
