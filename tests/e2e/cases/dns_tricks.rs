//! Servers that answer in odd ways, and names that are odd themselves: both proxies make the same of them.

use super::dns_clusters::{alike, cluster, counted, hosts, resolver, site, wait_for};
use crate::harness::{DnsAnswer, DnsServer, Kind, Trick, proxies};
use serde_json::{Value, json};

/// What becomes of names whose answers come in these ways.
fn with_tricks(tricks: &[(&str, DnsAnswer)], more: &Value) {
    alike(|proxy| {
        let dns = DnsServer::start();
        tricks.iter().for_each(|(name, answer)| dns.set(name, answer.clone()));
        let more = json!({
            "dns_lookup_family": "V4_ONLY",
            "typed_dns_resolver_config": resolver(&dns, more),
        });
        let of = |(name, _): &(&str, DnsAnswer)| cluster(name, "STRICT_DNS", &dns, &[(name, 80)], &more);
        let site = site(proxy, &tricks.iter().map(of).collect::<Vec<_>>());
        tricks
            .iter()
            .map(|(name, _)| format!("{name}: {:?} {:?}", hosts(&site, name), counted(&site, name)))
            .collect()
    });
}

fn two() -> DnsAnswer {
    DnsAnswer::of(&["127.0.0.2", "127.0.0.3"])
}

#[test]
fn tricks_with_datagrams() {
    let tricks = [
        ("id.test", two().with(Trick::OtherId)),
        ("name.test", two().with(Trick::OtherName)),
        ("letters.test", two().with(Trick::SmallLetters)),
    ];
    with_tricks(&tricks, &json!({"query_timeout_seconds": 1, "query_tries": 2}));
}

/// Here they differ: Envoy gives up what is only a half, and takes as much as a datagram may have.
#[test]
fn halves_and_more_than_evdns_keeps() {
    for proxy in proxies() {
        let dns = DnsServer::start();
        dns.set("half.test", two().with(Trick::Half));
        dns.set("wide.test", DnsAnswer::many(60).with(Trick::Wide));
        let more = json!({
            "dns_lookup_family": "V4_ONLY",
            "typed_dns_resolver_config": resolver(&dns, &json!({"query_timeout_seconds": 1, "query_tries": 2})),
        });
        let of = |name| cluster(name, "STRICT_DNS", &dns, &[(name, 80)], &more);
        let site = site(proxy, &[of("half.test"), of("wide.test")]);
        let counts = [hosts(&site, "half.test").len(), hosts(&site, "wide.test").len()];
        assert_eq!(counts, if proxy == Kind::Legate { [2, 32] } else { [0, 60] }, "{proxy:?}");
    }
}

#[test]
fn tricks_with_streams() {
    let tricks = [
        ("slow.test", DnsAnswer::many(200).with(Trick::Slow)),
        ("more.test", two().with(Trick::MoreByTcp)),
        ("half.test", two().with(Trick::HalfByTcp)),
        ("silent.test", two().with(Trick::SilentByTcp)),
        ("name.test", two().with(Trick::OtherNameByTcp)),
        ("empty.test", two().with(Trick::EmptyByTcp)),
    ];
    let tries = json!({"query_timeout_seconds": 1, "query_tries": 2});
    with_tricks(&tricks, &tries);
    let by_tcp = json!({
        "query_timeout_seconds": 1, "query_tries": 2,
        "dns_resolver_options": {"no_default_search_domain": true, "use_tcp_for_dns_lookups": true},
    });
    with_tricks(&tricks, &by_tcp);
}

#[test]
fn many_silent_names_do_not_hold_up_another() {
    for proxy in proxies() {
        let dns = DnsServer::start();
        dns.set("good.test", DnsAnswer::of(&["127.0.0.2"]));
        let names: Vec<String> = (0..100).map(|i| format!("silent{i}.test")).collect();
        names.iter().for_each(|name| dns.set(name, DnsAnswer::silence()));
        let all: Vec<&str> = names.iter().map(String::as_str).chain(["good.test"]).collect();
        let more = json!({
            "dns_lookup_family": "V4_ONLY", "wait_for_warm_on_init": false,
            "typed_dns_resolver_config": resolver(&dns, &json!({"query_timeout_seconds": 60})),
        });
        let all: Vec<(&str, u16)> = all.into_iter().map(|name| (name, 80)).collect();
        let site = site(proxy, &[cluster("c", "STRICT_DNS", &dns, &all, &more)]);
        wait_for(&vec!["127.0.0.2:80 good.test".to_string()], || hosts(&site, "c"));
    }
}
