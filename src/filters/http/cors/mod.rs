//! The cors filter: tells browsers which pages may ask.
//!
//! Mirrors Envoy's `source/extensions/filters/http/cors/cors_filter.cc`. As in 1.40 a policy stands among what routes say to
//! filters, and one that lacks something has it from the next level up.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::{
    FilterDataStatus, FilterFactory, FilterFactoryCb, FilterHeadersStatus, FilterTrailersStatus,
    HttpFilterConfig, NamedHttpFilterConfigFactory, StreamDecoderFilter, StreamDecoderFilterCallbacks,
    StreamEncoderFilter, StreamEncoderFilterCallbacks,
};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::config::core::RuntimeFractionalPercent;
use crate::config::header_matcher::{Place, StringMatcher};
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::http::header_utility::match_string;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};
use crate::router::{
    OfTable, Route, RouteConstSharedPtr, RouteFactoryContext, RouteSpecificFilterConfig,
    RouteSpecificFilterConfigOfTable,
};
use crate::runtime::RuntimeShare;
use crate::stats::Scope;
use crate::{message, stats_struct};

message! {
    /// There is nothing to say of all requests.
    #[derive(Eq)]
    pub struct Cors = "envoy.extensions.filters.http.cors.v3.Cors" {}
}

message! {
    /// What a route says.
    #[derive(Eq)]
    pub struct CorsPolicy = "envoy.extensions.filters.http.cors.v3.CorsPolicy" {
        /// Pages from such places may ask.
        pub allow_origin_string_match: Vec<StringMatcher>,
        /// By these methods.
        pub allow_methods: String,
        /// With these headers.
        pub allow_headers: String,
        /// What they may see of answers.
        pub expose_headers: String,
        /// How long they may remember it.
        pub max_age: String,
        /// Whether with cookies.
        pub allow_credentials: Option<bool>,
        /// How many requests it holds for; absent for all.
        pub filter_enabled: Option<RuntimeFractionalPercent>,
        /// How many of the others are counted; absent for none.
        pub shadow_enabled: Option<RuntimeFractionalPercent>,
        /// Whether pages from outside may ask what is inside.
        pub allow_private_network_access: Option<bool>,
        /// Whether a preflight goes on where the page may not ask; absent for yes.
        pub forward_not_matching_preflights: Option<bool>,
    }
}

/// The cors filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.cors",
    &["envoy.extensions.filters.http.cors.v3.Cors"],
    |r| Ok(Arc::new(Cors::read(r)?)),
)
.per_route(&["envoy.extensions.filters.http.cors.v3.CorsPolicy"], |r| Ok(OfTable::of(CorsPolicy::read(r)?)));

/// A policy that goes by the runtime.
#[derive(Debug)]
struct CorsPolicyImpl {
    config: CorsPolicy,
    filter_enabled: Option<Arc<RuntimeShare>>,
    shadow_enabled: Option<Arc<RuntimeShare>>,
}

impl RouteSpecificFilterConfigOfTable for CorsPolicy {
    fn create(
        &self,
        context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
        let share = |share: &Option<RuntimeFractionalPercent>| {
            let share = share.as_ref()?;
            Some(RuntimeShare::new(&share.runtime_key, share.default_value, Some(context.runtime)))
        };
        Ok(Arc::new(CorsPolicyImpl {
            config: self.clone(),
            filter_enabled: share(&self.filter_enabled),
            shadow_enabled: share(&self.shadow_enabled),
        }))
    }
}

impl CorsPolicyImpl {
    fn enabled(&self) -> bool {
        self.filter_enabled.as_ref().is_none_or(|share| share.is_in(fastrand::u64(..)))
    }

    fn shadow_enabled(&self) -> bool {
        self.shadow_enabled.as_ref().is_some_and(|share| share.is_in(fastrand::u64(..)))
    }
}

stats_struct! {
    /// `http.<stat_prefix>.cors.`
    struct CorsStats {
        counters: [origin_valid, origin_invalid],
        gauges: [],
        histograms: [],
    }
}

impl HttpFilterConfig for Cors {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let stats = CorsStats::new(&scope.create_scope("cors."));
        Ok(Arc::new(CorsFilterConfig { name: name.into(), stats }))
    }
}

/// What all requests of a connection manager share.
#[derive(Clone)]
struct CorsFilterConfig {
    name: Arc<str>,
    stats: CorsStats,
}

impl FilterFactory for CorsFilterConfig {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Rc::new(self.clone());
        Box::new(move |callbacks| {
            callbacks.add_stream_filter(Rc::new(CorsFilter {
                config: config.clone(),
                decoder: OnceCell::new(),
                route: RefCell::default(),
                origin: RefCell::default(),
                is_cors_request: Cell::new(false),
            }));
        })
    }
}

/// See the module's description.
struct CorsFilter {
    config: Rc<CorsFilterConfig>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    route: RefCell<Option<RouteConstSharedPtr>>,
    origin: RefCell<Vec<u8>>,
    is_cors_request: Cell<bool>,
}

