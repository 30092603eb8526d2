//! `envoy.config.route.v3`: route tables.
//!
//! The router's own rules (unique domains, one wildcard) are checked here too,
//! so that the error can name the field.

use super::core::{DataSource, RoutingPriority};
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::message::FieldValue;
use super::reader::{EnumTable, MessageReader};
use crate::{message, one_of};
use std::collections::HashSet;
use std::time::Duration;

/// Envoy's limit for the body of a direct response, in bytes.
pub const MAX_DIRECT_RESPONSE_BODY_BYTES: usize = 4096;

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
        name_clusters(r, &table.virtual_hosts);
    }
}

/// Has the clusters looked for that routes lead to.
fn name_clusters(r: &MessageReader<'_>, virtual_hosts: &[VirtualHost]) {
    for (i, virtual_host) in virtual_hosts.iter().enumerate() {
        for (j, route) in virtual_host.routes.iter().enumerate() {
            if let Action::Route(action) = &route.action {
                let path = format!("virtual_hosts[{i}].routes[{j}].route.cluster");
                r.names_cluster(&path, "route", &action.cluster);
            }
        }
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
    pub struct VirtualHost = "envoy.config.route.v3.VirtualHost" {
        /// Never empty; used in stats.
        pub name: String,
        /// At least one: exact, `*.suffix`, `prefix.*` or `*`.
        pub domains: Vec<String>,
        /// The first that matches wins.
        pub routes: Vec<Route>,
        /// Send `x-envoy-attempt-count` upstream; default false.
        pub include_request_attempt_count: bool,
        /// What it says to HTTP filters.
        pub typed_per_filter_config: PerFilterConfig,
    }
}

message! {
    /// One route.
    pub message Route = "envoy.config.route.v3.Route" {
        /// May be empty; used in logs.
        pub name: String,
        /// What it says to HTTP filters.
        pub typed_per_filter_config: PerFilterConfig,
        /// `match` in the API.
        pub route_match: RouteMatch => read_match,
        /// What to do with a matching request.
        pub action: Action => Action::read_member,
    }
}

fn read_match(r: &mut MessageReader<'_>, _: &str) -> Result<RouteMatch, ConfigError> {
    r.required_message("match")
}

/// What a level of a route table says to HTTP filters, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerFilterConfig(pub Vec<(String, TypedConfig)>);

impl FieldValue for PerFilterConfig {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.typed_configs(name, Category::RouteFilterConfigs).ok().map(Self)
    }
}

one_of! {
    /// What to do with a request.
    #[derive(Eq)]
    pub enum Action {
        /// Send it to a cluster.
        Route(RouteAction) = "route",
        /// Answer at once.
        DirectResponse(DirectResponseAction) = "direct_response",
    }
}

message! {
    /// Which requests a route is for.
    #[derive(Eq)]
    pub message RouteMatch = "envoy.config.route.v3.RouteMatch" {
        /// Default true.
        pub case_sensitive: bool = true,
        /// The path without its query.
        pub path: PathMatch => PathMatch::read_member,
    }
}

one_of! {
    /// How a path is compared.
    #[derive(Eq)]
    pub enum PathMatch {
        /// It starts with this.
        Prefix(String) = "prefix",
        /// It is this.
        Path(String) = "path",
    }
}

message! {
    /// Sends a request to a cluster.
    #[derive(Eq)]
    pub message RouteAction = "envoy.config.route.v3.RouteAction" {
        /// Never empty.
        pub cluster: String,
        /// Status when there is no such cluster: 503 (default), 404 or 500.
        pub cluster_not_found_response_code: u16 => read_not_found,
        /// For the whole response, default 15 s; zero is no limit.
        pub timeout: Duration = Duration::from_secs(15),
        /// Instead of the connection manager's `stream_idle_timeout`; zero switches
        /// it off.
        pub idle_timeout: Option<Duration>,
        /// Which circuit breakers and pool.
        pub priority: RoutingPriority,
    }
}

fn read_not_found(r: &mut MessageReader<'_>, name: &str) -> Result<u16, ConfigError> {
    const NOT_FOUND: &EnumTable<u16> =
        &[("SERVICE_UNAVAILABLE", 503), ("NOT_FOUND", 404), ("INTERNAL_SERVER_ERROR", 500)];
    Ok(r.enumeration(name, NOT_FOUND)?.unwrap_or(503))
}

message! {
    /// Answers at once.
    #[derive(Eq)]
    pub struct DirectResponseAction = "envoy.config.route.v3.DirectResponseAction", checked by check_body {
        /// 200..=599.
        pub status: u16,
        /// `None` is an empty body; inline text has at most
        /// [`MAX_DIRECT_RESPONSE_BODY_BYTES`].
        pub body: Option<DataSource>,
    }
}

fn check_body(r: &MessageReader<'_>, action: &DirectResponseAction) {
    if let Some(DataSource::InlineString(text)) = &action.body
        && text.len() > MAX_DIRECT_RESPONSE_BODY_BYTES
    {
        let message = format!(
            "response body size is {} bytes; maximum is {MAX_DIRECT_RESPONSE_BODY_BYTES}",
            text.len()
        );
        r.refuse("body", message);
    }
}
