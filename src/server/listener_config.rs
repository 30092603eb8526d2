//! A listener as all threads see it: its socket and its filter chains.
//!
//! Mirrors `ListenerImpl` of Envoy's `source/server/listener_manager_impl.cc`.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::drain_manager::{DrainManagerImpl, ListenerDrainManager};
use super::filter_chain_manager::FilterChainManager;
use crate::config::listener::TrafficDirection;
use crate::config::{self, ConfigError};
use crate::envoy_log;
use crate::event::Dispatcher;
use crate::filters::listener::ListenerFilterConfig;
use crate::filters::network::NetworkFilterConfig;
use crate::filters::{FactoryContext, ServerFactoryContext};
use crate::init::ManagerImpl;
use crate::network::tls::ContextCertificates;
use crate::network::{
    Address, ConnectionSocket, DrainDecision, ListenOptions, ListenSocket, ListenerFilterFactory,
    ListenerFilterFactoryCb, NetworkFilterFactory, NetworkFilterFactoryCb, RawBufferSocketFactory,
    TransportSocketConfig, TransportSocketFactory, TransportSocketFactoryContext,
};
use crate::runtime::{RuntimeUser, SnapshotImpl};
use crate::stats::Scope;
use crate::stats_struct;
use crate::trace::{self, Stage};

stats_struct! {
    /// `listener.<address>.`
    pub struct ListenerStats {
        counters: [
            downstream_cx_accept_failure,
            downstream_cx_destroy,
            downstream_cx_overflow,
            downstream_cx_overload_reject,
            downstream_cx_total,
            downstream_cx_transport_socket_connect_timeout,
            downstream_global_cx_overflow,
            downstream_pre_cx_timeout,
            no_filter_chain_match,
        ],
        gauges: [downstream_cx_active, downstream_pre_cx_active],
        histograms: [downstream_cx_length_ms],
    }
}

stats_struct! {
    /// What one thread has of a listener.
    pub struct PerHandlerListenerStats {
        counters: [downstream_cx_total],
        gauges: [downstream_cx_active],
        histograms: [],
    }
}

/// The transport and the filters of a connection.
pub struct FilterChain {
    transport_socket_factory: Box<dyn TransportSocketFactory>,
    transport_socket_connect_timeout: Option<Duration>,
    filters: Vec<Box<dyn NetworkFilterFactory>>,
}

impl FilterChain {
    /// Makes the transports of its connections.
    pub fn transport_socket_factory(&self) -> &dyn TransportSocketFactory {
        &*self.transport_socket_factory
    }

    /// How long a transport may take until it is ready for data.
    pub fn transport_socket_connect_timeout(&self) -> Option<Duration> {
        self.transport_socket_connect_timeout
    }

    /// What gives the calling worker's connections their filters, in their order.
    pub fn on_worker(&self, dispatcher: &Rc<Dispatcher>) -> Vec<NetworkFilterFactoryCb> {
        self.filters.iter().map(|factory| factory.on_worker(dispatcher)).collect()
    }
}

/// What a listener is built with.
pub struct ListenerFactoryContext<'a> {
    /// What the server gives.
    pub server: &'a ServerFactoryContext,
    /// The server's; without one connections are never drained.
    pub drain_manager: Option<&'a Arc<DrainManagerImpl>>,
    /// What the listener waits for before it serves.
    pub init_manager: &'a ManagerImpl,
    /// Whether it came from a discovery service and not from the bootstrap.
    pub added_via_api: bool,
    /// Tells its configuration from others, where it may change.
    pub hash: u64,
    /// Where its configuration stands.
    pub place: &'a str,
}

/// What tells a configuration from another one.
pub fn config_hash(config: &config::Listener) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(format!("{config:?}"))
}

/// See the module's description.
pub struct ListenerConfig {
    name: String,
    /// Tells it from others, also of its name.
    tag: u64,
    hash: u64,
    added_via_api: bool,
    create_failed: AtomicBool,
    last_updated: SystemTime,
    /// Of all threads; sockets on their way through the listener filters are among them.
    open_connections: AtomicU64,
    /// Most of them, as runtime says.
    connection_limit: AtomicU64,
    configured_address: Address,
    address: Address,
    /// `None` once it is closed. Asked for when listening starts and ends, never by a request.
    socket: Mutex<Option<Arc<ListenSocket>>>,
    traffic_direction: TrafficDirection,
    drain_manager: Option<Arc<ListenerDrainManager>>,
    per_connection_buffer_limit_bytes: usize,
    filter_chains: Vec<FilterChain>,
    filter_chain_manager: FilterChainManager,
    listener_filters: Vec<Box<dyn ListenerFilterFactory>>,
    listener_filters_timeout: Duration,
    continue_on_listener_filters_timeout: bool,
    stats: ListenerStats,
    scope: Scope,
}

