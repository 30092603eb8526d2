//! `envoy.extensions.filters.network.http_connection_manager.v3`.

use std::time::Duration;

use super::local_reply::LocalReplyConfig;
use crate::config::AccessLog;
use crate::config::address::CidrRange;
use crate::config::protocol_options::{Http1ProtocolOptions, HttpProtocolOptions};
use crate::config::reader::{EnumTable, MessageReader};
use crate::config::route::RouteConfiguration;
use crate::filters::http::HttpFilter;
use crate::runtime::SnapshotImpl;
use crate::{enum_fields, message};

message! {
    /// The filter that makes requests out of a connection's bytes.
    pub struct HttpConnectionManager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", checked by check_filters {
        /// Which HTTP is spoken.
        pub codec_type: CodecType,
        /// Never empty.
        pub stat_prefix: String,
        /// The route table.
        pub route_config: RouteConfiguration,
        /// In order; a terminal filter, as the router, can only be the last.
        pub http_filters: Vec<HttpFilter>,
        /// Set `user-agent` and `x-envoy-downstream-service-*`; default false.
        pub add_user_agent: bool,
        /// Options for every HTTP version.
        pub common_http_protocol_options: HttpProtocolOptions,
        /// Options of HTTP/1.
        pub http_protocol_options: Http1ProtocolOptions,
        /// Value of the `server` header, default `envoy`.
        pub server_name: String = "envoy".to_string(),
        /// What happens to the `server` header of a response.
        pub server_header_transformation: ServerHeaderTransformation,
        /// KiB, 1..=8192, default 60.
        pub max_request_headers_kb: Option<u32>,
        /// No activity on a stream for so long; default 5 min, zero is no limit.
        pub stream_idle_timeout: Duration = Duration::from_secs(300),
        /// Time to receive a whole request; default zero, no limit.
        pub request_timeout: Duration,
        /// Time to receive the headers; default zero, no limit.
        pub request_headers_timeout: Duration,
        /// Between the notice and the end of a drained connection; default 5 s.
        pub drain_timeout: Duration = Duration::from_secs(5),
        /// How long a closing connection waits for its peer; default 1 s, zero is not
        /// at all.
        pub delayed_close_timeout: Duration = Duration::from_secs(1),
        /// Logged per request.
        pub access_log: Vec<AccessLog>,
        /// The peer is the client, not another proxy; default false.
        pub use_remote_address: bool,
        /// How many proxies in front are trusted; default 0.
        pub xff_num_trusted_hops: u32,
        /// Which addresses count as internal; `None` when absent.
        pub internal_address_config: Option<InternalAddressConfig>,
        /// Leave `x-forwarded-for` alone; default false.
        pub skip_xff_append: bool,
        /// Appended to the `via` header unless empty.
        pub via: String,
        /// Make an `x-request-id` when there is none; default true.
        pub generate_request_id: bool = true,
        /// Keep an outside request's `x-request-id`; default false.
        pub preserve_external_request_id: bool,
        /// Put `x-request-id` into responses too; default false.
        pub always_set_request_id_in_response: bool,
        /// Pass `Expect: 100-continue` on instead of answering it; default false.
        pub proxy_100_continue: bool,
        /// Normalize paths (RFC 3986); `None` when absent, which is false unless the
        /// runtime says otherwise.
        pub normalize_path: Option<bool>,
        /// `//` counts as `/`; default false.
        pub merge_slashes: bool,
        /// Remove a port from the host before routing; default false.
        pub strip_any_host_port: bool,
        /// What becomes of answers that are made here.
        pub local_reply_config: LocalReplyConfig,
        /// Which upgrades are let through, unless a route says otherwise; names that differ.
        pub upgrade_configs: Vec<UpgradeConfig>,
        /// Remove the listener's own port from the host before routing; default false.
        pub strip_matching_host_port: bool,
        /// Remove the dot at the end of the host before routing; default false.
        pub strip_trailing_host_dot: bool,
        /// What becomes of paths with escaped slashes.
        pub path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
        /// Which scheme requests are said to have.
        pub scheme_header_transformation: SchemeHeaderTransformation,
        /// A bad request ends its stream alone, where the connection can go on; default false.
        pub stream_error_on_invalid_http_message: bool,
    }
}

message! {
    /// Whether an upgrade is let through.
    pub struct UpgradeConfig = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig" {
        /// `websocket` for instance, in any case; `CONNECT` is the method.
        pub upgrade_type: String,
        /// The filters of its streams, a terminal one last; none for those of all others.
        pub filters: Vec<HttpFilter>,
        /// Default true.
        pub enabled: bool = true,
    }
}

