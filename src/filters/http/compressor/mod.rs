//! The compressor filter: makes the bodies of responses, and of requests, smaller for those who can read them then.
//!
//! A filter of 1.40; mirrors its `source/extensions/filters/http/compressor/config.cc`. Envoy 1.1 has one for gzip alone.

mod config;
mod encoding;
mod filter;
pub(super) mod message;

use std::rc::Rc;
use std::sync::Arc;

use self::config::CompressorFilterConfig;
use self::filter::CompressorFilter;
use self::message::{CompressorConfig, CompressorPerRoute};
use super::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory};
use crate::common::Local;
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::stats::Scope;

/// The compressor filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.compressor",
    &["envoy.extensions.filters.http.compressor.v3.Compressor"],
    |r| Ok(Arc::new(CompressorConfig::read(r)?)),
)
.per_route(&["envoy.extensions.filters.http.compressor.v3.CompressorPerRoute"], |r| {
    Ok(Arc::new(CompressorPerRoute::read(r)?))
});

impl HttpFilterConfig for CompressorConfig {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let config = CompressorFilterConfig::new(self, name, scope, &context.server.runtime)?;
        Ok(Arc::new(Factory(Arc::new(config))))
    }
}

struct Factory(Arc<CompressorFilterConfig>);

impl FilterFactory for Factory {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Local::new(self.0.clone());
        Box::new(move |callbacks| {
            callbacks.add_stream_filter(Rc::new(CompressorFilter::new(config.clone())));
        })
    }
}