impl ListenerConfig {
    /// Builds the filter chains and then binds the socket.
    ///
    /// # Errors
    /// What is asked for and cannot be had, with its place; a failure to bind.
    pub fn new(
        config: &config::Listener,
        name: &str,
        context: &ListenerFactoryContext<'_>,
    ) -> Result<Self, String> {
        let address = configured_address(config).map_err(|error| context.located(error))?;
        let options = ListenOptions {
            backlog: config.tcp_backlog_size,
            reuse_port: config.enable_reuse_port.unwrap_or(true),
            ..listen_options(&config.address)
        };
        let socket = || {
            bind(address.clone(), &options).map(Arc::new).inspect_err(|error| {
                envoy_log!(
                    Config,
                    error,
                    "listener '{}' failed to bind or apply socket options: {}",
                    name,
                    error
                );
            })
        };
        Self::with_socket(config, name, &address, socket, context)
    }

    /// Looks for what [`ListenerConfig::new`] would refuse, failures to bind aside, without binding anything.
    /// What is not supported is found all at once.
    pub fn validate(config: &config::Listener, context: &ListenerFactoryContext<'_>) -> Vec<String> {
        let mut errors = unsupported(config);
        if errors.is_empty() {
            let built = configured_address(config)
                .and_then(|address| filters(config, &address, context, context.drain_manager_for(config)));
            errors.extend(built.err());
        }
        errors.into_iter().map(|error| context.located(error)).collect()
    }

