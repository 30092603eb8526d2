//! What every thread may know of a cluster: options, statistics, limits.
//!
//! Mirrors `ClusterInfoImpl` of Envoy's `source/common/upstream/upstream_impl.cc`.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use super::health_checker::HealthCheckHostMonitor;
use super::load_balancer::LoadBalancerConfig;
use super::local_addresses::{self, UpstreamLocalAddress, local_addresses};
use super::{
    ClusterMembershipStats, ClusterName, ClusterStats, CodeStats, ResourceManagerImpl, ResourcePriority,
    TrackedStats,
};
use crate::config::ConfigError;
use crate::config::HeaderKeyFormat;
use crate::config::cluster::Cluster;
use crate::config::core::{Metadata, TcpKeepalive};
use crate::config::protocol_options::UpstreamHttpProtocolOptions;
use crate::http::http1::{ClientConnectionImpl, HeadLimits};
use crate::network::ConnectionImpl;
use crate::network::{
    Address, ConnectionStats, RawBufferSocketFactory, TransportSocketConfig, TransportSocketFactory,
    TransportSocketFactoryContext,
};
use crate::runtime::{FractionalPercent, RuntimeUser, SnapshotImpl};
use crate::stats::Scope;

/// Idle timeout of connections without a configured one, as in Envoy 1.40 (1.1 has none).
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Most bytes of a response's headers without a configured limit, as in Envoy 1.40.
const MAX_RESPONSE_HEADERS_BYTES: usize = 80 * 1024;

/// Most headers of a response without a configured limit.
const DEFAULT_MAX_HEADERS_COUNT: u32 = 100;

/// A cluster without its hosts, shared by all threads. What runtime says of it may change, nothing else.
pub struct ClusterInfoImpl {
    name: ClusterName,
    /// `None` is the name.
    alternative_name: Option<Box<str>>,
    scope: Scope,
    stats: ClusterStats,
    membership_stats: ClusterMembershipStats,
    code_stats: CodeStats,
    connection_stats: Arc<ConnectionStats>,
    tracked_stats: Option<Box<TrackedStats>>,
    resource_managers: [ResourceManagerImpl; 2],
    config: Arc<Cluster>,
    local_addresses: Box<[UpstreamLocalAddress]>,
    transport_socket_factory: Box<dyn TransportSocketFactory>,
    load_balancer: Arc<dyn LoadBalancerConfig>,
    added_via_api: bool,
    /// Percent, as the configuration or runtime says.
    healthy_panic_threshold: AtomicU32,
    /// Percent of requests that zones matter for, and for clusters of how many hosts; as runtime says.
    zone_routing: [AtomicU64; 2],
    /// What runtime said when the cluster was made.
    max_response_headers_count: OnceLock<u32>,
    /// Percent of requests that are refused, as runtime says.
    maintenance: AtomicU32,
    drop_overload: Option<FractionalPercent>,
    /// There where its hosts are checked.
    health_checker: OnceLock<HealthCheckHostMonitor>,
}

impl ClusterInfoImpl {
    /// From its configuration. `root` is the scope in which `cluster.<name>.` is made; `added_via_api`
    /// says that the cluster was not in the bootstrap.
    ///
    /// # Errors
    /// What its extensions ask for and cannot be had.
    pub fn new(config: &Arc<Cluster>, root: &Scope, added_via_api: bool) -> Result<Arc<Self>, ConfigError> {
        let load_balancer = config.load_balancing_policy.get::<dyn LoadBalancerConfig>()?.clone();
        if load_balancer.is_cluster_provided() {
            let message = format!(
                "cluster manager: cluster provided LB specified but cluster '{}' did not provide one. Check cluster \
                 documentation.",
                config.name
            );
            return Err(ConfigError::document(message));
        }
        Self::with_load_balancer(config, root, added_via_api, load_balancer)
    }

