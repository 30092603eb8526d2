//! One route: what it matches and what it does.
//!
//! Mirrors `RouteEntryImplBase` in Envoy's `source/common/router/config_impl.cc`, whose kinds are [`RouteMatch`]'s.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::RouteRequest;
use super::cluster_specifier::ClusterSpecifier;
use super::config::{Level, Retries};
use super::cors_policy::CorsPolicyImpl;
use super::direct_response::DirectResponseEntry;
use super::hash_policy::HashPolicyImpl;
use super::header_parser::HeaderParsersOfLevels;
use super::internal_redirect::InternalRedirectPolicyImpl;
use super::per_filter_config::PerFilterConfigs;
use super::rate_limit::RateLimitPolicyEntryImpl;
use super::request_stats::RequestStats;
use super::retry_policy::RetryPolicyImpl;
use super::rewrite::FormattedRewrites;
use super::route_match::RouteMatch;
use super::shadow_policy::ShadowPolicy;
use super::uri_template::UriTemplateRewrite;
use crate::config::ConfigError;
use crate::config::route::{self, Action, ConnectConfig, HostRewrite, MaxStreamDuration, PathRewrite};
use crate::http::HeaderMap;
use crate::stream_info::StreamInfoImpl;
use crate::upstream::load_balancer::MetadataMatchCriterion;
use crate::upstream::{ClusterName, ResourcePriority};

/// What is said of a template that nothing is taken from.
const NO_TEMPLATE: &str = "unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without \
    envoy.path.match.uri_template.uri_template_matcher extension";

/// A route of a virtual host.
#[derive(Debug)]
pub struct RouteImpl {
    name: String,
    route_match: RouteMatch,
    action: RouteAction,
    pub(super) headers: HeaderParsersOfLevels,
    pub(super) per_filter_configs: PerFilterConfigs,
    metadata: Map<String, Value>,
    /// What is counted of its requests.
    stats: Option<Box<RequestStats>>,
}

#[derive(Debug)]
enum RouteAction {
    Route(Box<RouteEntry>),
    DirectResponse(DirectResponseEntry),
}

/// What a route to a cluster says.
#[derive(Debug)]
pub struct RouteEntry {
    pub(super) cluster: ClusterSpecifier,
    pub(super) path_rewrite: PathRewrite,
    pub(super) host_rewrite: HostRewrite,
    pub(super) formatted_rewrites: Option<Box<FormattedRewrites>>,
    pub(super) append_x_forwarded_host: bool,
    upgrades: Box<[(Box<str>, bool)]>,
    connect_config: Option<Box<ConnectConfig>>,
    shadow_policies: Arc<[ShadowPolicy]>,
    hash_policy: Option<Box<HashPolicyImpl>>,
    /// Which hosts may be chosen, for balancers that choose by metadata.
    pub(super) metadata_match: Option<Arc<[MetadataMatchCriterion]>>,
    /// By what its requests are counted, for filters that do so.
    pub rate_limits: Box<[RateLimitPolicyEntryImpl]>,
    /// By what the virtual host says, too.
    pub include_vh_rate_limits: bool,
    /// Which pages may ask, for the cors filter.
    pub cors: Option<Arc<CorsPolicyImpl>>,
    retries: Retries,
    internal_redirect_policy: Option<Box<InternalRedirectPolicyImpl>>,
    /// The status when there is no such cluster.
    pub cluster_not_found_response_code: u16,
    /// The time for the whole response once the request is complete; zero is none.
    pub timeout: Duration,
    /// It, in milliseconds, as upstreams are told; `None` for none.
    pub expected_timeout: Option<Box<str>>,
    /// How long a stream may last.
    pub max_stream_duration: Option<Box<MaxStreamDuration>>,
    /// How long requests of gRPC may wait.
    pub grpc_timeout: Option<Box<GrpcTimeout>>,
    /// Overrides the stream idle timeout; zero turns it off.
    pub idle_timeout: Option<Duration>,
    /// Which circuit breakers apply.
    pub priority: ResourcePriority,
}

/// How long requests of gRPC may wait, which they say themselves.
#[derive(Debug)]
pub struct GrpcTimeout {
    /// No longer than this, but for zero.
    pub max: Duration,
    /// What is taken off.
    pub offset: Duration,
}

impl RouteEntry {
    /// One to a cluster, of which nothing else is said.
    pub fn to_cluster(name: &ClusterName, timeout: Duration) -> Self {
        RouteEntry {
            cluster: ClusterSpecifier::Cluster(name.clone()),
            path_rewrite: PathRewrite::None,
            host_rewrite: HostRewrite::None,
            formatted_rewrites: None,
            append_x_forwarded_host: false,
            upgrades: Box::default(),
            connect_config: None,
            shadow_policies: Arc::default(),
            hash_policy: None,
            metadata_match: None,
            rate_limits: Box::default(),
            include_vh_rate_limits: true,
            cors: None,
            retries: Retries::default(),
            internal_redirect_policy: None,
            cluster_not_found_response_code: 503,
            timeout,
            expected_timeout: expected_timeout(timeout),
            max_stream_duration: None,
            grpc_timeout: None,
            idle_timeout: None,
            priority: ResourcePriority::Default,
        }
    }

