//! How a network filter comes from its configuration.
//!
//! Mirrors `NamedNetworkFilterConfigFactory` of Envoy's `include/envoy/server/filter_config.h`.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::config::extension::Factory;
use crate::config::{ConfigError, Filter, TypedConfig};
use crate::filters::FactoryContext;
use crate::network::NetworkFilterFactory;

/// The configuration of a network filter.
pub trait NetworkFilterConfig: Any + Debug + Send + Sync {
    /// Makes what gives connections their filters, once for a filter chain.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the configuration.
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn NetworkFilterFactory>, ConfigError>;
}

impl Filter {
    /// A filter as if it had been read, by an extension of this name.
    pub fn of(name: &'static str, config: impl NetworkFilterConfig) -> Self {
        let config: Arc<dyn NetworkFilterConfig> = Arc::new(config);
        Filter { name: name.to_string(), typed_config: TypedConfig::new(name, config) }
    }
}

/// Reads the configuration of a network filter.
pub type NamedNetworkFilterConfigFactory = Factory<dyn NetworkFilterConfig>;