    /// The same for a cluster that provides its own way to choose a host.
    ///
    /// # Errors
    /// As [`ClusterInfoImpl::new`]; another way is asked for.
    pub fn with_provided_lb(
        config: &Arc<Cluster>,
        root: &Scope,
        added_via_api: bool,
        provided: Arc<dyn LoadBalancerConfig>,
    ) -> Result<Arc<Self>, ConfigError> {
        if !config.load_balancing_policy.get::<dyn LoadBalancerConfig>()?.is_cluster_provided() {
            let message = format!(
                "cluster manager: cluster provided LB not specified but cluster '{}' provided one. Check cluster \
                 documentation.",
                config.name
            );
            return Err(ConfigError::document(message));
        }
        Self::with_load_balancer(config, root, added_via_api, provided)
    }

    fn with_load_balancer(
        config: &Arc<Cluster>,
        root: &Scope,
        added_via_api: bool,
        load_balancer: Arc<dyn LoadBalancerConfig>,
    ) -> Result<Arc<Self>, ConfigError> {
        let alternative = Some(&config.alt_stat_name).filter(|name| !name.is_empty());
        let scope = root.create_scope(&format!("cluster.{}.", alternative.unwrap_or(&config.name)));
        let stats = ClusterStats::new(&scope);
        Ok(Arc::new(ClusterInfoImpl {
            transport_socket_factory: transport_socket_factory(config, &scope)?,
            load_balancer,
            name: ClusterName::of(&config.name),
            alternative_name: alternative.map(|name| name.as_str().into()),
            code_stats: CodeStats::new(&scope),
            connection_stats: Arc::new(connection_stats(&stats)),
            tracked_stats: TrackedStats::new(config.track_cluster_stats, &scope),
            resource_managers: resource_managers(config, &scope),
            membership_stats: ClusterMembershipStats::new(&scope),
            stats,
            scope,
            config: config.clone(),
            local_addresses: local_addresses(config.upstream_bind_config.as_deref()),
            added_via_api,
            healthy_panic_threshold: AtomicU32::new(healthy_panic_threshold(config)),
            zone_routing: [const { AtomicU64::new(UNSAID) }; 2],
            max_response_headers_count: OnceLock::new(),
            maintenance: AtomicU32::new(0),
            drop_overload: drop_overload(config),
            health_checker: OnceLock::new(),
        }))
    }

    /// What it was made from.
    pub fn config(&self) -> &Cluster {
        &self.config
    }

