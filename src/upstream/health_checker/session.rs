//! The checks of one host, one after the other.
//!
//! Mirrors `ActiveHealthCheckSession` of Envoy's `source/common/upstream/health_checker_base_impl.cc`.

use std::cell::{Cell, OnceCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::base::{CheckerKind, HealthCheckerImplBase, HealthState, HealthTransition};
use super::event_logger::{HealthCheckEventKind, HealthCheckFailureType};
use crate::event::{Moment, Timeout, TimeoutCallbacks};
use crate::trace::{self, Stage};
use crate::upstream::{HealthFlag, HostSharedPtr};

/// What one kind of checks does with a host.
pub(super) trait CheckSession {
    /// Asks the host.
    ///
    /// # Errors
    /// There is no connection to be had, nor any result to be waited for: out of fds, for instance.
    fn on_interval(&self) -> io::Result<()>;
    /// There was no answer in time; nothing is heard of the check any more.
    fn on_timeout(&self);
    /// The host is no longer checked.
    fn on_deferred_delete(&self);
}

const INTERVAL: u8 = 0;
const TIMEOUT: u8 = 1;

/// See the module's description.
pub(super) struct ActiveHealthCheckSession {
    weak: Weak<ActiveHealthCheckSession>,
    parent: Weak<HealthCheckerImplBase>,
    host: HostSharedPtr,
    check: OnceCell<Rc<dyn CheckSession>>,
    interval_timer: Timeout,
    timeout_timer: Timeout,
    num_unhealthy: Cell<u32>,
    num_healthy: Cell<u32>,
    first_check: Cell<bool>,
    ended: Cell<bool>,
}

/// What a check has failed with.
#[derive(Clone, Copy)]
pub(super) struct Failure {
    pub(super) kind: HealthCheckFailureType,
    /// It counts to the threshold, as failures of the network do.
    pub(super) retriable: bool,
    /// Of the answer; 0 where there was none.
    pub(super) http_status: u16,
}

impl From<HealthCheckFailureType> for Failure {
    fn from(kind: HealthCheckFailureType) -> Self {
        Failure { kind, retriable: false, http_status: 0 }
    }
}

impl ActiveHealthCheckSession {
    pub(super) fn new(
        parent: &Rc<HealthCheckerImplBase>,
        host: &HostSharedPtr,
        kind: &dyn CheckerKind,
    ) -> Rc<Self> {
        let session = Rc::new_cyclic(|weak| ActiveHealthCheckSession {
            weak: weak.clone(),
            parent: Rc::downgrade(parent),
            host: host.clone(),
            check: OnceCell::new(),
            interval_timer: Timeout::default(),
            timeout_timer: Timeout::default(),
            num_unhealthy: Cell::new(0),
            num_healthy: Cell::new(0),
            first_check: Cell::new(true),
            ended: Cell::new(false),
        });
        let _ = session.check.set(kind.make_session(parent, &session.weak, host));
        if !parent.flag_get(host, HealthFlag::FailedActiveHc) {
            parent.stats().healthy.inc();
        }
        if parent.flag_get(host, HealthFlag::DegradedActiveHc) {
            parent.stats().degraded.inc();
        }
        session
    }

    /// The first check, now or a little later (Envoy: `onInitialInterval`).
    pub(super) fn start(&self) {
        let Some(parent) = self.parent.upgrade() else { return };
        let jitter = parent.config().initial_jitter;
        if jitter.as_millis() == 0 {
            self.on_interval_base();
        } else {
            self.arm_interval(&parent, parent.interval_with_jitter(Duration::ZERO, jitter));
        }
    }

    fn arm_interval(&self, parent: &HealthCheckerImplBase, after: Duration) {
        self.interval_timer.enable(parent.dispatcher(), self.weak.clone(), INTERVAL, after);
    }

    pub(super) fn on_interval_base(&self) {
        let (Some(parent), Some(check)) = (self.parent.upgrade(), self.check.get()) else { return };
        trace::instant(Stage::HealthCheckInterval, None, 0, self.first_check.get().into(), 0);
        let started = check.on_interval();
        parent.stats().attempt.inc();
        if started.is_err() {
            return self.handle_failure(HealthCheckFailureType::Network);
        }
        self.timeout_timer.enable(
            parent.dispatcher(),
            self.weak.clone(),
            TIMEOUT,
            parent.config().timeout.max(Duration::from_millis(1)),
        );
    }

    fn on_timeout_base(&self) {
        trace::instant(Stage::HealthCheckTimeout, None, 0, 0, 0);
        if let Some(check) = self.check.get() {
            check.on_timeout();
        }
        self.handle_failure(HealthCheckFailureType::NetworkTimeout);
    }

    /// The host has passed, and says whether it is degraded.
    pub(super) fn handle_success(&self, degraded: bool) {
        let Some(parent) = self.parent.upgrade().filter(|_| !self.ended.get()) else { return };
        self.num_unhealthy.set(0);
        let passed = self.pass(&parent);
        let mut changed = self.clear_pending_flag(passed);
        // That the host is healthy now has been told.
        if parent.config().always_log_health_check_success && passed != HealthTransition::Changed {
            parent.log(&self.host, HealthCheckEventKind::Success);
        }
        if degraded != parent.flag_get(&self.host, HealthFlag::DegradedActiveHc) {
            self.set_degraded(&parent, degraded);
            if changed == HealthTransition::Unchanged {
                changed = HealthTransition::Changed;
            }
        }
        parent.stats().success.inc();
        trace::instant(Stage::HealthCheckSuccess, None, 0, degraded.into(), changed as u64);
        self.end_check(&parent, changed, HealthState::Healthy);
        self.arm_next(&parent, changed, HealthState::Healthy);
    }

    /// What a success changes.
    fn pass(&self, parent: &HealthCheckerImplBase) -> HealthTransition {
        let host = &self.host;
        if !parent.flag_get(host, HealthFlag::FailedActiveHc) {
            return HealthTransition::Unchanged;
        }
        let first_check = self.first_check.get();
        if !first_check {
            self.num_healthy.set(self.num_healthy.get().saturating_add(1));
            if self.num_healthy.get() != parent.config().healthy_threshold {
                return HealthTransition::ChangePending;
            }
        }
        parent.flag_put(host, HealthFlag::ActiveHcTimeout, false);
        host.health_flag_clear(HealthFlag::ExcludedViaImmediateHcFail);
        parent.flag_put(host, HealthFlag::FailedActiveHc, false);
        host.note_healthy_since(Moment::now());
        parent.stats().healthy.inc();
        parent.log(host, HealthCheckEventKind::AddHealthy { first_check });
        HealthTransition::Changed
    }

    fn set_degraded(&self, parent: &HealthCheckerImplBase, degraded: bool) {
        if degraded {
            parent.flag_put(&self.host, HealthFlag::DegradedActiveHc, true);
            parent.stats().degraded.inc();
            parent.log(&self.host, HealthCheckEventKind::Degraded);
        } else {
            // The gauge stays, as in Envoy.
            parent.log(&self.host, HealthCheckEventKind::NoLongerDegraded);
            parent.flag_put(&self.host, HealthFlag::DegradedActiveHc, false);
        }
    }

    /// A host that did not count before its first check does now.
    fn clear_pending_flag(&self, changed: HealthTransition) -> HealthTransition {
        if !self.host.health_flag_get(HealthFlag::PendingActiveHc) {
            return changed;
        }
        self.host.health_flag_clear(HealthFlag::PendingActiveHc);
        HealthTransition::Changed
    }

    fn end_check(&self, parent: &HealthCheckerImplBase, changed: HealthTransition, state: HealthState) {
        self.first_check.set(false);
        parent.run_callbacks(&self.host, changed, state);
    }

    /// The next check; unless the callbacks have made this the last one.
    fn arm_next(&self, parent: &HealthCheckerImplBase, changed: HealthTransition, state: HealthState) {
        if !self.ended.get() {
            self.timeout_timer.disable();
            self.arm_interval(parent, parent.interval(state, changed));
        }
    }

    /// The host has failed.
    pub(super) fn handle_failure(&self, failure: impl Into<Failure>) {
        let Some(parent) = self.parent.upgrade().filter(|_| !self.ended.get()) else { return };
        let changed = self.set_unhealthy(&parent, failure.into());
        self.arm_next(&parent, changed, HealthState::Unhealthy);
    }

    /// The host has told somebody else that it fails. The next check is when it would be anyhow.
    pub(super) fn set_passive_failure(&self) {
        if let Some(parent) = self.parent.upgrade() {
            self.set_unhealthy(&parent, HealthCheckFailureType::Passive.into());
        }
    }

    fn set_unhealthy(&self, parent: &HealthCheckerImplBase, failure: Failure) -> HealthTransition {
        let Failure { kind, retriable, http_status } = failure;
        self.num_healthy.set(0);
        let host = &self.host;
        let mut changed = HealthTransition::Unchanged;
        if !parent.flag_get(host, HealthFlag::FailedActiveHc) {
            let counts = kind.is_of_network() || retriable;
            if counts {
                self.num_unhealthy.set(self.num_unhealthy.get().saturating_add(1));
            }
            if !counts || self.num_unhealthy.get() == parent.config().unhealthy_threshold {
                parent.flag_put(host, HealthFlag::FailedActiveHc, true);
                parent.stats().healthy.dec();
                changed = HealthTransition::Changed;
                parent.log(host, HealthCheckEventKind::EjectUnhealthy { failure: kind, http_status });
            } else {
                changed = HealthTransition::ChangePending;
            }
        }
        if parent.flag_get(host, HealthFlag::FailedActiveHc) {
            let is_timeout = kind == HealthCheckFailureType::NetworkTimeout;
            parent.flag_put(host, HealthFlag::ActiveHcTimeout, is_timeout);
        }
        changed = self.clear_pending_flag(changed);
        let first_check = self.first_check.get();
        if first_check || parent.config().always_log_health_check_failures {
            parent.log(host, HealthCheckEventKind::Failure { failure: kind, first_check, http_status });
        }
        parent.stats().failure.inc();
        trace::instant(Stage::HealthCheckUnhealthy, None, 0, kind as u64, changed as u64);
        if kind.is_of_network() {
            parent.stats().network_failure.inc();
        } else if kind == HealthCheckFailureType::Passive {
            parent.stats().passive_failure.inc();
        }
        self.end_check(parent, changed, HealthState::Unhealthy);
        changed
    }

    /// The host is no longer one of the cluster: nobody waits for its first check any more.
    pub(super) fn on_deferred_delete_base(&self) {
        let Some(parent) = self.parent.upgrade() else { return };
        self.uncount(&parent);
        self.end();
        parent.forget(&self.host, self.first_check.get());
    }

    /// Takes the host out of the gauges.
    pub(super) fn uncount(&self, parent: &HealthCheckerImplBase) {
        if !parent.flag_get(&self.host, HealthFlag::FailedActiveHc) {
            parent.stats().healthy.dec();
        }
        if parent.flag_get(&self.host, HealthFlag::DegradedActiveHc) {
            parent.stats().degraded.dec();
        }
    }

    /// Checks no more.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.interval_timer.disable();
        self.timeout_timer.disable();
        if let Some(check) = self.check.get() {
            check.on_deferred_delete();
        }
    }
}

impl TimeoutCallbacks for ActiveHealthCheckSession {
    fn on_timeout(&self, which: u8) {
        match which {
            INTERVAL => self.on_interval_base(),
            _ => self.on_timeout_base(),
        }
    }
}
