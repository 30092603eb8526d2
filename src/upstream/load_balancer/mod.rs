//! How a worker chooses a host of a cluster. Mirrors Envoy's `source/common/upstream/load_balancer_impl.*`.
//!
//! Left out: zone aware and locality weighted routing, and subsets.

mod base;
mod context;
mod edf_base;
mod edf_scheduler;
mod hashing;
mod least_request;
mod maglev;
mod per_source;
mod priority_load;
mod random;
mod ring_hash;
mod round_robin;
#[cfg(test)]
mod test_hosts;

pub use base::{HostsSource, LoadBalancerBase, SourceType};
pub use context::{LoadBalancerContext, MetadataMatchCriterion, NoContext};
pub use edf_base::{EdfLoadBalancerBase, Turns};
pub use edf_scheduler::EdfScheduler;
pub use hashing::{HashingLoadBalancer, HashingTable};
pub use least_request::LEAST_REQUEST;
pub use maglev::MAGLEV;
pub use per_source::PerSource;
pub use priority_load::{HostAvailability, HostCounts, PriorityLoad};
pub use random::RANDOM;
pub use ring_hash::RING_HASH;
pub use round_robin::{ROUND_ROBIN, RoundRobinLoadBalancer};

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use super::{ClusterInfoImpl, PrioritySetImpl, WorkerHost};
use crate::config::cluster::CommonLbConfig;
use crate::config::error::ConfigError;
use crate::config::extension::Factory;
use crate::config::reader::MessageReader;
use crate::message;

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

message! {
    /// What the extensions that hash say alike.
    pub struct ConsistentHashingLbConfig = "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig" {
        /// Hosts are hashed by their names and not by their addresses.
        pub use_hostname_for_hashing: bool,
    }
}

/// Whether the cluster that is read has its hosts hashed by their names.
fn hashes_hostnames(r: &mut MessageReader<'_>) -> Result<bool, ConfigError> {
    let common: Option<CommonLbConfig> = r.message("common_lb_config")?;
    Ok(common.is_some_and(|common| common.consistent_hashing_lb_config.use_hostname_for_hashing))
}

/// Reads the configuration of a way to choose hosts.
pub type LoadBalancerFactory = Factory<dyn LoadBalancerConfig>;
