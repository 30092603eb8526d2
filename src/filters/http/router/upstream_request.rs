//! One try to have the request answered by an upstream.
//!
//! Mirrors `Filter::UpstreamRequest` of Envoy's `source/common/router/router.cc`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::filter::{Filter, response_flag};
use super::generic_conn_pool::GenericConnPool;
use super::tracked_try::TrackedTry;
use super::tunnel;
use super::upstream_log::UpstreamLog;
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::config::access_log::AccessLogType;
use crate::conn_pool::{Callbacks, Cancellable, PoolFailureReason};
use crate::envoy_stream_log;
use crate::event::{self, Moment, Timeout, TimeoutCallbacks};
use crate::filters::http::DownstreamWatermarkCallbacks;
use crate::http::{HeaderId, HeaderMapPtr, StreamCallbacks, StreamDecoder, StreamEncoder, StreamResetReason};
use crate::stream_info::{ResponseFlag, StreamInfoImpl};
use crate::trace::{self, Ids, Stage, log_stage, stage};
use crate::upstream::WorkerHost;
use crate::upstream::load_balancer::LoadBalancerContext;
use crate::upstream::outlier_detection::OutlierResult;

/// What a try's timers are for.
const PER_TRY: u8 = 0;
const MAX_DURATION: u8 = 1;
const PER_TRY_IDLE: u8 = 2;
const LOG: u8 = 3;

/// See the module's description.
pub(super) struct UpstreamRequest {
    weak: Weak<UpstreamRequest>,
    parent: Weak<Filter>,
    connection_id: u64,
    stream_id: u64,
    pool_handle: RefCell<Option<Rc<dyn Cancellable>>>,
    request_encoder: RefCell<Option<Rc<dyn StreamEncoder>>>,
    host: RefCell<Option<Rc<WorkerHost>>>,
    /// The body that came before there was a connection.
    buffered_request_body: RefCell<Option<WatermarkBuffer>>,
    /// The request's body goes over a raw connection.
    is_raw: Cell<bool>,
    /// What follows the head waits until the upstream has agreed.
    paused_for_tunnel: Cell<bool>,
    per_try_timeout: Timeout,
    per_try_idle_timeout: Timeout,
    max_stream_duration_timer: Timeout,
    encode_complete: Cell<bool>,
    encode_trailers: Cell<bool>,
    calling_encode_headers: Cell<bool>,
    seen_1xx_headers: Cell<bool>,
    awaiting_headers: Cell<bool>,
    /// Another try is under way, or waited for, in place of this one.
    retried: Cell<bool>,
    /// It has taken too long, goes on, and is not to be held against the host once more.
    outlier_detection_timeout_recorded: Cell<bool>,
    /// The times of the try begin when the request is complete.
    awaiting_request_complete: Cell<bool>,
    deferred_reset_reason: Cell<Option<StreamResetReason>>,
    start: Moment,
    first_tx: Cell<Option<Moment>>,
    last_tx: Cell<Option<Moment>>,
    first_rx: Cell<Option<Moment>>,
    last_rx: Cell<Option<Moment>>,
    /// Where tries are logged.
    log: Option<Box<UpstreamLog>>,
    /// Where their cluster counts more of them.
    tracked: Option<Box<TrackedTry>>,
}

