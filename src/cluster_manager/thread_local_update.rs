//! What the main thread tells the workers of a cluster. Mirrors `postThreadLocalClusterUpdate` of Envoy's
//! `source/common/upstream/cluster_manager_impl.cc`, as 1.40 has it: 1.1 posts the entry and each priority by itself.

use std::rc::Rc;
use std::sync::Arc;

use super::thread_local_cluster_manager::ThreadLocalClusterManagerImpl;
use crate::thread_local::SlotImpl;
use crate::upstream::{Cluster, ClusterInfoImpl, ClusterName, HostSharedPtr, HostVectors};

/// Reaches a worker in one post: between two of them it would have a cluster with a part of its hosts.
pub(super) struct ThreadLocalClusterUpdate {
    name: ClusterName,
    /// Of a cluster that is new to the workers.
    entry: Option<Arc<ClusterInfoImpl>>,
    priorities: Vec<PriorityUpdate>,
}

struct PriorityUpdate {
    priority: u32,
    vectors: Arc<HostVectors>,
    added: Vec<HostSharedPtr>,
    removed: Vec<HostSharedPtr>,
}

impl ThreadLocalClusterUpdate {
    /// Nothing of a cluster yet.
    pub(super) fn new(name: &ClusterName) -> Self {
        ThreadLocalClusterUpdate { name: name.clone(), entry: None, priorities: Vec::new() }
    }

    /// With a new entry, in the place of the one of its name.
    pub(super) fn with_entry(mut self, cluster: &Rc<dyn Cluster>) -> Self {
        self.entry = Some(cluster.info().clone());
        self
    }

    /// With all hosts that the cluster has.
    pub(super) fn with_hosts(mut self, cluster: &Rc<dyn Cluster>) -> Self {
        for set in cluster.priority_set().host_sets_per_priority() {
            let hosts = set.hosts();
            if !hosts.is_empty() {
                self = self.with_change(set.priority(), set.vectors(), &hosts, &[]);
            }
        }
        self
    }

    /// With a change of one priority.
    pub(super) fn with_change(
        mut self,
        priority: u32,
        vectors: Arc<HostVectors>,
        added: &[HostSharedPtr],
        removed: &[HostSharedPtr],
    ) -> Self {
        let (added, removed) = (added.to_vec(), removed.to_vec());
        self.priorities.push(PriorityUpdate { priority, vectors, added, removed });
        self
    }

    /// Tells all threads, this one at once.
    pub(super) fn post(self, slot: &SlotImpl<ThreadLocalClusterManagerImpl>) {
        if self.entry.is_none() && self.priorities.is_empty() {
            return;
        }
        let update = Arc::new(self);
        slot.run_on_all_threads(move |worker| update.apply(worker));
    }

    fn apply(&self, worker: &ThreadLocalClusterManagerImpl) {
        if let Some(info) = &self.entry {
            worker.add_or_update_cluster(info);
        }
        for PriorityUpdate { priority, vectors, added, removed } in &self.priorities {
            worker.update_cluster_membership(&self.name, *priority, vectors.clone(), added, removed);
        }
    }
}