    /// What is said of it to those who look for their names in it.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.config.metadata.as_deref()
    }

    /// The name, by which threads find their part of the cluster.
    pub fn cluster_name(&self) -> &ClusterName {
        &self.name
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        self.name.text()
    }

    /// The name in statistics: `alt_stat_name`, or the name.
    pub fn observability_name(&self) -> &str {
        self.alternative_name.as_deref().unwrap_or_else(|| self.name())
    }

    /// The statistics.
    #[inline]
    pub fn stats(&self) -> &ClusterStats {
        &self.stats
    }

    /// The statistics of its membership.
    pub fn membership_stats(&self) -> &ClusterMembershipStats {
        &self.membership_stats
    }

    /// Where further statistics of the cluster are made; ends in `cluster.<name>.`.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The statistics of response codes.
    #[inline]
    pub fn code_stats(&self) -> &CodeStats {
        &self.code_stats
    }

    /// What a connection to a host counts its bytes in.
    pub fn connection_stats(&self) -> &Arc<ConnectionStats> {
        &self.connection_stats
    }

    /// What it counts of requests only if that is asked for.
    #[inline]
    pub fn tracked_stats(&self) -> Option<&TrackedStats> {
        self.tracked_stats.as_deref()
    }

    /// The limits of a priority.
    #[inline]
    pub fn resource_manager(&self, priority: ResourcePriority) -> &ResourceManagerImpl {
        &self.resource_managers[priority as usize]
    }

    fn http_options(&self) -> &UpstreamHttpProtocolOptions {
        static DEFAULT: LazyLock<UpstreamHttpProtocolOptions> =
            LazyLock::new(UpstreamHttpProtocolOptions::default);
        self.config.http_protocol_options.as_deref().unwrap_or_else(|| &DEFAULT)
    }

    /// How long connecting may take; more than zero.
    pub fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout
    }

    /// Limit of a connection's buffers in bytes; 0 is no limit.
    pub fn per_connection_buffer_limit_bytes(&self) -> usize {
        self.config.per_connection_buffer_limit_bytes as usize
    }

    /// Requests after which a connection is closed; 0 is no limit.
    pub fn max_requests_per_connection(&self) -> u64 {
        self.http_options().common_http_protocol_options.max_requests_per_connection.unwrap_or(0).into()
    }

    /// How long a connection may be without a request; `None` is for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        let configured = self.http_options().common_http_protocol_options.idle_timeout;
        non_zero(Some(configured.unwrap_or(DEFAULT_IDLE_TIMEOUT)))
    }

    /// Age at which a connection is drained; `None` is never.
    pub fn max_connection_duration(&self) -> Option<Duration> {
        non_zero(self.http_options().common_http_protocol_options.max_connection_duration)
    }

    /// Longest life of a request; `None` is no limit.
    pub fn max_stream_duration(&self) -> Option<Duration> {
        non_zero(self.http_options().common_http_protocol_options.max_stream_duration)
    }

    /// Most headers of a response; at least 1.
    pub fn max_response_headers_count(&self) -> u32 {
        let configured = self.http_options().common_http_protocol_options.max_headers_count;
        configured
            .unwrap_or_else(|| *self.max_response_headers_count.get().unwrap_or(&DEFAULT_MAX_HEADERS_COUNT))
    }

    /// Whether HTTP/1 trailers are passed on.
    pub fn enable_trailers(&self) -> bool {
        self.http_options().http_protocol_options.enable_trailers
    }

    /// Whether hosts are asked for whole URLs.
    pub fn send_fully_qualified_url(&self) -> bool {
        self.http_options().http_protocol_options.send_fully_qualified_url
    }

    /// How the names of fields are written.
    pub fn header_key_format(&self) -> Option<HeaderKeyFormat> {
        self.http_options().http_protocol_options.header_key_format
    }

    /// Whether to speak to the hosts what the downstream speaks.
    pub fn use_downstream_protocol(&self) -> bool {
        self.http_options().use_downstream_protocol
    }

    /// Local address of connections to `remote`, and what is set at their sockets; `None` leaves both to the kernel.
    pub fn local_address(&self, remote: &Address) -> Option<&UpstreamLocalAddress> {
        local_addresses::choose(&self.local_addresses, remote)
    }

    /// Counts a host that has come.
    pub(super) fn count_host(&self) {
        self.membership_stats.total_match_count().inc();
    }

    /// How many bytes a response's headers may have.
    pub fn max_response_headers_bytes(&self) -> usize {
        let configured = self.http_options().common_http_protocol_options.max_response_headers_kb;
        configured.map_or(MAX_RESPONSE_HEADERS_BYTES, |kb| kb as usize * 1024)
    }

    /// Which share of requests is not let through; `None` where it is none.
    #[inline]
    pub fn drop_overload(&self) -> Option<FractionalPercent> {
        self.drop_overload
    }

    /// Makes the codec of a connection to one of its hosts.
    pub fn create_codec(&self, connection: &Rc<ConnectionImpl>) -> Rc<ClientConnectionImpl> {
        let limits = HeadLimits {
            max_bytes: self.max_response_headers_bytes(),
            max_count: self.max_response_headers_count() as usize,
        };
        ClientConnectionImpl::new(
            connection,
            limits,
            self.enable_trailers(),
            self.header_key_format(),
            self.send_fully_qualified_url(),
        )
    }

    /// Makes the transports of connections to its hosts.
    pub fn transport_socket_factory(&self) -> &dyn TransportSocketFactory {
        &*self.transport_socket_factory
    }

    /// TCP keepalive of connections; `None` leaves the socket alone.
    pub fn tcp_keepalive(&self) -> Option<&TcpKeepalive> {
        self.config.upstream_connection_options.tcp_keepalive.as_ref()
    }

    /// Percent 0..=100 of hosts that must be available, or else all of them get requests.
    pub fn healthy_panic_threshold(&self) -> u32 {
        self.healthy_panic_threshold.load(Relaxed)
    }

    /// Percent of requests that zones matter for, where it is `configured` so.
    pub fn zone_routing_enabled(&self, configured: u32) -> u32 {
        said(&self.zone_routing[0]).map_or(configured, |percent| percent.min(100) as u32)
    }

    /// How many healthy hosts a cluster has that zones matter for, where it is `configured` so.
    pub fn zone_min_cluster_size(&self, configured: u64) -> u64 {
        said(&self.zone_routing[1]).unwrap_or(configured)
    }

    /// Makes what chooses a host.
    pub fn load_balancer(&self) -> &dyn LoadBalancerConfig {
        &*self.load_balancer
    }

    /// Who checks the hosts, if somebody does.
    #[inline]
    pub fn health_checker(&self) -> Option<&HealthCheckHostMonitor> {
        self.health_checker.get()
    }

    /// Says who does. To be called once.
    pub(super) fn set_health_checker(&self, checker: HealthCheckHostMonitor) {
        let _ = self.health_checker.set(checker);
    }

    /// How many connections a host is to have for each request that it has, where that is more than one.
    #[inline]
    pub fn per_upstream_preconnect_ratio(&self) -> Option<f64> {
        let ratio = self.config.preconnect_policy.as_ref()?.per_upstream_preconnect_ratio;
        ratio.filter(|ratio| *ratio > 1.0)
    }

    /// Whether a host's connections are closed when it becomes unhealthy.
    pub fn close_connections_on_host_health_failure(&self) -> bool {
        self.config.close_connections_on_host_health_failure
    }

    /// Whether the cluster came from a discovery service and not from the bootstrap.
    pub fn added_via_api(&self) -> bool {
        self.added_via_api
    }

    /// Whether a request is to be refused for maintenance, which only runtime can switch on.
    #[inline]
    pub fn maintenance_mode(&self) -> bool {
        let percent = self.maintenance.load(Relaxed);
        percent > 0 && fastrand::u32(..100) < percent
    }
}

