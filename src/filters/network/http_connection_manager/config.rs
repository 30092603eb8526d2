//! The connection manager's configuration, built once and shared by all workers.
//!
//! Mirrors Envoy's `source/extensions/filters/network/http_connection_manager/config.cc`.

use std::fmt::Debug;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client_cert::ClientCert;
use super::early_header_mutation::EarlyHeaderMutation;
use super::filter_chain::{FilterChain, process_filters};
use super::local_reply::LocalReply;
use super::message::{
    AccessLogOptions, HttpConnectionManager, PathWithEscapedSlashesAction, ServerHeaderTransformation,
};
use super::original_ip_detection::OriginalIpDetection;
use super::proxy_status::ProxyStatus;
use super::request_id::UuidRequestIdConfig;
use super::stats::{ConnectionManagerListenerStats, ConnectionManagerStats};
use crate::access_log::{AccessLogFactoryContext, InstanceSharedPtr};
use crate::cluster_manager::ClusterManager;
use crate::config::ConfigError;
use crate::config::core::Percent;
use crate::config::extension::TypedConfig;
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::filters::http::{FilterFactory, FilterFactoryCb, HttpFilter};
use crate::http::DateProvider;
use crate::http::http1::{CodecStats, HeadLimits, Http1Settings, ServerCodecConfig};
use crate::network::{Address, CidrRange, ConnectionStats, DrainDecision};
use crate::router::{
    ConfigImpl, Route, RouteConfigProvider, RouteConfigProviderFactory, RouteFactoryContext, RouteTable,
    static_provider,
};
use crate::runtime::{Denominator, FractionalPercent};
use crate::thread_local::SlotImpl;

/// See the module's description. Durations of zero mean "off", but for that of connections.
pub struct ConnectionManagerConfig {
    pub(super) stats: ConnectionManagerStats,
    pub(super) listener_stats: ConnectionManagerListenerStats,
    pub(super) connection_stats: Arc<ConnectionStats>,
    pub(super) route_config_provider: RouteConfigProviderFactory,
    filter_factories: FilterChain<Arc<dyn FilterFactory>>,
    upgrades: Vec<Upgrade<Arc<dyn FilterFactory>>>,
    pub(super) local_reply: Option<LocalReply>,
    pub(super) access_logs: Vec<InstanceSharedPtr>,
    pub(super) codec: Arc<ServerCodecConfig>,
    /// A bad request ends its stream alone, where the connection can go on.
    pub(super) stream_error_on_invalid_message: bool,
    pub(super) drain_decision: Arc<dyn DrainDecision>,
    pub(super) date_provider: SlotImpl<DateProvider>,
    pub(super) cluster_manager: ClusterManager,
    pub(super) local_address: Address,
    pub(super) server_name: String,
    pub(super) server_header_transformation: ServerHeaderTransformation,
    pub(super) via: String,
    pub(super) user_agent: Option<(String, String)>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_duration: Option<Duration>,
    pub(super) max_requests_per_connection: u32,
    pub(super) stream_idle_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) request_headers_timeout: Duration,
    pub(super) max_stream_duration: Option<Duration>,
    pub(super) drain_timeout: Duration,
    /// In percent.
    pub(super) drain_timeout_jitter: f64,
    pub(super) max_connection_duration_jitter: f64,
    pub(super) scheme_matches_upstream: bool,
    pub(super) delayed_close_timeout: Duration,
    pub(super) use_remote_address: bool,
    pub(super) xff_num_trusted_hops: u32,
    pub(super) skip_xff_append: bool,
    pub(super) append_x_forwarded_port: bool,
    pub(super) early_header_mutations: Vec<Arc<dyn EarlyHeaderMutation>>,
    /// None for `x-forwarded-for`.
    pub(super) original_ip_detections: Vec<Arc<dyn OriginalIpDetection>>,
    /// What is told of the client's certificate.
    pub(super) client_cert: ClientCert,
    pub(super) proxy_status: Option<ProxyStatus>,
    pub(super) access_log_options: AccessLogOptions,
    pub(super) http1_safe_max_connection_duration: bool,
    pub(super) request_id: UuidRequestIdConfig,
    pub(super) generate_request_id: bool,
    pub(super) preserve_external_request_id: bool,
    pub(super) always_set_request_id_in_response: bool,
    pub(super) proxy_100_continue: bool,
    pub(super) normalize_path: bool,
    pub(super) merge_slashes: bool,
    pub(super) strip_any_host_port: bool,
    pub(super) strip_matching_host_port: bool,
    pub(super) strip_trailing_host_dot: bool,
    /// Never the default, which is one of the others.
    pub(super) escaped_slashes: PathWithEscapedSlashesAction,
    /// Empty for the request's own.
    pub(super) scheme_to_overwrite: String,
    internal_networks: Vec<CidrRange>,
    unix_sockets_internal: bool,
}

