//! One request and its response.
//!
//! Mirrors `ConnectionManagerImpl::ActiveStream` of Envoy's `source/common/http/conn_manager_impl.cc`.
//! The passing of headers and data along the filters is in `filter_chain`.

mod request_head;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::active_stream_filter::{ActiveStreamDecoderFilter, ActiveStreamEncoderFilter};
use super::config::ConnectionManagerConfig;
use super::conn_manager::{ConnectionManagerImpl, DrainState};
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::envoy_stream_log;
use crate::event::{self, Dispatcher, Timeout, TimeoutCallbacks};
use crate::filters::http::{
    DownstreamWatermarkCallbacks, FilterChainFactoryCallbacks, StreamDecoderFilter, StreamEncoderFilter,
    StreamFilter,
};
use crate::http::{
    HeaderMapPtr, Protocol, RequestDecoder, ResponseFlag, StreamCallbacks, StreamDecoder, StreamEncoder,
    StreamInfoImpl, StreamResetReason, codes,
};
use crate::router::RouteConstSharedPtr;
use crate::trace::{self, Stage};

/// What a stream's timers are for.
const IDLE: u8 = 0;
const REQUEST: u8 = 1;
const REQUEST_HEADER: u8 = 2;
const MAX_DURATION: u8 = 3;

/// See the module's description.
pub struct ActiveStream {
    weak: Weak<ActiveStream>,
    pub(super) manager: Weak<ConnectionManagerImpl>,
    pub(super) config: Arc<ConnectionManagerConfig>,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) connection_id: u64,
    pub(super) stream_id: u64,
    pub(super) stream_info: StreamInfoImpl,
    response_encoder: RefCell<Option<Rc<dyn StreamEncoder>>>,
    pub(super) request_headers: RefCell<Option<HeaderMapPtr>>,
    pub(super) request_traits: RequestTraits,
    pub(super) request_trailers: RefCell<Option<HeaderMapPtr>>,
    /// The last informational head.
    pub(super) continue_headers: RefCell<Option<HeaderMapPtr>>,
    pub(super) response_headers: RefCell<Option<HeaderMapPtr>>,
    pub(super) response_trailers: RefCell<Option<HeaderMapPtr>>,
    pub(super) decoder_filters: RefCell<Vec<Rc<ActiveStreamDecoderFilter>>>,
    pub(super) encoder_filters: RefCell<Vec<Rc<ActiveStreamEncoderFilter>>>,
    pub(super) buffered_request_data: RefCell<Option<Box<WatermarkBuffer>>>,
    pub(super) buffered_response_data: RefCell<Option<Box<WatermarkBuffer>>>,
    pub(super) buffer_limit: Cell<usize>,
    cached_route: RefCell<Option<Option<RouteConstSharedPtr>>>,
    route_cleared: Cell<bool>,
    stream_idle_timer: Timeout,
    idle_timeout: Cell<Duration>,
    last_activity: Cell<Instant>,
    request_timer: Timeout,
    request_header_timer: Timeout,
    max_duration_timer: Timeout,
    high_watermark_count: Cell<u32>,
    watermark_callbacks: RefCell<Option<Weak<dyn DownstreamWatermarkCallbacks>>>,
    pub(super) state: StreamState,
}

/// Where a stream stands.
#[derive(Default)]
pub(super) struct StreamState {
    /// The request is complete.
    pub remote_complete: Cell<bool>,
    /// The end of the response has been given to the filters.
    pub local_complete: Cell<bool>,
    /// The end of the response has been given to the codec.
    pub codec_saw_local_complete: Cell<bool>,
    /// The codec has the response's headers.
    pub response_headers_encoded: Cell<bool>,
    /// Those headers tell how long the body is.
    pub response_has_length: Cell<bool>,
    pub saw_connection_close: Cell<bool>,
    pub created_filter_chain: Cell<bool>,
    pub destroyed: Cell<bool>,
    /// A filter turned the request, or the response, into one without a body.
    pub decoding_headers_only: Cell<bool>,
    pub encoding_headers_only: Cell<bool>,
    /// Data kept back is limited by back pressure instead of an error.
    pub decoder_filters_streaming: Cell<bool>,
    pub encoder_filters_streaming: Cell<bool>,
    pub in_decode_headers: Cell<bool>,
    pub in_decode_data: Cell<bool>,
    /// The data under way is the last.
    pub in_last_decode_data: Cell<bool>,
    pub in_last_encode_data: Cell<bool>,
    pub in_decode_trailers: Cell<bool>,
    pub in_encode_1xx: Cell<bool>,
    pub in_encode_headers: Cell<bool>,
    pub in_encode_data: Cell<bool>,
    pub in_encode_trailers: Cell<bool>,
}

