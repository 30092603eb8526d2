use super::*;
use crate::event::Dispatcher;
use crate::network::{ActiveDnsQuery, DnsResponse, ResolutionStatus, ResolveCb};
use crate::runtime::LoaderImpl;
use crate::stats::Store;
use crate::upstream::test_support::{cluster_config, root_scope};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Answers when it is told to.
#[derive(Default)]
struct Resolver {
    asked: RefCell<VecDeque<(String, ResolveCb)>>,
    /// As many are no longer wanted.
    cancelled: Rc<Cell<usize>>,
}

struct Query(Rc<Cell<usize>>);

impl Drop for Query {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl DnsResolver for Resolver {
    fn resolve(
        &self,
        name: &str,
        _: crate::config::dns::DnsLookupFamily,
        cb: ResolveCb,
    ) -> Option<ActiveDnsQuery> {
        self.asked.borrow_mut().push_back((name.to_string(), cb));
        Some(ActiveDnsQuery::new(Rc::new(Query(self.cancelled.clone()))))
    }
}

struct Fixture {
    dispatcher: Rc<Dispatcher>,
    resolver: Rc<Resolver>,
    cluster: Rc<DnsClusterImpl>,
    initialized: Rc<Cell<usize>>,
}

impl Fixture {
    fn new(is_logical: bool, more: Value, hosts: Value) -> Fixture {
        let mut config =
            json!({ "name": "a", "load_assignment": { "cluster_name": "a", "endpoints": hosts } });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config["type"] = json!(if is_logical { "LOGICAL_DNS" } else { "STRICT_DNS" });
        let config = cluster_config(config);
        let dispatcher = Dispatcher::new("test");
        let resolver = Rc::new(Resolver::default());
        let dns_resolver: Rc<dyn DnsResolver> = resolver.clone();
        let context = ClusterFactoryContext {
            root: &root_scope(),
            dispatcher: &dispatcher,
            dns_resolver: &dns_resolver,
            local_locality: None,
            runtime: &LoaderImpl::empty(&Store::new(1)),
            services: &crate::upstream::NoServices,
            added_via_api: false,
        };
        let cluster = DnsClusterImpl::new(
            &config,
            &config.dns.as_deref().cloned().unwrap_or_default(),
            is_logical,
            &context,
        )
        .unwrap();
        let initialized = Rc::new(Cell::new(0));
        let count = initialized.clone();
        cluster.initialize(Box::new(move || count.set(count.get() + 1)));
        Fixture { dispatcher, resolver, cluster, initialized }
    }

    /// Answers the question that has waited longest.
    fn answer(&self, name: &str, status: ResolutionStatus, addresses: &[&str]) {
        let (asked, callback) = self.resolver.asked.borrow_mut().pop_front().expect("a question");
        assert_eq!(asked, name);
        let of = |text: &&str| DnsResponse { address: text.parse().unwrap(), ttl: Duration::from_secs(9) };
        callback(status, addresses.iter().map(of).collect());
    }

    /// Answers, and runs the loop until the name is asked for again.
    fn next(&self, name: &str, status: ResolutionStatus, addresses: &[&str]) {
        self.answer(name, status, addresses);
        while self.resolver.asked.borrow().is_empty() {
            self.dispatcher.run(crate::event::RunType::NonBlock);
        }
    }

    fn hosts(&self, priority: usize) -> Vec<String> {
        let sets = self.cluster.priority_set().host_sets_per_priority();
        sets.get(priority)
            .map_or_else(Vec::new, |set| set.hosts().iter().map(|h| h.address().to_string()).collect())
    }

