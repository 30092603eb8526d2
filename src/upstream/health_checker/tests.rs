//! Checkers without connections: the tests say what comes of a check. After Envoy's
//! `test/common/upstream/health_checker_impl_test.cc`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::base::CheckerKind;
use super::session::{ActiveHealthCheckSession, CheckSession, Failure};
use super::*;
use crate::config::endpoint::{HealthCheckConfig, HealthStatus};
use crate::event::{Dispatcher, RunType};
use crate::network::{DnsResolver, DnsResolverImpl, ResolverOptions};
use crate::runtime::{LoaderImpl, OverrideLayer, RuntimeUser, SnapshotImpl};
use crate::stats::Store;
use crate::upstream::test_support::{cluster_config, host, port};
use crate::upstream::{
    ClusterFactoryContext, ClusterInfoImpl, HealthFlag, HostImpl, HostSharedPtr, HostVectors, NoServices,
    PrioritySetImpl,
};

/// What is done with each host, as it is done.
#[derive(Default)]
struct Recorder {
    sessions: RefCell<Vec<(u16, Weak<ActiveHealthCheckSession>)>>,
    done: RefCell<Vec<String>>,
    refuses: Cell<bool>,
}

struct Fake(Rc<Recorder>);

impl CheckerKind for Fake {
    fn checker_type(&self) -> HealthCheckerType {
        HealthCheckerType::Tcp
    }

    fn make_session(
        &self,
        _parent: &Rc<HealthCheckerImplBase>,
        session: &Weak<ActiveHealthCheckSession>,
        host: &HostSharedPtr,
    ) -> Rc<dyn CheckSession> {
        self.0.sessions.borrow_mut().push((port(host), session.clone()));
        Rc::new(FakeSession(self.0.clone(), port(host)))
    }
}

struct FakeSession(Rc<Recorder>, u16);

impl FakeSession {
    fn note(&self, what: &str) {
        self.0.done.borrow_mut().push(format!("{} {what}", self.1));
    }
}

impl CheckSession for FakeSession {
    fn on_interval(&self) -> io::Result<()> {
        self.note("asked");
        match self.0.refuses.get() {
            true => Err(io::Error::other("no more fds")),
            false => Ok(()),
        }
    }

    fn on_timeout(&self) {
        self.note("timed out");
    }

    fn on_deferred_delete(&self) {
        self.note("gone");
    }
}

/// A cluster with one host, which is not healthy yet.
struct Fixture {
    store: Arc<Store>,
    dispatcher: Rc<Dispatcher>,
    info: Arc<ClusterInfoImpl>,
    priority_set: Rc<PrioritySetImpl>,
    checker: Rc<HealthCheckerImplBase>,
    recorder: Rc<Recorder>,
    seen: Rc<RefCell<Vec<String>>>,
    _handle: crate::common::CallbackHandle<HostStatusCb>,
}

impl Fixture {
    fn new(fields: Value) -> Self {
        let mut check = json!({
            "timeout": "1s", "interval": "10s", "unhealthy_threshold": 2, "healthy_threshold": 2,
            "no_traffic_interval": "50s", "no_traffic_healthy_interval": "60s", "unhealthy_interval": "20s",
            "unhealthy_edge_interval": "30s", "healthy_edge_interval": "40s", "tcp_health_check": {},
        });
        check.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let config = cluster_config(json!({ "name": "a", "health_checks": [check] }));
        let store = Store::new(1);
        let root = store.root_scope();
        let info = ClusterInfoImpl::new(&config, &root, false).unwrap();
        let dispatcher = Dispatcher::new("test");
        let recorder = Rc::new(Recorder::default());
        let dns: Rc<dyn DnsResolver> = DnsResolverImpl::new(&dispatcher, ResolverOptions::default());
        let context = ClusterFactoryContext {
            root: &root,
            dispatcher: &dispatcher,
            dns_resolver: &dns,
            local_locality: None,
            runtime: &LoaderImpl::empty(&store),
            services: &NoServices,
            added_via_api: false,
        };
        let kind = Box::new(Fake(recorder.clone()));
        let checker = HealthCheckerImplBase::with_kind(&info, 0, None, &context, kind).unwrap();
        let priority_set = PrioritySetImpl::new();
        checker.start(&priority_set);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = seen.clone();
        let handle = checker.add_host_check_complete_cb(Rc::new(move |host, changed, state| {
            log.borrow_mut().push(format!("{} {state:?} {changed:?}", port(host)));
        }));
        let fixture =
            Fixture { store, dispatcher, info, priority_set, checker, recorder, seen, _handle: handle };
        let host = fixture.new_host(1);
        fixture.set_hosts(&[host]);
        fixture
    }

