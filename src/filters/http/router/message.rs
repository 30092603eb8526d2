//! `envoy.extensions.filters.http.router.v3`.

use std::time::Duration;

use crate::config::AccessLog;
use crate::message;

message! {
    /// What there is to be said of the router.
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
        /// Told of each try.
        pub upstream_log: Vec<AccessLog>,
        /// When they are told of one that has not ended.
        pub upstream_log_options: UpstreamAccessLogOptions,
    }
}

message! {
    /// When tries that have not ended are logged.
    #[derive(Eq)]
    pub struct UpstreamAccessLogOptions = "envoy.extensions.filters.http.router.v3.Router.UpstreamAccessLogOptions" {
        /// When they have got their connection.
        pub flush_upstream_log_on_upstream_stream: bool,
        /// Each time that so much time has passed since then.
        pub upstream_log_flush_interval: Option<Duration>,
    }
}
