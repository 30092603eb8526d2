//! `envoy.config.route.v3`: route tables.
//!
//! The router's own rules (unique domains, one wildcard) are checked here too,
//! so that the error can name the field.

mod action;
mod connect;
mod cors;
mod hash_policy;
mod header_rules;
mod internal_redirect;
mod matched;
mod per_filter_config;
mod rate_limit;
mod retry;
mod rewrite;
mod route_match;

pub use action::{
    ClusterSpecifier, ClusterWeight, DirectResponseAction, MaxStreamDuration, PathRedirect, RandomValue,
    RedirectAction, RequestMirrorPolicy, RouteAction, WeightedCluster,
};
pub use connect::{ConnectConfig, ProxyProtocolConfig, ProxyProtocolVersion};
pub use cors::CorsPolicy;
pub use hash_policy::{CookieAttribute, HashPolicy, HashedBy, HashedCookie};
pub use header_rules::{AppendAction, HeaderMutation, HeaderMutations, HeaderRules, HeaderValueOption};
pub use internal_redirect::{InternalRedirectPolicy, InternalRedirectPredicate};
pub use matched::MatchedRoutes;
pub use per_filter_config::{FilterConfig, PerFilterConfig};
pub use rate_limit::{
    HitsAddend, MaskedRemoteAddress, MetaData, MetadataKey, MetadataPathSegment, MetadataSource, RateLimit,
    RateLimitAction,
};
pub use retry::{
    HedgePolicy, RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff, RetryHostPredicate,
    RetryPolicy,
};
pub use rewrite::{HostRewrite, PathRewrite};
pub use route_match::{
    CookieMatcher, ParameterMatch, PathMatch, PathMatchPolicy, QueryParameterMatcher, RouteMatch,
};

pub(super) use header_rules::read_mutations;
use header_rules::read_rules;

use super::core::Metadata;
use super::error::ConfigError;
use super::header_matcher::HeaderMatcher;
use super::matcher::Matcher;
use super::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message, one_of};
use std::collections::HashSet;

/// Envoy's limit for the body of a direct response, in bytes.
pub const MAX_DIRECT_RESPONSE_BODY_BYTES: u32 = 4096;

message! {
    /// A route table.
    pub struct RouteConfiguration = "envoy.config.route.v3.RouteConfiguration", checked by check_table {
        /// May be empty.
        pub name: String,
        /// Searched by domain.
        pub virtual_hosts: Vec<VirtualHost>,
        /// Refuse routes to clusters that do not exist; default true for a table that
        /// stands in the configuration.
        pub validate_clusters: bool = true,
        /// What it says to HTTP filters.
        pub typed_per_filter_config: PerFilterConfig,
        /// What is done to headers.
        pub headers: HeaderRules => read_rules,
        /// The rules of a table are asked first, and those of a route last.
        pub most_specific_header_mutations_wins: bool,
        /// Requests are for a domain whatever port they name.
        pub ignore_port_in_host_matching: bool,
        /// Who else gets a copy of the requests of virtual hosts that say nothing of it.
        pub request_mirror_policies: Vec<RequestMirrorPolicy>,
        /// Headers that requests from outside lose, in any case.
        pub internal_only_headers: Vec<String>,
        /// The header that names the domain; empty for the host.
        pub vhost_header: String,
        /// What is behind a `;` in a path is not compared.
        pub ignore_path_parameters_in_path_matching: bool,
        /// What is said of it, for logs.
        pub metadata: Metadata,
        /// How long the body of a direct response may be, in bytes.
        pub max_direct_response_body_size_bytes: u32 = MAX_DIRECT_RESPONSE_BODY_BYTES,
    }
}

impl RouteConfiguration {
    /// A table without routes.
    pub fn empty() -> Self {
        RouteConfiguration { validate_clusters: false, ..RouteConfiguration::default() }
    }
}

