//! What a codec is to those above it.
//!
//! Mirrors Envoy's `include/envoy/http/codec.h`. A codec turns bytes into calls on a [`StreamDecoder`]
//! and calls on a [`StreamEncoder`] into bytes; what it holds of the layers above is weak.

use std::fmt;
use std::rc::{Rc, Weak};

use super::HeaderMapPtr;
use crate::buffer::Buffer;
use crate::network::ConnectionInfoProvider;

/// The HTTP version spoken on a stream. The numbers are Envoy's and part of the pool key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10 = 0,
    /// HTTP/1.1.
    Http11 = 1,
    /// HTTP/2.
    Http2 = 2,
}

impl Protocol {
    /// Whether a connection carries many streams at a time.
    pub fn is_multiplexed(self) -> bool {
        matches!(self, Protocol::Http2)
    }

    /// The access log's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// Why a stream was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamResetReason {
    /// Reset from this side.
    LocalReset,
    /// Reset by the peer.
    RemoteReset,
    /// The connection attempt failed on this side (bind, pool going away).
    LocalConnectionFailure,
    /// The connection attempt failed on the other side (refused, unreachable).
    RemoteConnectionFailure,
    /// The connection attempt took longer than connect_timeout.
    ConnectionTimeout,
    /// The connection ended while the stream was active.
    ConnectionTermination,
    /// A limit of the circuit breakers was reached.
    Overflow,
    /// The peer broke the protocol.
    ProtocolError,
}

impl StreamResetReason {
    /// The text in local replies and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamResetReason::LocalReset => "local reset",
            StreamResetReason::RemoteReset => "remote reset",
            StreamResetReason::LocalConnectionFailure => "local connection failure",
            StreamResetReason::RemoteConnectionFailure => "remote connection failure",
            StreamResetReason::ConnectionTimeout => "connection timeout",
            StreamResetReason::ConnectionTermination => "connection termination",
            StreamResetReason::Overflow => "overflow",
            StreamResetReason::ProtocolError => "protocol error",
        }
    }
}

/// Takes a message that a codec decodes.
pub trait StreamDecoder {
    /// The head of the message.
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool);
    /// A piece of the body; the callee takes what is in it.
    fn decode_data(&self, data: &mut Buffer, end_stream: bool);
    /// The trailers, which end the message.
    fn decode_trailers(&self, trailers: HeaderMapPtr);
    /// An informational response head (1xx) before the real one.
    fn decode_1xx_headers(&self, _headers: HeaderMapPtr) {}
}

/// A decoder of requests can also be asked to refuse what the codec could not read.
pub trait RequestDecoder: StreamDecoder {
    /// Answers with `status` and `body` in place of whatever would have come.
    fn send_local_reply(&self, status: u16, body: &str, details: &'static str);
}

/// Sends a message.
pub trait StreamEncoder {
    /// The head.
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool);
    /// A piece of the body, taken from `data`.
    fn encode_data(&self, data: &mut Buffer, end_stream: bool);
    /// The trailers, which end the message.
    fn encode_trailers(&self, trailers: &HeaderMapPtr);
    /// An informational response head (1xx) before the real one.
    fn encode_1xx_headers(&self, _headers: &HeaderMapPtr) {}
    /// The stream's other controls.
    fn stream(&self) -> &dyn Stream;
}

/// The controls of a stream besides its data.
pub trait Stream {
    /// Adds a listener; it is told at once if the connection is backed up.
    fn add_callbacks(&self, callbacks: Weak<dyn StreamCallbacks>);
    /// Removes a listener.
    fn remove_callbacks(&self, callbacks: &Weak<dyn StreamCallbacks>);
    /// Gives the stream up.
    fn reset_stream(&self, reason: StreamResetReason);
    /// Stops or resumes reading on behalf of this stream; calls nest.
    fn read_disable(&self, disable: bool);
    /// The buffer limit in bytes; 0 is none.
    fn buffer_limit(&self) -> usize;
    /// What is known of the stream's connection, once that has one.
    fn connection_info(&self) -> Option<Rc<ConnectionInfoProvider>>;
    /// Why the codec gave the stream up, if it did; else empty.
    fn response_details(&self) -> &'static str {
        ""
    }
}

/// Told of what befalls a stream.
pub trait StreamCallbacks {
    /// The stream was reset.
    fn on_reset_stream(&self, reason: StreamResetReason);
    /// What the stream writes is backing up.
    fn on_above_write_buffer_high_watermark(&self);
    /// What the stream writes is flowing again.
    fn on_below_write_buffer_low_watermark(&self);
}

/// Told of what befalls a connection as a whole.
pub trait CodecCallbacks {
    /// The peer wants no new streams on this connection.
    fn on_go_away(&self);
}

/// What a server codec asks of its owner.
pub trait ServerConnectionCallbacks: CodecCallbacks {
    /// A request has begun.
    fn new_stream(&self, response_encoder: Rc<dyn StreamEncoder>) -> Weak<dyn RequestDecoder>;
}

/// Why a codec gives a connection up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The peer broke the protocol.
    Protocol(String),
    /// A response came that nobody had asked for; the flag says whether it was a 408, the ordinary
    /// farewell of an idle server.
    PrematureResponse {
        /// Whether it was an idle server's 408.
        idle_timeout: bool,
    },
    /// A client sends requests faster than it takes the answers.
    ResponseFlood,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Protocol(text) => f.write_str(text),
            CodecError::PrematureResponse { .. } => f.write_str("premature response"),
            CodecError::ResponseFlood => f.write_str("Too many responses queued."),
        }
    }
}

/// Either side's codec. What is there for protocols with many streams a connection does nothing by default.
pub trait Connection {
    /// Decodes what is in `data` and drains what it used. A server's codec of HTTP/1 stops behind each message, and to a
    /// client's, empty data is the end of the stream.
    fn dispatch(&self, data: &mut Buffer) -> Result<(), CodecError>;
    /// The protocol of the connection, or of its last message.
    fn protocol(&self) -> Protocol;
    /// Tells the peer that new streams are not served any more.
    fn go_away(&self) {}
    /// Tells the peer that new streams will soon not be served any more.
    fn shutdown_notice(&self) {}
    /// Whether the codec keeps back something to write, which the connection is to wait for.
    fn wants_to_write(&self) -> bool {
        false
    }
    /// The connection's write buffer went above its high watermark.
    fn on_underlying_connection_above_write_buffer_high_watermark(&self);
    /// The connection's write buffer fell below its low watermark.
    fn on_underlying_connection_below_write_buffer_low_watermark(&self);
}

/// A server's side of a connection.
pub trait ServerConnection: Connection {}

/// A client's side of a connection.
pub trait ClientConnection: Connection {
    /// Starts a request whose response goes to `response_decoder`.
    fn new_stream(&self, response_decoder: Weak<dyn StreamDecoder>) -> Rc<dyn StreamEncoder>;
}
