//! The header mutation filter: changes the headers of requests and responses, one change after the other.
//!
//! A filter of 1.40, which Envoy 1.1 does not have. Left out: changes of query parameters and of trailers.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{
    FilterFactory, FilterFactoryCb, FilterHeadersStatus, HttpFilterConfig, NamedHttpFilterConfigFactory,
    StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter, StreamEncoderFilterCallbacks,
};
use crate::config::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::filters::FactoryContext;
use crate::http::HeaderMapPtr;
use crate::router::{HeaderMutations, RouteConstSharedPtr};
use crate::stats::Scope;

/// What the filter, or a route, says.
#[derive(Debug)]
pub struct HeaderMutationConfig {
    request: HeaderMutations,
    response: HeaderMutations,
    /// What routes say comes in the order from the table to the route, so that the route has the last word.
    most_specific_wins: bool,
}

/// Those of requests, and those of responses.
fn read_mutations(r: &mut MessageReader<'_>) -> Result<(HeaderMutations, HeaderMutations), ConfigError> {
    let mut read = |name: &str| {
        let made = HeaderMutations::new(&r.messages(name)?, name);
        made.map_err(|error| r.error(error.path(), error.message()))
    };
    Ok((read("request_mutations")?, read("response_mutations")?))
}

impl FromMessage for HeaderMutationConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let most_specific_wins =
            match r.is_of("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation") {
                true => r.bool("most_specific_header_mutations_wins")?,
                false => false,
            };
        let (request, response) = r.message_with("mutations", read_mutations)?.unwrap_or_default();
        Ok(HeaderMutationConfig { request, response, most_specific_wins })
    }
}

/// The header mutation filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.header_mutation",
    &["envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"],
    |r| Ok(Arc::new(Shared(Arc::new(HeaderMutationConfig::read(r)?)))),
)
.per_route(&["envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"], |r| {
    Ok(Arc::new(HeaderMutationConfig::read(r)?))
});

/// The filter's own configuration, of which the workers have shares.
#[derive(Debug)]
struct Shared(Arc<HeaderMutationConfig>);

impl HttpFilterConfig for Shared {
    fn create_filter_factory(
        &self,
        name: &str,
        _scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        Ok(Arc::new(Settings { name: name.into(), config: self.0.clone() }))
    }
}

#[derive(Clone)]
struct Settings {
    name: Arc<str>,
    config: Arc<HeaderMutationConfig>,
}

impl FilterFactory for Settings {
    fn on_worker(&self) -> FilterFactoryCb {
        let settings = Rc::new(self.clone());
        Box::new(move |callbacks| {
            callbacks.add_stream_filter(Rc::new(HeaderMutationFilter {
                settings: settings.clone(),
                decoder: OnceCell::new(),
                encoder: OnceCell::new(),
                request: OnceCell::new(),
            }));
        })
    }
}

/// See the module's description.
struct HeaderMutationFilter {
    settings: Rc<Settings>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    encoder: OnceCell<StreamEncoderFilterCallbacks>,
    request: OnceCell<HeaderMapPtr>,
}

impl HeaderMutationFilter {
    /// Calls `f` with what the filter says, and then with what each level of the route does.
    fn each(&self, route: Option<&RouteConstSharedPtr>, mut f: impl FnMut(&HeaderMutationConfig)) {
        f(&self.settings.config);
        let Some(route) = route else { return };
        let levels = route.filter_configs(&self.settings.name);
        if self.settings.config.most_specific_wins {
            levels.for_each(f);
        } else {
            levels.rev().for_each(f);
        }
    }
}

impl StreamDecoderFilter for HeaderMutationFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.decoder.get() else { return FilterHeadersStatus::Continue };
        self.request.get_or_init(|| headers.clone());
        let (route, info) = (callbacks.route(), callbacks.stream_info());
        let headers = &mut headers.borrow_mut();
        self.each(route.as_ref(), |config| {
            config.request.evaluate_request(headers, info);
        });
        FilterHeadersStatus::Continue
    }
}

impl StreamEncoderFilter for HeaderMutationFilter {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.encoder.get_or_init(|| callbacks);
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.encoder.get() else { return FilterHeadersStatus::Continue };
        let (route, info) = (callbacks.route(), callbacks.stream_info());
        let request = self.request.get().and_then(|request| request.try_borrow().ok());
        let headers = &mut headers.borrow_mut();
        self.each(route.as_ref(), |config| {
            config.response.evaluate_response(headers, request.as_deref(), info);
        });
        FilterHeadersStatus::Continue
    }
}