impl UpstreamRequest {
    pub(super) fn new(weak_parent: &Weak<Filter>, parent: &Filter) -> Rc<Self> {
        Rc::new_cyclic(|weak| UpstreamRequest {
            weak: weak.clone(),
            parent: weak_parent.clone(),
            connection_id: parent.connection_id.get(),
            stream_id: parent.stream_id.get(),
            pool_handle: RefCell::default(),
            request_encoder: RefCell::default(),
            host: RefCell::default(),
            buffered_request_body: RefCell::default(),
            is_raw: Cell::new(false),
            paused_for_tunnel: Cell::new(false),
            per_try_timeout: Timeout::default(),
            per_try_idle_timeout: Timeout::default(),
            max_stream_duration_timer: Timeout::default(),
            encode_complete: Cell::new(false),
            encode_trailers: Cell::new(false),
            calling_encode_headers: Cell::new(false),
            seen_1xx_headers: Cell::new(false),
            awaiting_headers: Cell::new(true),
            retried: Cell::new(false),
            outlier_detection_timeout_recorded: Cell::new(false),
            awaiting_request_complete: Cell::new(false),
            deferred_reset_reason: Cell::new(None),
            start: event::now(),
            first_tx: Cell::new(None),
            last_tx: Cell::new(None),
            first_rx: Cell::new(None),
            last_rx: Cell::new(None),
            log: UpstreamLog::create(parent),
            tracked: TrackedTry::create(parent),
        })
    }

    fn with_parent(&self, f: impl FnOnce(&Filter)) {
        if let Some(parent) = self.parent.upgrade() {
            f(&parent);
        }
    }

    fn encoder(&self) -> Option<Rc<dyn StreamEncoder>> {
        self.request_encoder.borrow().clone()
    }

    /// The host that serves the request, once there is one.
    pub(super) fn host(&self) -> Option<Rc<WorkerHost>> {
        self.host.borrow().clone()
    }

    /// Whether the head of the response is still to come.
    pub(super) fn awaiting_headers(&self) -> bool {
        self.awaiting_headers.get()
    }

    /// Whether the whole request has been sent, or waits to be.
    pub(super) fn encode_complete(&self) -> bool {
        self.encode_complete.get()
    }

    /// Whether something of the request has been sent.
    pub(super) fn has_sent(&self) -> bool {
        self.first_tx.get().is_some()
    }

    /// Whether there is another try in place of this one.
    pub(super) fn retried(&self) -> bool {
        self.retried.get()
    }

    /// Says that there is.
    pub(super) fn set_retried(&self) {
        self.retried.set(true);
    }

    /// Tells who watches the host what has come of this try.
    pub(super) fn update_outlier_detection(&self, result: OutlierResult, status: Option<u16>) {
        let host = self.host();
        if let Some(monitor) = host.as_ref().and_then(|host| host.outlier_detector()) {
            self.passed(Stage::UpdateOutlierDetection, result as u64, status.unwrap_or(0).into());
            monitor.put_result(result, status);
        }
    }

    /// The same of a timeout, once.
    pub(super) fn record_timeout_for_outlier_detection(&self, status: u16) {
        if !self.outlier_detection_timeout_recorded.replace(true) {
            self.update_outlier_detection(OutlierResult::LocalOriginTimeout, Some(status));
        }
    }

    /// Passes the times of this try on to the stream's record.
    pub(super) fn copy_timing(&self, info: &StreamInfoImpl) {
        info.first_upstream_tx_byte_sent.set(self.first_tx.get());
        info.last_upstream_tx_byte_sent.set(self.last_tx.get());
        info.first_upstream_rx_byte_received.set(self.first_rx.get());
        info.last_upstream_rx_byte_received.set(self.last_rx.get());
    }

    /// Records that the request has passed a stage.
    fn passed(&self, stage: Stage, a: u64, b: u64) {
        trace::instant(stage, Some(self.connection_id), self.stream_id, a, b);
    }

    /// Asks the pool for a connection; the head is sent when there is one, which may be at once.
    pub(super) fn encode_headers(&self, pool: &GenericConnPool, end_stream: bool) {
        self.passed(Stage::EncodeHeadersToPool, 0, end_stream.into());
        self.encode_complete.set(end_stream);
        self.is_raw.set(pool.is_raw());
        let decoder: Weak<dyn StreamDecoder> = self.weak.clone();
        let callbacks: Weak<dyn Callbacks> = self.weak.clone();
        if let Some(handle) = pool.new_stream(
            decoder,
            callbacks,
            Ids { connection: self.connection_id, stream: self.stream_id },
        ) {
            *self.pool_handle.borrow_mut() = Some(handle);
            // As 1.40: the log names the host also where the request ends while it waits.
            self.with_parent(|parent| note_host(parent, pool.host()));
            if let Some(log) = &self.log {
                log.info.set_upstream_host(pool.host());
            }
        }
    }

