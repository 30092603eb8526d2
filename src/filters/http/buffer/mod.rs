//! The buffer filter: a request goes on when all of it is there.
//!
//! Mirrors Envoy's `source/extensions/filters/http/buffer/buffer_filter.cc`; as in 1.40 a request without a length gets one.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::{
    FilterDataStatus, FilterFactory, FilterFactoryCb, FilterHeadersStatus, FilterTrailersStatus,
    HttpFilterConfig, NamedHttpFilterConfigFactory, StreamDecoderFilter, StreamDecoderFilterCallbacks,
};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::filters::FactoryContext;
use crate::http::{HeaderId, HeaderMapPtr};
use crate::message;
use crate::router::RouteConstSharedPtr;
use crate::stats::Scope;

message! {
    /// What is said of all requests.
    #[derive(Eq)]
    pub struct BufferConfig = "envoy.extensions.filters.http.buffer.v3.Buffer" {
        /// How long the body of a request may be; has to be there.
        pub max_request_bytes: Option<u32>,
    }
}

/// What a route says of its requests: so many bytes at most; `None` that they are not kept.
#[derive(Debug)]
struct BufferPerRoute(Option<u32>);

impl FromMessage for BufferPerRoute {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(BufferPerRoute(match r.exactly_one(&["buffer", "disabled"])? {
            "disabled" => {
                r.bool("disabled")?;
                None
            }
            _ => r.required_message::<BufferConfig>("buffer")?.max_request_bytes,
        }))
    }
}

/// The buffer filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.buffer",
    &["envoy.extensions.filters.http.buffer.v3.Buffer"],
    |r| Ok(Arc::new(BufferConfig::read(r)?)),
)
.per_route(&["envoy.extensions.filters.http.buffer.v3.BufferPerRoute"], |r| {
    Ok(Arc::new(BufferPerRoute::read(r)?))
});

impl HttpFilterConfig for BufferConfig {
    fn create_filter_factory(
        &self,
        name: &str,
        _scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let max_request_bytes = self.max_request_bytes.unwrap_or(0);
        Ok(Arc::new(Settings { name: name.into(), max_request_bytes }))
    }
}

#[derive(Clone)]
struct Settings {
    name: Arc<str>,
    max_request_bytes: u32,
}

impl FilterFactory for Settings {
    fn on_worker(&self) -> FilterFactoryCb {
        let settings = Rc::new(self.clone());
        Box::new(move |callbacks| {
            callbacks.add_stream_decoder_filter(Rc::new(BufferFilter {
                settings: settings.clone(),
                callbacks: OnceCell::new(),
                request_headers: RefCell::default(),
                content_length: Cell::new(0),
            }));
        })
    }
}

/// See the module's description.
struct BufferFilter {
    settings: Rc<Settings>,
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
    /// Of a request that is kept.
    request_headers: RefCell<Option<HeaderMapPtr>>,
    content_length: Cell<usize>,
}

impl BufferFilter {
    /// How much of a request is kept; `None` for nothing.
    fn max_request_bytes(&self, route: Option<&RouteConstSharedPtr>) -> Option<u32> {
        let of_route = route.and_then(|route| route.most_specific_filter_config(&self.settings.name));
        of_route.map_or(Some(self.settings.max_request_bytes), |BufferPerRoute(max)| *max)
    }

    /// The request is complete, and its length is known.
    fn maybe_add_content_length(&self) {
        let Some(headers) = self.request_headers.borrow_mut().take() else { return };
        let mut headers = headers.borrow_mut();
        if !headers.has(HeaderId::ContentLength) {
            headers.remove(HeaderId::TransferEncoding);
            headers.set_int(HeaderId::ContentLength, self.content_length.get() as u64);
        }
    }
}

impl StreamDecoderFilter for BufferFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.callbacks.get().filter(|_| !end_stream) else {
            return FilterHeadersStatus::Continue;
        };
        let Some(max) = self.max_request_bytes(callbacks.route().as_ref()) else {
            return FilterHeadersStatus::Continue;
        };
        callbacks.set_decoder_buffer_limit(max as usize);
        *self.request_headers.borrow_mut() = Some(headers.clone());
        FilterHeadersStatus::StopIteration
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        self.content_length.set(self.content_length.get() + data.len());
        if self.request_headers.borrow().is_none() {
            return FilterDataStatus::Continue;
        }
        if end_stream {
            self.maybe_add_content_length();
            return FilterDataStatus::Continue;
        }
        FilterDataStatus::StopIterationAndBuffer
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        self.maybe_add_content_length();
        FilterTrailersStatus::Continue
    }
}
