//! What the filter says, and what it counts.
//!
//! Mirrors `CompressorFilterConfig` of Envoy 1.40's `source/extensions/filters/http/compressor/compressor_filter.h`.

use std::sync::Arc;

use super::message::{CommonDirectionConfig, CompressorConfig, ResponseDirectionConfig};
use crate::config::ConfigError;
use crate::config::header_matcher::StringMatcher;
use crate::filters::compression::CompressorFactory;
use crate::http::header_utility::match_string;
use crate::http::{HeaderId, HeaderMap};
use crate::runtime::{FeatureFlag, LoaderImpl};
use crate::stats::Scope;
use crate::stats_struct;

stats_struct! {
    /// Of one way.
    pub(super) struct CompressorStats {
        counters: [
            compressed,
            content_length_too_small,
            not_compressed,
            total_compressed_bytes,
            total_uncompressed_bytes,
        ],
        gauges: [],
        histograms: [],
    }
}

stats_struct! {
    /// Of responses alone.
    pub(super) struct ResponseCompressorStats {
        counters: [
            header_compressor_overshadowed,
            header_compressor_used,
            header_identity,
            header_not_valid,
            header_wildcard,
            no_accept_header,
            not_compressed_etag,
        ],
        gauges: [],
        histograms: [],
    }
}

/// What is shorter is not worth it.
const DEFAULT_MINIMUM_CONTENT_LENGTH: u32 = 30;

/// What is worth it.
const DEFAULT_CONTENT_TYPES: [&str; 20] = [
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
];

/// What both ways have.
pub(super) struct DirectionConfig {
    enabled: Arc<FeatureFlag>,
    min_content_length: u64,
    /// Those that are compressed, if there are no matchers.
    content_types: Vec<String>,
    content_type_matchers: Vec<StringMatcher>,
    pub stats: CompressorStats,
}

impl DirectionConfig {
    fn new(config: &CommonDirectionConfig, scope: &Scope, runtime: &LoaderImpl) -> Self {
        let min_content_length = config.min_content_length.filter(|length| *length > 0);
        DirectionConfig {
            enabled: FeatureFlag::new(config.enabled.as_ref(), runtime),
            min_content_length: min_content_length.unwrap_or(DEFAULT_MINIMUM_CONTENT_LENGTH).into(),
            content_types: match (&config.content_type[..], &config.content_type_matcher[..]) {
                ([], []) => DEFAULT_CONTENT_TYPES.map(str::to_string).to_vec(),
                (types, []) => types.to_vec(),
                _ => Vec::new(),
            },
            content_type_matchers: config.content_type_matcher.clone(),
            stats: CompressorStats::new(scope),
        }
    }

    pub fn enabled(&self) -> bool {
        self.enabled.enabled()
    }

    /// Whether it is long enough, as far as it says so.
    pub fn is_minimum_content_length(&self, headers: &HeaderMap) -> bool {
        let Some(length) = headers.get_str(HeaderId::ContentLength) else { return true };
        let is_long = length.trim().parse::<u64>().is_ok_and(|length| length >= self.min_content_length);
        if !is_long {
            self.stats.content_length_too_small.inc();
        }
        is_long
    }

    /// Whether it is of a type that is compressed; what says nothing is.
    pub fn is_content_type_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(content_type) = headers.get(HeaderId::ContentType) else { return true };
        let content_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_it = |name: &String| name.as_bytes().eq_ignore_ascii_case(content_type);
        self.content_types.iter().any(is_it)
            || self.content_type_matchers.iter().any(|matcher| match_string(content_type, matcher))
    }
}

pub(super) struct CompressorFilterConfig {
    pub name: Box<str>,
    /// Where requests are compressed.
    pub has_request_direction: bool,
    pub request: DirectionConfig,
    pub response: DirectionConfig,
    pub response_stats: ResponseCompressorStats,
    pub disable_on_etag_header: bool,
    pub weaken_etag_on_compress: bool,
    pub remove_accept_encoding_header: bool,
    pub uncompressible_response_codes: Vec<u16>,
    pub status_header_enabled: bool,
    pub choose_first: bool,
    pub library: Arc<dyn CompressorFactory>,
}

impl CompressorFilterConfig {
    pub fn new(
        config: &CompressorConfig,
        name: &str,
        scope: &Scope,
        runtime: &LoaderImpl,
    ) -> Result<Self, ConfigError> {
        let library = config.compressor_library.typed_config.get::<dyn CompressorFactory>()?;
        let prefix = format!("compressor.{}.{}.", config.compressor_library.name, library.stats_prefix());
        let scope = scope.create_scope(&prefix);
        let response = config.response_direction_config.clone().unwrap_or_else(|| of_old_fields(config));
        let response_prefix = if config.response_direction_config.is_some() { "response." } else { "" };
        let request = config.request_direction_config.clone().unwrap_or_default().common_config;
        let scope_of_responses = scope.create_scope(response_prefix);
        Ok(CompressorFilterConfig {
            name: name.into(),
            has_request_direction: config.request_direction_config.is_some(),
            request: DirectionConfig::new(&request, &scope.create_scope("request."), runtime),
            response: DirectionConfig::new(&response.common_config, &scope_of_responses, runtime),
            response_stats: ResponseCompressorStats::new(&scope),
            disable_on_etag_header: response.disable_on_etag_header,
            weaken_etag_on_compress: response.weaken_etag_on_compress,
            remove_accept_encoding_header: response.remove_accept_encoding_header,
            uncompressible_response_codes: response.uncompressible_response_codes,
            status_header_enabled: response.status_header_enabled,
            choose_first: config.choose_first,
            library: library.clone(),
        })
    }

    pub fn content_encoding(&self) -> &'static str {
        self.library.content_encoding()
    }
}

fn of_old_fields(config: &CompressorConfig) -> ResponseDirectionConfig {
    ResponseDirectionConfig {
        common_config: CommonDirectionConfig {
            enabled: config.runtime_enabled.clone(),
            min_content_length: config.content_length,
            content_type: config.content_type.clone(),
            content_type_matcher: Vec::new(),
        },
        disable_on_etag_header: config.disable_on_etag_header,
        remove_accept_encoding_header: config.remove_accept_encoding_header,
        ..ResponseDirectionConfig::default()
    }
}
