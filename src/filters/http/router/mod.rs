//! The router: the last HTTP filter, which sends the request to an upstream.
//!
//! Mirrors Envoy's `source/common/router/router.cc`. Hash policies come
//! with the routes that ask for them.

mod filter;
mod generic_conn_pool;
mod message;
mod retry_state;
mod shadow;
mod strict_headers;
mod tcp_upstream;
#[cfg(test)]
mod tests;
mod timeout;
mod tracked_try;
mod tunnel;
mod upstream_log;
mod upstream_request;

use std::sync::{Arc, OnceLock};

use self::strict_headers::{StrictHeader, strict_headers};
use self::upstream_log::UpstreamLogs;
use crate::access_log::AccessLogFactoryContext;
use crate::cluster_manager::ClusterManager;
use crate::common::Local;
use crate::config::ConfigError;
use crate::config::core::{Denominator, FractionalPercent};
use crate::config::reader::FromMessage;
use crate::filters::http::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory};
use crate::filters::{FactoryContext, ServerFactoryContext};
use crate::runtime::{IntegerOverride, LoaderImpl, RuntimeShare};
use crate::stats::Scope;
use crate::stats_struct;

pub use filter::Filter;
pub use message::RouterConfig;

stats_struct! {
    /// `http.<stat_prefix>.`
    pub struct RouterStats {
        counters: [
            no_cluster,
            no_route,
            passthrough_internal_redirect_bad_location,
            passthrough_internal_redirect_no_route,
            passthrough_internal_redirect_predicate,
            passthrough_internal_redirect_too_many_redirects,
            passthrough_internal_redirect_unsafe_scheme,
            rq_direct_response,
            rq_redirect,
            rq_reset_after_downstream_response_started,
            rq_total,
        ],
        gauges: [],
        histograms: [],
    }
}

/// The router's configuration, shared by all its filters.
pub struct FilterConfig {
    stats: RouterStats,
    cluster_manager: ClusterManager,
    /// Where this proxy runs; may be empty.
    zone: String,
    emit_dynamic_stats: bool,
    suppress_envoy_headers: bool,
    respect_expected_rq_timeout: bool,
    strict_check_headers: Box<[StrictHeader]>,
    /// Told of each try.
    upstream_logs: Option<Box<UpstreamLogs>>,
    /// Whether the runtime lets requests be tried again, and how long the first pause is, in milliseconds.
    use_retry: Arc<RuntimeShare>,
    base_retry_backoff_ms: Arc<IntegerOverride>,
    /// For requests of the proxy's own.
    async_client: AsyncClientConfig,
}

/// What the router of requests of the proxy's own is made with, when there are some.
struct AsyncClientConfig {
    root_scope: Scope,
    local_address: String,
    response_buffer_limit: Arc<IntegerOverride>,
    config: OnceLock<Arc<FilterConfig>>,
}

/// How long an answer may be that somebody waits for, in bytes, where the runtime does not say.
const DEFAULT_RESPONSE_BUFFER_LIMIT: u64 = 32 * 1024 * 1024;

impl AsyncClientConfig {
    fn new(root_scope: &Scope, local_address: String, runtime: Option<&LoaderImpl>) -> Self {
        AsyncClientConfig {
            root_scope: root_scope.clone(),
            local_address,
            response_buffer_limit: IntegerOverride::new("http.async_response_buffer_limit", runtime),
            config: OnceLock::new(),
        }
    }
}

fn use_retry(runtime: Option<&LoaderImpl>) -> Arc<RuntimeShare> {
    let all = FractionalPercent { numerator: 100, denominator: Denominator::Hundred };
    RuntimeShare::new("upstream.use_retry", all, runtime)
}

fn base_retry_backoff_ms(runtime: Option<&LoaderImpl>) -> Arc<IntegerOverride> {
    IntegerOverride::new("upstream.base_retry_backoff_ms", runtime)
}

