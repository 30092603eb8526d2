//! The rbac filter: who may do what.
//!
//! Mirrors Envoy's `source/extensions/filters/http/rbac/rbac_filter.cc`, with the answers, statistics and metadata of 1.40. Left
//! out: rules by extensions, and those of CEL; without TLS nobody is authenticated.

mod engine;
mod message;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};

use self::engine::Engine;
use self::message::{Rbac, RbacPerRoute};
use super::{
    FilterFactory, FilterFactoryCb, FilterHeadersStatus, HttpFilterConfig, NamedHttpFilterConfigFactory,
    StreamDecoderFilter, StreamDecoderFilterCallbacks,
};
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::router::{
    OfTable, RouteFactoryContext, RouteSpecificFilterConfig, RouteSpecificFilterConfigOfTable,
};
use crate::stats::{Counter, Scope};

/// The rbac filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.rbac",
    &["envoy.extensions.filters.http.rbac.v3.RBAC"],
    |r| Ok(Arc::new(Rbac::read(r)?)),
)
.per_route(&["envoy.extensions.filters.http.rbac.v3.RBACPerRoute"], |r| {
    Ok(OfTable::of(RbacPerRoute::read(r)?))
});

/// Under which the filter leaves what it decided.
const METADATA: &str = "envoy.filters.http.rbac";

/// The rules of the filter, or of a route.
#[derive(Debug, Default)]
struct Engines {
    rules: Option<Engine>,
    shadow_rules: Option<Engine>,
    rules_stat_prefix: String,
    shadow_rules_stat_prefix: String,
    track_per_rule_stats: bool,
}

impl Engines {
    fn new(config: &Rbac) -> Result<Self, ConfigError> {
        Ok(Engines {
            rules: Engine::new(config.rules.as_ref(), config.matcher.as_ref())?,
            shadow_rules: Engine::new(config.shadow_rules.as_ref(), config.shadow_matcher.as_ref())?,
            rules_stat_prefix: config.rules_stat_prefix.clone(),
            shadow_rules_stat_prefix: config.shadow_rules_stat_prefix.clone(),
            track_per_rule_stats: config.track_per_rule_stats,
        })
    }
}

impl RouteSpecificFilterConfigOfTable for RbacPerRoute {
    fn create(
        &self,
        _context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
        let engines = self.rbac.as_ref().map(Engines::new).transpose()?;
        Ok(Arc::new(engines.unwrap_or_default()))
    }
}

impl HttpFilterConfig for Rbac {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let scope = scope.create_scope("rbac.");
        let below = |prefix: &str| match prefix.is_empty() || prefix.ends_with('.') {
            true => scope.create_scope(prefix),
            false => scope.create_scope(&format!("{prefix}.")),
        };
        let rules = below(&self.rules_stat_prefix);
        let shadow_rules = below(&self.shadow_rules_stat_prefix);
        Ok(Arc::new(RbacFilterConfig {
            name: name.into(),
            engines: Arc::new(Engines::new(self)?),
            allowed: rules.counter("allowed"),
            denied: rules.counter("denied"),
            shadow_allowed: shadow_rules.counter("shadow_allowed"),
            shadow_denied: shadow_rules.counter("shadow_denied"),
            rules,
            shadow_rules,
        }))
    }
}

/// What all requests of a connection manager share.
#[derive(Clone)]
struct RbacFilterConfig {
    name: Arc<str>,
    engines: Arc<Engines>,
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
    rules: Scope,
    shadow_rules: Scope,
}

/// That as a worker has it.
struct OnWorker {
    config: RbacFilterConfig,
    /// Of policies, those that have counted something, by their names.
    of_policies: RefCell<HashMap<String, Counter>>,
}

impl Deref for OnWorker {
    type Target = RbacFilterConfig;

    fn deref(&self) -> &RbacFilterConfig {
        &self.config
    }
}

