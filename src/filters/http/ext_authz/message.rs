//! The messages of the ext_authz filter.

use std::time::Duration;

use crate::config::ConfigError;
use crate::config::core::{RuntimeFeatureFlag, RuntimeFractionalPercent};
use crate::config::header_matcher::StringMatcher;
use crate::config::metadata_matcher::MetadataMatcher;
use crate::config::reader::{FromMessage, MessageReader};
use crate::config::route::{AppendAction, HeaderValueOption, RetryBackOff, RetryPolicy};
use crate::filters::http::mutation_rules::HeaderMutationRules;
use crate::message;

message! {
    /// Who is asked about requests, and what.
    pub struct ExtAuthz = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", checked by check {
        /// Who is asked.
        pub http_service: Option<HttpService>,
        /// Not looked at: HTTP has no versions of it.
        pub transport_api_version: Option<u32> => read_version,
        /// A request that nobody has decided about goes on.
        pub failure_mode_allow: bool,
        /// And its upstream is told so.
        pub failure_mode_allow_header_add: bool,
        /// The body is shown, too.
        pub with_request_body: Option<BufferSettings>,
        /// Requests that were changed may take another route.
        pub clear_route_cache: bool,
        /// Only where the answer changes one of these; empty for any.
        pub clear_route_cache_headers: Vec<String>,
        /// Which headers of the request an answer may change; `None` for all that it may ever.
        pub decoder_header_mutation_rules: Option<HeaderMutationRules>,
        /// What an answer says to who looks at what filters say is told; default true.
        pub enable_dynamic_metadata_ingestion: bool = true,
        /// Not looked at: logs of gRPC alone tell it.
        pub filter_metadata: () => read_struct,
        /// How long the call took is left in the stream, under the filter's name.
        pub emit_filter_state_stats: bool,
        /// Requests go on whatever is answered, and it is only counted.
        pub shadow_mode: bool,
        /// Not looked at: of gRPC.
        pub include_peer_certificate: bool,
        /// The status of requests that nobody has decided about.
        pub status_on_error: Option<u16> => read_status,
        /// Not looked at: what HTTP brings as fields is valid.
        pub validate_mutations: bool,
        /// Which requests are asked about; all of them where it is absent.
        pub filter_enabled: Option<RuntimeFractionalPercent>,
        /// Those of which filters have said such a thing.
        pub filter_enabled_metadata: Option<MetadataMatcher>,
        /// The others are refused.
        pub deny_at_disable: Option<RuntimeFeatureFlag>,
        /// Before the names of the statistics.
        pub stat_prefix: String,
        /// Which fields are shown, beside those that always are.
        pub allowed_headers: Option<ListStringMatcher>,
        /// Which are not.
        pub disallowed_headers: Option<ListStringMatcher>,
        /// Not looked at without TLS, and said to gRPC alone.
        pub include_tls_session: bool,
        /// Refused requests count among the answers of the cluster that they did not come to.
        pub charge_cluster_response_stats: bool = true,
        /// Not looked at: of gRPC.
        pub encode_raw_headers: bool,
        /// Not looked at: of gRPC.
        pub metadata_context_namespaces: Vec<String>,
        /// Not looked at: of gRPC.
        pub typed_metadata_context_namespaces: Vec<String>,
        /// Not looked at: of gRPC.
        pub route_metadata_context_namespaces: Vec<String>,
        /// Not looked at: of gRPC.
        pub route_typed_metadata_context_namespaces: Vec<String>,
        /// Not looked at: of gRPC.
        pub bootstrap_metadata_labels_key: String,
        /// How much of the answer's body a client gets that is refused; 0 for all of it.
        pub max_denied_response_body_bytes: u32,
        /// Not looked at: nothing is traced yet.
        pub emit_client_span: Option<bool>,
    }
}

fn read_version(r: &mut MessageReader<'_>, name: &str) -> Result<Option<u32>, ConfigError> {
    Ok(r.enum_number(name)?.map(|number| number as u32))
}

fn read_struct(r: &mut MessageReader<'_>, name: &str) -> Result<(), ConfigError> {
    if r.value(name)?.is_some_and(|value| !value.is_object()) {
        r.refuse(name, "expected an object");
    }
    Ok(())
}

fn read_status(r: &mut MessageReader<'_>, name: &str) -> Result<Option<u16>, ConfigError> {
    r.message_with(name, |r| Ok(r.enum_number("code")?.unwrap_or(0) as u16))
}

/// The filter's alone: of its rules none says so.
fn check(r: &mut MessageReader<'_>, config: &ExtAuthz) {
    let Some(service) = &config.http_service else {
        if !r.has("grpc_service") {
            r.refuse("http_service", "one of grpc_service and http_service has to be there");
        }
        return;
    };
    if config.allowed_headers.is_some() && service.authorization_request.allowed_headers.is_some() {
        r.refuse("allowed_headers", "Invalid duplicate configuration for allowed_headers.");
    }
}

message! {
    /// How much of a body is shown.
    #[derive(Eq, Copy)]
    pub struct BufferSettings = "envoy.extensions.filters.http.ext_authz.v3.BufferSettings" {
        /// So many bytes; at least 1.
        pub max_request_bytes: u32,
        /// Of a longer one its beginning; otherwise it is refused.
        pub allow_partial_message: bool,
        /// As it is, and not as a text.
        pub pack_as_bytes: bool,
    }
}

message! {
    /// Who is asked, and what of it is whose.
    pub struct HttpService = "envoy.extensions.filters.http.ext_authz.v3.HttpService", checked by check_service {
        /// Where it is.
        pub server_uri: Option<HttpUri>,
        /// Before the path of the request.
        pub path_prefix: String,
        /// In its place.
        pub path_override: String,
        /// What is shown of requests.
        pub authorization_request: AuthorizationRequest,
        /// What becomes of what is answered.
        pub authorization_response: AuthorizationResponse,
        /// Whether it is asked again.
        pub retry_policy: Option<RetryPolicy> => read_retry_policy,
    }
}

