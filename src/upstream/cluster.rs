//! What all kinds of clusters have in common on the main thread.
//!
//! Mirrors `ClusterImplBase` of Envoy's `source/common/upstream/upstream_impl.cc`.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::health_checker::{HealthCheckerImplBase, HealthState, HealthTransition, HostStatusCb};
use super::outlier_detection::{ChangeStateCb, DetectorImpl};
use super::{
    ClusterInfoImpl, HealthFlag, HostImpl, HostSharedPtr, HostVectors, PrioritySetImpl, PriorityUpdateCb,
};
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
    health_checks: OnceCell<Box<HealthChecks>>,
}

/// What a cluster has whose hosts are checked.
struct HealthChecks {
    checkers: Vec<Rc<HealthCheckerImplBase>>,
    /// First checks that initialization waits for, and what it goes on with.
    pending: Rc<PendingHealthChecks>,
    /// Until the cluster goes.
    handles: RefCell<Vec<CallbackHandle<HostStatusCb>>>,
}

#[derive(Default)]
struct PendingHealthChecks {
    count: Cell<usize>,
    initialization_complete: RefCell<Option<Box<dyn FnOnce()>>>,
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
        ClusterImplBase {
            info,
            priority_set,
            _membership: membership,
            outlier_detector: OnceCell::new(),
            health_checks: OnceCell::new(),
        }
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

    /// Says who does. To be called once, behind [`ClusterImplBase::set_health_checkers`].
    pub fn set_outlier_detector(&self, detector: Rc<DetectorImpl>) {
        let set = Rc::downgrade(&self.priority_set);
        let pending = self.health_checks.get().map(|checks| Rc::downgrade(&checks.pending));
        let handle = detector.add_changed_state_cb(move |_, _| {
            let is_initializing = pending.as_ref().and_then(Weak::upgrade).is_some_and(|p| p.is_some());
            if let Some(set) = set.upgrade().filter(|_| !is_initializing) {
                reload_healthy_hosts(&set);
            }
        });
        if let Some(checks) = self.health_checks.get() {
            let weak = Rc::downgrade(&detector);
            checks.add_callback(move |host, _, state| {
                if let Some(detector) = weak.upgrade().filter(|_| state == HealthState::Healthy) {
                    detector.on_successful_health_check(host);
                }
            });
        }
        let _ = self.outlier_detector.set((detector, handle));
    }

    /// Calls back when one of its hosts has been checked, for as long as what is returned lives; nothing where none is.
    pub fn add_host_check_complete_cb(
        &self,
        callback: impl Fn(&HostSharedPtr, HealthTransition, HealthState) + 'static,
    ) -> Vec<CallbackHandle<HostStatusCb>> {
        let checkers = self.health_checks.get().map_or(&[][..], |checks| &checks.checkers);
        let callback: Rc<HostStatusCb> = Rc::new(callback);
        checkers.iter().map(|checker| checker.add_host_check_complete_cb(callback.clone())).collect()
    }

    /// Says who checks its hosts, and has them start. To be called once, before there are hosts.
    pub fn set_health_checkers(&self, checkers: Vec<Rc<HealthCheckerImplBase>>) {
        let checks = HealthChecks { checkers, pending: Rc::default(), handles: RefCell::default() };
        let set = Rc::downgrade(&self.priority_set);
        let pending = Rc::downgrade(&checks.pending);
        checks.add_callback(move |_, changed, _| {
            let is_initializing = pending.upgrade().is_some_and(|pending| pending.is_some());
            if changed == HealthTransition::Changed
                && let Some(set) = set.upgrade().filter(|_| !is_initializing)
            {
                reload_healthy_hosts(&set);
            }
        });
        checks.checkers.iter().for_each(|checker| checker.start(&self.priority_set));
        let _ = self.health_checks.set(Box::new(checks));
    }

    /// A host that is to be checked is not healthy before its first check; one that has come to a cluster that has hosts may not
    /// even count.
    pub fn init_health_flags(&self, host: &HostImpl, is_of_configuration: bool) {
        if self.health_checks.get().is_none() || host.disable_active_health_check() {
            return;
        }
        host.health_flag_set(HealthFlag::FailedActiveHc);
        if !is_of_configuration && self.info.config().common_lb_config.ignore_new_hosts_until_first_hc {
            host.health_flag_set(HealthFlag::PendingActiveHc);
        }
    }

    /// Whether a host that nobody names any more stays: it passes its checks, and it is not said that these do not matter.
    pub fn outlives_its_name(&self, host: &HostImpl) -> bool {
        const FAILED: [HealthFlag; 3] =
            [HealthFlag::FailedActiveHc, HealthFlag::FailedEdsHealth, HealthFlag::EdsStatusDraining];
        self.health_checks.get().is_some()
            && !self.info.config().ignore_health_on_host_removal
            && !FAILED.iter().any(|flag| host.health_flag_get(*flag))
    }

    /// The first hosts are there: ends initialization, once each of them was checked if they are to be.
    pub fn on_pre_init_complete(&self, callback: Box<dyn FnOnce()>) {
        // The text says secondary for every cluster, as in Envoy.
        envoy_log!(Upstream, debug, "initializing secondary cluster {} completed", self.info.name());
        trace::instant(Stage::OnPreInitComplete, None, 0, 0, 0);
        let Some(checks) = self.health_checks.get() else { return callback() };
        let to_check =
            |hosts: &[HostSharedPtr]| hosts.iter().filter(|host| !host.disable_active_health_check()).count();
        let sets = self.priority_set.host_sets_per_priority();
        let count = sets.iter().map(|set| to_check(&set.hosts())).sum();
        if count == 0 {
            return finish_initialization(&self.priority_set, callback);
        }
        checks.pending.count.set(count);
        *checks.pending.initialization_complete.borrow_mut() = Some(callback);
        let (set, pending) = (Rc::downgrade(&self.priority_set), Rc::downgrade(&checks.pending));
        checks.add_callback(move |_, _, _| {
            let (Some(set), Some(pending)) = (set.upgrade(), pending.upgrade()) else { return };
            if let Some(callback) = pending.one_less() {
                finish_initialization(&set, callback);
            }
        });
    }
}

impl HealthChecks {
    fn add_callback(&self, callback: impl Fn(&HostSharedPtr, HealthTransition, HealthState) + 'static) {
        let callback: Rc<HostStatusCb> = Rc::new(callback);
        let handles =
            self.checkers.iter().map(|checker| checker.add_host_check_complete_cb(callback.clone()));
        self.handles.borrow_mut().extend(handles);
    }
}

impl PendingHealthChecks {
    fn is_some(&self) -> bool {
        self.initialization_complete.borrow().is_some()
    }

    /// One of them is done; what to go on with, if it was the last.
    fn one_less(&self) -> Option<Box<dyn FnOnce()>> {
        self.count.set(self.count.get().saturating_sub(1));
        if self.count.get() > 0 { None } else { self.initialization_complete.take() }
    }
}

fn finish_initialization(priority_set: &PrioritySetImpl, callback: Box<dyn FnOnce()>) {
    reload_healthy_hosts(priority_set);
    callback();
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