fn check_table(r: &MessageReader<'_>, table: &RouteConfiguration) {
    if r.is_all_of("virtual_hosts", &table.virtual_hosts) {
        check_domains(r, &table.name, &table.virtual_hosts);
    }
    if table.validate_clusters {
        name_clusters(r, table);
    }
}

/// Has the clusters looked for that routes lead to.
fn name_clusters(r: &MessageReader<'_>, table: &RouteConfiguration) {
    for (i, virtual_host) in table.virtual_hosts.iter().enumerate() {
        for (j, route) in virtual_host.routes.iter().enumerate() {
            let Action::Route(action) = &route.action else { continue };
            let path = format!("virtual_hosts[{i}].routes[{j}].route");
            // The first that says something of it counts.
            let mirrors = [
                (format!("{path}."), &action.request_mirror_policies),
                (format!("virtual_hosts[{i}]."), &virtual_host.request_mirror_policies),
                (String::new(), &table.request_mirror_policies),
            ];
            if let Some((place, mirrors)) = mirrors.iter().find(|(_, mirrors)| !mirrors.is_empty()) {
                name_mirrors(r, place, mirrors);
            }
            match &action.cluster {
                ClusterSpecifier::Cluster(name) => {
                    r.names_cluster(&format!("{path}.cluster"), "route: unknown cluster", name)
                }
                ClusterSpecifier::Header(_) => {}
                ClusterSpecifier::Weighted(weighted) => {
                    for (k, cluster) in
                        weighted.clusters.iter().enumerate().filter(|(_, c)| !c.name.is_empty())
                    {
                        let path = format!("{path}.weighted_clusters.clusters[{k}].name");
                        r.names_cluster(&path, "route: unknown weighted cluster", &cluster.name);
                    }
                }
            }
        }
    }
}

fn name_mirrors(r: &MessageReader<'_>, place: &str, mirrors: &[RequestMirrorPolicy]) {
    for (k, mirror) in mirrors.iter().enumerate().filter(|(_, mirror)| !mirror.cluster.is_empty()) {
        let path = format!("{place}request_mirror_policies[{k}].cluster");
        r.names_cluster(&path, "route: unknown shadow cluster", &mirror.cluster);
    }
}

/// Every domain may appear once in a table, in any case of letters.
fn check_domains(r: &MessageReader<'_>, name: &str, virtual_hosts: &[VirtualHost]) {
    let mut seen = HashSet::new();
    for (i, virtual_host) in virtual_hosts.iter().enumerate() {
        for (j, domain) in virtual_host.domains.iter().enumerate() {
            let domain = domain.to_ascii_lowercase();
            if seen.contains(&domain) {
                let message = if domain == "*" {
                    format!("Only a single wildcard domain is permitted in route {name}")
                } else {
                    format!(
                        "Only unique values for domains are permitted. Duplicate entry of \
                         domain {domain} in route {name}"
                    )
                };
                r.refuse(&format!("virtual_hosts[{i}].domains[{j}]"), message);
            }
            seen.insert(domain);
        }
    }
}

message! {
    /// Routes for some domains.
    pub struct VirtualHost = "envoy.config.route.v3.VirtualHost", checked by check_virtual_host {
        /// Never empty; used in stats.
        pub name: String,
        /// At least one: exact, `*.suffix`, `prefix.*` or `*`.
        pub domains: Vec<String>,
        /// The first that matches wins.
        pub routes: Vec<Route>,
        /// Leads to the routes, in place of those.
        pub matcher: Option<Box<Matcher<MatchedRoutes>>>,
        /// Send `x-envoy-attempt-count` upstream; default false.
        pub include_request_attempt_count: bool,
        /// Send it downstream; default false.
        pub include_attempt_count_in_response: bool,
        /// Tell the upstream whether a try follows one whose time was over; default false.
        pub include_is_timeout_retry_header: bool,
        /// Of those routes that say nothing of it.
        pub retry_policy: Option<RetryPolicy>,
        /// Of those routes that say nothing of it.
        pub hedge_policy: Option<HedgePolicy>,
        /// How much of a request's body is kept for the next try; of those routes that say nothing of it.
        pub per_request_buffer_limit_bytes: Option<u32>,
        /// The same, whatever the connection keeps, and in its place.
        pub request_body_buffer_limit: Option<u64>,
        /// Which clients have to use TLS.
        pub require_tls: TlsRequirementType,
        /// What is done to headers.
        pub headers: HeaderRules => read_rules,
        /// What it says to HTTP filters.
        pub typed_per_filter_config: PerFilterConfig,
        /// Requests that are counted by themselves.
        pub virtual_clusters: Vec<VirtualCluster>,
        /// Who else gets a copy of the requests of routes that say nothing of it.
        pub request_mirror_policies: Vec<RequestMirrorPolicy>,
        /// Which pages may ask, for the cors filter.
        pub cors: Option<CorsPolicy>,
        /// By what its requests are counted, for filters that do so.
        pub rate_limits: Vec<RateLimit>,
        /// What is said of it, for logs.
        pub metadata: Metadata,
    }
}