impl HttpConnectionManager {
    /// A manager that legate makes for itself, as the admin's: without routes and filters, and
    /// without limits in time.
    pub fn internal(stat_prefix: &str) -> Self {
        HttpConnectionManager {
            stat_prefix: stat_prefix.to_string(),
            route_config: RouteConfiguration::empty(),
            stream_idle_timeout: Duration::ZERO,
            drain_timeout: Duration::from_millis(100),
            delayed_close_timeout: Duration::ZERO,
            use_remote_address: true,
            generate_request_id: false,
            normalize_path: Some(true),
            ..HttpConnectionManager::default()
        }
    }
}

/// Which HTTP a downstream connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CodecType {
    /// Found out from the connection; so far always HTTP/1.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
}

impl CodecType {
    const TABLE: &EnumTable<Self> = &[("AUTO", Self::Auto), ("HTTP1", Self::Http1)];
}

/// What happens to the `server` header of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerHeaderTransformation {
    /// Always set to `server_name`.
    #[default]
    Overwrite,
    /// Set if the response has none.
    AppendIfAbsent,
    /// Left as it is.
    PassThrough,
}

impl ServerHeaderTransformation {
    const TABLE: &EnumTable<Self> = &[
        ("OVERWRITE", Self::Overwrite),
        ("APPEND_IF_ABSENT", Self::AppendIfAbsent),
        ("PASS_THROUGH", Self::PassThrough),
    ];
}

/// A terminal filter answers every request, so nothing can come after it.
fn check_filters(r: &MessageReader<'_>, manager: &HttpConnectionManager) {
    if r.is_all_of("http_filters", &manager.http_filters) {
        check_terminal(r, "http_filters", &manager.http_filters);
    }
    if !r.is_all_of("upgrade_configs", &manager.upgrade_configs) {
        return;
    }
    for (i, upgrade) in manager.upgrade_configs.iter().enumerate() {
        check_terminal(r, &format!("upgrade_configs[{i}].filters"), &upgrade.filters);
        let (name, before) = (&upgrade.upgrade_type, &manager.upgrade_configs[..i]);
        if before.iter().any(|other| other.upgrade_type.eq_ignore_ascii_case(name)) {
            let message = format!("Error: multiple upgrade configs with the same name: '{name}'");
            r.refuse(&format!("upgrade_configs[{i}].upgrade_type"), message);
        }
    }
}

fn check_terminal(r: &MessageReader<'_>, path: &str, filters: &[HttpFilter]) {
    let early = filters.iter().rev().skip(1).rev().enumerate();
    for (i, filter) in early.filter(|(_, filter)| filter.typed_config.is_terminal()) {
        let message = format!(
            "terminal filter named {} of type {} must be the last filter in a http filter chain.",
            filter.name,
            filter.typed_config.extension(),
        );
        r.refuse(&format!("{path}[{i}]"), message);
    }
}

message! {
    /// Which addresses count as internal.
    #[derive(Eq)]
    pub struct InternalAddressConfig = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig" {
        /// Peers on Unix sockets do; default false.
        pub unix_sockets: bool,
        /// Networks that do.
        pub cidr_ranges: Vec<CidrRange>,
    }
}

/// What becomes of paths with escaped slashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathWithEscapedSlashesAction {
    /// They stay, unless the runtime says otherwise.
    #[default]
    ImplementationSpecificDefault,
    /// They stay.
    KeepUnchanged,
    /// They are refused.
    RejectRequest,
    /// The client is sent to the path without escapes.
    UnescapeAndRedirect,
    /// The request goes on with the path without escapes.
    UnescapeAndForward,
}

impl PathWithEscapedSlashesAction {
    const TABLE: &EnumTable<Self> = &[
        ("IMPLEMENTATION_SPECIFIC_DEFAULT", Self::ImplementationSpecificDefault),
        ("KEEP_UNCHANGED", Self::KeepUnchanged),
        ("REJECT_REQUEST", Self::RejectRequest),
        ("UNESCAPE_AND_REDIRECT", Self::UnescapeAndRedirect),
        ("UNESCAPE_AND_FORWARD", Self::UnescapeAndForward),
    ];

    /// What the default comes to.
    pub(super) fn resolved(self, runtime: &SnapshotImpl) -> Self {
        if self != Self::ImplementationSpecificDefault {
            return self;
        }
        match runtime.get_integer("http_connection_manager.path_with_escaped_slashes_action", 1) {
            2 => Self::RejectRequest,
            3 => Self::UnescapeAndRedirect,
            4 => Self::UnescapeAndForward,
            _ => Self::KeepUnchanged,
        }
    }
}

message! {
    /// `envoy.config.core.v3.SchemeHeaderTransformation`.
    #[derive(Eq)]
    pub struct SchemeHeaderTransformation = "envoy.config.core.v3.SchemeHeaderTransformation" {
        /// This scheme; empty for the request's own.
        pub scheme_to_overwrite: String,
    }
}

enum_fields! { CodecType, ServerHeaderTransformation, PathWithEscapedSlashesAction }
