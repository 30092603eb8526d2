//! The local rate limit filter of connections: those that come too fast are closed.
//!
//! Mirrors Envoy 1.40's `source/extensions/filters/network/local_ratelimit/local_ratelimit.cc`; 1.1 has none. The bucket's
//! tokens are shared by all workers.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use crate::buffer::Buffer;
use crate::common::token_bucket::AtomicTokenBucketImpl;
use crate::config::ConfigError;
use crate::config::core::{RuntimeFeatureFlag, TokenBucket};
use crate::config::reader::{FromMessage, MessageReader};
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::network::{
    ConnectionCloseType, FilterStatus, NetworkFilterFactory, NetworkFilterFactoryCb, ReadFilter,
    ReadFilterCallbacks,
};
use crate::runtime::FeatureFlag;
use crate::{envoy_conn_log, message, stats_struct};

/// The local rate limit filter of connections among the extensions.
pub static FACTORY: NamedNetworkFilterConfigFactory = NamedNetworkFilterConfigFactory::new(
    "envoy.filters.network.local_ratelimit",
    &["envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit"],
    |r| Ok(Arc::new(LocalRateLimit::read(r)?)),
);

message! {
    /// How fast connections may come.
    #[derive(Eq)]
    pub struct LocalRateLimit = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit", checked by check {
        /// Never empty.
        pub stat_prefix: String,
        /// One token each.
        pub token_bucket: TokenBucket,
        /// Whether they are counted.
        pub runtime_enabled: Option<RuntimeFeatureFlag>,
    }
}

fn check(r: &MessageReader<'_>, limit: &LocalRateLimit) {
    if limit.token_bucket.fill_interval < Duration::from_millis(50) {
        r.refuse("token_bucket.fill_interval", "local rate limit token bucket fill timer must be >= 50ms");
    }
}

stats_struct! {
    /// `local_rate_limit.<stat_prefix>.`
    struct LocalRateLimitStats {
        counters: [rate_limited],
        gauges: [],
        histograms: [],
    }
}

impl NetworkFilterConfig for LocalRateLimit {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        let server = context.server;
        let prefix = format!("local_rate_limit.{}.", self.stat_prefix);
        let bucket = &self.token_bucket;
        Ok(Box::new(LocalRateLimitFactory(Arc::new(Config {
            stats: LocalRateLimitStats::new(&server.stats.root_scope().create_scope(&prefix)),
            enabled: FeatureFlag::new(self.runtime_enabled.as_ref(), &server.runtime),
            bucket: AtomicTokenBucketImpl::new(bucket.max_tokens.into(), bucket.fill_rate()),
        }))))
    }
}

/// What all connections of the filter chain share, on all workers.
struct Config {
    stats: LocalRateLimitStats,
    enabled: Arc<FeatureFlag>,
    bucket: AtomicTokenBucketImpl,
}

struct LocalRateLimitFactory(Arc<Config>);

impl NetworkFilterFactory for LocalRateLimitFactory {
    fn on_worker(&self, _dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        let config = self.0.clone();
        Box::new(move |connection| {
            let filter = Filter { config: config.clone(), read_callbacks: OnceCell::new() };
            connection.add_read_filter(Rc::new(filter));
        })
    }
}

struct Filter {
    config: Arc<Config>,
    read_callbacks: OnceCell<ReadFilterCallbacks>,
}

impl ReadFilter for Filter {
    fn on_new_connection(&self) -> FilterStatus {
        let config = &self.config;
        if !config.enabled.enabled() || config.bucket.consume(1) {
            return FilterStatus::Continue;
        }
        config.stats.rate_limited.inc();
        if let Some(connection) = self.read_callbacks.get().and_then(|c| c.connection().upgrade()) {
            envoy_conn_log!(Filter, trace, connection.id(), "local_rate_limit: rate limiting connection");
            connection.close(ConnectionCloseType::NoFlush);
        }
        FilterStatus::StopIteration
    }

    fn on_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        FilterStatus::Continue
    }

    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        let _ = self.read_callbacks.set(callbacks);
    }
}
