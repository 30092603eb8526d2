//! Clusters whose hosts are where requests say that they go: both proxies send them there, and forget the hosts alike.

use super::dns_clusters::{Upstreams, alike, hosts, site, wait_for};
use crate::harness::{Site, Wire, minimal, new_directory, proxies};
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn cluster(lb: &Value, more: &Value) -> Value {
    let mut cluster = json!({
        "name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s",
        "original_dst_lb_config": lb,
    });
    cluster.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    cluster
}

/// Status and body of the answer to a request with these headers.
fn ask(wire: &mut Wire, headers: &[(&str, String)]) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    wire.send(format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-cluster: c\r\n{headers}\r\n"));
    let answer = String::from_utf8_lossy(&wire.answer(false)).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    format!("{status} {}", answer.rsplit("\r\n\r\n").next().unwrap_or_default())
}

/// The hosts without the port that differs, and what is counted of them.
fn seen(site: &Site, port: u16) -> Vec<String> {
    let stats = site.proxy.admin.stats();
    let counted = |name: &str| format!("{name} {:?}", stats.get(&format!("cluster.c.{name}")));
    let mut seen: Vec<String> =
        hosts(site, "c").iter().map(|host| host.replace(&port.to_string(), "PORT")).collect();
    let names = [
        "membership_total",
        "membership_healthy",
        "original_dst_host_invalid",
        "upstream_cx_none_healthy",
        "max_host_weight",
        "upstream_rq_total",
    ];
    seen.extend(names.map(counted));
    seen
}

const HEADER: &str = "x-envoy-original-dst-host";

#[test]
fn requests_go_where_a_header_says() {
    let ways = [
        json!({"use_http_header": true}),
        json!({"use_http_header": true, "http_header_name": "X-To"}),
        json!({}),
        json!({"use_http_header": true, "metadata_key": {"key": "f", "path": [{"key": "k"}]}}),
    ];
    for lb in ways {
        alike(|proxy| {
            let upstreams = Upstreams::start(3);
            let port = upstreams.port;
            let site = site(proxy, &[cluster(&lb, &json!({}))]);
            let mut wire = Wire::connect(site.port(0));
            let mut said = Vec::new();
            for name in [HEADER, "x-to"] {
                for to in ["127.0.1.1", "127.0.1.2", "127.0.1.1"] {
                    said.push(ask(&mut wire, &[(name, format!("{to}:{port}"))]));
                }
                for wrong in ["", "a.test:80", "127.0.1.1", "127.0.1.1:66666", "::1:80", ":", "1:1"] {
                    said.push(format!("{wrong}: {}", ask(&mut wire, &[(name, wrong.into())])));
                }
                // The first counts.
                let two = [(name, format!("127.0.1.3:{port}")), (name, format!("127.0.1.2:{port}"))];
                said.push(ask(&mut wire, &two));
            }
            said.push(ask(&mut wire, &[]));
            said.extend(seen(&site, port));
            said
        });
    }
}

#[test]
fn to_another_port() {
    alike(|proxy| {
        let upstreams = Upstreams::start(1);
        let lb = json!({"use_http_header": true, "upstream_port_override": upstreams.port});
        let site = site(proxy, &[cluster(&lb, &json!({}))]);
        let mut said = vec![ask(&mut Wire::connect(site.port(0)), &[(HEADER, "127.0.1.1:9".into())])];
        said.extend(seen(&site, upstreams.port));
        said
    });
}

#[test]
fn hosts_are_forgotten_when_nobody_has_a_connection_to_them() {
    for proxy in proxies() {
        let upstreams = Upstreams::start(2);
        let lb = json!({"use_http_header": true});
        let idle =
            json!({"cleanup_interval": "0.05s", "common_http_protocol_options": {"idle_timeout": "1s"}});
        let site = site(proxy, &[cluster(&lb, &idle)]);
        let mut wire = Wire::connect(site.port(0));
        let mut ask_for = |i: usize| ask(&mut wire, &[(HEADER, format!("127.0.1.{i}:{}", upstreams.port))]);
        assert_eq!(ask_for(1), "200 127.0.1.1", "{proxy:?}");
        assert_eq!(ask_for(2), "200 127.0.1.2", "{proxy:?}");
        let total = || site.proxy.admin.stat("cluster.c.membership_total");
        let active = || site.proxy.admin.stat("cluster.c.upstream_cx_active");
        wait_for(&Some(2), total);
        // The hosts go behind their connections, and not before.
        while active() > Some(0) {
            let hosts = total();
            assert!(hosts >= active(), "{proxy:?} {hosts:?}");
        }
        wait_for(&Some(0), total);
        assert_eq!(ask_for(1), "200 127.0.1.1", "{proxy:?}");
        wait_for(&Some(1), total);
    }
}

#[test]
fn hosts_come_and_go_under_load() {
    for proxy in proxies() {
        let upstreams = Upstreams::start(20);
        let lb = json!({"use_http_header": true});
        let soon = json!({"cleanup_interval": "0.01s", "max_requests_per_connection": 3});
        let site = site(proxy, &[cluster(&lb, &soon)]);
        let unexpected = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut wire = Wire::connect(site.port(0));
                    for _ in 0..500 {
                        let to = format!("127.0.1.{}", fastrand::u8(1..=20));
                        let answer = ask(&mut wire, &[(HEADER, format!("{to}:{}", upstreams.port))]);
                        if answer != format!("200 {to}") {
                            unexpected.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(unexpected.load(Ordering::Relaxed), 0, "{proxy:?}");
        assert!(site.proxy.admin.stat("cluster.c.membership_change") > Some(20), "{proxy:?}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let ok = json!({"use_http_header": true});
    let wrong = [
        (
            json!({"lb_policy": "ROUND_ROBIN"}),
            "LB policy ROUND_ROBIN is not valid for Cluster type ORIGINAL_DST",
        ),
        (json!({"load_assignment": {"cluster_name": "c"}}), "must have no load assignment configured"),
        (json!({"original_dst_lb_config": {"http_header_name": "a"}}), "use_http_header is false"),
        (json!({"type": "STATIC"}), "cluster provided LB specified but cluster 'c' did not provide one"),
        (
            json!({"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "x", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
            }}}]}}),
            "cluster provided LB not specified but cluster 'c' provided one",
        ),
        (json!({"cleanup_interval": "0s"}), "0s"),
        (
            json!({"common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}}}),
            "Cannot use hostname for consistent hashing loadbalancing for cluster of type: 'envoy.cluster.original_dst'",
        ),
    ];
    for proxy in proxies() {
        for (more, said) in &wrong {
            let directory = new_directory(proxy);
            let mut bootstrap = minimal(&directory);
            bootstrap["static_resources"] = json!({"clusters": [cluster(&ok, more)]});
            let path = directory.join("config.json");
            fs::write(&path, bootstrap.to_string()).expect("a file written");
            let output = proxy.run(&["--mode", "validate", "-c", path.to_str().expect("a path in UTF-8")]);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && text.contains(said), "{proxy:?} {more}: {text}");
            let _ = fs::remove_dir_all(&directory);
        }
    }
}
