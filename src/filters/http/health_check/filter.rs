//! The filter itself. Mirrors `HealthCheckFilter` of Envoy's
//! `source/extensions/filters/http/health_check/health_check.cc`, with the details of 1.40.

use std::cell::{Cell, OnceCell};

use super::Settings;
use crate::buffer::Buffer;
use crate::common::Local;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter,
    StreamDecoderFilterCallbacks, StreamEncoderFilter,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};
use crate::stream_info::ResponseFlag;

pub(super) struct HealthCheckFilter {
    settings: Local<Settings>,
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
    health_check_request: Cell<bool>,
    handling: Cell<bool>,
}

impl HealthCheckFilter {
    pub fn new(settings: Local<Settings>) -> Self {
        HealthCheckFilter {
            settings,
            callbacks: OnceCell::new(),
            health_check_request: Cell::new(false),
            handling: Cell::new(false),
        }
    }

    /// The request is complete: it is answered here.
    fn on_complete(&self) {
        let Some(callbacks) = self.callbacks.get() else { return };
        let settings = &self.settings;
        settings.stats.request_total.inc();
        let (mut status, mut degraded, mut details) = (200, false, "health_check_ok");
        if settings.health_check_failed() {
            (status, details) = (503, "health_check_failed");
        } else if let Some(cache) = &settings.cache {
            // One that has just become too old still is an answer.
            (status, degraded) = cache.cached_response().unwrap_or((200, false));
            details = "health_check_cached";
            settings.stats.cached_response.inc();
        } else if !settings.cluster_min_healthy_percentages.is_empty() {
            (status, details) = match self.unhealthy_cluster() {
                None => (200, "health_check_ok_cluster_healthy"),
                Some(details) => (503, details),
            };
        }
        if !(200..300).contains(&status) {
            callbacks.stream_info().set_response_flag(ResponseFlag::FailedLocalHealthCheck);
            settings.stats.failed.inc();
        } else {
            settings.stats.ok.inc();
        }
        if degraded {
            settings.stats.degraded.inc();
        }
        let mark = |headers: &mut HeaderMap| {
            if degraded {
                headers.set(HeaderId::EnvoyDegraded, b"");
            }
        };
        callbacks.send_local_reply(status, "", Some(&mark), details.into());
    }

    /// Why a cluster is not healthy enough, if one is not.
    fn unhealthy_cluster(&self) -> Option<&'static str> {
        let settings = &self.settings;
        for (name, percentage) in &settings.cluster_min_healthy_percentages {
            let Some(cluster) = settings.cluster_manager.get(name) else {
                settings.stats.failed_cluster_not_found.inc();
                return Some("health_check_failed_no_cluster_found");
            };
            let stats = cluster.info().membership_stats();
            let total = stats.membership_total().value();
            if total == 0 {
                if *percentage == 0 {
                    continue;
                }
                settings.stats.failed_cluster_empty.inc();
                return Some("health_check_failed_cluster_empty");
            }
            let available = stats.membership_healthy().value() + stats.membership_degraded().value();
            if 100 * available < total * percentage {
                settings.stats.failed_cluster_unhealthy.inc();
                return Some("health_check_failed_cluster_unhealthy");
            }
        }
        None
    }
}

impl StreamDecoderFilter for HealthCheckFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.callbacks.get() else { return FilterHeadersStatus::Continue };
        let settings = &self.settings;
        if settings.headers.iter().all(|matcher| matcher.matches(Some(&headers.borrow()))) {
            self.health_check_request.set(true);
            callbacks.stream_info().health_check.set(true);
            let is_cached = settings.cache.as_ref().is_some_and(|cache| cache.cached_response().is_some());
            self.handling.set(!settings.pass_through_mode || settings.health_check_failed() || is_cached);
        }
        if !self.handling.get() {
            return FilterHeadersStatus::Continue;
        }
        if end_stream {
            self.on_complete();
        }
        FilterHeadersStatus::StopIteration
    }

    fn decode_data(&self, _data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        if !self.handling.get() {
            return FilterDataStatus::Continue;
        }
        if end_stream {
            self.on_complete();
        }
        FilterDataStatus::StopIterationNoBuffer
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        if !self.handling.get() {
            return FilterTrailersStatus::Continue;
        }
        self.on_complete();
        FilterTrailersStatus::StopIteration
    }
}

impl StreamEncoderFilter for HealthCheckFilter {
    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let settings = &self.settings;
        let mut headers = headers.borrow_mut();
        if self.health_check_request.get() {
            if let Some(cache) = &settings.cache {
                cache.set_cached_response(headers.status(), headers.has(HeaderId::EnvoyDegraded));
            }
            headers.set(HeaderId::EnvoyUpstreamHealthCheckedCluster, settings.service_cluster.as_bytes());
        }
        if settings.health_check_failed() {
            headers.set(HeaderId::EnvoyImmediateHealthCheckFail, b"true");
        }
        FilterHeadersStatus::Continue
    }
}
