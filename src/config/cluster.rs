//! `envoy.config.cluster.v3`: clusters and their circuit breakers.

use super::address::Address;
use super::bind::BindConfig;
use super::core::{self, Metadata, Percent, RoutingPriority, TcpKeepalive};
use super::dns::DnsFields;
use super::endpoint::{ClusterLoadAssignment, HealthStatus};
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::health_check::HealthCheck;
use super::outlier_detection::OutlierDetection;
use super::protocol_options::{
    Http1ProtocolOptions, HttpProtocolOptions, UPSTREAM_HTTP_PROTOCOL_OPTIONS, UpstreamHttpProtocolOptions,
};
use super::reader::{EnumTable, FromMessage, MessageReader, unknown_type};
use super::route::MetadataKey;
use crate::message;
use std::time::Duration;

/// Envoy's buffer limit for connections, in bytes.
pub const DEFAULT_BUFFER_LIMIT_BYTES: u32 = 1024 * 1024;

message! {
    /// A named group of hosts.
    pub message Cluster = "envoy.config.cluster.v3.Cluster", checked by check_hosts {
        /// Never empty.
        pub name: String,
        /// Name used in stats instead of `name`, unless empty.
        pub alt_stat_name: String,
        /// More than zero, default 5 s.
        pub connect_timeout: Duration = Duration::from_secs(5),
        /// Bytes, default 1 MiB; 0 is no limit.
        pub per_connection_buffer_limit_bytes: u32 = DEFAULT_BUFFER_LIMIT_BYTES,
        /// The hosts; `None` is a cluster without any.
        pub load_assignment: Option<ClusterLoadAssignment>,
        /// Limits per priority.
        pub circuit_breakers: CircuitBreakers,
        /// How hosts are asked whether they are well; several have names.
        pub health_checks: Vec<HealthCheck>,
        /// When hosts that fail get no requests for a while; `None` is never.
        pub outlier_detection: Option<Box<OutlierDetection>>,
        /// How HTTP is spoken to the hosts, from the extension or the older fields.
        /// The cluster's own `max_requests_per_connection` is merged in here.
        /// `None` where nothing is said.
        pub http_protocol_options: Option<Box<UpstreamHttpProtocolOptions>> => read_http_protocol_options,
        /// How hosts are balanced, whichever policy it is.
        pub common_lb_config: CommonLbConfig,
        /// What is said of it to those who look for their names in it.
        pub metadata: Option<Box<Metadata>>,
        /// Of connections to the hosts.
        pub upstream_connection_options: UpstreamConnectionOptions,
        /// Where connections to the hosts come from.
        pub upstream_bind_config: Option<Box<BindConfig>>,
        /// Close a host's connections when it becomes unhealthy; default false.
        pub close_connections_on_host_health_failure: bool,
        /// Remove a host at once, even if it is healthy; default false.
        pub ignore_health_on_host_removal: bool,
        /// The transport of connections to the hosts; `None` is plain TCP.
        pub transport_socket: Option<TypedConfig> => read_transport_socket,
        /// How a host is chosen.
        pub load_balancing_policy: TypedConfig => read_load_balancing_policy,
        /// How names of hosts are looked up, if they are; `None` where nothing is said.
        pub dns: Option<Box<DnsFields>> => DnsFields::of_cluster,
        /// Default true: the cluster is ready only when its hosts have been asked for.
        pub wait_for_warm_on_init: bool = true,
        /// Who may say where requests go, of clusters of that type.
        pub original_dst_lb_config: Option<Box<OriginalDstLbConfig>>,
        /// How often such a cluster forgets the hosts that nobody needs; more than zero.
        pub cleanup_interval: Duration = Duration::from_secs(5),
        /// Connections are kept for one downstream connection each.
        pub connection_pool_per_downstream_connection: bool,
        /// Connections that are made before somebody needs them; `None` is none.
        pub preconnect_policy: Option<Box<PreconnectPolicy>>,
        /// What is counted beside what always is.
        pub track_cluster_stats: TrackClusterStats => read_track_cluster_stats,
        /// Where the hosts come from.
        pub cluster_type: TypedConfig => read_cluster_type,
    }
}

