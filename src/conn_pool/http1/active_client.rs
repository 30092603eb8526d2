//! One connection of the pool, and the request on it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};

use super::pool::ConnPoolImpl;
use crate::buffer::Buffer;
use crate::common::linked_list::NodeKey;
use crate::conn_pool::PoolFailureReason;
use crate::envoy_conn_log;
use crate::event::{Dispatcher, Moment, Timer};
use crate::http::{
    CodecClient, CodecClientCallbacks, HeaderId, HeaderMapPtr, Protocol, Stream, StreamCallbacks,
    StreamDecoder, StreamEncoder, StreamResetReason, utility,
};
use crate::network::{ConnectionCallbacks, ConnectionEvent};
use crate::trace::{self, Stage, stage};
use crate::upstream::{ResourcePriority, WorkerHost};

/// A connection with its codec. It lives in one of the pool's lists until it closes, and then until
/// the end of the pass.
pub(super) struct ActiveClient {
    weak: Weak<ActiveClient>,
    parent: Weak<ConnPoolImpl>,
    host: Rc<WorkerHost>,
    priority: ResourcePriority,
    codec_client: Rc<CodecClient>,
    key: OnceCell<NodeKey>,
    /// There while connecting.
    connect_timer: RefCell<Option<Timer>>,
    timed_out: Cell<bool>,
    /// There while connected, where connections may only get so old.
    connection_duration_timer: RefCell<Option<Timer>>,
    /// The response under way is the connection's last.
    draining: Cell<bool>,
    stream_wrapper: RefCell<Option<Rc<StreamWrapper>>>,
    /// Requests that the connection may still serve; 0 is no limit.
    remaining_requests: Cell<u64>,
    start: Moment,
}

impl ActiveClient {
    /// Starts a connection for `pool`.
    pub(super) fn new(pool: &ConnPoolImpl) -> io::Result<Rc<Self>> {
        let base = &pool.base;
        let host = base.host.clone();
        let cluster = host.cluster();
        pool.connect_start.set(Moment::exact());
        let connection = host.shared().create_connection(&base.dispatcher)?;
        let codec = cluster.create_codec(connection.connection());
        trace::instant(Stage::CodecClientProd, Some(connection.id()), 0, 0, 0);
        let client = Rc::new_cyclic(|weak: &Weak<ActiveClient>| {
            let callbacks: Weak<dyn CodecClientCallbacks> = weak.clone();
            let on_timeout = weak.clone();
            ActiveClient {
                weak: weak.clone(),
                parent: base.weak.clone(),
                priority: base.priority,
                codec_client: CodecClient::new(connection, codec, callbacks, cluster.idle_timeout()),
                key: OnceCell::new(),
                connect_timer: RefCell::new(Some(base.dispatcher.create_timer(move || {
                    if let Some(client) = on_timeout.upgrade() {
                        client.on_connect_timeout();
                    }
                }))),
                timed_out: Cell::new(false),
                connection_duration_timer: RefCell::default(),
                draining: Cell::new(false),
                stream_wrapper: RefCell::default(),
                remaining_requests: Cell::new(cluster.max_requests_per_connection()),
                start: Moment::exact(),
                host: host.clone(),
            }
        });
        let callbacks: Weak<dyn ConnectionCallbacks> = client.weak.clone();
        client.codec_client.connection().add_connection_callbacks(callbacks);
        cluster.stats().upstream_cx_total().inc();
        cluster.stats().upstream_cx_active().inc();
        cluster.stats().upstream_cx_http1_total().inc();
        host.stats().cx_total().inc();
        host.stats().cx_active().inc();
        if let Some(timer) = client.connect_timer.borrow().as_ref() {
            timer.enable_timer(cluster.connect_timeout());
        }
        base.resources().connections().inc();
        client.codec_client.connection().set_connection_stats(cluster.connection_stats().clone());
        let timeout = cluster.connect_timeout().as_millis() as u64;
        trace::instant(Stage::ActiveClientComes, Some(client.id()), 0, timeout, base.number());
        Ok(client)
    }

    pub(super) fn set_key(&self, key: NodeKey) {
        let _ = self.key.set(key);
    }

    pub(super) fn key(&self) -> NodeKey {
        *self.key.get().expect("client in a list") // invariant: set right after creation
    }

    pub(super) fn id(&self) -> u64 {
        self.codec_client.id()
    }

    pub(super) fn codec_client(&self) -> &Rc<CodecClient> {
        &self.codec_client
    }