    pub(super) fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        if let Some(tracked) = &self.tracked {
            tracked.add_request_body(data.len());
        }
        self.encode_complete.set(end_stream);
        let encoder = self.encoder();
        self.passed(Stage::BufferRequestBody, data.len() as u64, encoder.is_none().into());
        let Some(encoder) = encoder.filter(|_| !self.paused_for_tunnel.get()) else {
            envoy_stream_log!(
                Router,
                trace,
                self.connection_id,
                self.stream_id,
                "buffering {} bytes",
                data.len()
            );
            self.buffer_body(data);
            return;
        };
        envoy_stream_log!(Router, trace, self.connection_id, self.stream_id, "proxying {} bytes", data.len());
        self.note_sent(data);
        encoder.encode_data(data, end_stream);
        if end_stream {
            self.last_tx.set(Some(event::now()));
        }
    }

    fn buffer_body(&self, data: &mut Buffer) {
        let limit = self.parent.upgrade().map_or(0, |parent| parent.buffer_limit.get());
        let went_above = {
            let mut slot = self.buffered_request_body.borrow_mut();
            let body = slot.get_or_insert_with(|| {
                let mut body = WatermarkBuffer::default();
                body.set_watermarks(limit);
                body
            });
            body.buffer.move_from(data);
            body.went_above()
        };
        if went_above {
            self.disable_data_from_downstream();
        }
    }

    pub(super) fn encode_trailers(&self, trailers: &HeaderMapPtr) {
        self.encode_complete.set(true);
        self.encode_trailers.set(true);
        self.passed(Stage::UpstreamEncodeTrailers, self.encoder().is_none().into(), 0);
        match self.encoder() {
            None => {
                envoy_stream_log!(Router, trace, self.connection_id, self.stream_id, "buffering trailers");
            }
            Some(encoder) => {
                envoy_stream_log!(Router, trace, self.connection_id, self.stream_id, "proxying trailers");
                encoder.encode_trailers(trailers);
                self.last_tx.set(Some(event::now()));
            }
        }
    }

    /// Gives the try up: leaves the pool's queue, or resets the stream.
    pub(super) fn reset_stream(&self) {
        let handle = self.pool_handle.borrow_mut().take();
        if let Some(handle) = handle {
            envoy_stream_log!(Router, debug, self.connection_id, self.stream_id, "cancelling pool request");
            self.passed(Stage::ResetUpstreamRequest, 1, 0);
            handle.cancel();
        }
        if let Some(encoder) = self.encoder() {
            log_stage!(ResetUpstreamRequest(self.connection_id, self.stream_id));
            self.passed(Stage::ResetUpstreamRequest, 0, 0);
            let callbacks: Weak<dyn StreamCallbacks> = self.weak.clone();
            encoder.stream().remove_callbacks(&callbacks);
            encoder.stream().reset_stream(StreamResetReason::LocalReset);
            self.clear_request_encoder();
        }
    }

    fn set_request_encoder(&self, encoder: Rc<dyn StreamEncoder>) {
        *self.request_encoder.borrow_mut() = Some(encoder);
        self.follow_downstream_watermarks();
    }

    /// From here on the downstream's watermarks reach the upstream connection.
    pub(super) fn follow_downstream_watermarks(&self) {
        self.with_parent(|parent| {
            if let Some(callbacks) = parent.callbacks() {
                let watermarks: Weak<dyn DownstreamWatermarkCallbacks> = self.weak.clone();
                callbacks.add_downstream_watermark_callbacks(watermarks);
            }
        });
    }

    pub(super) fn clear_request_encoder(&self) {
        if self.request_encoder.borrow_mut().take().is_some() {
            self.with_parent(|parent| {
                if let Some(callbacks) = parent.callbacks() {
                    callbacks.remove_downstream_watermark_callbacks();
                }
            });
        }
    }

    /// The request is complete, and the times of a try that has a connection begin.
    pub(super) fn on_request_complete(&self, parent: &Filter) {
        if self.awaiting_request_complete.get() {
            self.setup_per_try_timeout(parent);
        }
    }

    fn setup_per_try_timeout(&self, parent: &Filter) {
        let timeout = parent.per_try_timeout();
        let Some(callbacks) = parent.callbacks() else { return };
        if !timeout.is_zero() {
            self.per_try_timeout.enable(callbacks.dispatcher(), self.weak.clone(), PER_TRY, timeout);
        }
        let idle = parent.per_try_idle_timeout();
        if !idle.is_zero() {
            self.per_try_idle_timeout.enable(callbacks.dispatcher(), self.weak.clone(), PER_TRY_IDLE, idle);
        }
    }

    /// Something has come: the next pause begins.
    fn reset_per_try_idle_timer(&self) {
        if self.per_try_idle_timeout.disable() {
            self.with_parent(|parent| {
                let Some(callbacks) = parent.callbacks() else { return };
                let (dispatcher, this) = (callbacks.dispatcher(), self.weak.clone());
                self.per_try_idle_timeout.enable(
                    dispatcher,
                    this,
                    PER_TRY_IDLE,
                    parent.per_try_idle_timeout(),
                );
            });
        }
    }

    fn setup_max_stream_duration(&self, parent: &Filter) {
        let duration = parent.cluster().and_then(|cluster| cluster.max_stream_duration());
        let (Some(duration), Some(callbacks)) = (duration, parent.callbacks()) else { return };
        let timer = &self.max_stream_duration_timer;
        timer.enable(callbacks.dispatcher(), self.weak.clone(), MAX_DURATION, duration);
    }

    fn on_stream_max_duration_reached(&self) {
        let Some(parent) = self.parent.upgrade() else { return };
        self.passed(Stage::UpstreamMaxDuration, 0, 0);
        self.set_response_flag(ResponseFlag::UpstreamMaxStreamDurationReached);
        if let Some(cluster) = parent.cluster() {
            cluster.stats().upstream_rq_max_duration_reached().inc();
        }
        self.reset_stream();
        parent.on_stream_max_duration_reached(self);
    }

    fn on_per_try_timeout(&self) {
        let Some(parent) = self.parent.upgrade() else { return };
        if parent.downstream_response_started() {
            envoy_stream_log!(
                Router,
                debug,
                self.connection_id,
                self.stream_id,
                "ignored upstream per try timeout due to already started downstream response"
            );
            return;
        }
        envoy_stream_log!(Router, debug, self.connection_id, self.stream_id, "upstream per try timeout");
        self.passed(Stage::PerTryTimeout, 0, 0);
        self.set_response_flag(ResponseFlag::UpstreamRequestTimeout);
        parent.on_per_try_timeout(self, false);
    }

    fn on_per_try_idle_timeout(&self) {
        let Some(parent) = self.parent.upgrade() else { return };
        envoy_stream_log!(Router, debug, self.connection_id, self.stream_id, "upstream per try idle timeout");
        self.passed(Stage::PerTryIdleTimeout, 0, 0);
        self.set_response_flag(ResponseFlag::StreamIdleTimeout);
        parent.on_per_try_timeout(self, true);
    }

    #[inline(always)]
    fn on_host_selected(&self, parent: &Filter, host: &Rc<WorkerHost>) {
        *self.host.borrow_mut() = Some(host.clone());
        if let Some(log) = &self.log {
            log.info.set_upstream_host(host);
        }
        parent.on_upstream_host_selected(host);
        note_host(parent, host);
    }

    fn disable_data_from_downstream(&self) {
        self.passed(Stage::DisableDataFromDownstream, 0, 0);
        self.with_parent(|parent| {
            if let Some(cluster) = parent.cluster() {
                cluster.stats().upstream_flow_control_backed_up_total().inc();
            }
            if let Some(callbacks) = parent.callbacks() {
                callbacks.on_decoder_filter_above_write_buffer_high_watermark();
            }
        });
    }

    fn enable_data_from_downstream(&self) {
        self.passed(Stage::EnableDataFromDownstream, 0, 0);
        self.with_parent(|parent| {
            if let Some(cluster) = parent.cluster() {
                cluster.stats().upstream_flow_control_drained_total().inc();
            }
            if let Some(callbacks) = parent.callbacks() {
                callbacks.on_decoder_filter_below_write_buffer_low_watermark();
            }
        });
    }

    /// Sends what there is of the request.
    fn send_request(&self, parent: &Filter, encoder: &Rc<dyn StreamEncoder>) {
        let Some(mut headers) = parent.downstream_headers() else { return };
        if let Some(host) = self.host() {
            headers = parent.headers_for(headers, &host);
        }
        let is_tunnel = !self.is_raw.get() && tunnel::waits_for_answer(&headers.borrow());
        self.paused_for_tunnel.set(is_tunnel);
        let has_body = self.buffered_request_body.borrow().is_some();
        let trailers = self.encode_trailers.get();
        let complete = self.encode_complete.get();
        self.calling_encode_headers.set(true);
        encoder.encode_headers(&headers, !has_body && complete && !trailers);
        self.calling_encode_headers.set(false);
        if let Some(reason) = self.deferred_reset_reason.take() {
            self.on_reset_stream(reason);
            return;
        }
        // What waits in a tunnel is sent when there is an answer, which may have come at once.
        if !is_tunnel {
            self.send_body(parent, encoder);
        }
    }

    /// Sends what has been kept behind the head.
    fn send_body(&self, parent: &Filter, encoder: &Rc<dyn StreamEncoder>) {
        let (trailers, complete) = (self.encode_trailers.get(), self.encode_complete.get());
        let body = self.buffered_request_body.borrow_mut().take();
        if let Some(mut body) = body {
            self.note_sent(&body.buffer);
            encoder.encode_data(&mut body.buffer, complete && !trailers);
            if body.went_below() {
                self.enable_data_from_downstream();
            }
        }
        if trailers && let Some(trailers) = parent.downstream_trailers() {
            encoder.encode_trailers(&trailers);
        }
        if complete {
            self.last_tx.set(Some(event::now()));
        }
    }

    fn note_sent(&self, data: &Buffer) {
        if let Some(log) = &self.log {
            log.info.add_bytes_sent(data.len() as u64);
        }
    }

    fn set_response_flag(&self, flag: ResponseFlag) {
        if let Some(log) = &self.log {
            log.info.set_response_flag(flag);
        }
    }

    /// Logs and counts the try, which is over.
    pub(super) fn log_end(&self, parent: &Filter) {
        if let Some(tracked) = &self.tracked {
            tracked.end(parent, self.start);
        }
        let Some(log) = &self.log else { return };
        log.timer.disable();
        self.copy_timing(&log.info);
        log.info.request_complete.set(Some(event::now()));
        log.log(parent, AccessLogType::UpstreamEnd);
    }

    fn log_periodically(&self, parent: &Filter) {
        let (Some(log), Some(logs), Some(callbacks)) =
            (&self.log, &parent.config.upstream_logs, parent.callbacks())
        else {
            return;
        };
        if let Some(interval) = logs.flush_interval {
            log.timer.enable(callbacks.dispatcher(), self.weak.clone(), LOG, interval);
        }
    }

    fn note_rx(&self, end_stream: bool) {
        let now = Some(event::now());
        if self.first_rx.get().is_none() {
            self.first_rx.set(now);
        }
        if end_stream {
            self.last_rx.set(now);
        }
    }
}

