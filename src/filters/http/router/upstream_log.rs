//! [`UpstreamLog`]: what is logged of one try.
//!
//! Mirrors `UpstreamRequest::upstreamLog` of Envoy 1.40's `source/common/router/upstream_request.cc`. A router without
//! `upstream_log` has nothing of this.

use std::cell::RefCell;
use std::time::Duration;

use super::filter::Filter;
use crate::access_log::{AccessLogFactoryContext, InstanceSharedPtr, LogContext};
use crate::config::access_log::AccessLogType;
use crate::config::{AccessLog, ConfigError};
use crate::event::{self, Timeout};
use crate::http::{HeaderMap, Protocol};
use crate::stream_info::StreamInfoImpl;

use super::message::UpstreamAccessLogOptions;

/// The logs that are told of tries, and when.
pub(super) struct UpstreamLogs {
    logs: Box<[InstanceSharedPtr]>,
    /// Also when a try has got its connection.
    pub(super) on_upstream_stream: bool,
    /// Also each time that so much time has passed since then.
    pub(super) flush_interval: Option<Duration>,
}

impl UpstreamLogs {
    /// `None` where nothing is logged.
    ///
    /// # Errors
    /// What a log asks for and cannot be had.
    pub(super) fn create(
        logs: &[AccessLog],
        options: &UpstreamAccessLogOptions,
        context: &AccessLogFactoryContext<'_>,
    ) -> Result<Option<Box<Self>>, ConfigError> {
        let create = |(i, log): (usize, &AccessLog)| {
            log.create(context).map_err(|error| error.within(&format!("upstream_log[{i}]")))
        };
        let logs: Box<[_]> = logs.iter().enumerate().map(create).collect::<Result<_, _>>()?;
        Ok((!logs.is_empty()).then(|| {
            Box::new(UpstreamLogs {
                logs,
                on_upstream_stream: options.flush_upstream_log_on_upstream_stream,
                flush_interval: options.upstream_log_flush_interval,
            })
        }))
    }
}

/// The record of one try.
pub(super) struct UpstreamLog {
    pub(super) info: StreamInfoImpl,
    pub(super) timer: Timeout,
    response_headers: RefCell<Option<HeaderMap>>,
    response_trailers: RefCell<Option<HeaderMap>>,
}

impl UpstreamLog {
    /// Of a try that begins; `None` where none is logged.
    pub(super) fn create(parent: &Filter) -> Option<Box<Self>> {
        parent.config.upstream_logs.as_ref()?;
        let info = StreamInfoImpl::new();
        if let Some(downstream) = parent.stream_info() {
            info.set_route(downstream.route());
            info.set_upstream_cluster_info(downstream.upstream_cluster_info().as_ref());
            info.health_check.set(downstream.health_check.get());
            info.set_downstream_remote_address(downstream.downstream_remote_address());
            if let Some(connection) = downstream.downstream_connection() {
                info.set_downstream_connection(connection);
            }
        }
        Some(Box::new(UpstreamLog {
            info,
            timer: Timeout::default(),
            response_headers: RefCell::default(),
            response_trailers: RefCell::default(),
        }))
    }

    /// There is a connection.
    pub(super) fn on_pool_ready(&self, parent: &Filter, is_raw: bool) {
        self.info.protocol.set((!is_raw).then_some(Protocol::Http11));
        self.info.upstream_is_raw.set(is_raw);
        self.info.first_upstream_tx_byte_sent.set(Some(event::now()));
        if parent.config.upstream_logs.as_ref().is_some_and(|logs| logs.on_upstream_stream) {
            self.log(parent, AccessLogType::UpstreamPoolReady);
        }
    }

    /// The head of the response is there.
    pub(super) fn on_headers(&self, headers: &HeaderMap) {
        self.info.response_code.set(Some(headers.status()));
        *self.response_headers.borrow_mut() = Some(headers.clone());
    }

    /// The response has trailers.
    pub(super) fn on_trailers(&self, trailers: &HeaderMap) {
        *self.response_trailers.borrow_mut() = Some(trailers.clone());
    }

    /// Tells the logs.
    pub(super) fn log(&self, parent: &Filter, log_type: AccessLogType) {
        let Some(logs) = &parent.config.upstream_logs else { return };
        let request = parent.request_headers();
        let request = request.as_ref().and_then(|headers| headers.try_borrow().ok());
        let (response, trailers) = (self.response_headers.borrow(), self.response_trailers.borrow());
        let context = LogContext {
            request_headers: request.as_deref(),
            response_headers: response.as_ref(),
            response_trailers: trailers.as_ref(),
            log_type,
            ..LogContext::new(&self.info)
        };
        logs.logs.iter().for_each(|log| log.log(&context));
    }
}
