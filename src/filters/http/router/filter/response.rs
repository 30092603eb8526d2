//! The response's way back through the router, or what takes its place.
//!
//! Mirrors `Filter::onUpstreamHeaders` and its neighbours in Envoy's `source/common/router/router.cc`.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use super::Filter;
use super::retry::Verdict;
use crate::buffer::Buffer;
use crate::envoy_stream_log;
use crate::event::{self, Moment};
use crate::filters::http::router::tracked_try::percent_of;
use crate::filters::http::router::upstream_request::UpstreamRequest;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, StreamResetReason, codes, utility};
use crate::stream_info::ResponseFlag;
use crate::trace::{self, Stage, log_stage, stage};
use crate::upstream::WorkerHost;
use crate::upstream::health_checker::UnhealthyType;
use crate::upstream::outlier_detection::OutlierResult;

impl Filter {
    pub(super) fn on_response_timeout(&self) {
        let _stage = stage!(scope OnResponseTimeout(self.connection_id.get(), self.stream_id.get()));
        for request in self.upstream_requests() {
            if let Some(cluster) = self.cluster() {
                cluster.stats().upstream_rq_timeout().inc();
                self.count_beside_cluster(|stats| stats.counters().upstream_rq_timeout.inc());
            }
            if let Some(host) = request.host() {
                host.stats().rq_timeout().inc();
            }
            if request.awaiting_headers() {
                request.record_timeout_for_outlier_detection(self.timeout_response_code.get());
                self.charge_upstream_abort(self.timeout_response_code.get(), false, &request);
            }
            request.reset_stream();
            self.remove_upstream_request(&request);
        }
        self.on_upstream_timeout_abort("response_timeout");
    }

    pub(in super::super) fn on_stream_max_duration_reached(&self, request: &UpstreamRequest) {
        if self.maybe_retry_reset(StreamResetReason::LocalReset, request, false) {
            return;
        }
        self.cleanup();
        self.set_response_flag(ResponseFlag::UpstreamMaxStreamDurationReached);
        let body = "upstream max stream duration reached";
        let status = codes::request_timeout_code(self.downstream_end_stream.get());
        self.send_local_reply(status, body, "upstream_max_stream_duration_reached");
    }

    /// The time of a try is over, or of a pause in it.
    pub(in super::super) fn on_per_try_timeout(&self, request: &UpstreamRequest, idle: bool) {
        if self.hedge_on_per_try_timeout.get() {
            return self.on_soft_per_try_timeout(request);
        }
        if let Some(cluster) = self.cluster() {
            let stats = cluster.stats();
            match idle {
                false => stats.upstream_rq_per_try_timeout().inc(),
                true => stats.upstream_rq_per_try_idle_timeout().inc(),
            }
        }
        if let Some(host) = request.host() {
            host.stats().rq_timeout().inc();
        }
        request.reset_stream();
        request.record_timeout_for_outlier_detection(self.timeout_response_code.get());
        if self.maybe_retry_reset(StreamResetReason::LocalReset, request, true) {
            return;
        }
        self.charge_upstream_abort(self.timeout_response_code.get(), false, request);
        self.on_upstream_timeout_abort(match idle {
            false => "upstream_per_try_timeout",
            true => "upstream_per_try_idle_timeout",
        });
    }

    fn on_upstream_timeout_abort(&self, details: &'static str) {
        let status = self.timeout_response_code.get();
        let body = if status == 504 { "upstream request timeout" } else { "" };
        self.on_upstream_abort(status, ResponseFlag::UpstreamRequestTimeout, body, false, details.into());
    }

    /// There will be no (more) response: answers in its place, or resets one that has begun.
    fn on_upstream_abort(
        &self,
        status: u16,
        flag: ResponseFlag,
        body: &str,
        dropped: bool,
        details: Cow<'static, str>,
    ) {
        self.passed(Stage::OnUpstreamAbort, status.into(), self.downstream_response_started.get().into());
        self.cleanup();
        if let Some(info) = self.stream_info() {
            info.set_response_flag(flag);
            info.set_response_code_details(details.clone());
        }
        if self.response_head_passed.get() {
            if let Some(callbacks) = self.callbacks() {
                callbacks.reset_stream();
            }
        } else if dropped {
            self.send_overloaded_reply(status, body, details);
        } else {
            self.send_local_reply(status, body, details);
        }
    }

