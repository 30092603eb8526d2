//! Clusters whose hosts are looked up: what becomes of each answer, and of the next one.

use crate::harness::{
    Case, DnsAnswer, DnsServer, Kind, Launch, PATIENCE, Site, Wire, minimal, new_directory, proxies,
};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What asks `dns`, and nobody else.
pub(super) fn resolver(dns: &DnsServer, more: &Value) -> Value {
    resolver_at("127.0.0.1", dns.port(), more)
}

/// What asks there, and nobody else.
pub(super) fn resolver_at(address: &str, port: u16, more: &Value) -> Value {
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": address, "port_value": port}}],
        "dns_resolver_options": {"no_default_search_domain": true},
    });
    config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    json!({"name": "envoy.network.dns_resolver.cares", "typed_config": config})
}

pub(super) fn cluster(name: &str, kind: &str, dns: &DnsServer, names: &[(&str, u16)], more: &Value) -> Value {
    cluster_by(name, kind, &resolver(dns, &json!({})), names, more)
}

/// A cluster whose names are looked up by that one.
pub(super) fn cluster_by(
    name: &str,
    kind: &str,
    resolver: &Value,
    names: &[(&str, u16)],
    more: &Value,
) -> Value {
    let host = |(name, port): &(&str, u16)| json!({"endpoint": {"address": {"socket_address": {"address": name, "port_value": port}}}});
    let hosts: Vec<Value> = names.iter().map(host).collect();
    let mut cluster = json!({
        "name": name, "type": kind, "connect_timeout": "5s", "dns_refresh_rate": "3600s",
        "typed_dns_resolver_config": resolver,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    });
    cluster.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    cluster
}

/// A proxy with these clusters, and no other.
pub(super) fn site(kind: Kind, clusters: &[Value]) -> Site {
    let listener = json!({"static_resources": {"clusters": clusters}});
    let case = Case::new("dns").hcm(json!({"route_config": {"virtual_hosts": [{
        "name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}}],
    }]}}));
    Site::start_over(kind, &[&case], Launch { workers: 2, ..Launch::default() }, &listener)
}

/// The hosts of a cluster as `/clusters` has them, each with its name.
pub(super) fn hosts(site: &Site, cluster: &str) -> Vec<String> {
    let text = site.proxy.admin.text("/clusters");
    let of_cluster = text.lines().filter_map(|line| line.strip_prefix(&format!("{cluster}::")));
    let mut hosts: Vec<String> = of_cluster
        .filter_map(|line| line.split_once("::hostname::"))
        .map(|(address, name)| format!("{address} {name}"))
        .collect();
    hosts.sort();
    hosts
}

/// What was counted of a cluster's lookups and hosts.
pub(super) fn counted(site: &Site, cluster: &str) -> Vec<String> {
    let prefix = format!("cluster.{cluster}.");
    let stats = site.proxy.admin.stats();
    let names = ["update_", "membership_", "max_host_weight"];
    let mut lines: Vec<String> = stats
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)))
        .filter(|(name, _)| names.iter().any(|start| name.starts_with(start)))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    lines.sort();
    lines
}

/// Waits until `look` sees what is `wanted`.
pub(super) fn wait_for<T: PartialEq + std::fmt::Debug>(wanted: &T, look: impl Fn() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = look();
        if now == *wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{now:?} instead of {wanted:?}");
        thread::sleep(Duration::from_millis(10)); // there is no event for what the admin shows
    }
}

/// Both proxies say the same.
pub(super) fn alike(what: impl Fn(Kind) -> Vec<String>) {
    let said: Vec<Vec<String>> = proxies().into_iter().map(what).collect();
    let [ours, theirs] = &said[..] else { return };
    let differing: Vec<_> = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(ours.len() == theirs.len() && differing.is_empty(), "{differing:#?}");
}