    fn counted(&self) -> String {
        let (stats, members) = (self.cluster.info().stats(), self.cluster.info().membership_stats());
        format!(
            "attempt {} success {} failure {} no_rebuild {} change {} total {}",
            stats.update_attempt().value(),
            stats.update_success().value(),
            stats.update_failure().value(),
            stats.update_no_rebuild().value(),
            members.membership_change().value(),
            members.membership_total().value()
        )
    }
}

fn host(name: &str) -> Value {
    json!({ "endpoint": { "address": { "socket_address": { "address": name, "port_value": 80 } } } })
}

use ResolutionStatus::{Completed, Failure};

#[test]
fn hosts_come_and_go_with_the_answers() {
    let quick = json!({ "dns_refresh_rate": "0.0011s" });
    let f = Fixture::new(false, quick, json!([{ "lb_endpoints": [host("h.test")] }]));
    assert_eq!((f.initialized.get(), f.hosts(0).len()), (0, 0));
    f.next("h.test", Completed, &["1.1.1.1", "2.2.2.2", "1.1.1.1"]);
    assert_eq!((f.initialized.get(), f.hosts(0)), (1, vec!["1.1.1.1:80".into(), "2.2.2.2:80".into()]));
    let first = f.cluster.priority_set().host_sets_per_priority()[0].hosts()[1].clone();
    assert_eq!((first.hostname(), f.cluster.info().stats().max_host_weight().value()), ("h.test", 1));
    f.next("h.test", Completed, &["2.2.2.2", "1.1.1.1"]);
    f.next("h.test", Failure, &[]);
    assert_eq!(f.counted(), "attempt 4 success 2 failure 1 no_rebuild 1 change 1 total 2");
    f.next("h.test", Completed, &["2.2.2.2", "::1"]);
    let hosts = f.cluster.priority_set().host_sets_per_priority()[0].hosts();
    assert!(Arc::ptr_eq(&hosts[0], &first));
    assert_eq!(f.hosts(0)[1], "[::1]:80");
    f.next("h.test", Completed, &[]);
    assert_eq!(f.counted(), "attempt 6 success 4 failure 1 no_rebuild 1 change 3 total 0");
    assert_eq!(f.initialized.get(), 1);
}

#[test]
fn a_logical_host_is_another_one_when_its_address_is() {
    let quick = json!({ "dns_refresh_rate": "0.0011s" });
    let hosts = json!([{ "priority": 3, "lb_endpoints": [host("h.test")] }]);
    let f = Fixture::new(true, quick, hosts);
    f.next("h.test", Completed, &["1.1.1.1", "2.2.2.2"]);
    assert_eq!(f.hosts(0), ["1.1.1.1:80"]);
    f.next("h.test", Completed, &["1.1.1.1", "2.2.2.2"]);
    f.next("h.test", Completed, &[]);
    assert_eq!(f.counted(), "attempt 4 success 2 failure 1 no_rebuild 1 change 1 total 1");
    let first = f.cluster.priority_set().host_sets_per_priority()[0].hosts()[0].clone();
    f.next("h.test", Completed, &["1.1.1.1"]);
    assert!(!Arc::ptr_eq(&f.cluster.priority_set().host_sets_per_priority()[0].hosts()[0], &first));
    f.next("h.test", Completed, &["3.3.3.3"]);
    assert_eq!(
        (f.hosts(0), f.counted().as_str()),
        (vec!["3.3.3.3:80".to_string()], "attempt 6 success 4 failure 1 no_rebuild 1 change 3 total 1")
    );
}

#[test]
fn names_of_a_priority_share_it_and_the_first_answer_is_enough() {
    let hosts = json!([
        { "lb_endpoints": [host("a.test"), host("b.test")] },
        { "priority": 1, "lb_endpoints": [host("c.test")] },
    ]);
    let f = Fixture::new(false, json!({}), hosts);
    f.answer("a.test", Failure, &[]);
    assert_eq!((f.initialized.get(), f.hosts(0).len()), (1, 0));
    f.answer("b.test", Completed, &["2.2.2.2"]);
    f.answer("c.test", Completed, &["3.3.3.3"]);
    assert_eq!((f.hosts(0), f.hosts(1)), (vec!["2.2.2.2:80".to_string()], vec!["3.3.3.3:80".to_string()]));
}

#[test]
fn what_need_not_be_waited_for_is_not() {
    let f = Fixture::new(
        false,
        json!({ "wait_for_warm_on_init": false }),
        json!([{ "lb_endpoints": [host("a.test")] }]),
    );
    assert_eq!(f.initialized.get(), 1);
    f.answer("a.test", Completed, &["1.1.1.1"]);
    assert_eq!((f.initialized.get(), f.hosts(0).len()), (1, 1));
    assert_eq!(Fixture::new(false, json!({}), json!([])).initialized.get(), 1);
}

#[test]
fn a_cluster_that_goes_asks_no_more() {
    let f = Fixture::new(false, json!({}), json!([{ "lb_endpoints": [host("a.test")] }]));
    drop(f.cluster);
    assert_eq!(f.resolver.cancelled.get(), 1);
    let (_, callback) = f.resolver.asked.borrow_mut().pop_front().unwrap();
    callback(Completed, Vec::new());
}

#[test]
fn pauses() {
    let f = Fixture::new(
        false,
        json!({ "respect_dns_ttl": true, "dns_failure_refresh_rate": { "base_interval": "2s", "max_interval": "4s" } }),
        json!([]),
    );
    let second = Duration::from_secs(1);
    assert_eq!(f.cluster.refresh_rate(Some(9 * second)), 9 * second);
    assert_eq!(f.cluster.refresh_rate(Some(Duration::ZERO)), 5 * second);
    assert_eq!(f.cluster.refresh_rate(None), 5 * second);
    let longest = |n: usize| {
        let one = |_| {
            f.cluster.refresh_rate(None);
            (0..n).fold(Duration::ZERO, |_, _| f.cluster.failure_refresh_rate())
        };
        (0..200).map(one).max().unwrap()
    };
    assert!(longest(1) < 2 * second && longest(2) > 2 * second && longest(3) <= 4 * second);
    let plain = Fixture::new(false, json!({ "dns_jitter": "1s" }), json!([]));
    assert_eq!(plain.cluster.failure_refresh_rate(), 5 * second);
    let pauses: Vec<_> = (0..100).map(|_| plain.cluster.refresh_rate(Some(9 * second))).collect();
    assert!(
        pauses.iter().all(|p| (5 * second..6 * second).contains(p)) && pauses.iter().any(|p| *p != pauses[0])
    );
}

#[test]
fn what_cannot_be_looked_up_is_refused() {
    let refused = |is_logical, hosts: Value| {
        let config = cluster_config(json!({
            "name": "a", "type": "STRICT_DNS", "load_assignment": { "cluster_name": "a", "endpoints": hosts },
        }));
        check_endpoints(config.load_assignment.as_ref(), is_logical).unwrap_err().to_string()
    };
    let pipe = json!([{ "lb_endpoints": [{ "endpoint": { "address": { "pipe": { "path": "/p" } } } }] }]);
    assert_eq!(
        refused(false, pipe),
        "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe: a pipe has no name that could be looked up"
    );
    let two = json!([{ "lb_endpoints": [host("a"), host("b")] }]);
    let message = "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";
    assert_eq!(refused(true, two), format!("load_assignment: {message}"));
    assert_eq!(
        check_endpoints(None, true).unwrap_err().message(),
        "LOGICAL_DNS clusters must have a single host"
    );
}
