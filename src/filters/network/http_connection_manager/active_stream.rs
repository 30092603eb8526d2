//! One request and its response.
//!
//! Mirrors `ConnectionManagerImpl::ActiveStream` of Envoy's `source/common/http/conn_manager_impl.cc`.
//! The passing of headers and data along the filters is the filter manager's (`filters/http/manager/`); what has passed
//! them comes back in [`response`].

mod request_head;
mod response;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::config::WorkerConfig;
use super::conn_manager::ConnectionManagerImpl;
use crate::access_log::LogContext;
use crate::buffer::Buffer;
use crate::config::access_log::AccessLogType;
use crate::envoy_stream_log;
use crate::event::{self, Moment, Timeout, TimeoutCallbacks};
use crate::filters::http::manager::FilterManager;
use crate::http::{
    HeaderMap, HeaderMapPtr, RequestDecoder, StreamCallbacks, StreamDecoder, StreamEncoder,
    StreamResetReason, codes,
};
use crate::router::{RouteConstSharedPtr, RouteTable};
use crate::stream_info::{ResponseFlag, StreamInfoImpl};
use crate::trace::{self, Stage, log_stage};

/// What a stream's timers are for.
const IDLE: u8 = 0;
const REQUEST: u8 = 1;
const REQUEST_HEADER: u8 = 2;
const MAX_DURATION: u8 = 3;
const ACCESS_LOG: u8 = 4;

/// What a request of gRPC that takes too long is told.
const GRPC_DEADLINE_EXCEEDED: u32 = 4;

/// See the module's description.
pub struct ActiveStream {
    weak: Weak<ActiveStream>,
    pub(super) manager: Weak<ConnectionManagerImpl>,
    pub(super) config: Rc<WorkerConfig>,
    pub(super) connection_id: u64,
    pub(super) stream_id: u64,
    filter_manager: FilterManager,
    response_encoder: RefCell<Option<Rc<dyn StreamEncoder>>>,
    pub(super) request_traits: RequestTraits,
    /// The table that the stream goes by, where it may be replaced.
    snapped_route_config: OnceCell<RouteTable>,
    /// The record has the route, or that there is none.
    route_is_cached: Cell<bool>,
    cached_route: RefCell<Option<RouteConstSharedPtr>>,
    /// Of a stream whose route says how long it may be idle.
    stream_idle_timer: Timeout,
    /// The connection's timer is for this stream, too.
    is_watched: Cell<bool>,
    idle_timeout: Cell<Duration>,
    last_activity: Cell<Moment>,
    request_timer: Timeout,
    request_header_timer: Timeout,
    max_duration_timer: Timeout,
    access_log_timer: Timeout,
    state: StreamState,
}

/// Where a stream stands, as far as its connection goes.
#[derive(Default)]
struct StreamState {
    /// The end of the response has been given to the codec.
    codec_saw_local_complete: Cell<bool>,
    /// The response's headers tell how long the body is.
    response_has_length: Cell<bool>,
    saw_connection_close: Cell<bool>,
    /// The request has passed its filters in an earlier stream.
    is_internally_created: Cell<bool>,
    /// The request goes on in a later stream, whose access log says how it ends.
    is_recreated: Cell<bool>,
    /// The stream carries another protocol.
    successful_upgrade: Cell<bool>,
    /// It was to, and has the filters of others.
    upgrade_rejected: Cell<bool>,
}

/// What a response has to know of its request, noted before the filters see it: one of them may have hold of the
/// headers while it is answered.
#[derive(Default)]
pub(super) struct RequestTraits {
    pub is_upgrade: Cell<bool>,
    /// It is a CONNECT.
    pub is_connect: Cell<bool>,
    pub force_trace: Cell<bool>,
    /// The request's id, where the response has to bear it.
    pub id: RefCell<Option<Box<[u8]>>>,
}

