//! An HTTP filter: it greets in a header of the response, and a route may say with which words.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use legate::access_log;
use legate::buffer::Buffer;
use legate::config::ConfigError;
use legate::config::reader::{FromMessage, MessageReader};
use legate::filters::FactoryContext;
use legate::filters::http::{
    FilterDataStatus, FilterFactory, FilterFactoryCb, FilterHeadersStatus, FilterTrailersStatus,
    HttpFilterConfig, NamedHttpFilterConfigFactory, StreamEncoderFilter, StreamEncoderFilterCallbacks,
};
use legate::http::HeaderMapPtr;
use legate::stats::{Counter, Scope};

const TYPES: &[&str] = &["legate.test.Greeting"];

pub static FACTORY: NamedHttpFilterConfigFactory =
    NamedHttpFilterConfigFactory::new("legate.test.greeting", TYPES, |r| Ok(Arc::new(Greeting::read(r)?)))
        .per_route(TYPES, |r| Ok(Arc::new(Greeting::read(r)?)));

/// Of the filter, or of a route.
#[derive(Debug)]
struct Greeting {
    text: String,
}

impl FromMessage for Greeting {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(Greeting { text: r.string("text")? })
    }
}

impl HttpFilterConfig for Greeting {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let (name, text) = (name.to_string(), self.text.clone());
        Ok(Arc::new(Greeter { name, text, greetings: scope.counter("greetings") }))
    }
}

#[derive(Clone)]
struct Greeter {
    name: String,
    text: String,
    greetings: Counter,
}

impl FilterFactory for Greeter {
    fn on_worker(&self) -> FilterFactoryCb {
        let greeter = Rc::new(self.clone());
        Box::new(move |callbacks| {
            let filter = Rc::new(GreetingFilter { greeter: greeter.clone(), callbacks: OnceCell::new() });
            callbacks.add_stream_encoder_filter(filter.clone());
            callbacks.add_access_log_handler(filter);
        })
    }
}

struct GreetingFilter {
    greeter: Rc<Greeter>,
    callbacks: OnceCell<StreamEncoderFilterCallbacks>,
}

impl StreamEncoderFilter for GreetingFilter {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let route = self.callbacks.get().and_then(|callbacks| callbacks.route());
        let of_route = route.as_ref().and_then(|r| r.most_specific_filter_config(&self.greeter.name));
        let text = of_route.map_or(&self.greeter.text, |greeting: &Greeting| &greeting.text);
        headers.borrow_mut().add("x-greeting", text.as_bytes());
        FilterHeadersStatus::Continue
    }

    fn encode_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterDataStatus {
        FilterDataStatus::Continue
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        FilterTrailersStatus::Continue
    }
}

impl access_log::Instance for GreetingFilter {
    /// Counts, when the stream has ended.
    fn log(&self, context: &access_log::LogContext<'_>) {
        if context.response_headers.is_some_and(|headers| headers.get_all("x-greeting").next().is_some()) {
            self.greeter.greetings.inc();
        }
    }
}