    /// Which of its requests belong together, where that is said.
    pub fn hash_policy(&self) -> Option<&HashPolicyImpl> {
        self.hash_policy.as_deref()
    }

    /// Who else gets a copy of its requests.
    #[inline]
    pub fn shadow_policies(&self) -> &[ShadowPolicy] {
        &self.shadow_policies
    }

    /// Which answers are not taken; `None` where nothing is said of it.
    #[inline]
    pub fn retry_policy(&self) -> Option<&Arc<RetryPolicyImpl>> {
        self.retries.policy.as_ref()
    }

    /// Whether a try whose time is over goes on beside the next one.
    #[inline]
    pub fn hedge_on_per_try_timeout(&self) -> bool {
        self.retries.hedge_on_per_try_timeout
    }

    /// How many bytes of a body are kept for the next try; `None` where nothing is said of it.
    pub fn retry_buffer_limit(&self) -> Option<u32> {
        self.retries.buffer_limit
    }

    /// The same, in place of what the connection keeps.
    pub fn request_body_buffer_limit(&self) -> Option<u64> {
        self.retries.request_body_buffer_limit
    }

    /// Which redirects of the upstream are followed here; `None` for none.
    #[inline]
    pub fn internal_redirect_policy(&self) -> Option<&InternalRedirectPolicyImpl> {
        self.internal_redirect_policy.as_deref()
    }

    /// How tunnels end here; `None` where they do not.
    #[inline]
    pub fn connect_config(&self) -> Option<&ConnectConfig> {
        self.connect_config.as_deref()
    }

    /// Whether an upgrade is let through; `None` where the connection manager decides.
    pub fn allows_upgrade(&self, upgrade_type: &[u8]) -> Option<bool> {
        let is_it = |(name, _): &&(Box<str>, bool)| name.as_bytes().eq_ignore_ascii_case(upgrade_type);
        self.upgrades.iter().find(is_it).map(|(_, allowed)| *allowed)
    }

    /// Whether the request gets the name of the host that it is sent to.
    pub fn auto_host_rewrite(&self) -> bool {
        self.host_rewrite == HostRewrite::Auto
    }

    /// Whether a host that is rewritten is told in `x-forwarded-host`.
    pub fn append_x_forwarded_host(&self) -> bool {
        self.append_x_forwarded_host
    }
}

/// Less than a millisecond would say that there is no limit.
fn expected_timeout(timeout: Duration) -> Option<Box<str>> {
    (!timeout.is_zero()).then(|| timeout.as_millis().max(1).to_string().into())
}