    fn new_host(&self, port: u16) -> HostSharedPtr {
        let host = host(&self.info, port, 1, HealthStatus::Unknown);
        host.health_flag_set(HealthFlag::FailedActiveHc);
        host
    }

    fn hosts(&self) -> Vec<HostSharedPtr> {
        self.priority_set.host_sets_per_priority()[0].hosts().to_vec()
    }

    fn set_hosts(&self, hosts: &[HostSharedPtr]) {
        let old = self.hosts();
        let less = |all: &[HostSharedPtr], these: &[HostSharedPtr]| -> Vec<HostSharedPtr> {
            all.iter().filter(|host| !these.iter().any(|other| Arc::ptr_eq(host, other))).cloned().collect()
        };
        let vectors = HostVectors::partition(Arc::new(hosts.to_vec()), &Arc::default());
        self.priority_set.update_hosts(0, vectors, &less(hosts, &old), &less(&old, hosts));
    }

    fn session(&self, port: u16) -> Rc<ActiveHealthCheckSession> {
        let sessions = self.recorder.sessions.borrow();
        sessions.iter().rev().find(|(known, _)| *known == port).unwrap().1.upgrade().unwrap()
    }

    fn pass(&self) -> String {
        self.session(1).handle_success(false);
        self.last()
    }

    fn fail(&self, failure: impl Into<Failure>) -> String {
        self.session(1).handle_failure(failure);
        self.last()
    }

    /// What the last check was, and what is known of the host.
    fn last(&self) -> String {
        let seen = self.seen.borrow().last().cloned().unwrap_or_default();
        format!("{seen} {}", self.hosts()[0].health_flags_text())
    }

    fn stats(&self) -> [u64; 8] {
        let stats = self.checker.stats();
        let counters = [
            &stats.attempt,
            &stats.success,
            &stats.failure,
            &stats.passive_failure,
            &stats.network_failure,
            &stats.verify_cluster,
        ];
        let [a, s, f, p, n, v] = counters.map(|counter| counter.value());
        [a, s, f, p, n, v, stats.healthy.value(), stats.degraded.value()]
    }

    fn done(&self) -> Vec<String> {
        self.recorder.done.take()
    }
}

const NETWORK: HealthCheckFailureType = HealthCheckFailureType::Network;
const ACTIVE: HealthCheckFailureType = HealthCheckFailureType::Active;