message! {
    /// `Cluster.PreconnectPolicy`.
    pub struct PreconnectPolicy = "envoy.config.cluster.v3.Cluster.PreconnectPolicy", checked by check_preconnect {
        /// So many connections of a host for each request that it has, 1 to 3; `None` is 1.
        pub per_upstream_preconnect_ratio: Option<f64>,
        /// The same of all hosts together.
        pub predictive_preconnect_ratio: Option<f64>,
    }
}

fn check_preconnect(r: &mut MessageReader<'_>, policy: &PreconnectPolicy) {
    if policy.predictive_preconnect_ratio.is_some_and(|ratio| ratio > 1.0) {
        r.refuse("predictive_preconnect_ratio", "more than 1 is not supported yet");
    }
}

message! {
    /// `envoy.config.cluster.v3.TrackClusterStats`.
    #[derive(Eq, Copy)]
    pub struct TrackClusterStats = "envoy.config.cluster.v3.TrackClusterStats" {
        /// How much of their timeouts requests and tries use.
        pub timeout_budgets: bool,
        /// How large requests and responses are.
        pub request_response_sizes: bool,
        /// What each host counts.
        pub per_endpoint_stats: bool,
    }
}

/// One of its fields has an older place, too.
fn read_track_cluster_stats(r: &mut MessageReader<'_>, name: &str) -> Result<TrackClusterStats, ConfigError> {
    let older = r.bool("track_timeout_budgets")?;
    let stats: TrackClusterStats = r.message(name)?.unwrap_or_default();
    Ok(TrackClusterStats { timeout_budgets: stats.timeout_budgets || older, ..stats })
}

/// Where nothing is looked up, hosts are no names, and have none to be hashed by.
fn check_hosts(r: &mut MessageReader<'_>, cluster: &Cluster) {
    let bind = cluster.upstream_bind_config.as_ref();
    if let Some((field, message)) = bind.and_then(|bind| bind.check(&cluster.name)) {
        r.refuse_at(r.field_path(&format!("upstream_bind_config.{field}")), message);
    }
    check_health_checks(r, cluster);
    let kind = cluster.cluster_type.extension();
    let has_no_names = kind == STATIC || kind == ORIGINAL_DST;
    if has_no_names && cluster.common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing {
        let message =
            format!("Cannot use hostname for consistent hashing loadbalancing for cluster of type: '{kind}'");
        r.refuse("common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing", message);
    }
    let assignment = cluster.load_assignment.as_ref();
    let additional = || assignment.into_iter().flat_map(ClusterLoadAssignment::additional_addresses);
    if kind != STATIC {
        for (at, _) in additional() {
            r.refuse_at(
                r.field_path(&format!("load_assignment.{at}")),
                "only static clusters may have this yet",
            );
        }
        return;
    }
    let addresses = assignment.into_iter().flat_map(ClusterLoadAssignment::addresses);
    for (at, address) in addresses.chain(additional()) {
        if let Address::SocketAddress(socket) = address
            && socket.to_socket_addr().is_none()
            && !socket.address.is_empty()
        {
            let message = format!(
                "malformed IP address: {}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or \
                 'LOGICAL_DNS'",
                socket.address
            );
            r.refuse_at(r.field_path(&format!("load_assignment.{at}.socket_address.address")), message);
        }
    }
}