/// What a response has to know of its request, noted before the filters see it: one of them may have hold of the
/// headers while it is answered.
#[derive(Default)]
pub(super) struct RequestTraits {
    pub is_head: Cell<bool>,
    pub is_grpc: Cell<bool>,
    pub is_upgrade: Cell<bool>,
    pub force_trace: Cell<bool>,
    /// The request's id, where the response has to bear it.
    pub id: RefCell<Option<Box<[u8]>>>,
}

impl ActiveStream {
    pub(super) fn new(
        manager: &Weak<ConnectionManagerImpl>,
        parent: &ConnectionManagerImpl,
        response_encoder: Rc<dyn StreamEncoder>,
    ) -> Rc<Self> {
        let config = parent.config.clone();
        let connection = parent.connection();
        config.stats.downstream_rq_total.inc();
        config.stats.downstream_rq_active.inc();
        config.stats.downstream_rq_http1_total.inc();
        let stream = Rc::new_cyclic(|weak| ActiveStream {
            weak: weak.clone(),
            manager: manager.clone(),
            dispatcher: parent.dispatcher.clone(),
            connection_id: connection.as_ref().map_or(0, |c| c.id()),
            stream_id: fastrand::u64(..),
            stream_info: StreamInfoImpl::new(),
            buffer_limit: Cell::new(response_encoder.stream().buffer_limit()),
            response_encoder: RefCell::new(Some(response_encoder)),
            request_headers: RefCell::default(),
            request_traits: RequestTraits::default(),
            request_trailers: RefCell::default(),
            continue_headers: RefCell::default(),
            response_headers: RefCell::default(),
            response_trailers: RefCell::default(),
            decoder_filters: RefCell::default(),
            encoder_filters: RefCell::default(),
            buffered_request_data: RefCell::default(),
            buffered_response_data: RefCell::default(),
            cached_route: RefCell::default(),
            route_cleared: Cell::new(false),
            stream_idle_timer: Timeout::default(),
            idle_timeout: Cell::new(config.stream_idle_timeout),
            last_activity: Cell::new(event::now()),
            request_timer: Timeout::default(),
            request_header_timer: Timeout::default(),
            max_duration_timer: Timeout::default(),
            high_watermark_count: Cell::new(0),
            watermark_callbacks: RefCell::default(),
            state: StreamState::default(),
            config,
        });
        if let Some(connection) = connection {
            let info = &stream.stream_info;
            info.connection_id.set(connection.id());
            info.stream_id.set(stream.stream_id);
            info.downstream_local_address.set(connection.local_address());
            info.downstream_direct_remote_address.set(Some(connection.remote_address()));
            info.downstream_remote_address.set(Some(connection.remote_address()));
            info.protocol.set(parent.codec().map(|c| c.protocol()));
        }
        stream.start_timers();
        stream
    }

    fn start_timers(&self) {
        let config = &self.config;
        self.arm(&self.stream_idle_timer, IDLE, config.stream_idle_timeout);
        self.arm(&self.request_timer, REQUEST, config.request_timeout);
        self.arm(&self.request_header_timer, REQUEST_HEADER, config.request_headers_timeout);
        self.arm(&self.max_duration_timer, MAX_DURATION, config.max_stream_duration.unwrap_or_default());
    }

    /// Zero is no timeout.
    fn arm(&self, timer: &Timeout, which: u8, after: Duration) {
        if !after.is_zero() {
            timer.enable(&self.dispatcher, self.weak.clone(), which, after);
        }
    }

    pub(super) fn weak(&self) -> Weak<ActiveStream> {
        self.weak.clone()
    }

    /// Records a stage of this stream.
    pub(super) fn stage(&self, stage: Stage, a: u64, b: u64) -> trace::Scope {
        trace::scope(stage, Some(self.connection_id), self.stream_id, a, b)
    }

    /// Records that the stream has passed a stage.
    pub(super) fn passed(&self, stage: Stage, a: u64) {
        trace::instant(stage, Some(self.connection_id), self.stream_id, a, 0);
    }

    pub(super) fn with_manager(&self, f: impl FnOnce(&ConnectionManagerImpl)) {
        if let Some(manager) = self.manager.upgrade() {
            f(&manager);
        }
    }

