//! [`Route`]: what streams tell of their routes.
//!
//! Mirrors those parts of `Router::Route` in Envoy's `include/envoy/router/router.h` that logs ask for. The router, which is
//! built on streams' records, has the routes.

use serde_json::{Map, Value};

/// A route, to those who tell of it.
pub trait Route {
    /// Its name; may be empty.
    fn route_name(&self) -> &str;
    /// That of its virtual host.
    fn virtual_host_name(&self) -> &str;
    /// What is said of it, by names of filters.
    fn metadata(&self) -> Option<&Map<String, Value>> {
        None
    }
    /// What is said of its virtual host.
    fn virtual_host_metadata(&self) -> Option<&Map<String, Value>> {
        None
    }
}
