//! The predicates of Envoy 1.40; 1.1 has none.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{InternalRedirectPredicate, InternalRedirectPredicateFactory, Target};
use crate::config::reader::FromMessage;
use crate::message;
use crate::stream_info::{FilterState, Object};

/// To routes of these names alone.
pub static ALLOW_LISTED_ROUTES: InternalRedirectPredicateFactory = InternalRedirectPredicateFactory::new(
    "envoy.internal_redirect_predicates.allow_listed_routes",
    &["envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig"],
    |r| Ok(Arc::new(AllowListedRoutesConfig::read(r)?)),
);

/// Not to a route that the request was sent to from the same route before.
pub static PREVIOUS_ROUTES: InternalRedirectPredicateFactory = InternalRedirectPredicateFactory::new(
    "envoy.internal_redirect_predicates.previous_routes",
    &["envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig"],
    |_| Ok(Arc::new(PreviousRoutesPredicate)),
);

/// Not to a secure place for a client whose connection is not.
pub static SAFE_CROSS_SCHEME: InternalRedirectPredicateFactory = InternalRedirectPredicateFactory::new(
    "envoy.internal_redirect_predicates.safe_cross_scheme",
    &["envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig"],
    |_| Ok(Arc::new(SafeCrossSchemePredicate)),
);

message! {
    /// To which routes.
    pub struct AllowListedRoutesConfig = "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig" {
        /// Their names.
        pub allowed_route_names: Vec<String>,
    }
}

impl InternalRedirectPredicate for AllowListedRoutesConfig {
    fn accept_target_route(&self, target: &Target<'_>, _: &FilterState) -> bool {
        self.allowed_route_names.iter().any(|name| name == target.route)
    }
}

#[derive(Debug)]
struct SafeCrossSchemePredicate;

impl InternalRedirectPredicate for SafeCrossSchemePredicate {
    fn accept_target_route(&self, target: &Target<'_>, _: &FilterState) -> bool {
        target.downstream_is_https || !target.is_https
    }
}

#[derive(Debug)]
struct PreviousRoutesPredicate;

/// Where a request was sent from one route.
#[derive(Default)]
struct PreviousRoutesPredicateState(RefCell<Vec<Box<str>>>);

impl Object for PreviousRoutesPredicateState {}

impl InternalRedirectPredicate for PreviousRoutesPredicate {
    fn accept_target_route(&self, target: &Target<'_>, state: &FilterState) -> bool {
        let name =
            format!("envoy.internal_redirect.previous_routes_predicate_state.{}", target.current_route);
        let previous: Rc<PreviousRoutesPredicateState> = state.of_request(&name);
        let mut previous = previous.0.borrow_mut();
        let is_new = previous.iter().all(|route| **route != *target.route);
        if is_new {
            previous.push(target.route.into());
        }
        is_new
    }
}
