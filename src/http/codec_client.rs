//! The client's end of an HTTP connection: connection, codec and the requests on it.
//!
//! Mirrors Envoy's `source/common/http/codec_client.cc`. What Envoy takes from the host (idle timeout,
//! counters) comes through [`CodecClientCallbacks`], because this floor knows no hosts.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::{
    ClientConnection, CodecCallbacks, CodecError, HeaderMapPtr, Protocol, StreamCallbacks, StreamDecoder,
    StreamEncoder, StreamResetReason,
};
use crate::buffer::Buffer;
use crate::common::linked_list::{Arena, NodeKey, Only};
use crate::envoy_conn_log;
use crate::event::{self, Moment, Timeout, TimeoutCallbacks};
use crate::network::{
    ClientConnectionImpl, ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl,
    FilterStatus, ReadFilter, ReadFilterCallbacks,
};
use crate::trace::{self, Stage, stage};

/// What a codec client tells its owner.
pub trait CodecClientCallbacks {
    /// The upstream broke the protocol.
    fn on_protocol_error(&self);
    /// The connection was idle for too long and is being closed.
    fn on_idle_timeout(&self);
    /// The upstream wants no more streams on the connection, which HTTP/1 has no word for.
    fn on_go_away(&self) {}
}

/// A connection to an upstream with its codec and the requests on it.
pub struct CodecClient {
    weak: Weak<CodecClient>,
    connection: ClientConnectionImpl,
    codec: Rc<dyn ClientConnection>,
    callbacks: Weak<dyn CodecClientCallbacks>,
    idle_timeout: Option<Duration>,
    /// Left alone while requests come and go: when it ends it looks how long there was none.
    idle_timer: Timeout,
    idle_since: Cell<Moment>,
    /// The newest at the front.
    active_requests: Arena<ActiveRequest, Only>,
    connected: Cell<bool>,
    remote_closed: Cell<bool>,
    protocol_error: Cell<bool>,
}

impl CodecClient {
    /// Takes over an unconnected connection and starts connecting it.
    pub fn new(
        connection: ClientConnectionImpl,
        codec: Rc<dyn ClientConnection>,
        callbacks: Weak<dyn CodecClientCallbacks>,
        idle_timeout: Option<Duration>,
    ) -> Rc<Self> {
        let client = Rc::new_cyclic(|weak| CodecClient {
            weak: weak.clone(),
            connection,
            codec,
            callbacks,
            idle_timeout,
            idle_timer: Timeout::default(),
            idle_since: Cell::new(event::now()),
            active_requests: Arena::default(),
            connected: Cell::new(false),
            remote_closed: Cell::new(false),
            protocol_error: Cell::new(false),
        });
        let connection = &client.connection;
        // Data is read before a FIN is honoured: a response may end with it.
        connection.detect_early_close_when_read_disabled(false);
        let callbacks: Weak<dyn ConnectionCallbacks> = client.weak.clone();
        connection.add_connection_callbacks(callbacks);
        connection.add_read_filter(Rc::new(CodecReadFilter { parent: client.weak.clone() }));
        stage!(NewCodecClient(connection.id()));
        connection.connect();
        client.on_idle();
        connection.no_delay();
        client
    }

    /// The connection.
    pub fn connection(&self) -> &Rc<ConnectionImpl> {
        &self.connection
    }

    /// The connection's id.
    pub fn id(&self) -> u64 {
        self.connection.id()
    }

    /// Whether the upstream closed the connection.
    pub fn remote_closed(&self) -> bool {
        self.remote_closed.get()
    }

    /// The protocol of the last response.
    pub fn protocol(&self) -> Protocol {
        self.codec.protocol()
    }

    /// The number of requests on the connection.
    pub fn num_active_requests(&self) -> usize {
        self.active_requests.len(Only)
    }

    /// Tells the upstream that no more streams are wanted.
    pub fn go_away(&self) {
        self.codec.go_away();
    }

