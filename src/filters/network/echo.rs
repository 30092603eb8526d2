//! The echo filter: what comes goes back. Mirrors Envoy's `source/extensions/filters/network/echo/echo.cc`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::envoy_conn_log;
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::network::{
    FilterStatus, NetworkFilterFactory, NetworkFilterFactoryCb, ReadFilter, ReadFilterCallbacks,
};

/// The echo filter among the extensions.
pub static FACTORY: NamedNetworkFilterConfigFactory = NamedNetworkFilterConfigFactory::new(
    "envoy.filters.network.echo",
    &["envoy.extensions.filters.network.echo.v3.Echo"],
    |_| Ok(Arc::new(Echo)),
)
.terminal();

/// There is nothing to be said of it.
#[derive(Debug)]
struct Echo;

impl NetworkFilterConfig for Echo {
    fn create_filter_factory(
        &self,
        _context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        Ok(Box::new(EchoFactory))
    }
}

struct EchoFactory;

impl NetworkFilterFactory for EchoFactory {
    fn on_worker(&self, _dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        Box::new(|connection| connection.add_read_filter(Rc::new(EchoFilter::default())))
    }
}

#[derive(Default)]
struct EchoFilter {
    read_callbacks: OnceCell<ReadFilterCallbacks>,
}

impl ReadFilter for EchoFilter {
    fn on_data(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus {
        if let Some(connection) = self.read_callbacks.get().and_then(|c| c.connection().upgrade()) {
            envoy_conn_log!(Filter, trace, connection.id(), "echo: got {} bytes", data.len());
            connection.write(data, end_stream);
        }
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        if let Some(connection) = callbacks.connection().upgrade() {
            connection.enable_half_close(true);
        }
        let _ = self.read_callbacks.set(callbacks);
    }
}
