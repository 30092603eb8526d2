//! The messages of the compressor filter.

use crate::config::ConfigError;
use crate::config::core::RuntimeFeatureFlag;
use crate::config::extension::{Category, TypedConfig};
use crate::config::header_matcher::StringMatcher;
use crate::config::reader::{FromMessage, MessageReader};
use crate::message;

/// A library under the name that its statistics get.
#[derive(Debug, Clone, PartialEq)]
pub struct Library {
    /// May be empty.
    pub name: String,
    /// It.
    pub typed_config: TypedConfig,
}

message! {
    /// What is compressed, and how.
    pub message CompressorConfig = "envoy.extensions.filters.http.compressor.v3.Compressor" {
        /// As in `response_direction_config`, which stands in for it and the next four.
        pub content_length: Option<u32>,
        /// Another.
        pub content_type: Vec<String>,
        /// Another.
        pub disable_on_etag_header: bool,
        /// Another.
        pub remove_accept_encoding_header: bool,
        /// Another.
        pub runtime_enabled: Option<RuntimeFeatureFlag>,
        /// Requests; none where it is absent.
        pub request_direction_config: Option<RequestDirectionConfig>,
        /// Responses.
        pub response_direction_config: Option<ResponseDirectionConfig>,
        /// Where a client wants several encodings as much, this one is for it.
        pub choose_first: bool,
        /// By what.
        pub compressor_library: Library => read_compressor_library,
    }
}

fn read_compressor_library(r: &mut MessageReader<'_>, name: &str) -> Result<Library, ConfigError> {
    read_library(r, name, Category::Compressors)
}

/// Reads a library that has to be there.
pub(in crate::filters::http) fn read_library(
    r: &mut MessageReader<'_>,
    name: &str,
    category: Category,
) -> Result<Library, ConfigError> {
    let library = r.message_with(name, |r| {
        let name = r.string("name")?;
        Ok(Library { name, typed_config: r.typed_config("typed_config", category)? })
    })?;
    library.ok_or_else(|| r.require(name, "value is required"))
}

message! {
    /// What both ways have.
    #[derive(Eq)]
    pub struct CommonDirectionConfig = "envoy.extensions.filters.http.compressor.v3.Compressor.CommonDirectionConfig" {
        /// Whether anything is compressed.
        pub enabled: Option<RuntimeFeatureFlag>,
        /// Nothing shorter.
        pub min_content_length: Option<u32>,
        /// Nothing else; empty for the usual types.
        pub content_type: Vec<String>,
        /// Nor what none of these matches.
        pub content_type_matcher: Vec<StringMatcher>,
    }
}

message! {
    /// How requests are compressed.
    #[derive(Eq)]
    pub struct RequestDirectionConfig = "envoy.extensions.filters.http.compressor.v3.Compressor.RequestDirectionConfig" {
        /// What both ways have.
        pub common_config: CommonDirectionConfig,
    }
}

message! {
    /// How responses are compressed.
    #[derive(Eq)]
    pub struct ResponseDirectionConfig = "envoy.extensions.filters.http.compressor.v3.Compressor.ResponseDirectionConfig" {
        /// What both ways have.
        pub common_config: CommonDirectionConfig,
        /// Those with an etag are not.
        pub disable_on_etag_header: bool,
        /// The etag of those that are becomes a weak one.
        pub weaken_etag_on_compress: bool,
        /// The upstream is not told what the client accepts.
        pub remove_accept_encoding_header: bool,
        /// Those with such a status are not.
        pub uncompressible_response_codes: Vec<u16>,
        /// Responses say whether they are, and why not.
        pub status_header_enabled: bool,
    }
}

/// What a route says of its responses.
#[derive(Debug, Default)]
pub struct CompressorPerRoute {
    /// Whether they are compressed.
    pub response_compression_enabled: Option<bool>,
    /// Whether the upstream is told what the client accepts.
    pub remove_accept_encoding_header: Option<bool>,
}

impl FromMessage for CompressorPerRoute {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        if r.exactly_one(&["disabled", "overrides"])? == "disabled" {
            r.bool("disabled")?;
            let response_compression_enabled = Some(false);
            return Ok(CompressorPerRoute { response_compression_enabled, ..Self::default() });
        }
        let direction = |r: &mut MessageReader<'_>| r.opt_bool("remove_accept_encoding_header");
        let overrides =
            r.message_with("overrides", |r| r.message_with("response_direction_config", direction))?;
        // An empty message is one, too.
        let direction = overrides.flatten();
        Ok(CompressorPerRoute {
            response_compression_enabled: direction.map(|_| true),
            remove_accept_encoding_header: direction.flatten(),
        })
    }
}
