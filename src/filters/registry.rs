//! The extensions that are linked in, each named once.
//!
//! Mirrors Envoy's `include/envoy/registry/registry.h`, whose map is filled by a static object in each library that
//! its build has linked. Here the list is all there is: documents are read with it, and the start-up log and
//! `/server_info` are made from it.

use super::compression::{self, CompressorLibrary, DecompressorLibrary};
use super::http::{self, NamedHttpFilterConfigFactory};
use super::listener::{self, NamedListenerFilterConfigFactory};
use super::network::http_connection_manager::{
    self, EarlyHeaderMutationFactory, OriginalIpDetectionFactory, RequestIdFactory,
};
use super::network::{self, NamedNetworkFilterConfigFactory};
use crate::access_log::{self, AccessLogInstanceFactory, ExtensionFilterFactory};
use crate::config::HeaderKeyFormat;
use crate::config::extension::{Category, Extensions, Factory, TypedFactory};
use crate::formatter::{CommandParserFactory, REQ_WITHOUT_QUERY};
use crate::http::http1::PRESERVE_CASE;
use crate::network::tls::{DOWNSTREAM_TLS, UPSTREAM_TLS};
use crate::network::{CARES, DnsResolverFactory, RAW_BUFFER, TransportSocketConfigFactory};
use crate::router::{self, InternalRedirectPredicateFactory, UriTemplate, UriTemplateRewrite};
use crate::upstream::health_checker::{self, HealthCheckEventSinkFactory};
use crate::upstream::load_balancer::{self, LoadBalancerFactory};
use crate::upstream::retry::{self, RetryHostPredicateFactory, RetryPriorityFactory};
use crate::upstream::{self, ClusterFactory};

/// All that legate has, in the order of their names.
pub static LINKED: Registry = Registry {
    access_loggers: &[&access_log::FILE, &access_log::STDERR, &access_log::STDOUT],
    access_log_filters: &[],
    clusters: &[
        &upstream::LOGICAL_DNS_CLUSTER,
        &upstream::ORIGINAL_DST_CLUSTER,
        &upstream::STATIC_CLUSTER,
        &upstream::STRICT_DNS_CLUSTER,
        &upstream::DNS_CLUSTER,
    ],
    compressors: &[
        &compression::BROTLI_COMPRESSOR,
        &compression::GZIP_COMPRESSOR,
        &compression::ZSTD_COMPRESSOR,
    ],
    decompressors: &[
        &compression::BROTLI_DECOMPRESSOR,
        &compression::GZIP_DECOMPRESSOR,
        &compression::ZSTD_DECOMPRESSOR,
    ],
    formatters: &[&REQ_WITHOUT_QUERY],
    health_check_event_sinks: &[&health_checker::FILE_SINK],
    early_header_mutations: &[&http_connection_manager::HEADER_MUTATION],
    http_filters: &[
        &http::buffer::FACTORY,
        &http::compressor::FACTORY,
        &http::cors::FACTORY,
        &http::csrf::FACTORY,
        &http::decompressor::FACTORY,
        &http::ext_authz::FACTORY,
        &http::fault::FACTORY,
        &http::header_mutation::FACTORY,
        &http::health_check::FACTORY,
        &http::local_ratelimit::FACTORY,
        &http::rbac::FACTORY,
        &http::router::FACTORY,
    ],
    original_ip_detections: &[&http_connection_manager::CUSTOM_HEADER, &http_connection_manager::XFF],
    path_matchers: &[&router::PATH_MATCH],
    path_rewriters: &[&router::PATH_REWRITE],
    request_ids: &[&http_connection_manager::UUID],
    stateful_header_formatters: &[&PRESERVE_CASE],
    listener_filters: &[
        &listener::http_inspector::FACTORY,
        &listener::original_dst::FACTORY,
        &listener::proxy_protocol::FACTORY,
        &listener::tls_inspector::FACTORY,
    ],
    network_filters: &[
        &network::connection_limit::FACTORY,
        &network::direct_response::FACTORY,
        &network::echo::FACTORY,
        &http_connection_manager::FACTORY,
        &network::local_ratelimit::FACTORY,
        &network::tcp_proxy::FACTORY,
    ],
    internal_redirect_predicates: &[
        &router::ALLOW_LISTED_ROUTES,
        &router::PREVIOUS_ROUTES,
        &router::SAFE_CROSS_SCHEME,
    ],
    load_balancing_policies: &[
        &load_balancer::CLUSTER_PROVIDED,
        &load_balancer::LEAST_REQUEST,
        &load_balancer::MAGLEV,
        &load_balancer::OVERRIDE_HOST,
        &load_balancer::RANDOM,
        &load_balancer::RING_HASH,
        &load_balancer::ROUND_ROBIN,
        &load_balancer::SUBSET,
    ],
    dns_resolvers: &[&CARES],
    retry_host_predicates: &[&retry::OMIT_CANARY_HOSTS, &retry::OMIT_HOST_METADATA, &retry::PREVIOUS_HOSTS],
    retry_priorities: &[&retry::PREVIOUS_PRIORITIES],
    downstream_transport_sockets: &[&RAW_BUFFER, &DOWNSTREAM_TLS],
    upstream_transport_sockets: &[&RAW_BUFFER, &UPSTREAM_TLS],
};

