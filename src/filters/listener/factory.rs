//! How a listener filter comes from its configuration.
//!
//! Mirrors `NamedListenerFilterConfigFactory` of Envoy's `include/envoy/server/filter_config.h`.

use std::any::Any;
use std::fmt::Debug;

use crate::config::ConfigError;
use crate::config::extension::Factory;
use crate::filters::FactoryContext;
use crate::network::ListenerFilterFactory;

/// The configuration of a listener filter.
pub trait ListenerFilterConfig: Any + Debug + Send + Sync {
    /// Makes what gives accepted sockets their filters, once for a listener.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the configuration.
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError>;
}

/// Reads the configuration of a listener filter.
pub type NamedListenerFilterConfigFactory = Factory<dyn ListenerFilterConfig>;
