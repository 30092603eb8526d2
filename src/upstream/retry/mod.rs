//! Which hosts and priorities are not wanted for another try.
//!
//! Mirrors `RetryHostPredicate`, `RetryPriority` and their factories of Envoy's `include/envoy/upstream/retry.h`.

mod omit_canary_hosts;
mod omit_host_metadata;
mod previous_hosts;
mod previous_priorities;

pub use omit_canary_hosts::OMIT_CANARY_HOSTS;
pub use omit_host_metadata::OMIT_HOST_METADATA;
pub use previous_hosts::PREVIOUS_HOSTS;
pub use previous_priorities::PREVIOUS_PRIORITIES;

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;

use super::load_balancer::PriorityLoad;
use super::{HostImpl, PrioritySetImpl, WorkerHost};
use crate::config::extension::Factory;

/// Says of hosts whether they are wanted for the next try of one request.
pub trait RetryHostPredicate {
    /// Whether another host than this one is wanted.
    fn should_select_another_host(&self, host: &HostImpl) -> bool;
    /// This host has been tried.
    fn on_host_attempted(&self, _host: &Rc<WorkerHost>) {}
}

/// What a configuration says of it.
pub trait RetryHostPredicateConfig: Any + Debug + Send + Sync {
    /// Makes the predicate of a request.
    fn create_host_predicate(&self) -> Box<dyn RetryHostPredicate>;
}

/// Reads the configuration of a predicate.
pub type RetryHostPredicateFactory = Factory<dyn RetryHostPredicateConfig>;

/// Says where the next try of one request may go.
pub trait RetryPriority {
    /// Another distribution over the priorities than `original`, if it is to be another.
    fn determine_priority_load(
        &self,
        priority_set: &PrioritySetImpl,
        original: &PriorityLoad,
    ) -> Option<Rc<PriorityLoad>>;
    /// This host has been tried.
    fn on_host_attempted(&self, host: &HostImpl);
}

/// What a configuration says of it.
pub trait RetryPriorityConfig: Any + Debug + Send + Sync {
    /// Makes that of a request.
    fn create_retry_priority(&self) -> Box<dyn RetryPriority>;
}

/// Reads the configuration of one.
pub type RetryPriorityFactory = Factory<dyn RetryPriorityConfig>;