    /// Counts what takes the place of the response, unless that has begun: its status is counted already.
    fn charge_upstream_abort(&self, status: u16, dropped: bool, request: &UpstreamRequest) {
        let host = request.host();
        if self.downstream_response_started.get() {
            if let Some(host) = host.filter(|_| self.grpc_success_deferred.get()) {
                host.stats().rq_error().inc();
                self.config.stats.rq_reset_after_downstream_response_started.inc();
            }
            return;
        }
        let canary = host.as_ref().is_some_and(|host| host.canary());
        self.charge_upstream_code(status, host.as_ref().filter(|_| !dropped), canary);
        if let Some(host) = host.filter(|_| !codes::is_5xx(status)) {
            host.stats().rq_error().inc();
        }
    }

    /// The upstream request was reset, or never got a connection.
    pub(in super::super) fn on_upstream_reset(
        &self,
        reason: StreamResetReason,
        transport_failure_reason: &str,
        request: &UpstreamRequest,
    ) {
        log_stage!(OnUpstreamReset(self.connection_id.get(), self.stream_id.get()), reason = reason.as_str());
        let _stage = self.stage(Stage::OnUpstreamReset, reason as u64, 0);
        // Of a cluster that is full nothing is held against a host.
        if reason != StreamResetReason::Overflow {
            request.update_outlier_detection(OutlierResult::LocalOriginConnectFailed, None);
        }
        if self.maybe_retry_reset(reason, request, false) {
            return;
        }
        let status = if reason == StreamResetReason::ProtocolError { 502 } else { 503 };
        let dropped = reason == StreamResetReason::Overflow;
        self.charge_upstream_abort(status, dropped, request);
        if self.may_retry() {
            self.remove_upstream_request(request);
            if self.others_may_answer() {
                return;
            }
        }
        let body = format!(
            "upstream connect error or disconnect/reset before headers. {}reset reason: {}",
            if self.is_retry() { "retried and the latest " } else { "" },
            reason.as_str()
        );
        if let Some(info) = self.stream_info().filter(|_| !transport_failure_reason.is_empty()) {
            info.set_upstream_transport_failure_reason(transport_failure_reason);
        }
        let details = self.reset_details(reason, transport_failure_reason);
        self.on_upstream_abort(status, response_flag(reason), &body, dropped, details);
    }

