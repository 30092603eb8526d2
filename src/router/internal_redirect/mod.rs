//! Which redirects of an upstream are followed here.
//!
//! Mirrors `InternalRedirectPolicyImpl` of Envoy 1.40's `source/common/router/config_impl.cc`; 1.1 has one switch in its place
//! (`RouteEntry::internalRedirectAction`).

mod predicates;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

pub use predicates::{ALLOW_LISTED_ROUTES, PREVIOUS_ROUTES, SAFE_CROSS_SCHEME};

use crate::config::ConfigError;
use crate::config::extension::Factory;
use crate::config::route::InternalRedirectPolicy;
use crate::http::HeaderName;
use crate::stream_info::FilterState;

/// Where a request would go.
pub struct Target<'a> {
    /// The name of the route that it has had.
    pub current_route: &'a str,
    /// The name of the route that it would have.
    pub route: &'a str,
    /// The client's connection is secure.
    pub downstream_is_https: bool,
    /// The redirect is to a secure place.
    pub is_https: bool,
}

/// Says whether a redirect may be followed.
pub trait InternalRedirectPredicate: Any + Debug + Send + Sync {
    /// Whether this one may; `state` is the request's, and stays with it.
    fn accept_target_route(&self, target: &Target<'_>, state: &FilterState) -> bool;
}

/// Reads the configuration of a predicate.
pub type InternalRedirectPredicateFactory = Factory<dyn InternalRedirectPredicate>;

/// See the module's description.
#[derive(Debug)]
pub struct InternalRedirectPolicyImpl {
    codes: Box<[u16]>,
    /// How many of one request.
    pub max_internal_redirects: u32,
    /// Also to another scheme.
    pub allow_cross_scheme_redirect: bool,
    /// Headers of the answer that the new request has.
    pub response_headers_to_copy: Box<[HeaderName]>,
    /// Which have to agree.
    pub predicates: Box<[Arc<dyn InternalRedirectPredicate>]>,
}

impl InternalRedirectPolicyImpl {
    /// As a configuration has it.
    ///
    /// # Errors
    /// A predicate that is none, which one that was read never is.
    pub fn new(config: &InternalRedirectPolicy) -> Result<Self, ConfigError> {
        let predicates = config.predicates.iter().map(|predicate| predicate.config.get().cloned());
        let codes = match config.redirect_response_codes.as_slice() {
            [] => &[302],
            codes => codes,
        };
        Ok(InternalRedirectPolicyImpl {
            codes: [301, 302, 303, 307, 308]
                .into_iter()
                .filter(|code| codes.contains(&u32::from(*code)))
                .collect(),
            max_internal_redirects: config.max_internal_redirects,
            allow_cross_scheme_redirect: config.allow_cross_scheme_redirect,
            response_headers_to_copy: (config.response_headers_to_copy.iter())
                .map(|name| HeaderName::new(name))
                .collect(),
            predicates: predicates.collect::<Result<_, _>>()?,
        })
    }

    /// Whether answers with this status are looked at.
    pub fn should_redirect_for_response_code(&self, status: u16) -> bool {
        self.codes.contains(&status)
    }
}
