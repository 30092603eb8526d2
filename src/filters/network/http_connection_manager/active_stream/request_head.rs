//! What becomes of a request's head before the filters see it.
//!
//! Mirrors `ActiveStream::decodeHeaders` of Envoy's `source/common/http/conn_manager_impl.cc`; the checks
//! are those of 1.40.

use std::time::Duration;

use super::ActiveStream;
use crate::config::access_log::AccessLogType;
use crate::filters::http::FilterFactoryCb;
use crate::filters::http::manager::FilterManagerCallbacks;
use crate::filters::network::http_connection_manager::filter_chain::FilterChain;
use crate::filters::network::http_connection_manager::header_mutation::{self, BadPath};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, Protocol, grpc_timeout, utility};
use crate::router::RouteConstSharedPtr;
use crate::trace::{self, Stage, log_stage};

/// An answer in place of a request's.
struct Refusal {
    status: u16,
    details: &'static str,
}

impl ActiveStream {
    /// The checks before the filters, in Envoy's order; each answers the request when it fails.
    fn check_request(&self, h: &mut HeaderMap) -> Result<(), Refusal> {
        if !h.has(HeaderId::Authority) {
            return Err(Refusal { status: 400, details: "missing_host_header" });
        }
        if h.get(HeaderId::Method) == Some(b"CONNECT") {
            return Ok(()); // without a path
        }
        if !h.get(HeaderId::Path).is_some_and(|path| path.starts_with(b"/")) {
            self.config.stats.downstream_rq_non_relative_path.inc();
            return Err(Refusal { status: 404, details: "absolute_path_rejected" });
        }
        header_mutation::normalize_path(h, &self.config).map_err(|bad| {
            let redirects = matches!(bad, BadPath::Redirect) && !utility::has_grpc_content_type(h);
            let stats = &self.config.stats;
            if redirects {
                stats.downstream_rq_redirected_with_normalized_path.inc();
            } else {
                stats.downstream_rq_failed_path_normalization.inc();
            }
            let status = if redirects { 307 } else { 400 };
            Refusal { status, details: "path_normalization_failed" }
        })?;
        if self.config.strip_trailing_host_dot {
            header_mutation::strip_trailing_host_dot(h);
        }
        if self.config.strip_any_host_port {
            header_mutation::strip_host_port(h, None);
        } else if self.config.strip_matching_host_port {
            let own = self.stream_info().downstream_connection().and_then(|c| c.local_address());
            header_mutation::strip_host_port(h, Some(own.and_then(|a| Some(a.ip()?.port())).unwrap_or(0)));
        }
        Ok(())
    }

    fn note_request_traits(&self, headers: &HeaderMap) {
        self.filter_manager.request_headers_initialized(headers);
        let traits = &self.request_traits;
        let is_connect = headers.get(HeaderId::Method) == Some(b"CONNECT");
        traits.is_connect.set(is_connect);
        traits.is_upgrade.set(is_connect || utility::is_upgrade(headers));
        traits.force_trace.set(headers.has(HeaderId::EnvoyForceTrace));
        if self.config.always_set_request_id_in_response || traits.force_trace.get() {
            *traits.id.borrow_mut() = headers.get(HeaderId::RequestId).map(Box::from);
        }
    }

    /// The filters of the upgrade that the request asks for, if it is let through.
    pub(super) fn upgrade_filters(&self) -> Option<&FilterChain<FilterFactoryCb>> {
        let headers = self.filter_manager.request_headers()?;
        let headers = headers.borrow();
        let upgrade_type = headers.get(HeaderId::Upgrade).unwrap_or(b"CONNECT");
        let route = self.cached_route.borrow();
        self.config.upgrade_filters(upgrade_type, route.as_deref())
    }

    /// Answers `Expect: 100-continue` here, so that neither filters nor the upstream see it.
    fn maybe_send_continue(&self, headers: &HeaderMapPtr) {
        let expects =
            headers.borrow().get(HeaderId::Expect).is_some_and(|e| e.eq_ignore_ascii_case(b"100-continue"));
        if self.config.proxy_100_continue || !expects {
            return;
        }
        self.charge_stats(100);
        if let Some(encoder) = self.response_encoder() {
            let mut interim = HeaderMap::new();
            interim.set_status(100);
            encoder.encode_1xx_headers(&interim.shared());
        }
        headers.borrow_mut().remove(HeaderId::Expect);
    }

    fn apply_route_idle_timeout(&self, route: &RouteConstSharedPtr) {
        let Some(timeout) = route.route_entry().and_then(|entry| entry.idle_timeout) else { return };
        self.idle_timeout.set(timeout);
        self.is_watched.set(false);
        self.arm(&self.stream_idle_timer, super::IDLE, timeout);
    }