    pub(super) fn response_encoder(&self) -> Option<Rc<dyn StreamEncoder>> {
        self.response_encoder.borrow().clone()
    }

    pub(super) fn remove_codec_callbacks(&self) {
        if let Some(encoder) = self.response_encoder() {
            let callbacks: Weak<dyn StreamCallbacks> = self.weak.clone();
            encoder.stream().remove_callbacks(&callbacks);
        }
    }

    /// Whether request and response have both passed the codec completely.
    pub(super) fn is_complete(&self) -> bool {
        self.state.remote_complete.get() && self.state.codec_saw_local_complete.get()
    }

    pub(super) fn remote_complete(&self) -> bool {
        self.state.remote_complete.get()
    }

    /// Whether the connection can close behind this stream's response at once: nothing more of the
    /// request is under way, or its client (HTTP/1.0) takes just this close for the response's end.
    pub(super) fn closes_without_delay(&self) -> bool {
        self.state.saw_connection_close.get()
            && (self.remote_complete() || (self.is_http_10() && !self.state.response_has_length.get()))
    }

    pub(super) fn set_local_complete(&self) {
        self.state.local_complete.set(true);
        self.state.codec_saw_local_complete.set(true);
    }

    pub(super) fn log_end_stream_reset(&self) {
        envoy_stream_log!(Http, debug, self.connection_id, self.stream_id, "doEndStream() resetting stream");
    }

    /// Something happened on the stream. The timer itself is left alone: when it fires it looks how
    /// long ago that was (Envoy re-arms it each time, and wonders in a comment whether to).
    pub(super) fn reset_idle_timer(&self) {
        self.last_activity.set(event::now());
    }

    pub(super) fn disarm_request_timeout(&self) {
        if self.request_timer.disable() {
            self.passed(Stage::DisarmRequestTimeout, 0);
        }
    }

    fn on_idle_timeout(&self) {
        let left =
            self.idle_timeout.get().saturating_sub(event::now().duration_since(self.last_activity.get()));
        // The loop's timers have a resolution of a millisecond.
        if left > Duration::from_millis(1) {
            self.arm(&self.stream_idle_timer, IDLE, left);
            return;
        }
        self.passed(Stage::StreamIdleTimeout, 0);
        self.config.stats.downstream_rq_idle_timeout.inc();
        self.stream_info.set_response_flag(ResponseFlag::StreamIdleTimeout);
        let status = codes::request_timeout_code(self.remote_complete());
        self.send_local_reply_with(status, "stream timeout", None, "stream_idle_timeout".into());
    }

    fn on_request_timeout(&self) {
        self.passed(Stage::StreamRequestTimeout, 0);
        self.config.stats.downstream_rq_timeout.inc();
        self.send_local_reply_with(408, "request timeout", None, "request_overall_timeout".into());
    }

    fn on_request_header_timeout(&self) {
        self.passed(Stage::StreamHeaderTimeout, 0);
        self.config.stats.downstream_rq_header_timeout.inc();
        self.send_local_reply_with(408, "request header timeout", None, "request_header_timeout".into());
    }

    fn on_max_stream_duration(&self) {
        self.passed(Stage::StreamMaxDuration, 0);
        self.config.stats.downstream_rq_max_duration_reached.inc();
        let status = codes::request_timeout_code(self.remote_complete());
        self.send_local_reply_with(
            status,
            "downstream duration timeout",
            None,
            "max_duration_timeout".into(),
        );
    }

    /// Ends the stream through its connection manager.
    pub(super) fn end_stream(&self) {
        if let Some(this) = self.weak.upgrade() {
            self.with_manager(|m| m.do_end_stream(&this));
        }
    }

    /// The stream leaves its connection: filters and timers stop.
    pub(super) fn on_deferred_destroy(&self) {
        for timer in [
            &self.stream_idle_timer,
            &self.request_timer,
            &self.request_header_timer,
            &self.max_duration_timer,
        ] {
            timer.disable();
        }
        self.state.destroyed.set(true);
        for filter in (0..).map_while(|i| self.decoder_filter(i)) {
            filter.on_destroy();
        }
        for filter in (0..).map_while(|i| self.encoder_filter(i)) {
            filter.on_destroy();
        }
        drop(self.response_encoder.borrow_mut().take());
    }