    /// As [`ListenerConfig::new`], on a socket of the caller's; statistics name `address`.
    ///
    /// # Errors
    /// As [`ListenerConfig::new`].
    pub fn with_socket(
        config: &config::Listener,
        name: &str,
        address: &Address,
        socket: impl FnOnce() -> Result<Arc<ListenSocket>, String>,
        context: &ListenerFactoryContext<'_>,
    ) -> Result<Self, String> {
        static NEXT_TAG: AtomicU64 = AtomicU64::new(1);
        let drain_manager = context.drain_manager_for(config);
        let Filters { filter_chains, filter_chain_manager, listener_filters, scope } =
            filters(config, address, context, drain_manager.clone())
                .map_err(|error| context.located(error))?;
        let socket = socket()?;
        Ok(ListenerConfig {
            name: name.to_string(),
            tag: NEXT_TAG.fetch_add(1, Relaxed),
            hash: context.hash,
            added_via_api: context.added_via_api,
            create_failed: AtomicBool::new(false),
            last_updated: SystemTime::now(),
            open_connections: AtomicU64::new(0),
            connection_limit: AtomicU64::new(u64::MAX),
            configured_address: address.clone(),
            address: socket.local_address().clone(),
            socket: Mutex::new(Some(socket)),
            traffic_direction: config.traffic_direction,
            drain_manager,
            per_connection_buffer_limit_bytes: config.per_connection_buffer_limit_bytes as usize,
            filter_chains,
            filter_chain_manager,
            listener_filters,
            listener_filters_timeout: config.listener_filters_timeout,
            continue_on_listener_filters_timeout: config.continue_on_listener_filters_timeout,
            stats: ListenerStats::new(&scope),
            scope,
        })
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells it from all others, also of its name.
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// The certificates of its chains' contexts.
    pub fn certificates(&self) -> impl Iterator<Item = ContextCertificates> {
        self.filter_chains.iter().filter_map(|chain| chain.transport_socket_factory.certificates())
    }

    /// Whether it came from a discovery service and not from the bootstrap.
    pub fn added_via_api(&self) -> bool {
        self.added_via_api
    }

    /// Whether it stays as it is: it is of the bootstrap, or there is nothing new.
    pub fn block_update(&self, hash: u64) -> bool {
        !self.added_via_api || self.hash == hash
    }

    /// Notes that a worker cannot listen; whether one could not before.
    pub fn on_create_failure(&self) -> bool {
        self.create_failed.swap(true, Relaxed)
    }

    /// When it was made.
    pub fn last_updated(&self) -> SystemTime {
        self.last_updated
    }

    /// Counts one connection more; false when it has as many as it may, which only runtime limits.
    pub(super) fn inc_open_connections(&self) -> bool {
        let limit = self.connection_limit.load(Relaxed);
        let one_more = |open| (open < limit).then_some(open + 1);
        self.open_connections.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// A connection has gone.
    pub(super) fn dec_open_connections(&self) {
        self.open_connections.fetch_sub(1, Relaxed);
    }

    /// Logs what happens to it.
    pub fn debug_log(&self, message: &str) {
        envoy_log!(
            Config,
            debug,
            "{}: name={}, hash={}, address={}",
            message,
            self.name,
            self.hash,
            self.address
        );
    }

    /// The address in the configuration.
    pub fn configured_address(&self) -> &Address {
        &self.configured_address
    }

    /// The bound address, with its real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The one socket that all workers listen on, until it is closed.
    pub fn socket(&self) -> Option<Arc<ListenSocket>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the socket when nobody listens on it any more: who connects is refused from then on.
    pub fn close_socket(&self) {
        drop(self.socket.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Which side of a sidecar it serves.
    pub fn traffic_direction(&self) -> TrafficDirection {
        self.traffic_direction
    }

    /// What its connections are drained by; the admin's never are.
    pub fn drain_manager(&self) -> Option<&ListenerDrainManager> {
        self.drain_manager.as_deref()
    }

    /// The soft limit on both buffers of a connection.
    pub fn per_connection_buffer_limit_bytes(&self) -> usize {
        self.per_connection_buffer_limit_bytes
    }

    /// `listener.<address>.` statistics.
    pub fn stats(&self) -> &ListenerStats {
        &self.stats
    }

    /// `listener.<address>.<thread>.` statistics, where the thread is `worker_<n>` or `main_thread`.
    pub fn per_handler_stats(&self, thread: &str) -> PerHandlerListenerStats {
        PerHandlerListenerStats::new(&self.scope.create_scope(&format!("{thread}.")))
    }

    /// The filter chains, the default one last.
    pub fn filter_chains(&self) -> &[FilterChain] {
        &self.filter_chains
    }

    /// What gives sockets that the calling worker accepts their filters, in their order.
    pub fn listener_filters_on_worker(&self) -> Vec<ListenerFilterFactoryCb> {
        self.listener_filters.iter().map(|factory| factory.on_worker()).collect()
    }

    /// How long they may take; zero is no limit.
    pub fn listener_filters_timeout(&self) -> Duration {
        self.listener_filters_timeout
    }

    /// Whether the connection is made although they have not ended in time.
    pub fn continue_on_listener_filters_timeout(&self) -> bool {
        self.continue_on_listener_filters_timeout
    }

    /// The number of the filter chain for a connection.
    pub fn find_filter_chain(&self, socket: &ConnectionSocket) -> Option<usize> {
        self.filter_chain_manager.find(socket.connection_info())
    }
}

impl RuntimeUser for ListenerConfig {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        let key = || format!("envoy.resource_limits.listener.{}.connection_limit", self.name);
        let is_named = snapshot.names_any("envoy.resource_limits.listener.");
        let limit = if is_named { snapshot.get_integer(&key(), u64::MAX) } else { u64::MAX };
        self.connection_limit.store(limit, Relaxed);
    }
}

impl ListenerFactoryContext<'_> {
    fn drain_manager_for(&self, config: &config::Listener) -> Option<Arc<ListenerDrainManager>> {
        self.drain_manager.map(|m| m.for_listener(config.drain_type, config.traffic_direction))
    }

    /// An error within the listener, with its place in the whole configuration.
    fn located(&self, error: ConfigError) -> String {
        error.within(self.place).to_string()
    }
}

fn configured_address(config: &config::Listener) -> Result<Address, ConfigError> {
    Address::configured(&config.address).ok_or_else(|| ConfigError::new("address", "malformed IP address"))
}

/// How a socket listens on a configured address.
pub fn listen_options(address: &config::Address) -> ListenOptions {
    ListenOptions { ipv4_compat: address.ipv4_compat(), mode: address.mode(), ..ListenOptions::default() }
}

/// What a listener does with connections, and the scope of its statistics.
struct Filters {
    filter_chains: Vec<FilterChain>,
    filter_chain_manager: FilterChainManager,
    listener_filters: Vec<Box<dyn ListenerFilterFactory>>,
    scope: Scope,
}

/// Builds the filters. The main thread's own listeners have no drain manager.
fn filters(
    config: &config::Listener,
    address: &Address,
    context: &ListenerFactoryContext<'_>,
    drain_manager: Option<Arc<ListenerDrainManager>>,
) -> Result<Filters, ConfigError> {
    if let Some(error) = unsupported(config).into_iter().next() {
        return Err(error);
    }
    let label = if config.stat_prefix.is_empty() { stat_label(address) } else { config.stat_prefix.clone() };
    let scope = context.server.stats.root_scope().create_scope(&format!("listener.{label}."));
    let named = config.filter_chains.iter().map(|chain| (&*chain.name, chain.filter_chain_match.as_ref()));
    let named: Vec<_> = named.collect();
    let filter_chain_manager = FilterChainManager::new(&named, config.default_filter_chain.is_some())?;
    let context = FactoryContext {
        server: context.server,
        init_manager: context.init_manager,
        listener_scope: &scope,
        is_logged: drain_manager.is_some(),
        drain_decision: match drain_manager {
            Some(manager) => manager,
            None => Arc::new(NullDrainDecision),
        },
    };
    let places = (0..).map(|i| format!("filter_chains[{i}]"));
    let default = config.default_filter_chain.iter().map(|chain| (chain, "default_filter_chain".to_string()));
    let chains = config.filter_chains.iter().zip(places).chain(default);
    let build = |(chain, place): (&config::FilterChain, String)| {
        build_chain(chain, &context).map_err(|error| error.within(&place))
    };
    let filter_chains = chains.map(build).collect::<Result<_, _>>()?;
    let listener_filters = build_listener_filters(&config.listener_filters, &context)?;
    Ok(Filters { filter_chains, filter_chain_manager, listener_filters, scope })
}

/// Binds, with Envoy's text for a failure.
///
/// # Errors
/// That text, with the address.
pub fn bind(address: Address, options: &ListenOptions) -> Result<ListenSocket, String> {
    trace::instant(Stage::CreateListenSocket, None, 0, address.ip().map_or(0, |ip| ip.port().into()), 0);
    let text = address.to_string();
    ListenSocket::bind(address, options).map_err(|error| {
        let reason = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc();
        format!("cannot bind '{text}': {reason}")
    })
}

/// The address as a part of a stat name: `:` is not allowed there.
fn stat_label(address: &Address) -> String {
    address.to_string().replace(':', "_")
}

/// What the configuration can say but a listener cannot do yet.
fn unsupported(config: &config::Listener) -> Vec<ConfigError> {
    [
        (!config.bind_to_port, "bind_to_port", "false: not supported yet"),
        (!config.access_log.is_empty(), "access_log", "not supported yet"),
    ]
    .into_iter()
    .filter(|(asked_for, ..)| *asked_for)
    .map(|(_, path, message)| ConfigError::new(path, message))
    .collect()
}

fn build_listener_filters(
    filters: &[config::ListenerFilter],
    context: &FactoryContext<'_>,
) -> Result<Vec<Box<dyn ListenerFilterFactory>>, ConfigError> {
    let create = |(i, filter): (usize, &config::ListenerFilter)| {
        envoy_log!(Config, debug, "  filter #{}:", i);
        envoy_log!(Config, debug, "    name: {}", filter.name);
        let config = filter.typed_config.get::<dyn ListenerFilterConfig>();
        let factory = config.and_then(|config| config.create_filter_factory(context));
        factory.map_err(|error| error.within(&format!("listener_filters[{i}].typed_config")))
    };
    filters.iter().enumerate().map(create).collect()
}

fn build_chain(
    chain: &config::FilterChain,
    context: &FactoryContext<'_>,
) -> Result<FilterChain, ConfigError> {
    let filters = chain.filters.iter().enumerate().map(|(i, filter)| {
        if context.is_logged {
            envoy_log!(Config, debug, "  filter #{}:", i);
            envoy_log!(Config, debug, "    name: {}", filter.name);
        }
        create_filter_factory(filter, context).map_err(|error| error.within(&format!("filters[{i}]")))
    });
    let filters = filters.collect::<Result<_, _>>()?;
    let transport_socket_factory = transport_socket_factory(chain, context)?;
    let timeout = chain.transport_socket_connect_timeout.filter(|timeout| !timeout.is_zero());
    Ok(FilterChain { transport_socket_factory, transport_socket_connect_timeout: timeout, filters })
}

fn transport_socket_factory(
    chain: &config::FilterChain,
    context: &FactoryContext<'_>,
) -> Result<Box<dyn TransportSocketFactory>, ConfigError> {
    let Some(socket) = &chain.transport_socket else { return Ok(Box::new(RawBufferSocketFactory)) };
    let context = TransportSocketFactoryContext { scope: context.listener_scope };
    let socket = socket.get::<dyn TransportSocketConfig>();
    let factory = socket.and_then(|socket| socket.create_transport_socket_factory(&context));
    factory.map_err(|error| error.within("transport_socket.typed_config"))
}

fn create_filter_factory(
    filter: &config::Filter,
    context: &FactoryContext<'_>,
) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
    let config = filter.typed_config.get::<dyn NetworkFilterConfig>();
    let factory = config.and_then(|config| config.create_filter_factory(context));
    factory.map_err(|error| error.within("typed_config"))
}

/// For a listener that answers on while all else drains.
struct NullDrainDecision;

impl DrainDecision for NullDrainDecision {
    fn drain_close(&self) -> bool {
        false
    }
}