/// Has the stream's record name the host.
fn note_host(parent: &Filter, host: &Rc<WorkerHost>) {
    if let Some(info) = parent.stream_info() {
        info.set_upstream_host(host);
    }
}

impl TimeoutCallbacks for UpstreamRequest {
    fn on_timeout(&self, which: u8) {
        match which {
            PER_TRY => self.on_per_try_timeout(),
            PER_TRY_IDLE => self.on_per_try_idle_timeout(),
            LOG => self.with_parent(|parent| {
                if let Some(log) = &self.log {
                    self.copy_timing(&log.info);
                    log.log(parent, AccessLogType::UpstreamPeriodic);
                }
                self.log_periodically(parent);
            }),
            _ => self.on_stream_max_duration_reached(),
        }
    }
}

impl Callbacks for UpstreamRequest {
    fn on_pool_ready(&self, encoder: Rc<dyn StreamEncoder>, host: &Rc<WorkerHost>) {
        let _stage = stage!(scope OnPoolReady(self.connection_id, self.stream_id));
        let Some(parent) = self.parent.upgrade() else { return };
        if let Some(monitor) = host.outlier_detector() {
            monitor.put_result(OutlierResult::LocalOriginConnectSuccess, None);
        }
        self.on_host_selected(&parent, host);
        parent.count_beside_cluster(|stats| stats.counters().upstream_rq_total.inc());
        if let Some(info) = parent.stream_info() {
            info.set_upstream_connection(encoder.stream().connection_info());
            info.upstream_is_raw.set(self.is_raw.get());
            info.upstream_pool_ready_duration.set(Some(event::now().since(self.start)));
        }
        let callbacks: Weak<dyn StreamCallbacks> = self.weak.clone();
        encoder.stream().add_callbacks(callbacks);
        if parent.downstream_end_stream.get() {
            self.setup_per_try_timeout(&parent);
        } else {
            self.awaiting_request_complete.set(true);
        }
        self.setup_max_stream_duration(&parent);
        drop(self.pool_handle.borrow_mut().take());
        self.set_request_encoder(encoder.clone());
        self.first_tx.set(Some(event::now()));
        if let Some(log) = &self.log {
            log.info.set_upstream_connection(encoder.stream().connection_info());
            log.info.upstream_pool_ready_duration.set(Some(event::now().since(self.start)));
            log.on_pool_ready(&parent, self.is_raw.get());
            self.log_periodically(&parent);
        }
        self.send_request(&parent, &encoder);
    }

