//! The router: the last HTTP filter, which sends the request to an upstream.
//!
//! Mirrors Envoy's `source/common/router/router.cc`. Retries, shadowing, redirects and hash policies come
//! with the routes that ask for them.

mod filter;
mod timeout;
mod upstream_request;

use std::sync::Arc;

use crate::cluster_manager::ClusterManager;
use crate::config;
use crate::filters::http::{FilterChainFactoryCallbacks, FilterFactory};
use crate::stats::Scope;
use crate::stats_struct;

pub use filter::Filter;

stats_struct! {
    /// `http.<stat_prefix>.`
    pub struct RouterStats {
        counters: [
            no_cluster,
            no_route,
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
}

/// Makes a router filter for each stream.
pub struct RouterFilterFactory {
    config: Arc<FilterConfig>,
}

impl RouterFilterFactory {
    /// Statistics go to `scope`, the connection manager's; `zone` is where this proxy runs.
    pub fn new(
        config: &config::RouterConfig,
        scope: &Scope,
        cluster_manager: ClusterManager,
        zone: &str,
    ) -> Self {
        RouterFilterFactory {
            config: Arc::new(FilterConfig {
                stats: RouterStats::new(scope),
                cluster_manager,
                zone: zone.to_string(),
                emit_dynamic_stats: config.dynamic_stats,
                suppress_envoy_headers: config.suppress_envoy_headers,
                respect_expected_rq_timeout: config.respect_expected_rq_timeout,
            }),
        }
    }
}

impl FilterFactory for RouterFilterFactory {
    fn create(&self, callbacks: &dyn FilterChainFactoryCallbacks) {
        callbacks.add_stream_decoder_filter(Filter::new(self.config.clone()));
    }
}
