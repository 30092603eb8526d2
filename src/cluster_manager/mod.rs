//! Clusters: one manager on the main thread, and on every worker its own load balancers and pools.
//!
//! Mirrors Envoy's `source/common/upstream/cluster_manager_impl.cc`.
//!
//! ```text
//! main thread                               each worker (a thread-local slot)
//! ClusterManagerImpl                        ThreadLocalClusterManagerImpl
//!   clusters with their hosts  ── post ──►    ClusterEntry: PrioritySet, LoadBalancer
//!                                             host ► ConnPoolsContainer ► priority ► protocol ► pool
//! ```
//!
//! Pools hang off the thread's object and not off the cluster entry, so they outlive a cluster until
//! they are drained.

mod cluster_entry;
mod cluster_manager_impl;
mod conn_pool_map;
mod init_helper;
mod pending_updates;
#[cfg(test)]
mod tests;
mod thread_local_cluster_manager;
mod thread_local_update;

pub use cluster_entry::ClusterEntry;
pub use cluster_manager_impl::{ClusterManagerImpl, LocalInfo};
pub use thread_local_cluster_manager::ThreadLocalClusterManagerImpl;

use std::rc::Rc;

use crate::thread_local::SlotImpl;
use crate::upstream::ClusterName;

/// The clusters as a worker sees them. Cheap to clone; valid on every thread.
#[derive(Clone)]
pub struct ClusterManager {
    slot: SlotImpl<ThreadLocalClusterManagerImpl>,
}

impl ClusterManager {
    /// This thread's view of a cluster (Envoy: `ThreadLocalCluster`).
    #[inline]
    pub fn get(&self, name: &ClusterName) -> Option<Rc<ClusterEntry>> {
        self.slot.get()?.get(name)
    }

    /// Has this thread's requests of default priority to a host given to `pool`.
    #[cfg(test)]
    pub fn set_pool(
        &self,
        host: &crate::upstream::HostSharedPtr,
        pool: Rc<dyn crate::conn_pool::HttpInstance>,
    ) {
        self.slot.get().expect("a thread with clusters").set_pool(host, pool);
    }
}