/// Asked where the configuration does not say whether paths are normalized.
const NORMALIZE_PATH: &str = "http_connection_manager.normalize_path";
const NEVER: FractionalPercent = FractionalPercent { numerator: 0, denominator: Denominator::Hundred };

/// The configuration as one worker has it. Its streams share it, and what hangs on it, by counts of the worker's own.
pub struct WorkerConfig {
    shared: Arc<ConnectionManagerConfig>,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) route_config_provider: Box<dyn RouteConfigProvider>,
    /// The provider's table, if it is the only one.
    pub(super) static_routes: Option<RouteTable>,
    /// Some of its routes change which filters a stream has.
    pub(super) routes_disable_filters: bool,
    pub(super) filters: FilterChain<FilterFactoryCb>,
    upgrades: Vec<Upgrade<FilterFactoryCb>>,
}

/// What becomes of an upgrade; filters as a worker, or as all of them have them.
struct Upgrade<T> {
    upgrade_type: String,
    allow: bool,
    /// `None` for those of all other streams.
    filters: Option<FilterChain<T>>,
}

impl<T> Upgrade<T> {
    fn map<U>(&self, make: impl Fn(&T) -> U) -> Upgrade<U> {
        Upgrade {
            upgrade_type: self.upgrade_type.clone(),
            allow: self.allow,
            filters: self.filters.as_ref().map(|filters| filters.map(make)),
        }
    }
}

impl WorkerConfig {
    /// For the calling worker, whose loop is `dispatcher`.
    pub fn new(shared: Arc<ConnectionManagerConfig>, dispatcher: &Rc<Dispatcher>) -> Rc<Self> {
        let route_config_provider = (shared.route_config_provider)();
        let static_routes = route_config_provider.is_static().then(|| route_config_provider.config());
        Rc::new(WorkerConfig {
            routes_disable_filters: static_routes.as_ref().is_none_or(RouteTable::disables_filters),
            static_routes,
            route_config_provider,
            filters: shared.filter_factories.map(|factory| factory.on_worker()),
            upgrades: shared
                .upgrades
                .iter()
                .map(|upgrade| upgrade.map(|factory| factory.on_worker()))
                .collect(),
            dispatcher: dispatcher.clone(),
            shared,
        })
    }

    /// The filters of an upgrade that `route`, or without its word the connection manager, lets through (Envoy:
    /// `createUpgradeFilterChain`).
    pub(super) fn upgrade_filters(
        &self,
        upgrade_type: &[u8],
        route: Option<&Route>,
    ) -> Option<&FilterChain<FilterFactoryCb>> {
        let of_route = route.and_then(|route| route.route_entry()?.allows_upgrade(upgrade_type));
        let is_it =
            |upgrade: &&Upgrade<_>| upgrade.upgrade_type.as_bytes().eq_ignore_ascii_case(upgrade_type);
        let upgrade = self.upgrades.iter().find(is_it);
        let allowed = of_route.unwrap_or_else(|| upgrade.is_some_and(|upgrade| upgrade.allow));
        let own = upgrade.and_then(|upgrade| upgrade.filters.as_ref());
        allowed.then_some(own.unwrap_or(&self.filters))
    }
}

impl Deref for WorkerConfig {
    type Target = ConnectionManagerConfig;

    #[inline]
    fn deref(&self) -> &ConnectionManagerConfig {
        &self.shared
    }
}