impl OnWorker {
    fn count(&self, scope: &Scope, policy: &str, result: &str) {
        let name = format!("policy.{policy}.{result}");
        let mut counters = self.of_policies.borrow_mut();
        counters.entry(name).or_insert_with_key(|name| scope.counter(name)).inc();
    }
}

impl FilterFactory for RbacFilterConfig {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Rc::new(OnWorker { config: self.clone(), of_policies: RefCell::default() });
        Box::new(move |callbacks| {
            let filter = RbacFilter { config: config.clone(), callbacks: OnceCell::new() };
            callbacks.add_stream_decoder_filter(Rc::new(filter));
        })
    }
}

/// See the module's description.
struct RbacFilter {
    config: Rc<OnWorker>,
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
}

/// Leaves what was decided for others.
fn leave(
    callbacks: &StreamDecoderFilterCallbacks,
    prefix: &str,
    kind: &str,
    allowed: bool,
    policy: Option<&str>,
) {
    let mut said = Map::new();
    if let Some(policy) = policy {
        said.insert(format!("{prefix}{kind}_effective_policy_id"), policy.into());
    }
    let result = if allowed { "allowed" } else { "denied" };
    said.insert(format!("{prefix}{kind}_engine_result"), Value::from(result));
    callbacks.stream_info().set_dynamic_metadata(METADATA, said);
}

impl RbacFilter {
    fn shadow(&self, engines: &Engines, callbacks: &StreamDecoderFilterCallbacks, headers: &HeaderMap) {
        let Some(engine) = &engines.shadow_rules else { return };
        let (allowed, policy) = engine.handle_action(headers, callbacks.stream_info(), false);
        let (counter, result) = match allowed {
            true => (&self.config.shadow_allowed, "shadow_allowed"),
            false => (&self.config.shadow_denied, "shadow_denied"),
        };
        counter.inc();
        if let Some(policy) = policy.filter(|_| engines.track_per_rule_stats) {
            self.config.count(&self.config.shadow_rules, policy, result);
        }
        let own = &self.config.engines.shadow_rules_stat_prefix;
        let prefix =
            Some(&engines.shadow_rules_stat_prefix).filter(|prefix| !prefix.is_empty()).unwrap_or(own);
        leave(callbacks, prefix, "shadow", allowed, policy);
    }

    /// The policy by which a request is refused, if it is.
    fn enforce(
        &self,
        engines: &Engines,
        callbacks: &StreamDecoderFilterCallbacks,
        headers: &HeaderMap,
    ) -> Result<(), String> {
        let Some(engine) = &engines.rules else { return Ok(()) };
        let (allowed, policy) = engine.handle_action(headers, callbacks.stream_info(), true);
        let (counter, result) = match allowed {
            true => (&self.config.allowed, "allowed"),
            false => (&self.config.denied, "denied"),
        };
        counter.inc();
        if let Some(policy) = policy.filter(|_| engines.track_per_rule_stats) {
            self.config.count(&self.config.rules, policy, result);
        }
        let own = &self.config.engines.rules_stat_prefix;
        let prefix = Some(&engines.rules_stat_prefix).filter(|prefix| !prefix.is_empty()).unwrap_or(own);
        leave(callbacks, prefix, "enforced", allowed, policy);
        if allowed { Ok(()) } else { Err(policy.unwrap_or("none").to_string()) }
    }
}

impl StreamDecoderFilter for RbacFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.callbacks.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        let of_route = route.as_ref().and_then(|route| route.most_specific_filter_config(&self.config.name));
        let engines = of_route.unwrap_or(&*self.config.engines);
        self.shadow(engines, callbacks, &headers.borrow());
        let refused = self.enforce(engines, callbacks, &headers.borrow());
        let Err(policy) = refused else { return FilterHeadersStatus::Continue };
        let policy: String = policy.chars().map(|c| if c.is_ascii_whitespace() { '_' } else { c }).collect();
        let details = format!("rbac_access_denied_matched_policy[{policy}]");
        callbacks.send_local_reply(403, "RBAC: access denied", None, details.into());
        FilterHeadersStatus::StopIteration
    }
}
