//! The filter itself. Mirrors `FaultFilter` of Envoy's `source/extensions/filters/http/fault/fault_filter.cc`.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::settings::FaultSettings;
use super::stream_rate_limiter::StreamRateLimiter;
use super::{FaultFilterConfig, RouteSettings};
use crate::buffer::Buffer;
use crate::event::Timer;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter,
    StreamDecoderFilterCallbacks, StreamEncoderFilter, StreamEncoderFilterCallbacks,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};
use crate::router::RouteConstSharedPtr;
use crate::stream_info::ResponseFlag;
use crate::trace::{self, Stage, stage};

pub(super) struct FaultFilter {
    me: Weak<FaultFilter>,
    config: Rc<FaultFilterConfig>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    encoder: OnceCell<Rc<StreamEncoderFilterCallbacks>>,
    /// The route's.
    settings: OnceCell<Arc<FaultSettings>>,
    downstream_cluster: OnceCell<Box<str>>,
    request_headers: OnceCell<HeaderMapPtr>,
    delay_timer: RefCell<Option<Timer>>,
    response_limiter: OnceCell<Rc<StreamRateLimiter>>,
    fault_active: Cell<bool>,
}

impl FaultFilter {
    pub fn new(config: Rc<FaultFilterConfig>) -> Rc<Self> {
        Rc::new_cyclic(|me| FaultFilter {
            me: me.clone(),
            config,
            decoder: OnceCell::new(),
            encoder: OnceCell::new(),
            settings: OnceCell::new(),
            downstream_cluster: OnceCell::new(),
            request_headers: OnceCell::new(),
            delay_timer: RefCell::default(),
            response_limiter: OnceCell::new(),
            fault_active: Cell::new(false),
        })
    }

    fn settings(&self) -> &FaultSettings {
        self.settings.get().unwrap_or(&self.config.settings)
    }

    fn downstream_cluster(&self) -> &str {
        self.downstream_cluster.get().map_or("", |cluster| cluster)
    }

    /// Whether the request is one of those that something may become of.
    fn matches(&self, route: Option<&RouteConstSharedPtr>, headers: &HeaderMap) -> bool {
        let of_route = route.and_then(|route| route.most_specific_filter_config(&self.config.name));
        if let Some(RouteSettings(settings)) = of_route {
            self.settings.get_or_init(|| settings.clone());
        }
        let settings = self.settings();
        let cluster = route.and_then(|route| route.cluster_name());
        let is_to_it = settings.upstream_cluster.is_empty()
            || cluster.is_some_and(|cluster| **cluster.text() == *settings.upstream_cluster);
        is_to_it && settings.matches_downstream_nodes(headers) && settings.matches_headers(headers)
    }

    fn maybe_setup_response_rate_limit(&self, callbacks: &StreamDecoderFilterCallbacks, headers: &HeaderMap) {
        let settings = self.settings();
        let Some(limit) = &settings.response_rate_limit else { return };
        let Some(rate_kbps) = limit.rate_kbps(headers) else { return };
        if !settings.is_response_rate_limit_enabled(limit.percentage.of(headers))
            || !self.try_inc_active_faults()
        {
            return;
        }
        self.config.stats.response_rl_injected.inc();
        let Some(encoder) = self.encoder.get() else { return };
        self.response_limiter
            .get_or_init(|| StreamRateLimiter::new(rate_kbps, encoder, callbacks.dispatcher()));
    }

    /// In milliseconds; never zero.
    fn delay_duration(&self, headers: &HeaderMap) -> Option<u64> {
        let settings = self.settings();
        let delay = settings.delay.as_ref()?;
        if !settings.is_delay_enabled(delay.percentage.of(headers), self.downstream_cluster()) {
            return None;
        }
        let configured = delay.duration(headers)?;
        Some(settings.delay_duration(configured, self.downstream_cluster())).filter(|ms| *ms > 0)
    }

    fn maybe_setup_delay(&self, callbacks: &StreamDecoderFilterCallbacks, headers: &HeaderMap) -> bool {
        let Some(duration) = self.delay_duration(headers) else { return false };
        if !self.try_inc_active_faults() {
            return false;
        }
        let me = self.me.clone();
        let timer = callbacks.dispatcher().create_timer(move || {
            if let Some(filter) = me.upgrade() {
                filter.post_delay_injection();
            }
        });
        stage!(FaultDelay(callbacks.connection_id(), callbacks.stream_id()), ms = duration);
        timer.enable_timer(Duration::from_millis(duration));
        *self.delay_timer.borrow_mut() = Some(timer);
        self.config.stats.delays_injected.inc();
        self.count_for_downstream_cluster("delays_injected");
        self.mark(callbacks, ResponseFlag::DelayInjected);
        true
    }

    fn post_delay_injection(&self) {
        self.reset_timer_state();
        let Some(callbacks) = self.decoder.get() else { return };
        let (id, stream_id) = (callbacks.connection_id(), callbacks.stream_id());
        trace::instant(Stage::FaultDelayOver, Some(id), stream_id, 0, 0);
        if !self.maybe_do_abort(callbacks) {
            callbacks.continue_decoding();
        }
    }