fn check_virtual_host(r: &MessageReader<'_>, host: &VirtualHost) {
    if host.matcher.is_some() && r.has("routes") {
        r.refuse("matcher", "cannot set both matcher and routes on virtual host");
    }
}

message! {
    /// Requests that are counted by themselves.
    #[derive(Eq)]
    pub struct VirtualCluster = "envoy.config.route.v3.VirtualCluster", checked by check_virtual_cluster {
        /// Those with all of these headers.
        pub headers: Vec<HeaderMatcher>,
        /// Never empty; used in stats.
        pub name: String,
    }
}

fn check_virtual_cluster(r: &MessageReader<'_>, cluster: &VirtualCluster) {
    if cluster.headers.is_empty() {
        r.refuse("headers", "virtual clusters must define 'headers'");
    }
}

message! {
    /// One route.
    pub message Route = "envoy.config.route.v3.Route" {
        /// May be empty; used in logs.
        pub name: String,
        /// Its requests are counted by themselves, under this name; empty for no.
        pub stat_prefix: String,
        /// What it says to HTTP filters.
        pub typed_per_filter_config: PerFilterConfig,
        /// What is done to headers.
        pub headers: HeaderRules => read_rules,
        /// What is said of it, for logs.
        pub metadata: Metadata,
        /// What a trace would call its requests: there are no traces yet.
        pub decorator: Option<Decorator>,
        /// How much of a request's body is kept for the next try.
        pub per_request_buffer_limit_bytes: Option<u32>,
        /// The same, whatever the connection keeps, and in its place.
        pub request_body_buffer_limit: Option<u64>,
        /// `match` in the API.
        pub route_match: RouteMatch => read_match,
        /// What to do with a matching request.
        pub action: Action => Action::read_member,
    }
}

message! {
    /// What a trace calls the requests of a route.
    #[derive(Eq)]
    pub struct Decorator = "envoy.config.route.v3.Decorator" {
        /// Never empty.
        pub operation: String,
        /// Whether the upstream is told; default true.
        pub propagate: bool = true,
    }
}

fn read_match(r: &mut MessageReader<'_>, _: &str) -> Result<RouteMatch, ConfigError> {
    r.required_message("match")
}

one_of! {
    /// What to do with a request.
    pub enum Action {
        /// Send it to a cluster.
        Route(Box<RouteAction>) = "route",
        /// Send the client elsewhere.
        Redirect(RedirectAction) = "redirect",
        /// Answer at once.
        DirectResponse(DirectResponseAction) = "direct_response",
    }
}

/// Which clients of a virtual host have to use TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsRequirementType {
    /// None.
    #[default]
    None,
    /// Those from outside.
    ExternalOnly,
    /// All.
    All,
}

impl TlsRequirementType {
    /// API names.
    pub const TABLE: &EnumTable<Self> =
        &[("NONE", Self::None), ("EXTERNAL_ONLY", Self::ExternalOnly), ("ALL", Self::All)];
}

enum_fields! { TlsRequirementType }
