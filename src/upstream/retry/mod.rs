//! Which hosts are not wanted for another try.
//!
//! Mirrors `RetryHostPredicate` and its factory of Envoy's `include/envoy/upstream/retry.h`.

mod omit_canary_hosts;
mod previous_hosts;

pub use omit_canary_hosts::OMIT_CANARY_HOSTS;
pub use previous_hosts::PREVIOUS_HOSTS;

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;

use super::{HostImpl, WorkerHost};
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
