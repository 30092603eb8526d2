//! Redirects that are followed here: `InternalRedirectPolicy` of `envoy.config.route.v3`.

use super::header_rules::is_modifiable;
use crate::config::error::ConfigError;
use crate::config::extension::{Category, TypedConfig};
use crate::config::reader::MessageReader;
use crate::message;

message! {
    /// Which redirects of an upstream are not passed on to the client.
    pub struct InternalRedirectPolicy = "envoy.config.route.v3.InternalRedirectPolicy", checked by check_copied {
        /// How many of one request.
        pub max_internal_redirects: u32 = 1,
        /// With which status; none is 302, and what does not redirect counts for nothing.
        pub redirect_response_codes: Vec<u32>,
        /// Which have to agree.
        pub predicates: Vec<InternalRedirectPredicate>,
        /// Also to another scheme.
        pub allow_cross_scheme_redirect: bool,
        /// Headers of the answer that the new request has.
        pub response_headers_to_copy: Vec<String>,
    }
}

message! {
    /// Says whether a redirect may be followed.
    pub message InternalRedirectPredicate = "envoy.config.core.v3.TypedExtensionConfig" {
        /// For people.
        pub name: String,
        /// When.
        pub config: TypedConfig => read_predicate,
    }
}

fn read_predicate(r: &mut MessageReader<'_>, _: &str) -> Result<TypedConfig, ConfigError> {
    r.typed_config("typed_config", Category::InternalRedirectPredicates)
}

fn check_copied(r: &MessageReader<'_>, policy: &InternalRedirectPolicy) {
    for (i, name) in policy.response_headers_to_copy.iter().enumerate() {
        if !is_modifiable(name) {
            let message = ":-prefixed headers or Hosts may not be specified here.";
            r.refuse(&format!("response_headers_to_copy[{i}]"), message);
        }
    }
}