impl RouteImpl {
    /// Builds a route below `host`.
    ///
    /// # Errors
    /// A body file that cannot be read, a body that is too long, or a value of a header that is no format.
    pub(super) fn new(config: &route::Route, host: &Level<'_>) -> Result<Self, ConfigError> {
        let here = host.with(&config.headers, &config.typed_per_filter_config)?;
        let runtime = here.runtime();
        let route_match = RouteMatch::new(&config.route_match, here.ignores_path_parameters, runtime);
        if let Action::Route(route) = &config.action
            && let PathRewrite::Policy(policy) = &route.path_rewrite
        {
            let rewrite = policy.get::<UriTemplateRewrite>()?;
            let checked = match route_match.template() {
                Some(template) => rewrite.check(template),
                None => Err(NO_TEMPLATE.to_string()),
            };
            checked.map_err(|message| ConfigError::new("route.path_rewrite_policy", message))?;
        }
        let criteria = match &config.action {
            Action::Route(route) => MetadataMatchCriterion::of(route.metadata_match.as_ref(), None),
            _ => None,
        };
        let action = match &config.action {
            Action::Route(route) => RouteAction::Route(Box::new(RouteEntry {
                cluster: ClusterSpecifier::new(&route.cluster, &here, criteria.as_ref())
                    .map_err(|error| error.within("route"))?,
                path_rewrite: route.path_rewrite.clone(),
                host_rewrite: route.host_rewrite.clone(),
                formatted_rewrites: FormattedRewrites::new(&route.path_rewrite, &route.host_rewrite)
                    .map_err(|error| error.within("route"))?,
                shadow_policies: ShadowPolicy::list(
                    &route.request_mirror_policies,
                    &here.shadow_policies,
                    runtime,
                )
                .map_err(|error| error.within("route"))?,
                hash_policy: HashPolicyImpl::new(&route.hash_policy).map(Box::new),
                metadata_match: criteria.clone(),
                rate_limits: RateLimitPolicyEntryImpl::all(&route.rate_limits)
                    .map_err(|error| error.within("route"))?,
                include_vh_rate_limits: route.include_vh_rate_limits.unwrap_or(route.rate_limits.is_empty()),
                cors: route.cors.as_ref().map(|cors| CorsPolicyImpl::new(cors, here.runtime())),
                upgrades: (route.upgrade_configs.iter())
                    .map(|upgrade| (upgrade.upgrade_type.as_str().into(), upgrade.enabled))
                    .collect(),
                connect_config: (route.upgrade_configs.iter())
                    .find_map(|upgrade| upgrade.connect_config.clone())
                    .map(Box::new),
                retries: Retries {
                    policy: match &route.retry_policy {
                        Some(policy) => {
                            Some(RetryPolicyImpl::new(policy).map_err(|error| error.within("route"))?)
                        }
                        None => here.retries.policy,
                    },
                    hedge_on_per_try_timeout: match &route.hedge_policy {
                        Some(policy) => policy.hedge_on_per_try_timeout,
                        None => here.retries.hedge_on_per_try_timeout,
                    },
                    buffer_limit: config.per_request_buffer_limit_bytes.or(here.retries.buffer_limit),
                    request_body_buffer_limit: (config.request_body_buffer_limit)
                        .or(here.retries.request_body_buffer_limit),
                },
                internal_redirect_policy: (route.internal_redirect_policy.as_ref())
                    .map(|policy| InternalRedirectPolicyImpl::new(policy).map(Box::new))
                    .transpose()
                    .map_err(|error| error.within("route"))?,
                append_x_forwarded_host: route.append_x_forwarded_host,
                cluster_not_found_response_code: route.cluster_not_found_response_code,
                timeout: route.timeout,
                expected_timeout: expected_timeout(route.timeout),
                max_stream_duration: route.max_stream_duration.clone().map(Box::new),
                grpc_timeout: (route.max_grpc_timeout).map(|max| {
                    Box::new(GrpcTimeout { max, offset: route.grpc_timeout_offset.unwrap_or_default() })
                }),
                idle_timeout: route.idle_timeout,
                priority: route.priority.into(),
            })),
            Action::Redirect(redirect) => {
                let entry = DirectResponseEntry::of_redirect(redirect);
                RouteAction::DirectResponse(entry.map_err(|error| error.within("redirect"))?)
            }
            Action::DirectResponse(direct) => {
                RouteAction::DirectResponse(DirectResponseEntry::of_text(direct, here.max_direct_body)?)
            }
        };
        Ok(RouteImpl {
            name: config.name.clone(),
            route_match,
            action,
            metadata: config.metadata.filter_metadata.clone(),
            stats: here.host_scope.filter(|_| !config.stat_prefix.is_empty()).map(|host| {
                Box::new(RequestStats::new(&host.create_scope(&format!("route.{}.", config.stat_prefix))))
            }),
            headers: here.headers,
            per_filter_configs: here.per_filter_configs,
        })
    }

    /// One of the proxy's own requests (Envoy: `AsyncStreamImpl::RouteImpl`).
    pub(super) fn to_cluster(
        name: &ClusterName,
        timeout: Duration,
        retry_policy: Option<Arc<RetryPolicyImpl>>,
    ) -> Self {
        let mut entry = RouteEntry::to_cluster(name, timeout);
        entry.retries.policy = retry_policy;
        RouteImpl { action: RouteAction::Route(Box::new(entry)), ..RouteImpl::ssl_redirect() }
    }

    /// That of clients that have to use TLS.
    pub(super) fn ssl_redirect() -> Self {
        RouteImpl {
            name: String::new(),
            route_match: RouteMatch::any(),
            action: RouteAction::DirectResponse(DirectResponseEntry::of_ssl_redirect()),
            headers: HeaderParsersOfLevels::default(),
            per_filter_configs: PerFilterConfigs::default(),
            metadata: Map::new(),
            stats: None,
        }
    }

    /// Whether its streams, or some of them, are made without some filters.
    pub(super) fn disables_filters(&self) -> bool {
        let of_clusters = || self.route_entry().is_some_and(|entry| entry.cluster.disables_filters());
        self.per_filter_configs.disables_any() || of_clusters()
    }

    /// The route's name; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is said of it, by names of filters.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    /// What is counted of its requests, where that is asked for.
    #[inline]
    pub fn stats(&self) -> Option<&RequestStats> {
        self.stats.as_deref()
    }

    pub(super) fn route_match(&self) -> &RouteMatch {
        &self.route_match
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

    /// Where an answer of the route's own sends the client; `None` for nowhere.
    pub fn location(
        &self,
        headers: &mut HeaderMap,
        info: &StreamInfoImpl,
        insert_original_path: bool,
    ) -> Option<Vec<u8>> {
        self.direct_response_entry()?.location(&self.route_match, headers, info, insert_original_path)
    }

    /// Whether the route takes this request.
    pub fn matches(&self, request: &RouteRequest<'_>) -> bool {
        self.route_match.matches(request)
    }
}
