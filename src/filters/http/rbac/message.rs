//! `envoy.extensions.filters.http.rbac.v3` and `envoy.config.rbac.v3`: who may do what.

use crate::config::ConfigError;
use crate::config::address::CidrRange;
use crate::config::header_matcher::{HeaderMatcher, StringMatcher};
use crate::config::matcher::{
    self, ENVIRONMENT_INPUT, HEADER_INPUT, MatchAction, NETWORK_INPUTS, SSL_INPUTS,
};
use crate::config::metadata_matcher::{FilterStateMatcher, MetadataMatcher};
use crate::config::reader::{EnumTable, FromMessage, MessageReader, unknown_type};
use crate::config::route::PathMatchPolicy;
use crate::{enum_fields, message};

message! {
    /// What is said of all requests, or of a route's.
    pub struct Rbac = "envoy.extensions.filters.http.rbac.v3.RBAC" {
        /// Who may do what; absent for all and everything.
        pub rules: Option<Rules>,
        /// The same as a tree, which counts where both are there.
        pub matcher: Option<matcher::Matcher<NamedAction>>,
        /// Stands before what the rules count and say.
        pub rules_stat_prefix: String,
        /// What is only counted.
        pub shadow_rules: Option<Rules>,
        /// The same as a tree, which counts where both are there.
        pub shadow_matcher: Option<matcher::Matcher<NamedAction>>,
        /// Stands before what these count and say.
        pub shadow_rules_stat_prefix: String,
        /// Whether there are counters for each policy.
        pub track_per_rule_stats: bool,
    }
}

message! {
    /// What a route says.
    pub struct RbacPerRoute = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute" {
        /// Absent for no rules.
        pub rbac: Option<Rbac>,
    }
}

message! {
    /// Policies, and what it means that one of them matches.
    pub struct Rules = "envoy.config.rbac.v3.RBAC" {
        /// What then.
        pub action: Action,
        /// By name, in the order of the names.
        pub policies: Vec<(String, Policy)> => read_policies,
    }
}

fn read_policies(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<(String, Policy)>, ConfigError> {
    let mut policies = r.map_of(name, "envoy.config.rbac.v3.Policy")?;
    policies.sort_by(|(one, _): &(String, Policy), (other, _)| one.cmp(other));
    Ok(policies)
}

/// What becomes of requests that a policy matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// They go on, and no others do.
    #[default]
    Allow,
    /// They are refused, and no others are.
    Deny,
    /// They are marked for the access log.
    Log,
}

impl Action {
    const TABLE: &EnumTable<Self> = &[("ALLOW", Self::Allow), ("DENY", Self::Deny), ("LOG", Self::Log)];
}

enum_fields! { Action }

message! {
    /// What a tree leads to.
    #[derive(Eq)]
    pub struct NamedAction = "envoy.config.rbac.v3.Action" {
        /// What it is called where it is told of.
        pub name: String,
        /// What becomes of the request.
        pub action: Action,
    }
}

impl MatchAction for NamedAction {
    const OTHER_INPUT: &str = "RBAC HTTP filter cannot match on ";

    fn takes_input(type_name: &str) -> bool {
        let of_network = [
            "DestinationIPInput",
            "DestinationPortInput",
            "SourceIPInput",
            "SourcePortInput",
            "DirectSourceIPInput",
            "ServerNameInput",
            "FilterStateInput",
            "DynamicMetadataInput",
            "NetworkNamespaceInput",
        ];
        matches!(type_name, HEADER_INPUT | ENVIRONMENT_INPUT)
            || type_name.starts_with(SSL_INPUTS)
            || type_name.strip_prefix(NETWORK_INPUTS).is_some_and(|name| of_network.contains(&name))
    }

    fn read(type_name: &str, r: MessageReader<'_>) -> Result<Self, ConfigError> {
        const ACTION: &str = "envoy.config.rbac.v3.Action";
        r.read_with(|r| match type_name {
            ACTION => FromMessage::read(r),
            _ => Err(unknown_type(r, type_name, &[ACTION])),
        })
    }
}

message! {
    /// Matches if one of each list does.
    pub struct Policy = "envoy.config.rbac.v3.Policy" {
        /// What is done.
        pub permissions: Vec<Permission>,
        /// Who does it.
        pub principals: Vec<Principal>,
    }
}

/// Of a request; the two messages have much in common.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Every request.
    Any,
    /// All of them hold.
    And(Vec<Rule>),
    /// One of them does.
    Or(Vec<Rule>),
    /// It does not.
    Not(Box<Rule>),
    /// A header.
    Header(HeaderMatcher),
    /// The path without its query.
    UrlPath(StringMatcher),
    /// The path without its query, as an extension takes it.
    UriTemplate(PathMatchPolicy),
    /// The connection's own address.
    DestinationIp(CidrRange),
    /// The connection's own port, from the first on, below the second.
    DestinationPort(i64, i64),
    /// The name that the client asked for in its TLS handshake; none without.
    RequestedServerName(StringMatcher),
    /// The address of the connection's other end.
    DirectRemoteIp(CidrRange),
    /// The address of the client.
    RemoteIp(CidrRange),
    /// Who has shown a certificate: nobody without TLS.
    Authenticated,
    /// What filters have said.
    Metadata(MetadataMatcher),
    /// What the configuration says of the route.
    RouteMetadata(MetadataMatcher),
    /// What filters have left in the stream.
    FilterState(FilterStateMatcher),
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Permission(pub Rule);

