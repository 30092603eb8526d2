//! What moves bytes between a connection's buffers and its socket: plain, or over TLS.
//!
//! Mirrors Envoy's `include/envoy/network/transport_socket.h`. Envoy's transport socket keeps a
//! pointer to its callbacks and raises Connected through it, from inside a read or a write; here each
//! call carries them, so that there is no cycle to break, and that the transport has become connected is
//! a result, because the connection's buffer is borrowed until the call returns.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::tls::ContextCertificates;
use super::{ConnectionEvent, SslConnectionInfo};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::config::extension::Factory;
use crate::stats::Scope;

/// What the connection does after an I/O step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PostIoAction {
    /// Goes on.
    #[default]
    KeepOpen,
    /// Closes: the socket failed.
    Close,
}

/// The outcome of a read or write step. The default is that nothing was moved and that it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoResult {
    /// What to do next.
    pub action: PostIoAction,
    /// Bytes moved.
    pub bytes_processed: usize,
    /// Whether the peer's end of stream was read.
    pub end_stream_read: bool,
    /// This step has made the transport ready for data (a handshake is done) and moved none: the connection
    /// tells its callbacks and takes the step again. Said once in a connection's life.
    pub connected: bool,
    /// The peer has reset the connection.
    pub reset: bool,
}

/// What a transport socket may ask of its connection.
pub trait TransportSocketCallbacks {
    /// Runs `f` with the socket's fd; `None` once it is closed.
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>));
    /// Passes the end of the stream on to the peer, once. A failure is one of the connection, which the next read reports.
    fn shut_down_write(&self);
    /// The connection's id, for logs.
    fn connection_id(&self) -> u64;
    /// Whether a read buffer of `length` bytes is to be handed up before reading on.
    fn should_drain_read_buffer(&self, length: usize) -> bool;
    /// Asks for another read later in this pass: data may be left in the socket.
    fn set_read_buffer_ready(&self);
    /// Whether the kernel has told that the peer closed its side: then a short read does not mean
    /// an empty socket, because the end of the stream is still to be read and its edge is spent.
    fn peer_closed(&self) -> bool;
}

/// A connection's transport.
pub trait TransportSocket {
    /// The protocol that was negotiated; empty for none.
    fn protocol(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    /// Why the transport failed; empty for no reason.
    fn failure_reason(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    /// What is known of a secure transport; `None` for a plain one.
    fn ssl(&self) -> Option<Rc<dyn SslConnectionInfo>> {
        None
    }
    /// Whether it is secure, or will be when the handshake is done.
    fn is_secure(&self) -> bool {
        false
    }
    /// Whether pending data can still be flushed on close.
    fn can_flush_close(&self) -> bool {
        true
    }
    /// The connection is closing its socket.
    fn close_socket(&self, _callbacks: &dyn TransportSocketCallbacks, _event: ConnectionEvent) {}
    /// Reads until the socket is empty, ends or fails, or the buffer is full.
    fn do_read(&self, callbacks: &dyn TransportSocketCallbacks, buffer: &mut Buffer) -> IoResult;
    /// Writes until the buffer is empty or the socket full; then passes on the end of the stream.
    fn do_write(
        &self,
        callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
        end_stream: bool,
    ) -> IoResult;
    /// Whether it has nothing of its own to write, so that without data it need not be asked to.
    fn writes_data_alone(&self) -> bool {
        false
    }
    /// The underlying connection is there. Whether the transport is ready for data with that; otherwise a
    /// later [`IoResult::connected`] says so.
    fn on_connected(&self, callbacks: &dyn TransportSocketCallbacks) -> bool;
}

/// What a connection wants of its transport, whatever the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportSocketOptions {
    /// The server name to ask for (SNI).
    pub server_name_override: Option<String>,
}

/// What a connection is made for.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransportSocketFor<'a> {
    /// What it wants whatever the configuration says.
    pub options: Option<&'a TransportSocketOptions>,
    /// The name of the host that it goes to; empty for none.
    pub hostname: &'a str,
}

/// Makes the transports of a filter chain or of a cluster. Shared by all threads.
pub trait TransportSocketFactory: Send + Sync {
    /// Whether its transports are secure.
    fn implements_secure_transport(&self) -> bool;
    /// The certificates of its context; `None` of a plain one.
    fn certificates(&self) -> Option<ContextCertificates> {
        None
    }
    /// Makes the transport of one connection.
    fn create_transport_socket(&self, connection: TransportSocketFor<'_>) -> Box<dyn TransportSocket>;
}

/// What the factory of transports is made with (Envoy: `include/envoy/server/transport_socket_config.h`).
pub struct TransportSocketFactoryContext<'a> {
    /// Where the listener's or the cluster's statistics are made.
    pub scope: &'a Scope,
}

/// The configuration of a transport.
pub trait TransportSocketConfig: Any + Debug + Send + Sync {
    /// Makes the transports' factory, once for a filter chain or a cluster.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the configuration.
    fn create_transport_socket_factory(
        &self,
        context: &TransportSocketFactoryContext<'_>,
    ) -> Result<Box<dyn TransportSocketFactory>, ConfigError>;
}

/// Reads the configuration of a transport.
pub type TransportSocketConfigFactory = Factory<dyn TransportSocketConfig>;