    fn on_pool_failure(
        &self,
        reason: PoolFailureReason,
        transport_failure_reason: &str,
        host: Option<&Rc<WorkerHost>>,
    ) {
        self.passed(Stage::OnPoolFailure, reason as u64, 0);
        let reset_reason = match reason {
            PoolFailureReason::Overflow => StreamResetReason::Overflow,
            PoolFailureReason::LocalConnectionFailure => StreamResetReason::LocalConnectionFailure,
            PoolFailureReason::RemoteConnectionFailure => StreamResetReason::RemoteConnectionFailure,
            PoolFailureReason::Timeout => StreamResetReason::ConnectionTimeout,
        };
        if let Some(host) = host {
            self.with_parent(|parent| self.on_host_selected(parent, host));
        }
        let waited = Some(event::now().since(self.start));
        self.with_parent(|parent| {
            if let Some(info) = parent.stream_info() {
                info.set_upstream_connection(None);
                info.upstream_pool_ready_duration.set(waited);
            }
        });
        if let Some(log) = &self.log {
            log.info.upstream_pool_ready_duration.set(waited);
            log.info.set_response_flag(response_flag(reset_reason));
            log.info.set_upstream_transport_failure_reason(transport_failure_reason);
        }
        drop(self.pool_handle.borrow_mut().take());
        self.with_parent(|parent| parent.on_upstream_reset(reset_reason, transport_failure_reason, self));
    }
}