    /// The status of the answer, and that for a gRPC client.
    fn abort_status(&self, headers: &HeaderMap) -> Option<(u16, Option<u32>)> {
        let settings = self.settings();
        let abort = settings.abort.as_ref()?;
        let cluster = self.downstream_cluster();
        if !settings.is_abort_enabled(abort.percentage.of(headers), cluster) {
            return None;
        }
        if let Some(status) = abort.http_status_code(headers) {
            return Some((settings.abort_http_status(status, cluster) as u16, None));
        }
        let grpc_status = abort.grpc_status_code(headers)?;
        Some((200, Some(settings.abort_grpc_status(grpc_status, cluster) as u32)))
    }

    fn maybe_do_abort(&self, callbacks: &StreamDecoderFilterCallbacks) -> bool {
        let headers = self.request_headers.get();
        let status = headers.and_then(|headers| self.abort_status(&headers.borrow()));
        let Some((status, grpc_status)) = status.filter(|_| self.try_inc_active_faults()) else {
            return false;
        };
        let (id, stream_id) = (callbacks.connection_id(), callbacks.stream_id());
        trace::instant(Stage::FaultAbort, Some(id), stream_id, status.into(), 0);
        self.config.stats.aborts_injected.inc();
        self.count_for_downstream_cluster("aborts_injected");
        self.mark(callbacks, ResponseFlag::FaultInjected);
        let body = self.settings().abort.as_ref().map_or("", |abort| &abort.response_body);
        let body = if body.is_empty() { "fault filter abort" } else { body };
        callbacks.send_local_reply_with_grpc_status(
            status,
            body,
            None,
            grpc_status,
            "fault_filter_abort".into(),
        );
        true
    }

    /// Whether there may be one more request with a fault. One that has several counts once.
    fn try_inc_active_faults(&self) -> bool {
        if self.fault_active.get() {
            return true;
        }
        let stats = &self.config.stats;
        if stats.active_faults.value() >= self.settings().max_active_faults() {
            stats.faults_overflow.inc();
            return false;
        }
        stats.active_faults.inc();
        self.fault_active.set(true);
        true
    }

    fn mark(&self, callbacks: &StreamDecoderFilterCallbacks, flag: ResponseFlag) {
        callbacks.stream_info().set_response_flag(flag);
        if let Some(metadata) = &self.settings().filter_metadata {
            callbacks.stream_info().set_dynamic_metadata(&self.config.name, metadata.clone());
        }
    }

    fn count_for_downstream_cluster(&self, what: &str) {
        let cluster = self.downstream_cluster();
        if !cluster.is_empty() && !self.settings().disable_downstream_cluster_stats {
            self.config.scope.counter(&format!("{cluster}.{what}")).inc();
        }
    }

    fn reset_timer_state(&self) {
        if let Some(timer) = self.delay_timer.borrow_mut().take() {
            timer.disable_timer();
        }
    }

    fn is_delayed(&self) -> bool {
        self.delay_timer.borrow().is_some()
    }
}

impl StreamDecoderFilter for FaultFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.decoder.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        {
            let headers = headers.borrow();
            if !self.matches(route.as_ref(), &headers) {
                return FilterHeadersStatus::Continue;
            }
            if let Some(cluster) = headers.get_str(HeaderId::EnvoyDownstreamServiceCluster) {
                self.downstream_cluster.get_or_init(|| cluster.into());
            }
            self.maybe_setup_response_rate_limit(callbacks, &headers);
        }
        self.request_headers.get_or_init(|| headers.clone());
        let delayed = self.maybe_setup_delay(callbacks, &headers.borrow());
        if delayed || self.maybe_do_abort(callbacks) {
            return FilterHeadersStatus::StopIteration;
        }
        FilterHeadersStatus::Continue
    }

    fn decode_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterDataStatus {
        if self.is_delayed() {
            // Too much of it stops the reading.
            return FilterDataStatus::StopIterationAndWatermark;
        }
        FilterDataStatus::Continue
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        if self.is_delayed() { FilterTrailersStatus::StopIteration } else { FilterTrailersStatus::Continue }
    }

    fn on_destroy(&self) {
        self.reset_timer_state();
        if let Some(limiter) = self.response_limiter.get() {
            limiter.destroy();
        }
        if self.fault_active.take() {
            self.config.stats.active_faults.dec();
        }
    }
}

impl StreamEncoderFilter for FaultFilter {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.encoder.get_or_init(|| Rc::new(callbacks));
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        let Some(limiter) = self.response_limiter.get() else { return FilterDataStatus::Continue };
        limiter.write_data(data, end_stream);
        FilterDataStatus::StopIterationNoBuffer
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        let limiter = self.response_limiter.get();
        limiter.map_or(FilterTrailersStatus::Continue, |limiter| limiter.on_trailers())
    }
}
