//! How a worker chooses a host of a cluster. Mirrors Envoy's `source/common/upstream/load_balancer_impl.*`.
//!
//! Left out: zone aware and locality weighted routing, retries of the choice, and all policies but
//! round robin.

mod base;
mod edf_base;
mod edf_scheduler;
mod priority_load;
mod round_robin;

pub use base::{HostsSource, LoadBalancerBase, SourceType};
pub use edf_base::EdfLoadBalancerBase;
pub use edf_scheduler::EdfScheduler;
pub use priority_load::{HostAvailability, HostCounts, PriorityLoad};
pub use round_robin::RoundRobinLoadBalancer;

use std::rc::Rc;
use std::sync::Arc;

use super::{ClusterInfoImpl, HostSharedPtr, PrioritySetImpl};
use crate::config::cluster::LbPolicy;

/// Chooses hosts; one per cluster and worker.
pub trait LoadBalancer {
    /// The host for the next request; `None` if there is none to choose from.
    fn choose_host(&self) -> Option<HostSharedPtr>;
}

/// The load balancer that the cluster's configuration asks for. It follows `priority_set`, which must
/// belong to the calling thread.
pub fn create_load_balancer(
    priority_set: &Rc<PrioritySetImpl>,
    info: &Arc<ClusterInfoImpl>,
) -> Box<dyn LoadBalancer> {
    match info.lb_policy() {
        LbPolicy::RoundRobin => Box::new(RoundRobinLoadBalancer::new(priority_set, info)),
    }
}
