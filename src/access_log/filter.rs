//! Filters: which streams an access log is told of.
//!
//! Mirrors Envoy's `source/common/access_log/access_log_impl.cc`, with the filters of 1.40. The runtime is not asked for
//! each stream: it tells of new numbers.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::instance::{AccessLogFactoryContext, LogContext};
use crate::config::ConfigError;
use crate::config::access_log_filter::{
    self as config, AccessLogFilter, Comparison, ComparisonOp, GrpcStatusFilter, LogTypeFilter,
    MetadataFilter,
};
use crate::config::core::{FractionalPercent, RuntimeUInt32};
use crate::config::extension::Factory;
use crate::http::header_utility::HeaderMatcher;
use crate::http::{HeaderId, utility};
use crate::runtime::{LoaderImpl, RuntimeUser, SnapshotImpl};
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
    fn create_filter(&self, context: &AccessLogFactoryContext<'_>) -> Result<FilterPtr, ConfigError>;
}

/// Reads the configuration of such a filter.
pub type ExtensionFilterFactory = Factory<dyn ExtensionFilterConfig>;

/// The filter that a configuration asks for (Envoy: `FilterFactory::fromProto`).
///
/// # Errors
/// As [`ExtensionFilterConfig::create_filter`].
pub fn from_config(
    config: &AccessLogFilter,
    context: &AccessLogFactoryContext<'_>,
) -> Result<FilterPtr, ConfigError> {
    let all = |filters: &[AccessLogFilter]| {
        filters.iter().map(|filter| from_config(filter, context)).collect::<Result<Vec<_>, _>>()
    };
    let comparison = |comparison| ComparisonFilter::new(comparison, context.runtime);
    Ok(match config {
        AccessLogFilter::StatusCode(status) => Box::new(StatusCodeFilter(comparison(status))),
        AccessLogFilter::Duration(duration) => Box::new(DurationFilter(comparison(duration))),
        AccessLogFilter::NotHealthCheck => Box::new(NotHealthCheckFilter),
        AccessLogFilter::Traceable => Box::new(TraceableRequestFilter),
        AccessLogFilter::Runtime(share) => Box::new(RuntimeFilter::new(share, context.runtime)),
        AccessLogFilter::And(filters) => Box::new(AndFilter(all(filters)?)),
        AccessLogFilter::Or(filters) => Box::new(OrFilter(all(filters)?)),
        AccessLogFilter::Header(matcher) => Box::new(HeaderMatcher::new(matcher)),
        AccessLogFilter::ResponseFlag(flags) => {
            Box::new(ResponseFlagFilter(flags.iter().filter_map(|flag| ResponseFlag::find(flag)).collect()))
        }
        AccessLogFilter::GrpcStatus(statuses) => Box::new(statuses.clone()),
        AccessLogFilter::LogType(types) => Box::new(types.clone()),
        AccessLogFilter::Metadata(metadata) => Box::new(metadata.clone()),
        AccessLogFilter::Extension(config) => {
            config.get::<dyn ExtensionFilterConfig>()?.create_filter(context)?
        }
    })
}

/// A number as the runtime has it now, or the configuration.
struct RuntimeNumber {
    key: String,
    default: u64,
    value: AtomicU64,
}

impl RuntimeNumber {
    fn new(key: &str, default: u32, runtime: &LoaderImpl) -> Arc<Self> {
        let default = default.into();
        let number =
            Arc::new(RuntimeNumber { key: key.to_string(), default, value: AtomicU64::new(default) });
        if !key.is_empty() {
            runtime.add_user(&number);
        }
        number
    }

    fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

impl RuntimeUser for RuntimeNumber {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.value.store(snapshot.get_integer(&self.key, self.default), Relaxed);
    }
}

struct ComparisonFilter {
    op: ComparisonOp,
    value: Arc<RuntimeNumber>,
}

impl ComparisonFilter {
    fn new(config: &Comparison, runtime: &LoaderImpl) -> Self {
        let RuntimeUInt32 { runtime_key, default_value } = &config.value;
        ComparisonFilter { op: config.op, value: RuntimeNumber::new(runtime_key, *default_value, runtime) }
    }

    fn compare_against_value(&self, number: u64) -> bool {
        let value = self.value.get();
        match self.op {
            ComparisonOp::Eq => number == value,
            ComparisonOp::Ge => number >= value,
            ComparisonOp::Le => number <= value,
            ComparisonOp::Ne => number != value,
        }
    }
}

/// By the status; that of a stream without an answer is 0.
struct StatusCodeFilter(ComparisonFilter);

impl Filter for StatusCodeFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        self.0.compare_against_value(context.stream_info.response_code.get().unwrap_or(0).into())
    }
}

/// By the time that the stream took, in milliseconds.
struct DurationFilter(ComparisonFilter);

impl Filter for DurationFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        self.0.compare_against_value(context.stream_info.duration().as_millis() as u64)
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

/// A share of all streams.
struct RuntimeFilter {
    share: Arc<RuntimeNumber>,
    of: u64,
    use_independent_randomness: bool,
}

impl RuntimeFilter {
    fn new(config: &config::RuntimeFilter, runtime: &LoaderImpl) -> Self {
        let FractionalPercent { numerator, denominator } = config.percent_sampled;
        RuntimeFilter {
            share: RuntimeNumber::new(&config.runtime_key, numerator, runtime),
            of: denominator.number().into(),
            use_independent_randomness: config.use_independent_randomness,
        }
    }
}

impl Filter for RuntimeFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        let id = Some(context).filter(|_| !self.use_independent_randomness).and_then(stream_id);
        id.unwrap_or_else(|| fastrand::u64(..)) % self.of < self.share.get()
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
        self.matches(context.request_headers)
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

/// By the status in the trailers, else in the headers, else by that of HTTP. An empty one is none.
impl Filter for GrpcStatusFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        let told = [context.response_trailers, context.response_headers];
        let told = told
            .into_iter()
            .flatten()
            .find(|headers| headers.get(HeaderId::GrpcStatus).is_some_and(|status| !status.is_empty()));
        let status = match told {
            // What is no number is no status that could be asked for.
            Some(headers) => headers.get_str(HeaderId::GrpcStatus).and_then(|status| status.parse().ok()),
            None => Some(utility::http_to_grpc_status(context.stream_info.response_code.get().unwrap_or(0))),
        };
        status.is_some_and(|status| self.statuses.contains(&status)) != self.exclude
    }
}

impl Filter for MetadataFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        let Some(matcher) = &self.matcher else { return self.match_if_key_not_found };
        match matcher.value(context.stream_info) {
            Some(_) => matcher.matches(context.stream_info),
            None => self.match_if_key_not_found,
        }
    }
}

impl Filter for LogTypeFilter {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        self.types.contains(&context.log_type) != self.exclude
    }
}
