//! `envoy.config.route.v3.CorsPolicy`: which pages may ask, as the cors filter is told it.

use crate::config::core::RuntimeFractionalPercent;
use crate::config::header_matcher::StringMatcher;
use crate::message;

message! {
    /// Which pages may ask.
    #[derive(Eq)]
    pub struct CorsPolicy = "envoy.config.route.v3.CorsPolicy" {
        /// Those from such places.
        pub allow_origin_string_match: Vec<StringMatcher>,
        /// By these methods.
        pub allow_methods: String,
        /// With these headers.
        pub allow_headers: String,
        /// What they may see of answers.
        pub expose_headers: String,
        /// How long they may remember it.
        pub max_age: String,
        /// Whether with cookies.
        pub allow_credentials: Option<bool>,
        /// Whether it holds.
        pub filter_enabled: Option<RuntimeFractionalPercent>,
        /// Whether it is only counted.
        pub shadow_enabled: Option<RuntimeFractionalPercent>,
        /// Whether pages from outside may ask what is inside.
        pub allow_private_network_access: Option<bool>,
        /// Whether a request before the request goes on where the page may not ask.
        pub forward_not_matching_preflights: Option<bool>,
    }
}
