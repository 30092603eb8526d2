//! No canaries. Mirrors Envoy's `source/extensions/retry/host/omit_canary_hosts/omit_canary_hosts.h`, which 1.1 has not yet.

use std::sync::Arc;

use super::{RetryHostPredicate, RetryHostPredicateConfig, RetryHostPredicateFactory};
use crate::upstream::HostImpl;

/// The predicate among the extensions.
pub static OMIT_CANARY_HOSTS: RetryHostPredicateFactory = RetryHostPredicateFactory::new(
    "envoy.retry_host_predicates.omit_canary_hosts",
    &["envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"],
    |_| Ok(Arc::new(OmitCanaryHosts)),
);

#[derive(Debug)]
struct OmitCanaryHosts;

impl RetryHostPredicateConfig for OmitCanaryHosts {
    fn create_host_predicate(&self) -> Box<dyn RetryHostPredicate> {
        Box::new(OmitCanaryHostsRetryPredicate)
    }
}

/// See the module's description.
struct OmitCanaryHostsRetryPredicate;

impl RetryHostPredicate for OmitCanaryHostsRetryPredicate {
    fn should_select_another_host(&self, host: &HostImpl) -> bool {
        host.canary()
    }
}