    /// Closes the connection at once.
    pub fn close(&self) {
        self.connection.close(ConnectionCloseType::NoFlush);
    }

    /// Starts a request whose response goes to `response_decoder`.
    pub fn new_stream(&self, response_decoder: Weak<dyn StreamDecoder>) -> Rc<dyn StreamEncoder> {
        let request = Rc::new_cyclic(|weak: &Weak<ActiveRequest>| ActiveRequest {
            weak: weak.clone(),
            parent: self.weak.clone(),
            inner: response_decoder,
            encoder: RefCell::default(),
            place: Cell::new(None),
        });
        let decoder: Weak<dyn StreamDecoder> = request.weak.clone();
        let encoder = self.codec.new_stream(decoder);
        let callbacks: Weak<dyn StreamCallbacks> = request.weak.clone();
        encoder.stream().add_callbacks(callbacks);
        *request.encoder.borrow_mut() = Some(encoder.clone());
        let place = self.active_requests.push_front(Only, request.clone());
        request.place.set(Some(place));
        trace::instant(Stage::CodecClientNewStream, Some(self.id()), 0, 0, 0);
        encoder
    }

    /// Takes a request off the list; false when it is gone already.
    fn delete_request(&self, request: &ActiveRequest) -> bool {
        let removed = request.place.take().and_then(|place| self.active_requests.remove(place));
        let Some(removed) = removed else { return false };
        let left = trace::detail(|| self.num_active_requests() as u64);
        trace::instant(Stage::DeleteRequest, Some(self.id()), 0, left, 0);
        self.connection.dispatcher().deferred_delete(removed);
        if self.num_active_requests() == 0 {
            self.on_idle();
        }
        true
    }

    fn on_data(&self, data: &mut Buffer) {
        trace::instant(Stage::CodecClientData, Some(self.id()), 0, data.len() as u64, 0);
        let Err(error) = self.codec.dispatch(data) else { return };
        // Nothing behind an error is read.
        data.clear();
        let id = self.connection.id();
        let counts = match &error {
            CodecError::Protocol(_) | CodecError::ResponseFlood => {
                envoy_conn_log!(Client, info, id, "protocol error: {}", error);
                true
            }
            CodecError::PrematureResponse { idle_timeout } => {
                envoy_conn_log!(Client, info, id, "premature response");
                self.num_active_requests() > 0 || !idle_timeout
            }
        };
        let premature = matches!(error, CodecError::PrematureResponse { .. });
        trace::instant(Stage::CodecClientError, Some(id), 0, premature.into(), 0);
        self.protocol_error.set(true);
        self.close();
        if counts && let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.on_protocol_error();
        }
    }

    /// There is no request any more.
    fn on_idle(&self) {
        let Some(timeout) = self.idle_timeout else { return };
        self.idle_since.set(event::now());
        if !self.idle_timer.enabled() {
            self.idle_timer.enable(self.connection.dispatcher(), self.weak.clone(), 0, timeout);
        }
    }

    fn on_idle_timer(&self) {
        let Some(timeout) = self.idle_timeout.filter(|_| self.num_active_requests() == 0) else { return };
        let left = timeout.saturating_sub(self.idle_since.get().elapsed());
        // The loop's timers have a resolution of a millisecond.
        if left > Duration::from_millis(1) {
            self.idle_timer.enable_alone(self.connection.dispatcher(), self.weak.clone(), 0, left);
        } else {
            self.on_idle_timeout();
        }
    }

    fn on_idle_timeout(&self) {
        trace::instant(Stage::CodecClientIdleTimeout, Some(self.id()), 0, 0, 0);
        if let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.on_idle_timeout();
        }
        self.close();
    }

    fn reset_reason(&self) -> StreamResetReason {
        if self.protocol_error.get() {
            StreamResetReason::ProtocolError
        } else if self.connected.get() {
            StreamResetReason::ConnectionTermination
        } else {
            StreamResetReason::RemoteConnectionFailure
        }
    }
}

