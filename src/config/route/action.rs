//! What a route does with a request: `RouteAction`, `RedirectAction` and `DirectResponseAction` of `envoy.config.route.v3`.

use std::time::Duration;

use super::PerFilterConfig;
use super::connect::ConnectConfig;
use super::cors::CorsPolicy;
use super::hash_policy::HashPolicy;
use super::header_rules::{HeaderMutation, HeaderRules, read_rules};
use super::internal_redirect::InternalRedirectPolicy;
use super::rate_limit::RateLimit;
use super::retry::{HedgePolicy, RetryPolicy};
use super::rewrite::{
    HostRewrite, PathRewrite, read_host_rewrite, read_path_rewrite, read_route_path_rewrite,
};
use crate::config::core::{DataSource, Metadata, RoutingPriority, RuntimeFractionalPercent};
use crate::config::error::ConfigError;
use crate::config::format::FormatSource;
use crate::config::reader::{EnumTable, MessageReader, unknown_type};
use crate::{enum_fields, message, one_of};

message! {
    /// Sends a request to a cluster.
    pub message RouteAction = "envoy.config.route.v3.RouteAction", checked by check_upgrades {
        /// To which.
        pub cluster: ClusterSpecifier => ClusterSpecifier::read_member,
        /// Status when there is no such cluster: 503 (default), 404 or 500.
        pub cluster_not_found_response_code: u16 => read_not_found,
        /// What becomes of the path.
        pub path_rewrite: PathRewrite => read_route_path_rewrite,
        /// What becomes of the host.
        pub host_rewrite: HostRewrite => read_host_rewrite,
        /// Say in `x-forwarded-host` what the host was.
        pub append_x_forwarded_host: bool,
        /// For the whole response, default 15 s; zero is no limit.
        pub timeout: Duration = Duration::from_secs(15),
        /// Instead of the connection manager's `stream_idle_timeout`; zero switches
        /// it off.
        pub idle_timeout: Option<Duration>,
        /// For the stream as a whole; `None` leaves it to the connection manager.
        pub max_stream_duration: Option<MaxStreamDuration>,
        /// Requests of gRPC say themselves for how long they wait, up to this; zero is for any time.
        pub max_grpc_timeout: Option<Duration>,
        /// What is taken off that.
        pub grpc_timeout_offset: Option<Duration>,
        /// Without meaning where responses are written as they come, as those of HTTP/1.
        pub flush_timeout: Option<Duration>,
        /// Not looked at: nothing comes early without QUIC and TLS.
        pub early_data_policy: () => read_early_data_policy,
        /// Which of its requests belong together.
        pub hash_policy: Vec<HashPolicy>,
        /// Which pages may ask, for the cors filter.
        pub cors: Option<CorsPolicy>,
        /// By what its requests are counted, for filters that do so.
        pub rate_limits: Vec<RateLimit>,
        /// By what the virtual host says, too; `None` where there is nothing else.
        pub include_vh_rate_limits: Option<bool>,
        /// Which hosts may be chosen, for balancers that choose by metadata.
        pub metadata_match: Option<Metadata>,
        /// Whether requests are tried again.
        pub retry_policy: Option<RetryPolicy>,
        /// Whether a try whose time is over goes on.
        pub hedge_policy: Option<HedgePolicy>,
        /// Which redirects of the upstream are followed here; `None` for none.
        pub internal_redirect_policy: Option<InternalRedirectPolicy> => read_internal_redirects,
        /// Which circuit breakers and pool.
        pub priority: RoutingPriority,
        /// Who else gets a copy of the requests.
        pub request_mirror_policies: Vec<RequestMirrorPolicy>,
        /// Which upgrades are let through, in place of what the connection manager says.
        pub upgrade_configs: Vec<UpgradeConfig>,
    }
}

message! {
    /// How long a stream may last.
    #[derive(Eq)]
    pub struct MaxStreamDuration = "envoy.config.route.v3.RouteAction.MaxStreamDuration" {
        /// Zero is for ever; `None` leaves it to the connection manager.
        pub max_stream_duration: Option<Duration>,
        /// Requests of gRPC say it themselves, up to this; zero is for any time.
        pub grpc_timeout_header_max: Option<Duration>,
        /// What is taken off what they say.
        pub grpc_timeout_header_offset: Option<Duration>,
    }
}

message! {
    /// Whether an upgrade is let through.
    #[derive(Eq)]
    pub struct UpgradeConfig = "envoy.config.route.v3.RouteAction.UpgradeConfig" {
        /// `websocket` for instance, in any case; `CONNECT` is the method.
        pub upgrade_type: String,
        /// Default true.
        pub enabled: bool = true,
        /// The tunnel ends here, and what comes out of it goes to the upstream as it is.
        pub connect_config: Option<ConnectConfig>,
    }
}