    /// Whether the connection does not stand yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.connect_timer.borrow().is_some()
    }

    /// Forgets the connect timer; true when the client was connecting.
    pub(super) fn end_connecting(&self) -> bool {
        self.connect_timer.borrow_mut().take().is_some()
    }

    /// The connection is there: from here on its age counts.
    pub(super) fn on_connected(&self, dispatcher: &Dispatcher) {
        let Some(duration) = self.host.cluster().max_connection_duration() else { return };
        let weak = self.weak.clone();
        let timer = dispatcher.create_timer(move || {
            if let Some(client) = weak.upgrade() {
                client.on_connection_duration_timeout();
            }
        });
        timer.enable_timer(duration);
        *self.connection_duration_timer.borrow_mut() = Some(timer);
    }

    fn on_connection_duration_timeout(&self) {
        envoy_conn_log!(Pool, debug, self.id(), "max connection duration reached, start draining");
        trace::instant(Stage::ClientDurationTimeout, Some(self.id()), 0, 0, 0);
        self.host.cluster().stats().upstream_cx_max_duration_reached().inc();
        self.draining.set(true);
        if !self.has_stream_wrapper() {
            self.codec_client.close();
        }
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.get()
    }

    pub(super) fn has_stream_wrapper(&self) -> bool {
        self.stream_wrapper.borrow().is_some()
    }

    /// Whether the request on the connection and its response are both complete.
    pub(super) fn decode_complete(&self) -> bool {
        self.stream_wrapper.borrow().as_ref().is_some_and(|w| w.decode_complete.get())
    }

    #[inline(always)]
    pub(super) fn clear_stream_wrapper(&self) {
        if let Some(wrapper) = self.stream_wrapper.borrow_mut().take() {
            wrapper.release();
        }
    }

    /// Counts a request served; true when it was the last one allowed.
    pub(super) fn use_up_request(&self) -> bool {
        let left = self.remaining_requests.get();
        if left == 0 {
            return false;
        }
        self.remaining_requests.set(left - 1);
        left == 1
    }

    pub(super) fn make_last_request(&self) {
        self.remaining_requests.set(1);
    }

    pub(super) fn failure_reason(&self, event: ConnectionEvent) -> PoolFailureReason {
        if self.timed_out.get() {
            PoolFailureReason::Timeout
        } else if event == ConnectionEvent::LocalClose {
            PoolFailureReason::LocalConnectionFailure
        } else {
            PoolFailureReason::RemoteConnectionFailure
        }
    }

    fn on_connect_timeout(&self) {
        stage!(ConnectTimeout(self.id()));
        self.host.cluster().stats().upstream_cx_connect_timeout().inc();
        self.timed_out.set(true);
        self.codec_client.close();
    }
}

impl ConnectionCallbacks for ActiveClient {
    fn on_event(&self, event: ConnectionEvent) {
        if let (Some(parent), Some(this)) = (self.parent.upgrade(), self.weak.upgrade()) {
            parent.on_connection_event(&this, event);
        }
    }
}

impl CodecClientCallbacks for ActiveClient {
    fn on_protocol_error(&self) {
        self.host.cluster().stats().upstream_cx_protocol_error().inc();
    }

    fn on_idle_timeout(&self) {
        self.host.cluster().stats().upstream_cx_idle_timeout().inc();
    }
}

impl Drop for ActiveClient {
    fn drop(&mut self) {
        trace::instant(Stage::ActiveClientGoes, Some(self.id()), 0, 0, 0);
        self.clear_stream_wrapper();
        let cluster = self.host.cluster();
        cluster.stats().upstream_cx_active().dec();
        self.host.stats().cx_active().dec();
        cluster.stats().upstream_cx_length_ms().record(self.start.elapsed().as_millis() as u64);
        cluster.resource_manager(self.priority).connections().dec();
    }
}

/// A request on a client: stands between the router and the codec, both ways.
pub(super) struct StreamWrapper {
    connection_id: u64,
    parent: Weak<ActiveClient>,
    host: Rc<WorkerHost>,
    priority: ResourcePriority,
    encoder: OnceCell<Rc<dyn StreamEncoder>>,
    decoder: Weak<dyn StreamDecoder>,
    encode_complete: Cell<bool>,
    decode_complete: Cell<bool>,
    saw_close_header: Cell<bool>,
    saw_keep_alive_header: Cell<bool>,
    released: Cell<bool>,
}

impl StreamWrapper {
    /// Starts a stream on `client`.
    pub(super) fn attach(client: &Rc<ActiveClient>, decoder: Weak<dyn StreamDecoder>) -> Rc<Self> {
        debug_assert!(!client.has_stream_wrapper());
        trace::instant(Stage::StreamWrapperComes, Some(client.id()), 0, 0, 0);
        let wrapper = Rc::new(StreamWrapper {
            connection_id: client.id(),
            parent: client.weak.clone(),
            host: client.host.clone(),
            priority: client.priority,
            encoder: OnceCell::new(),
            decoder,
            encode_complete: Cell::new(false),
            decode_complete: Cell::new(false),
            saw_close_header: Cell::new(false),
            saw_keep_alive_header: Cell::new(false),
            released: Cell::new(false),
        });
        let weak = Rc::downgrade(&wrapper);
        let as_decoder: Weak<dyn StreamDecoder> = weak.clone();
        let encoder = client.codec_client.new_stream(as_decoder);
        encoder.stream().add_callbacks(weak);
        let _ = wrapper.encoder.set(encoder);
        client.host.cluster().stats().upstream_rq_active().inc();
        client.host.stats().rq_active().inc();
        client.host.cluster().resource_manager(client.priority).requests().inc();
        *client.stream_wrapper.borrow_mut() = Some(wrapper.clone());
        wrapper
    }