    /// The route, or for gRPC the request itself, may say for how long the stream may last in place of the connection
    /// manager (Envoy: `refreshDurationTimeout`).
    fn refresh_duration_timeout(&self, route: &RouteConstSharedPtr) {
        let Some(entry) = route.route_entry() else { return };
        let Some(limits) = &entry.max_stream_duration else { return };
        let Some(headers) = self.filter_manager.request_headers() else { return };
        let mut headers = headers.borrow_mut();
        let said = grpc_timeout::get(&headers).zip(limits.grpc_timeout_header_max);
        let timeout = match said {
            Some((said, max)) => {
                let said = if max.is_zero() { said } else { said.min(max) };
                said.saturating_sub(limits.grpc_timeout_header_offset.unwrap_or_default())
            }
            None => match limits.max_stream_duration.or(self.config.max_stream_duration) {
                None | Some(Duration::ZERO) => {
                    if self.max_duration_timer.disable() && utility::has_grpc_content_type(&headers) {
                        headers.remove(HeaderId::GrpcTimeout);
                    }
                    return;
                }
                Some(duration) => duration,
            },
        };
        if utility::has_grpc_content_type(&headers) {
            grpc_timeout::set(&mut headers, timeout);
        }
        // Some of it has gone, and what is over now ends at once.
        let left = timeout.saturating_sub(self.stream_info().start_time_monotonic().elapsed());
        self.arm(&self.max_duration_timer, super::MAX_DURATION, left.max(Duration::from_nanos(1)));
    }

    /// Has the log name the cluster of a request that does not come as far as the router, which does so otherwise.
    pub(super) fn note_cluster(&self, route: &RouteConstSharedPtr) {
        let name = route.cluster_name();
        if let Some(cluster) = name.and_then(|name| self.config.cluster_manager.get(name)) {
            self.stream_info().set_upstream_cluster_info(Some(cluster.info()));
        }
    }

    fn name_in_trace(&self, headers: &HeaderMap) {
        let field = |id| headers.get(id).unwrap_or_default();
        trace::name_stream(self.stream_id, field(HeaderId::Method), field(HeaderId::Path));
    }

    pub(super) fn decode_request_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        self.request_header_timer.disable();
        self.filter_manager.set_request_headers(headers.clone());
        log_stage!(
            DecodeHeaders(self.connection_id, self.stream_id),
            end = end_stream,
            headers = headers.borrow()
        );
        self.name_in_trace(&headers.borrow());
        self.filter_manager.maybe_end_decode(end_stream);
        let Some(manager) = self.manager.upgrade() else { return };
        let is_new = !self.state.is_internally_created.get();
        if is_new && manager.count_request() {
            self.config.stats.downstream_cx_max_requests_reached.inc();
            self.state.saw_connection_close.set(true);
        }
        let protocol = manager.codec().map_or(Protocol::Http11, |c| c.protocol());
        self.stream_info().protocol.set(Some(protocol));
        if utility::should_close_connection(protocol, &headers.borrow()) {
            self.state.saw_connection_close.set(true);
        }
        self.maybe_send_continue(&headers);
        let checked = self.check_request(&mut headers.borrow_mut());
        if let Err(refusal) = checked {
            self.note_request_traits(&headers.borrow());
            if protocol == Protocol::Http10 {
                self.state.saw_connection_close.set(true);
            }
            let path = headers.borrow().get(HeaderId::Path).unwrap_or_default().to_vec();
            let to_path = |response: &mut HeaderMap| response.set(HeaderId::Location, &path);
            let modify = (refusal.status == 307).then_some(&to_path as &dyn Fn(&mut HeaderMap));
            self.filter_manager.send_local_reply(refusal.status, "", modify, refusal.details.into());
            return;
        }
        if let Some(connection) = manager.connection().filter(|_| is_new) {
            self.passed(Stage::MutateRequestHeaders, 0);
            let info = self.stream_info();
            let remote = header_mutation::mutate_request_headers(
                &mut headers.borrow_mut(),
                &connection,
                &self.config,
                info,
                self.route_table().config().internal_only_headers(),
            );
            match remote {
                Ok(remote) => info.set_downstream_remote_address(Some(remote)),
                Err(status) => {
                    self.note_request_traits(&headers.borrow());
                    self.config.stats.downstream_rq_rejected_via_ip_detection.inc();
                    self.filter_manager.send_local_reply(
                        status,
                        "",
                        None,
                        "rejecting_because_detection_failed".into(),
                    );
                    return;
                }
            }
        }
        self.note_request_traits(&headers.borrow());
        let route = self.route();
        self.filter_manager.create_filter_chain();
        if self.config.access_log_options.flush_access_log_on_new_request {
            if let Some(route) = &route {
                self.note_cluster(route);
            }
            self.log(AccessLogType::DownstreamStart);
        }
        if let Some(route) = &route {
            if self.state.upgrade_rejected.get() {
                self.config.stats.downstream_rq_ws_on_non_ws_route.inc();
                // What follows on the connection is not HTTP.
                self.state.saw_connection_close.set(true);
                self.filter_manager.send_local_reply(403, "", None, "upgrade_failed".into());
                return;
            }
            self.apply_route_idle_timeout(route);
            self.refresh_duration_timeout(route);
        }
        self.filter_manager.decode_headers(&headers, end_stream);
        self.passed(Stage::ResetIdleTimer, 0);
        self.reset_idle_timer();
    }
}
