//! What all kinds of clusters have in common on the main thread.
//!
//! Mirrors `ClusterImplBase` of Envoy's `source/common/upstream/upstream_impl.cc`, without health
//! checkers.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::outlier_detection::{ChangeStateCb, DetectorImpl};
use super::{ClusterInfoImpl, HostVectors, PrioritySetImpl, PriorityUpdateCb};
use crate::common::CallbackHandle;
use crate::envoy_log;
use crate::trace::{self, Stage};

/// When a cluster can be initialized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitializePhase {
    /// At once.
    Primary,
    /// After all primary clusters: it needs one of them.
    Secondary,
}

/// A cluster on the main thread.
pub trait Cluster {
    /// What all kinds of clusters have.
    fn base(&self) -> &ClusterImplBase;

    /// What every thread may know of it.
    fn info(&self) -> &Arc<ClusterInfoImpl> {
        self.base().info()
    }

    /// Its hosts.
    fn priority_set(&self) -> &Rc<PrioritySetImpl> {
        self.base().priority_set()
    }

    /// When it can be initialized.
    fn initialize_phase(&self) -> InitializePhase;

    /// Finds its first hosts and calls back, maybe before it returns. To be called once.
    fn initialize(&self, callback: Box<dyn FnOnce()>);
}

/// Information, hosts and membership statistics.
pub struct ClusterImplBase {
    info: Arc<ClusterInfoImpl>,
    priority_set: Rc<PrioritySetImpl>,
    _membership: CallbackHandle<PriorityUpdateCb>,
    outlier_detector: OnceCell<(Rc<DetectorImpl>, CallbackHandle<ChangeStateCb>)>,
}

impl ClusterImplBase {
    /// Without hosts.
    pub fn new(info: Arc<ClusterInfoImpl>) -> Self {
        let priority_set = PrioritySetImpl::new();
        let (set, cluster) = (Rc::downgrade(&priority_set), info.clone());
        let membership = priority_set.add_priority_update_cb(move |_, added, removed| {
            if !added.is_empty() || !removed.is_empty() {
                cluster.membership_stats().membership_change().inc();
            }
            if let Some(set) = set.upgrade() {
                update_membership_gauges(&cluster, &set);
            }
        });
        ClusterImplBase { info, priority_set, _membership: membership, outlier_detector: OnceCell::new() }
    }

    /// What every thread may know of the cluster.
    pub fn info(&self) -> &Arc<ClusterInfoImpl> {
        &self.info
    }

    /// The hosts.
    pub fn priority_set(&self) -> &Rc<PrioritySetImpl> {
        &self.priority_set
    }

    /// Sorts all hosts again by their health, after it changed.
    pub fn reload_healthy_hosts(&self) {
        reload_healthy_hosts(&self.priority_set);
    }

    /// Who ejects its hosts, if somebody does.
    pub fn outlier_detector(&self) -> Option<&Rc<DetectorImpl>> {
        self.outlier_detector.get().map(|(detector, _)| detector)
    }

    /// Says who does. To be called once.
    pub fn set_outlier_detector(&self, detector: Rc<DetectorImpl>) {
        let set = Rc::downgrade(&self.priority_set);
        let handle = detector.add_changed_state_cb(move |_, _| {
            if let Some(set) = set.upgrade() {
                reload_healthy_hosts(&set);
            }
        });
        let _ = self.outlier_detector.set((detector, handle));
    }

    /// The first hosts are there: ends initialization.
    pub fn on_pre_init_complete(&self, callback: Box<dyn FnOnce()>) {
        // The text says secondary for every cluster, as in Envoy.
        envoy_log!(Upstream, debug, "initializing secondary cluster {} completed", self.info.name());
        trace::instant(Stage::OnPreInitComplete, None, 0, 0, 0);
        callback();
    }
}

fn reload_healthy_hosts(priority_set: &PrioritySetImpl) {
    for host_set in priority_set.host_sets_per_priority() {
        let now = HostVectors::partition(host_set.hosts(), &host_set.options());
        priority_set.update_hosts(host_set.priority(), now, &[], &[]);
    }
}

fn update_membership_gauges(cluster: &ClusterInfoImpl, priority_set: &PrioritySetImpl) {
    let (mut total, mut healthy, mut degraded, mut excluded) = (0, 0, 0, 0);
    for host_set in priority_set.host_sets_per_priority() {
        let vectors = host_set.vectors();
        total += vectors.hosts.len() as u64;
        healthy += vectors.healthy_hosts.len() as u64;
        degraded += vectors.degraded_hosts.len() as u64;
        excluded += vectors.excluded_hosts as u64;
    }
    let stats = cluster.membership_stats();
    stats.membership_total().set(total);
    stats.membership_healthy().set(healthy);
    stats.membership_degraded().set(degraded);
    stats.membership_excluded().set(excluded);
}
