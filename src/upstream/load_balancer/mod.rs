//! How a worker chooses a host of a cluster. Mirrors Envoy's `source/common/upstream/load_balancer_impl.*`.

mod base;
mod bounded_load;
mod cluster_provided;
mod context;
mod edf_base;
mod edf_scheduler;
mod hashing;
mod hashing_config;
mod least_request;
mod locality_config;
mod locality_routing;
mod maglev;
mod original_dst;
mod override_host;
mod per_source;
mod priority_load;
mod random;
mod ring_hash;
mod round_robin;
mod slow_start;
mod subset;
#[cfg(test)]
mod test_hosts;

pub use base::{HostsSource, LoadBalancerBase, SourceType};
pub use cluster_provided::CLUSTER_PROVIDED;
pub use context::{LoadBalancerContext, MetadataMatchCriterion, NoContext};
pub use edf_base::EdfLoadBalancerBase;
pub use edf_scheduler::EdfScheduler;
pub use hashing::{HashingLoadBalancer, SharedTable};
pub use least_request::LEAST_REQUEST;
pub use locality_config::{LocalityBasis, LocalityLbConfig, ZoneAwareConfig};
pub use maglev::MAGLEV;
pub use original_dst::OriginalDstLb;
pub use override_host::{OVERRIDE_HOST, OverrideHostState};
pub use per_source::PerSource;
pub use priority_load::{HostAvailability, HostCounts, HostWeights, PriorityLoad};
pub use random::RANDOM;
pub use ring_hash::RING_HASH;
pub use round_robin::{ROUND_ROBIN, RoundRobinLoadBalancer};
pub use slow_start::{SlowStart, SlowStartConfig};
pub use subset::SUBSET;

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use super::{ClusterInfoImpl, PrioritySetImpl, WorkerHost};
use crate::config::extension::Factory;
use crate::runtime::SnapshotImpl;

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

/// What a load balancer is made for (Envoy: `LoadBalancerParams`, and the cluster).
#[derive(Clone, Copy)]
pub struct LoadBalancerParams<'a> {
    /// The hosts, which belong to the calling thread.
    pub priority_set: &'a Rc<PrioritySetImpl>,
    /// The hosts of the cluster that the proxy belongs to, if it is named.
    pub local_priority_set: Option<&'a Rc<PrioritySetImpl>>,
    /// The cluster.
    pub info: &'a Arc<ClusterInfoImpl>,
}

/// What a configuration says of how a host is chosen (Envoy: `TypedLoadBalancerFactory`, as of 1.40).
pub trait LoadBalancerConfig: Any + Debug + Send + Sync {
    /// Makes a worker's load balancer of a cluster, which follows its hosts.
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer>;

    /// Takes over what runtime says.
    fn on_new_snapshot(&self, _snapshot: &SnapshotImpl) {}

    /// Whether the cluster has to provide what chooses.
    fn is_cluster_provided(&self) -> bool {
        false
    }

    /// Makes the main thread's part of a balancer, if there is one.
    fn thread_aware(&self, _info: &Arc<ClusterInfoImpl>) -> Option<Rc<dyn ThreadAwareLoadBalancer>> {
        None
    }
}

/// What the main thread has of a balancer whose work is done once for all workers.
pub trait ThreadAwareLoadBalancer {
    /// Makes what they will share of the hosts as they are now, before they are told of a change.
    fn refresh(&self, priority_set: &PrioritySetImpl);
}

/// Reads the configuration of a way to choose hosts.
pub type LoadBalancerFactory = Factory<dyn LoadBalancerConfig>;