/// Names, and what is said of them.
fn answers() -> Vec<(&'static str, DnsAnswer)> {
    vec![
        ("two.test", DnsAnswer::of(&["127.0.0.2", "127.0.0.3"])),
        ("twice.test", DnsAnswer::of(&["127.0.0.2", "127.0.0.2"])),
        ("six.test", DnsAnswer::of(&["::1"])),
        ("both.test", DnsAnswer::of(&["127.0.0.2", "::1"])),
        ("alias.test", DnsAnswer::of(&["127.0.0.4"]).by_alias()),
        ("dangling.test", DnsAnswer::of(&[]).by_alias()),
        ("many.test", DnsAnswer::many(200)),
        ("fits.test", DnsAnswer::many(29)),
        ("unknown.test", DnsAnswer::code(3)),
        ("empty.test", DnsAnswer::of(&[])),
        ("broken.test", DnsAnswer::code(2)),
        ("refused.test", DnsAnswer::code(5)),
        ("half.test", DnsAnswer::code_of_v4(2)),
    ]
}

fn answers_become_hosts(kind: &str, family: &str) {
    alike(|proxy| {
        let dns = DnsServer::start();
        answers().into_iter().for_each(|(name, answer)| dns.set(name, answer));
        let long = format!("{0}.{0}.{0}.{1}.test", "a".repeat(63), "b".repeat(56));
        dns.set(&long, DnsAnswer::of(&["127.0.0.5", "::1"]));
        // Of the two that it has, c-ares gives the IPv6 address first, as if it had been asked for that one first.
        let local = if (kind, family) == ("LOGICAL_DNS", "ALL") { "localhost" } else { "a.localhost" };
        let others = ["127.0.0.9", "::1", "localhost", local, long.as_str()];
        let names = answers().iter().map(|(name, _)| *name).chain(others).collect::<Vec<_>>();
        let more = json!({"dns_lookup_family": family});
        let name = |i: usize| format!("c{i}");
        let clusters: Vec<Value> = names
            .iter()
            .enumerate()
            .map(|(i, host)| cluster(&name(i), kind, &dns, &[(host, 80)], &more))
            .collect();
        let site = site(proxy, &clusters);
        names
            .iter()
            .enumerate()
            .map(|(i, host)| format!("{host}: {:?} {:?}", hosts(&site, &name(i)), counted(&site, &name(i))))
            .collect()
    });
}

#[test]
fn answers_of_all_kinds() {
    for family in ["AUTO", "V4_ONLY", "V6_ONLY", "V4_PREFERRED", "ALL"] {
        answers_become_hosts("STRICT_DNS", family);
    }
}

#[test]
fn answers_of_all_kinds_for_one_host() {
    answers_become_hosts("LOGICAL_DNS", "AUTO");
    answers_become_hosts("LOGICAL_DNS", "V4_ONLY");
    answers_become_hosts("LOGICAL_DNS", "ALL");
}

/// A cluster that asks again soon meets these answers, one after the other.
fn answers_follow(kind: &str, answers: &[(DnsAnswer, &[&str])]) {
    for proxy in proxies() {
        let dns = DnsServer::start();
        dns.set("h.test", answers[0].0.clone());
        let site = site(
            proxy,
            &[cluster(
                "c",
                kind,
                &dns,
                &[("h.test", 80)],
                &json!({"dns_refresh_rate": "0.05s", "dns_lookup_family": "V4_ONLY"}),
            )],
        );
        for (answer, wanted) in answers {
            dns.set("h.test", answer.clone());
            let before = dns.asked("h.test");
            let wanted: Vec<String> = wanted.iter().map(|host| format!("{host}:80 h.test")).collect();
            // The third is asked when the answer to the first has been worked off.
            wait_for(&true, || dns.asked("h.test") > before + 2);
            wait_for(&wanted, || hosts(&site, "c"));
        }
    }
}

#[test]
fn hosts_come_and_go_with_the_answers() {
    let of = DnsAnswer::of;
    answers_follow(
        "STRICT_DNS",
        &[
            (of(&["127.0.0.2"]), &["127.0.0.2"]),
            (of(&["127.0.0.3", "127.0.0.2"]), &["127.0.0.2", "127.0.0.3"]),
            (DnsAnswer::code(2), &["127.0.0.2", "127.0.0.3"]),
            (DnsAnswer::code(5), &["127.0.0.2", "127.0.0.3"]),
            (of(&["127.0.0.3"]), &["127.0.0.3"]),
            (DnsAnswer::code(3), &[]),
            (of(&["127.0.0.3"]), &["127.0.0.3"]),
            (of(&[]), &[]),
        ],
    );
}