fn check_health_checks(r: &mut MessageReader<'_>, cluster: &Cluster) {
    let names: Vec<&str> = cluster.health_checks.iter().map(|check| check.name.as_str()).collect();
    for (i, name) in names.iter().enumerate().filter(|_| names.len() > 1) {
        let message = if name.is_empty() {
            format!(
                "health check at index {i} is missing a name; all health checks must have a name when multiple health checks \
                 are configured"
            )
        } else if names[..i].contains(name) {
            format!(
                "duplicate health check name '{name}' at index {i}; all health check names must be unique within a cluster"
            )
        } else {
            continue;
        };
        r.refuse(&format!("health_checks[{i}].name"), message);
    }
    let groups = cluster.load_assignment.iter().flat_map(|assignment| &assignment.endpoints).enumerate();
    for (i, group) in groups {
        for (j, host) in group.lb_endpoints.iter().enumerate() {
            let Some(config) = &host.endpoint.health_check_config else { continue };
            let address = config.address.as_ref().unwrap_or(&host.endpoint.address);
            if config.port_value != 0 && matches!(address, Address::Pipe(_)) {
                let field = format!(
                    "load_assignment.endpoints[{i}].lb_endpoints[{j}].endpoint.health_check_config.port_value"
                );
                r.refuse(&field, "Invalid host configuration: non-zero port for non-IP address");
            }
        }
    }
}

/// The values of `Cluster.DiscoveryType`, and the extensions behind them.
const DISCOVERY_TYPES: &[(&str, &str)] = &[
    ("STATIC", STATIC),
    ("STRICT_DNS", "envoy.cluster.strict_dns"),
    ("LOGICAL_DNS", "envoy.cluster.logical_dns"),
    ("EDS", "envoy.cluster.eds"),
    ("ORIGINAL_DST", ORIGINAL_DST),
];

const ORIGINAL_DST: &str = "envoy.cluster.original_dst";

/// The default among them.
const STATIC: &str = "envoy.cluster.static";

/// The values of `Cluster.LbPolicy`, and the extensions behind them.
const LB_POLICIES: &[(&str, &str)] = &[
    ("ROUND_ROBIN", ROUND_ROBIN),
    ("LEAST_REQUEST", "envoy.load_balancing_policies.least_request"),
    ("RING_HASH", "envoy.load_balancing_policies.ring_hash"),
    ("RANDOM", "envoy.load_balancing_policies.random"),
    ("MAGLEV", "envoy.load_balancing_policies.maglev"),
    ("CLUSTER_PROVIDED", CLUSTER_PROVIDED),
];

/// The default among them.
const ROUND_ROBIN: &str = "envoy.load_balancing_policies.round_robin";

/// Which is for clusters that have one of their own.
const CLUSTER_PROVIDED: &str = "envoy.load_balancing_policies.cluster_provided";

/// Which wraps another one.
const SUBSET: &str = "envoy.load_balancing_policies.subset";

fn read_transport_socket(r: &mut MessageReader<'_>, _: &str) -> Result<Option<TypedConfig>, ConfigError> {
    core::read_transport_socket(r, Category::UpstreamTransportSockets)
}

/// `cluster_type` or, without it, `type`.
fn read_cluster_type(r: &mut MessageReader<'_>, _: &str) -> Result<TypedConfig, ConfigError> {
    const CATEGORY: Category = Category::Clusters;
    let custom = r.message_with("cluster_type", |r| {
        Ok((r.string("name")?, r.opt_typed_config("typed_config", CATEGORY)?))
    })?;
    let by_type = r.enumerated_config("type", DISCOVERY_TYPES, CATEGORY)?;
    match (custom, by_type) {
        (Some((_, Some(config))), _) => Ok(config),
        (Some((name, None)), _) => named(r, "cluster_type", &name, CATEGORY),
        (None, Some(config)) => Ok(config),
        (None, None) => named(r, "type", STATIC, CATEGORY),
    }
}

