//! The cors filter: tells browsers which pages may ask.
//!
//! Mirrors Envoy's `source/extensions/filters/http/cors/cors_filter.cc`. As in 1.40 a policy stands among what routes say to
//! filters, and one that lacks something has it from the next level up; where nothing is said to the filter, the fields `cors` of
//! the route and its virtual host count.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    FilterFactory, FilterFactoryCb, FilterHeadersStatus, HttpFilterConfig, NamedHttpFilterConfigFactory,
    StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter,
};
use crate::config::ConfigError;
use crate::config::header_matcher::{Place, StringMatcher};
use crate::config::reader::FromMessage;
use crate::config::route::CorsPolicy;
use crate::filters::FactoryContext;
use crate::http::header_utility::match_string;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};
use crate::router::{CorsPolicyImpl, OfTable, Route, RouteConstSharedPtr};
use crate::stats::Scope;
use crate::{message, stats_struct};

message! {
    /// There is nothing to say of all requests.
    #[derive(Eq)]
    pub struct Cors = "envoy.extensions.filters.http.cors.v3.Cors" {}
}

/// The cors filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.cors",
    &["envoy.extensions.filters.http.cors.v3.Cors"],
    |r| Ok(Arc::new(Cors::read(r)?)),
)
.per_route(&["envoy.extensions.filters.http.cors.v3.CorsPolicy"], |r| Ok(OfTable::of(CorsPolicy::read(r)?)));

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

/// The policies of a route, the most specific first.
struct Policies<'a>(SmallVec<[&'a CorsPolicyImpl; 4]>);

impl<'a> Policies<'a> {
    /// What is said to the filter, or else what a route and its virtual host say of old.
    fn of(route: &'a Route, filter: &str) -> Self {
        let mut all: SmallVec<_> = route.filter_configs(filter).rev().collect();
        if all.is_empty() {
            all.extend(route.route_entry().and_then(|entry| entry.cors.as_deref()));
            all.extend(route.virtual_host().cors());
        }
        Policies(all)
    }

    /// The first text that a policy has.
    fn text(&self, of: impl Fn(&'a CorsPolicy) -> &'a String) -> Option<&'a str> {
        self.0.iter().map(|policy| of(&policy.config).as_str()).find(|text| !text.is_empty())
    }

    /// The first word that a policy says.
    fn flag(&self, of: impl Fn(&CorsPolicy) -> Option<bool>) -> Option<bool> {
        self.0.iter().find_map(|policy| of(&policy.config))
    }

    fn is_origin_allowed(&self, origin: &[u8]) -> bool {
        let mut origins = self.0.iter().map(|policy| &policy.config.allow_origin_string_match);
        let is_any =
            |allowed: &StringMatcher| allowed.text == "*" && !matches!(allowed.place, Place::Regex(_));
        let first = origins.find(|origins| !origins.is_empty());
        first.is_some_and(|all| all.iter().any(|one| is_any(one) || match_string(origin, one)))
    }
}

impl CorsFilter {
    /// Answers a request that asks whether another one may come.
    fn answer_preflight(&self, policies: &Policies<'_>, request: &HeaderMap, is_allowed: bool) {
        let mut headers = HeaderMap::new();
        headers.set_status(200);
        if is_allowed {
            headers.set(HeaderId::AccessControlAllowOrigin, &self.origin.borrow());
        }
        if policies.flag(|policy| policy.allow_credentials) == Some(true) {
            headers.set(HeaderId::AccessControlAllowCredentials, b"true");
        }
        let mut set = |id, text: Option<&str>| {
            if let Some(text) = text {
                headers.set(id, text.as_bytes());
            }
        };
        set(HeaderId::AccessControlAllowMethods, policies.text(|policy| &policy.allow_methods));
        set(HeaderId::AccessControlAllowHeaders, policies.text(|policy| &policy.allow_headers));
        set(HeaderId::AccessControlMaxAge, policies.text(|policy| &policy.max_age));
        if policies.flag(|policy| policy.allow_private_network_access) == Some(true)
            && request.get_all("access-control-request-private-network").next() == Some(b"true")
        {
            headers.add("access-control-allow-private-network", b"true");
        }
        if let Some(callbacks) = self.decoder.get() {
            callbacks.encode_headers(headers.shared(), true, "cors_response");
        }
    }

    fn check(&self, route: &Route, headers: &HeaderMap) -> FilterHeadersStatus {
        let policies = Policies::of(route, &self.config.name);
        let Some(policy) = policies.0.first() else { return FilterHeadersStatus::Continue };
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
        let is_allowed = policies.is_origin_allowed(origin);
        if is_allowed {
            self.config.stats.origin_valid.inc();
        } else {
            self.config.stats.origin_invalid.inc();
            let goes_on = policies.flag(|policy| policy.forward_not_matching_preflights);
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
        self.answer_preflight(&policies, headers, is_allowed);
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
}

impl StreamEncoderFilter for CorsFilter {
    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let route = self.route.borrow().clone().filter(|_| self.is_cors_request.get());
        let Some(route) = route else { return FilterHeadersStatus::Continue };
        let policies = Policies::of(&route, &self.config.name);
        let mut headers = headers.borrow_mut();
        headers.set(HeaderId::AccessControlAllowOrigin, &self.origin.borrow());
        if policies.flag(|policy| policy.allow_credentials) == Some(true) {
            headers.set(HeaderId::AccessControlAllowCredentials, b"true");
        }
        if let Some(text) = policies.text(|policy| &policy.expose_headers) {
            headers.set(HeaderId::AccessControlExposeHeaders, text.as_bytes());
        }
        FilterHeadersStatus::Continue
    }
}
