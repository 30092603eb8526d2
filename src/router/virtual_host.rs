//! A virtual host: its routes, tried in order.

use super::route::{RouteConstSharedPtr, RouteImpl};
use crate::config;
use crate::http::HeaderMap;

/// A virtual host of a route configuration.
#[derive(Debug)]
pub struct VirtualHostImpl {
    name: String,
    routes: Vec<RouteConstSharedPtr>,
}

impl VirtualHostImpl {
    /// Builds the routes; `place` is the virtual host's place in the configuration, for errors.
    ///
    /// # Errors
    /// As [`RouteImpl::new`].
    pub fn new(config: &config::VirtualHost, place: &str) -> Result<Self, String> {
        let routes = config
            .routes
            .iter()
            .enumerate()
            .map(|(i, route)| {
                RouteImpl::new(route, config.include_request_attempt_count, &format!("{place}.routes[{i}]"))
                    .map(RouteConstSharedPtr::new)
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
