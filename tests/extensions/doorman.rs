//! An HTTP filter, as small as one can be: requests without a certain header are refused. The guide explains it.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use legate::config::ConfigError;
use legate::filters::FactoryContext;
use legate::filters::http::*;
use legate::http::HeaderMapPtr;
use legate::stats::{Counter, Scope};

pub static FACTORY: NamedHttpFilterConfigFactory =
    NamedHttpFilterConfigFactory::new("legate.test.doorman", &["legate.test.Doorman"], |r| {
        Ok(Arc::new(Doorman(r.string("header")?)))
    });

#[derive(Debug)]
struct Doorman(String);
impl HttpFilterConfig for Doorman {
    #[rustfmt::skip]
    fn create_filter_factory(&self, _name: &str, scope: &Scope, _: &FactoryContext<'_>) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        Ok(Arc::new(Door(self.0.clone(), scope.counter("doorman.refused"))))
    }
}

#[derive(Clone)]
struct Door(String, Counter);
impl FilterFactory for Door {
    fn on_worker(&self) -> FilterFactoryCb {
        let door = Rc::new(self.clone());
        Box::new(move |stream| {
            stream.add_stream_decoder_filter(Rc::new(DoorFilter(door.clone(), OnceCell::new())))
        })
    }
}

struct DoorFilter(Rc<Door>, OnceCell<StreamDecoderFilterCallbacks>);

impl StreamDecoderFilter for DoorFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.1.get_or_init(|| callbacks);
    }
    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        if headers.borrow().get_all(&self.0.0).next().is_some() {
            return FilterHeadersStatus::Continue;
        }
        self.0.1.inc();
        let callbacks = self.1.get().expect("set before anything else");
        callbacks.send_local_reply(403, "not on the list\n", None, "doorman".into());
        FilterHeadersStatus::StopIteration
    }
}
