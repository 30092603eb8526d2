//! What the matcher of a virtual host leads to: a route, or some of which the first one counts that is for the request.

use super::Route;
use crate::config::error::ConfigError;
use crate::config::matcher::{ENVIRONMENT_INPUT, HEADER_INPUT, MatchAction, NETWORK_INPUTS};
use crate::config::reader::{FromMessage, MessageReader, unknown_type};

/// One or several routes.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchedRoutes(pub Vec<Route>);

const ROUTE: &str = "envoy.config.route.v3.Route";
const ROUTE_LIST: &str = "envoy.config.route.v3.RouteList";

impl MatchAction for MatchedRoutes {
    const OTHER_INPUT: &str = "Route table can only match on request headers, saw ";

    fn takes_input(type_name: &str) -> bool {
        matches!(type_name, HEADER_INPUT | ENVIRONMENT_INPUT)
            || type_name.strip_prefix(NETWORK_INPUTS) == Some("FilterStateInput")
    }

    fn read(type_name: &str, r: MessageReader<'_>) -> Result<Self, ConfigError> {
        let routes = r.read_with(|r| match type_name {
            ROUTE => Ok(vec![Route::read(r)?]),
            ROUTE_LIST => r.messages("routes"),
            _ => Err(unknown_type(r, type_name, &[ROUTE, ROUTE_LIST])),
        });
        routes.map(MatchedRoutes)
    }
}
