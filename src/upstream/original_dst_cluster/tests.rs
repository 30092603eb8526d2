use super::*;
use crate::event::{Dispatcher, RunType};
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::network::{DnsResolver, DnsResolverImpl, ResolverOptions};
use crate::upstream::load_balancer::{LoadBalancerConfig, LoadBalancerContext, LoadBalancerParams};
use crate::upstream::test_support::{cluster_config, root_scope};
use crate::upstream::{LoadBalancer, PrioritySetImpl};
use serde_json::{Value, json};

struct Fixture {
    dispatcher: Rc<Dispatcher>,
    cluster: Rc<OriginalDstCluster>,
    /// Of a worker, and another one.
    workers: [(Rc<PrioritySetImpl>, Box<dyn LoadBalancer>); 2],
}

/// A request with a header, and with metadata.
struct Request(HeaderMapPtr, Option<Value>);

impl LoadBalancerContext for Request {
    fn downstream_headers(&self) -> Option<HeaderMapPtr> {
        Some(self.0.clone())
    }
    fn request_metadata(&self, filter: &str, path: &[String]) -> Option<Value> {
        self.1.clone().filter(|_| filter == "f" && path == ["k"])
    }
}

fn request(destination: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.add("x-envoy-original-dst-host", destination.as_bytes());
    headers.add("x-envoy-original-dst-host", b"9.9.9.9:9");
    Request(headers.shared(), None)
}

impl Fixture {
    fn new(lb: Value) -> Fixture {
        let dispatcher = Dispatcher::new("test");
        let config = cluster_config(json!({
            "name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "cleanup_interval": "3600s",
            "original_dst_lb_config": lb,
        }));
        let dns: Rc<dyn DnsResolver> = DnsResolverImpl::new(&dispatcher, ResolverOptions::default());
        let root = root_scope();
        let context = ClusterFactoryContext {
            root: &root,
            dispatcher: &dispatcher,
            dns_resolver: &dns,
            local_locality: None,
            runtime: &crate::runtime::LoaderImpl::empty(&crate::stats::Store::new(1)),
            services: &crate::upstream::NoServices,
            added_via_api: false,
        };
        let cluster = OriginalDstCluster::new(&config, &context).unwrap();
        let worker = || {
            let set = PrioritySetImpl::new();
            let lb: &dyn LoadBalancerConfig = cluster.info().load_balancer();
            let lb = lb.create(&LoadBalancerParams {
                priority_set: &set,
                local_priority_set: None,
                info: cluster.info(),
            });
            (set, lb)
        };
        Fixture { dispatcher, workers: [worker(), worker()], cluster }
    }

    /// Which host that worker chooses; empty for none.
    fn choose(&self, worker: usize, request: &Request) -> String {
        let host = self.workers[worker].1.choose_host(request);
        host.map(|host| format!("{} {}", host.hostname(), host.address())).unwrap_or_default()
    }

    fn identity(&self, worker: usize, destination: &str) -> HostSharedPtr {
        self.workers[worker].1.choose_host(&request(destination)).unwrap().shared().clone()
    }

    /// What workers have posted comes to the cluster, and what it has posted to them.
    fn settle(&self) {
        let before = self.cluster.hosts();
        self.dispatcher.run(RunType::NonBlock);
        self.pass_on(&before);
    }

    fn pass_on(&self, before: &[HostSharedPtr]) {
        let set = &self.cluster.priority_set().host_sets_per_priority()[0];
        let has = |hosts: &[HostSharedPtr], host: &HostSharedPtr| hosts.iter().any(|h| Arc::ptr_eq(h, host));
        let added: Vec<_> = set.hosts().iter().filter(|host| !has(before, host)).cloned().collect();
        let removed: Vec<_> = before.iter().filter(|host| !has(&set.hosts(), host)).cloned().collect();
        for (worker, _) in &self.workers {
            worker.update_hosts(0, set.vectors(), &added, &removed);
        }
    }

    fn cleanup(&self) {
        let before = self.cluster.hosts();
        self.cluster.cleanup();
        self.pass_on(&before);
    }

    fn addresses(&self) -> Vec<String> {
        self.cluster.hosts().iter().map(|host| host.address().to_string()).collect()
    }
}

