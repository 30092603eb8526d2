//! What routes say to HTTP filters.
//!
//! Mirrors `PerFilterConfigs` of Envoy's `source/common/router/config_impl.h`, with what 1.40 added: filters that streams of
//! a route are made without, or with where they are made without otherwise. A route knows what its virtual host and its table
//! say as well, so that a request asks in one place.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::config::extension::{Factory, TypedConfig};
use crate::config::route::PerFilterConfig;
use crate::envoy_log;
use crate::runtime::LoaderImpl;
use crate::stats::Store;

/// What one level of a route table says to a filter; only the filter knows what it is.
pub trait RouteSpecificFilterConfig: Any + Debug + Send + Sync {}

impl<T: Any + Debug + Send + Sync> RouteSpecificFilterConfig for T {}

/// What a route table is built with.
#[derive(Clone, Copy)]
pub struct RouteFactoryContext<'a> {
    /// Settings that may change.
    pub runtime: &'a LoaderImpl,
    /// All statistics.
    pub stats: &'a Arc<Store>,
    /// The local cluster's name.
    pub service_cluster: &'a str,
}

/// What becomes of a configuration of a route where its table is built: for one that goes by the runtime, or has
/// statistics of its own. A filter reads it as [`OfTable`].
pub trait RouteSpecificFilterConfigOfTable: Any + Debug + Send + Sync {
    /// What the filter finds.
    ///
    /// # Errors
    /// What cannot be had.
    fn create(
        &self,
        context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError>;
}

/// A configuration that is not yet what the filter finds.
#[derive(Debug)]
pub struct OfTable(Box<dyn RouteSpecificFilterConfigOfTable>);

impl OfTable {
    /// As a route's configuration is read.
    pub fn of(config: impl RouteSpecificFilterConfigOfTable) -> Arc<dyn RouteSpecificFilterConfig> {
        Arc::new(OfTable(Box::new(config)))
    }
}

/// Reads what routes say to a filter.
pub type RouteSpecificFilterConfigFactory = Factory<dyn RouteSpecificFilterConfig>;

/// What all levels say to all filters, from the table down to the route.
#[derive(Debug, Clone, Default)]
pub struct PerFilterConfigs(Vec<(String, FilterConfig)>);

/// What one level says to one filter.
#[derive(Debug, Clone)]
struct FilterConfig {
    disabled: bool,
    config: Option<Arc<dyn RouteSpecificFilterConfig>>,
}

impl PerFilterConfigs {
    /// With what a level further down says.
    ///
    /// # Errors
    /// One of `configs` was not read for a route.
    pub(super) fn with(
        &self,
        configs: &PerFilterConfig,
        context: Option<RouteFactoryContext<'_>>,
    ) -> Result<Self, ConfigError> {
        let mut all = self.clone();
        for (name, said) in &configs.0 {
            if let Some(type_name) = &said.left_out {
                log_left_out(name, type_name);
            }
            let within = |error: ConfigError| error.within(&format!("typed_per_filter_config[{name:?}]"));
            let create = |config| create(config, context).map_err(within);
            let config = said.config.as_ref().map(create).transpose()?;
            all.0.push((name.clone(), FilterConfig { disabled: said.disabled, config }));
        }
        Ok(all)
    }

    fn to_filter(&self, name: &str) -> impl DoubleEndedIterator<Item = &FilterConfig> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, said)| said)
    }

    /// What is said to the filter called `name`, the most specific last.
    pub(super) fn all<T: Any>(&self, name: &str) -> impl DoubleEndedIterator<Item = &T> {
        self.to_filter(name).filter_map(|said| (&**said.config.as_ref()? as &dyn Any).downcast_ref())
    }

    /// Whether streams are made without the filter called `name`; `None` where nothing is said to it.
    pub(super) fn disabled(&self, name: &str) -> Option<bool> {
        self.to_filter(name).next_back().map(|said| said.disabled)
    }

    /// Whether streams are made without any filter that they have otherwise.
    pub(super) fn disables_any(&self) -> bool {
        self.0.iter().any(|(_, said)| said.disabled)
    }
}

fn create(
    config: &TypedConfig,
    context: Option<RouteFactoryContext<'_>>,
) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
    let config = config.get::<dyn RouteSpecificFilterConfig>()?;
    let of_table = (&**config as &dyn Any).downcast_ref::<OfTable>().zip(context);
    of_table.map_or_else(|| Ok(config.clone()), |(of_table, context)| of_table.0.create(context))
}

fn log_left_out(name: &str, type_name: &str) {
    envoy_log!(
        Http,
        warn,
        "Can't find a registered implementation for http filter '{}' with type URL: '{}'",
        name,
        type_name
    );
}
