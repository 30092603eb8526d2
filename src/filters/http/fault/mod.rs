//! The fault filter: has requests wait, answers them with errors, and slows responses down.
//!
//! Mirrors Envoy's `source/extensions/filters/http/fault/config.cc`. As in 1.40 a request may say itself what is to become of it,
//! only faults that are about to happen count against their limit, and a route's own settings go by the runtime, too.

mod filter;
mod message;
mod settings;
mod stream_rate_limiter;

use std::rc::Rc;
use std::sync::Arc;

use self::filter::FaultFilter;
use self::message::HttpFault;
use self::settings::FaultSettings;
use super::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory};
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::router::{
    OfTable, RouteFactoryContext, RouteSpecificFilterConfig, RouteSpecificFilterConfigOfTable,
};
use crate::stats::Scope;
use crate::stats_struct;

const MESSAGE: &[&str] = &["envoy.extensions.filters.http.fault.v3.HTTPFault"];

/// The fault filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory =
    NamedHttpFilterConfigFactory::new("envoy.filters.http.fault", MESSAGE, |r| {
        Ok(Arc::new(HttpFault::read(r)?))
    })
    .per_route(MESSAGE, |r| Ok(OfTable::of(HttpFault::read(r)?)));

stats_struct! {
    /// `http.<stat_prefix>.fault.`
    struct FaultFilterStats {
        counters: [aborts_injected, delays_injected, faults_overflow, response_rl_injected],
        gauges: [active_faults],
        histograms: [],
    }
}

/// What all requests of a connection manager share.
#[derive(Clone)]
struct FaultFilterConfig {
    name: Arc<str>,
    settings: Arc<FaultSettings>,
    stats: FaultFilterStats,
    /// Counts by the cluster that requests come from.
    scope: Scope,
}

/// What a route says instead.
#[derive(Debug)]
struct RouteSettings(Arc<FaultSettings>);

impl RouteSpecificFilterConfigOfTable for HttpFault {
    fn create(
        &self,
        context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
        Ok(Arc::new(RouteSettings(Arc::new(FaultSettings::new(self, context.runtime)))))
    }
}

impl HttpFilterConfig for HttpFault {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let scope = scope.create_scope("fault.");
        Ok(Arc::new(FaultFilterConfig {
            name: name.into(),
            settings: Arc::new(FaultSettings::new(self, &context.server.runtime)),
            stats: FaultFilterStats::new(&scope),
            scope,
        }))
    }
}

impl FilterFactory for FaultFilterConfig {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Rc::new(self.clone());
        Box::new(move |callbacks| callbacks.add_stream_filter(FaultFilter::new(config.clone())))
    }
}