    pub(super) fn charge_stats(&self, status: u16) {
        self.passed(Stage::ChargeStats, status.into());
        self.stream_info.response_code.set(Some(status));
        if self.stream_info.health_check.get() {
            return;
        }
        self.config.stats.downstream_rq_completed.inc();
        self.config.listener_stats.downstream_rq_completed.inc();
        self.config.stats.charge_class(status);
        self.config.listener_stats.charge_class(status);
    }

    fn maybe_end_decode(&self, end_stream: bool) {
        self.state.remote_complete.set(end_stream);
        if end_stream {
            self.passed(Stage::MaybeEndDecode, 0);
            self.stream_info.last_downstream_rx_byte_received.set(Some(event::now()));
            envoy_stream_log!(Http, debug, self.connection_id, self.stream_id, "request end stream");
        }
    }

    /// The route of the request, looked up when it is first wanted. While a filter has hold of the headers it is
    /// that of before.
    pub(super) fn route(&self) -> Option<RouteConstSharedPtr> {
        let cached = self.cached_route.borrow().clone();
        if !self.route_cleared.get()
            && let Some(route) = cached
        {
            return route;
        }
        let headers = self.request_headers.borrow().clone();
        let route = match headers.as_ref().map(|headers| headers.try_borrow()) {
            Some(Err(_)) => return cached.flatten(),
            Some(Ok(headers)) => self.config.route_config.route(&headers),
            None => None,
        };
        self.passed(Stage::RefreshCachedRoute, 0);
        self.route_cleared.set(false);
        if let Some(route) = &route
            && !route.name().is_empty()
        {
            self.stream_info.set_route_name(route.name());
        }
        *self.cached_route.borrow_mut() = Some(route.clone());
        route
    }

    /// Looks the route up anew between two filters, where nobody has hold of the headers.
    pub(super) fn refresh_cleared_route(&self) {
        if self.route_cleared.get() {
            self.route();
        }
    }

    pub(super) fn clear_route_cache(&self) {
        self.route_cleared.set(true);
    }

    pub(super) fn is_http_10(&self) -> bool {
        self.stream_info.protocol.get() == Some(Protocol::Http10)
    }

    /// Makes the filters of this stream; at most once.
    pub(super) fn create_filter_chain(&self) {
        if self.state.created_filter_chain.replace(true) {
            return;
        }
        self.passed(Stage::CreateFilterChain, self.config.filter_factories.len() as u64);
        for factory in &self.config.filter_factories {
            factory.create(self);
        }
    }

    pub(super) fn call_high_watermark_callbacks(&self) {
        self.passed(Stage::CallHighWatermark, 0);
        self.high_watermark_count.set(self.high_watermark_count.get() + 1);
        let callbacks = self.watermark_callbacks.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(callbacks) = callbacks {
            callbacks.on_above_write_buffer_high_watermark();
        }
    }

    pub(super) fn call_low_watermark_callbacks(&self) {
        self.passed(Stage::CallLowWatermark, 0);
        self.high_watermark_count.set(self.high_watermark_count.get().saturating_sub(1));
        let callbacks = self.watermark_callbacks.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(callbacks) = callbacks {
            callbacks.on_below_write_buffer_low_watermark();
        }
    }

    pub(super) fn set_watermark_callbacks(&self, callbacks: Option<Weak<dyn DownstreamWatermarkCallbacks>>) {
        *self.watermark_callbacks.borrow_mut() = callbacks.clone();
        if let Some(callbacks) = callbacks.and_then(|c| c.upgrade()) {
            for _ in 0..self.high_watermark_count.get() {
                callbacks.on_above_write_buffer_high_watermark();
            }
        }
    }

    /// What the response's head says of the connection: may start or decide its closing.
    pub(super) fn decide_connection_close(&self, manager: &ConnectionManagerImpl) {
        let stats = &self.config.stats;
        let not_draining = || manager.drain_state.get() == DrainState::NotDraining;
        if not_draining() && self.config.drain_decision.drain_close() {
            manager.start_drain_sequence();
            stats.downstream_cx_drain_close.inc();
            envoy_stream_log!(Http, debug, self.connection_id, self.stream_id, "drain closing connection");
        }
        let asked_to_close = self.state.saw_connection_close.get() || manager.max_duration_reached.get();
        if manager.drain_state.get() != DrainState::Closing && asked_to_close {
            envoy_stream_log!(
                Http,
                debug,
                self.connection_id,
                self.stream_id,
                "closing connection due to connection close header"
            );
            manager.drain_state.set(DrainState::Closing);
        }
        if !self.state.remote_complete.get() {
            manager.drain_state.set(DrainState::Closing);
            stats.downstream_rq_response_before_rq_complete.inc();
        }
    }
}