impl RuntimeUser for ClusterInfoImpl {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        let panic = healthy_panic_threshold(&self.config);
        let panic = snapshot.get_integer("upstream.healthy_panic_threshold", panic.into()).min(100);
        self.healthy_panic_threshold.store(panic as u32, Relaxed);
        for (value, key) in self.zone_routing.iter().zip(["enabled", "min_cluster_size"]) {
            let number = snapshot.get_integer(&format!("upstream.zone_routing.{key}"), UNSAID);
            value.store(number, Relaxed);
        }
        self.load_balancer.on_new_snapshot(snapshot);
        self.max_response_headers_count.get_or_init(|| {
            let default = DEFAULT_MAX_HEADERS_COUNT.into();
            snapshot.get_integer("envoy.reloadable_features.max_response_headers_count", default) as u32
        });
        // Where no cluster is named there is no key to be made.
        let maintenance = if snapshot.names_any("upstream.maintenance_mode.") {
            snapshot.get_integer(&format!("upstream.maintenance_mode.{}", self.name), 0).min(100)
        } else {
            0
        };
        self.maintenance.store(maintenance as u32, Relaxed);
        let limit = |key: &str, configured| {
            if !snapshot.names_any("circuit_breakers.") {
                return configured;
            }
            snapshot.get_integer(&format!("circuit_breakers.{}.{key}", self.name), configured)
        };
        for priority in ResourcePriority::ALL {
            let thresholds = self.config.circuit_breakers.for_priority(priority.into());
            self.resource_manager(priority).set_limits(&thresholds, |resource, configured| {
                limit(&format!("{}.{resource}", priority.name()), configured)
            });
        }
    }
}

/// Where runtime says nothing.
const UNSAID: u64 = u64::MAX;