/// Extensions by what they are for.
#[derive(Clone, Copy)]
pub struct Registry {
    /// What is told of a stream that has ended.
    pub access_loggers: &'static [&'static AccessLogInstanceFactory],
    /// Which streams are told of.
    pub access_log_filters: &'static [&'static ExtensionFilterFactory],
    /// Where the hosts of a cluster come from.
    pub clusters: &'static [&'static ClusterFactory],
    /// What makes bodies smaller.
    pub compressors: &'static [&'static CompressorLibrary],
    /// What makes them as they were.
    pub decompressors: &'static [&'static DecompressorLibrary],
    /// Commands of formats.
    pub formatters: &'static [&'static CommandParserFactory],
    /// Who is told of what health checks find.
    pub health_check_event_sinks: &'static [&'static HealthCheckEventSinkFactory],
    /// What is done to a request's headers before anything else.
    pub early_header_mutations: &'static [&'static EarlyHeaderMutationFactory],
    /// Filters on the streams of a connection manager.
    pub http_filters: &'static [&'static NamedHttpFilterConfigFactory],
    /// Where the client's address comes from.
    pub original_ip_detections: &'static [&'static OriginalIpDetectionFactory],
    /// Which paths a route is for.
    pub path_matchers: &'static [&'static Factory<UriTemplate>],
    /// What becomes of paths.
    pub path_rewriters: &'static [&'static Factory<UriTemplateRewrite>],
    /// How requests get their ids.
    pub request_ids: &'static [&'static RequestIdFactory],
    /// How the names of fields are written.
    pub stateful_header_formatters: &'static [&'static Factory<HeaderKeyFormat>],
    /// Filters on accepted sockets.
    pub listener_filters: &'static [&'static NamedListenerFilterConfigFactory],
    /// Filters on connections.
    pub network_filters: &'static [&'static NamedNetworkFilterConfigFactory],
    /// Which redirects may be followed.
    pub internal_redirect_predicates: &'static [&'static InternalRedirectPredicateFactory],
    /// How a host is chosen.
    pub load_balancing_policies: &'static [&'static LoadBalancerFactory],
    /// Who looks names up.
    pub dns_resolvers: &'static [&'static DnsResolverFactory],
    /// Which hosts are not wanted for another try.
    pub retry_host_predicates: &'static [&'static RetryHostPredicateFactory],
    /// Which priorities are not wanted for another try.
    pub retry_priorities: &'static [&'static RetryPriorityFactory],
    /// The transports of connections that were accepted.
    pub downstream_transport_sockets: &'static [&'static TransportSocketConfigFactory],
    /// The transports of connections to hosts.
    pub upstream_transport_sockets: &'static [&'static TransportSocketConfigFactory],
}

impl Extensions for Registry {
    fn factories(&self, category: Category) -> Vec<&'static dyn TypedFactory> {
        match category {
            Category::AccessLoggers => upcast(self.access_loggers),
            Category::AccessLogFilters => upcast(self.access_log_filters),
            Category::Clusters => upcast(self.clusters),
            Category::Compressors => upcast(self.compressors),
            Category::Decompressors => upcast(self.decompressors),
            Category::Formatters => upcast(self.formatters),
            Category::HealthCheckEventSinks => upcast(self.health_check_event_sinks),
            Category::EarlyHeaderMutations => upcast(self.early_header_mutations),
            Category::OriginalIpDetections => upcast(self.original_ip_detections),
            Category::PathMatchers => upcast(self.path_matchers),
            Category::PathRewriters => upcast(self.path_rewriters),
            Category::RequestIds => upcast(self.request_ids),
            Category::StatefulHeaderFormatters => upcast(self.stateful_header_formatters),
            Category::HttpFilters => upcast(self.http_filters),
            Category::RouteFilterConfigs => {
                let of_routes = self.http_filters.iter().filter_map(|filter| filter.route_factory());
                of_routes.map(|factory| factory as &dyn TypedFactory).collect()
            }
            Category::ListenerFilters => upcast(self.listener_filters),
            Category::NetworkFilters => upcast(self.network_filters),
            Category::InternalRedirectPredicates => upcast(self.internal_redirect_predicates),
            Category::LoadBalancingPolicies => upcast(self.load_balancing_policies),
            Category::DnsResolvers => upcast(self.dns_resolvers),
            Category::RetryHostPredicates => upcast(self.retry_host_predicates),
            Category::RetryPriorities => upcast(self.retry_priorities),
            Category::DownstreamTransportSockets => upcast(self.downstream_transport_sockets),
            Category::UpstreamTransportSockets => upcast(self.upstream_transport_sockets),
        }
    }
}

fn upcast<F: TypedFactory>(factories: &'static [&'static F]) -> Vec<&'static dyn TypedFactory> {
    factories.iter().map(|factory| *factory as &dyn TypedFactory).collect()
}