    fn reset_details(&self, reason: StreamResetReason, transport_failure_reason: &str) -> Cow<'static, str> {
        let when = if self.downstream_response_started.get() { "after" } else { "before" };
        let reason = reason.as_str().replace(' ', "_");
        let (bar, cause) = match transport_failure_reason {
            "" => ("", String::new()),
            cause => ("|", cause.replace(' ', "_")),
        };
        format!("upstream_reset_{when}_response_started{{{reason}{bar}{cause}}}").into()
    }

    /// An informational head counts as the begin of the response, whether or not it is passed on.
    pub(in super::super) fn on_upstream_1xx_headers(&self, headers: HeaderMapPtr, request: &UpstreamRequest) {
        let host = request.host();
        let host = host.as_ref();
        envoy_stream_log!(
            Router,
            debug,
            self.connection_id.get(),
            self.stream_id.get(),
            "upstream 100 continue"
        );
        let (status, canary) = (headers.borrow().status(), is_canary(&headers.borrow(), host));
        self.charge_upstream_code(status, host, canary);
        self.downstream_response_started.set(true);
        self.reset_other_upstreams(request);
        self.end_retries();
        if let Some(callbacks) = self.callbacks() {
            callbacks.encode_1xx_headers(headers);
        }
    }

    pub(in super::super) fn on_upstream_headers(
        &self,
        headers: HeaderMapPtr,
        request: &UpstreamRequest,
        host: Option<&Rc<WorkerHost>>,
        end_stream: bool,
    ) {
        let (conn, stream) = (self.connection_id.get(), self.stream_id.get());
        let status = trace::detail(|| headers.borrow().status().into());
        let _stage = stage!(scope OnUpstreamHeaders(conn, stream), status = status, end = end_stream);
        if let Some(host) = host.filter(|host| host.outlier_detector().is_some()) {
            self.put_response_to_outlier_detection(host, &headers.borrow());
        }
        if let Some(host) = host.filter(|host| host.cluster().health_checker().is_some()) {
            set_unhealthy_if_said(host, &headers.borrow());
        }
        if self.may_retry() && !self.takes_response(request, &headers.borrow(), end_stream) {
            return;
        }
        if self.redirects(&headers, end_stream) {
            return;
        }
        let status = {
            let mut headers = headers.borrow_mut();
            // A response that came before the end of the request was not timed.
            if let Some(complete) = self.downstream_request_complete_time.get()
                && !self.config.suppress_envoy_headers
            {
                let elapsed = event::now().milliseconds_since(complete);
                headers.set_int(HeaderId::EnvoyUpstreamServiceTime, elapsed);
            }
            self.canary.set(is_canary(&headers, host));
            headers.status()
        };
        self.finalize_response_headers(&mut headers.borrow_mut());
        self.charge_upstream_code(status, host, self.canary.get());
        if !codes::is_5xx(status) {
            self.charge_success(host, &headers, end_stream);
        }
        self.downstream_response_started.set(true);
        self.response_head_passed.set(true);
        self.reset_other_upstreams(request);
        if end_stream {
            self.on_upstream_complete(host);
        }
        if let Some(callbacks) = self.callbacks() {
            callbacks.encode_headers(headers, end_stream, "via_upstream");
        }
    }

    /// Tells who watches the host of its answer.
    #[inline(never)]
    fn put_response_to_outlier_detection(&self, host: &WorkerHost, headers: &HeaderMap) {
        let Some(monitor) = host.outlier_detector() else { return };
        let of_grpc = if self.grpc_request.get() { utility::grpc_status(headers) } else { None };
        let status = of_grpc.map_or_else(|| headers.status(), utility::grpc_to_http_status);
        monitor.put_http_response_code(status);
        if !codes::is_5xx(status) && headers.get(HeaderId::EnvoyDegraded).is_some() {
            monitor.put_degraded(host);
        }
    }

    /// The upstream has answered a request for a WebSocket as if it were any other: the client gets the head.
    pub(in super::super) fn on_websocket_handshake_unsuccessful(&self, headers: &HeaderMapPtr) {
        self.finalize_response_headers(&mut headers.borrow_mut());
        let status = headers.borrow().status();
        let host = self.upstream_request().and_then(|request| request.host());
        self.charge_upstream_code(status, host.as_ref(), is_canary(&headers.borrow(), host.as_ref()));
        self.downstream_response_started.set(true);
        self.response_head_passed.set(true);
        if let Some(request) = self.upstream_request() {
            request.reset_stream();
        }
        self.cleanup();
        if let Some(callbacks) = self.callbacks() {
            callbacks.encode_headers(headers.clone(), true, "websocket_handshake_unsuccessful");
        }
    }

    /// Whether the client gets this response; else the try is over.
    fn takes_response(&self, request: &UpstreamRequest, headers: &HeaderMap, end_stream: bool) -> bool {
        match self.retry_headers(request, headers, end_stream) {
            Verdict::Retried => return false,
            // Another try may do better.
            Verdict::CouldNotRetry if self.others_may_answer() => {
                if let Some(host) = request.host() {
                    host.stats().rq_error().inc();
                }
                request.reset_stream();
                self.remove_upstream_request(request);
                return false;
            }
            Verdict::CouldNotRetry | Verdict::Taken => {}
        }
        self.end_retries();
        true
    }

    fn finalize_response_headers(&self, headers: &mut HeaderMap) {
        let Some((route, info)) = self.route.get().zip(self.stream_info()) else { return };
        info.response_code.set(Some(headers.status()));
        let request = self.downstream_headers.borrow().clone();
        route.finalize_response_headers(headers, request.as_ref().map(|r| r.borrow()).as_deref(), info);
        self.set_downstream_cookies(headers);
        self.add_attempt_count(headers);
    }

    fn charge_success(&self, host: Option<&Rc<WorkerHost>>, headers: &HeaderMapPtr, end_stream: bool) {
        if !self.grpc_request.get() {
            if let Some(host) = host {
                host.stats().rq_success().inc();
            }
        } else if end_stream {
            self.charge_grpc(host, &headers.borrow());
        } else {
            self.grpc_success_deferred.set(true);
        }
    }

    /// Counts a gRPC response for its host by the status it ended with.
    fn charge_grpc(&self, host: Option<&Rc<WorkerHost>>, end: &HeaderMap) {
        let Some(host) = host else { return };
        if utility::is_grpc_success(end) { host.stats().rq_success() } else { host.stats().rq_error() }.inc();
    }

    pub(in super::super) fn on_upstream_data(
        &self,
        data: &mut Buffer,
        host: Option<&Rc<WorkerHost>>,
        end_stream: bool,
    ) {
        let _stage = self.stage(Stage::OnUpstreamData, data.len() as u64, end_stream.into());
        if end_stream {
            // Without trailers a gRPC response has no status.
            if self.grpc_success_deferred.get() {
                self.charge_grpc(host, &HeaderMap::new());
            }
            self.on_upstream_complete(host);
        }
        if let Some(callbacks) = self.callbacks() {
            callbacks.encode_data(data, end_stream);
        }
    }

    pub(in super::super) fn on_upstream_trailers(
        &self,
        trailers: HeaderMapPtr,
        host: Option<&Rc<WorkerHost>>,
    ) {
        let _stage = self.stage(Stage::OnUpstreamTrailers, 0, 0);
        if self.grpc_success_deferred.get() {
            self.charge_grpc(host, &trailers.borrow());
        }
        self.on_upstream_complete(host);
        if let Some(callbacks) = self.callbacks() {
            callbacks.encode_trailers(trailers);
        }
    }

    fn count_timeout_budget(&self) {
        let stats = self.cluster().and_then(|cluster| cluster.tracked_stats()?.timeout_budgets.as_ref());
        let Some(stats) = stats else { return };
        let elapsed = self.downstream_request_complete_time.get().map_or(Duration::ZERO, Moment::elapsed);
        let used = percent_of(elapsed, self.timeout.get().global);
        stats.upstream_rq_timeout_budget_percent_used().record(used);
    }

    /// The response is complete. On HTTP/1 an unfinished request cannot go on.
    fn on_upstream_complete(&self, host: Option<&Rc<WorkerHost>>) {
        self.passed(Stage::OnUpstreamComplete, 0, 0);
        if !self.downstream_end_stream.get()
            && let Some(request) = self.upstream_request()
        {
            request.reset_stream();
        }
        self.count_timeout_budget();
        if self.emits_dynamic_stats()
            && let Some(complete) = self.downstream_request_complete_time.get()
            && let Some(cluster) = self.cluster()
        {
            let elapsed = event::now().milliseconds_since(complete);
            let origin = self.origin(host, self.canary.get());
            cluster.code_stats().charge_timing(elapsed, &origin);
            if let Some(name) = self.alternative_name.get() {
                cluster.code_stats().alternative(name).charge_timing(elapsed, &origin);
            }
            self.count_beside_cluster(|stats| stats.charge_timing(elapsed));
        }
        self.cleanup();
    }
}

