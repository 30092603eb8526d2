//! A tunnel that ends here: the body of the request is what goes over a raw connection, and what comes is the response's.
//!
//! Mirrors `TcpConnPool` and `TcpUpstream` of Envoy 1.40's `source/extensions/upstreams/http/tcp/upstream_request.cc`; 1.1
//! passes CONNECT on, at most. The upstream is seen as an encoder of requests, as one of HTTP is.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::buffer::Buffer;
use crate::config::route::{ConnectConfig, ProxyProtocolVersion};
use crate::conn_pool::tcp::{self, ConnectionData, TcpInstance, UpstreamCallbacks};
use crate::conn_pool::{Callbacks, Cancellable, PoolFailureReason};
use crate::http::{
    HeaderId, HeaderMap, HeaderMapPtr, Stream, StreamCallbacks, StreamDecoder, StreamEncoder,
    StreamResetReason,
};
use crate::network::proxy_protocol_header::{generate_v1_header, generate_v2_header};
use crate::network::{
    Address, ConnectionCloseType, ConnectionEvent, ConnectionInfoProvider, ConnectionState,
};
use crate::stream_info::StreamInfoImpl;
use crate::trace::{self, Ids, Stage};
use crate::upstream::WorkerHost;

/// Whether the body of this request goes out as it is.
pub(super) fn should_tcp_proxy(config: &ConnectConfig, headers: &HeaderMap) -> bool {
    match headers.get(HeaderId::Method) {
        Some(b"CONNECT") => true,
        Some(b"POST") => config.allow_post,
        _ => false,
    }
}

/// What the upstream is told in front of all else.
pub(super) fn preamble(config: &ConnectConfig, info: &StreamInfoImpl) -> Vec<u8> {
    let (Some(proxy), Some(connection)) = (&config.proxy_protocol_config, info.downstream_connection())
    else {
        return Vec::new();
    };
    let source = connection.remote_address();
    let destination = connection.local_address().unwrap_or_else(|| Address::Pipe("".into()));
    match proxy.version {
        ProxyProtocolVersion::V1 => generate_v1_header(&source, &destination),
        ProxyProtocolVersion::V2 => generate_v2_header(&source, &destination),
    }
}

/// Gets raw connections for requests.
pub(super) struct TcpConnPool {
    pool: Rc<dyn TcpInstance>,
    preamble: Vec<u8>,
}

impl TcpConnPool {
    pub(super) fn new(pool: Rc<dyn TcpInstance>, preamble: Vec<u8>) -> Self {
        TcpConnPool { pool, preamble }
    }

    pub(super) fn host(&self) -> &Rc<WorkerHost> {
        self.pool.host()
    }

    pub(super) fn new_stream(
        &self,
        decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
        ids: Ids,
    ) -> Option<Rc<dyn Cancellable>> {
        let request = Rc::new(Request { decoder, callbacks, preamble: self.preamble.clone() });
        let weak: Weak<dyn tcp::Callbacks> = Rc::downgrade(&request) as _;
        let handle = self.pool.new_connection(weak, ids)?;
        Some(Rc::new(Waiting { handle, _request: request }))
    }
}

/// A request for a connection.
struct Request {
    decoder: Weak<dyn StreamDecoder>,
    callbacks: Weak<dyn Callbacks>,
    preamble: Vec<u8>,
}

/// The same while it waits.
struct Waiting {
    handle: Rc<dyn Cancellable>,
    _request: Rc<Request>,
}

impl Cancellable for Waiting {
    fn cancel(&self) {
        self.handle.cancel();
    }
}

impl tcp::Callbacks for Request {
    fn on_pool_ready(&self, connection: ConnectionData, host: &Rc<WorkerHost>) {
        let Some(callbacks) = self.callbacks.upgrade() else { return };
        let upstream = TcpUpstream::new(connection, self.decoder.clone(), self.preamble.clone());
        callbacks.on_pool_ready(upstream, host);
    }

    fn on_pool_failure(
        &self,
        reason: PoolFailureReason,
        transport_failure_reason: &str,
        host: Option<&Rc<WorkerHost>>,
    ) {
        if let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.on_pool_failure(reason, transport_failure_reason, host);
        }
    }
}