impl ActiveStream {
    #[inline(always)]
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
        let connection_id = connection.as_ref().map_or(0, |c| c.id());
        let stream_id = fastrand::u64(..);
        let stream = Rc::new_cyclic(|weak: &Weak<ActiveStream>| ActiveStream {
            weak: weak.clone(),
            manager: manager.clone(),
            connection_id,
            stream_id,
            filter_manager: FilterManager::new(
                weak.clone(),
                &parent.config.dispatcher,
                (connection_id, stream_id),
                config.proxy_100_continue,
                response_encoder.stream().buffer_limit(),
            ),
            response_encoder: RefCell::new(Some(response_encoder)),
            request_traits: RequestTraits::default(),
            snapped_route_config: OnceCell::new(),
            route_is_cached: Cell::new(false),
            cached_route: RefCell::default(),
            stream_idle_timer: Timeout::default(),
            is_watched: Cell::new(true),
            idle_timeout: Cell::new(config.stream_idle_timeout),
            last_activity: Cell::new(event::now()),
            request_timer: Timeout::default(),
            request_header_timer: Timeout::default(),
            max_duration_timer: Timeout::default(),
            access_log_timer: Timeout::default(),
            state: StreamState::default(),
            config,
        });
        if let Some(connection) = connection {
            let info = stream.stream_info();
            info.stream_id.set(stream.stream_id);
            info.scheme_matches_upstream.set(stream.config.scheme_matches_upstream);
            info.set_downstream_connection(connection.connection_info());
            info.protocol.set(parent.codec().map(|c| c.protocol()));
        }
        stream.start_timers(parent);
        stream
    }

    fn start_timers(&self, parent: &ConnectionManagerImpl) {
        parent.watch_for_idle_streams();
        let config = &self.config;
        self.arm(&self.request_timer, REQUEST, config.request_timeout);
        self.arm(&self.request_header_timer, REQUEST_HEADER, config.request_headers_timeout);
        self.arm(&self.max_duration_timer, MAX_DURATION, config.max_stream_duration.unwrap_or_default());
        self.arm_access_log_timer();
    }

    fn arm_access_log_timer(&self) {
        if let Some(interval) = self.config.access_log_options.access_log_flush_interval {
            self.arm(&self.access_log_timer, ACCESS_LOG, interval);
        }
    }

    /// Zero is no timeout.
    fn arm(&self, timer: &Timeout, which: u8, after: Duration) {
        if !after.is_zero() {
            timer.enable(self.filter_manager.dispatcher(), self.weak.clone(), which, after);
        }
    }

    /// The table that the request's route is looked up in: that of the first time.
    fn route_table(&self) -> &RouteTable {
        let snapshot =
            || self.snapped_route_config.get_or_init(|| self.config.route_config_provider.config());
        self.config.static_routes.as_ref().unwrap_or_else(snapshot)
    }

    pub(super) fn weak(&self) -> Weak<ActiveStream> {
        self.weak.clone()
    }

    pub(super) fn stream_info(&self) -> &Rc<StreamInfoImpl> {
        self.filter_manager.stream_info()
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
        self.remote_complete() && self.state.codec_saw_local_complete.get()
    }

    pub(super) fn remote_complete(&self) -> bool {
        self.filter_manager.remote_complete()
    }

    pub(super) fn set_local_complete(&self) {
        self.filter_manager.set_local_complete();
        self.state.codec_saw_local_complete.set(true);
    }

    /// The request as it is now, for a stream that begins anew with it: what came of its body is what the filters have
    /// kept back.
    pub(super) fn take_request(&self) -> Option<(HeaderMap, Option<Buffer>)> {
        self.state.is_recreated.set(true);
        let headers = self.filter_manager.request_headers()?;
        let body = self.filter_manager.take_buffered_request_data().filter(|body| !body.is_empty());
        let headers = headers.borrow().clone();
        Some((headers, body))
    }

    /// Begins with a request that has passed the filters of another stream.
    pub(super) fn restart(&self, before: &ActiveStream, headers: HeaderMap, body: Option<Buffer>) {
        let info = before.stream_info();
        self.state.saw_connection_close.set(before.state.saw_connection_close.get());
        self.state.is_internally_created.set(true);
        self.stream_info().set_downstream_remote_address(info.downstream_remote_address());
        if let Some(state) = info.filter_state() {
            self.stream_info().make_filter_state().inherit(state);
        }
        self.decode_headers(headers.shared(), body.is_none());
        if let Some(mut body) = body {
            self.decode_data(&mut body, true);
        }
    }

    pub(super) fn log_end_stream_reset(&self) {
        envoy_stream_log!(Http, debug, self.connection_id, self.stream_id, "doEndStream() resetting stream");
    }

    /// Tells the access logs of the stream, and those filters that log.
    pub(super) fn log(&self, log_type: AccessLogType) {
        let manager = &self.filter_manager;
        let handlers = manager.access_log_handlers();
        if self.config.access_logs.is_empty() && handlers.is_empty() {
            return;
        }
        // A filter has answered before the router came to it.
        if let Some(route) = &*self.cached_route.borrow()
            && self.stream_info().upstream_cluster_info().is_none()
        {
            self.note_cluster(route);
        }
        let (request, response) = (manager.request_headers(), manager.response_headers());
        let trailers = manager.response_trailers();
        let (request, response, trailers) = (
            request.as_ref().map(|h| h.borrow()),
            response.as_ref().map(|h| h.borrow()),
            trailers.as_ref().map(|h| h.borrow()),
        );
        let context = LogContext {
            request_headers: request.as_deref(),
            response_headers: response.as_deref(),
            response_trailers: trailers.as_deref(),
            local_reply_body: b"",
            log_type,
            stream_info: self.stream_info(),
        };
        for log in &self.config.access_logs {
            log.log(&context);
        }
        for handler in handlers {
            handler.log(&context);
        }
    }

    /// Whether the connection's timer is for this stream, too.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.get()
    }

    fn on_idle_timeout(&self) {
        if let Some(left) = self.end_if_idle() {
            let dispatcher = self.filter_manager.dispatcher();
            self.stream_idle_timer.enable_alone(dispatcher, self.weak.clone(), IDLE, left);
        }
    }

    /// Answers in place of a stream that was idle for too long; else says for how long it may yet be.
    pub(super) fn end_if_idle(&self) -> Option<Duration> {
        let left = self.idle_timeout.get().saturating_sub(self.last_activity.get().elapsed());
        // The loop's timers have a resolution of a millisecond.
        if left > Duration::from_millis(1) {
            return Some(left);
        }
        self.is_watched.set(false);
        self.passed(Stage::StreamIdleTimeout, 0);
        self.config.stats.downstream_rq_idle_timeout.inc();
        self.stream_info().set_response_flag(ResponseFlag::StreamIdleTimeout);
        let status = codes::request_timeout_code(self.remote_complete());
        self.filter_manager.send_local_reply(status, "stream timeout", None, "stream_idle_timeout".into());
        None
    }

    fn on_request_timeout(&self) {
        self.passed(Stage::StreamRequestTimeout, 0);
        self.config.stats.downstream_rq_timeout.inc();
        self.filter_manager.send_local_reply(408, "request timeout", None, "request_overall_timeout".into());
    }

    fn on_request_header_timeout(&self) {
        self.passed(Stage::StreamHeaderTimeout, 0);
        self.config.stats.downstream_rq_header_timeout.inc();
        self.filter_manager.send_local_reply(
            408,
            "request header timeout",
            None,
            "request_header_timeout".into(),
        );
    }

    fn on_max_stream_duration(&self) {
        self.passed(Stage::StreamMaxDuration, 0);
        self.config.stats.downstream_rq_max_duration_reached.inc();
        let status = codes::request_timeout_code(self.remote_complete());
        self.filter_manager.send_local_reply_with_grpc_status(
            status,
            "downstream duration timeout",
            None,
            Some(GRPC_DEADLINE_EXCEEDED),
            "max_duration_timeout".into(),
        );
    }

    /// Ends the stream through its connection manager.
    fn do_end_stream(&self) {
        if let Some(this) = self.weak.upgrade() {
            self.with_manager(|m| m.do_end_stream(&this));
        }
    }

    /// The stream leaves its connection: filters and timers stop.
    pub(super) fn on_deferred_destroy(&self) {
        self.is_watched.set(false);
        for timer in [
            &self.stream_idle_timer,
            &self.request_timer,
            &self.request_header_timer,
            &self.max_duration_timer,
            &self.access_log_timer,
        ] {
            timer.disable();
        }
        self.filter_manager.destroy_filters();
        drop(self.response_encoder.borrow_mut().take());
    }
}

