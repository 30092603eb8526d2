//! The health check filter: answers those who ask whether this server is well.
//!
//! Mirrors Envoy's `source/extensions/filters/http/health_check/config.cc`, with the statistics of 1.40.

mod cache;
mod filter;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use self::cache::HealthCheckCacheManager;
use self::filter::HealthCheckFilter;
use super::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory};
use crate::cluster_manager::ClusterManager;
use crate::config::ConfigError;
use crate::config::core::Percent;
use crate::config::header_matcher;
use crate::config::reader::{FromMessage, MessageReader};
use crate::filters::FactoryContext;
use crate::http::header_utility::HeaderMatcher;
use crate::message;
use crate::stats::Scope;
use crate::stats_struct;
use crate::upstream::ClusterName;

message! {
    /// Who is answered, and what.
    pub struct HealthCheckConfig = "envoy.extensions.filters.http.health_check.v3.HealthCheck", checked by check {
        /// The upstream is asked; has to be there.
        pub pass_through_mode: Option<bool>,
        /// Its answer is good for so long.
        pub cache_time: Option<Duration>,
        /// Otherwise so much of each of these clusters has to be healthy.
        pub cluster_min_healthy_percentages: Vec<(String, Percent)> => read_percentages,
        /// Such requests are meant.
        pub headers: Vec<header_matcher::HeaderMatcher>,
    }
}

fn read_percentages(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<(String, Percent)>, ConfigError> {
    r.message_map(name)
}

fn check(r: &mut MessageReader<'_>, config: &HealthCheckConfig) {
    if config.pass_through_mode == Some(false) && config.cache_time.is_some_and(|time| !time.is_zero()) {
        r.refuse("cache_time", "cache_time_ms must not be set when path_through_mode is disabled");
    }
}

/// The health check filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.health_check",
    &["envoy.extensions.filters.http.health_check.v3.HealthCheck"],
    |r| Ok(Arc::new(HealthCheckConfig::read(r)?)),
);

stats_struct! {
    /// `http.<stat_prefix>.health_check.`
    struct HealthCheckFilterStats {
        counters: [
            cached_response,
            degraded,
            failed,
            failed_cluster_empty,
            failed_cluster_not_found,
            failed_cluster_unhealthy,
            ok,
            request_total,
        ],
        gauges: [],
        histograms: [],
    }
}

/// What all requests of a connection manager share.
struct Settings {
    pass_through_mode: bool,
    cache: Option<HealthCheckCacheManager>,
    /// In whole percent, as in 1.40.
    cluster_min_healthy_percentages: Vec<(ClusterName, u64)>,
    headers: Vec<HeaderMatcher>,
    cluster_manager: ClusterManager,
    /// This node's own.
    service_cluster: String,
    failed: Arc<AtomicBool>,
    stats: HealthCheckFilterStats,
}

impl Settings {
    /// Whether the admin has the server fail.
    fn health_check_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

impl HttpFilterConfig for HealthCheckConfig {
    fn create_filter_factory(
        &self,
        _name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let server = context.server;
        let percentages = self.cluster_min_healthy_percentages.iter();
        let cache_time = self.cache_time.filter(|time| !time.is_zero());
        Ok(Arc::new(Factory(Arc::new(Settings {
            pass_through_mode: self.pass_through_mode.unwrap_or(false),
            cache: cache_time.map(HealthCheckCacheManager::new),
            cluster_min_healthy_percentages: percentages
                .map(|(name, percent)| (ClusterName::of(name), percent.value as u64))
                .collect(),
            headers: self.headers.iter().map(HeaderMatcher::new).collect(),
            cluster_manager: server.cluster_manager.clone(),
            service_cluster: server.service_cluster.clone(),
            failed: server.health_check_failed.clone(),
            stats: HealthCheckFilterStats::new(&scope.create_scope("health_check.")),
        }))))
    }
}

struct Factory(Arc<Settings>);

impl FilterFactory for Factory {
    fn on_worker(&self) -> FilterFactoryCb {
        let settings = crate::common::Local::new(self.0.clone());
        Box::new(move |callbacks| {
            callbacks.add_stream_filter(Rc::new(HealthCheckFilter::new(settings.clone())));
        })
    }
}