/// See the module's description.
struct TcpUpstream {
    connection: ConnectionData,
    decoder: Weak<dyn StreamDecoder>,
    callbacks: RefCell<Option<Weak<dyn StreamCallbacks>>>,
    preamble: Vec<u8>,
}

impl TcpUpstream {
    fn new(connection: ConnectionData, decoder: Weak<dyn StreamDecoder>, preamble: Vec<u8>) -> Rc<Self> {
        let upstream = Rc::new(TcpUpstream { connection, decoder, callbacks: RefCell::default(), preamble });
        upstream.connection.connection().enable_half_close(true);
        let callbacks: Weak<dyn UpstreamCallbacks> = Rc::downgrade(&upstream) as _;
        upstream.connection.add_upstream_callbacks(callbacks);
        upstream
    }

    fn callbacks(&self) -> Option<Rc<dyn StreamCallbacks>> {
        self.callbacks.borrow().as_ref().and_then(Weak::upgrade)
    }

    fn passed(&self, stage: Stage, a: u64, b: u64) {
        trace::instant(stage, Some(self.connection.connection().id()), 0, a, b);
    }

    fn write(&self, data: &mut Buffer, end_stream: bool) {
        self.connection.connection().write(data, end_stream);
    }
}

impl StreamEncoder for TcpUpstream {
    /// The connection is there, which is the response's head; nothing of the request's goes out.
    fn encode_headers(&self, _headers: &HeaderMapPtr, end_stream: bool) {
        self.passed(Stage::TcpUpstreamHeaders, self.preamble.len() as u64, end_stream.into());
        if end_stream || !self.preamble.is_empty() {
            let mut data = Buffer::new();
            data.add(&self.preamble);
            self.write(&mut data, end_stream);
        }
        let mut headers = HeaderMap::new();
        headers.set_status(200);
        if let Some(decoder) = self.decoder.upgrade() {
            decoder.decode_headers(headers.shared(), false);
        }
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.write(data, end_stream);
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) {
        self.write(&mut Buffer::new(), true);
    }

    fn stream(&self) -> &dyn Stream {
        self
    }
}

impl Stream for TcpUpstream {
    fn add_callbacks(&self, callbacks: Weak<dyn StreamCallbacks>) {
        *self.callbacks.borrow_mut() = Some(callbacks);
    }

    fn remove_callbacks(&self, _callbacks: &Weak<dyn StreamCallbacks>) {
        drop(self.callbacks.take());
    }

    fn reset_stream(&self, _reason: StreamResetReason) {
        drop(self.callbacks.take());
        self.connection.connection().close(ConnectionCloseType::NoFlush);
    }

    fn read_disable(&self, disable: bool) {
        let connection = self.connection.connection();
        if connection.state() == ConnectionState::Open {
            connection.read_disable(disable);
        }
    }

    fn buffer_limit(&self) -> usize {
        self.connection.connection().buffer_limit()
    }

    fn connection_info(&self) -> Option<Rc<ConnectionInfoProvider>> {
        Some(self.connection.connection().whole_connection_info())
    }
}

impl UpstreamCallbacks for TcpUpstream {
    fn on_upstream_data(&self, data: &mut Buffer, end_stream: bool) {
        self.passed(Stage::TcpUpstreamData, data.len() as u64, end_stream.into());
        if self.callbacks.borrow().is_none() {
            return data.clear();
        }
        if let Some(decoder) = self.decoder.upgrade() {
            decoder.decode_data(data, end_stream);
        }
    }

    fn on_event(&self, event: ConnectionEvent) {
        self.passed(Stage::TcpUpstreamEvent, event as u64, 0);
        let callbacks = self.callbacks.take().and_then(|callbacks| callbacks.upgrade());
        if event != ConnectionEvent::Connected
            && let Some(callbacks) = callbacks
        {
            callbacks.on_reset_stream(StreamResetReason::ConnectionTermination);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        if let Some(callbacks) = self.callbacks() {
            callbacks.on_above_write_buffer_high_watermark();
        }
    }

    fn on_below_write_buffer_low_watermark(&self) {
        if let Some(callbacks) = self.callbacks() {
            callbacks.on_below_write_buffer_low_watermark();
        }
    }
}