#[test]
fn a_logical_host_stays_when_there_is_nothing_new() {
    let of = DnsAnswer::of;
    answers_follow(
        "LOGICAL_DNS",
        &[
            (of(&["127.0.0.2", "127.0.0.3"]), &["127.0.0.2"]),
            (of(&["127.0.0.3", "127.0.0.2"]), &["127.0.0.3"]),
            (DnsAnswer::code(2), &["127.0.0.3"]),
            (DnsAnswer::code(3), &["127.0.0.3"]),
            (of(&[]), &["127.0.0.3"]),
            (of(&["127.0.0.4"]), &["127.0.0.4"]),
        ],
    );
}

#[test]
fn workers_wait_for_the_first_answer() {
    for proxy in proxies() {
        let dns = DnsServer::start();
        dns.set("slow.test", DnsAnswer::silence());
        let is_answered = AtomicBool::new(false);
        // Asked again after a second.
        let more = json!({"typed_dns_resolver_config": resolver(&dns, &json!({"query_timeout_seconds": 1}))});
        thread::scope(|scope| {
            scope.spawn(|| {
                wait_for(&true, || dns.asked("slow.test") > 0);
                is_answered.store(true, Ordering::Relaxed);
                dns.set("slow.test", DnsAnswer::of(&["127.0.0.2"]));
            });
            let site = site(proxy, &[cluster("c", "STRICT_DNS", &dns, &[("slow.test", 80)], &more)]);
            assert!(is_answered.load(Ordering::Relaxed), "{proxy:?}");
            assert_eq!(hosts(&site, "c"), ["127.0.0.2:80 slow.test"], "{proxy:?}");
        });
        let more = json!({"wait_for_warm_on_init": false});
        dns.set("slow.test", DnsAnswer::silence());
        let site = site(proxy, &[cluster("c", "STRICT_DNS", &dns, &[("slow.test", 80)], &more)]);
        assert!(hosts(&site, "c").is_empty(), "{proxy:?}");
    }
}

#[test]
fn legate_asks_nobody_when_a_configuration_is_validated() {
    for proxy in proxies() {
        let dns = DnsServer::start();
        let directory = new_directory(proxy);
        let mut bootstrap = minimal(&directory);
        bootstrap["static_resources"]["clusters"] =
            json!([cluster("case0", "STRICT_DNS", &dns, &[("h.test", 80)], &json!({}))]);
        bootstrap["static_resources"]["listeners"] = json!([]);
        let path = directory.join("config.json");
        fs::write(&path, bootstrap.to_string()).expect("a file written");
        let path = path.to_str().expect("a path in UTF-8");
        let output = proxy.run(&["--mode", "validate", "-c", path]);
        assert!(output.status.success(), "{proxy:?} {}", String::from_utf8_lossy(&output.stderr));
        // Envoy asks, and does not wait for the answer.
        assert_eq!(dns.asked("h.test"), usize::from(proxy == Kind::Envoy), "{proxy:?}");
        let _ = fs::remove_dir_all(&directory);
    }
}

/// Answers each request with where it has come to, the slow ones when they are let go.
pub(super) struct Upstreams {
    pub(super) port: u16,
    lets_go: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
}

impl Upstreams {
    /// On the same port of 127.0.1.1 to 127.0.1.`count`.
    pub(super) fn start(count: u8) -> Upstreams {
        let listeners = loop {
            let first = TcpListener::bind((Ipv4Addr::new(127, 0, 1, 1), 0)).expect("a port");
            let port = first.local_addr().expect("its address").port();
            let others = (2..=count).map(|i| TcpListener::bind((Ipv4Addr::new(127, 0, 1, i), port)));
            let all: Result<Vec<_>, _> = std::iter::once(Ok(first)).chain(others).collect();
            if let Ok(all) = all {
                break all;
            }
        };
        let port = listeners[0].local_addr().expect("its address").port();
        let upstreams = Upstreams { port, lets_go: Arc::default(), waiting: Arc::default() };
        for listener in listeners {
            let (lets_go, waiting) = (upstreams.lets_go.clone(), upstreams.waiting.clone());
            thread::spawn(move || {
                let name = listener.local_addr().expect("its address").ip().to_string();
                for stream in listener.incoming().map_while(Result::ok) {
                    let (name, lets_go, waiting) = (name.clone(), lets_go.clone(), waiting.clone());
                    thread::spawn(move || serve(Wire::new(stream), &name, &lets_go, &waiting));
                }
            });
        }
        upstreams
    }
}