/// The first policy of `load_balancing_policy` that an extension knows or, without that, `lb_policy`, within subsets if there
/// are any.
fn read_load_balancing_policy(r: &mut MessageReader<'_>, _: &str) -> Result<TypedConfig, ConfigError> {
    read_other_lb_configs(r)?;
    let cluster = r.string("name")?;
    let common: CommonLbConfig = r.message("common_lb_config")?.unwrap_or_default();
    let (has_subsets, has_selectors) = match r.value("lb_subset_config")? {
        Some(config) => (true, selectors(config).is_some_and(|list| !list.is_empty())),
        None => (false, false),
    };
    if let Some(config) = listed_policy(r, "load_balancing_policy", &format!("cluster: '{cluster}'"))? {
        let of_all = &common.consistent_hashing_lb_config;
        if has_subsets {
            r.refuse(
                "load_balancing_policy",
                "cluster: load_balancing_policy cannot be combined with lb_subset_config",
            );
        } else if common.locality != LocalityConfig::None || *of_all != ConsistentHashingLbConfig::default() {
            let message = "cluster: load_balancing_policy cannot be combined with partial fields \
                           (zone_aware_lb_config, locality_weighted_lb_config, consistent_hashing_lb_config) of \
                           common_lb_config";
            r.refuse("load_balancing_policy", message);
        }
        // Whatever it is.
        lb_policy_name(r)?;
        return Ok(config);
    }
    let policy = lb_policy(r)?;
    if has_selectors && policy.extension() == CLUSTER_PROVIDED {
        r.refuse("lb_policy", "cluster: LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config");
    }
    // Without selectors only whether it is right matters.
    let within_subsets = match has_subsets {
        true => Some(named(r, "lb_subset_config", SUBSET, Category::LoadBalancingPolicies)?),
        false => None,
    };
    Ok(within_subsets.filter(|_| has_selectors).unwrap_or(policy))
}

/// What `subset_selectors` is in a document.
fn selectors(config: &serde_json::Value) -> Option<&Vec<serde_json::Value>> {
    config.get("subset_selectors").or_else(|| config.get("subsetSelectors"))?.as_array()
}

/// What policies say that are not the one that is chosen; only whether it is right matters.
fn read_other_lb_configs(r: &mut MessageReader<'_>) -> Result<(), ConfigError> {
    const CONFIGS: [(&str, &str); 4] = [
        ("ring_hash_lb_config", "envoy.load_balancing_policies.ring_hash"),
        ("maglev_lb_config", "envoy.load_balancing_policies.maglev"),
        ("least_request_lb_config", "envoy.load_balancing_policies.least_request"),
        ("round_robin_lb_config", ROUND_ROBIN),
    ];
    for (field, extension) in CONFIGS {
        if r.has(field) {
            r.named_config(extension, Category::LoadBalancingPolicies).transpose()?;
        }
    }
    Ok(())
}

/// The value of `lb_policy` itself, which may also be that another field says it.
///
/// # Errors
/// There is no such value.
pub fn lb_policy_name(r: &mut MessageReader<'_>) -> Result<&'static str, ConfigError> {
    const ELSEWHERE: &str = "LOAD_BALANCING_POLICY_CONFIG";
    let mut names: Vec<_> = LB_POLICIES.iter().map(|(name, _)| (*name, *name)).collect();
    names.push((ELSEWHERE, ELSEWHERE));
    Ok(r.enumeration("lb_policy", &names)?.unwrap_or(LB_POLICIES[0].0))
}

/// What `lb_policy` says, which is also how a host of a subset is chosen.
///
/// # Errors
/// What is wrong with it.
pub fn lb_policy(r: &mut MessageReader<'_>) -> Result<TypedConfig, ConfigError> {
    const CATEGORY: Category = Category::LoadBalancingPolicies;
    match r.enumerated_config("lb_policy", LB_POLICIES, CATEGORY)? {
        Some(config) => Ok(config),
        None => named(r, "lb_policy", ROUND_ROBIN, CATEGORY),
    }
}

/// The first policy in the `LoadBalancingPolicy` of this name that an extension knows; `None` where there is no such
/// field. `whose` stands in the error.
///
/// # Errors
/// No extension knows any.
pub fn listed_policy(
    r: &mut MessageReader<'_>,
    field: &str,
    whose: &str,
) -> Result<Option<TypedConfig>, ConfigError> {
    r.message_with(field, |r| {
        let policies: Vec<Policy> = r.messages("policies")?;
        let names: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
        let message = format!(
            "cluster: didn't find a registered load balancer factory implementation for {whose} with names from [{}]",
            names.join(", ")
        );
        let error = r.error("policies", message);
        policies.into_iter().find_map(|policy| policy.config).ok_or(error)
    })
}

/// `LoadBalancingPolicy.Policy`.
#[derive(Default)]
struct Policy {
    name: String,
    /// `None` if no extension knows it.
    config: Option<TypedConfig>,
}

impl FromMessage for Policy {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let policy = r.message_with("typed_extension_config", |r| {
            let name = r.string("name")?;
            Ok(Policy { name, config: r.known_config("typed_config", Category::LoadBalancingPolicies)? })
        })?;
        Ok(policy.unwrap_or_default())
    }
}

