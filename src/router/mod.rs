//! The route table: which route a request takes.
//!
//! Mirrors Envoy's `source/common/router/config_impl.cc`. A configuration is immutable once it is
//! built, is shared by all workers, and is taken once per stream as a snapshot.

mod cluster_specifier;
mod config;
mod cors_policy;
mod direct_response;
mod hash_policy;
mod header_mutations;
mod header_parser;
mod internal_redirect;
pub mod match_tree;
mod path_index;
mod per_filter_config;
mod rate_limit;
mod request_stats;
mod retry_policy;
mod rewrite;
mod route;
mod route_config_provider;
mod route_match;
mod shadow_policy;
mod snapshot;
mod uri_template;
mod virtual_cluster;
mod virtual_host;

use crate::http::HeaderMap;
use crate::stream_info::StreamInfoImpl;

pub use config::ConfigImpl;
pub use cors_policy::CorsPolicyImpl;
pub use direct_response::DirectResponseEntry;
pub use hash_policy::{HashPolicyImpl, make_set_cookie};
pub use header_mutations::HeaderMutations;
pub use header_parser::{Changed, HeaderParser};
pub use internal_redirect::{
    ALLOW_LISTED_ROUTES, InternalRedirectPolicyImpl, InternalRedirectPredicateFactory, PREVIOUS_ROUTES,
    SAFE_CROSS_SCHEME, Target,
};
pub use per_filter_config::{
    OfTable, RouteFactoryContext, RouteSpecificFilterConfig, RouteSpecificFilterConfigFactory,
    RouteSpecificFilterConfigOfTable,
};
pub use rate_limit::{Descriptor, RateLimitPolicyEntryImpl};
pub use request_stats::{RequestCounters, RequestCounting, RequestStats};
pub use retry_policy::{RetryOn, RetryPolicyImpl};
pub use rewrite::update_authority;
pub use route::{RouteEntry, RouteImpl};
pub use route_config_provider::{
    RouteConfigProvider, RouteConfigProviderFactory, RouteConfigUpdate, static_provider,
};
pub use shadow_policy::ShadowPolicy;
pub use snapshot::{Route, RouteConstSharedPtr, RouteTable};
pub use uri_template::{PATH_MATCH, PATH_REWRITE, UriTemplate, UriTemplateRewrite};
pub use virtual_host::VirtualHostImpl;

/// What a route is looked up for.
#[derive(Clone, Copy)]
pub struct RouteRequest<'a> {
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The number of the stream by which chance decides, always the same for the same stream.
    pub random: u64,
    /// What is known of the stream, if anything.
    pub info: Option<&'a StreamInfoImpl>,
}