/// `envoy.config.core.v3.RetryPolicy`. A try has as much time as the longest pause (Envoy:
/// `Utility::convertCoreToRouteRetryPolicy`).
fn read_retry_policy(r: &mut MessageReader<'_>, name: &str) -> Result<Option<RetryPolicy>, ConfigError> {
    r.message_with(name, |r| {
        let retry_on = r.string("retry_on")?;
        let back_off: Option<RetryBackOff> = r.message("retry_back_off")?;
        let second = || RetryBackOff { base_interval: Duration::from_secs(1), max_interval: None };
        let back_off = back_off.unwrap_or_else(second);
        Ok(RetryPolicy {
            retry_on,
            num_retries: r.opt_u32("num_retries")?.unwrap_or(1),
            per_try_timeout: back_off.max_interval.unwrap_or(10 * back_off.base_interval),
            retry_back_off: Some(back_off),
            ..RetryPolicy::default()
        })
    })
}

fn check_service(r: &mut MessageReader<'_>, service: &HttpService) {
    let (prefix, path) = (&service.path_prefix, &service.path_override);
    if !prefix.is_empty() && !path.is_empty() {
        r.refuse("path_override", "Only one of path_prefix or path_override may be set, not both.");
    }
    for (name, value) in [("path_prefix", prefix), ("path_override", path)] {
        if !value.is_empty() && !value.starts_with('/') {
            r.refuse(name, format!("{name} should start with \"/\"."));
        }
    }
}

message! {
    /// A place, by its cluster.
    #[derive(Eq)]
    pub struct HttpUri = "envoy.config.core.v3.HttpUri" {
        /// For people.
        pub uri: String,
        /// Where it is.
        pub cluster: String,
        /// How long it has.
        pub timeout: Duration,
    }
}

message! {
    /// What is shown of requests.
    #[derive(Eq)]
    pub struct AuthorizationRequest = "envoy.extensions.filters.http.ext_authz.v3.AuthorizationRequest" {
        /// These fields, beside those that always are.
        pub allowed_headers: Option<ListStringMatcher>,
        /// And these.
        pub headers_to_add: Vec<HeaderValueOption> => read_headers,
    }
}

fn read_headers(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<HeaderValueOption>, ConfigError> {
    r.messages_with(name, |r| {
        // Without effect here, as in Envoy.
        r.bytes("raw_value")?;
        Ok(HeaderValueOption {
            name: r.string("key")?.to_ascii_lowercase(),
            value: r.string("value")?,
            append_action: AppendAction::OverwriteIfExistsOrAdd,
            keep_empty_value: false,
        })
    })
}

message! {
    /// Which fields of an answer go where.
    #[derive(Eq)]
    pub struct AuthorizationResponse = "envoy.extensions.filters.http.ext_authz.v3.AuthorizationResponse" {
        /// In place of the request's.
        pub allowed_upstream_headers: ListStringMatcher,
        /// Beside the request's.
        pub allowed_upstream_headers_to_append: ListStringMatcher,
        /// To a client that is refused; nearly all where there are none.
        pub allowed_client_headers: ListStringMatcher,
        /// To a client that is not, beside the response's.
        pub allowed_client_headers_on_success: ListStringMatcher,
        /// To whom looks at what filters say.
        pub dynamic_metadata_from_headers: ListStringMatcher,
    }
}

message! {
    /// One of some texts.
    #[derive(Eq)]
    pub struct ListStringMatcher = "envoy.type.matcher.v3.ListStringMatcher" {
        /// As each of them has to be; at least one.
        pub patterns: Vec<StringMatcher>,
    }
}

/// What a route says to the filter.
#[derive(Debug, Default)]
pub struct ExtAuthzPerRoute {
    /// Nobody is asked.
    pub disabled: bool,
    /// Who is asked, and what.
    pub check_settings: CheckSettings,
}

impl FromMessage for ExtAuthzPerRoute {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(match r.exactly_one(&["disabled", "check_settings"])? {
            "disabled" => ExtAuthzPerRoute { disabled: r.bool("disabled")?, ..ExtAuthzPerRoute::default() },
            _ => ExtAuthzPerRoute {
                check_settings: r.required_message("check_settings")?,
                ..ExtAuthzPerRoute::default()
            },
        })
    }
}

message! {
    /// Who is asked about the requests of a route, and what.
    pub struct CheckSettings = "envoy.extensions.filters.http.ext_authz.v3.CheckSettings", checked by check_settings {
        /// Not looked at: of gRPC.
        pub context_extensions: () => read_extensions,
        /// The body is not shown.
        pub disable_request_body_buffering: bool,
        /// How much of it is.
        pub with_request_body: Option<BufferSettings>,
        /// Who is asked instead.
        pub http_service: Option<HttpService>,
        /// Not looked at: nothing is traced yet.
        pub emit_client_span: Option<bool>,
    }
}

fn read_extensions(r: &mut MessageReader<'_>, name: &str) -> Result<(), ConfigError> {
    for (_, path, value) in r.map(name)? {
        if !value.is_string() {
            r.refuse_at(path, "expected a string");
        }
    }
    Ok(())
}

fn check_settings(r: &mut MessageReader<'_>, settings: &CheckSettings) {
    if settings.disable_request_body_buffering && settings.with_request_body.is_some() {
        let message = "Invalid configuration for check_settings. Only one of disable_request_body_buffering or \
            with_request_body can be set.";
        r.refuse("with_request_body", message);
    }
}