impl ConnectionManagerConfig {
    /// Builds the configuration.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had.
    pub fn new(config: &HttpConnectionManager, context: &FactoryContext<'_>) -> Result<Self, ConfigError> {
        let server = context.server;
        let prefix = format!("http.{}.", config.stat_prefix);
        let scope = server.stats.root_scope().create_scope(&prefix);
        let process = |filters: &[HttpFilter]| process_filters(filters, &scope, context);
        let stats = ConnectionManagerStats::new(&scope);
        let runtime = server.runtime.snapshot();
        let from_runtime = |what: &str, default| {
            let key = format!("envoy.reloadable_features.max_request_headers_{what}");
            runtime.get_integer(&key, default) as u32
        };
        let common = &config.common_http_protocol_options;
        let http1 = &config.http_protocol_options;
        let route_context = RouteFactoryContext {
            runtime: &server.runtime,
            stats: &server.stats,
            service_cluster: &server.service_cluster,
        };
        let log_context = AccessLogFactoryContext {
            access_log_manager: &server.access_log_manager,
            runtime: &server.runtime,
            cluster_manager: &server.cluster_manager,
            stats: &server.stats,
        };
        let local_reply = LocalReply::create(&config.local_reply_config, &log_context)
            .map_err(|error| error.within("local_reply_config"))?;
        let access_logs = config
            .access_log
            .iter()
            .map(|log| log.create(&log_context).map_err(|error| error.within("access_log")))
            .collect::<Result<_, _>>()?;
        Ok(ConnectionManagerConfig {
            connection_stats: Arc::new(connection_stats(&stats)),
            stats,
            listener_stats: ConnectionManagerListenerStats::new(
                &context.listener_scope.create_scope(&prefix),
            ),
            route_config_provider: static_provider(Arc::new(
                ConfigImpl::new(&config.route_config, Some(route_context))
                    .map_err(|error| error.within("route_config"))?,
            )),
            filter_factories: process(&config.http_filters).map_err(|error| error.within("http_filters"))?,
            upgrades: (config.upgrade_configs.iter().enumerate())
                .map(|(i, upgrade)| {
                    let filters =
                        (!upgrade.filters.is_empty()).then(|| process(&upgrade.filters)).transpose();
                    Ok(Upgrade {
                        upgrade_type: upgrade.upgrade_type.clone(),
                        allow: upgrade.enabled,
                        filters: filters
                            .map_err(|e| e.within("filters").within(&format!("upgrade_configs[{i}]")))?,
                    })
                })
                .collect::<Result<_, ConfigError>>()?,
            access_logs,
            local_reply,
            codec: Arc::new(ServerCodecConfig {
                settings: Http1Settings {
                    allow_absolute_url: http1.allow_absolute_url,
                    // A proxy in front of this one may have had the TLS.
                    validate_scheme: config.use_remote_address && config.xff_num_trusted_hops == 0,
                    accept_http_10: http1.accept_http_10,
                    default_host_for_http_10: http1.default_host_for_http_10.clone(),
                    enable_trailers: http1.enable_trailers,
                    allow_chunked_length: http1.allow_chunked_length,
                    ignore_http_11_upgrade: http1.ignore_http_11_upgrade.clone(),
                    header_key_format: http1.header_key_format,
                    headers_with_underscores_action: common.headers_with_underscores_action,
                },
                stats: CodecStats::new(&server.stats.root_scope().create_scope("http1.")),
                limits: HeadLimits {
                    max_bytes: config.max_request_headers_kb.unwrap_or_else(|| from_runtime("size_kb", 60))
                        as usize
                        * 1024,
                    max_count: common.max_headers_count.unwrap_or_else(|| from_runtime("count", 100))
                        as usize,
                },
            }),
            stream_error_on_invalid_message: http1
                .override_stream_error_on_invalid_http_message
                .unwrap_or(config.stream_error_on_invalid_http_message),
            drain_decision: context.drain_decision.clone(),
            date_provider: server.date_provider.clone(),
            cluster_manager: server.cluster_manager.clone(),
            local_address: server.local_address.clone(),
            server_name: config.server_name.clone(),
            server_header_transformation: config.server_header_transformation,
            via: config.via.clone(),
            user_agent: config
                .add_user_agent
                .then(|| (server.service_cluster.clone(), server.service_node.clone())),
            idle_timeout: common.idle_timeout.filter(|t| !t.is_zero()),
            max_connection_duration: common.max_connection_duration,
            max_requests_per_connection: common.max_requests_per_connection.unwrap_or(0),
            stream_idle_timeout: config.stream_idle_timeout,
            request_timeout: config.request_timeout,
            request_headers_timeout: config.request_headers_timeout,
            max_stream_duration: common.max_stream_duration.filter(|t| !t.is_zero()),
            drain_timeout: config.drain_timeout,
            drain_timeout_jitter: percent(config.drain_timeout_jitter.as_ref()),
            max_connection_duration_jitter: percent(common.max_connection_duration_jitter.as_ref()),
            scheme_matches_upstream: config.scheme_header_transformation.match_upstream,
            delayed_close_timeout: config.delayed_close_timeout,
            use_remote_address: config.use_remote_address,
            xff_num_trusted_hops: config.xff_num_trusted_hops,
            skip_xff_append: config.skip_xff_append,
            append_x_forwarded_port: config.append_x_forwarded_port,
            early_header_mutations: made(&config.early_header_mutation_extensions)?,
            original_ip_detections: made(&config.original_ip_detection_extensions)?,
            // No client has shown a certificate.
            client_cert: ClientCert {
                forward: config.forward_client_cert_details,
                details: config.set_current_client_cert_details.clone().unwrap_or_default(),
            },
            proxy_status: (config.proxy_status_config.as_ref())
                .map(|status| ProxyStatus::new(status, &config.server_name, &server.service_node)),
            access_log_options: config.access_log_options.clone(),
            http1_safe_max_connection_duration: config.http1_safe_max_connection_duration,
            request_id: config.request_id_extension.clone(),
            generate_request_id: config.generate_request_id,
            preserve_external_request_id: config.preserve_external_request_id,
            always_set_request_id_in_response: config.always_set_request_id_in_response,
            proxy_100_continue: config.proxy_100_continue,
            normalize_path: config
                .normalize_path
                .unwrap_or_else(|| runtime.feature_enabled(NORMALIZE_PATH, NEVER, fastrand::u64(..))),
            merge_slashes: config.merge_slashes,
            strip_any_host_port: config.strip_any_host_port,
            strip_matching_host_port: config.strip_matching_host_port,
            strip_trailing_host_dot: config.strip_trailing_host_dot,
            escaped_slashes: config.path_with_escaped_slashes_action.resolved(&runtime),
            scheme_to_overwrite: config.scheme_header_transformation.scheme_to_overwrite.clone(),
            internal_networks: internal_networks(config)?,
            unix_sockets_internal: config.internal_address_config.as_ref().is_some_and(|c| c.unix_sockets),
        })
    }

