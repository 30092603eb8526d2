//! Which pages may ask, as the cors filter is told it: `CorsPolicy` of `envoy.config.route.v3`, and the filter's own message,
//! which has the same fields.

use crate::config::core::RuntimeFractionalPercent;
use crate::config::header_matcher::StringMatcher;
use crate::message;

message! {
    /// Which pages may ask.
    #[derive(Eq)]
    pub struct CorsPolicy = "envoy.config.route.v3.CorsPolicy" or "envoy.extensions.filters.http.cors.v3.CorsPolicy" {
        /// Pages from such places may ask.
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
        /// How many requests it holds for; absent for all.
        pub filter_enabled: Option<RuntimeFractionalPercent>,
        /// How many of the others are counted; absent for none.
        pub shadow_enabled: Option<RuntimeFractionalPercent>,
        /// Whether pages from outside may ask what is inside.
        pub allow_private_network_access: Option<bool>,
        /// Whether a preflight goes on where the page may not ask; absent for yes.
        pub forward_not_matching_preflights: Option<bool>,
    }
}
