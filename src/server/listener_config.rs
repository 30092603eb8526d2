//! A listener as all threads see it: its socket and its filter chains.
//!
//! Mirrors `ListenerImpl` of Envoy's `source/server/listener_manager_impl.cc`.

use std::sync::{Arc, Mutex, PoisonError};

use super::drain_manager::{DrainManagerImpl, ListenerDrainManager};
use crate::config::listener::TrafficDirection;
use crate::config::{self, ConfigError};
use crate::envoy_log;
use crate::filters::network::NetworkFilterConfig;
use crate::filters::{FactoryContext, ServerFactoryContext};
use crate::network::{
    Address, ConnectionSocket, DrainDecision, ListenOptions, ListenSocket, NetworkFilterFactory,
    NetworkFilterFactoryCb, RawBufferSocketFactory, TransportSocketConfig, TransportSocketFactory,
    TransportSocketFactoryContext,
};
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
    filters: Vec<Box<dyn NetworkFilterFactory>>,
}

impl FilterChain {
    /// Makes the transports of its connections.
    pub fn transport_socket_factory(&self) -> &dyn TransportSocketFactory {
        &*self.transport_socket_factory
    }

    /// What gives the calling worker's connections their filters, in their order.
    pub fn on_worker(&self) -> Vec<NetworkFilterFactoryCb> {
        self.filters.iter().map(|factory| factory.on_worker()).collect()
    }
}

/// See the module's description.
pub struct ListenerConfig {
    name: String,
    address: Address,
    /// `None` once it is closed. Asked for when listening starts and ends, never by a request.
    socket: Mutex<Option<Arc<ListenSocket>>>,
    traffic_direction: TrafficDirection,
    drain_manager: Option<Arc<ListenerDrainManager>>,
    per_connection_buffer_limit_bytes: usize,
    filter_chain: Option<FilterChain>,
    stats: ListenerStats,
    scope: Scope,
}

impl ListenerConfig {
    /// Builds the filter chains and then binds the socket. `place` is where `config` stands.
    ///
    /// # Errors
    /// What is asked for and cannot be had, with its place; a failure to bind.
    pub fn new(
        config: &config::Listener,
        name: &str,
        context: &ServerFactoryContext,
        drain_manager: &Arc<DrainManagerImpl>,
        place: &str,
    ) -> Result<Self, String> {
        let address = configured_address(config, place)?;
        let options = ListenOptions {
            backlog: config.tcp_backlog_size,
            reuse_port: config.enable_reuse_port.unwrap_or(true),
            ..listen_options(&config.address)
        };
        let socket = || {
            bind(address.clone(), &options).inspect_err(|error| {
                envoy_log!(
                    Config,
                    error,
                    "listener '{}' failed to bind or apply socket options: {}",
                    name,
                    error
                );
            })
        };
        Self::with_socket(config, name, &address, socket, context, Some(drain_manager), place)
    }

    /// Looks for what [`ListenerConfig::new`] would refuse, failures to bind aside, without binding anything.
    /// What is not supported is found all at once.
    pub fn validate(
        config: &config::Listener,
        context: &ServerFactoryContext,
        drain_manager: &Arc<DrainManagerImpl>,
        place: &str,
    ) -> Vec<String> {
        let unsupported = unsupported(config, place);
        if !unsupported.is_empty() {
            return unsupported;
        }
        let built = configured_address(config, place).and_then(|address| {
            let drain_manager = drain_manager.for_listener(config.drain_type, config.traffic_direction);
            filter_chain(config, &address, context, Some(drain_manager), place)
        });
        built.err().into_iter().collect()
    }

