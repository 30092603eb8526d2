//! What chooses a host is what the cluster provides.
//!
//! Stands where Envoy 1.40 has `cluster_provided` among the load balancing policies.

use std::rc::Rc;
use std::sync::Arc;

use super::{LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory, LoadBalancerParams};
use crate::upstream::WorkerHost;

/// The policy among the extensions.
pub static CLUSTER_PROVIDED: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.cluster_provided",
    &["envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided"],
    |_| Ok(Arc::new(ClusterProvided)),
)
.or_around(|_| Ok(Arc::new(ClusterProvided)));

/// There is nothing more to say.
#[derive(Debug)]
struct ClusterProvided;

impl LoadBalancerConfig for ClusterProvided {
    fn create(&self, _: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        Box::new(Nothing)
    }

    fn is_cluster_provided(&self) -> bool {
        true
    }
}

/// Nobody makes one: the cluster's own is in its place.
struct Nothing;

impl LoadBalancer for Nothing {
    fn choose_host_once(&self, _: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        None
    }
}
