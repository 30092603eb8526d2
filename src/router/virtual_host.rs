//! A virtual host: its routes, tried in order.

use super::per_filter_config::PerFilterConfigs;
use super::route::RouteImpl;
use crate::config::{self, ConfigError};
use crate::http::HeaderMap;

/// A virtual host of a route configuration.
#[derive(Debug)]
pub struct VirtualHostImpl {
    name: String,
    routes: Vec<RouteImpl>,
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
                    .map_err(|error| error.within(&format!("routes[{i}]")))
            })
            .collect::<Result<_, _>>()?;
        Ok(VirtualHostImpl { name: config.name.clone(), routes })
    }

    /// The virtual host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its routes, in order.
    pub fn routes(&self) -> &[RouteImpl] {
        &self.routes
    }

    /// The place of the first route that takes this request.
    pub fn find_route(&self, headers: &HeaderMap) -> Option<usize> {
        self.routes.iter().position(|route| route.matches(headers))
    }
}
