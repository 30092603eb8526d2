//! Detectors without requests: the tests say what comes of them, and what time it is. After Envoy's
//! `test/common/upstream/outlier_detection_impl_test.cc`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::config::endpoint::HealthStatus;
use crate::event::{Dispatcher, Moment, RunType};
use crate::runtime::LoaderImpl;
use crate::stats::Store;
use crate::upstream::test_support::{cluster_config, host, port};
use crate::upstream::{ClusterInfoImpl, HealthFlag, HostSharedPtr, HostVectors, PrioritySetImpl};

#[derive(Default)]
struct Events(RefCell<Vec<String>>);

impl EventLogger for Events {
    fn log(&self, event: &OutlierEvent<'_>) {
        let what = match event.action {
            OutlierAction::Eject { kind, enforced, .. } => format!("{} {enforced}", kind.as_str()),
            OutlierAction::Uneject => "UNEJECT".to_string(),
        };
        let port = event.host.address().ip().unwrap().port();
        let since = event.since_last_action.map(|since| since.as_secs());
        self.0.borrow_mut().push(format!("{port} {what} {} {since:?}", event.num_ejections));
    }
}

/// A cluster of hosts, the first of which has the port 1, and its detector.
struct Fixture {
    store: Arc<Store>,
    dispatcher: Rc<Dispatcher>,
    info: Arc<ClusterInfoImpl>,
    priority_set: Rc<PrioritySetImpl>,
    detector: Rc<DetectorImpl>,
    events: Rc<Events>,
    now: Rc<Cell<Moment>>,
    changes: Rc<RefCell<Vec<(u16, HealthFlag)>>>,
    _handle: crate::common::CallbackHandle<ChangeStateCb>,
}

impl Fixture {
    fn new(hosts: u16, outlier_detection: Value) -> Self {
        let config = cluster_config(json!({ "name": "a", "outlier_detection": outlier_detection }));
        let store = Store::new(1);
        let info = ClusterInfoImpl::new(&config, &store.root_scope(), false).unwrap();
        let dispatcher = Dispatcher::new("test");
        let now = Rc::new(Cell::new(Moment::exact()));
        let (clock, events) = (now.clone(), Rc::new(Events::default()));
        let detector = DetectorImpl::with_time(
            &info,
            config.outlier_detection.as_ref().unwrap(),
            &dispatcher,
            &LoaderImpl::empty(&store),
            Some(events.clone()),
            Box::new(move || clock.get()),
        );
        let priority_set = PrioritySetImpl::new();
        detector.initialize(&priority_set);
        let changes = Rc::new(RefCell::new(Vec::new()));
        let seen = changes.clone();
        let handle =
            detector.add_changed_state_cb(move |host, flag| seen.borrow_mut().push((port(host), flag)));
        let fixture = Fixture {
            store,
            dispatcher,
            info,
            priority_set,
            detector,
            events,
            now,
            changes,
            _handle: handle,
        };
        fixture.set_hosts(1..=hosts);
        fixture
    }

    fn set_hosts(&self, ports: impl IntoIterator<Item = u16>) {
        let old = self.hosts();
        let host = |port| {
            let known = old.iter().find(|host| self::port(host) == port);
            known.cloned().unwrap_or_else(|| host(&self.info, port, 1, HealthStatus::Unknown))
        };
        let new: Vec<HostSharedPtr> = ports.into_iter().map(host).collect();
        let less = |all: &[HostSharedPtr], these: &[HostSharedPtr]| -> Vec<HostSharedPtr> {
            all.iter().filter(|host| !these.iter().any(|other| Arc::ptr_eq(host, other))).cloned().collect()
        };
        let (added, removed) = (less(&new, &old), less(&old, &new));
        let vectors = HostVectors::partition(Arc::new(new), &Arc::default());
        self.priority_set.update_hosts(0, vectors, &added, &removed);
    }

    fn hosts(&self) -> Vec<HostSharedPtr> {
        self.priority_set.host_sets_per_priority()[0].hosts().to_vec()
    }

    fn host(&self, number: usize) -> HostSharedPtr {
        self.hosts()[number - 1].clone()
    }

    fn monitor(&self, number: usize) -> Arc<DetectorHostMonitorImpl> {
        self.host(number).outlier_detector().unwrap().clone()
    }

