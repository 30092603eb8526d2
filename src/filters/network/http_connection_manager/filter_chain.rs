//! The filters of streams, of all but those that are upgrades, or of one kind of upgrade.
//!
//! Mirrors `HttpConnectionManagerConfig::processFilter` of Envoy's
//! `source/extensions/filters/network/http_connection_manager/config.cc`, with what 1.40's `FilterChainHelper` added: a filter
//! may be turned off for all streams but those of some routes, or the other way round.

use std::sync::Arc;

use crate::config::ConfigError;
use crate::envoy_log;
use crate::filters::FactoryContext;
use crate::filters::http::{
    FilterChainFactoryCallbacks, FilterFactory, FilterFactoryCb, HttpFilter, HttpFilterConfig,
};
use crate::router::Route;
use crate::stats::Scope;

/// In order; `T` is what adds a filter, as a worker, or as all of them have it.
pub(super) struct FilterChain<T> {
    filters: Vec<T>,
    /// Of all of them.
    names: Arc<[Name]>,
    is_whole: bool,
}

struct Name {
    name: String,
    disabled: bool,
}

impl<T> FilterChain<T> {
    /// The same, of other makers.
    pub fn map<U>(&self, make: impl Fn(&T) -> U) -> FilterChain<U> {
        FilterChain {
            filters: self.filters.iter().map(make).collect(),
            names: self.names.clone(),
            is_whole: self.is_whole,
        }
    }

    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether streams have all of them, if their route does not say otherwise.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Those that streams of `route` have.
    pub fn enabled(&self, route: Option<&Route>) -> impl Iterator<Item = &T> {
        let is_enabled = move |of: &Name| {
            let of_route = route.and_then(|route| route.filter_disabled(&of.name));
            !of_route.unwrap_or(of.disabled)
        };
        self.filters.iter().zip(&*self.names).filter(move |(_, of)| is_enabled(of)).map(|(filter, _)| filter)
    }
}

impl FilterChain<FilterFactoryCb> {
    /// Adds all filters to a stream.
    pub fn create(&self, callbacks: &dyn FilterChainFactoryCallbacks) {
        self.filters.iter().for_each(|create| create(callbacks));
    }
}

/// Has the filters make what gives streams theirs.
///
/// # Errors
/// What one of them asks for and cannot be had.
pub(super) fn process_filters(
    filters: &[HttpFilter],
    scope: &Scope,
    context: &FactoryContext<'_>,
) -> Result<FilterChain<Arc<dyn FilterFactory>>, ConfigError> {
    let (mut factories, mut names) = (Vec::new(), Vec::new());
    for (i, filter) in filters.iter().enumerate() {
        if let Some(factory) = process_filter(i, filter, scope, context)? {
            factories.push(factory);
            names.push(Name { name: filter.name.clone(), disabled: filter.disabled });
        }
    }
    let is_whole = !names.iter().any(|of| of.disabled);
    Ok(FilterChain { filters: factories, names: names.into(), is_whole })
}

fn process_filter(
    index: usize,
    filter: &HttpFilter,
    scope: &Scope,
    context: &FactoryContext<'_>,
) -> Result<Option<Arc<dyn FilterFactory>>, ConfigError> {
    if context.is_logged {
        envoy_log!(Config, debug, "    http filter #{}", index);
        envoy_log!(Config, debug, "      name: {}", filter.name);
    }
    let Some(config) = &filter.typed_config else {
        if context.is_logged {
            let name = &filter.name;
            envoy_log!(
                Config,
                warn,
                "Didn't find a registered factory for the optional http filter {}",
                name
            );
        }
        return Ok(None);
    };
    let factory = config
        .get::<dyn HttpFilterConfig>()
        .and_then(|config| config.create_filter_factory(&filter.name, scope, context));
    factory.map(Some).map_err(|error| error.within("typed_config").within(&format!("[{index}]")))
}