impl TimeoutCallbacks for ActiveStream {
    fn on_timeout(&self, which: u8) {
        match which {
            IDLE => self.on_idle_timeout(),
            REQUEST => self.on_request_timeout(),
            REQUEST_HEADER => self.on_request_header_timeout(),
            MAX_DURATION => self.on_max_stream_duration(),
            _ => {
                self.log(AccessLogType::DownstreamPeriodic);
                self.arm_access_log_timer();
            }
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
        self.filter_manager.maybe_end_decode(end_stream);
        self.stream_info().add_bytes_received(data.len() as u64);
        self.filter_manager.decode_data(data, end_stream);
    }

    fn decode_trailers(&self, trailers: HeaderMapPtr) {
        let _stage = self.stage(Stage::DecodeTrailers, 0, 0);
        self.filter_manager.maybe_end_decode(true);
        self.filter_manager.decode_trailers(trailers);
    }
}

impl RequestDecoder for ActiveStream {
    fn send_local_reply(&self, status: u16, body: &str, details: &'static str) {
        self.state.saw_connection_close.set(true);
        self.filter_manager.send_local_reply(status, body, None, details.into());
        self.stream_info().set_response_flag(ResponseFlag::DownstreamProtocolError);
    }
}

impl StreamCallbacks for ActiveStream {
    fn on_reset_stream(&self, reason: StreamResetReason) {
        log_stage!(StreamReset(self.connection_id, self.stream_id));
        let _stage = self.stage(Stage::StreamReset, reason as u64, 0);
        self.config.stats.downstream_rq_rx_reset.inc();
        if let Some(this) = self.weak.upgrade() {
            self.with_manager(|m| m.do_deferred_stream_destroy(&this));
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        log_stage!(CallHighWatermark(self.connection_id, self.stream_id));
        self.filter_manager.call_high_watermark_callbacks();
    }

    fn on_below_write_buffer_low_watermark(&self) {
        log_stage!(CallLowWatermark(self.connection_id, self.stream_id));
        self.filter_manager.call_low_watermark_callbacks();
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.passed(Stage::ActiveStreamGoes, self.config.access_logs.len() as u64);
        let info = self.stream_info();
        info.request_complete.set(Some(event::now()));
        // No flag and no status: the downstream went away before there was an answer.
        let unanswered = !info.has_any_response_flag() && info.response_code.get().is_none();
        if unanswered && !self.state.is_recreated.get() {
            info.set_response_flag(ResponseFlag::DownstreamConnectionTermination);
        }
        self.config.stats.downstream_rq_active.dec();
        if self.state.successful_upgrade.get() {
            self.config.stats.downstream_cx_upgrades_active.dec();
        }
        self.log(AccessLogType::DownstreamEnd);
    }
}
