//! What checks of all kinds have in common, for the hosts of one cluster.
//!
//! Mirrors `HealthCheckerImplBase` of Envoy's `source/common/upstream/health_checker_base_impl.cc`. Lives on the main thread, and
//! is owned by its cluster. What workers tell it comes by a number and not by a pointer, and is dropped where it has gone.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::composite::CompositeHealthChecker;
use super::event_logger::{
    HealthCheckEvent, HealthCheckEventKind, HealthCheckEventSink, HealthCheckerType, event_sinks,
};
use super::http::HttpHealthCheckerImpl;
use super::session::{ActiveHealthCheckSession, CheckSession};
use super::settings::HealthCheckerSettings;
use super::stats::HealthCheckerStats;
use super::tcp::TcpHealthCheckerImpl;
use crate::common::{CallbackHandle, CallbackManager};
use crate::config::ConfigError;
use crate::config::health_check::{HealthCheck, HealthCheckKind};
use crate::event::{Dispatcher, DispatcherHandle};
use crate::trace::{self, Stage};
use crate::upstream::{
    ClusterFactoryContext, ClusterInfoImpl, HealthFlag, HostImpl, HostSharedPtr, MemberUpdateCb,
    PrioritySetImpl,
};

/// What a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// It has failed.
    Unhealthy,
    /// It has passed.
    Healthy,
}

/// What that means for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthTransition {
    /// Nothing new.
    Unchanged,
    /// It counts otherwise now.
    Changed,
    /// It will, if that goes on.
    ChangePending,
}

/// Why a worker says that a host is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnhealthyType {
    /// The host has said so, and wants no requests.
    ImmediateHealthCheckFail,
}

/// Told of each check.
pub type HostStatusCb = dyn Fn(&HostSharedPtr, HealthTransition, HealthState);

