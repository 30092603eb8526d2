//! The csrf filter: a request that changes something has to come from a page of the same host.
//!
//! Mirrors 1.40's `source/extensions/filters/http/csrf/csrf_filter.cc`; Envoy 1.1 does not have it.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{
    FilterFactory, FilterFactoryCb, FilterHeadersStatus, HttpFilterConfig, NamedHttpFilterConfigFactory,
    StreamDecoderFilter, StreamDecoderFilterCallbacks,
};
use crate::config::ConfigError;
use crate::config::core::RuntimeFractionalPercent;
use crate::config::header_matcher::StringMatcher;
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::http::header_utility::match_string;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, url};
use crate::router::{
    OfTable, RouteFactoryContext, RouteSpecificFilterConfig, RouteSpecificFilterConfigOfTable,
};
use crate::runtime::{LoaderImpl, RuntimeShare};
use crate::stats::Scope;
use crate::{message, stats_struct};

message! {
    /// What is said of all requests, and what a route says instead.
    #[derive(Eq)]
    pub struct CsrfPolicy = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy" {
        /// How many requests are refused; has to be there.
        pub filter_enabled: Option<RuntimeFractionalPercent>,
        /// How many of the others are counted; absent for none.
        pub shadow_enabled: Option<RuntimeFractionalPercent>,
        /// Pages from such places may ask, too.
        pub additional_origins: Vec<StringMatcher>,
    }
}

const MESSAGE: &[&str] = &["envoy.extensions.filters.http.csrf.v3.CsrfPolicy"];

/// The csrf filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory =
    NamedHttpFilterConfigFactory::new("envoy.filters.http.csrf", MESSAGE, |r| {
        Ok(Arc::new(CsrfPolicy::read(r)?))
    })
    .per_route(MESSAGE, |r| Ok(OfTable::of(CsrfPolicy::read(r)?)));

stats_struct! {
    /// `http.<stat_prefix>.csrf.`
    struct CsrfStats {
        counters: [missing_source_origin, request_invalid, request_valid],
        gauges: [],
        histograms: [],
    }
}

/// A policy that goes by the runtime.
#[derive(Debug, Clone)]
struct Policy {
    filter_enabled: Option<Arc<RuntimeShare>>,
    shadow_enabled: Option<Arc<RuntimeShare>>,
    additional_origins: Arc<[StringMatcher]>,
}

impl Policy {
    fn new(config: &CsrfPolicy, runtime: &LoaderImpl) -> Self {
        let share = |share: &Option<RuntimeFractionalPercent>| {
            let share = share.as_ref()?;
            Some(RuntimeShare::new(&share.runtime_key, share.default_value, Some(runtime)))
        };
        Policy {
            filter_enabled: share(&config.filter_enabled),
            shadow_enabled: share(&config.shadow_enabled),
            additional_origins: config.additional_origins.as_slice().into(),
        }
    }

    fn enabled(&self) -> bool {
        self.filter_enabled.as_ref().is_some_and(|share| share.is_in(fastrand::u64(..)))
    }

    fn shadow_enabled(&self) -> bool {
        self.shadow_enabled.as_ref().is_some_and(|share| share.is_in(fastrand::u64(..)))
    }

    fn is_valid(&self, source: &[u8], headers: &HeaderMap) -> bool {
        let target = headers.get(HeaderId::Authority).map(|host| {
            let scheme = headers.get(HeaderId::Scheme).unwrap_or(b"http");
            [scheme, b"://", host].concat()
        });
        target.is_some_and(|target| host_and_port(&target) == source)
            || self.additional_origins.iter().any(|origin| match_string(source, origin))
    }
}

impl RouteSpecificFilterConfigOfTable for CsrfPolicy {
    fn create(
        &self,
        context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
        Ok(Arc::new(Policy::new(self, context.runtime)))
    }
}

impl HttpFilterConfig for CsrfPolicy {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        Ok(Arc::new(CsrfFilterConfig {
            name: name.into(),
            policy: Policy::new(self, &context.server.runtime),
            stats: CsrfStats::new(&scope.create_scope("csrf.")),
        }))
    }
}

/// What all requests of a connection manager share.
#[derive(Clone)]
struct CsrfFilterConfig {
    name: Arc<str>,
    policy: Policy,
    stats: CsrfStats,
}

impl FilterFactory for CsrfFilterConfig {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Rc::new(self.clone());
        Box::new(move |callbacks| {
            let filter = CsrfFilter { config: config.clone(), callbacks: OnceCell::new() };
            callbacks.add_stream_decoder_filter(Rc::new(filter));
        })
    }
}

/// See the module's description.
struct CsrfFilter {
    config: Rc<CsrfFilterConfig>,
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
}

impl CsrfFilter {
    /// Whether a request may go on.
    fn check(&self, policy: &Policy, headers: &HeaderMap) -> bool {
        let changes = [&b"POST"[..], b"PUT", b"DELETE", b"PATCH"];
        if !policy.enabled() && !policy.shadow_enabled()
            || !headers.get(HeaderId::Method).is_some_and(|method| changes.contains(&method))
        {
            return true;
        }
        let stats = &self.config.stats;
        match source_origin(headers) {
            Some(source) if policy.is_valid(source, headers) => {
                stats.request_valid.inc();
                return true;
            }
            Some(_) => stats.request_invalid.inc(),
            None => stats.missing_source_origin.inc(),
        }
        policy.shadow_enabled() && !policy.enabled()
    }
}

/// What is no URL stands for itself.
fn host_and_port(absolute_url: &[u8]) -> &[u8] {
    url::split_absolute(absolute_url).map_or(absolute_url, |(host_and_port, _)| host_and_port)
}

/// Where the page is from: as it says itself, or else by where it is. One that will not say is from nowhere.
fn source_origin(headers: &HeaderMap) -> Option<&[u8]> {
    let of = |id| headers.get(id).filter(|value| !value.is_empty());
    match of(HeaderId::Origin) {
        Some(b"null") => None,
        origin => origin.or_else(|| of(HeaderId::Referer)).map(host_and_port),
    }
}

impl StreamDecoderFilter for CsrfFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.callbacks.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        let of_route = route.as_ref().and_then(|route| route.most_specific_filter_config(&self.config.name));
        let goes_on = self.check(of_route.unwrap_or(&self.config.policy), &headers.borrow());
        if goes_on {
            return FilterHeadersStatus::Continue;
        }
        callbacks.send_local_reply(403, "Invalid origin", None, "csrf_origin_mismatch".into());
        FilterHeadersStatus::StopIteration
    }
}
