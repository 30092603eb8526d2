//! What the connections of a TCP proxy share. Mirrors `Config` of Envoy's `source/common/tcp_proxy/tcp_proxy.cc`.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::drainer::UpstreamDrainManager;
use super::message::{BackoffStrategy, ClusterSpecifier, HashPolicy, TcpProxy};
use crate::access_log::{AccessLogFactoryContext, InstanceSharedPtr};
use crate::cluster_manager::ClusterManager;
use crate::common::backoff_strategy::JitteredBackOffStrategy;
use crate::common::xxhash::xxh64;
use crate::config::ConfigError;
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::network::ConnectionStats;
use crate::stats_struct;
use crate::stream_info::StreamInfoImpl;
use crate::upstream::ClusterName;
use crate::upstream::load_balancer::MetadataMatchCriterion;

stats_struct! {
    /// `tcp.<stat_prefix>.`
    pub(super) struct TcpProxyStats {
        counters: [
            downstream_cx_drain_close,
            downstream_cx_no_route,
            downstream_cx_overload_close,
            downstream_cx_rx_bytes_total,
            downstream_cx_total,
            downstream_cx_tx_bytes_total,
            downstream_flow_control_paused_reading_total,
            downstream_flow_control_resumed_reading_total,
            early_data_received_count_total,
            idle_timeout,
            max_downstream_connection_duration,
            route_delayed_total,
            upstream_flush_total,
        ],
        gauges: [
            downstream_cx_rx_bytes_buffered,
            downstream_cx_tx_bytes_buffered,
            upstream_flush_active,
        ],
        histograms: [],
    }
}

/// Where a connection may go.
pub(super) struct Route {
    pub cluster: ClusterName,
    weight: u64,
    /// What hosts have to match.
    pub criteria: Option<Arc<[MetadataMatchCriterion]>>,
}

/// See the module's description. Durations are none where they are off.
pub(super) struct Config {
    pub stats: TcpProxyStats,
    pub connection_stats: Arc<ConnectionStats>,
    /// At least one.
    routes: Box<[Route]>,
    total_weight: u64,
    pub idle_timeout: Option<Duration>,
    pub max_connect_attempts: u32,
    backoff: Option<BackoffStrategy>,
    max_connection_duration: Option<Duration>,
    max_connection_duration_jitter: f64,
    hash_policy: Option<HashPolicy>,
    pub access_logs: Box<[InstanceSharedPtr]>,
    pub flush_interval: Option<Duration>,
    pub flush_on_connected: bool,
    pub flush_on_start: bool,
    pub cluster_manager: ClusterManager,
}

/// The configuration as one worker has it.
pub(super) struct WorkerConfig {
    shared: Arc<Config>,
    pub dispatcher: Rc<Dispatcher>,
    pub drain_manager: Rc<UpstreamDrainManager>,
}

impl WorkerConfig {
    /// For the calling worker, whose loop is `dispatcher`.
    pub fn new(shared: Arc<Config>, dispatcher: &Rc<Dispatcher>) -> Rc<Self> {
        let drain_manager = UpstreamDrainManager::new(&shared, dispatcher);
        Rc::new(WorkerConfig { shared, dispatcher: dispatcher.clone(), drain_manager })
    }
}

impl Deref for WorkerConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.shared
    }
}

