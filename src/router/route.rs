//! One route: what it matches and what it does.
//!
//! Mirrors `RouteEntryImplBase` and its kinds in Envoy's `source/common/router/config_impl.cc`.

use std::any::Any;
use std::time::Duration;

use super::per_filter_config::PerFilterConfigs;
use crate::config::{self, Action, ConfigError, DataSource, PathMatch};
use crate::http::{HeaderId, HeaderMap};
use crate::upstream::{ClusterName, ResourcePriority};

/// A route of a virtual host.
#[derive(Debug)]
pub struct RouteImpl {
    name: String,
    path: PathMatch,
    case_sensitive: bool,
    action: RouteAction,
    include_attempt_count: bool,
    per_filter_configs: PerFilterConfigs,
}

#[derive(Debug)]
enum RouteAction {
    Route(RouteEntry),
    DirectResponse(DirectResponseEntry),
}

/// What a route to a cluster says.
#[derive(Debug)]
pub struct RouteEntry {
    /// The cluster's name.
    pub cluster_name: ClusterName,
    /// The status when there is no such cluster.
    pub cluster_not_found_response_code: u16,
    /// The time for the whole response once the request is complete; zero is none.
    pub timeout: Duration,
    /// Overrides the stream idle timeout; zero turns it off.
    pub idle_timeout: Option<Duration>,
    /// Which circuit breakers apply.
    pub priority: ResourcePriority,
}

/// What a route that answers by itself says.
#[derive(Debug)]
pub struct DirectResponseEntry {
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer; may be empty.
    pub body: String,
}

/// Envoy's limit on the body of a direct response.
const MAX_DIRECT_BODY: usize = 4096;

impl RouteImpl {
    /// Builds a route.
    ///
    /// # Errors
    /// A body file that cannot be read, or a body over 4096 bytes.
    pub(super) fn new(
        config: &config::Route,
        include_attempt_count: bool,
        of_host: &PerFilterConfigs,
    ) -> Result<Self, ConfigError> {
        let action = match &config.action {
            Action::Route(route) => RouteAction::Route(RouteEntry {
                cluster_name: ClusterName::of(&route.cluster),
                cluster_not_found_response_code: route.cluster_not_found_response_code,
                timeout: route.timeout,
                idle_timeout: route.idle_timeout,
                priority: route.priority.into(),
            }),
            Action::DirectResponse(direct) => RouteAction::DirectResponse(DirectResponseEntry {
                status: direct.status,
                body: read_body(direct.body.as_ref())
                    .map_err(|message| ConfigError::new("direct_response.body", message))?,
            }),
        };
        Ok(RouteImpl {
            name: config.name.clone(),
            path: config.route_match.path.clone(),
            case_sensitive: config.route_match.case_sensitive,
            action,
            include_attempt_count,
            per_filter_configs: of_host.with(&config.typed_per_filter_config.0)?,
        })
    }

    /// The route's name; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether requests say how often they were tried.
    pub fn include_attempt_count(&self) -> bool {
        self.include_attempt_count
    }

    /// What the route says to the filter of this name or, without that, its virtual host or table.
    pub fn most_specific_filter_config<T: Any>(&self, name: &str) -> Option<&T> {
        self.per_filter_configs.all(name).next_back()
    }

    /// What the table, the virtual host and the route say to the filter of this name, for one that adds it up.
    pub fn filter_configs<T: Any>(&self, name: &str) -> impl Iterator<Item = &T> {
        self.per_filter_configs.all(name)
    }

    /// The entry of a route to a cluster.
    pub fn route_entry(&self) -> Option<&RouteEntry> {
        match &self.action {
            RouteAction::Route(entry) => Some(entry),
            RouteAction::DirectResponse(_) => None,
        }
    }

    /// The entry of a route that answers by itself.
    pub fn direct_response_entry(&self) -> Option<&DirectResponseEntry> {
        match &self.action {
            RouteAction::DirectResponse(entry) => Some(entry),
            RouteAction::Route(_) => None,
        }
    }

    /// Whether the route takes this request. A prefix is held against the path with its query, an
    /// exact path against the path without.
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        // A CONNECT has no path; no route takes it yet.
        let Some(path) = headers.get(HeaderId::Path) else { return false };
        match &self.path {
            PathMatch::Prefix(prefix) => {
                path.get(..prefix.len()).is_some_and(|start| self.equal(start, prefix.as_bytes()))
            }
            PathMatch::Path(exact) => {
                let end = path.iter().position(|&b| b == b'?').unwrap_or(path.len());
                self.equal(&path[..end], exact.as_bytes())
            }
        }
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        if self.case_sensitive { a == b } else { a.eq_ignore_ascii_case(b) }
    }
}

fn read_body(source: Option<&DataSource>) -> Result<String, String> {
    let body = match source {
        None => String::new(),
        Some(DataSource::InlineString(text)) => text.clone(),
        Some(DataSource::Filename(name)) => {
            std::fs::read_to_string(name).map_err(|e| format!("unable to read file '{name}': {e}"))?
        }
    };
    if body.len() > MAX_DIRECT_BODY {
        return Err(format!("response body size is {} bytes; maximum is {MAX_DIRECT_BODY}", body.len()));
    }
    Ok(body)
}