thread_local! {
    /// Those of this thread, by their numbers.
    static CHECKERS: RefCell<HashMap<u64, Weak<HealthCheckerImplBase>>> = RefCell::default();
    static NEXT_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// The way from a worker to who checks the hosts of a cluster.
pub struct HealthCheckHostMonitor {
    number: u64,
    main: DispatcherHandle,
}

impl HealthCheckHostMonitor {
    /// A host is not well, for all that is known here (Envoy: `setUnhealthyCrossThread`).
    pub fn set_unhealthy(&self, host: &HostSharedPtr, kind: UnhealthyType) {
        let (number, host) = (self.number, host.clone());
        self.main.post(move || {
            let checker = CHECKERS.with_borrow(|checkers| checkers.get(&number).and_then(Weak::upgrade));
            if let Some(checker) = checker {
                checker.set_unhealthy_cross_thread(&host, kind);
            }
        });
    }
}

/// One kind of checks.
pub(super) trait CheckerKind {
    /// Which.
    fn checker_type(&self) -> HealthCheckerType;
    /// What a host is checked with.
    fn make_session(
        &self,
        parent: &Rc<HealthCheckerImplBase>,
        session: &Weak<ActiveHealthCheckSession>,
        host: &HostSharedPtr,
    ) -> Rc<dyn CheckSession>;
}

/// See the module's description.
pub struct HealthCheckerImplBase {
    weak: Weak<HealthCheckerImplBase>,
    number: u64,
    cluster: Arc<ClusterInfoImpl>,
    /// Among those of the cluster.
    index: usize,
    /// What it shares with the others, if there are any.
    composite: Option<Rc<CompositeHealthChecker>>,
    kind: Box<dyn CheckerKind>,
    dispatcher: Rc<Dispatcher>,
    stats: HealthCheckerStats,
    settings: Arc<HealthCheckerSettings>,
    event_sinks: Box<[Box<dyn HealthCheckEventSink>]>,
    /// By the hosts' identities.
    active_sessions: RefCell<HashMap<usize, Rc<ActiveHealthCheckSession>>>,
    callbacks: CallbackManager<HostStatusCb>,
    member_update: OnceCell<CallbackHandle<MemberUpdateCb>>,
}

pub(super) fn identity(host: &HostSharedPtr) -> usize {
    Arc::as_ptr(host) as usize
}

impl HealthCheckerImplBase {
    /// One for each check that the configuration of a cluster has. They check nothing yet.
    ///
    /// # Errors
    /// A file that cannot be opened, or a format that is none.
    pub fn create_all(
        cluster: &Arc<ClusterInfoImpl>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Vec<Rc<Self>>, ConfigError> {
        let checks = &cluster.config().health_checks;
        let composite = (checks.len() > 1).then(|| {
            let scope = cluster.scope().create_scope("health_check.");
            Rc::new(CompositeHealthChecker::new(&scope, checks.len()))
        });
        (0..checks.len()).map(|index| Self::create(cluster, index, composite.clone(), context)).collect()
    }

    fn create(
        cluster: &Arc<ClusterInfoImpl>,
        index: usize,
        composite: Option<Rc<CompositeHealthChecker>>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<Self>, ConfigError> {
        let kind: Box<dyn CheckerKind> = match &cluster.config().health_checks[index].health_checker {
            HealthCheckKind::Http(check) => {
                let checker = HttpHealthCheckerImpl::new(check, context.services);
                let place = || format!("health_checks[{index}].http_health_check");
                Box::new(checker.map_err(|error| error.within(&place()))?)
            }
            HealthCheckKind::Tcp(_) => Box::new(TcpHealthCheckerImpl),
        };
        Self::with_kind(cluster, index, composite, context, kind)
    }

    pub(super) fn with_kind(
        cluster: &Arc<ClusterInfoImpl>,
        index: usize,
        composite: Option<Rc<CompositeHealthChecker>>,
        context: &ClusterFactoryContext<'_>,
        kind: Box<dyn CheckerKind>,
    ) -> Result<Rc<Self>, ConfigError> {
        let config = &cluster.config().health_checks[index];
        let settings = Arc::new(HealthCheckerSettings::new());
        context.runtime.add_user(&settings);
        let number = NEXT_NUMBER.replace(NEXT_NUMBER.get() + 1);
        let event_sinks = event_sinks(config, context.services)?;
        let prefix = match config.name.as_str() {
            "" => "health_check.".to_string(),
            name => format!("health_check.name.{name}."),
        };
        let checker = Rc::new_cyclic(|weak: &Weak<HealthCheckerImplBase>| HealthCheckerImplBase {
            weak: weak.clone(),
            number,
            cluster: cluster.clone(),
            index,
            composite,
            kind,
            dispatcher: context.dispatcher.clone(),
            stats: HealthCheckerStats::new(&cluster.scope().create_scope(&prefix)),
            settings,
            event_sinks,
            active_sessions: RefCell::default(),
            callbacks: CallbackManager::new(),
            member_update: OnceCell::new(),
        });
        CHECKERS.with_borrow_mut(|checkers| checkers.insert(number, Rc::downgrade(&checker)));
        // The last one hears what workers say, as in Envoy.
        if index + 1 == cluster.config().health_checks.len() {
            let monitor = HealthCheckHostMonitor { number, main: context.dispatcher.handle() };
            cluster.set_health_checker(monitor);
        }
        Ok(checker)
    }

    /// Checks the hosts that there are, and those that come.
    pub fn start(&self, priority_set: &PrioritySetImpl) {
        for host_set in priority_set.host_sets_per_priority() {
            self.add_hosts(&host_set.hosts());
        }
        let weak = self.weak.clone();
        let handle = priority_set.add_member_update_cb(move |added, removed| {
            if let Some(checker) = weak.upgrade() {
                checker.on_cluster_member_update(added, removed);
            }
        });
        let _ = self.member_update.set(handle);
    }

    /// Calls back when a host has been checked.
    pub fn add_host_check_complete_cb(&self, callback: Rc<HostStatusCb>) -> CallbackHandle<HostStatusCb> {
        self.callbacks.add(callback)
    }

    fn on_cluster_member_update(&self, added: &[HostSharedPtr], removed: &[HostSharedPtr]) {
        if !added.is_empty() || !removed.is_empty() {
            let (added, removed) = (added.len() as u64, removed.len() as u64);
            trace::instant(Stage::HealthCheckHosts, None, 0, added, removed);
        }
        self.add_hosts(added);
        for host in removed {
            let session = self.active_sessions.borrow_mut().remove(&identity(host));
            if let Some(session) = session {
                session.on_deferred_delete_base();
                // It may be what has told of the change.
                self.dispatcher.deferred_delete(session);
            }
        }
    }

    fn add_hosts(&self, hosts: &[HostSharedPtr]) {
        let Some(this) = self.weak.upgrade() else { return };
        for host in hosts.iter().filter(|host| !host.disable_active_health_check()) {
            if let Some(composite) = &self.composite {
                composite.add(host);
            }
            let session = ActiveHealthCheckSession::new(&this, host, &*self.kind);
            let old = self.active_sessions.borrow_mut().insert(identity(host), session.clone());
            drop(old);
            session.start();
        }
    }

    fn set_unhealthy_cross_thread(&self, host: &HostSharedPtr, kind: UnhealthyType) {
        let session = self.active_sessions.borrow().get(&identity(host)).cloned();
        let Some(session) = session else { return };
        trace::instant(Stage::HealthCheckCrossThread, None, 0, 0, 0);
        match kind {
            UnhealthyType::ImmediateHealthCheckFail => {
                host.health_flag_set(HealthFlag::ExcludedViaImmediateHcFail);
            }
        }
        session.set_passive_failure();
    }

    /// What its configuration says.
    pub(super) fn config(&self) -> &HealthCheck {
        &self.cluster.config().health_checks[self.index]
    }

    /// The cluster whose hosts it checks.
    pub(super) fn cluster(&self) -> &Arc<ClusterInfoImpl> {
        &self.cluster
    }

    pub(super) fn dispatcher(&self) -> &Rc<Dispatcher> {
        &self.dispatcher
    }

    pub(super) fn settings(&self) -> &HealthCheckerSettings {
        &self.settings
    }

    /// `cluster.<name>.health_check.`
    pub fn stats(&self) -> &HealthCheckerStats {
        &self.stats
    }

    /// How long until the next check. While nobody has asked the cluster for anything, that is longer.
    pub(super) fn interval(&self, state: HealthState, changed: HealthTransition) -> Duration {
        let config = self.config();
        let is_edge = changed == HealthTransition::ChangePending;
        let base = if self.cluster.stats().upstream_cx_total().used() {
            match (state, is_edge) {
                (HealthState::Unhealthy, true) => config.unhealthy_edge_interval(),
                (HealthState::Unhealthy, false) => config.unhealthy_interval(),
                (HealthState::Healthy, true) => config.healthy_edge_interval(),
                (HealthState::Healthy, false) => config.interval,
            }
        } else if state == HealthState::Healthy && !is_edge {
            config.no_traffic_healthy_interval()
        } else {
            config.no_traffic_interval
        };
        self.interval_with_jitter(base, config.interval_jitter)
    }

    pub(super) fn interval_with_jitter(&self, base: Duration, jitter: Duration) -> Duration {
        let base = milliseconds(base);
        let percent = u64::from(self.config().interval_jitter_percent).saturating_mul(base) / 100;
        let mut time = base;
        for most in [percent, milliseconds(jitter)] {
            if most > 0 {
                time = time.saturating_add(fastrand::u64(..most));
            }
        }
        self.settings.within_limits(time)
    }

    /// What this check has found of a host.
    pub(super) fn flag_get(&self, host: &HostSharedPtr, flag: HealthFlag) -> bool {
        match &self.composite {
            None => host.health_flag_get(flag),
            Some(composite) => composite.get(self.index, host, flag),
        }
    }

    /// It has found that, or no longer does.
    pub(super) fn flag_put(&self, host: &HostSharedPtr, flag: HealthFlag, is_set: bool) {
        match &self.composite {
            None if is_set => host.health_flag_set(flag),
            None => host.health_flag_clear(flag),
            Some(composite) => composite.put(self.index, host, flag, is_set),
        }
    }

    /// Whether a host may say with the answer to a check that it wants no requests; not where it has several.
    pub(super) fn may_exclude(&self) -> bool {
        self.composite.is_none()
    }

    /// Nobody waits for the host any more; `first_check` says that this check was waited for.
    pub(super) fn forget(&self, host: &HostSharedPtr, first_check: bool) {
        let was_waiting = self.composite.as_ref().map_or(first_check, |composite| composite.remove(host));
        if was_waiting {
            self.callbacks
                .run(|callback| callback(host, HealthTransition::Unchanged, HealthState::Unhealthy));
        }
    }

    /// Those who are told of several checks hear what these make of the host together.
    pub(super) fn run_callbacks(&self, host: &HostSharedPtr, changed: HealthTransition, state: HealthState) {
        let changed = match &self.composite {
            None => changed,
            Some(composite) => match composite.report(self.index, host) {
                None => return,
                Some(true) => HealthTransition::Changed,
                Some(false) if changed == HealthTransition::Changed => HealthTransition::Unchanged,
                Some(false) => changed,
            },
        };
        self.callbacks.run(|callback| callback(host, changed, state));
    }

    pub(super) fn log(&self, host: &HostImpl, kind: HealthCheckEventKind) {
        if !self.event_sinks.is_empty() {
            let event =
                HealthCheckEvent { checker: self.kind.checker_type(), host, kind, time: SystemTime::now() };
            self.event_sinks.iter().for_each(|sink| sink.log(&event));
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for HealthCheckerImplBase {
    fn drop(&mut self) {
        // On a thread that ends the list may have gone before.
        let _ = CHECKERS.try_with(|checkers| checkers.borrow_mut().remove(&self.number));
        for session in self.active_sessions.take().into_values() {
            session.uncount(self);
            session.end();
        }
    }
}