impl FilterConfig {
    /// That of the routers of requests of the proxy's own (Envoy: `AsyncClientImpl`).
    fn for_async_client(&self) -> Local<FilterConfig> {
        let client = &self.async_client;
        let config = client.config.get_or_init(|| {
            Arc::new(FilterConfig {
                stats: RouterStats::new(&client.root_scope.create_scope("http.async-client.")),
                cluster_manager: self.cluster_manager.clone(),
                zone: self.zone.clone(),
                emit_dynamic_stats: true,
                suppress_envoy_headers: true,
                respect_expected_rq_timeout: false,
                strict_check_headers: Box::default(),
                upstream_logs: None,
                use_retry: self.use_retry.clone(),
                base_retry_backoff_ms: self.base_retry_backoff_ms.clone(),
                async_client: AsyncClientConfig {
                    root_scope: client.root_scope.clone(),
                    local_address: client.local_address.clone(),
                    response_buffer_limit: client.response_buffer_limit.clone(),
                    config: OnceLock::new(),
                },
            })
        });
        Local::new(config.clone())
    }

    /// That of requests that other filters make.
    pub fn of_async_client(server: &ServerFactoryContext) -> Arc<FilterConfig> {
        let (root_scope, runtime) = (server.stats.root_scope(), Some(&*server.runtime));
        Arc::new(FilterConfig {
            stats: RouterStats::new(&root_scope.create_scope("http.async-client.")),
            cluster_manager: server.cluster_manager.clone(),
            zone: server.service_zone.clone(),
            emit_dynamic_stats: true,
            suppress_envoy_headers: false,
            respect_expected_rq_timeout: false,
            strict_check_headers: Box::default(),
            upstream_logs: None,
            use_retry: use_retry(runtime),
            base_retry_backoff_ms: base_retry_backoff_ms(runtime),
            async_client: AsyncClientConfig::new(
                &root_scope,
                server.local_address.as_string_without_port(),
                runtime,
            ),
        })
    }

    /// How long the answer to a request of another filter may be, in bytes (Envoy: `AsyncClientImpl::ResponseBufferLimit`).
    pub(super) fn async_response_buffer_limit(&self) -> usize {
        self.async_client.response_buffer_limit.get(DEFAULT_RESPONSE_BUFFER_LIMIT) as usize
    }

    /// This machine's address, as others are told of it.
    pub(super) fn local_address(&self) -> &str {
        &self.async_client.local_address
    }
}

/// The router among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.router",
    &["envoy.extensions.filters.http.router.v3.Router"],
    |r| Ok(Arc::new(RouterConfig::read(r)?)),
)
.terminal();

impl HttpFilterConfig for RouterConfig {
    fn create_filter_factory(
        &self,
        _name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let log_context = AccessLogFactoryContext {
            access_log_manager: &context.server.access_log_manager,
            runtime: &context.server.runtime,
            cluster_manager: &context.server.cluster_manager,
            stats: &context.server.stats,
        };
        Ok(Arc::new(RouterFilterFactory {
            config: Arc::new(FilterConfig {
                stats: RouterStats::new(scope),
                cluster_manager: context.server.cluster_manager.clone(),
                zone: context.server.service_zone.clone(),
                emit_dynamic_stats: self.dynamic_stats,
                suppress_envoy_headers: self.suppress_envoy_headers,
                respect_expected_rq_timeout: self.respect_expected_rq_timeout,
                strict_check_headers: strict_headers(&self.strict_check_headers),
                upstream_logs: UpstreamLogs::create(
                    &self.upstream_log,
                    &self.upstream_log_options,
                    &log_context,
                )?,
                use_retry: use_retry(Some(&context.server.runtime)),
                base_retry_backoff_ms: base_retry_backoff_ms(Some(&context.server.runtime)),
                async_client: AsyncClientConfig::new(
                    &context.server.stats.root_scope(),
                    context.server.local_address.as_string_without_port(),
                    Some(&context.server.runtime),
                ),
            }),
        }))
    }
}

/// Makes a router filter for each stream.
struct RouterFilterFactory {
    config: Arc<FilterConfig>,
}

impl FilterFactory for RouterFilterFactory {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Local::new(self.config.clone());
        Box::new(move |callbacks| callbacks.add_stream_decoder_filter(Filter::new(config.clone())))
    }
}
