//! Whether a request matches a policy.
//!
//! Mirrors Envoy's `source/extensions/filters/common/rbac/engine_impl.cc` and `source/extensions/filters/common/rbac/matchers.cc`.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::message::{Action, NamedAction, Rule, Rules};
use crate::config::ConfigError;
use crate::config::address;
use crate::config::header_matcher::StringMatcher;
use crate::config::matcher as config;
use crate::config::metadata_matcher::{FilterStateMatcher, MetadataMatcher};
use crate::http::header_utility::{HeaderMatcher, match_string};
use crate::http::{HeaderId, HeaderMap};
use crate::network::{Address, CidrRange};
use crate::router::UriTemplate;
use crate::router::match_tree::{MatchTree, MatchingData};
use crate::stream_info::StreamInfoImpl;

/// Policies, in the order of their names.
#[derive(Debug)]
pub(super) struct RoleBasedAccessControlEngineImpl {
    action: Action,
    policies: Vec<PolicyMatcher>,
}

#[derive(Debug)]
struct PolicyMatcher {
    name: String,
    permissions: Matcher,
    principals: Matcher,
}

/// A rule, with what is made of it at load.
#[derive(Debug)]
enum Matcher {
    Any,
    Never,
    And(Vec<Matcher>),
    Or(Vec<Matcher>),
    Not(Box<Matcher>),
    Header(HeaderMatcher),
    UrlPath(StringMatcher),
    UriTemplate(Arc<UriTemplate>),
    DestinationIp(CidrRange),
    DestinationPort(i64, i64),
    RequestedServerName(StringMatcher),
    DirectRemoteIp(CidrRange),
    RemoteIp(CidrRange),
    Metadata(MetadataMatcher),
    RouteMetadata(MetadataMatcher),
    FilterState(FilterStateMatcher),
}

/// Where the `access_log_hint` of rules that only mark is.
const COMMON: &str = "envoy.common";

/// A tree that leads to what becomes of a request (Envoy: `RoleBasedAccessControlMatcherEngineImpl`).
#[derive(Debug)]
pub(super) struct RoleBasedAccessControlMatcherEngineImpl {
    tree: MatchTree<NamedAction>,
    /// Some mark requests.
    has_log: bool,
}

/// Either of the two.
#[derive(Debug)]
pub(super) enum Engine {
    Rules(RoleBasedAccessControlEngineImpl),
    Matcher(RoleBasedAccessControlMatcherEngineImpl),
}

impl Engine {
    /// `None` where there is neither.
    pub fn new(
        rules: Option<&Rules>,
        matcher: Option<&config::Matcher<NamedAction>>,
    ) -> Result<Option<Self>, ConfigError> {
        if let Some(matcher) = matcher {
            return Ok(Some(Engine::Matcher(RoleBasedAccessControlMatcherEngineImpl::new(matcher))));
        }
        Ok(rules.map(RoleBasedAccessControlEngineImpl::new).transpose()?.map(Engine::Rules))
    }

    /// Whether a request may go on, and the policy that it matches. What is only tried marks nothing.
    pub fn handle_action(
        &self,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
        is_enforced: bool,
    ) -> (bool, Option<&str>) {
        match self {
            Engine::Rules(rules) => rules.handle_action(headers, info, is_enforced),
            Engine::Matcher(matcher) => matcher.handle_action(headers, info, is_enforced),
        }
    }
}

impl RoleBasedAccessControlMatcherEngineImpl {
    fn new(config: &config::Matcher<NamedAction>) -> Self {
        let mut has_log = false;
        let tree = MatchTree::new(config, &mut |action: &NamedAction| {
            has_log |= action.action == Action::Log;
            action.clone()
        });
        RoleBasedAccessControlMatcherEngineImpl { tree, has_log }
    }

    /// What the tree leads nowhere for is refused.
    fn handle_action(
        &self,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
        is_enforced: bool,
    ) -> (bool, Option<&str>) {
        let Some(found) = self.tree.find(MatchingData { headers, info: Some(info) }) else {
            return (false, None);
        };
        if self.has_log && is_enforced {
            mark(info, found.action == Action::Log);
        }
        (found.action != Action::Deny, Some(&found.name))
    }
}

/// Says whether the request is of interest for the access log.
fn mark(info: &StreamInfoImpl, is_of_interest: bool) {
    let hint = ("access_log_hint".to_string(), Value::Bool(is_of_interest));
    info.set_dynamic_metadata(COMMON, Map::from_iter([hint]));
}

