//! A network filter: it sends back what it reads, in capitals.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use legate::buffer::Buffer;
use legate::config::ConfigError;
use legate::event::Dispatcher;
use legate::filters::FactoryContext;
use legate::filters::network::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
use legate::network::{
    FilterStatus, NetworkFilterFactory, NetworkFilterFactoryCb, ReadFilter, ReadFilterCallbacks,
};

pub static FACTORY: NamedNetworkFilterConfigFactory =
    NamedNetworkFilterConfigFactory::new("legate.test.shout", &["legate.test.Shout"], |_| {
        Ok(Arc::new(ShoutConfig))
    })
    .terminal();

#[derive(Debug)]
struct ShoutConfig;

impl NetworkFilterConfig for ShoutConfig {
    fn create_filter_factory(
        &self,
        _context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError> {
        Ok(Box::new(ShoutFactory))
    }
}

struct ShoutFactory;

impl NetworkFilterFactory for ShoutFactory {
    fn on_worker(&self, _dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb {
        Box::new(|connection| connection.add_read_filter(Rc::new(Shout { callbacks: OnceCell::new() })))
    }
}

struct Shout {
    callbacks: OnceCell<ReadFilterCallbacks>,
}

impl ReadFilter for Shout {
    fn on_data(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus {
        let mut answer = Buffer::default();
        answer.add(&data.to_vec().to_ascii_uppercase());
        data.clear();
        let connection = self.callbacks.get().and_then(|callbacks| callbacks.connection().upgrade());
        if let Some(connection) = connection {
            connection.write(&mut answer, end_stream);
        }
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }
}
