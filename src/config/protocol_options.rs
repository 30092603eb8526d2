//! `envoy.config.core.v3` protocol options and
//! `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.

use super::core::Percent;
use super::error::ConfigError;
use super::extension::Category;
use super::header_matcher::StringMatcher;
use super::reader::{EnumTable, FromMessage, MessageReader};
use crate::{enum_fields, message};
use std::time::Duration;

/// Full name of the extension's type, also the key under which a cluster has it.
pub const UPSTREAM_HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

message! {
    /// `core.v3.HttpProtocolOptions`: options for every HTTP version
    /// (`common_http_protocol_options`).
    pub struct HttpProtocolOptions = "envoy.config.core.v3.HttpProtocolOptions" {
        /// Close a connection without streams after this time. `None` is Envoy's
        /// 1 h; zero switches it off.
        pub idle_timeout: Option<Duration>,
        /// Drain a connection of this age. `None` or zero: never.
        pub max_connection_duration: Option<Duration>,
        /// Up to so much more of that, by chance.
        pub max_connection_duration_jitter: Option<Percent>,
        /// Most headers of one message, at least 1; `None` is Envoy's 100.
        pub max_headers_count: Option<u32>,
        /// Most of a response's headers, in KiB; `None` is Envoy's.
        pub max_response_headers_kb: Option<u32>,
        /// Longest life of a stream. `None` or zero: no limit.
        pub max_stream_duration: Option<Duration>,
        /// What to do with `_` in a header name.
        pub headers_with_underscores_action: HeadersWithUnderscoresAction,
        /// Requests after which a connection is closed. `None` or 0: no limit.
        pub max_requests_per_connection: Option<u32>,
    }
}

/// What to do with a request header whose name has an underscore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadersWithUnderscoresAction {
    /// Pass it on.
    #[default]
    Allow,
    /// Answer 400.
    RejectRequest,
    /// Remove the header.
    DropHeader,
}

impl HeadersWithUnderscoresAction {
    const TABLE: &EnumTable<Self> =
        &[("ALLOW", Self::Allow), ("REJECT_REQUEST", Self::RejectRequest), ("DROP_HEADER", Self::DropHeader)];
}

message! {
    /// `core.v3.Http1ProtocolOptions`.
    #[derive(Eq)]
    pub struct Http1ProtocolOptions = "envoy.config.core.v3.Http1ProtocolOptions" {
        /// Take `GET http://host/path`; default true.
        pub allow_absolute_url: bool = true,
        /// Answer HTTP/1.0 requests; default false.
        pub accept_http_10: bool,
        /// Host for an HTTP/1.0 request without one; empty means none.
        pub default_host_for_http_10: String,
        /// Pass trailers on; default false.
        pub enable_trailers: bool,
        /// Take a message with both `Content-Length` and chunked encoding; default
        /// false.
        pub allow_chunked_length: bool,
        /// Whether an invalid message resets only its stream; `None` leaves it to
        /// the connection manager's own setting, whose default is false.
        pub override_stream_error_on_invalid_http_message: Option<bool>,
        /// Ask hosts for whole URLs; default false.
        pub send_fully_qualified_url: bool,
        /// Not looked at: there is one parser.
        pub use_balsa_parser: Option<bool>,
        /// Offers of such protocols are dropped.
        pub ignore_http_11_upgrade: Vec<StringMatcher>,
        /// How names of fields are written; `None` is in lower case.
        pub header_key_format: Option<HeaderKeyFormat> => read_key_format,
    }
}

/// How names of fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderKeyFormat {
    /// Each word begins with a large letter.
    ProperCaseWords,
    /// As they came: `envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig`.
    PreserveCase {
        /// A response keeps its reason phrase, too.
        forward_reason_phrase: bool,
        /// Names that did not come are written in proper case.
        proper_case_on_envoy_headers: bool,
    },
}

fn read_key_format(r: &mut MessageReader<'_>, name: &str) -> Result<Option<HeaderKeyFormat>, ConfigError> {
    let format =
        r.message_with(name, |r| match r.exactly_one(&["proper_case_words", "stateful_formatter"])? {
            "proper_case_words" => {
                r.message_with("proper_case_words", |_| Ok(()))?;
                Ok(Some(HeaderKeyFormat::ProperCaseWords))
            }
            name => {
                let formatter = r.extension(name, Category::StatefulHeaderFormatters)?;
                formatter.map(|formatter| Ok(**formatter.get::<HeaderKeyFormat>()?)).transpose()
            }
        })?;
    Ok(format.flatten())
}

impl FromMessage for HeaderKeyFormat {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        const ON_ENVOY_HEADERS: &EnumTable<bool> = &[("DEFAULT", false), ("PROPER_CASE", true)];
        Ok(HeaderKeyFormat::PreserveCase {
            forward_reason_phrase: r.bool("forward_reason_phrase")?,
            proper_case_on_envoy_headers: r
                .enumeration("formatter_type_on_envoy_headers", ON_ENVOY_HEADERS)?
                .unwrap_or(false),
        })
    }
}

/// How a cluster speaks HTTP to its hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpstreamHttpProtocolOptions {
    /// Options for every HTTP version.
    pub common_http_protocol_options: HttpProtocolOptions,
    /// Options of HTTP/1.
    pub http_protocol_options: Http1ProtocolOptions,
    /// Speak upstream what the downstream speaks; with HTTP/1 alone this
    /// makes no difference.
    pub use_downstream_protocol: bool,
}

impl FromMessage for UpstreamHttpProtocolOptions {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let common_http_protocol_options: HttpProtocolOptions =
            r.message("common_http_protocol_options")?.unwrap_or_default();
        if common_http_protocol_options.max_connection_duration_jitter.is_some() {
            r.refuse("common_http_protocol_options.max_connection_duration_jitter", "not supported yet");
        }
        let kinds = ["explicit_http_config", "use_downstream_protocol_config"];
        let kind = r.exactly_one(&kinds)?;
        let use_downstream_protocol = kind == "use_downstream_protocol_config";
        let versions: HttpVersions = r.required_message(kind)?;
        Ok(Self {
            common_http_protocol_options,
            http_protocol_options: versions.http1.unwrap_or_default(),
            use_downstream_protocol,
        })
    }
}

/// `ExplicitHttpConfig` and `UseDownstreamHttpConfig`, which have the same fields.
struct HttpVersions {
    http1: Option<Http1ProtocolOptions>,
}

impl FromMessage for HttpVersions {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self { http1: r.message("http_protocol_options")? })
    }
}

enum_fields! { HeadersWithUnderscoresAction }