impl RoleBasedAccessControlEngineImpl {
    fn new(rules: &Rules) -> Result<Self, ConfigError> {
        let policy = |(name, policy): &(String, super::message::Policy)| {
            let permissions = policy.permissions.iter().map(|permission| Matcher::new(&permission.0));
            let principals = policy.principals.iter().map(|principal| Matcher::new(&principal.0));
            Ok(PolicyMatcher {
                name: name.clone(),
                permissions: Matcher::Or(permissions.collect::<Result<_, _>>()?),
                principals: Matcher::Or(principals.collect::<Result<_, _>>()?),
            })
        };
        let policies = rules.policies.iter().map(policy).collect::<Result<_, _>>()?;
        Ok(RoleBasedAccessControlEngineImpl { action: rules.action, policies })
    }

    fn handle_action(
        &self,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
        is_enforced: bool,
    ) -> (bool, Option<&str>) {
        let is_match = |policy: &&PolicyMatcher| {
            policy.permissions.matches(headers, info) && policy.principals.matches(headers, info)
        };
        let matched = self.policies.iter().find(is_match).map(|policy| policy.name.as_str());
        let allowed = match self.action {
            Action::Allow => matched.is_some(),
            Action::Deny => matched.is_none(),
            Action::Log if !is_enforced => true,
            Action::Log => {
                mark(info, matched.is_some());
                true
            }
        };
        (allowed, matched)
    }
}

fn range(range: &address::CidrRange) -> Result<CidrRange, ConfigError> {
    CidrRange::configured(range).ok_or_else(|| ConfigError::new("", "malformed IP address"))
}

fn is_in(range: &CidrRange, address: Option<Address>) -> bool {
    address.and_then(|address| address.ip().map(|ip| ip.ip())).is_some_and(|ip: IpAddr| range.is_in_range(ip))
}

impl Matcher {
    fn new(rule: &Rule) -> Result<Self, ConfigError> {
        let all = |rules: &[Rule]| rules.iter().map(Matcher::new).collect::<Result<Vec<_>, _>>();
        Ok(match rule {
            Rule::Any => Matcher::Any,
            Rule::Authenticated => Matcher::Never,
            Rule::And(rules) => Matcher::And(all(rules)?),
            Rule::Or(rules) => Matcher::Or(all(rules)?),
            Rule::Not(rule) => Matcher::Not(Box::new(Matcher::new(rule)?)),
            Rule::Header(header) => Matcher::Header(HeaderMatcher::new(header)),
            Rule::UrlPath(path) => Matcher::UrlPath(path.clone()),
            Rule::UriTemplate(policy) => Matcher::UriTemplate(policy.0.get::<UriTemplate>()?.clone()),
            Rule::DestinationIp(ip) => Matcher::DestinationIp(range(ip)?),
            Rule::DestinationPort(start, end) => Matcher::DestinationPort(*start, *end),
            Rule::RequestedServerName(name) => Matcher::RequestedServerName(name.clone()),
            Rule::DirectRemoteIp(ip) => Matcher::DirectRemoteIp(range(ip)?),
            Rule::RemoteIp(ip) => Matcher::RemoteIp(range(ip)?),
            Rule::Metadata(matcher) => Matcher::Metadata(matcher.clone()),
            Rule::RouteMetadata(matcher) => Matcher::RouteMetadata(matcher.clone()),
            Rule::FilterState(matcher) => Matcher::FilterState(matcher.clone()),
        })
    }

    fn matches(&self, headers: &HeaderMap, info: &StreamInfoImpl) -> bool {
        let connection = || info.downstream_connection();
        let local = || connection().and_then(|connection| connection.local_address());
        match self {
            Matcher::Any => true,
            Matcher::Never => false,
            Matcher::And(all) => all.iter().all(|matcher| matcher.matches(headers, info)),
            Matcher::Or(all) => all.iter().any(|matcher| matcher.matches(headers, info)),
            Matcher::Not(matcher) => !matcher.matches(headers, info),
            Matcher::Header(header) => header.matches(Some(headers)),
            Matcher::UrlPath(path) => headers.get(HeaderId::Path).is_some_and(|value| {
                let end = value.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(value.len());
                match_string(&value[..end], path)
            }),
            Matcher::UriTemplate(template) => headers.get(HeaderId::Path).is_some_and(|path| {
                let end = path.iter().position(|b| *b == b'?').unwrap_or(path.len());
                template.matches(&path[..end])
            }),
            Matcher::DestinationIp(range) => is_in(range, local()),
            Matcher::DestinationPort(start, end) => {
                let port = local().and_then(|address| address.ip().map(|ip| i64::from(ip.port())));
                port.is_some_and(|port| (*start..*end).contains(&port))
            }
            Matcher::RequestedServerName(name) => match_string(b"", name),
            Matcher::DirectRemoteIp(range) => is_in(range, connection().map(|c| c.direct_remote_address())),
            Matcher::RemoteIp(range) => is_in(range, info.downstream_remote_address()),
            Matcher::Metadata(matcher) => matcher.matches(info),
            Matcher::RouteMetadata(matcher) => matcher.matches_route(info),
            Matcher::FilterState(matcher) => matcher.matches(info),
        }
    }
}
