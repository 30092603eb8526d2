//! The decompressor filter: makes the bodies of responses, and of requests, what they were before they were compressed.
//!
//! A filter of 1.40; mirrors its `source/extensions/filters/http/decompressor/config.cc`.

mod filter;

use std::rc::Rc;
use std::sync::Arc;

use self::filter::DecompressorFilter;
use super::compressor::message::{Library, read_library};
use super::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory};
use crate::common::Local;
use crate::config::ConfigError;
use crate::config::core::RuntimeFeatureFlag;
use crate::config::extension::Category;
use crate::config::reader::{FromMessage, MessageReader};
use crate::filters::FactoryContext;
use crate::filters::compression::{CreateDecompressor, DecompressorFactory};
use crate::runtime::{FeatureFlag, LoaderImpl};
use crate::stats::Scope;
use crate::{message, stats_struct};

message! {
    /// What is decompressed, and how.
    pub message DecompressorConfig = "envoy.extensions.filters.http.decompressor.v3.Decompressor" {
        /// Of requests.
        pub request_direction_config: RequestDirectionConfig,
        /// Of responses.
        pub response_direction_config: ResponseDirectionConfig,
        /// By what.
        pub decompressor_library: Library => read_decompressor_library,
    }
}

fn read_decompressor_library(r: &mut MessageReader<'_>, name: &str) -> Result<Library, ConfigError> {
    read_library(r, name, Category::Decompressors)
}

message! {
    /// What both ways have.
    #[derive(Eq)]
    pub struct CommonDirectionConfig = "envoy.extensions.filters.http.decompressor.v3.Decompressor.CommonDirectionConfig" {
        /// Whether anything is decompressed.
        pub enabled: Option<RuntimeFeatureFlag>,
        /// Even where it says that nobody should touch it.
        pub ignore_no_transform_header: bool,
    }
}

message! {
    /// How requests are decompressed.
    #[derive(Eq)]
    pub struct RequestDirectionConfig = "envoy.extensions.filters.http.decompressor.v3.Decompressor.RequestDirectionConfig" {
        /// What both ways have.
        pub common_config: CommonDirectionConfig,
        /// The upstream is told that responses can be decompressed.
        pub advertise_accept_encoding: bool = true,
    }
}

message! {
    /// How responses are decompressed.
    #[derive(Eq)]
    pub struct ResponseDirectionConfig = "envoy.extensions.filters.http.decompressor.v3.Decompressor.ResponseDirectionConfig" {
        /// What both ways have.
        pub common_config: CommonDirectionConfig,
    }
}

/// The decompressor filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.decompressor",
    &["envoy.extensions.filters.http.decompressor.v3.Decompressor"],
    |r| Ok(Arc::new(DecompressorConfig::read(r)?)),
);

stats_struct! {
    /// Of one way.
    struct DecompressorStats {
        counters: [decompressed, not_decompressed, total_compressed_bytes, total_uncompressed_bytes],
        gauges: [],
        histograms: [],
    }
}

struct DirectionConfig {
    enabled: Arc<FeatureFlag>,
    ignore_no_transform_header: bool,
    stats: DecompressorStats,
}

impl DirectionConfig {
    fn new(config: &CommonDirectionConfig, scope: &Scope, runtime: &LoaderImpl) -> Self {
        DirectionConfig {
            enabled: FeatureFlag::new(config.enabled.as_ref(), runtime),
            ignore_no_transform_header: config.ignore_no_transform_header,
            stats: DecompressorStats::new(scope),
        }
    }
}

/// What all requests of a connection manager share.
struct DecompressorFilterConfig {
    request: DirectionConfig,
    response: DirectionConfig,
    advertise_accept_encoding: bool,
    content_encoding: &'static str,
    create_decompressor: CreateDecompressor,
    /// The trailers in which it is told what has become of a body.
    trailers: [String; 2],
}

impl HttpFilterConfig for DecompressorConfig {
    fn create_filter_factory(
        &self,
        _name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let Library { name, typed_config } = &self.decompressor_library;
        let library = typed_config.get::<dyn DecompressorFactory>()?;
        let scope = scope.create_scope(&format!("decompressor.{name}.{}.", library.stats_prefix()));
        let runtime = &context.server.runtime;
        let request = &self.request_direction_config;
        let response = &self.response_direction_config.common_config;
        Ok(Arc::new(Factory(Arc::new(DecompressorFilterConfig {
            request: DirectionConfig::new(&request.common_config, &scope.create_scope("request."), runtime),
            response: DirectionConfig::new(response, &scope.create_scope("response."), runtime),
            advertise_accept_encoding: request.advertise_accept_encoding,
            content_encoding: library.content_encoding(),
            create_decompressor: library.create_decompressor(&scope.create_scope("decompressor_library.")),
            trailers: ["compressed", "uncompressed"]
                .map(|what| format!("x-envoy-decompressor-{name}-{what}-bytes").to_ascii_lowercase()),
        }))))
    }
}

struct Factory(Arc<DecompressorFilterConfig>);

impl FilterFactory for Factory {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Local::new(self.0.clone());
        Box::new(move |callbacks| {
            callbacks.add_stream_filter(Rc::new(DecompressorFilter::new(config.clone())));
        })
    }
}
