//! The response's way out to the codec, and what else the filter manager asks of the stream.
//!
//! Mirrors `ActiveStream::encodeHeaders` and its neighbours in Envoy's `source/common/http/conn_manager_impl.cc`.

use std::rc::Rc;

use super::super::message::ServerHeaderTransformation;
use super::ActiveStream;
use crate::buffer::Buffer;
use crate::config::access_log::AccessLogType;
use crate::envoy_stream_log;
use crate::event;
use crate::filters::http::FilterChainFactoryCallbacks;
use crate::filters::http::manager::{FilterManager, FilterManagerCallbacks, LocalReplyContent};
use crate::filters::network::http_connection_manager::conn_manager::{ConnectionManagerImpl, DrainState};
use crate::filters::network::http_connection_manager::header_mutation;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, Protocol, codes, utility};
use crate::network::ConnectionImpl;
use crate::router::{RouteConstSharedPtr, RouteRequest};
use crate::stream_info::StreamInfoImpl;
use crate::trace::{Stage, log_stage};

impl ActiveStream {
    fn is_http_10(&self) -> bool {
        self.stream_info().protocol.get() == Some(Protocol::Http10)
    }

    /// Whether the connection can close behind this stream's response at once: nothing more of the
    /// request is under way, or its client (HTTP/1.0) takes just this close for the response's end.
    pub(in super::super) fn closes_without_delay(&self) -> bool {
        self.state.saw_connection_close.get()
            && (self.remote_complete() || (self.is_http_10() && !self.state.response_has_length.get()))
    }

    /// What every response gets, whoever made it.
    fn set_base_headers(&self, headers: &HeaderMapPtr) {
        let mut headers = headers.borrow_mut();
        if !headers.has(HeaderId::Date)
            && let Some(date) = self.config.date_provider.get()
        {
            date.set_date_header(&mut headers);
        }
        match self.config.server_header_transformation {
            ServerHeaderTransformation::PassThrough => {}
            ServerHeaderTransformation::AppendIfAbsent if headers.has(HeaderId::Server) => {}
            _ => headers.set(HeaderId::Server, self.config.server_name.as_bytes()),
        }
        self.passed(Stage::MutateResponseHeaders, 0);
        header_mutation::mutate_response_headers(&mut headers, Some(&self.request_traits), &self.config.via);
        if let Some(status) = &self.config.proxy_status {
            status.apply(&mut headers, self.stream_info());
        }
        if self.config.always_set_request_id_in_response
            && let Some(id) = &*self.request_traits.id.borrow()
        {
            headers.set(HeaderId::RequestId, id);
        }
    }

    /// What the response's head says of the connection: may start or decide its closing.
    fn decide_connection_close(&self, manager: &ConnectionManagerImpl) {
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
        if !self.remote_complete() {
            if !manager.is_multiplexed() {
                manager.drain_state.set(DrainState::Closing);
            }
            stats.downstream_rq_response_before_rq_complete.inc();
        }
    }

    fn is_tunnel_established(&self, response: &HeaderMap) -> bool {
        match self.request_traits.is_connect.get() {
            true => codes::is_2xx(response.status()),
            false => self.request_traits.is_upgrade.get() && utility::is_upgrade(response),
        }
    }

    /// Stops or resumes reading the request.
    fn read_disable_downstream(&self, disable: bool) {
        if let Some(encoder) = self.response_encoder() {
            encoder.stream().read_disable(disable);
        }
    }
}

impl FilterManagerCallbacks for ActiveStream {
    fn filter_manager(&self) -> &FilterManager {
        &self.filter_manager
    }

    fn create_filter_chain(&self, callbacks: &dyn FilterChainFactoryCallbacks) {
        let upgraded = self.request_traits.is_upgrade.get().then(|| self.upgrade_filters());
        let filters = match upgraded {
            None => &self.config.filters,
            Some(Some(filters)) => {
                self.state.successful_upgrade.set(true);
                self.config.stats.downstream_cx_upgrades_total.inc();
                self.config.stats.downstream_cx_upgrades_active.inc();
                filters
            }
            Some(None) => {
                self.state.upgrade_rejected.set(true);
                &self.config.filters
            }
        };
        if !self.config.routes_disable_filters && filters.is_whole() {
            self.passed(Stage::CreateFilterChain, filters.len() as u64);
            filters.create(callbacks);
            return;
        }
        let route = self.cached_route.borrow().clone();
        self.passed(Stage::CreateFilterChain, filters.enabled(route.as_deref()).count() as u64);
        filters.enabled(route.as_deref()).for_each(|create| create(callbacks));
    }