    /// The main thread gets what workers have told it.
    fn run_posts(&self) {
        self.dispatcher.run(RunType::NonBlock);
    }

    fn answers(&self, number: usize, count: usize, status: u16) {
        (0..count).for_each(|_| self.monitor(number).put_http_response_code(status));
        self.run_posts();
    }

    fn after(&self, time: Duration) {
        self.now.set(self.now.get().after(time));
        self.detector.on_interval_timer();
    }

    fn ejected(&self) -> Vec<u16> {
        let ejected = |host: &&HostSharedPtr| host.health_flag_get(HealthFlag::FailedOutlierCheck);
        self.hosts().iter().filter(ejected).map(port).collect()
    }

    fn stat(&self, name: &str) -> u64 {
        let scope = self.info.scope().create_scope("outlier_detection.");
        match name {
            "ejections_active" => scope.gauge(name).value(),
            _ => scope.counter(name).value(),
        }
    }

    fn stats<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        names.map(|name| self.stat(name))
    }

    fn take_events(&self) -> Vec<String> {
        self.events.0.take()
    }
}

#[test]
fn so_many_failures_in_a_row_eject_a_host_until_its_time_is_over() {
    let f = Fixture::new(1, json!({ "max_ejection_percent": 100 }));
    f.answers(1, 4, 500);
    f.answers(1, 1, 200);
    f.answers(1, 4, 503);
    assert!(f.ejected().is_empty() && f.changes.borrow().is_empty());
    f.answers(1, 1, 500);
    let change = (1, HealthFlag::FailedOutlierCheck);
    assert_eq!((f.ejected(), f.changes.take()), (vec![1], vec![change]));
    f.answers(1, 10, 500);
    let counted =
        ["ejections_active", "ejections_total", "ejections_enforced_total", "ejections_consecutive_5xx"];
    assert_eq!(f.stats(counted), [1; 4]);
    f.after(Duration::from_millis(29_999));
    assert_eq!(f.ejected(), [1]);
    f.after(Duration::from_millis(1));
    assert_eq!((f.ejected(), f.changes.take(), f.stat("ejections_active")), (vec![], vec![change], 0));
    assert_eq!(f.take_events(), ["1 CONSECUTIVE_5XX true 1 None", "1 UNEJECT 1 Some(30)"]);
    // What came meanwhile is forgotten, and the next time is longer.
    f.answers(1, 4, 500);
    assert!(f.ejected().is_empty());
    f.answers(1, 1, 500);
    f.after(Duration::from_secs(59));
    assert_eq!(f.ejected(), [1]);
    f.after(Duration::from_secs(1));
    assert!(f.ejected().is_empty());
    assert_eq!(f.take_events(), ["1 CONSECUTIVE_5XX true 2 Some(0)", "1 UNEJECT 2 Some(60)"]);
}

#[test]
fn ejections_grow_up_to_a_limit_and_shrink_while_there_are_none() {
    let f = Fixture::new(
        1,
        json!({ "max_ejection_percent": 100, "base_ejection_time": "10s", "max_ejection_time": "25s", "consecutive_5xx": 1 }),
    );
    let seconds = || {
        f.answers(1, 1, 500);
        let mut seconds = 0;
        while !f.ejected().is_empty() {
            f.after(Duration::from_secs(5));
            seconds += 5;
        }
        seconds
    };
    assert_eq!([seconds(), seconds(), seconds(), seconds(), seconds()], [10, 20, 25, 25, 25]);
    (0..30).for_each(|_| f.after(Duration::from_secs(10)));
    assert_eq!(seconds(), 10);
}

