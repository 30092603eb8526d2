//! Subsets of the hosts, by what their metadata say: a request goes to the one that its route's criteria name.
//!
//! Mirrors Envoy's `source/common/upstream/subset_lb.cc`, with what 1.40 has beside it.

mod balancer;
mod message;
mod subset_entry;
mod subset_tree;

use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};

use self::balancer::SubsetLoadBalancer;
pub use self::message::{FallbackPolicy, SUBSET, SelectorFallback};
use super::{LoadBalancer, LoadBalancerConfig, LoadBalancerParams, ThreadAwareLoadBalancer};
use crate::runtime::SnapshotImpl;
use crate::upstream::ClusterInfoImpl;

/// How hosts are chosen.
#[derive(Debug)]
pub struct SubsetConfig {
    fallback_policy: FallbackPolicy,
    default_subset: Map<String, Value>,
    selectors: Vec<Selector>,
    allow_redundant_keys: bool,
    locality_weight_aware: bool,
    scale_locality_weight: bool,
    panic_mode_any: bool,
    list_as_any: bool,
    /// Whether criteria may say what to try one after the other.
    falls_back_by_list: bool,
    /// How a host of a subset is chosen.
    inner: Arc<dyn LoadBalancerConfig>,
}

/// Keys by which hosts are told apart.
#[derive(Debug, Clone, PartialEq)]
struct Selector {
    /// Sorted.
    keys: Vec<String>,
    single_host_per_subset: bool,
    fallback_policy: SelectorFallback,
    /// Sorted.
    fallback_keys_subset: Arc<[String]>,
}

/// How it is chosen where there is a shared reason to.
#[derive(Debug)]
struct SubsetPolicy(Arc<SubsetConfig>);

impl LoadBalancerConfig for SubsetPolicy {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        Box::new(SubsetLoadBalancer::new(params, self.0.clone()))
    }

    fn thread_aware(&self, _info: &Arc<ClusterInfoImpl>) -> Option<Rc<dyn ThreadAwareLoadBalancer>> {
        None // Each subset has its own, on each worker.
    }

    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.0.inner.on_new_snapshot(snapshot);
    }
}