impl UpstreamRequest {
    /// The answer that a tunnel waits for is there: sends on what has been kept; true where the tunnel comes to nothing, and
    /// the client has been told.
    fn end_tunnel_pause(&self, headers: &HeaderMapPtr, status: u16) -> bool {
        let Some((parent, encoder)) = self.parent.upgrade().zip(self.encoder()) else { return false };
        self.paused_for_tunnel.set(false);
        let Some(request) = parent.downstream_headers() else { return false };
        let answer = tunnel::of_answer(&request.borrow(), status);
        match answer {
            tunnel::Answer::Granted => self.send_body(&parent, &encoder),
            tunnel::Answer::Refused => {}
            tunnel::Answer::Misunderstood => {
                headers.borrow_mut().remove(HeaderId::ContentLength);
                parent.on_websocket_handshake_unsuccessful(headers);
                return true;
            }
        }
        false
    }
}

impl StreamDecoder for UpstreamRequest {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        let status = headers.borrow().status();
        if status < 200 && status != 101 {
            return; // an informational head that nobody asked for, as in Envoy 1.40
        }
        self.passed(Stage::UpstreamDecodeHeaders, end_stream.into(), 0);
        self.note_rx(end_stream);
        if let Some(log) = &self.log {
            log.on_headers(&headers.borrow());
        }
        if let Some(tracked) = &self.tracked {
            tracked.on_headers(&headers.borrow());
        }
        if self.paused_for_tunnel.get() && self.end_tunnel_pause(&headers, status) {
            return;
        }
        self.awaiting_headers.set(false);
        self.reset_per_try_idle_timer();
        let host = self.host();
        self.with_parent(|parent| parent.on_upstream_headers(headers, self, host.as_ref(), end_stream));
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.passed(Stage::UpstreamDecodeData, data.len() as u64, end_stream.into());
        if end_stream {
            self.note_rx(true);
        }
        if let Some(log) = &self.log {
            log.info.add_bytes_received(data.len() as u64);
        }
        if let Some(tracked) = &self.tracked {
            tracked.add_response_body(data.len());
        }
        self.reset_per_try_idle_timer();
        let host = self.host();
        self.with_parent(|parent| parent.on_upstream_data(data, host.as_ref(), end_stream));
    }

    fn decode_trailers(&self, trailers: HeaderMapPtr) {
        self.note_rx(true);
        if let Some(log) = &self.log {
            log.on_trailers(&trailers.borrow());
        }
        let host = self.host();
        self.with_parent(|parent| parent.on_upstream_trailers(trailers, host.as_ref()));
    }

    fn decode_1xx_headers(&self, headers: HeaderMapPtr) {
        // A client gets one at most, as from Envoy 1.40.
        if self.seen_1xx_headers.replace(true) {
            return;
        }
        self.reset_per_try_idle_timer();
        self.with_parent(|parent| parent.on_upstream_1xx_headers(headers, self));
    }
}

