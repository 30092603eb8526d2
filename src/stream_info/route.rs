//! [`Route`]: what streams tell of their routes.
//!
//! Mirrors those parts of `Router::Route` in Envoy's `include/envoy/router/router.h` that logs ask for. The router, which is
//! built on streams' records, has the routes.

/// A route, to those who tell of it.
pub trait Route {
    /// Its name; may be empty.
    fn route_name(&self) -> &str;
    /// That of its virtual host.
    fn virtual_host_name(&self) -> &str;
}
