//! `envoy.extensions.filters.network.http_connection_manager.v3`.

use std::time::Duration;

use super::local_reply::LocalReplyConfig;
use super::proxy_status::ProxyStatusConfig;
use super::request_id::UuidRequestIdConfig;
use crate::config::AccessLog;
use crate::config::address::CidrRange;
use crate::config::core::Percent;
use crate::config::error::ConfigError;
use crate::config::extension::{Category, TypedConfig};
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
        /// Up to so much more of that, by chance.
        pub drain_timeout_jitter: Option<Percent>,
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
        /// What is done to headers before anything else, in order.
        pub early_header_mutation_extensions: Vec<TypedConfig> => read_early_mutations,
        /// Where the client's address comes from: the first that finds one. None is `x-forwarded-for`.
        pub original_ip_detection_extensions: Vec<TypedConfig> => read_ip_detections,
        /// How requests get their ids.
        pub request_id_extension: UuidRequestIdConfig => read_request_id,
        /// Answers that are made here say what went wrong; `None` is not at all.
        pub proxy_status_config: Option<ProxyStatusConfig>,
        /// When streams that have not ended are logged.
        pub access_log_options: AccessLogOptions => read_access_log_options,
        /// A connection that is old enough is closed behind its next response, and not before.
        pub http1_safe_max_connection_duration: bool,
        /// What becomes of `x-forwarded-client-cert`.
        pub forward_client_cert_details: ForwardClientCertDetails,
        /// What is said of a client's certificate: there are none yet.
        pub set_current_client_cert_details: Option<ClientCertDetails>,
        /// Say in `x-forwarded-port` which port the client asked; default false.
        pub append_x_forwarded_port: bool,
        /// Say that this proxy has too much to do: which it never has.
        pub append_local_overload: bool,
        /// Without meaning where responses are written as they come, as those of HTTP/1.
        pub stream_flush_timeout: Option<Duration>,
    }
}

fn read_early_mutations(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<TypedConfig>, ConfigError> {
    r.extensions_of(name, Category::EarlyHeaderMutations)
}

fn read_ip_detections(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<TypedConfig>, ConfigError> {
    let detections = r.extensions_of(name, Category::OriginalIpDetections)?;
    if !detections.is_empty() {
        let more = [
            ("use_remote_address", r.opt_bool("use_remote_address")?.unwrap_or(false)),
            ("xff_num_trusted_hops", r.u32("xff_num_trusted_hops")? > 0),
        ];
        for (other, _) in more.iter().filter(|(_, is_set)| *is_set) {
            r.refuse(name, format!("Original IP detection extensions and {other} may not be mixed"));
        }
    }
    Ok(detections)
}

fn read_request_id(r: &mut MessageReader<'_>, name: &str) -> Result<UuidRequestIdConfig, ConfigError> {
    let extension = r.message_with(name, |r| r.opt_typed_config("typed_config", Category::RequestIds))?;
    match extension.flatten() {
        Some(config) => Ok((**config.get::<UuidRequestIdConfig>()?).clone()),
        None => Ok(UuidRequestIdConfig::default()),
    }
}

message! {
    /// When streams that have not ended are logged.
    #[derive(Eq)]
    pub struct AccessLogOptions = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.HcmAccessLogOptions" {
        /// Each time that so much time has passed.
        pub access_log_flush_interval: Option<Duration>,
        /// When their requests have come.
        pub flush_access_log_on_new_request: bool,
        /// When they have become tunnels.
        pub flush_log_on_tunnel_successfully_established: bool,
    }
}

/// Two of them may stand in the connection manager itself instead.
fn read_access_log_options(r: &mut MessageReader<'_>, name: &str) -> Result<AccessLogOptions, ConfigError> {
    let options: Option<AccessLogOptions> = r.message(name)?;
    let old = AccessLogOptions {
        access_log_flush_interval: r.duration("access_log_flush_interval")?,
        flush_access_log_on_new_request: r.bool("flush_access_log_on_new_request")?,
        ..AccessLogOptions::default()
    };
    if options.is_some() {
        let both = [
            ("access_log_flush_interval", old.access_log_flush_interval.is_some()),
            ("flush_access_log_on_new_request", old.flush_access_log_on_new_request),
        ];
        for (other, _) in both.iter().filter(|(_, is_set)| *is_set) {
            r.refuse(other, format!("Only one of {other} or access_log_options can be specified."));
        }
    }
    Ok(options.unwrap_or(old))
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardClientCertDetails {
    /// It goes.
    #[default]
    Sanitize,
    /// It stays where the client has shown a certificate.
    ForwardOnly,
    /// The same, and the client's is told behind it.
    AppendForward,
    /// The client's is told instead of it.
    SanitizeSet,
    /// It stays.
    AlwaysForwardOnly,
}

impl ForwardClientCertDetails {
    const TABLE: &EnumTable<Self> = &[
        ("SANITIZE", Self::Sanitize),
        ("FORWARD_ONLY", Self::ForwardOnly),
        ("APPEND_FORWARD", Self::AppendForward),
        ("SANITIZE_SET", Self::SanitizeSet),
        ("ALWAYS_FORWARD_ONLY", Self::AlwaysForwardOnly),
    ];
}

message! {
    /// What is said of a client's certificate.
    #[derive(Eq)]
    pub struct ClientCertDetails = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails" {
        /// Its subject.
        pub subject: Option<bool>,
        /// All of it.
        pub cert: bool,
        /// Those that vouch for it, too.
        pub chain: bool,
        /// Who vouches for it.
        pub issuer: bool,
        /// Its names in DNS.
        pub dns: bool,
        /// Its URIs.
        pub uri: bool,
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

/// A terminal filter stands at the end of each chain, and nowhere else.
fn check_terminal(r: &MessageReader<'_>, path: &str, filters: &[HttpFilter]) {
    for (i, filter) in filters.iter().enumerate() {
        let Some(config) = &filter.typed_config else { continue };
        let (name, extension) = (&filter.name, config.extension());
        let is_last = i + 1 == filters.len();
        let message = match (config.is_terminal(), is_last) {
            (true, false) => format!(
                "Error: terminal filter named {name} of type {extension} must be the last filter in a http filter chain."
            ),
            (false, true) => format!(
                "Error: non-terminal filter named {name} of type {extension} is the last filter in a http filter chain."
            ),
            (true, true) if filter.disabled => format!(
                "Error: the last (terminal) filter ({name}) in the chain cannot be disabled by default."
            ),
            _ => continue,
        };
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
        /// In the end that of the connection to the upstream.
        pub match_upstream: bool,
    }
}

enum_fields! { CodecType, ServerHeaderTransformation, PathWithEscapedSlashesAction, ForwardClientCertDetails }