fn said(value: &AtomicU64) -> Option<u64> {
    Some(value.load(Relaxed)).filter(|value| *value != UNSAID)
}

fn healthy_panic_threshold(config: &Cluster) -> u32 {
    // Computed and cut off as in Envoy, where for example 29 % becomes 28.
    (100.0 * (config.common_lb_config.healthy_panic_threshold.value / 100.0)) as u32
}

fn drop_overload(config: &Cluster) -> Option<FractionalPercent> {
    let drop = config.load_assignment.as_ref()?.policy.drop_overloads.first()?;
    Some(drop.drop_percentage.into())
}

fn transport_socket_factory(
    config: &Cluster,
    scope: &Scope,
) -> Result<Box<dyn TransportSocketFactory>, ConfigError> {
    let Some(socket) = &config.transport_socket else { return Ok(Box::new(RawBufferSocketFactory)) };
    let socket = socket.get::<dyn TransportSocketConfig>();
    let factory = socket
        .and_then(|socket| socket.create_transport_socket_factory(&TransportSocketFactoryContext { scope }));
    factory.map_err(|error| error.within("transport_socket.typed_config"))
}

fn connection_stats(stats: &ClusterStats) -> ConnectionStats {
    ConnectionStats {
        read_total: stats.upstream_cx_rx_bytes_total().handle(),
        read_current: stats.upstream_cx_rx_bytes_buffered().handle(),
        write_total: stats.upstream_cx_tx_bytes_total().handle(),
        write_current: stats.upstream_cx_tx_bytes_buffered().handle(),
        bind_errors: Some(stats.bind_errors().handle()),
        delayed_close_timeouts: None,
    }
}

fn resource_managers(config: &Cluster, scope: &Scope) -> [ResourceManagerImpl; 2] {
    use crate::config::core::RoutingPriority;
    [RoutingPriority::Default, RoutingPriority::High].map(|priority| {
        let name = ResourcePriority::from(priority).name();
        let scope = scope.create_scope(&format!("circuit_breakers.{name}."));
        let per_host = config.circuit_breakers.max_connections_per_host(priority);
        ResourceManagerImpl::new(&config.circuit_breakers.for_priority(priority), per_host, &scope)
    })
}