/// An extension by its name alone.
fn named(
    r: &mut MessageReader<'_>,
    field: &str,
    name: &str,
    category: Category,
) -> Result<TypedConfig, ConfigError> {
    let config = r.named_config(name, category);
    config.unwrap_or_else(|| {
        let message = format!("Didn't find a registered implementation for name: '{name}'");
        Err(r.error(field, message))
    })
}

/// `Cluster.ClusterProtocolSelection`: whether it is that of the downstream.
const PROTOCOL_SELECTIONS: &EnumTable<bool> =
    &[("USE_CONFIGURED_PROTOCOL", false), ("USE_DOWNSTREAM_PROTOCOL", true)];

/// The extension or, without it, the older fields of the cluster itself. Envoy
/// ignores the older ones beside the extension; here giving both is an error.
fn read_http_protocol_options(
    r: &mut MessageReader<'_>,
    _: &str,
) -> Result<Option<Box<UpstreamHttpProtocolOptions>>, ConfigError> {
    let extension = read_extension(r)?;
    let has_extension = extension.is_some();
    let mut options = extension.unwrap_or_default();
    for name in ["common_http_protocol_options", "http_protocol_options"] {
        if has_extension && r.has(name) {
            r.refuse(name, "must not be given together with typed_extension_protocol_options");
        }
    }
    if let Some(common) = r.message::<HttpProtocolOptions>("common_http_protocol_options")? {
        options.common_http_protocol_options = common;
    }
    if let Some(http1) = r.message::<Http1ProtocolOptions>("http_protocol_options")? {
        options.http_protocol_options = http1;
    }
    let by_downstream = r.enumeration("protocol_selection", PROTOCOL_SELECTIONS)?.unwrap_or_default();
    options.use_downstream_protocol |= by_downstream && !has_extension;
    let max_requests = r.opt_u32("max_requests_per_connection")?;
    let common = &mut options.common_http_protocol_options;
    common.max_requests_per_connection = common.max_requests_per_connection.or(max_requests);
    Ok((options != UpstreamHttpProtocolOptions::default()).then(|| Box::new(options)))
}

fn read_extension(r: &mut MessageReader<'_>) -> Result<Option<UpstreamHttpProtocolOptions>, ConfigError> {
    let mut options = None;
    for (key, path, value) in r.map("typed_extension_protocol_options")? {
        if key != UPSTREAM_HTTP_PROTOCOL_OPTIONS {
            let message = format!("no such extension, supported here: {UPSTREAM_HTTP_PROTOCOL_OPTIONS}");
            r.refuse_field_at(path, message);
            continue;
        }
        let Ok((type_name, config)) = r.any_at(value, path) else { continue };
        let read = config.read_with(|config| match type_name {
            UPSTREAM_HTTP_PROTOCOL_OPTIONS => UpstreamHttpProtocolOptions::read(config),
            _ => Err(unknown_type(config, type_name, &[UPSTREAM_HTTP_PROTOCOL_OPTIONS])),
        });
        options = read.ok();
    }
    Ok(options)
}

message! {
    /// Limits of a cluster, per priority.
    pub struct CircuitBreakers = "envoy.config.cluster.v3.CircuitBreakers", checked by check_per_host {
        /// As given; the first of a priority counts.
        pub thresholds: Vec<Thresholds>,
        /// The same for each host, of which there are connections.
        pub per_host_thresholds: Vec<PerHostThresholds>,
    }
}