    pub(super) fn encode_complete(&self) -> bool {
        self.encode_complete.get()
    }

    pub(super) fn saw_close(&self) -> bool {
        self.saw_close_header.get()
    }

    /// Stops counting as active.
    fn release(&self) {
        if !self.released.replace(true) {
            self.host.cluster().stats().upstream_rq_active().dec();
            self.host.stats().rq_active().dec();
            self.host.cluster().resource_manager(self.priority).requests().dec();
        }
    }

    fn inner(&self) -> &Rc<dyn StreamEncoder> {
        self.encoder.get().expect("attached") // invariant: set before the wrapper is handed out
    }

    /// Notes from the head whether the connection ends with the response, by the rules of Envoy 1.40: with
    /// HTTP/1.0 it does unless it is kept alive.
    fn note_connection_header(&self, headers: &HeaderMapPtr) {
        let Some(client) = self.parent.upgrade() else { return };
        let headers = headers.borrow();
        let keep_alive = utility::connection_has_token(&headers, "keep-alive");
        let close = match client.codec_client.protocol() {
            Protocol::Http10 => !keep_alive,
            _ => utility::connection_has_token(&headers, "close"),
        };
        let close = close || utility::has_token(headers.get(HeaderId::ProxyConnection), "close");
        self.saw_keep_alive_header.set(keep_alive);
        self.saw_close_header.set(close);
        if close {
            self.host.cluster().stats().upstream_cx_close_notify().inc();
        }
    }

    /// Records that the request or its response has passed a stage.
    fn passed(&self, stage: Stage, a: u64, b: u64) {
        trace::instant(stage, Some(self.connection_id), 0, a, b);
    }

    fn decode(&self, end_stream: bool, f: impl FnOnce(&dyn StreamDecoder)) {
        if let Some(decoder) = self.decoder.upgrade() {
            f(&*decoder);
        }
        if end_stream {
            self.on_decode_complete();
        }
    }

    fn on_encode_complete(&self) {
        self.encode_complete.set(true);
        self.passed(Stage::StreamEncodeComplete, 0, 0);
    }

    fn on_decode_complete(&self) {
        self.decode_complete.set(self.encode_complete.get());
        self.passed(Stage::StreamDecodeComplete, 0, 0);
        if let Some(client) = self.parent.upgrade()
            && let Some(pool) = client.parent.upgrade()
        {
            pool.on_response_complete(&client, self);
        }
    }
}

impl Drop for StreamWrapper {
    fn drop(&mut self) {
        self.release();
    }
}

impl StreamDecoder for StreamWrapper {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        self.note_connection_header(&headers);
        let (close, keep_alive) = (self.saw_close(), self.saw_keep_alive_header.get());
        self.passed(Stage::StreamWrapperDecodeHeaders, close.into(), keep_alive.into());
        self.decode(end_stream, |d| d.decode_headers(headers, end_stream));
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.decode(end_stream, |d| d.decode_data(data, end_stream));
    }

    fn decode_trailers(&self, trailers: HeaderMapPtr) {
        self.decode(true, |d| d.decode_trailers(trailers));
    }

    fn decode_1xx_headers(&self, headers: HeaderMapPtr) {
        self.decode(false, |d| d.decode_1xx_headers(headers));
    }
}

impl StreamEncoder for StreamWrapper {
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        self.inner().encode_headers(headers, end_stream);
        if end_stream {
            self.on_encode_complete();
        }
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.inner().encode_data(data, end_stream);
        if end_stream {
            self.on_encode_complete();
        }
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) {
        self.inner().encode_trailers(trailers);
        self.on_encode_complete();
    }

    fn stream(&self) -> &dyn Stream {
        self.inner().stream()
    }
}

impl StreamCallbacks for StreamWrapper {
    fn on_reset_stream(&self, reason: StreamResetReason) {
        self.passed(Stage::StreamWrapperReset, reason as u64, 0);
        if let Some(client) = self.parent.upgrade()
            && let Some(pool) = client.parent.upgrade()
        {
            pool.on_downstream_reset(&client);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {}

    fn on_below_write_buffer_low_watermark(&self) {}
}