fn non_zero(duration: Option<Duration>) -> Option<Duration> {
    duration.filter(|d| !d.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::OverrideLayer;
    use crate::stats::Counter;
    use crate::upstream::test_support::{cluster_config, root_scope};
    use serde_json::{Value, json};

    fn info(cluster: Value) -> Arc<ClusterInfoImpl> {
        ClusterInfoImpl::new(&cluster_config(cluster), &root_scope(), false).unwrap()
    }

    #[test]
    fn defaults_are_those_of_envoy() {
        let info = info(json!({ "name": "a" }));
        assert_eq!((info.name(), info.observability_name(), info.scope().prefix()), ("a", "a", "cluster.a."));
        assert_eq!(info.connect_timeout(), Duration::from_secs(5));
        assert_eq!(info.per_connection_buffer_limit_bytes(), 1024 * 1024);
        assert_eq!((info.max_requests_per_connection(), info.max_response_headers_count()), (0, 100));
        assert_eq!(info.idle_timeout(), Some(Duration::from_secs(3600)));
        assert_eq!((info.max_connection_duration(), info.max_stream_duration()), (None, None));
        assert_eq!((info.healthy_panic_threshold(), info.max_response_headers_bytes()), (50, 81_920));
        assert!(!info.added_via_api() && !info.maintenance_mode() && !info.enable_trailers());
    }

    #[test]
    fn options_are_taken_from_the_configuration() {
        let info = info(json!({
            "name": "a",
            "alt_stat_name": "x:y",
            "max_requests_per_connection": 7,
            "common_http_protocol_options": { "idle_timeout": "0s", "max_headers_count": 5 },
            "common_lb_config": { "healthy_panic_threshold": { "value": 29 } },
            "upstream_bind_config": { "source_address": { "address": "127.0.0.9", "port_value": 0 } },
        }));
        assert_eq!((info.name(), info.observability_name()), ("a", "x:y"));
        assert_eq!(info.stats().upstream_rq_total().name(), "cluster.x_y.upstream_rq_total");
        assert_eq!((info.max_requests_per_connection(), info.max_response_headers_count()), (7, 5));
        assert_eq!((info.idle_timeout(), info.healthy_panic_threshold()), (None, 28));
        let local =
            info.local_address(&Address::Ip(([1, 1, 1, 1], 1).into())).and_then(|l| l.address.as_ref());
        assert_eq!(local.map(|a| a.to_string()).as_deref(), Some("127.0.0.9:0"));
    }

    #[test]
    fn each_priority_has_its_limits() {
        let info = info(json!({
            "name": "a",
            "circuit_breakers": { "thresholds": [
                { "priority": "HIGH", "max_connections": 3, "track_remaining": true },
            ] },
        }));
        let high = info.resource_manager(ResourcePriority::High).connections();
        assert_eq!(
            (info.resource_manager(ResourcePriority::Default).connections().max(), high.max()),
            (1024, 3)
        );
        high.inc();
        let gauge = |name| info.scope().store().find_gauge(name).map(|g| g.value());
        assert_eq!(gauge("cluster.a.circuit_breakers.high.remaining_cx"), Some(2));
        assert_eq!(gauge("cluster.a.circuit_breakers.default.remaining_cx"), None);
        assert_eq!(gauge("cluster.a.circuit_breakers.default.cx_open"), Some(0));
    }

    #[test]
    fn runtime_overrides_what_the_configuration_says() {
        let info = info(json!({
            "name": "a",
            "circuit_breakers": { "thresholds": [{ "max_requests": 3, "track_remaining": true }] },
        }));
        let layer = |values: Value| {
            SnapshotImpl::new(vec![OverrideLayer::of_static("l", values.as_object().unwrap())])
        };
        let requests = info.resource_manager(ResourcePriority::Default).requests();
        let gauges = || {
            ["rq_open", "remaining_rq"].map(|name| {
                let name = format!("cluster.a.circuit_breakers.default.{name}");
                info.scope().store().find_gauge(&name).unwrap().value()
            })
        };
        requests.inc();
        requests.inc();
        assert_eq!((requests.max(), gauges()), (3, [0, 1]));
        info.on_new_snapshot(&layer(json!({
            "circuit_breakers.a.default.max_requests": 2,
            "circuit_breakers.b.default.max_connections": 2,
            "circuit_breakers.a.high.max_connection_pools": 4,
            "upstream.healthy_panic_threshold": 700,
            "upstream.maintenance_mode.a": 100,
        })));
        assert_eq!((requests.max(), gauges(), requests.can_create()), (2, [1, 0], false));
        let default = info.resource_manager(ResourcePriority::Default);
        let high = info.resource_manager(ResourcePriority::High);
        assert_eq!((default.connections().max(), high.connection_pools().max()), (1024, 4));
        assert!(info.maintenance_mode() && info.healthy_panic_threshold() == 100);
        info.on_new_snapshot(&layer(json!({})));
        assert_eq!((requests.max(), gauges()), (3, [0, 1]));
        assert_eq!(high.connection_pools().max(), u64::MAX);
        assert!(!info.maintenance_mode() && info.healthy_panic_threshold() == 50);
        requests.dec();
        requests.dec();
        assert_eq!(gauges(), [0, 3]);
    }

    #[test]
    fn connections_count_into_the_cluster() {
        let info = info(json!({ "name": "a" }));
        let connection = info.connection_stats();
        connection.read_total.add(3);
        connection.write_current.add(4);
        let stats = info.stats();
        let counted =
            (stats.upstream_cx_rx_bytes_total().value(), stats.upstream_cx_tx_bytes_buffered().value());
        assert_eq!(counted, (3, 4));
        assert_eq!(
            connection.bind_errors.as_ref().map(Counter::name),
            Some("cluster.a.bind_errors".to_string())
        );
    }
}
