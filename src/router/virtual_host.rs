//! A virtual host: its routes, tried in order.

use super::per_filter_config::PerFilterConfigs;
use super::route::{RouteConstSharedPtr, RouteImpl};
use crate::config::{self, ConfigError};
use crate::http::HeaderMap;

/// A virtual host of a route configuration.
#[derive(Debug)]
pub struct VirtualHostImpl {
    name: String,
    routes: Vec<RouteConstSharedPtr>,
}

impl VirtualHostImpl {
    /// Builds the routes.
    ///
    /// # Errors
    /// As [`RouteImpl::new`].
    pub(super) fn new(
        config: &config::VirtualHost,
        of_table: &PerFilterConfigs,
    ) -> Result<Self, ConfigError> {
        let of_host = of_table.with(&config.typed_per_filter_config.0)?;
        let routes = config
            .routes
            .iter()
            .enumerate()
            .map(|(i, route)| {
                RouteImpl::new(route, config.include_request_attempt_count, &of_host)
                    .map(RouteConstSharedPtr::new)
                    .map_err(|error| error.within(&format!("routes[{i}]")))
            })
            .collect::<Result<_, _>>()?;
        Ok(VirtualHostImpl { name: config.name.clone(), routes })
    }

    /// The virtual host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first route that takes this request.
    pub fn route(&self, headers: &HeaderMap) -> Option<&RouteConstSharedPtr> {
        self.routes.iter().find(|route| route.matches(headers))
    }
}
