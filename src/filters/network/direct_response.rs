//! The direct response filter: each connection gets the same text and is closed.
//!
//! Mirrors Envoy 1.40's `source/extensions/filters/network/direct_response/filter.cc`; 1.1 has none.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use crate::buffer::Buffer;
use crate::config::reader::FromMessage;
use crate::config::{ConfigError, DataSource};
use crate::event::Dispatcher;
use crate::filters::FactoryContext;
use crate::network::{
    ConnectionCloseType, FilterStatus, NetworkFilterFactory, NetworkFilterFactoryCb, ReadFilter,
    ReadFilterCallbacks,
};
use crate::{envoy_conn_log, message};

/// The direct response filter among the extensions.
pub static FACTORY: NamedNetworkFilterConfigFactory = NamedNetworkFilterConfigFactory::new(
    "envoy.filters.network.direct_response",
    &["envoy.extensions.filters.network.direct_response.v3.Config"],
    |r| Ok(Arc::new(DirectResponse::read(r)?)),
)
.terminal();

message! {
    /// What each connection gets.
    #[derive(Eq)]
    pub struct DirectResponse = "envoy.extensions.filters.network.direct_response.v3.Config" {
        /// Nothing where it is absent.
        pub response: Option<DataSource>,
    }
}

impl NetworkFilterConfig for DirectResponse {
    fn create_filter_factory(
        &self,
        _context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        let response = self.response.as_ref().map(DataSource::contents).transpose();
        let response = response.map_err(|message| ConfigError::new("response", message))?;
        Ok(Box::new(DirectResponseFactory { response: response.unwrap_or_default().into() }))
    }
}

struct DirectResponseFactory {
    response: Arc<[u8]>,
}

impl NetworkFilterFactory for DirectResponseFactory {
    fn on_worker(&self, _dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        let response: Rc<[u8]> = Rc::from(&*self.response);
        Box::new(move |connection| {
            let filter = DirectResponseFilter { response: response.clone(), read_callbacks: OnceCell::new() };
            connection.add_read_filter(Rc::new(filter));
        })
    }
}

struct DirectResponseFilter {
    response: Rc<[u8]>,
    read_callbacks: OnceCell<ReadFilterCallbacks>,
}

impl ReadFilter for DirectResponseFilter {
    fn on_new_connection(&self) -> FilterStatus {
        if let Some(connection) = self.read_callbacks.get().and_then(|c| c.connection().upgrade()) {
            envoy_conn_log!(Filter, trace, connection.id(), "direct_response: new connection");
            if !self.response.is_empty() {
                connection.write(&mut Buffer::from(&*self.response), true);
            }
            connection.close(ConnectionCloseType::FlushWrite);
        }
        FilterStatus::StopIteration
    }

    fn on_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        FilterStatus::Continue
    }

    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        let _ = self.read_callbacks.set(callbacks);
    }
}
