//! Filters: which streams an access log is told of.
//!
//! Mirrors Envoy's `source/common/access_log/access_log_impl.cc`, with the filters of 1.40. The runtime is not asked:
//! thresholds and shares are those of the configuration.

use std::fmt::Debug;

use super::instance::LogContext;
use crate::config::ConfigError;
use crate::config::access_log_filter::{
    AccessLogFilter, Comparison, ComparisonOp, LogTypeFilter, RuntimeFilter,
};
use crate::config::extension::Factory;
use crate::config::header_matcher::HeaderMatcher;
use crate::http::HeaderId;
use crate::http::header_utility::match_header;
use crate::stream_info::ResponseFlag;

/// Which streams are logged.
pub trait Filter: Send + Sync {
    /// Whether this one is.
    fn evaluate(&self, context: &LogContext<'_>) -> bool;
}

/// A filter of a log, which all workers share.
pub type FilterPtr = Box<dyn Filter>;

/// The configuration of a filter that is an extension.
pub trait ExtensionFilterConfig: Debug + Send + Sync {
    /// Makes the filter.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the configuration.
    fn create_filter(&self) -> Result<FilterPtr, ConfigError>;
}

/// Reads the configuration of such a filter.
pub type ExtensionFilterFactory = Factory<dyn ExtensionFilterConfig>;

/// The filter that a configuration asks for (Envoy: `FilterFactory::fromProto`).
///
/// # Errors
/// As [`ExtensionFilterConfig::create_filter`].
pub(super) fn from_config(config: &AccessLogFilter) -> Result<FilterPtr, ConfigError> {
    let all = |filters: &[AccessLogFilter]| filters.iter().map(from_config).collect::<Result<Vec<_>, _>>();
    Ok(match config {
        AccessLogFilter::StatusCode(comparison) => Box::new(StatusCodeFilter(comparison.clone())),
        AccessLogFilter::Duration(comparison) => Box::new(DurationFilter(comparison.clone())),
        AccessLogFilter::NotHealthCheck => Box::new(NotHealthCheckFilter),
        AccessLogFilter::Traceable => Box::new(TraceableRequestFilter),
        AccessLogFilter::Runtime(share) => Box::new(share.clone()),
        AccessLogFilter::And(filters) => Box::new(AndFilter(all(filters)?)),
        AccessLogFilter::Or(filters) => Box::new(OrFilter(all(filters)?)),
        AccessLogFilter::Header(matcher) => Box::new(matcher.clone()),
        AccessLogFilter::ResponseFlag(flags) => {
            Box::new(ResponseFlagFilter(flags.iter().filter_map(|flag| ResponseFlag::find(flag)).collect()))
        }
        AccessLogFilter::LogType(types) => Box::new(types.clone()),
        AccessLogFilter::Extension(config) => config.get::<dyn ExtensionFilterConfig>()?.create_filter()?,
    })
}

fn compare(comparison: &Comparison, number: u64) -> bool {
    let value = comparison.value.default_value.into();
    match comparison.op {
        ComparisonOp::Eq => number == value,
        ComparisonOp::Ge => number >= value,
        ComparisonOp::Le => number <= value,
        ComparisonOp::Ne => number != value,
    }
}

/// By the status; that of a stream without an answer is 0.
struct StatusCodeFilter(Comparison);

impl Filter for StatusCodeFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        compare(&self.0, context.stream_info.response_code.get().unwrap_or(0).into())
    }
}

/// By the time that the stream took, in milliseconds.
struct DurationFilter(Comparison);

impl Filter for DurationFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        compare(&self.0, context.stream_info.duration().as_millis() as u64)
    }
}

struct NotHealthCheckFilter;

impl Filter for NotHealthCheckFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        !context.stream_info.health_check.get()
    }
}

/// Takes no stream: without tracing none is traced because somebody asked for it.
struct TraceableRequestFilter;

impl Filter for TraceableRequestFilter {
    fn evaluate(&self, _context: &LogContext<'_>) -> bool {
        false
    }
}

impl Filter for RuntimeFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        let of = u64::from(self.percent_sampled.denominator.number());
        let id = Some(context).filter(|_| !self.use_independent_randomness).and_then(stream_id);
        id.unwrap_or_else(|| fastrand::u64(..)) % of < self.percent_sampled.numerator.into()
    }
}

/// The beginning of the request's id as a number, by which all proxies that it passes decide alike (Envoy:
/// `UuidUtils::uuidModBy`).
fn stream_id(context: &LogContext<'_>) -> Option<u64> {
    let id = context.request_headers?.get(HeaderId::RequestId)?;
    u64::from_str_radix(std::str::from_utf8(id.get(..8)?).ok()?, 16).ok()
}

struct AndFilter(Vec<FilterPtr>);

impl Filter for AndFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        self.0.iter().all(|filter| filter.evaluate(context))
    }
}

struct OrFilter(Vec<FilterPtr>);

impl Filter for OrFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        self.0.iter().any(|filter| filter.evaluate(context))
    }
}

impl Filter for HeaderMatcher {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        context.request_headers.is_some_and(|headers| match_header(headers, self))
    }
}

/// By flags; by any where there are none.
struct ResponseFlagFilter(Vec<ResponseFlag>);

impl Filter for ResponseFlagFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        let info = context.stream_info;
        match self.0.as_slice() {
            [] => info.has_any_response_flag(),
            flags => flags.iter().any(|flag| info.has_response_flag(*flag)),
        }
    }
}

impl Filter for LogTypeFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        self.types.contains(&context.log_type) != self.exclude
    }
}