impl TimeoutCallbacks for CodecClient {
    fn on_timeout(&self, _which: u8) {
        self.on_idle_timer();
    }
}

impl CodecCallbacks for CodecClient {
    fn on_go_away(&self) {
        if let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.on_go_away();
        }
    }
}

impl ConnectionCallbacks for CodecClient {
    fn on_event(&self, event: ConnectionEvent) {
        let id = self.connection.id();
        let requests = trace::detail(|| self.num_active_requests() as u64);
        trace::instant(Stage::CodecClientEvent, Some(id), 0, event as u64, requests);
        if event == ConnectionEvent::Connected {
            envoy_conn_log!(Client, debug, id, "connected");
            self.connected.set(true);
            return;
        }
        if event == ConnectionEvent::RemoteClose {
            self.remote_closed.set(true);
            // The end of the connection may be the end of a response.
            if self.num_active_requests() > 0 {
                self.on_data(&mut Buffer::new());
            }
        }
        envoy_conn_log!(
            Client,
            debug,
            id,
            "disconnect. resetting {} pending requests",
            self.num_active_requests()
        );
        self.idle_timer.disable();
        loop {
            let Some(request) = self.active_requests.front(Only) else { return };
            let encoder = request.encoder.borrow().clone();
            if let Some(encoder) = encoder {
                encoder.stream().reset_stream(self.reset_reason());
            }
            // The codec tells of a reset only while the response is incomplete.
            self.delete_request(&request);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        self.codec.on_underlying_connection_above_write_buffer_high_watermark();
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.codec.on_underlying_connection_below_write_buffer_low_watermark();
    }
}

/// Drives what is read into the codec.
struct CodecReadFilter {
    parent: Weak<CodecClient>,
}

impl ReadFilter for CodecReadFilter {
    fn on_data(&self, data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        if let Some(parent) = self.parent.upgrade() {
            parent.on_data(data);
        }
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, _callbacks: ReadFilterCallbacks) {}
}

/// One request on the connection, between the codec and the pool's decoder.
struct ActiveRequest {
    weak: Weak<ActiveRequest>,
    parent: Weak<CodecClient>,
    inner: Weak<dyn StreamDecoder>,
    encoder: RefCell<Option<Rc<dyn StreamEncoder>>>,
    place: Cell<Option<NodeKey>>,
}

impl ActiveRequest {
    /// The response is complete: from here on the codec's resets are no concern of this request.
    fn on_pre_decode_complete(&self) {
        let Some(parent) = self.parent.upgrade() else { return };
        stage!(ResponseDecodeComplete(parent.id()));
        parent.delete_request(self);
    }

    fn decode(&self, end_stream: bool, f: impl FnOnce(&dyn StreamDecoder)) {
        let inner = self.inner.upgrade();
        if end_stream {
            self.on_pre_decode_complete();
        }
        if let Some(inner) = inner {
            f(&*inner);
        }
    }
}

impl StreamDecoder for ActiveRequest {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        self.decode(end_stream, |inner| inner.decode_headers(headers, end_stream));
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.decode(end_stream, |inner| inner.decode_data(data, end_stream));
    }

    fn decode_trailers(&self, trailers: HeaderMapPtr) {
        self.decode(true, |inner| inner.decode_trailers(trailers));
    }

    fn decode_1xx_headers(&self, headers: HeaderMapPtr) {
        self.decode(false, |inner| inner.decode_1xx_headers(headers));
    }
}

impl StreamCallbacks for ActiveRequest {
    fn on_reset_stream(&self, _reason: StreamResetReason) {
        if let Some(parent) = self.parent.upgrade() {
            stage!(CodecClientReset(parent.id()));
            parent.delete_request(self);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {}

    fn on_below_write_buffer_low_watermark(&self) {}
}
