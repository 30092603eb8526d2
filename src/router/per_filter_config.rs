//! What routes say to HTTP filters.
//!
//! Mirrors `PerFilterConfigs` of Envoy's `source/common/router/config_impl.h`. A route knows what its virtual host and
//! its table say as well, so that a request asks in one place.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::config::extension::{Factory, TypedConfig};
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
pub struct PerFilterConfigs(Vec<(String, Arc<dyn RouteSpecificFilterConfig>)>);

impl PerFilterConfigs {
    /// With what a level further down says.
    ///
    /// # Errors
    /// One of `configs` was not read for a route.
    pub(super) fn with(
        &self,
        configs: &[(String, TypedConfig)],
        context: Option<RouteFactoryContext<'_>>,
    ) -> Result<Self, ConfigError> {
        let mut all = self.clone();
        for (name, config) in configs {
            let config = config.get::<dyn RouteSpecificFilterConfig>()?;
            let of_table = (&**config as &dyn Any).downcast_ref::<OfTable>().zip(context);
            let config = match of_table {
                Some((config, context)) => config
                    .0
                    .create(context)
                    .map_err(|error| error.within(&format!("typed_per_filter_config[{name:?}]")))?,
                None => config.clone(),
            };
            all.0.push((name.clone(), config));
        }
        Ok(all)
    }

    /// What is said to the filter called `name`, the most specific last.
    pub(super) fn all<T: Any>(&self, name: &str) -> impl DoubleEndedIterator<Item = &T> {
        let to_filter = self.0.iter().filter(move |(key, _)| key == name);
        to_filter.filter_map(|(_, config)| (&**config as &dyn Any).downcast_ref())
    }
}