    fn encode_1xx_headers(&self, headers: &HeaderMapPtr) {
        header_mutation::mutate_response_headers(&mut headers.borrow_mut(), None, "");
        self.charge_stats(headers.borrow().status());
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "encoding 100 continue headers via codec:\n{}",
            headers.borrow()
        );
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_1xx_headers(headers);
        }
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        self.set_base_headers(headers);
        self.state.response_has_length.set(headers.borrow().has(HeaderId::ContentLength));
        // Without a length, an HTTP/1.0 client learns of the end by the close alone.
        if self.is_http_10() && !self.state.response_has_length.get() {
            self.state.saw_connection_close.set(true);
        }
        let Some(manager) = self.manager.upgrade() else { return };
        self.decide_connection_close(&manager);
        {
            let mut headers = headers.borrow_mut();
            // A draining connection stays open for a while, and tells the client, as in Envoy 1.40.
            if manager.drain_state.get() != DrainState::NotDraining && !manager.is_multiplexed() {
                let is_tunnel = self.request_traits.is_connect.get() && headers.status() == 200;
                if !is_tunnel && !utility::is_upgrade(&headers) {
                    headers.set(HeaderId::Connection, b"close");
                }
            } else if self.is_http_10() {
                headers.set(HeaderId::Connection, b"keep-alive");
            }
            self.charge_stats(headers.status());
        }
        log_stage!(
            EncodeHeaders(self.connection_id, self.stream_id),
            end = end_stream,
            headers = headers.borrow()
        );
        self.stream_info().first_downstream_tx_byte_sent.set(Some(event::now()));
        if self.config.access_log_options.flush_log_on_tunnel_successfully_established
            && self.is_tunnel_established(&headers.borrow())
        {
            self.log(AccessLogType::DownstreamTunnelSuccessfullyEstablished);
        }
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_headers(headers, end_stream);
        }
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        log_stage!(EncodeData(self.connection_id, self.stream_id), bytes = data.len(), end = end_stream);
        self.stream_info().add_bytes_sent(data.len() as u64);
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_data(data, end_stream);
        }
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "encoding trailers via codec:\n{}",
            trailers.borrow()
        );
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_trailers(trailers);
        }
    }

    fn end_stream(&self) {
        if self.state.codec_saw_local_complete.replace(true) {
            return;
        }
        let now = event::now();
        self.stream_info().last_downstream_tx_byte_sent.set(Some(now));
        let elapsed = now.milliseconds_since(self.stream_info().start_time_monotonic());
        self.passed(Stage::MaybeEndEncode, elapsed);
        self.config.stats.downstream_rq_time.record(elapsed);
        self.do_end_stream();
    }

    fn reset_stream(&self) {
        self.config.stats.downstream_rq_tx_reset.inc();
        self.do_end_stream();
    }

    fn can_recreate_stream(&self) -> bool {
        true
    }

    fn charge_stats(&self, status: u16) {
        self.passed(Stage::ChargeStats, status.into());
        self.stream_info().response_code.set(Some(status));
        if self.stream_info().health_check.get() {
            return;
        }
        self.config.stats.downstream_rq_completed.inc();
        self.config.listener_stats.downstream_rq_completed.inc();
        self.config.stats.charge_class(status);
        self.config.listener_stats.charge_class(status);
    }

    fn recreate_stream(&self) {
        if let Some((manager, this)) = self.manager.upgrade().zip(self.weak.upgrade()) {
            manager.recreate_stream(&this);
        }
    }

    fn connection(&self) -> Option<Rc<ConnectionImpl>> {
        self.manager.upgrade().and_then(|manager| manager.connection())
    }

    fn route(&self) -> Option<RouteConstSharedPtr> {
        if self.route_is_cached.get() {
            return self.cached_route.borrow().clone();
        }
        let headers = self.filter_manager.request_headers();
        let route = match headers.as_ref().map(|headers| headers.try_borrow()) {
            Some(Err(_)) => return self.cached_route.borrow().clone(),
            Some(Ok(headers)) => {
                let random = self.stream_info().stream_id.get();
                let info: &StreamInfoImpl = self.stream_info();
                self.route_table().route(&RouteRequest { headers: &headers, random, info: Some(info) })
            }
            None => None,
        };
        self.passed(Stage::RefreshCachedRoute, 0);
        self.route_is_cached.set(true);
        self.stream_info().set_route(route.clone().map(|route| route as _));
        self.cached_route.borrow_mut().clone_from(&route);
        route
    }

    fn rewrite_local_reply(&self, headers: &mut HeaderMap, content: &mut LocalReplyContent<'_>) {
        let Some(local_reply) = &self.config.local_reply else { return };
        let request = self.filter_manager.request_headers();
        let request = request.as_ref().and_then(|headers| headers.try_borrow().ok());
        local_reply.rewrite(request.as_deref(), headers, self.stream_info(), content);
    }

    fn cached_route(&self) -> Option<RouteConstSharedPtr> {
        self.cached_route.borrow().clone()
    }

    fn clear_route_cache(&self) {
        self.route_is_cached.set(false);
    }

    /// The timer itself is left alone: when it fires it looks how long ago that was (Envoy re-arms it each time, and
    /// wonders in a comment whether to).
    fn reset_idle_timer(&self) {
        self.last_activity.set(event::now());
    }

    fn disarm_request_timeout(&self) {
        if self.request_timer.disable() {
            self.passed(Stage::DisarmRequestTimeout, 0);
        }
    }

    /// A request that is refused as wrong fails its connection, whoever refuses it, as in Envoy 1.40.
    fn on_local_reply(&self, status: u16) {
        if let Some(route) = &*self.cached_route.borrow()
            && self.stream_info().upstream_cluster_info().is_none()
        {
            self.note_cluster(route);
        }
        if status == 400 && !self.config.stream_error_on_invalid_message {
            self.state.saw_connection_close.set(true);
        }
    }

    fn on_request_data_too_large(&self) {
        self.config.stats.downstream_rq_too_large.inc();
    }

    fn on_response_data_too_large(&self) {
        self.config.stats.rs_too_large.inc();
    }

    fn on_decoder_filter_above_write_buffer_high_watermark(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "Read-disabling downstream stream due to filter callbacks."
        );
        self.config.stats.downstream_flow_control_paused_reading_total.inc();
        self.read_disable_downstream(true);
    }

    fn on_decoder_filter_below_write_buffer_low_watermark(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "Read-enabling downstream stream due to filter callbacks."
        );
        self.config.stats.downstream_flow_control_resumed_reading_total.inc();
        self.read_disable_downstream(false);
    }
}
