//! How an HTTP filter comes from its configuration.
//!
//! Mirrors `NamedHttpFilterConfigFactory` of Envoy's `include/envoy/server/filter_config.h`.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::FilterFactory;
use crate::config::ConfigError;
use crate::config::extension::{Category, Factory, ReadConfig, TypedConfig, TypedFactory};
use crate::config::reader::MessageReader;
use crate::filters::FactoryContext;
use crate::message;
use crate::router::{RouteSpecificFilterConfig, RouteSpecificFilterConfigFactory};
use crate::stats::Scope;

/// The configuration of an HTTP filter.
pub trait HttpFilterConfig: Any + Debug + Send + Sync {
    /// Makes what gives streams their filter, once for a connection manager, whose statistics go to `scope`. `name` is
    /// the filter's in the list: a route's own configuration for it stands under that.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the configuration.
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError>;
}

message! {
    /// An HTTP filter.
    pub message HttpFilter = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" {
        /// Never empty.
        pub name: String,
        /// Streams are made without it, unless their route says something to it.
        pub disabled: bool,
        /// A proxy that does not have it goes without.
        pub is_optional: bool,
        /// What it is; `None` where it is not there, and need not be.
        pub typed_config: Option<TypedConfig> => read_http_filter,
    }
}

fn read_http_filter(r: &mut MessageReader<'_>, name: &str) -> Result<Option<TypedConfig>, ConfigError> {
    let is_optional = r.bool("is_optional")?;
    if is_optional && !r.has(name) {
        return Ok(None);
    }
    let (type_name, config) = r.any(name)?;
    if is_optional && config.is_left_out(type_name, Category::HttpFilters) {
        return Ok(None);
    }
    config.read_any(type_name, Category::HttpFilters).map(Some)
}

impl HttpFilter {
    /// A filter as if it had been read, by an extension of this name.
    pub fn of(name: &'static str, config: impl HttpFilterConfig) -> Self {
        let config: Arc<dyn HttpFilterConfig> = Arc::new(config);
        HttpFilter {
            name: name.to_string(),
            disabled: false,
            is_optional: false,
            typed_config: Some(TypedConfig::new(name, config)),
        }
    }
}

/// Reads the configuration of an HTTP filter, and what routes say to it.
pub struct NamedHttpFilterConfigFactory {
    filter: Factory<dyn HttpFilterConfig>,
    route: Option<RouteSpecificFilterConfigFactory>,
}

impl NamedHttpFilterConfigFactory {
    /// A filter under Envoy's name for it, which reads messages of these types.
    pub const fn new(
        name: &'static str,
        config_types: &'static [&'static str],
        read: ReadConfig<dyn HttpFilterConfig>,
    ) -> Self {
        NamedHttpFilterConfigFactory { filter: Factory::new(name, config_types, read), route: None }
    }

    /// A filter that routes, too, have something to say to, in messages of these types.
    pub const fn per_route(
        self,
        config_types: &'static [&'static str],
        read: ReadConfig<dyn RouteSpecificFilterConfig>,
    ) -> Self {
        let route = Some(Factory::new(self.filter.extension_name(), config_types, read));
        NamedHttpFilterConfigFactory { filter: self.filter, route }
    }

    /// Reads what routes say to it.
    pub fn route_factory(&self) -> Option<&RouteSpecificFilterConfigFactory> {
        self.route.as_ref()
    }

    /// A filter that answers every request.
    pub const fn terminal(self) -> Self {
        NamedHttpFilterConfigFactory { filter: self.filter.terminal(), route: self.route }
    }
}

impl TypedFactory for NamedHttpFilterConfigFactory {
    fn name(&self) -> &'static str {
        self.filter.name()
    }

    fn config_types(&self) -> &'static [&'static str] {
        self.filter.config_types()
    }

    fn is_terminal(&self) -> bool {
        self.filter.is_terminal()
    }

    fn read(&self, r: &mut MessageReader<'_>) -> Result<TypedConfig, ConfigError> {
        self.filter.read(r)
    }
}