/// Who does it.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal(pub Rule);

fn set<T: FromMessage>(
    r: &mut MessageReader<'_>,
    field: &str,
    list: &str,
    rule: fn(T) -> Rule,
) -> Result<Vec<Rule>, ConfigError> {
    let all: Option<Vec<T>> = r.message_with(field, |r| r.messages(list))?;
    Ok(all.unwrap_or_default().into_iter().map(rule).collect())
}

fn url_path(r: &mut MessageReader<'_>, field: &str) -> Result<Rule, ConfigError> {
    let path: Option<StringMatcher> = r.message_with(field, |r| r.required_message("path"))?;
    path.map(Rule::UrlPath).ok_or_else(|| r.error(field, "value is required"))
}

/// `envoy.config.rbac.v3.SourcedMetadata`.
fn sourced_metadata(r: &mut MessageReader<'_>, field: &str) -> Result<Rule, ConfigError> {
    const SOURCES: &EnumTable<fn(MetadataMatcher) -> Rule> =
        &[("DYNAMIC", Rule::Metadata), ("ROUTE", Rule::RouteMetadata)];
    let rule = r.message_with(field, |r| {
        let source = r.enumeration("metadata_source", SOURCES)?.unwrap_or(Rule::Metadata);
        Ok(source(r.required_message("metadata_matcher")?))
    })?;
    rule.ok_or_else(|| r.error(field, "value is required"))
}

impl FromMessage for Permission {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let members = [
            "and_rules",
            "or_rules",
            "any",
            "header",
            "url_path",
            "destination_ip",
            "destination_port",
            "destination_port_range",
            "not_rule",
            "requested_server_name",
            "metadata",
            "sourced_metadata",
            "uri_template",
        ];
        let rule = |permission: Permission| permission.0;
        Ok(Permission(match r.exactly_one(&members)? {
            field @ "and_rules" => Rule::And(set(r, field, "rules", rule)?),
            field @ "or_rules" => Rule::Or(set(r, field, "rules", rule)?),
            "metadata" => Rule::Metadata(r.required_message("metadata")?),
            field @ "sourced_metadata" => sourced_metadata(r, field)?,
            "not_rule" => Rule::Not(Box::new(r.required_message::<Permission>("not_rule")?.0)),
            "header" => Rule::Header(r.required_message("header")?),
            "url_path" => url_path(r, "url_path")?,
            "uri_template" => Rule::UriTemplate(r.required_message("uri_template")?),
            "destination_ip" => Rule::DestinationIp(r.required_message("destination_ip")?),
            "destination_port" => {
                let port = i64::from(r.u32("destination_port")?);
                Rule::DestinationPort(port, port + 1)
            }
            "destination_port_range" => {
                let range =
                    r.message_with("destination_port_range", |r| Ok((r.i64("start")?, r.i64("end")?)))?;
                let (start, end) = range.unwrap_or_default();
                Rule::DestinationPort(start, end)
            }
            "requested_server_name" => {
                Rule::RequestedServerName(r.required_message("requested_server_name")?)
            }
            any => {
                r.bool(any)?;
                Rule::Any
            }
        }))
    }
}

impl FromMessage for Principal {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let members = [
            "and_ids",
            "or_ids",
            "any",
            "authenticated",
            "source_ip",
            "direct_remote_ip",
            "remote_ip",
            "header",
            "url_path",
            "not_id",
            "metadata",
            "sourced_metadata",
            "filter_state",
        ];
        let rule = |principal: Principal| principal.0;
        Ok(Principal(match r.exactly_one(&members)? {
            field @ "and_ids" => Rule::And(set(r, field, "ids", rule)?),
            field @ "or_ids" => Rule::Or(set(r, field, "ids", rule)?),
            "metadata" => Rule::Metadata(r.required_message("metadata")?),
            field @ "sourced_metadata" => sourced_metadata(r, field)?,
            "filter_state" => Rule::FilterState(r.required_message("filter_state")?),
            "not_id" => Rule::Not(Box::new(r.required_message::<Principal>("not_id")?.0)),
            "authenticated" => {
                r.message_with("authenticated", |r| r.message::<StringMatcher>("principal_name"))?;
                Rule::Authenticated
            }
            field @ ("source_ip" | "direct_remote_ip") => Rule::DirectRemoteIp(r.required_message(field)?),
            "remote_ip" => Rule::RemoteIp(r.required_message("remote_ip")?),
            "header" => Rule::Header(r.required_message("header")?),
            "url_path" => url_path(r, "url_path")?,
            any => {
                r.bool(any)?;
                Rule::Any
            }
        }))
    }
}
