//! The hosts of a cluster, by priority, and who wants to know when they change.
//!
//! Mirrors `PrioritySetImpl` of Envoy's `source/common/upstream/upstream_impl.cc`. The main thread has
//! one per cluster, and so has every worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{HostSetImpl, HostSharedPtr, HostVectors};
use crate::common::{CallbackHandle, CallbackManager};

/// Told which priority changed, and the hosts that were added to it and removed from it.
pub type PriorityUpdateCb = dyn Fn(u32, &[HostSharedPtr], &[HostSharedPtr]);

/// Told the hosts that were added and removed.
pub type MemberUpdateCb = dyn Fn(&[HostSharedPtr], &[HostSharedPtr]);

/// The host sets of a cluster on one thread. There is always a priority 0.
pub struct PrioritySetImpl {
    host_sets: RefCell<Vec<Rc<HostSetImpl>>>,
    priority_update_cbs: CallbackManager<PriorityUpdateCb>,
    member_update_cbs: CallbackManager<MemberUpdateCb>,
}

impl Default for PrioritySetImpl {
    fn default() -> Self {
        PrioritySetImpl {
            host_sets: RefCell::new(vec![Rc::new(HostSetImpl::new(0))]),
            priority_update_cbs: CallbackManager::new(),
            member_update_cbs: CallbackManager::new(),
        }
    }
}

impl PrioritySetImpl {
    /// With an empty priority 0.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The host sets; the index is the priority.
    pub fn host_sets_per_priority(&self) -> Vec<Rc<HostSetImpl>> {
        self.host_sets.borrow().clone()
    }

    /// Calls back when a priority changed, before the member callbacks.
    pub fn add_priority_update_cb(
        &self,
        callback: impl Fn(u32, &[HostSharedPtr], &[HostSharedPtr]) + 'static,
    ) -> CallbackHandle<PriorityUpdateCb> {
        self.priority_update_cbs.add(Rc::new(callback))
    }

    /// Calls back when hosts changed, after the priority callbacks.
    pub fn add_member_update_cb(
        &self,
        callback: impl Fn(&[HostSharedPtr], &[HostSharedPtr]) + 'static,
    ) -> CallbackHandle<MemberUpdateCb> {
        self.member_update_cbs.add(Rc::new(callback))
    }

    /// Replaces the hosts of a priority and tells everybody. Missing priorities below are made, empty.
    pub fn update_hosts(
        &self,
        priority: u32,
        vectors: Arc<HostVectors>,
        hosts_added: &[HostSharedPtr],
        hosts_removed: &[HostSharedPtr],
    ) {
        self.get_or_create_host_set(priority).set_vectors(vectors);
        self.priority_update_cbs.run(|callback| callback(priority, hosts_added, hosts_removed));
        self.member_update_cbs.run(|callback| callback(hosts_added, hosts_removed));
    }

    fn get_or_create_host_set(&self, priority: u32) -> Rc<HostSetImpl> {
        let mut host_sets = self.host_sets.borrow_mut();
        while host_sets.len() <= priority as usize {
            let next = host_sets.len() as u32;
            host_sets.push(Rc::new(HostSetImpl::new(next)));
        }
        host_sets[priority as usize].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus;
    use crate::upstream::HostSetOptions;
    use crate::upstream::test_support::{cluster_info, host, port};

    #[test]
    fn priority_callbacks_run_before_member_callbacks_and_see_the_new_hosts() {
        let set = PrioritySetImpl::new();
        let events = Rc::new(RefCell::new(Vec::new()));
        let (log, weak) = (events.clone(), Rc::downgrade(&set));
        let _member = set.add_member_update_cb(move |added, removed| {
            log.borrow_mut().push(format!("member +{} -{}", added.len(), removed.len()));
        });
        let log = events.clone();
        let priority = set.add_priority_update_cb(move |priority, added, _| {
            let hosts = weak.upgrade().unwrap().host_sets_per_priority()[priority as usize].hosts();
            log.borrow_mut().push(format!("P{priority} {} {}", hosts.len(), port(&added[0])));
        });
        let hosts = Arc::new(vec![host(&cluster_info(), 7, 1, HealthStatus::Unknown)]);
        let vectors = HostVectors::partition(hosts.clone(), &Arc::default());
        set.update_hosts(2, vectors, &hosts, &[]);
        assert_eq!(*events.borrow(), ["P2 1 7", "member +1 -0"]);
        drop(priority);
        set.update_hosts(2, HostVectors::empty(), &[], &hosts);
        assert_eq!(events.borrow()[2..], ["member +0 -1"]);
    }

    #[test]
    fn missing_priorities_are_made_empty() {
        let set = PrioritySetImpl::new();
        assert_eq!(set.host_sets_per_priority().len(), 1);
        let options = Arc::new(HostSetOptions { overprovisioning_factor: 200, ..Default::default() });
        set.update_hosts(2, HostVectors::partition(Arc::default(), &options), &[], &[]);
        let sets = set.host_sets_per_priority();
        let numbers: Vec<_> =
            sets.iter().map(|s| (s.priority(), s.options().overprovisioning_factor)).collect();
        assert_eq!(numbers, [(0, 140), (1, 140), (2, 200)]);
    }

    #[test]
    fn hosts_are_sorted_by_health() {
        let info = cluster_info();
        let statuses =
            [HealthStatus::Healthy, HealthStatus::Degraded, HealthStatus::Draining, HealthStatus::Timeout];
        let hosts = (1..).zip(statuses).map(|(port, status)| host(&info, port, 1, status)).collect();
        let vectors = HostVectors::partition(Arc::new(hosts), &Arc::default());
        let ports = |hosts: &[HostSharedPtr]| hosts.iter().map(port).collect::<Vec<_>>();
        assert_eq!(ports(&vectors.hosts), [1, 2, 3, 4]);
        assert_eq!((ports(&vectors.healthy_hosts), ports(&vectors.degraded_hosts)), (vec![1], vec![2]));
        assert_eq!(vectors.excluded_hosts, 1);
    }
}