    /// As [`ListenerConfig::new`], on a socket of the caller's; statistics name `address`. Without a drain manager its
    /// connections are never drained.
    ///
    /// # Errors
    /// As [`ListenerConfig::new`].
    pub fn with_socket(
        config: &config::Listener,
        name: &str,
        address: &Address,
        socket: impl FnOnce() -> Result<ListenSocket, String>,
        context: &ServerFactoryContext,
        drain_manager: Option<&Arc<DrainManagerImpl>>,
        place: &str,
    ) -> Result<Self, String> {
        let drain_manager =
            drain_manager.map(|m| m.for_listener(config.drain_type, config.traffic_direction));
        let (filter_chain, scope) = filter_chain(config, address, context, drain_manager.clone(), place)?;
        let socket = socket()?;
        Ok(ListenerConfig {
            name: name.to_string(),
            address: socket.local_address().clone(),
            socket: Mutex::new(Some(Arc::new(socket))),
            traffic_direction: config.traffic_direction,
            drain_manager,
            per_connection_buffer_limit_bytes: config.per_connection_buffer_limit_bytes as usize,
            filter_chain,
            stats: ListenerStats::new(&scope),
            scope,
        })
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.name
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

    /// The one filter chain.
    pub fn filter_chain(&self) -> Option<&FilterChain> {
        self.filter_chain.as_ref()
    }

    /// The filter chain for a connection.
    pub fn find_filter_chain(&self, _socket: &ConnectionSocket) -> Option<&FilterChain> {
        self.filter_chain.as_ref()
    }
}

fn configured_address(config: &config::Listener, place: &str) -> Result<Address, String> {
    Address::configured(&config.address).ok_or_else(|| format!("{place}.address: malformed IP address"))
}

/// How a socket listens on a configured address.
pub fn listen_options(address: &config::Address) -> ListenOptions {
    ListenOptions { ipv4_compat: address.ipv4_compat(), mode: address.mode(), ..ListenOptions::default() }
}

/// The filters of a listener and the scope of its statistics. The main thread's own listeners have no drain manager.
fn filter_chain(
    config: &config::Listener,
    address: &Address,
    context: &ServerFactoryContext,
    drain_manager: Option<Arc<ListenerDrainManager>>,
    place: &str,
) -> Result<(Option<FilterChain>, Scope), String> {
    if let Some(error) = unsupported(config, place).into_iter().next() {
        return Err(error);
    }
    let label = if config.stat_prefix.is_empty() { stat_label(address) } else { config.stat_prefix.clone() };
    let scope = context.stats.root_scope().create_scope(&format!("listener.{label}."));
    let chain = match (config.filter_chains.first(), &config.default_filter_chain) {
        (Some(chain), _) => Some((chain, format!("{place}.filter_chains[0]"))),
        (None, Some(chain)) => Some((chain, format!("{place}.default_filter_chain"))),
        (None, None) => None,
    };
    let context = FactoryContext {
        server: context,
        listener_scope: &scope,
        is_logged: drain_manager.is_some(),
        drain_decision: match drain_manager {
            Some(manager) => manager,
            None => Arc::new(NullDrainDecision),
        },
    };
    let chain = chain.map(|(chain, place)| build_chain(chain, &context, &place)).transpose()?;
    Ok((chain, scope))
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
fn unsupported(config: &config::Listener, place: &str) -> Vec<String> {
    let chain_match = config.filter_chains.first().and_then(|chain| chain.filter_chain_match.as_ref());
    [
        (config.filter_chains.len() > 1, "filter_chains: more than one filter chain"),
        (chain_match.is_some_and(|m| *m != Default::default()), "filter_chains[0].filter_chain_match"),
        (!config.bind_to_port, "bind_to_port: false"),
        (!config.access_log.is_empty(), "access_log"),
    ]
    .into_iter()
    .filter(|(asked_for, _)| *asked_for)
    .map(|(_, what)| format!("{place}.{what}: not supported yet"))
    .collect()
}

fn build_chain(
    chain: &config::FilterChain,
    context: &FactoryContext<'_>,
    place: &str,
) -> Result<FilterChain, String> {
    let filters = chain.filters.iter().enumerate().map(|(i, filter)| {
        if context.is_logged {
            envoy_log!(Config, debug, "  filter #{}:", i);
            envoy_log!(Config, debug, "    name: {}", filter.name);
        }
        create_filter_factory(filter, context)
            .map_err(|error| error.within(&format!("{place}.filters[{i}]")).to_string())
    });
    let filters = filters.collect::<Result<_, _>>()?;
    let transport_socket_factory =
        transport_socket_factory(chain, context).map_err(|error| error.within(place).to_string())?;
    Ok(FilterChain { transport_socket_factory, filters })
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
