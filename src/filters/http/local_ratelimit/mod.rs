//! The local rate limit filter: refuses requests that are too many, without asking anybody.
//!
//! A filter of 1.40, which Envoy 1.1 does not have; mirrors its
//! `source/extensions/filters/http/local_ratelimit/config.cc`. A bucket's tokens are shared by all workers.

mod config;
mod dynamic;
mod filter;
mod limiter;
mod message;

use std::rc::Rc;
use std::sync::Arc;

use self::config::FilterConfig;
use self::filter::Filter;
use self::message::LocalRateLimit;
use super::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory};
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::router::{
    OfTable, RouteFactoryContext, RouteSpecificFilterConfig, RouteSpecificFilterConfigOfTable,
};
use crate::stats::Scope;

const MESSAGE: &[&str] = &["envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"];

/// The local rate limit filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory =
    NamedHttpFilterConfigFactory::new("envoy.filters.http.local_ratelimit", MESSAGE, |r| {
        Ok(Arc::new(LocalRateLimit::read(r)?))
    })
    .per_route(MESSAGE, |r| {
        let config = LocalRateLimit::read(r)?;
        if config.token_bucket.is_none() && !r.has("token_bucket") {
            r.refuse("token_bucket", "local rate limit token bucket must be set for per filter configs");
        }
        Ok(OfTable::of(config))
    });

/// What all requests of a connection manager share.
#[derive(Clone)]
struct Settings {
    name: Arc<str>,
    config: Arc<FilterConfig>,
}

/// What a route says instead.
#[derive(Debug)]
struct RouteConfig(Arc<FilterConfig>);

impl RouteSpecificFilterConfigOfTable for LocalRateLimit {
    fn create(
        &self,
        context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
        Ok(Arc::new(RouteConfig(Arc::new(FilterConfig::new(self, context)?))))
    }
}

impl HttpFilterConfig for LocalRateLimit {
    fn create_filter_factory(
        &self,
        name: &str,
        _scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let server = context.server;
        let context = RouteFactoryContext {
            runtime: &server.runtime,
            stats: &server.stats,
            service_cluster: &server.service_cluster,
        };
        Ok(Arc::new(Settings { name: name.into(), config: Arc::new(FilterConfig::new(self, context)?) }))
    }
}

impl FilterFactory for Settings {
    fn on_worker(&self) -> FilterFactoryCb {
        let settings = Rc::new(self.clone());
        Box::new(move |callbacks| callbacks.add_stream_filter(Rc::new(Filter::new(settings.clone()))))
    }
}