/// Tells who checks the host, if its answer says that it wants no more requests.
#[inline(never)]
fn set_unhealthy_if_said(host: &WorkerHost, headers: &HeaderMap) {
    if let Some(checker) = host.cluster().health_checker()
        && headers.has(HeaderId::EnvoyImmediateHealthCheckFail)
    {
        checker.set_unhealthy(host.shared(), UnhealthyType::ImmediateHealthCheckFail);
    }
}

/// Whether the response comes from a canary, as it or its host says.
fn is_canary(headers: &HeaderMap, host: Option<&Rc<WorkerHost>>) -> bool {
    headers.get(HeaderId::EnvoyUpstreamCanary) == Some(b"true") || host.is_some_and(|h| h.canary())
}

/// Envoy's `streamResetReasonToResponseFlag`.
pub(in super::super) fn response_flag(reason: StreamResetReason) -> ResponseFlag {
    match reason {
        StreamResetReason::LocalConnectionFailure
        | StreamResetReason::RemoteConnectionFailure
        | StreamResetReason::ConnectionTimeout => ResponseFlag::UpstreamConnectionFailure,
        StreamResetReason::ConnectionTermination => ResponseFlag::UpstreamConnectionTermination,
        StreamResetReason::LocalReset => ResponseFlag::LocalReset,
        StreamResetReason::Overflow => ResponseFlag::UpstreamOverflow,
        StreamResetReason::RemoteReset => ResponseFlag::UpstreamRemoteReset,
        StreamResetReason::ProtocolError => ResponseFlag::UpstreamProtocolError,
    }
}
