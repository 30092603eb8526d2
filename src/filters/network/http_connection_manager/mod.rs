//! The HTTP connection manager: turns a downstream connection into streams and runs their filters.
//!
//! Mirrors Envoy's `source/common/http/conn_manager_impl.cc`, `conn_manager_utility.cc` and
//! `source/extensions/filters/network/http_connection_manager/config.cc`.

mod active_stream;
mod client_cert;
mod config;
mod conn_manager;
mod early_header_mutation;
mod filter_chain;
mod header_mutation;
mod local_reply;
mod message;
mod original_ip_detection;
mod proxy_status;
mod request_id;
mod stats;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use super::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use crate::config::reader::FromMessage;
use crate::config::{ConfigError, Filter};
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::network::{NetworkFilterFactory, NetworkFilterFactoryCb};

pub use active_stream::ActiveStream;
pub use config::{ConnectionManagerConfig, WorkerConfig};
pub use conn_manager::ConnectionManagerImpl;
pub use early_header_mutation::{EarlyHeaderMutationFactory, HEADER_MUTATION};
pub use message::{CodecType, HttpConnectionManager, InternalAddressConfig, ServerHeaderTransformation};
pub use original_ip_detection::{CUSTOM_HEADER, OriginalIpDetectionFactory, XFF};
pub use request_id::{RequestIdFactory, UUID};
pub use stats::{ConnectionManagerListenerStats, ConnectionManagerStats};

/// The connection manager among the extensions.
pub static FACTORY: NamedNetworkFilterConfigFactory = NamedNetworkFilterConfigFactory::new(
    "envoy.filters.network.http_connection_manager",
    &["envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"],
    |r| Ok(Arc::new(HttpConnectionManager::read(r)?)),
)
.terminal();

impl HttpConnectionManager {
    /// The configuration of a filter that is a connection manager.
    pub fn of(filter: &Filter) -> Option<&Self> {
        let config: &dyn Any = &**filter.typed_config.get::<dyn NetworkFilterConfig>().ok()?;
        config.downcast_ref()
    }
}

impl NetworkFilterConfig for HttpConnectionManager {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        let config = Arc::new(ConnectionManagerConfig::new(self, context)?);
        Ok(Box::new(ConnectionManagerFactory { config }))
    }
}

/// Makes a connection manager for each connection.
struct ConnectionManagerFactory {
    config: Arc<ConnectionManagerConfig>,
}

impl NetworkFilterFactory for ConnectionManagerFactory {
    fn on_worker(&self, dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        let config = WorkerConfig::new(self.config.clone(), dispatcher);
        Box::new(move |connection| {
            connection.add_read_filter(ConnectionManagerImpl::new(config.clone()));
        })
    }
}