#[test]
fn the_first_success_is_enough() {
    let f = Fixture::new(json!({ "healthy_threshold": 10 }));
    assert_eq!(f.done(), ["1 asked"]);
    assert_eq!(f.stats(), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(f.pass(), "1 Healthy Changed healthy");
    assert_eq!(f.pass(), "1 Healthy Unchanged healthy");
    assert_eq!(f.stats(), [1, 2, 0, 0, 0, 0, 1, 0]);
    assert!(f.hosts()[0].healthy_since().is_some());
}

#[test]
fn behind_a_first_failure_successes_have_to_be_as_many_as_the_threshold() {
    let f = Fixture::new(json!({ "healthy_threshold": 3 }));
    assert_eq!(f.fail(NETWORK), "1 Unhealthy Unchanged /failed_active_hc");
    assert_eq!(f.pass(), "1 Healthy ChangePending /failed_active_hc");
    assert_eq!(f.pass(), "1 Healthy ChangePending /failed_active_hc");
    f.fail(NETWORK);
    assert_eq!(f.pass(), "1 Healthy ChangePending /failed_active_hc", "a failure begins the count anew");
    f.pass();
    assert_eq!(f.pass(), "1 Healthy Changed healthy");
    assert_eq!(f.stats(), [1, 5, 2, 0, 2, 0, 1, 0]);
}

#[test]
fn failures_of_the_network_count_up_and_bad_answers_do_not() {
    let f = Fixture::new(json!({ "unhealthy_threshold": 3 }));
    f.pass();
    assert_eq!(f.fail(NETWORK), "1 Unhealthy ChangePending healthy");
    assert_eq!(f.fail(NETWORK), "1 Unhealthy ChangePending healthy");
    f.pass();
    f.fail(NETWORK);
    assert_eq!(f.fail(HealthCheckFailureType::NetworkTimeout), "1 Unhealthy ChangePending healthy");
    assert_eq!(f.fail(NETWORK), "1 Unhealthy Changed /failed_active_hc");
    assert_eq!(f.stats(), [1, 2, 5, 0, 5, 0, 0, 0]);
    (0..2).for_each(|_| _ = f.pass());
    assert_eq!(f.fail(ACTIVE), "1 Unhealthy Changed /failed_active_hc");
    (0..2).for_each(|_| _ = f.pass());
    let retriable = || Failure { kind: ACTIVE, retriable: true, http_status: 500 };
    assert_eq!(f.fail(retriable()), "1 Unhealthy ChangePending healthy");
    assert_eq!(f.fail(retriable()), "1 Unhealthy ChangePending healthy");
    assert_eq!(f.fail(retriable()), "1 Unhealthy Changed /failed_active_hc");
}

#[test]
fn a_timeout_is_known_while_the_host_is_unhealthy() {
    let f = Fixture::new(json!({}));
    f.pass();
    assert_eq!(f.fail(HealthCheckFailureType::NetworkTimeout), "1 Unhealthy ChangePending healthy");
    let timed_out = "1 Unhealthy Changed /failed_active_hc/active_hc_timeout";
    assert_eq!(f.fail(HealthCheckFailureType::NetworkTimeout), timed_out);
    assert_eq!(f.fail(NETWORK), "1 Unhealthy Unchanged /failed_active_hc");
    f.fail(HealthCheckFailureType::NetworkTimeout);
    f.pass();
    assert_eq!(f.pass(), "1 Healthy Changed healthy");
}

#[test]
fn degraded_hosts_change_while_they_pass() {
    let f = Fixture::new(json!({}));
    f.session(1).handle_success(true);
    assert_eq!(f.last(), "1 Healthy Changed /degraded_active_hc");
    f.session(1).handle_success(true);
    assert_eq!(f.last(), "1 Healthy Unchanged /degraded_active_hc");
    assert_eq!(f.pass(), "1 Healthy Changed healthy");
    assert_eq!(f.stats()[6..], [1, 1], "the gauge stays, as in Envoy");
    f.fail(ACTIVE);
    f.session(1).handle_success(true);
    assert_eq!(
        f.last(),
        "1 Healthy ChangePending /failed_active_hc/degraded_active_hc",
        "what is pending stays so"
    );
}

#[test]
fn a_host_that_did_not_count_does_after_its_first_check() {
    for passes in [true, false] {
        let f = Fixture::new(json!({}));
        f.hosts()[0].health_flag_set(HealthFlag::PendingActiveHc);
        if passes {
            assert_eq!(f.pass(), "1 Healthy Changed healthy");
        } else {
            assert_eq!(f.fail(NETWORK), "1 Unhealthy Changed /failed_active_hc");
        }
    }
}

#[test]
fn what_a_worker_has_been_told_fails_the_host_at_once() {
    let f = Fixture::new(json!({ "unhealthy_threshold": 9 }));
    f.pass();
    let monitor = f.info.health_checker().unwrap();
    let say = |host: &HostSharedPtr| {
        monitor.set_unhealthy(host, UnhealthyType::ImmediateHealthCheckFail);
        f.dispatcher.run(RunType::NonBlock);
    };
    say(&f.hosts()[0]);
    assert_eq!(f.last(), "1 Unhealthy Changed /failed_active_hc/excluded_via_immediate_hc_fail");
    say(&f.hosts()[0]);
    assert_eq!(f.stats(), [1, 1, 2, 2, 0, 0, 0, 0]);
    f.pass();
    assert_eq!(f.pass(), "1 Healthy Changed healthy");
    // A host that has gone, or is not checked.
    say(&f.new_host(7));
    assert_eq!(f.stats()[2], 2);
}

#[test]
fn what_workers_say_is_dropped_where_the_checker_has_gone() {
    let f = Fixture::new(json!({}));
    let Fixture { dispatcher, info, checker, priority_set, recorder, .. } = f;
    let host = priority_set.host_sets_per_priority()[0].hosts()[0].clone();
    info.health_checker().unwrap().set_unhealthy(&host, UnhealthyType::ImmediateHealthCheckFail);
    recorder.done.take();
    drop(checker);
    assert_eq!(recorder.done.take(), ["1 gone"]);
    dispatcher.run(RunType::NonBlock);
    assert_eq!(host.health_flags_text(), "/failed_active_hc");
}

#[test]
fn intervals_are_those_of_the_state() {
    use HealthState::{Healthy, Unhealthy};
    use HealthTransition::{ChangePending, Changed, Unchanged};
    let f = Fixture::new(json!({}));
    let seconds = |state, changed| f.checker.interval(state, changed).as_secs();
    let all = || {
        [
            seconds(Healthy, Unchanged),
            seconds(Healthy, Changed),
            seconds(Healthy, ChangePending),
            seconds(Unhealthy, Unchanged),
            seconds(Unhealthy, Changed),
            seconds(Unhealthy, ChangePending),
        ]
    };
    assert_eq!(all(), [60, 60, 50, 50, 50, 50], "nobody has asked the cluster for anything");
    f.info.stats().upstream_cx_total().inc();
    assert_eq!(all(), [10, 10, 40, 20, 20, 30]);
}

#[test]
fn jitter_is_added_and_runtime_has_the_last_word() {
    let f = Fixture::new(json!({ "interval_jitter": "2s", "interval_jitter_percent": 40 }));
    f.info.stats().upstream_cx_total().inc();
    let interval = || f.checker.interval(HealthState::Healthy, HealthTransition::Unchanged);
    let all: Vec<Duration> = (0..2000).map(|_| interval()).collect();
    let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
    assert!(*least >= Duration::from_secs(10) && *least < Duration::from_secs(11), "{least:?}");
    assert!(*most < Duration::from_secs(16) && *most > Duration::from_secs(15), "{most:?}");
    let runtime = |values: Value| {
        let layer = OverrideLayer::of_static("a", values.as_object().unwrap());
        f.checker.settings().on_new_snapshot(&SnapshotImpl::new(vec![layer]));
        interval()
    };
    assert_eq!(runtime(json!({ "health_check.max_interval": 7 })), Duration::from_millis(7));
    assert_eq!(runtime(json!({ "health_check.max_interval": 0 })), Duration::from_millis(1));
    assert_eq!(runtime(json!({ "health_check.min_interval": 99000 })), Duration::from_secs(99));
    let verifies = |percent: u64| {
        runtime(json!({ "health_check.verify_cluster": percent }));
        (0..100).filter(|random| f.checker.settings().verifies_cluster(*random)).count()
    };
    assert_eq!([verifies(0), verifies(30), verifies(100)], [0, 30, 100]);
}

#[test]
fn huge_intervals_do_not_overflow() {
    let f = Fixture::new(json!({
        "no_traffic_interval": "9223372035s", "no_traffic_healthy_interval": "9223372035s",
        "interval_jitter_percent": u32::MAX, "interval_jitter": "9223372035s",
    }));
    assert!(f.checker.interval(HealthState::Healthy, HealthTransition::Unchanged).as_secs() > 9_000_000_000);
    f.pass();
}

#[test]
fn checks_go_on_by_themselves() {
    let f = Fixture::new(json!({ "timeout": "0.001s", "no_traffic_interval": "0.001s" }));
    while f.stats()[2] < 3 {
        f.dispatcher.run(RunType::NonBlock);
    }
    let done = f.done();
    assert_eq!(done[..5], ["1 asked", "1 timed out", "1 asked", "1 timed out", "1 asked"]);
    assert!(f.stats()[4] >= 3);
}

#[test]
fn a_result_disarms_the_timeout() {
    let f = Fixture::new(json!({ "timeout": "0.002s" }));
    f.pass();
    std::thread::sleep(Duration::from_millis(10)); // longer than the timeout
    (0..3).for_each(|_| _ = f.dispatcher.run(RunType::NonBlock));
    assert_eq!(f.done(), ["1 asked"]);
    assert_eq!(f.stats()[2], 0);
}

#[test]
fn the_first_check_may_be_put_off() {
    let f = Fixture::new(json!({ "initial_jitter": "0.004s" }));
    assert_eq!(f.done(), Vec::<String>::new());
    while f.stats()[0] == 0 {
        f.dispatcher.run(RunType::NonBlock);
    }
    assert_eq!(f.done(), ["1 asked"]);
}

#[test]
fn a_check_that_cannot_begin_has_failed() {
    let f = Fixture::new(json!({}));
    f.pass();
    f.recorder.refuses.set(true);
    f.session(1).on_interval_base();
    f.session(1).on_interval_base();
    assert_eq!(f.last(), "1 Unhealthy Changed /failed_active_hc");
    assert_eq!(f.stats()[..5], [3, 1, 2, 0, 2]);
}

#[test]
fn hosts_come_and_go() {
    let f = Fixture::new(json!({}));
    f.pass();
    let (first, second) = (f.hosts()[0].clone(), f.new_host(2));
    let config = HealthCheckConfig { disable_active_health_check: true, ..Default::default() };
    let unchecked =
        HostImpl::with_health_check_config(host(&f.info, 3, 1, HealthStatus::Unknown), Some(&config));
    f.set_hosts(&[first.clone(), second.clone(), unchecked.clone()]);
    assert_eq!(f.done(), ["1 asked", "2 asked"], "one is not checked");
    f.session(2).handle_success(true);
    assert_eq!(f.stats()[6..], [2, 1]);
    f.set_hosts(&[first]);
    assert_eq!(f.stats()[6..], [1, 0]);
    assert_eq!(f.done(), ["2 gone"]);
    assert_eq!(f.seen.borrow().len(), 2, "nothing waits for a host that was checked");
    let third = f.new_host(4);
    f.set_hosts(&[third]);
    f.set_hosts(&[]);
    assert_eq!(f.seen.borrow().last().unwrap(), "4 Unhealthy Unchanged", "its first check never ends");
    assert_eq!(f.stats()[6..], [0, 0]);
    f.dispatcher.run(RunType::NonBlock);
    assert!(f.store.root_scope().store().shards() > 0);
}

#[test]
fn a_callback_may_remove_the_host() {
    let f = Fixture::new(json!({}));
    f.pass();
    let set = f.priority_set.clone();
    let _handle = f.checker.add_host_check_complete_cb(Rc::new(move |host, _, _| {
        let gone = [host.clone()];
        set.update_hosts(0, HostVectors::empty(), &[], &gone);
    }));
    let session = f.session(1);
    session.handle_failure(ACTIVE);
    assert_eq!(f.stats()[6..], [0, 0]);
    session.handle_success(false);
    assert_eq!(f.stats()[1], 1, "it is over");
    assert_eq!(f.done(), ["1 asked", "1 gone"]);
}
