//! A virtual host: its routes, tried in order.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::RouteRequest;
use super::config::{Level, Retries};
use super::cors_policy::CorsPolicyImpl;
use super::match_tree::{MatchTree, MatchingData};
use super::path_index::PathIndex;
use super::rate_limit::RateLimitPolicyEntryImpl;
use super::retry_policy::RetryPolicyImpl;
use super::route::RouteImpl;
use super::shadow_policy::ShadowPolicy;
use super::virtual_cluster::VirtualClusters;
use crate::config::ConfigError;
use crate::config::route::{self, MatchedRoutes, TlsRequirementType};
use crate::http::HeaderId;

/// A virtual host of a route configuration.
#[derive(Debug)]
pub struct VirtualHostImpl {
    name: String,
    routes: Vec<Arc<RouteImpl>>,
    lookup: Lookup,
    require_tls: TlsRequirementType,
    include_request_attempt_count: bool,
    include_attempt_count_in_response: bool,
    include_is_timeout_retry_header: bool,
    virtual_clusters: VirtualClusters,
    rate_limits: Box<[RateLimitPolicyEntryImpl]>,
    cors: Option<Arc<CorsPolicyImpl>>,
    metadata: Map<String, Value>,
}

/// How the routes are found that may be for a request.
#[derive(Debug)]
enum Lookup {
    /// Each is tried.
    Each,
    /// By its path.
    Path(PathIndex),
    /// As a tree says.
    Matcher(MatchTree<Range<usize>>),
}

/// What a virtual host has for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The route of this place.
    Route(usize),
    /// That the client has to use TLS.
    SslRedirect,
}

impl VirtualHostImpl {
    /// Builds the routes.
    ///
    /// # Errors
    /// As [`RouteImpl::new`].
    pub(super) fn new(config: &route::VirtualHost, table: &Level<'_>) -> Result<Self, ConfigError> {
        let mut here = table.with(&config.headers, &config.typed_per_filter_config)?;
        here.retries = Retries {
            policy: config.retry_policy.as_ref().map(RetryPolicyImpl::new).transpose()?,
            hedge_on_per_try_timeout: (config.hedge_policy.as_ref())
                .is_some_and(|policy| policy.hedge_on_per_try_timeout),
            buffer_limit: config.per_request_buffer_limit_bytes,
            request_body_buffer_limit: config.request_body_buffer_limit,
        };
        here.shadow_policies =
            ShadowPolicy::list(&config.request_mirror_policies, &here.shadow_policies, here.runtime())?;
        let mut configs: Vec<_> = config.routes.iter().collect();
        let tree = config.matcher.as_ref().map(|matcher| {
            // Those that the tree leads to stand behind the others.
            MatchTree::new(matcher, &mut |MatchedRoutes(matched)| {
                let start = configs.len();
                configs.extend(matched);
                start..configs.len()
            })
        });
        let is_counted =
            !config.virtual_clusters.is_empty() || configs.iter().any(|route| !route.stat_prefix.is_empty());
        let scope = (here.context.filter(|_| is_counted))
            .map(|context| context.stats.root_scope().create_scope(&format!("vhost.{}.", config.name)));
        here.host_scope = scope.as_ref();
        let route = |(i, route): (usize, &route::Route)| {
            let place = || if tree.is_some() { "matcher".to_string() } else { format!("routes[{i}]") };
            RouteImpl::new(route, &here).map(Arc::new).map_err(|error| error.within(&place()))
        };
        let routes = configs.into_iter().enumerate().map(route).collect::<Result<Vec<_>, _>>()?;
        let by_path = || PathIndex::new(routes.iter().map(|route| route.route_match())).map(Lookup::Path);
        Ok(VirtualHostImpl {
            name: config.name.clone(),
            lookup: tree.map(Lookup::Matcher).or_else(by_path).unwrap_or(Lookup::Each),
            routes,
            require_tls: config.require_tls,
            include_request_attempt_count: config.include_request_attempt_count,
            include_attempt_count_in_response: config.include_attempt_count_in_response,
            include_is_timeout_retry_header: config.include_is_timeout_retry_header,
            virtual_clusters: VirtualClusters::new(&config.virtual_clusters, scope.as_ref()),
            rate_limits: RateLimitPolicyEntryImpl::all(&config.rate_limits)?,
            cors: config.cors.as_ref().map(|cors| CorsPolicyImpl::new(cors, here.runtime())),
            metadata: config.metadata.filter_metadata.clone(),
        })
    }

    /// One with a single route.
    pub(super) fn of_route(route: RouteImpl) -> Self {
        VirtualHostImpl {
            name: String::new(),
            routes: vec![Arc::new(route)],
            lookup: Lookup::Each,
            require_tls: TlsRequirementType::None,
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            include_is_timeout_retry_header: false,
            virtual_clusters: VirtualClusters::default(),
            rate_limits: Box::default(),
            cors: None,
            metadata: Map::new(),
        }
    }

    /// The virtual host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its routes, in order.
    pub fn routes(&self) -> &[Arc<RouteImpl>] {
        &self.routes
    }

    /// Whether requests say to the upstream how often they were tried.
    pub fn include_attempt_count_in_request(&self) -> bool {
        self.include_request_attempt_count
    }

    /// Whether responses say to the client how often the request was tried.
    pub fn include_attempt_count_in_response(&self) -> bool {
        self.include_attempt_count_in_response
    }

    /// Whether a try says to the upstream if it follows one whose time was over.
    pub fn include_is_timeout_retry_header(&self) -> bool {
        self.include_is_timeout_retry_header
    }

    /// By what its requests are counted, for filters that do so.
    pub fn rate_limits(&self) -> &[RateLimitPolicyEntryImpl] {
        &self.rate_limits
    }

    /// Which pages may ask, for the cors filter.
    pub fn cors(&self) -> Option<&CorsPolicyImpl> {
        self.cors.as_deref()
    }

    /// What is said of it, by names of filters.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    pub(super) fn virtual_clusters(&self) -> &VirtualClusters {
        &self.virtual_clusters
    }

    /// The first route that takes this request (Envoy: `getRouteFromEntries`).
    pub(super) fn find_route(&self, request: &RouteRequest<'_>) -> Option<Found> {
        if self.require_tls != TlsRequirementType::None && self.needs_tls(request) {
            return Some(Found::SslRedirect);
        }
        let takes = |place: usize| self.routes[place].matches(request);
        let found = match (&self.lookup, request.headers.get(HeaderId::Path)) {
            (Lookup::Matcher(tree), _) => {
                let data = MatchingData { headers: request.headers, info: request.info };
                tree.find(data)?.clone().find(|place| takes(*place))
            }
            (Lookup::Path(index), Some(path)) => index.find(path, takes),
            _ => self.routes.iter().position(|route| route.matches(request)),
        };
        found.map(Found::Route)
    }

    fn needs_tls(&self, request: &RouteRequest<'_>) -> bool {
        let is_external = || request.headers.get(HeaderId::EnvoyInternalRequest) != Some(b"true");
        request.headers.get(HeaderId::ForwardedProto) != Some(b"https")
            && (self.require_tls == TlsRequirementType::All || is_external())
    }
}
