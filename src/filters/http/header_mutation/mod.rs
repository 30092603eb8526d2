//! The header mutation filter: changes the headers of requests and responses, one change after the other.
//!
//! A filter of 1.40, which Envoy 1.1 does not have.

mod query_parameters;

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use self::query_parameters::QueryParameterMutation;
use super::{
    FilterFactory, FilterFactoryCb, FilterHeadersStatus, FilterTrailersStatus, HttpFilterConfig,
    NamedHttpFilterConfigFactory, StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter,
    StreamEncoderFilterCallbacks,
};
use crate::config::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::filters::FactoryContext;
use crate::http::HeaderMapPtr;
use crate::router::{Changed, HeaderMutations, RouteConstSharedPtr};
use crate::stats::Scope;

/// What the filter, or a route, says.
#[derive(Debug)]
pub struct HeaderMutationConfig {
    mutations: Mutations,
    /// What routes say comes in the order from the table to the route, so that the route has the last word.
    most_specific_wins: bool,
}

/// What is changed.
#[derive(Debug, Default)]
struct Mutations {
    request: HeaderMutations,
    query_parameters: Vec<QueryParameterMutation>,
    response: HeaderMutations,
    request_trailers: HeaderMutations,
    response_trailers: HeaderMutations,
}

impl FromMessage for Mutations {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let query_parameters = r.messages_with("query_parameter_mutations", query_parameters::read)?;
        let mut read = |name: &str| {
            let made = HeaderMutations::new(&r.messages(name)?, name);
            made.map_err(|error| r.error(error.path(), error.message()))
        };
        Ok(Mutations {
            query_parameters,
            request: read("request_mutations")?,
            response: read("response_mutations")?,
            request_trailers: read("request_trailers_mutations")?,
            response_trailers: read("response_trailers_mutations")?,
        })
    }
}

impl FromMessage for HeaderMutationConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let most_specific_wins =
            match r.is_of("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation") {
                true => r.bool("most_specific_header_mutations_wins")?,
                false => false,
            };
        let mutations = r.message("mutations")?.unwrap_or_default();
        Ok(HeaderMutationConfig { mutations, most_specific_wins })
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
                response: OnceCell::new(),
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
    response: OnceCell<HeaderMapPtr>,
}

impl HeaderMutationFilter {
    /// Calls `f` with what the filter says, and then with what each level of the route does.
    fn each(&self, route: Option<&RouteConstSharedPtr>, mut f: impl FnMut(&Mutations)) {
        f(&self.settings.config.mutations);
        let Some(route) = route else { return };
        let levels = route.filter_configs(&self.settings.name);
        let levels = levels.map(|config: &HeaderMutationConfig| &config.mutations);
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
        self.each(route.as_ref(), |mutations| {
            mutations.request.evaluate(headers, Changed::Request, info);
            query_parameters::mutate(&mutations.query_parameters, headers, info);
        });
        FilterHeadersStatus::Continue
    }

    fn decode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        let Some(callbacks) = self.decoder.get() else { return FilterTrailersStatus::Continue };
        let (route, info) = (callbacks.route(), callbacks.stream_info());
        let request = self.request.get().and_then(|request| request.try_borrow().ok());
        let changed = Changed::RequestTrailers(request.as_deref());
        let trailers = &mut trailers.borrow_mut();
        self.each(route.as_ref(), |mutations| mutations.request_trailers.evaluate(trailers, changed, info));
        FilterTrailersStatus::Continue
    }
}

impl StreamEncoderFilter for HeaderMutationFilter {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.encoder.get_or_init(|| callbacks);
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.encoder.get() else { return FilterHeadersStatus::Continue };
        let (route, info) = (callbacks.route(), callbacks.stream_info());
        self.response.get_or_init(|| headers.clone());
        let request = self.request.get().and_then(|request| request.try_borrow().ok());
        let changed = Changed::Response(request.as_deref());
        let headers = &mut headers.borrow_mut();
        self.each(route.as_ref(), |mutations| mutations.response.evaluate(headers, changed, info));
        FilterHeadersStatus::Continue
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        let Some(callbacks) = self.encoder.get() else { return FilterTrailersStatus::Continue };
        let (route, info) = (callbacks.route(), callbacks.stream_info());
        let request = self.request.get().and_then(|request| request.try_borrow().ok());
        let response = self.response.get().and_then(|response| response.try_borrow().ok());
        let changed =
            Changed::ResponseTrailers { request: request.as_deref(), response: response.as_deref() };
        let trailers = &mut trailers.borrow_mut();
        self.each(route.as_ref(), |mutations| mutations.response_trailers.evaluate(trailers, changed, info));
        FilterTrailersStatus::Continue
    }
}