impl CircuitBreakers {
    /// How many connections of a priority a host may have; `None` is no limit.
    pub fn max_connections_per_host(&self, priority: RoutingPriority) -> Option<u32> {
        self.per_host_thresholds.iter().find(|t| t.priority == priority)?.max_connections
    }

    /// The limits of a priority, Envoy's defaults if none are given.
    pub fn for_priority(&self, priority: RoutingPriority) -> Thresholds {
        let given = self.thresholds.iter().find(|t| t.priority == priority);
        given.cloned().unwrap_or_else(|| Thresholds { priority, ..Thresholds::default() })
    }
}

/// The first of each priority counts, the others are not looked at.
fn check_per_host(r: &mut MessageReader<'_>, breakers: &CircuitBreakers) {
    for priority in [RoutingPriority::Default, RoutingPriority::High] {
        let first = breakers.per_host_thresholds.iter().find(|t| t.priority == priority);
        if first.is_some_and(PerHostThresholds::has_others) {
            r.refuse("per_host_thresholds", "Unsupported field in per_host_thresholds");
        }
    }
}

message! {
    /// Limits of one priority for each host.
    pub struct PerHostThresholds = "envoy.config.cluster.v3.CircuitBreakers.Thresholds", checked by pass_over {
        /// What they are for.
        pub priority: RoutingPriority,
        /// `None` is no limit.
        pub max_connections: Option<u32>,
        /// There is no such limit for hosts, and so on.
        pub max_pending_requests: Option<u32>,
        /// As above.
        pub max_requests: Option<u32>,
        /// As above.
        pub max_retries: Option<u32>,
        /// As above.
        pub retry_budget: Option<RetryBudget>,
        /// As above.
        pub max_connection_pools: Option<u32>,
    }
}

/// Hosts have no gauges, whatever is asked for, as in Envoy.
fn pass_over(r: &mut MessageReader<'_>, _: &PerHostThresholds) {
    _ = r.bool("track_remaining");
}

impl PerHostThresholds {
    fn has_others(&self) -> bool {
        let numbers =
            [self.max_pending_requests, self.max_requests, self.max_retries, self.max_connection_pools];
        numbers.iter().any(Option::is_some) || self.retry_budget.is_some()
    }
}

message! {
    /// Limits of one priority; 0 allows nothing.
    pub struct Thresholds = "envoy.config.cluster.v3.CircuitBreakers.Thresholds" {
        /// What they are for.
        pub priority: RoutingPriority,
        /// Default 1024.
        pub max_connections: u32 = 1024,
        /// Requests waiting for a connection, default 1024.
        pub max_pending_requests: u32 = 1024,
        /// Requests in flight, default 1024.
        pub max_requests: u32 = 1024,
        /// Retries in flight, default 3.
        pub max_retries: u32 = 3,
        /// Instead of `max_retries`.
        pub retry_budget: Option<RetryBudget>,
        /// Keep the `remaining_*` gauges; default false.
        pub track_remaining: bool,
        /// `None` is no limit.
        pub max_connection_pools: Option<u32>,
    }
}

message! {
    /// How many retries there may be at a time.
    pub struct RetryBudget = "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget" {
        /// Of the requests in flight and waiting, default 20.
        pub budget_percent: Percent = Percent { value: 20.0 },
        /// But always so many, default 3.
        pub min_retry_concurrency: u32 = 3,
    }
}

message! {
    /// `Cluster.OriginalDstLbConfig`.
    #[derive(Eq)]
    pub struct OriginalDstLbConfig = "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
        checked by check_original_dst
    {
        /// A header says where the request goes.
        pub use_http_header: bool,
        /// Which one, unless it is `x-envoy-original-dst-host`.
        pub http_header_name: String,
        /// To that port, whichever was said.
        pub upstream_port_override: Option<u16>,
        /// What filters have said of the request there says where it goes.
        pub metadata_key: Option<MetadataKey>,
    }
}

