//! What routes say to HTTP filters.
//!
//! Mirrors `PerFilterConfigs` of Envoy's `source/common/router/config_impl.h`. A route knows what its virtual host and
//! its table say as well, so that a request asks in one place.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::config::extension::{Factory, TypedConfig};

/// What one level of a route table says to a filter; only the filter knows what it is.
pub trait RouteSpecificFilterConfig: Any + Debug + Send + Sync {}

impl<T: Any + Debug + Send + Sync> RouteSpecificFilterConfig for T {}

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
    pub(super) fn with(&self, configs: &[(String, TypedConfig)]) -> Result<Self, ConfigError> {
        let mut all = self.clone();
        for (name, config) in configs {
            all.0.push((name.clone(), config.get::<dyn RouteSpecificFilterConfig>()?.clone()));
        }
        Ok(all)
    }

    /// What is said to the filter called `name`, the most specific last.
    pub(super) fn all<T: Any>(&self, name: &str) -> impl DoubleEndedIterator<Item = &T> {
        let to_filter = self.0.iter().filter(move |(key, _)| key == name);
        to_filter.filter_map(|(_, config)| (&**config as &dyn Any).downcast_ref())
    }
}
