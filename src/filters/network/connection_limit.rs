//! The connection limit filter: so many connections of a filter chain at once, and no more.
//!
//! Mirrors Envoy 1.40's `source/extensions/filters/network/connection_limit/connection_limit.cc`; 1.1 has none.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::config::core::RuntimeFeatureFlag;
use crate::config::reader::FromMessage;
use crate::event::{Dispatcher, Timer};
use crate::filters::FactoryContext;
use crate::network::{
    ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl, FilterStatus,
    NetworkFilterFactory, NetworkFilterFactoryCb, ReadFilter, ReadFilterCallbacks,
};
use crate::runtime::FeatureFlag;
use crate::{envoy_conn_log, message, stats_struct};

/// The connection limit filter among the extensions.
pub static FACTORY: NamedNetworkFilterConfigFactory = NamedNetworkFilterConfigFactory::new(
    "envoy.filters.network.connection_limit",
    &["envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit"],
    |r| Ok(Arc::new(ConnectionLimit::read(r)?)),
);

message! {
    /// How many connections there may be.
    #[derive(Eq)]
    pub struct ConnectionLimit = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit" {
        /// Never empty.
        pub stat_prefix: String,
        /// At least 1.
        pub max_connections: u32,
        /// Those that are too many are closed so much later; `None` is at once.
        pub delay: Option<Duration>,
        /// Whether there is a limit.
        pub runtime_enabled: Option<RuntimeFeatureFlag>,
    }
}

stats_struct! {
    /// `connection_limit.<stat_prefix>.`
    struct ConnectionLimitStats {
        counters: [limited_connections],
        gauges: [active_connections],
        histograms: [],
    }
}

impl NetworkFilterConfig for ConnectionLimit {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        let server = context.server;
        let prefix = format!("connection_limit.{}.", self.stat_prefix);
        Ok(Box::new(ConnectionLimitFactory(Arc::new(Config {
            stats: ConnectionLimitStats::new(&server.stats.root_scope().create_scope(&prefix)),
            enabled: FeatureFlag::new(self.runtime_enabled.as_ref(), &server.runtime),
            max_connections: self.max_connections.into(),
            connections: AtomicU64::new(0),
            delay: self.delay.filter(|delay| !delay.is_zero()),
        }))))
    }
}

/// What all connections of the filter chain share, on all workers.
struct Config {
    stats: ConnectionLimitStats,
    enabled: Arc<FeatureFlag>,
    max_connections: u64,
    connections: AtomicU64,
    delay: Option<Duration>,
}

struct ConnectionLimitFactory(Arc<Config>);

impl NetworkFilterFactory for ConnectionLimitFactory {
    fn on_worker(&self, dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        let (config, dispatcher) = (self.0.clone(), dispatcher.clone());
        Box::new(move |connection| {
            connection.add_read_filter(Rc::new_cyclic(|weak| Filter {
                weak: weak.clone(),
                config: config.clone(),
                dispatcher: dispatcher.clone(),
                read_callbacks: OnceCell::new(),
                is_counted: Cell::new(false),
                is_rejected: Cell::new(false),
                delay_timer: RefCell::default(),
            }));
        })
    }
}

struct Filter {
    weak: Weak<Filter>,
    config: Arc<Config>,
    dispatcher: Rc<Dispatcher>,
    read_callbacks: OnceCell<ReadFilterCallbacks>,
    is_counted: Cell<bool>,
    is_rejected: Cell<bool>,
    delay_timer: RefCell<Option<Timer>>,
}

impl Filter {
    fn connection(&self) -> Option<Rc<ConnectionImpl>> {
        self.read_callbacks.get()?.connection().upgrade()
    }

    fn close(&self) {
        drop(self.delay_timer.take());
        if let Some(connection) = self.connection() {
            connection.close(ConnectionCloseType::NoFlush);
        }
    }

    fn close_after(&self, delay: Duration) {
        let weak = self.weak.clone();
        let timer = self.dispatcher.create_timer(move || {
            if let Some(filter) = weak.upgrade() {
                filter.close();
            }
        });
        timer.enable_timer(delay);
        *self.delay_timer.borrow_mut() = Some(timer);
    }
}

impl ReadFilter for Filter {
    fn on_new_connection(&self) -> FilterStatus {
        let config = &self.config;
        if !config.enabled.enabled() {
            return FilterStatus::Continue;
        }
        self.is_counted.set(true);
        config.stats.active_connections.inc();
        if config.connections.fetch_add(1, Relaxed) < config.max_connections {
            return FilterStatus::Continue;
        }
        config.stats.limited_connections.inc();
        if let Some(connection) = self.connection() {
            envoy_conn_log!(
                Filter,
                trace,
                connection.id(),
                "connection_limit: connection limiting connection"
            );
        }
        // While the close is put off nothing of what comes goes on.
        self.is_rejected.set(true);
        match config.delay {
            Some(delay) => self.close_after(delay),
            None => self.close(),
        }
        FilterStatus::StopIteration
    }

    fn on_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        match self.is_rejected.get() {
            true => FilterStatus::StopIteration,
            false => FilterStatus::Continue,
        }
    }

    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        if let Some(connection) = callbacks.connection().upgrade() {
            let events: Weak<dyn ConnectionCallbacks> = self.weak.clone();
            connection.add_connection_callbacks(events);
        }
        let _ = self.read_callbacks.set(callbacks);
    }
}

impl ConnectionCallbacks for Filter {
    fn on_event(&self, event: ConnectionEvent) {
        if event == ConnectionEvent::Connected {
            return;
        }
        drop(self.delay_timer.take());
        if self.is_counted.replace(false) {
            self.config.connections.fetch_sub(1, Relaxed);
            self.config.stats.active_connections.dec();
        }
    }
}