fn check_original_dst(r: &mut MessageReader<'_>, config: &OriginalDstLbConfig) {
    if !config.use_http_header && !config.http_header_name.is_empty() {
        let message = format!(
            "ORIGINAL_DST cluster: invalid config http_header_name={} and use_http_header is false. Set use_http_header to \
             true if http_header_name is desired.",
            config.http_header_name
        );
        r.refuse("http_header_name", message);
    }
}

message! {
    /// `UpstreamConnectionOptions`.
    #[derive(Eq)]
    pub struct UpstreamConnectionOptions = "envoy.config.cluster.v3.UpstreamConnectionOptions" {
        /// TCP keepalive; `None` leaves the socket alone.
        pub tcp_keepalive: Option<TcpKeepalive>,
    }
}

message! {
    /// `Cluster.CommonLbConfig`.
    pub struct CommonLbConfig = "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        checked by pass_over_override_host_status
    {
        /// Default 50: with fewer healthy hosts all of them get requests.
        pub healthy_panic_threshold: Percent = Percent { value: 50.0 },
        /// For balancers that hash.
        pub consistent_hashing_lb_config: ConsistentHashingLbConfig,
        /// Changes of hosts' health within that are told together; default 1 s, 0 is at once.
        pub update_merge_window: Duration = Duration::from_secs(1),
        /// A host that has come does not count before its first health check; default false.
        pub ignore_new_hosts_until_first_hc: bool,
        /// All connections are drained when a host comes or goes; default false.
        pub close_connections_on_host_set_change: bool,
        /// What the places of hosts count for.
        pub locality: LocalityConfig => LocalityConfig::read_member,
    }
}

/// For filters that choose hosts themselves, of which there are none here.
fn pass_over_override_host_status(r: &mut MessageReader<'_>, _: &CommonLbConfig) {
    _ = r.message_with("override_host_status", |r| r.enumerations("statuses", HealthStatus::TABLE));
}

/// What the places of hosts count for.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum LocalityConfig {
    /// Nothing is said.
    #[default]
    None,
    /// Places have weights.
    Weighted,
    /// Requests stay in their zones.
    ZoneAware(ZoneAwareLbConfig),
}

impl LocalityConfig {
    fn read_member(r: &mut MessageReader<'_>, _: &str) -> Result<Self, ConfigError> {
        const MEMBERS: [&str; 2] = ["zone_aware_lb_config", "locality_weighted_lb_config"];
        Ok(match r.at_most_one(&MEMBERS)? {
            Some("zone_aware_lb_config") => {
                LocalityConfig::ZoneAware(r.required_message("zone_aware_lb_config")?)
            }
            Some(name) => {
                r.required_message::<LocalityWeightedLbConfig>(name)?;
                LocalityConfig::Weighted
            }
            None => LocalityConfig::None,
        })
    }
}

message! {
    /// `Cluster.CommonLbConfig.ZoneAwareLbConfig`.
    pub struct ZoneAwareLbConfig = "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig" {
        /// Share of the requests that it is for, default all.
        pub routing_enabled: Percent = Percent { value: 100.0 },
        /// It is for clusters that have so many healthy hosts, default 6.
        pub min_cluster_size: u64 = 6,
        /// Requests fail where there are not enough healthy hosts.
        pub fail_traffic_on_panic: bool,
    }
}

message! {
    /// `Cluster.CommonLbConfig.LocalityWeightedLbConfig`, which says nothing more.
    pub struct LocalityWeightedLbConfig =
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig" {}
}

message! {
    /// `Cluster.CommonLbConfig.ConsistentHashingLbConfig`.
    #[derive(Eq)]
    pub struct ConsistentHashingLbConfig =
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig" {
        /// Hosts are hashed by their names and not by their addresses.
        pub use_hostname_for_hashing: bool,
        /// Percent of the average of requests that a host gets at most; `None` is no limit.
        pub hash_balance_factor: Option<u32>,
    }
}