impl CorsFilter {
    /// The policies of the request's route, the most specific first.
    fn policies<'a>(&self, route: &'a Route) -> impl Iterator<Item = &'a CorsPolicyImpl> + use<'a> {
        let all: Vec<&CorsPolicyImpl> = route.filter_configs(&self.config.name).rev().collect();
        all.into_iter()
    }

    /// The first text that a policy has.
    fn text<'a>(&self, route: &'a Route, of: impl Fn(&'a CorsPolicy) -> &'a String) -> Option<&'a str> {
        self.policies(route).map(|policy| of(&policy.config).as_str()).find(|text| !text.is_empty())
    }

    /// The first word that a policy says.
    fn flag(&self, route: &Route, of: impl Fn(&CorsPolicy) -> Option<bool>) -> Option<bool> {
        self.policies(route).find_map(|policy| of(&policy.config))
    }

    fn is_origin_allowed(&self, route: &Route, origin: &[u8]) -> bool {
        let origins = self.policies(route).map(|policy| &policy.config.allow_origin_string_match);
        let first = origins.into_iter().find(|origins| !origins.is_empty());
        let is_any =
            |allowed: &StringMatcher| allowed.text == "*" && !matches!(allowed.place, Place::Regex(_));
        first.is_some_and(|all| all.iter().any(|one| is_any(one) || match_string(origin, one)))
    }

    /// Answers a request that asks whether another one may come.
    fn answer_preflight(&self, route: &Route, request: &HeaderMap, is_allowed: bool) {
        let mut headers = HeaderMap::new();
        headers.set_status(200);
        if is_allowed {
            headers.set(HeaderId::AccessControlAllowOrigin, &self.origin.borrow());
        }
        if self.flag(route, |policy| policy.allow_credentials) == Some(true) {
            headers.set(HeaderId::AccessControlAllowCredentials, b"true");
        }
        let mut set = |id, text: Option<&str>| {
            if let Some(text) = text {
                headers.set(id, text.as_bytes());
            }
        };
        set(HeaderId::AccessControlAllowMethods, self.text(route, |policy| &policy.allow_methods));
        set(HeaderId::AccessControlAllowHeaders, self.text(route, |policy| &policy.allow_headers));
        set(HeaderId::AccessControlMaxAge, self.text(route, |policy| &policy.max_age));
        if self.flag(route, |policy| policy.allow_private_network_access) == Some(true)
            && request.get_all("access-control-request-private-network").next() == Some(b"true")
        {
            headers.add("access-control-allow-private-network", b"true");
        }
        if let Some(callbacks) = self.decoder.get() {
            callbacks.encode_headers(headers.shared(), true, "cors_response");
        }
    }

    fn check(&self, route: &Route, headers: &HeaderMap) -> FilterHeadersStatus {
        let Some(policy) = self.policies(route).next() else { return FilterHeadersStatus::Continue };
        if !policy.enabled() && !policy.shadow_enabled() {
            return FilterHeadersStatus::Continue;
        }
        let Some(origin) = headers.get(HeaderId::Origin).filter(|origin| !origin.is_empty()) else {
            return FilterHeadersStatus::Continue;
        };
        *self.origin.borrow_mut() = origin.to_vec();
        let has_method =
            headers.get(HeaderId::AccessControlRequestMethod).is_some_and(|method| !method.is_empty());
        let is_preflight = headers.get(HeaderId::Method) == Some(b"OPTIONS") && has_method;
        let is_allowed = self.is_origin_allowed(route, origin);
        if is_allowed {
            self.config.stats.origin_valid.inc();
        } else {
            self.config.stats.origin_invalid.inc();
            let goes_on = self.flag(route, |policy| policy.forward_not_matching_preflights);
            if goes_on.unwrap_or(true) {
                return FilterHeadersStatus::Continue;
            }
        }
        if policy.shadow_enabled() && !policy.enabled() {
            return FilterHeadersStatus::Continue;
        }
        self.is_cors_request.set(is_allowed);
        if !is_preflight {
            return FilterHeadersStatus::Continue;
        }
        self.answer_preflight(route, headers, is_allowed);
        FilterHeadersStatus::StopIteration
    }
}

impl StreamDecoderFilter for CorsFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let route = self.decoder.get().and_then(|callbacks| callbacks.route());
        let Some(route) = route.filter(|route| route.route_entry().is_some()) else {
            return FilterHeadersStatus::Continue;
        };
        *self.route.borrow_mut() = Some(route.clone());
        self.check(&route, &headers.borrow())
    }

    fn decode_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterDataStatus {
        FilterDataStatus::Continue
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        FilterTrailersStatus::Continue
    }
}

impl StreamEncoderFilter for CorsFilter {
    fn set_encoder_filter_callbacks(&self, _callbacks: StreamEncoderFilterCallbacks) {}

    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let route = self.route.borrow().clone().filter(|_| self.is_cors_request.get());
        let Some(route) = route else { return FilterHeadersStatus::Continue };
        let mut headers = headers.borrow_mut();
        headers.set(HeaderId::AccessControlAllowOrigin, &self.origin.borrow());
        if self.flag(&route, |policy| policy.allow_credentials) == Some(true) {
            headers.set(HeaderId::AccessControlAllowCredentials, b"true");
        }
        if let Some(text) = self.text(&route, |policy| &policy.expose_headers) {
            headers.set(HeaderId::AccessControlExposeHeaders, text.as_bytes());
        }
        FilterHeadersStatus::Continue
    }

    fn encode_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterDataStatus {
        FilterDataStatus::Continue
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        FilterTrailersStatus::Continue
    }
}