impl StreamCallbacks for UpstreamRequest {
    fn on_reset_stream(&self, reason: StreamResetReason) {
        self.passed(Stage::UpstreamRequestReset, reason as u64, 0);
        self.clear_request_encoder();
        self.set_response_flag(response_flag(reason));
        if self.calling_encode_headers.get() {
            self.deferred_reset_reason.set(Some(reason));
            return;
        }
        self.with_parent(|parent| parent.on_upstream_reset(reason, "", self));
    }

    fn on_above_write_buffer_high_watermark(&self) {
        self.disable_data_from_downstream();
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.enable_data_from_downstream();
    }
}

impl DownstreamWatermarkCallbacks for UpstreamRequest {
    fn on_above_write_buffer_high_watermark(&self) {
        self.passed(Stage::DownstreamAboveWatermark, 0, 0);
        self.with_parent(|parent| {
            if let Some(cluster) = parent.cluster() {
                cluster.stats().upstream_flow_control_paused_reading_total().inc();
            }
        });
        if let Some(encoder) = self.encoder() {
            encoder.stream().read_disable(true);
        }
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.passed(Stage::DownstreamBelowWatermark, 0, 0);
        self.with_parent(|parent| {
            if let Some(cluster) = parent.cluster() {
                cluster.stats().upstream_flow_control_resumed_reading_total().inc();
            }
        });
        if let Some(encoder) = self.encoder() {
            encoder.stream().read_disable(false);
        }
    }
}