impl Config {
    pub fn new(proxy: &TcpProxy, context: &FactoryContext<'_>) -> Result<Self, ConfigError> {
        let server = context.server;
        let stats = TcpProxyStats::new(
            &server.stats.root_scope().create_scope(&format!("tcp.{}.", proxy.stat_prefix)),
        );
        let log_context = AccessLogFactoryContext {
            access_log_manager: &server.access_log_manager,
            runtime: &server.runtime,
            cluster_manager: &server.cluster_manager,
            stats: &server.stats,
        };
        let logs = proxy
            .access_log
            .iter()
            .map(|log| log.create(&log_context).map_err(|error| error.within("access_log")));
        let routes = routes(proxy);
        let options = proxy.access_log_options.as_ref();
        Ok(Config {
            connection_stats: Arc::new(connection_stats(&stats)),
            stats,
            total_weight: routes.iter().map(|route| route.weight).sum(),
            routes,
            idle_timeout: Some(proxy.idle_timeout).filter(|timeout| !timeout.is_zero()),
            max_connect_attempts: proxy.max_connect_attempts,
            backoff: proxy.backoff_options.clone(),
            max_connection_duration: proxy.max_downstream_connection_duration,
            max_connection_duration_jitter: proxy
                .max_downstream_connection_duration_jitter_percentage
                .as_ref()
                .map_or(0.0, |percent| percent.value),
            hash_policy: proxy.hash_policy.first().cloned(),
            access_logs: logs.collect::<Result<_, _>>()?,
            flush_interval: options
                .map_or(proxy.access_log_flush_interval, |options| options.access_log_flush_interval),
            flush_on_connected: options
                .map_or(proxy.flush_access_log_on_connected, |options| options.flush_access_log_on_connected),
            flush_on_start: options.is_some_and(|options| options.flush_access_log_on_start),
            cluster_manager: server.cluster_manager.clone(),
        })
    }

    /// Where a connection goes, of several anew with each attempt.
    pub fn route(&self) -> &Route {
        let mut left = match self.routes.len() {
            1 => 0,
            _ => fastrand::u64(..) % self.total_weight,
        };
        for route in &self.routes {
            match left.checked_sub(route.weight) {
                Some(rest) => left = rest,
                None => return route,
            }
        }
        &self.routes[0]
    }

    /// A number that is the same for connections that belong together.
    pub fn hash(&self, info: &StreamInfoImpl) -> Option<u64> {
        match self.hash_policy.as_ref()? {
            HashPolicy::SourceIp => {
                let address = info.downstream_remote_address()?;
                Some(xxh64(address.ip()?.ip().to_string().as_bytes(), 0))
            }
            HashPolicy::FilterState(key) => info.filter_state()?.get_data(key)?.hash(),
        }
    }

    /// How long this connection may last, and whether that is the same for all.
    pub fn max_connection_duration(&self) -> Option<(Duration, bool)> {
        let most = self.max_connection_duration?;
        if self.max_connection_duration_jitter == 0.0 {
            return Some((most, true));
        }
        let share = self.max_connection_duration_jitter / 100.0 * fastrand::f64();
        Some((most.saturating_add(Duration::try_from_secs_f64(most.as_secs_f64() * share).ok()?), false))
    }

    /// The pauses between the attempts of one connection.
    pub fn backoff(&self) -> Option<JitteredBackOffStrategy> {
        let backoff = self.backoff.as_ref()?;
        let base = backoff.base_interval.as_millis().max(1) as u64;
        let most =
            backoff.max_interval.map_or_else(|| base.saturating_mul(10), |most| most.as_millis() as u64);
        Some(JitteredBackOffStrategy::new(base, most))
    }
}

fn routes(proxy: &TcpProxy) -> Box<[Route]> {
    let base = MetadataMatchCriterion::of(proxy.metadata_match.as_ref(), None);
    match &proxy.cluster_specifier {
        ClusterSpecifier::Cluster(name) => {
            Box::new([Route { cluster: ClusterName::of(name), weight: 1, criteria: base }])
        }
        ClusterSpecifier::Weighted(weighted) => weighted
            .clusters
            .iter()
            .map(|cluster| Route {
                cluster: ClusterName::of(&cluster.name),
                weight: cluster.weight.into(),
                criteria: MetadataMatchCriterion::of(cluster.metadata_match.as_ref(), base.as_ref()),
            })
            .collect(),
    }
}

fn connection_stats(stats: &TcpProxyStats) -> ConnectionStats {
    ConnectionStats {
        read_total: stats.downstream_cx_rx_bytes_total.clone(),
        read_current: stats.downstream_cx_rx_bytes_buffered.clone(),
        write_total: stats.downstream_cx_tx_bytes_total.clone(),
        write_current: stats.downstream_cx_tx_bytes_buffered.clone(),
        bind_errors: None,
        delayed_close_timeouts: None,
    }
}