message! {
    /// Who else gets a copy of some requests, and is not listened to.
    #[derive(Eq)]
    pub struct RequestMirrorPolicy = "envoy.config.route.v3.RouteAction.RequestMirrorPolicy", checked by check_mirror {
        /// A cluster's name, or empty.
        pub cluster: String,
        /// The header that names it, or empty.
        pub cluster_header: String,
        /// Of this share; `None` for all.
        pub runtime_fraction: Option<RuntimeFractionalPercent>,
        /// Whether they are traced: there are no traces yet.
        pub trace_sampled: Option<bool>,
        /// What is done to its headers.
        pub request_headers_mutations: Vec<HeaderMutation>,
        /// The host is not said to be a shadow.
        pub disable_shadow_host_suffix_append: bool,
        /// What the host becomes; empty for what it is.
        pub host_rewrite_literal: String,
    }
}

/// Two fields said it before there was a message for it.
fn read_internal_redirects(
    r: &mut MessageReader<'_>,
    name: &str,
) -> Result<Option<InternalRedirectPolicy>, ConfigError> {
    const ACTIONS: &EnumTable<bool> =
        &[("PASS_THROUGH_INTERNAL_REDIRECT", false), ("HANDLE_INTERNAL_REDIRECT", true)];
    let policy = r.message(name)?;
    let handles = r.enumeration("internal_redirect_action", ACTIONS)?.unwrap_or(false);
    let most = r.opt_u32("max_internal_redirects")?;
    Ok(policy.or_else(|| {
        handles.then(|| InternalRedirectPolicy {
            max_internal_redirects: most.unwrap_or(1),
            ..InternalRedirectPolicy::default()
        })
    }))
}

fn check_mirror(r: &MessageReader<'_>, mirror: &RequestMirrorPolicy) {
    match (mirror.cluster.is_empty(), mirror.cluster_header.is_empty()) {
        (false, false) => {
            let (cluster, header) = (&mirror.cluster, &mirror.cluster_header);
            let message = format!(
                "Only one of cluster '{cluster}' or cluster_header '{header}' in request mirror policy can be specified"
            );
            r.refuse("cluster", message);
        }
        (true, true) => r.refuse(
            "cluster",
            "Exactly one of cluster or cluster_header in request mirror policy need to be specified",
        ),
        _ => {}
    }
}

fn check_upgrades(r: &MessageReader<'_>, action: &RouteAction) {
    if !r.is_all_of("upgrade_configs", &action.upgrade_configs) {
        return;
    }
    for (i, upgrade) in action.upgrade_configs.iter().enumerate() {
        let (name, before) = (&upgrade.upgrade_type, &action.upgrade_configs[..i]);
        if before.iter().any(|other| other.upgrade_type.eq_ignore_ascii_case(name)) {
            r.refuse(&format!("upgrade_configs[{i}].upgrade_type"), format!("Duplicate upgrade {name}"));
        }
        if upgrade.connect_config.is_some() && !name.eq_ignore_ascii_case("CONNECT") {
            let message = format!("Non-CONNECT upgrade type {name} has ConnectConfig");
            r.refuse(&format!("upgrade_configs[{i}].connect_config"), message);
        }
    }
}

one_of! {
    /// Which cluster a request goes to.
    pub enum ClusterSpecifier {
        /// This.
        Cluster(String) = "cluster",
        /// The one that this header names.
        Header(String) = "cluster_header",
        /// One of several.
        Weighted(WeightedCluster) = "weighted_clusters",
    }
}

message! {
    /// Several clusters that share the requests.
    pub struct WeightedCluster = "envoy.config.route.v3.WeightedCluster", checked by check_weights {
        /// At least one.
        pub clusters: Vec<ClusterWeight>,
        /// Not looked at: the total is that of the weights.
        pub total_weight: Option<u32>,
        /// Before the names of clusters in the runtime's keys; empty for none.
        pub runtime_key_prefix: String,
        /// What is taken instead of a random number.
        pub random_value: RandomValue => read_random_value,
    }
}

/// What is taken instead of a random number, if that can be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RandomValue {
    /// Nothing.
    #[default]
    Random,
    /// The number in this header.
    Header(String),
    /// That of the requests that belong together.
    Hash,
}

fn read_random_value(r: &mut MessageReader<'_>, _: &str) -> Result<RandomValue, ConfigError> {
    Ok(match r.at_most_one(&["header_name", "use_hash_policy"])? {
        Some("header_name") => match r.string("header_name")? {
            name if name.is_empty() => RandomValue::Random,
            name => RandomValue::Header(name),
        },
        Some(_) if r.opt_bool("use_hash_policy")? == Some(true) => RandomValue::Hash,
        _ => RandomValue::Random,
    })
}

fn check_weights(r: &MessageReader<'_>, weighted: &WeightedCluster) {
    // The runtime may have others, which the table asks for.
    let is_known = weighted.runtime_key_prefix.is_empty() && !weighted.clusters.is_empty();
    if is_known && weighted.clusters.iter().all(|cluster| cluster.weight == Some(0)) {
        r.refuse("clusters", "Sum of weights in the weighted_cluster must be greater than 0.");
    }
}

