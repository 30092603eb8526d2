//! How a worker chooses a host of a cluster. Mirrors Envoy's `source/common/upstream/load_balancer_impl.*`.
//!
//! Left out: zone aware and locality weighted routing, and all policies but round robin.

mod base;
mod context;
mod edf_base;
mod edf_scheduler;
mod priority_load;
mod round_robin;

pub use base::{HostsSource, LoadBalancerBase, SourceType};
pub use context::{LoadBalancerContext, MetadataMatchCriterion, NoContext};
pub use edf_base::EdfLoadBalancerBase;
pub use edf_scheduler::EdfScheduler;
pub use priority_load::{HostAvailability, HostCounts, PriorityLoad};
pub use round_robin::{ROUND_ROBIN, RoundRobinLoadBalancer};

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use super::{ClusterInfoImpl, PrioritySetImpl, WorkerHost};
use crate::config::extension::Factory;

/// Chooses hosts; one per cluster and worker.
pub trait LoadBalancer {
    /// The host whose turn it is; `None` if there is none to choose from.
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>>;

    /// The host for the next request, which is one that `context` wants if it does not take too many attempts.
    fn choose_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let mut host = self.choose_host_once(context)?;
        let mut attempts = 0;
        while context.should_select_another_host(&host) && attempts < context.host_selection_retry_count() {
            host = self.choose_host_once(context)?;
            attempts += 1;
        }
        Some(host)
    }
}

/// What a configuration says of how a host is chosen (Envoy: `TypedLoadBalancerFactory`, as of 1.40).
pub trait LoadBalancerConfig: Any + Debug + Send + Sync {
    /// Makes a worker's load balancer of a cluster. It follows `priority_set`, which must belong to the calling thread.
    fn create(
        &self,
        priority_set: &Rc<PrioritySetImpl>,
        info: &Arc<ClusterInfoImpl>,
    ) -> Box<dyn LoadBalancer>;
}

/// Reads the configuration of a way to choose hosts.
pub type LoadBalancerFactory = Factory<dyn LoadBalancerConfig>;