#[test]
fn gateways_that_fail_are_told_from_other_failures() {
    let f = Fixture::new(
        1,
        json!({ "max_ejection_percent": 100, "consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100 }),
    );
    f.answers(1, 1, 502);
    f.answers(1, 1, 500);
    f.answers(1, 1, 504);
    assert!(f.ejected().is_empty());
    f.answers(1, 1, 503);
    assert_eq!(f.ejected(), [1]);
    assert_eq!(f.stats(["ejections_detected_consecutive_gateway_failure", "ejections_total"]), [1, 0]);
    assert_eq!(f.take_events(), ["1 CONSECUTIVE_GATEWAY_FAILURE true 1 None"]);
}

#[test]
fn what_is_not_enforced_is_told_only() {
    let f = Fixture::new(1, json!({ "max_ejection_percent": 100, "enforcing_consecutive_5xx": 0 }));
    f.answers(1, 10, 500);
    let counted = ["ejections_detected_consecutive_5xx", "ejections_total", "ejections_enforced_total"];
    assert_eq!((f.ejected(), f.stats(counted)), (vec![], [1, 1, 0]), "what is in one post is one failure");
    f.answers(1, 5, 500);
    assert_eq!(f.stats(counted), [2, 2, 0]);
    assert_eq!(f.take_events(), ["1 CONSECUTIVE_5XX false 0 None"; 2]);
}

#[test]
fn of_many_hosts_only_a_share_is_ejected() {
    let f = Fixture::new(4, json!({ "max_ejection_percent": 50 }));
    (1..=4).for_each(|host| f.answers(host, 5, 500));
    assert_eq!((f.ejected(), f.stat("ejections_overflow")), (vec![1, 2], 2));
    // Those that have gone make room.
    f.set_hosts(2..=5);
    assert_eq!(f.stat("ejections_active"), 1);
    f.answers(4, 5, 500);
    assert_eq!(f.ejected(), [2, 5]);
    let f = Fixture::new(3, json!({}));
    (1..=3).for_each(|host| f.answers(host, 5, 500));
    assert_eq!((f.ejected(), f.stat("ejections_overflow")), (vec![], 3));
    let f = Fixture::new(3, json!({ "always_eject_one_host": true }));
    (1..=3).for_each(|host| f.answers(host, 5, 500));
    assert_eq!((f.ejected(), f.stat("ejections_overflow")), (vec![1], 2));
}

#[test]
fn origins_of_failures_are_told_apart_if_that_is_asked_for() {
    use OutlierResult::*;
    let mixed = Fixture::new(1, json!({ "max_ejection_percent": 100 }));
    let split =
        Fixture::new(1, json!({ "max_ejection_percent": 100, "split_external_local_origin_errors": true }));
    let fail = |f: &Fixture, count: usize| {
        for _ in 0..count {
            f.monitor(1).put_result(LocalOriginConnectFailed, None);
        }
        f.run_posts();
        f.ejected()
    };
    assert_eq!((fail(&mixed, 4), fail(&split, 4)), (vec![], vec![]));
    mixed.monitor(1).put_result(LocalOriginConnectSuccess, None);
    split.monitor(1).put_result(LocalOriginConnectSuccess, None);
    assert_eq!((fail(&mixed, 1), fail(&split, 4)), (vec![1], vec![]));
    split.monitor(1).put_result(LocalOriginTimeout, Some(504));
    split.run_posts();
    assert_eq!(split.ejected(), [1]);
    assert_eq!(
        split.stats(["ejections_enforced_consecutive_local_origin_failure", "ejections_total"]),
        [1, 0]
    );
    assert_eq!(mixed.stat("ejections_enforced_consecutive_5xx"), 1);
    // The status that a timeout gets counts where there is one.
    let f = Fixture::new(1, json!({ "max_ejection_percent": 100, "consecutive_5xx": 1 }));
    f.monitor(1).put_result(LocalOriginTimeout, Some(204));
    f.run_posts();
    assert!(f.ejected().is_empty());
}

#[test]
fn hosts_far_below_the_average_are_ejected() {
    let f = Fixture::new(5, json!({ "max_ejection_percent": 40, "consecutive_5xx": 1000 }));
    let window = |good_of_last: usize| {
        (1..=4).for_each(|host| f.answers(host, 100, 200));
        f.answers(5, good_of_last, 200);
        f.answers(5, 100 - good_of_last, 500);
        f.after(Duration::from_secs(10));
    };
    assert_eq!(f.detector.success_rates(SuccessRateMonitorType::ExternalOrigin), EjectionPair::NONE);
    window(50);
    let pair = f.detector.success_rates(SuccessRateMonitorType::ExternalOrigin);
    assert_eq!((pair.success_rate_average, pair.ejection_threshold), (90.0, 52.0));
    assert_eq!((f.ejected(), f.take_events()), (vec![5], vec!["5 SUCCESS_RATE true 1 None".to_string()]));
    assert_eq!(f.monitor(5).success_rate(SuccessRateMonitorType::ExternalOrigin), 50.0);
    let counted = ["ejections_success_rate", "ejections_enforced_success_rate", "ejections_total"];
    assert_eq!(f.stats(counted), [1; 3]);
    // With the ejected one out there are too few.
    window(0);
    assert_eq!(f.detector.success_rates(SuccessRateMonitorType::ExternalOrigin), EjectionPair::NONE);
    assert_eq!(f.monitor(1).success_rate(SuccessRateMonitorType::ExternalOrigin), 100.0);
    assert_eq!(f.monitor(5).success_rate(SuccessRateMonitorType::ExternalOrigin), -1.0);
    f.after(Duration::from_secs(10));
    assert_eq!(f.monitor(1).success_rate(SuccessRateMonitorType::ExternalOrigin), -1.0);
}

#[test]
fn hosts_that_fail_too_often_are_ejected_whatever_the_others_do() {
    let config = json!({
        "max_ejection_percent": 100, "consecutive_5xx": 1000, "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 100, "failure_percentage_threshold": 60,
    });
    let f = Fixture::new(5, config);
    for host in 1..=5 {
        f.answers(host, 20 * host, 500);
        f.answers(host, 100 - 20 * host, 200);
    }
    f.after(Duration::from_secs(10));
    assert_eq!(f.ejected(), [3, 4, 5]);
    assert_eq!(f.stats(["ejections_detected_failure_percentage", "ejections_detected_success_rate"]), [3, 0]);
    assert_eq!(f.take_events()[0], "3 FAILURE_PERCENTAGE true 1 None");
}

#[test]
fn rates_of_local_origin_have_their_own_account() {
    let config = json!({
        "max_ejection_percent": 100, "consecutive_local_origin_failure": 1000,
        "split_external_local_origin_errors": true, "enforcing_failure_percentage_local_origin": 100,
    });
    let f = Fixture::new(5, config);
    for host in 1..=5 {
        for _ in 0..100 {
            let result = match host {
                5 => OutlierResult::LocalOriginConnectFailed,
                _ => OutlierResult::LocalOriginConnectSuccess,
            };
            f.monitor(host).put_result(result, None);
        }
    }
    f.after(Duration::from_secs(10));
    assert_eq!(f.ejected(), [5]);
    let counted = [
        "ejections_enforced_local_origin_success_rate",
        "ejections_enforced_local_origin_failure_percentage",
        "ejections_enforced_success_rate",
    ];
    assert_eq!(f.stats(counted), [1, 1, 0]);
    // Two reasons, and one host.
    assert_eq!(f.stat("ejections_active"), 1);
    let [local, external] = [SuccessRateMonitorType::LocalOrigin, SuccessRateMonitorType::ExternalOrigin];
    assert_eq!(f.detector.success_rates(local).success_rate_average, 80.0);
    assert_eq!(f.detector.success_rates(external), EjectionPair::NONE);
    assert_eq!((f.monitor(5).success_rate(local), f.monitor(5).success_rate(external)), (0.0, -1.0));
}

#[test]
fn degraded_hosts_get_requests_when_others_are_not_enough() {
    let f = Fixture::new(2, json!({ "detect_degraded_hosts": true }));
    let known = |host: &HostSharedPtr| host.health_flag_get(HealthFlag::DegradedOutlierDetection);
    let say = || {
        f.monitor(1).put_degraded(&f.host(1));
        f.monitor(1).put_degraded(&f.host(1));
        f.run_posts();
    };
    let last = |count: u64| {
        say();
        for second in 0..count {
            assert!(known(&f.host(1)), "after {second} s");
            f.after(Duration::from_secs(1));
        }
        assert!(!known(&f.host(1)));
    };
    last(30);
    last(60);
    assert_eq!((f.stat("ejections_detected_degradation"), f.stat("ejections_active")), (2, 0));
    let events = f.take_events();
    assert_eq!(
        events,
        ["1 DEGRADED true 0 None", "1 UNEJECT 0 None", "1 DEGRADED true 0 None", "1 UNEJECT 0 None"]
    );
    let silent = Fixture::new(1, json!({}));
    silent.monitor(1).put_degraded(&silent.host(1));
    silent.run_posts();
    assert!(!known(&silent.host(1)));
}

#[test]
fn a_good_health_check_ends_an_ejection() {
    let f = Fixture::new(1, json!({ "max_ejection_percent": 100 }));
    f.answers(1, 5, 500);
    f.host(1).health_flag_set(HealthFlag::FailedActiveHc);
    f.detector.on_successful_health_check(&f.host(1));
    assert_eq!(f.ejected(), [1]);
    f.host(1).health_flag_clear(HealthFlag::FailedActiveHc);
    f.detector.on_successful_health_check(&f.host(1));
    assert_eq!((f.ejected(), f.stat("ejections_active")), (vec![], 0));
    let asked_not_to =
        json!({ "max_ejection_percent": 100, "successful_active_health_check_uneject_host": false });
    let f = Fixture::new(1, asked_not_to);
    f.answers(1, 5, 500);
    f.detector.on_successful_health_check(&f.host(1));
    assert_eq!(f.ejected(), [1]);
}

#[test]
fn what_workers_tell_of_what_has_gone_is_dropped() {
    let f = Fixture::new(2, json!({ "max_ejection_percent": 100 }));
    let (gone, stays) = (f.monitor(1), f.monitor(2));
    f.set_hosts([2]);
    (0..5).for_each(|_| gone.put_http_response_code(500));
    f.run_posts();
    assert!(f.take_events().is_empty());
    (0..5).for_each(|_| stays.put_http_response_code(500));
    f.run_posts();
    assert_eq!(f.stat("ejections_active"), 1);
    let Fixture { detector, store, info, dispatcher, .. } = f;
    drop(detector);
    let gauge = info.scope().create_scope("outlier_detection.").gauge("ejections_active");
    assert_eq!(gauge.value(), 0);
    (0..5).for_each(|_| stays.put_http_response_code(500));
    dispatcher.run(RunType::NonBlock);
    drop(store);
}

#[test]
fn a_host_that_goes_leaves_nothing_behind() {
    let f = Fixture::new(2, json!({ "max_ejection_percent": 100, "detect_degraded_hosts": true }));
    let [ejected, degraded] = [f.host(1), f.host(2)];
    f.monitor(2).put_degraded(&degraded);
    f.answers(1, 5, 500);
    assert_eq!(
        (ejected.health_flags_text(), f.stat("ejections_active")),
        ("/failed_outlier_check".into(), 1)
    );
    assert_eq!(degraded.health_flags_text(), "/degraded_outlier_detection");
    f.set_hosts([3]);
    for host in [&ejected, &degraded] {
        assert_eq!(host.health_flags_text(), "healthy");
    }
    // They come again, and are hosts like others.
    let again = vec![ejected, degraded];
    let vectors = HostVectors::partition(Arc::new(again.clone()), &Arc::default());
    f.priority_set.update_hosts(0, vectors, &again, &[]);
    f.after(Duration::from_secs(10));
    assert_eq!(f.stat("ejections_active"), 0);
}

#[test]
fn that_an_ejected_host_is_degraded_is_not_told() {
    let f = Fixture::new(1, json!({ "max_ejection_percent": 100, "detect_degraded_hosts": true }));
    f.answers(1, 5, 500);
    f.monitor(1).put_degraded(&f.host(1));
    f.after(Duration::from_secs(30));
    assert!(f.ejected().is_empty());
    f.run_posts();
    assert_eq!(f.stat("ejections_detected_degradation"), 0);
}

#[test]
fn connections_that_nobody_looks_into_count_as_answers() {
    let f = Fixture::new(1, json!({ "max_ejection_percent": 100 }));
    let put = |result: OutlierResult, count: usize| {
        (0..count).for_each(|_| f.monitor(1).put_result(result, None));
        f.run_posts();
    };
    put(OutlierResult::LocalOriginConnectFailed, 4);
    put(OutlierResult::LocalOriginConnectSuccessFinal, 1);
    put(OutlierResult::LocalOriginConnectFailed, 4);
    assert!(f.ejected().is_empty());
    put(OutlierResult::LocalOriginConnectFailed, 1);
    assert_eq!(f.ejected(), [1]);
}