impl Upstreams {
    /// The slow ones are answered.
    pub(super) fn let_go(&self) {
        self.lets_go.store(true, Ordering::Relaxed);
    }
}

fn serve(mut wire: Wire, name: &str, lets_go: &AtomicBool, waiting: &AtomicUsize) {
    wire.be_patient(Duration::from_secs(600));
    loop {
        let head = wire.head();
        if head.is_empty() {
            return;
        }
        if head.starts_with(b"GET /slow ") {
            waiting.fetch_add(1, Ordering::Relaxed);
            wait_for(&true, || lets_go.load(Ordering::Relaxed));
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        if wire.stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn ask(wire: &mut Wire, path: &str) -> String {
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nx-cluster: c\r\n\r\n"));
    let answer = String::from_utf8_lossy(&wire.answer(false)).into_owned();
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_string()
}

#[test]
fn requests_on_a_host_that_goes_are_finished() {
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        for proxy in proxies() {
            let upstreams = Upstreams::start(2);
            let dns = DnsServer::start();
            dns.set("h.test", DnsAnswer::of(&["127.0.1.1"]));
            let more = json!({"dns_refresh_rate": "0.05s", "dns_lookup_family": "V4_ONLY"});
            let site = site(proxy, &[cluster("c", kind, &dns, &[("h.test", upstreams.port)], &more)]);
            let (mut slow, mut quick) = (Wire::connect(site.port(0)), Wire::connect(site.port(0)));
            assert_eq!(ask(&mut quick, "/"), "127.0.1.1", "{proxy:?} {kind}");
            let running = thread::spawn(move || ask(&mut slow, "/slow"));
            wait_for(&1, || upstreams.waiting.load(Ordering::Relaxed));
            dns.set("h.test", DnsAnswer::of(&["127.0.1.2"]));
            let wanted = vec![format!("127.0.1.2:{} h.test", upstreams.port)];
            wait_for(&wanted, || hosts(&site, "c"));
            // The connection that the quick one used is not used again.
            wait_for(&"127.0.1.2".to_string(), || ask(&mut Wire::connect(site.port(0)), "/"));
            assert_eq!(ask(&mut quick, "/"), "127.0.1.2", "{proxy:?} {kind}");
            upstreams.lets_go.store(true, Ordering::Relaxed);
            assert_eq!(running.join().expect("an answer"), "127.0.1.1", "{proxy:?} {kind}");
            // Nothing is left of the old host, and its requests have not failed.
            let failed = site.proxy.admin.stat("cluster.c.upstream_cx_destroy_with_active_rq");
            assert_eq!(failed, Some(0), "{proxy:?} {kind}");
        }
    }
}

#[test]
fn a_hundred_changes_under_load_are_not_noticed() {
    for proxy in proxies() {
        let upstreams = Upstreams::start(3);
        let dns = DnsServer::start();
        dns.set("h.test", DnsAnswer::of(&["127.0.1.1"]));
        let more = json!({"dns_refresh_rate": "0.01s", "dns_lookup_family": "V4_ONLY"});
        let site = site(proxy, &[cluster("c", "STRICT_DNS", &dns, &[("h.test", upstreams.port)], &more)]);
        let is_over = AtomicBool::new(false);
        let (asked, unexpected) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut wire = Wire::connect(site.port(0));
                    while !is_over.load(Ordering::Relaxed) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        if !ask(&mut wire, "/").starts_with("127.0.1.") {
                            unexpected.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for i in 0..100 {
                let addresses = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];
                dns.set("h.test", DnsAnswer::of(&addresses[i % 3..=i % 3]));
                let wanted = vec![format!("{}:{} h.test", addresses[i % 3], upstreams.port)];
                wait_for(&wanted, || hosts(&site, "c"));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let asked = asked.load(Ordering::Relaxed);
        println!("{proxy:?}: {} unexpected answers of {asked}", unexpected.load(Ordering::Relaxed));
        assert_eq!(unexpected.load(Ordering::Relaxed), 0, "{proxy:?} of {asked}");
        assert!(site.proxy.admin.stat("cluster.c.membership_change") >= Some(100), "{proxy:?}");
    }
}

#[test]
fn answers_say_when_to_ask_again() {
    for proxy in proxies() {
        let dns = DnsServer::start();
        dns.set("short.test", DnsAnswer::of(&["127.0.0.2"]).ttl(1));
        dns.set("long.test", DnsAnswer::of(&["127.0.0.2"]).ttl(3600));
        dns.set("broken.test", DnsAnswer::code(2));
        let of = |name: &str, more: &Value| cluster(name, "STRICT_DNS", &dns, &[(name, 80)], more);
        let v4 = json!({"dns_lookup_family": "V4_ONLY", "respect_dns_ttl": true});
        let soon =
            json!({"dns_lookup_family": "V4_ONLY", "respect_dns_ttl": true, "dns_refresh_rate": "0.05s"});
        let backoff = json!({
            "dns_lookup_family": "V4_ONLY",
            "dns_failure_refresh_rate": {"base_interval": "0.05s", "max_interval": "0.1s"},
        });
        let clusters = [of("short.test", &v4), of("long.test", &soon), of("broken.test", &backoff)];
        let site = site(proxy, &clusters);
        wait_for(&true, || dns.asked("short.test") >= 2);
        assert_eq!(dns.asked("long.test"), 1, "{proxy:?}");
        assert!(site.proxy.admin.stat("cluster.broken.test.update_failure") > Some(5), "{proxy:?}");
    }
}

#[test]
fn resolvers_of_older_fields_and_of_the_bootstrap_and_by_tcp() {
    for proxy in proxies() {
        let dns = DnsServer::start();
        dns.set("h.test", DnsAnswer::of(&["127.0.0.2", "127.0.0.3"]));
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": dns.port()}});
        let of = |name: &str, field: &str, value: Value| {
            let mut of = cluster(
                name,
                "STRICT_DNS",
                &dns,
                &[("h.test", 80)],
                &json!({"dns_lookup_family": "V4_ONLY"}),
            );
            of.as_object_mut().expect("an object").remove("typed_dns_resolver_config");
            if !field.is_empty() {
                of[field] = value;
            }
            of
        };
        let mut extension = of("extension", "", Value::Null);
        let fields = extension.as_object_mut().expect("an object");
        ["type", "dns_refresh_rate", "dns_lookup_family"].iter().for_each(|name| drop(fields.remove(*name)));
        extension["cluster_type"] = json!({"name": "envoy.clusters.dns", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
            "dns_lookup_family": "V4_ONLY", "all_addresses_in_single_endpoint": true,
        }});
        let by_tcp = resolver(
            &dns,
            &json!({"dns_resolver_options": {"use_tcp_for_dns_lookups": true, "no_default_search_domain": true}}),
        );
        let clusters = [
            of("default", "", Value::Null),
            of("resolvers", "dns_resolvers", json!([address])),
            of("resolution", "dns_resolution_config", json!({"resolvers": [address]})),
            of("tcp", "typed_dns_resolver_config", by_tcp),
            extension,
        ];
        let case = Case::new("dns");
        let over = json!({"typed_dns_resolver_config": resolver(&dns, &json!({})), "static_resources": {"clusters": clusters}});
        let mut over = over;
        over["static_resources"]["listeners"] = json!([]);
        let site = Site::start_over(proxy, &[&case], Launch::default(), &over);
        for (name, count) in
            [("default", 2), ("resolvers", 2), ("resolution", 2), ("tcp", 2), ("extension", 1)]
        {
            assert_eq!(hosts(&site, name).len(), count, "{proxy:?} {name}");
        }
    }
}