message! {
    /// One of several clusters.
    pub message ClusterWeight = "envoy.config.route.v3.WeightedCluster.ClusterWeight", checked by check_weight {
        /// Its name, or empty.
        pub name: String,
        /// The header that names it, or empty.
        pub cluster_header: String,
        /// So many parts of all; has to be there.
        pub weight: Option<u32>,
        /// What is done to headers.
        pub headers: HeaderRules => read_rules,
        /// What it says to HTTP filters.
        pub typed_per_filter_config: PerFilterConfig,
        /// What the host becomes; empty for what the route says.
        pub host_rewrite_literal: String,
        /// Which hosts may be chosen, for balancers that choose by metadata.
        pub metadata_match: Option<Metadata>,
    }
}

fn check_weight(r: &MessageReader<'_>, weight: &ClusterWeight) {
    if weight.weight.is_none() {
        r.refuse("weight", "Field 'weight' is missing");
    }
    match (weight.name.is_empty(), weight.cluster_header.is_empty()) {
        (false, false) => r.refuse("name", "Only one of name or cluster_header can be specified"),
        (true, true) => r.refuse("name", "At least one of name or cluster_header need to be specified"),
        _ => {}
    }
}

fn read_not_found(r: &mut MessageReader<'_>, name: &str) -> Result<u16, ConfigError> {
    const NOT_FOUND: &EnumTable<u16> =
        &[("SERVICE_UNAVAILABLE", 503), ("NOT_FOUND", 404), ("INTERNAL_SERVER_ERROR", 500)];
    Ok(r.enumeration(name, NOT_FOUND)?.unwrap_or(503))
}

message! {
    /// Sends a client elsewhere.
    pub message RedirectAction = "envoy.config.route.v3.RedirectAction" {
        /// Another scheme; empty for that of the request.
        pub scheme: String => read_scheme,
        /// Another host; empty for that of the request.
        pub host_redirect: String,
        /// Another port; 0 for none.
        pub port_redirect: u32,
        /// What becomes of the path.
        pub path: PathRedirect => read_path_redirect,
        /// How it is said.
        pub response_code: RedirectResponseCode,
        /// Without the query.
        pub strip_query: bool,
    }
}

fn read_scheme(r: &mut MessageReader<'_>, _: &str) -> Result<String, ConfigError> {
    Ok(match r.at_most_one(&["https_redirect", "scheme_redirect"])? {
        Some("https_redirect") if r.bool("https_redirect")? => "https".to_string(),
        Some("scheme_redirect") => r.string("scheme_redirect")?,
        _ => String::new(),
    })
}

/// What becomes of the path of who is sent elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub enum PathRedirect {
    /// It stays, or is rewritten.
    Rewrite(PathRewrite),
    /// It becomes this.
    To(String),
    /// It becomes what this format makes, unless that is empty.
    Format(String),
}

fn read_path_redirect(r: &mut MessageReader<'_>, _: &str) -> Result<PathRedirect, ConfigError> {
    Ok(match r.at_most_one(&["path_redirect", "prefix_rewrite", "regex_rewrite", "path_rewrite"])? {
        Some("path_redirect") => PathRedirect::To(r.string("path_redirect")?),
        Some("path_rewrite") => PathRedirect::Format(r.string("path_rewrite")?),
        _ => PathRedirect::Rewrite(read_path_rewrite(r, "")?),
    })
}

/// The status of a redirect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RedirectResponseCode {
    /// 301.
    #[default]
    MovedPermanently = 301,
    /// 302.
    Found = 302,
    /// 303.
    SeeOther = 303,
    /// 307.
    TemporaryRedirect = 307,
    /// 308.
    PermanentRedirect = 308,
}

impl RedirectResponseCode {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("MOVED_PERMANENTLY", Self::MovedPermanently),
        ("FOUND", Self::Found),
        ("SEE_OTHER", Self::SeeOther),
        ("TEMPORARY_REDIRECT", Self::TemporaryRedirect),
        ("PERMANENT_REDIRECT", Self::PermanentRedirect),
    ];
}

message! {
    /// Answers at once.
    pub struct DirectResponseAction = "envoy.config.route.v3.DirectResponseAction" {
        /// 200..=599.
        pub status: u16,
        /// `None` is an empty body; how long it may be is the route table's affair.
        pub body: Option<DataSource>,
        /// How the body is put; `None` is as it is.
        pub body_format: Option<FormatSource>,
    }
}

enum_fields! { RedirectResponseCode }

fn read_early_data_policy(r: &mut MessageReader<'_>, name: &str) -> Result<(), ConfigError> {
    r.message_with(name, |r| {
        r.string("name")?;
        let (type_name, config) = r.any("typed_config")?;
        let known = "envoy.extensions.early_data.v3.DefaultEarlyDataPolicy";
        config.read_with(|config| match type_name == known {
            true => Ok(()),
            false => Err(unknown_type(config, type_name, &[known])),
        })
    })?;
    Ok(())
}