impl TimeoutCallbacks for ActiveStream {
    fn on_timeout(&self, which: u8) {
        match which {
            IDLE => self.on_idle_timeout(),
            REQUEST => self.on_request_timeout(),
            REQUEST_HEADER => self.on_request_header_timeout(),
            _ => self.on_max_stream_duration(),
        }
    }
}

impl StreamDecoder for ActiveStream {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        let _stage = self.stage(Stage::DecodeHeaders, end_stream.into(), 0);
        self.decode_request_headers(headers, end_stream);
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        let _stage = self.stage(Stage::DecodeData, data.len() as u64, end_stream.into());
        self.maybe_end_decode(end_stream);
        self.stream_info.add_bytes_received(data.len() as u64);
        self.decode_data_from(0, data, end_stream);
    }

    fn decode_trailers(&self, trailers: HeaderMapPtr) {
        let _stage = self.stage(Stage::DecodeTrailers, 0, 0);
        self.reset_idle_timer();
        self.maybe_end_decode(true);
        *self.request_trailers.borrow_mut() = Some(trailers.clone());
        self.decode_trailers_from(0, &trailers);
    }
}

impl RequestDecoder for ActiveStream {
    fn send_local_reply(&self, status: u16, body: &str, details: &'static str) {
        self.stream_info.set_response_flag(ResponseFlag::DownstreamProtocolError);
        self.state.saw_connection_close.set(true);
        self.send_local_reply_with(status, body, None, details.into());
    }
}

impl StreamCallbacks for ActiveStream {
    fn on_reset_stream(&self, reason: StreamResetReason) {
        envoy_stream_log!(Http, debug, self.connection_id, self.stream_id, "stream reset");
        let _stage = self.stage(Stage::StreamReset, reason as u64, 0);
        self.config.stats.downstream_rq_rx_reset.inc();
        if let Some(this) = self.weak.upgrade() {
            self.with_manager(|m| m.do_deferred_stream_destroy(&this));
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "Disabling upstream stream due to downstream stream watermark."
        );
        self.call_high_watermark_callbacks();
    }

    fn on_below_write_buffer_low_watermark(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "Enabling upstream stream due to downstream stream watermark."
        );
        self.call_low_watermark_callbacks();
    }
}

impl FilterChainFactoryCallbacks for ActiveStream {
    fn add_stream_decoder_filter(&self, filter: Rc<dyn StreamDecoderFilter>) {
        let index = self.decoder_filters.borrow().len();
        let wrapper = ActiveStreamDecoderFilter::new(&self.weak, self, index, filter);
        self.decoder_filters.borrow_mut().push(wrapper);
    }

    fn add_stream_encoder_filter(&self, filter: Rc<dyn StreamEncoderFilter>) {
        self.add_encoder_filter(filter, false);
    }

    fn add_stream_filter(&self, filter: Rc<dyn StreamFilter>) {
        self.add_stream_decoder_filter(filter.clone());
        self.add_encoder_filter(filter, true);
    }
}

impl ActiveStream {
    fn add_encoder_filter(&self, filter: Rc<dyn StreamEncoderFilter>, dual: bool) {
        let wrapper = ActiveStreamEncoderFilter::new(&self.weak, self, filter, dual);
        // The last filter of the request is the first of the response.
        let mut filters = self.encoder_filters.borrow_mut();
        filters.insert(0, wrapper);
        filters.iter().enumerate().for_each(|(i, f)| f.set_index(i));
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.passed(Stage::ActiveStreamGoes, self.config.access_logs.len() as u64);
        let info = &self.stream_info;
        info.request_complete.set(Some(event::now()));
        // No flag and no status: the downstream went away before there was an answer.
        if !info.has_any_response_flag() && info.response_code.get().is_none() {
            info.set_response_flag(ResponseFlag::DownstreamConnectionTermination);
        }
        self.config.stats.downstream_rq_active.dec();
        if self.config.access_logs.is_empty() {
            return;
        }
        let (request, response) = (self.request_headers.borrow(), self.response_headers.borrow());
        let trailers = self.response_trailers.borrow();
        let (request, response, trailers) = (
            request.as_ref().map(|h| h.borrow()),
            response.as_ref().map(|h| h.borrow()),
            trailers.as_ref().map(|h| h.borrow()),
        );
        for log in &self.config.access_logs {
            log.log(request.as_deref(), response.as_deref(), trailers.as_deref(), info);
        }
    }
}
