//! Names that a dnsmasq knows: both proxies find the same hosts behind them.

use super::dns_clusters::{alike, cluster_by, counted, hosts, resolver_at, site, wait_for};
use crate::harness::{Dnsmasq, proxies};
use serde_json::{Value, json};

const HOSTS: &str = "127.0.3.1 one.test\n127.0.3.1 both.test\n::1 both.test\n::1 six.test\n\
    127.0.3.2 two.test\n127.0.3.3 two.test\n";

/// `None`, and a word of it, where there is none.
fn dnsmasq(hosts: &str, settings: &[&str]) -> Option<Dnsmasq> {
    let started = Dnsmasq::start(hosts, settings);
    if started.is_none() {
        println!("SKIPPED: no dnsmasq (package dnsmasq-base), its answers are not looked at");
    }
    started
}

fn resolver(dns: &Dnsmasq) -> Value {
    let more = json!({"query_timeout_seconds": 1, "query_tries": 2});
    resolver_at(&dns.address.to_string(), dns.port, &more)
}

#[test]
fn names_of_all_kinds() {
    let long = format!("{0}.{0}.{0}.{1}.test", "a".repeat(63), "b".repeat(56));
    let many: String = (1..=200).map(|i| format!("127.0.4.{i} many.test\n")).collect();
    let known = format!("{HOSTS}{many}127.0.3.9 {long}\n");
    // An alias of an alias; everything else in this domain is unknown, and of others it says nothing.
    let settings = [
        "--cname=alias.test,chain.test",
        "--cname=chain.test,two.test",
        "--local=/test/",
        "--min-port=20000",
    ];
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        for family in ["AUTO", "V4_ONLY", "V6_ONLY", "V4_PREFERRED", "ALL"] {
            let Some(dns) = dnsmasq(&known, &settings) else { return };
            let names = [
                "one.test",
                "both.test",
                "six.test",
                "two.test",
                "alias.test",
                "chain.test",
                "many.test",
                &long,
                "ONE.test",
                "one.test.",
                "unknown.test",
                "elsewhere.example",
            ];
            alike(|proxy| {
                let more = json!({"dns_lookup_family": family});
                let name = |i: usize| format!("c{i}");
                let clusters: Vec<Value> = names
                    .iter()
                    .enumerate()
                    .map(|(i, host)| cluster_by(&name(i), kind, &resolver(&dns), &[(host, 80)], &more))
                    .collect();
                let site = site(proxy, &clusters);
                // dnsmasq turns the addresses of a name around, so that the first is anyone.
                let found = |i: usize| match hosts(&site, &name(i)) {
                    hosts if kind == "LOGICAL_DNS" => format!("{} hosts", hosts.len()),
                    hosts => format!("{hosts:?}"),
                };
                names
                    .iter()
                    .enumerate()
                    .map(|(i, host)| {
                        format!("{kind} {family} {host}: {} {:?}", found(i), counted(&site, &name(i)))
                    })
                    .collect()
            });
        }
    }
}

#[test]
fn hosts_follow_what_it_knows() {
    for proxy in proxies() {
        let Some(dns) = dnsmasq(HOSTS, &["--local=/test/"]) else { return };
        let more = json!({"dns_refresh_rate": "0.05s", "dns_lookup_family": "V4_ONLY"});
        let site = site(proxy, &[cluster_by("c", "STRICT_DNS", &resolver(&dns), &[("two.test", 80)], &more)]);
        let of = |addresses: &[u8]| -> Vec<String> {
            addresses.iter().map(|i| format!("127.0.3.{i}:80 two.test")).collect()
        };
        wait_for(&of(&[2, 3]), || hosts(&site, "c"));
        dns.set_hosts("127.0.3.3 two.test\n127.0.3.4 two.test\n");
        wait_for(&of(&[3, 4]), || hosts(&site, "c"));
        // Who does not answer changes nothing.
        dns.stop();
        let failures = || site.proxy.admin.stat("cluster.c.update_failure");
        wait_for(&true, || failures() > Some(0));
        assert_eq!(hosts(&site, "c"), of(&[3, 4]), "{proxy:?}");
        dns.go_on();
        dns.set_hosts("127.0.3.5 one.test\n");
        wait_for(&of(&[]), || hosts(&site, "c"));
        dns.set_hosts("127.0.3.5 two.test\n");
        wait_for(&of(&[5]), || hosts(&site, "c"));
    }
}
