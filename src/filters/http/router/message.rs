//! `envoy.extensions.filters.http.router.v3`.

use crate::message;

message! {
    /// What there is to be said of the router.
    #[derive(Eq)]
    pub struct RouterConfig = "envoy.extensions.filters.http.router.v3.Router" {
        /// Keep dynamic cluster stats; default true.
        pub dynamic_stats: bool = true,
        /// Start a span per upstream request; default false.
        pub start_child_span: bool,
        /// Add no `x-envoy-*` headers; default false.
        pub suppress_envoy_headers: bool,
        /// Trust the expected timeout of another Envoy in front; default false.
        pub respect_expected_rq_timeout: bool,
        /// Names of headers that have to be right where they are there.
        pub strict_check_headers: Vec<String>,
    }
}
