//! Who is ejected, and for how long.
//!
//! Mirrors `DetectorImpl` of Envoy's `source/common/upstream/outlier_detection_impl.cc`, as 1.40 has it. Lives on the main
//! thread. What workers tell it comes by a number and not by a pointer, and is dropped where the detector has gone.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::config::DetectorConfig;
use super::event_logger::{EventLogger, OutlierAction, OutlierEvent};
use super::host_monitor::{DetectorHostMonitorImpl, EjectionType};
use super::stats::DetectionStats;
use super::success_rate::{EjectionPair, SuccessRateMonitorType};
use crate::common::{CallbackHandle, CallbackManager};
use crate::config::outlier_detection::OutlierDetection;
use crate::event::{Dispatcher, DispatcherHandle, Moment, Timer};
use crate::runtime::LoaderImpl;
use crate::trace::{self, Stage};
use crate::upstream::{ClusterInfoImpl, HealthFlag, HostSharedPtr, MemberUpdateCb, PrioritySetImpl};

/// Told of a host whose flag was set or cleared.
pub type ChangeStateCb = dyn Fn(&HostSharedPtr, HealthFlag);

thread_local! {
    /// Those of this thread, by their numbers.
    static DETECTORS: RefCell<HashMap<u64, Weak<DetectorImpl>>> = RefCell::default();
    static NEXT_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// The way from a worker to a detector.
pub(super) struct DetectorOnMainThread {
    number: u64,
    main: DispatcherHandle,
}

impl DetectorOnMainThread {
    /// A host has failed so often in a row.
    pub(super) fn notify_consecutive_error(&self, host: u64, kind: EjectionType) {
        let number = self.number;
        self.main.post(move || {
            let detector = DETECTORS.with_borrow(|detectors| detectors.get(&number).and_then(Weak::upgrade));
            if let Some(detector) = detector {
                detector.on_consecutive_error(host, kind);
            }
        });
    }
}

/// How a host has fared: ejected ever longer, and by and by forgiven.
#[derive(Default)]
struct Backoff {
    since: Cell<Option<Moment>>,
    until: Cell<Option<Moment>>,
    times: Cell<u64>,
    jitter_ms: Cell<u64>,
}

/// What the main thread knows of a host.
struct HostState {
    host: HostSharedPtr,
    monitor: Arc<DetectorHostMonitorImpl>,
    num_ejections: Cell<u32>,
    ejection: Backoff,
    degradation: Backoff,
}

/// See the module's description.
pub struct DetectorImpl {
    number: u64,
    config: Arc<DetectorConfig>,
    on_main_thread: Arc<DetectorOnMainThread>,
    stats: DetectionStats,
    interval_timer: Timer,
    event_logger: Option<Rc<dyn EventLogger>>,
    now: Box<dyn Fn() -> Moment>,
    /// In the order in which they came.
    host_monitors: RefCell<BTreeMap<u64, Rc<HostState>>>,
    next_host: Cell<u64>,
    ejections_active: Cell<u64>,
    external_origin: Cell<EjectionPair>,
    local_origin: Cell<EjectionPair>,
    callbacks: CallbackManager<ChangeStateCb>,
    member_update: OnceCell<CallbackHandle<MemberUpdateCb>>,
}

impl DetectorImpl {
    /// Watches the hosts of a cluster, those that it has and those that come.
    pub fn create(
        info: &ClusterInfoImpl,
        priority_set: &PrioritySetImpl,
        config: &OutlierDetection,
        dispatcher: &Dispatcher,
        runtime: &LoaderImpl,
        event_logger: Option<Rc<dyn EventLogger>>,
    ) -> Rc<Self> {
        let detector =
            Self::with_time(info, config, dispatcher, runtime, event_logger, Box::new(Moment::now));
        detector.initialize(priority_set);
        detector
    }

    pub(super) fn with_time(
        info: &ClusterInfoImpl,
        config: &OutlierDetection,
        dispatcher: &Dispatcher,
        runtime: &LoaderImpl,
        event_logger: Option<Rc<dyn EventLogger>>,
        now: Box<dyn Fn() -> Moment>,
    ) -> Rc<Self> {
        let config = Arc::new(DetectorConfig::new(config));
        runtime.add_user(&config);
        let number = NEXT_NUMBER.replace(NEXT_NUMBER.get() + 1);
        let detector = Rc::new_cyclic(|weak: &Weak<DetectorImpl>| {
            let on_timer = weak.clone();
            DetectorImpl {
                number,
                config,
                on_main_thread: Arc::new(DetectorOnMainThread { number, main: dispatcher.handle() }),
                stats: DetectionStats::new(&info.scope().create_scope("outlier_detection.")),
                interval_timer: dispatcher.create_timer(move || {
                    if let Some(detector) = on_timer.upgrade() {
                        detector.on_interval_timer();
                    }
                }),
                event_logger,
                now,
                host_monitors: RefCell::default(),
                next_host: Cell::new(0),
                ejections_active: Cell::new(0),
                external_origin: Cell::new(EjectionPair::NONE),
                local_origin: Cell::new(EjectionPair::NONE),
                callbacks: CallbackManager::new(),
                member_update: OnceCell::new(),
            }
        });
        DETECTORS.with_borrow_mut(|detectors| detectors.insert(number, Rc::downgrade(&detector)));
        detector
    }

    pub(super) fn initialize(self: &Rc<Self>, priority_set: &PrioritySetImpl) {
        for host_set in priority_set.host_sets_per_priority() {
            host_set.hosts().iter().for_each(|host| self.add_host_monitor(host));
        }
        let weak = Rc::downgrade(self);
        let handle = priority_set.add_member_update_cb(move |added, removed| {
            if let Some(detector) = weak.upgrade() {
                removed.iter().for_each(|host| detector.remove_host_monitor(host));
                added.iter().for_each(|host| detector.add_host_monitor(host));
            }
        });
        let _ = self.member_update.set(handle);
        self.arm_interval_timer();
    }

    /// Calls back when a host is ejected or degraded, or is so no more: with the flag that says which.
    pub fn add_changed_state_cb(
        &self,
        callback: impl Fn(&HostSharedPtr, HealthFlag) + 'static,
    ) -> CallbackHandle<ChangeStateCb> {
        self.callbacks.add(Rc::new(callback))
    }

    /// The average of the last interval, and what was too far below.
    pub fn success_rates(&self, kind: SuccessRateMonitorType) -> EjectionPair {
        self.pair(kind).get()
    }

    fn pair(&self, kind: SuccessRateMonitorType) -> &Cell<EjectionPair> {
        match kind {
            SuccessRateMonitorType::ExternalOrigin => &self.external_origin,
            SuccessRateMonitorType::LocalOrigin => &self.local_origin,
        }
    }

    fn add_host_monitor(&self, host: &HostSharedPtr) {
        let number = self.next_host.replace(self.next_host.get() + 1);
        let monitor = DetectorHostMonitorImpl::new(number, &self.on_main_thread, &self.config);
        // A host that comes again has its own already.
        let monitor = host.set_outlier_detector(monitor).clone();
        let number = monitor.number;
        let state = HostState {
            host: host.clone(),
            monitor,
            num_ejections: Cell::new(0),
            ejection: Backoff::default(),
            degradation: Backoff::default(),
        };
        self.host_monitors.borrow_mut().insert(number, Rc::new(state));
    }

    fn remove_host_monitor(&self, host: &HostSharedPtr) {
        let Some(monitor) = host.outlier_detector() else { return };
        if self.host_monitors.borrow_mut().remove(&monitor.number).is_some() {
            self.forget(host);
        }
    }

    /// Nobody would end what the host's flags say.
    fn forget(&self, host: &HostSharedPtr) {
        if host.health_flag_get(HealthFlag::FailedOutlierCheck) {
            self.dec_ejections_active();
        }
        host.health_flag_clear(HealthFlag::FailedOutlierCheck);
        host.health_flag_clear(HealthFlag::DegradedOutlierDetection);
    }

    fn hosts(&self) -> Vec<Rc<HostState>> {
        self.host_monitors.borrow().values().cloned().collect()
    }

    fn dec_ejections_active(&self) {
        self.ejections_active.set(self.ejections_active.get().saturating_sub(1));
        self.stats.ejections_active.dec();
    }

    fn arm_interval_timer(&self) {
        self.interval_timer.enable_timer(Duration::from_millis(self.config.interval_ms().max(1)));
    }

    pub(super) fn on_interval_timer(&self) {
        let (now, hosts) = ((self.now)(), self.hosts());
        trace::instant(Stage::OnIntervalTimer, None, 0, hosts.len() as u64, self.ejections_active.get());
        for state in &hosts {
            self.check_host_for_uneject(state, now);
            for kind in [SuccessRateMonitorType::ExternalOrigin, SuccessRateMonitorType::LocalOrigin] {
                state.monitor.monitor(kind).update_current_bucket();
                state.monitor.monitor(kind).set_success_rate(-1.0);
            }
        }
        self.process_success_rate_ejections(SuccessRateMonitorType::ExternalOrigin, &hosts);
        self.process_success_rate_ejections(SuccessRateMonitorType::LocalOrigin, &hosts);
        for state in &hosts {
            self.forgive(state, HealthFlag::FailedOutlierCheck, &state.ejection, now);
            self.forgive(state, HealthFlag::DegradedOutlierDetection, &state.degradation, now);
        }
        self.arm_interval_timer();
    }

    /// The next time is not as long if there was none for an interval.
    fn forgive(&self, state: &HostState, flag: HealthFlag, backoff: &Backoff, now: Moment) {
        let since = backoff.until.get().map(|until| now.milliseconds_since(until));
        if !state.host.health_flag_get(flag) && since.is_some_and(|since| since >= self.config.interval_ms())
        {
            backoff.times.set(backoff.times.get().saturating_sub(1));
        }
    }

    fn check_host_for_uneject(&self, state: &HostState, now: Moment) {
        let is_over = |backoff: &Backoff| {
            let time = self.config.base_ejection_time_ms().saturating_mul(backoff.times.get());
            let time = time.min(self.config.max_ejection_time_ms()).saturating_add(backoff.jitter_ms.get());
            backoff.since.get().is_none_or(|since| time <= now.milliseconds_since(since))
        };
        if state.host.health_flag_get(HealthFlag::FailedOutlierCheck) && is_over(&state.ejection) {
            self.uneject_host(state);
        }
        let degraded = HealthFlag::DegradedOutlierDetection;
        if state.host.health_flag_get(degraded) && is_over(&state.degradation) {
            state.host.health_flag_clear(degraded);
            state.degradation.until.set(Some((self.now)()));
            self.run_callbacks(state, degraded);
            self.log(state, state.ejection.since.get(), OutlierAction::Uneject);
        }
    }

    /// A health check has found the host well: it need not wait any longer, if that is asked for.
    pub fn on_successful_health_check(&self, host: &HostSharedPtr) {
        if !self.config.successful_active_health_check_uneject_host()
            || host.health_flag_get(HealthFlag::FailedActiveHc)
            || !host.health_flag_get(HealthFlag::FailedOutlierCheck)
        {
            return;
        }
        let state = host.outlier_detector().and_then(|m| self.host_monitors.borrow().get(&m.number).cloned());
        if let Some(state) = state {
            self.uneject_host(&state);
        }
    }

    fn uneject_host(&self, state: &HostState) {
        trace::instant(Stage::UnejectHost, None, 0, state.num_ejections.get().into(), 0);
        self.dec_ejections_active();
        state.host.health_flag_clear(HealthFlag::FailedOutlierCheck);
        for kind in [
            EjectionType::Consecutive5xx,
            EjectionType::ConsecutiveGatewayFailure,
            EjectionType::ConsecutiveLocalOriginFailure,
        ] {
            state.monitor.reset_consecutive(kind);
        }
        state.ejection.until.set(Some((self.now)()));
        self.run_callbacks(state, HealthFlag::FailedOutlierCheck);
        self.log(state, state.ejection.since.get(), OutlierAction::Uneject);
    }

    /// A worker has seen a host fail so often in a row.
    pub(super) fn on_consecutive_error(&self, host: u64, kind: EjectionType) {
        let Some(state) = self.host_monitors.borrow().get(&host).cloned() else { return };
        if state.host.health_flag_get(HealthFlag::FailedOutlierCheck) {
            return;
        }
        trace::instant(Stage::OnConsecutiveErrorWorker, None, 0, kind as u64, 0);
        if kind == EjectionType::Degraded {
            return self.degrade_host(&state);
        }
        self.stats.detected(kind).inc();
        self.eject_host(&state, kind);
        if kind == EjectionType::Consecutive5xx {
            self.stats.ejections_consecutive_5xx.inc();
        }
        state.monitor.reset_consecutive(kind);
    }

    fn degrade_host(&self, state: &HostState) {
        if state.host.health_flag_get(HealthFlag::DegradedOutlierDetection) {
            return;
        }
        self.stats.detected(EjectionType::Degraded).inc();
        state.host.health_flag_set(HealthFlag::DegradedOutlierDetection);
        self.begin(&state.degradation);
        self.run_callbacks(state, HealthFlag::DegradedOutlierDetection);
        self.log_eject(state, EjectionType::Degraded, true);
    }

    /// It begins, and is longer than the last time.
    fn begin(&self, backoff: &Backoff) {
        backoff.since.set(Some((self.now)()));
        let jitter = self.config.max_ejection_time_jitter_ms();
        backoff.jitter_ms.set(if jitter == 0 { 0 } else { fastrand::u64(..=jitter) });
        let (base, max) = (self.config.base_ejection_time_ms(), self.config.max_ejection_time_ms());
        if backoff.times.get().saturating_mul(base) < max.saturating_add(base) {
            backoff.times.set(backoff.times.get() + 1);
        }
    }

    fn may_eject(&self) -> bool {
        let hosts = self.host_monitors.borrow().len() as f64;
        let ejected = 100.0 * (self.ejections_active.get() + 1) as f64 / hosts;
        ejected <= self.config.max_ejection_percent().min(100) as f64
            || (self.config.always_eject_one_host() && self.ejections_active.get() == 0)
    }

    fn eject_host(&self, state: &HostState, kind: EjectionType) {
        if !self.may_eject() {
            trace::instant(Stage::EjectHost, None, 0, kind as u64, 0);
            self.stats.ejections_overflow.inc();
            return;
        }
        if matches!(kind, EjectionType::Consecutive5xx | EjectionType::SuccessRate) {
            self.stats.ejections_total.inc();
        }
        let enforced = self.enforce_ejection(kind);
        trace::instant(Stage::EjectHost, None, 0, kind as u64, enforced.into());
        if enforced {
            // An interval may end with two reasons to eject one host.
            if !state.host.health_flag_get(HealthFlag::FailedOutlierCheck) {
                self.ejections_active.set(self.ejections_active.get() + 1);
                self.stats.ejections_active.inc();
            }
            self.stats.count_enforced(kind);
            state.host.health_flag_set(HealthFlag::FailedOutlierCheck);
            state.num_ejections.set(state.num_ejections.get() + 1);
            self.begin(&state.ejection);
            self.run_callbacks(state, HealthFlag::FailedOutlierCheck);
        }
        self.log_eject(state, kind, enforced);
    }

    fn enforce_ejection(&self, kind: EjectionType) -> bool {
        let config = &self.config;
        let percent = match kind {
            EjectionType::Consecutive5xx => config.enforcing_consecutive_5xx(),
            EjectionType::ConsecutiveGatewayFailure => config.enforcing_consecutive_gateway_failure(),
            EjectionType::SuccessRate => config.enforcing_success_rate(),
            EjectionType::ConsecutiveLocalOriginFailure => {
                config.enforcing_consecutive_local_origin_failure()
            }
            EjectionType::SuccessRateLocalOrigin => config.enforcing_local_origin_success_rate(),
            EjectionType::FailurePercentage => config.enforcing_failure_percentage(),
            EjectionType::FailurePercentageLocalOrigin => config.enforcing_failure_percentage_local_origin(),
            EjectionType::Degraded => 100,
        };
        fastrand::u64(..100) < percent
    }

    fn process_success_rate_ejections(&self, origin: SuccessRateMonitorType, hosts: &[Rc<HostState>]) {
        let config = &self.config;
        let (minimum, volume) = (config.success_rate_minimum_hosts(), config.success_rate_request_volume());
        let failure_minimum = config.failure_percentage_minimum_hosts();
        let failure_volume = config.failure_percentage_request_volume();
        self.pair(origin).set(EjectionPair::NONE);
        let count = hosts.len() as u64;
        if count < minimum && count < failure_minimum {
            return;
        }
        let (mut valid, mut valid_for_failures) = (Vec::new(), Vec::new());
        for state in hosts.iter().filter(|s| !s.host.health_flag_get(HealthFlag::FailedOutlierCheck)) {
            let monitor = state.monitor.monitor(origin);
            let Some((rate, requests)) = monitor.rate_and_volume() else { continue };
            if requests >= volume.min(failure_volume) {
                monitor.set_success_rate(rate);
            }
            if requests >= volume {
                valid.push((state, rate));
            }
            if requests >= failure_volume {
                valid_for_failures.push((state, rate));
            }
        }
        let is_local = origin == SuccessRateMonitorType::LocalOrigin;
        if !valid.is_empty() && valid.len() as u64 >= minimum {
            let rates: Vec<f64> = valid.iter().map(|(_, rate)| *rate).collect();
            let pair = EjectionPair::of(&rates, config.success_rate_stdev_factor() as f64 / 1000.0);
            self.pair(origin).set(pair);
            let kind =
                if is_local { EjectionType::SuccessRateLocalOrigin } else { EjectionType::SuccessRate };
            for (state, _) in valid.iter().filter(|(_, rate)| *rate < pair.ejection_threshold) {
                self.stats.ejections_success_rate.inc();
                self.stats.detected(kind).inc();
                self.eject_host(state, kind);
            }
        }
        if !valid_for_failures.is_empty() && valid_for_failures.len() as u64 >= failure_minimum {
            let threshold = config.failure_percentage_threshold() as f64;
            let kind = if is_local {
                EjectionType::FailurePercentageLocalOrigin
            } else {
                EjectionType::FailurePercentage
            };
            for (state, _) in valid_for_failures.iter().filter(|(_, rate)| 100.0 - rate >= threshold) {
                self.stats.detected(kind).inc();
                self.eject_host(state, kind);
            }
        }
    }

    fn run_callbacks(&self, state: &HostState, flag: HealthFlag) {
        self.callbacks.run(|callback| callback(&state.host, flag));
    }

    fn log_eject(&self, state: &HostState, kind: EjectionType, enforced: bool) {
        let origin = match kind {
            EjectionType::SuccessRateLocalOrigin | EjectionType::FailurePercentageLocalOrigin => {
                SuccessRateMonitorType::LocalOrigin
            }
            _ => SuccessRateMonitorType::ExternalOrigin,
        };
        let action = OutlierAction::Eject {
            kind,
            enforced,
            success_rate: state.monitor.success_rate(origin),
            cluster: self.pair(origin).get(),
        };
        self.log(state, state.ejection.until.get(), action);
    }

    fn log(&self, state: &HostState, last_action: Option<Moment>, action: OutlierAction) {
        let Some(logger) = &self.event_logger else { return };
        let now = (self.now)();
        logger.log(&OutlierEvent {
            host: &state.host,
            since_last_action: last_action.map(|time| now.since(time)),
            num_ejections: state.num_ejections.get(),
            action,
        });
    }
}

impl Drop for DetectorImpl {
    fn drop(&mut self) {
        // On a thread that ends the list may have gone before.
        let _ = DETECTORS.try_with(|detectors| detectors.borrow_mut().remove(&self.number));
        self.hosts().iter().for_each(|state| self.forget(&state.host));
    }
}
