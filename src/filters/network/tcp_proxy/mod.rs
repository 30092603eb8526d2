//! The TCP proxy: what comes on a connection goes to a cluster as it is, and back.
//!
//! Mirrors Envoy's `source/common/tcp_proxy/tcp_proxy.cc` and `source/extensions/filters/network/tcp_proxy/config.cc`. What
//! 1.40 has beside 1.1 is there as well: a cap on how long a connection lasts, pauses between attempts, hashes, and more
//! moments at which a connection is logged. Deliberately different: a client that takes nothing of what is left for it once
//! the upstream is gone is given up when the idle timeout is over; Envoy keeps it for ever.

mod config;
mod drainer;
mod filter;
mod message;
mod upstream_callbacks;

use std::rc::Rc;
use std::sync::Arc;

use self::config::{Config, WorkerConfig};
use self::filter::Filter;
pub use self::message::TcpProxy;
use super::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::network::{NetworkFilterFactory, NetworkFilterFactoryCb};

/// The TCP proxy among the extensions.
pub static FACTORY: NamedNetworkFilterConfigFactory = NamedNetworkFilterConfigFactory::new(
    "envoy.filters.network.tcp_proxy",
    &["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"],
    |r| Ok(Arc::new(TcpProxy::read(r)?)),
)
.terminal();

impl NetworkFilterConfig for TcpProxy {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        Ok(Box::new(TcpProxyFactory { config: Arc::new(Config::new(self, context)?) }))
    }
}

/// Makes a TCP proxy for each connection.
struct TcpProxyFactory {
    config: Arc<Config>,
}

impl NetworkFilterFactory for TcpProxyFactory {
    fn on_worker(&self, dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        let config = WorkerConfig::new(self.config.clone(), dispatcher);
        Box::new(move |connection| connection.add_read_filter(Filter::new(&config)))
    }
}