    /// Whether an address counts as internal: only where `internal_address_config` says so.
    pub(super) fn is_internal_address(&self, address: &Address) -> bool {
        match address.ip() {
            Some(ip) => self.internal_networks.iter().any(|net| net.is_in_range(ip.ip())),
            None => self.unix_sockets_internal,
        }
    }
}

/// What extensions have made of their configurations.
fn made<F: ?Sized + Debug + Send + Sync + 'static>(
    configs: &[TypedConfig],
) -> Result<Vec<Arc<F>>, ConfigError> {
    configs.iter().map(|config| config.get::<F>().cloned()).collect()
}

fn connection_stats(stats: &ConnectionManagerStats) -> ConnectionStats {
    ConnectionStats {
        read_total: stats.downstream_cx_rx_bytes_total.clone(),
        read_current: stats.downstream_cx_rx_bytes_buffered.clone(),
        write_total: stats.downstream_cx_tx_bytes_total.clone(),
        write_current: stats.downstream_cx_tx_bytes_buffered.clone(),
        bind_errors: None,
        delayed_close_timeouts: Some(stats.downstream_cx_delayed_close_timeout.clone()),
    }
}

fn internal_networks(config: &HttpConnectionManager) -> Result<Vec<CidrRange>, ConfigError> {
    let Some(internal) = &config.internal_address_config else { return Ok(Vec::new()) };
    internal
        .cidr_ranges
        .iter()
        .map(|range| {
            CidrRange::configured(range).ok_or_else(|| {
                ConfigError::new("internal_address_config.cidr_ranges", "malformed IP address")
            })
        })
        .collect()
}

fn percent(configured: Option<&Percent>) -> f64 {
    configured.map_or(0.0, |percent| percent.value)
}