#[test]
fn hosts_come_when_they_are_needed_and_all_workers_learn_of_them() {
    let f = Fixture::new(json!({ "use_http_header": true }));
    assert_eq!(f.choose(0, &request("1.2.3.4:5")), "c1.2.3.4:5 1.2.3.4:5");
    let first = f.identity(0, "1.2.3.4:5");
    assert!(f.addresses().is_empty());
    f.settle();
    assert_eq!(f.addresses(), ["1.2.3.4:5"]);
    assert!(Arc::ptr_eq(&f.identity(1, "1.2.3.4:5"), &first));
    assert_eq!(f.choose(1, &request("[::2]:7")), "c[::2]:7 [::2]:7");
    f.settle();
    assert_eq!(f.addresses(), ["1.2.3.4:5", "[::2]:7"]);
    assert_eq!(f.cluster.info().membership_stats().membership_total().value(), 2);
}

#[test]
fn two_workers_at_a_time_make_two_hosts_which_go_together() {
    let f = Fixture::new(json!({ "use_http_header": true }));
    let (one, other) = (f.identity(0, "1.2.3.4:5"), f.identity(1, "1.2.3.4:5"));
    f.settle();
    assert_eq!(f.addresses(), ["1.2.3.4:5", "1.2.3.4:5"]);
    assert!(
        Arc::ptr_eq(&f.identity(0, "1.2.3.4:5"), &one) && Arc::ptr_eq(&f.identity(1, "1.2.3.4:5"), &other)
    );
    f.cleanup();
    assert_eq!(f.addresses().len(), 2);
    f.cleanup();
    assert!(f.addresses().is_empty());
    assert!(!Arc::ptr_eq(&f.identity(1, "1.2.3.4:5"), &other));
}

#[test]
fn hosts_stay_while_they_are_chosen_or_have_connections() {
    let f = Fixture::new(json!({ "use_http_header": true }));
    let busy = f.identity(0, "1.1.1.1:1");
    busy.stats().cx_active().inc();
    f.choose(0, &request("2.2.2.2:2"));
    f.choose(1, &request("3.3.3.3:3"));
    f.settle();
    f.cleanup();
    assert_eq!(f.addresses().len(), 3);
    f.choose(0, &request("3.3.3.3:3"));
    f.cleanup();
    assert_eq!(f.addresses(), ["1.1.1.1:1", "3.3.3.3:3"]);
    busy.stats().cx_active().dec();
    f.cleanup();
    assert!(f.addresses().is_empty());
}

#[test]
fn what_says_where_requests_go() {
    let metadata =
        json!({ "use_http_header": true, "metadata_key": { "key": "f", "path": [{ "key": "k" }] } });
    let f = Fixture::new(metadata);
    let with = |value: Value| Request(request("1.1.1.1:1").0, Some(value));
    assert_eq!(f.choose(0, &with(json!("4.4.4.4:4"))), "c4.4.4.4:4 4.4.4.4:4");
    assert_eq!(f.choose(0, &with(json!(4))), "c1.1.1.1:1 1.1.1.1:1");
    assert_eq!(f.choose(0, &with(json!("x"))), "c1.1.1.1:1 1.1.1.1:1");
    let invalid = |f: &Fixture| f.cluster.info().stats().original_dst_host_invalid().value();
    assert_eq!(invalid(&f), 1);
    for wrong in ["", "a.test:80", "1.1.1.1", "1.1.1.1:66666", "::1:80", "1.1.1.1:80,2.2.2.2:80"] {
        let before = invalid(&f);
        assert_eq!((f.choose(0, &request(wrong)).as_str(), invalid(&f) - before), ("", 1), "{wrong}");
    }
    let f = Fixture::new(json!({ "use_http_header": true, "upstream_port_override": 99 }));
    assert_eq!(f.choose(0, &request("1.1.1.1:1")), "c1.1.1.1:99 1.1.1.1:99");
    let f = Fixture::new(json!({}));
    assert_eq!((f.choose(0, &request("1.1.1.1:1")).as_str(), invalid(&f)), ("", 0));
}

#[test]
fn a_host_for_a_cluster_that_has_gone_is_nobodys() {
    let f = Fixture::new(json!({ "use_http_header": true }));
    f.choose(0, &request("1.2.3.4:5"));
    let Fixture { dispatcher, cluster, workers } = f;
    let gone = Rc::downgrade(&cluster);
    drop(cluster);
    dispatcher.run(RunType::NonBlock);
    assert!(gone.upgrade().is_none() && CLUSTERS.with_borrow(HashMap::is_empty));
    drop(workers);
}
