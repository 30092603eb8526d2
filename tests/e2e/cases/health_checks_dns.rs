//! Hosts that are looked up by name and asked whether they are well.

use super::dns_clusters::{alike, cluster, site, wait_for};
use crate::harness::{DnsAnswer, DnsServer, Site};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Hosts at 127.0.1.1, 127.0.1.2 and 127.0.1.3, all on one port.
struct Hosts {
    port: u16,
    /// What each answers; 0 is nothing.
    statuses: Arc<Mutex<HashMap<u8, u16>>>,
}

impl Hosts {
    fn start() -> Hosts {
        let statuses = Arc::<Mutex<HashMap<u8, u16>>>::default();
        let (port, listeners) = loop {
            let first = TcpListener::bind(("127.0.1.1", 0)).expect("a port");
            let port = first.local_addr().expect("its address").port();
            let others = [2, 3].map(|i| TcpListener::bind((format!("127.0.1.{i}"), port)));
            if let [Ok(second), Ok(third)] = others {
                break (port, [first, second, third]);
            }
        };
        for (number, listener) in (1..).zip(listeners) {
            let statuses = statuses.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let statuses = statuses.clone();
                    thread::spawn(move || serve(stream, number, &statuses));
                }
            });
        }
        Hosts { port, statuses }
    }

    fn set(&self, number: u8, status: u16) {
        self.statuses.lock().expect("statuses").insert(number, status);
    }
}

fn serve(mut stream: TcpStream, number: u8, statuses: &Mutex<HashMap<u8, u16>>) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {
        let status = statuses.lock().expect("statuses").get(&number).copied().unwrap_or(200);
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        if status != 0 && stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn checks() -> Value {
    json!([{
        "timeout": "60s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 1,
        "healthy_threshold": 1, "http_health_check": {"path": "/"},
    }])
}

struct World {
    dns: DnsServer,
    hosts: Hosts,
    site: Site,
    seen: Vec<String>,
}

impl World {
    /// The last part of each host's address, and its flags.
    fn flags(&self) -> BTreeMap<String, String> {
        let text = self.site.proxy.admin.text("/clusters");
        let flags = text.lines().filter_map(|line| line.strip_prefix("c::")?.split_once("::health_flags::"));
        let number = |address: &str| address.split([':', '.']).nth(3).unwrap_or_default().to_string();
        flags.map(|(address, flags)| (number(address), flags.to_string())).collect()
    }

    #[track_caller]
    fn become_(&self, wanted: &[(&str, &str)]) {
        let wanted = wanted.iter().map(|(number, flags)| (number.to_string(), flags.to_string())).collect();
        wait_for(&wanted, || self.flags());
    }

    /// The name is looked up several times, and the hosts are as they were.
    fn after_lookups(&mut self) {
        let asked = self.dns.asked("h.test");
        wait_for(&true, || self.dns.asked("h.test") >= asked + 4);
        let seen = format!("{:?}", self.flags());
        self.seen.push(seen);
    }

    fn statistics(&mut self) {
        let stats = self.site.proxy.admin.stats();
        let wanted = ["membership_", "health_check.healthy", "max_host_weight"];
        let is_wanted = |name: &str| {
            name.strip_prefix("cluster.c.")
                .is_some_and(|name| wanted.iter().any(|part| name.starts_with(part)))
        };
        let lines: BTreeMap<_, _> = stats.iter().filter(|(name, _)| is_wanted(name)).collect();
        self.seen.push(format!("{lines:?}"));
    }

    fn answer(&self, addresses: &[&str]) {
        self.dns.set("h.test", DnsAnswer::of(addresses));
    }
}

fn run(kind: &str, first: &[&str], more: Value, prepare: fn(&Hosts), does: fn(&mut World)) {
    alike(|proxy| {
        let (dns, hosts) = (DnsServer::start(), Hosts::start());
        dns.set("h.test", DnsAnswer::of(first));
        prepare(&hosts);
        let mut fields = json!({
            "dns_refresh_rate": "0.05s", "dns_lookup_family": "V4_ONLY", "health_checks": checks(),
        });
        fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        let cluster = cluster("c", kind, &dns, &[("h.test", hosts.port)], &fields);
        let site = site(proxy, &[cluster]);
        let mut world = World { dns, hosts, site, seen: Vec::new() };
        does(&mut world);
        world.seen
    });
}

const ONE: &[&str] = &["127.0.1.1"];
const TWO: &[&str] = &["127.0.1.1", "127.0.1.2"];

#[test]
fn a_host_that_is_well_stays_without_its_name() {
    run(
        "STRICT_DNS",
        TWO,
        json!({}),
        |_| (),
        |world| {
            world.become_(&[("1", "healthy"), ("2", "healthy")]);
            world.answer(ONE);
            world.become_(&[("1", "healthy"), ("2", "/pending_dynamic_removal")]);
            world.after_lookups();
            world.statistics();
            // It comes back.
            world.answer(TWO);
            world.become_(&[("1", "healthy"), ("2", "healthy")]);
            world.answer(ONE);
            world.become_(&[("1", "healthy"), ("2", "/pending_dynamic_removal")]);
            world.hosts.set(2, 500);
            world.become_(&[("1", "healthy")]);
            world.statistics();
            // Another one of its address is to be checked first.
            world.answer(TWO);
            world.become_(&[("1", "healthy"), ("2", "/failed_active_hc")]);
            world.answer(ONE);
            world.become_(&[("1", "healthy")]);
            world.statistics();
        },
    );
}

#[test]
fn a_host_that_is_well_goes_with_its_name_if_that_is_wanted() {
    run(
        "STRICT_DNS",
        TWO,
        json!({"ignore_health_on_host_removal": true}),
        |_| (),
        |world| {
            world.become_(&[("1", "healthy"), ("2", "healthy")]);
            world.answer(ONE);
            world.become_(&[("1", "healthy")]);
            world.statistics();
            world.answer(&[]);
            world.become_(&[]);
            world.statistics();
        },
    );
}

#[test]
fn no_name_at_all_leaves_all_hosts_that_are_well() {
    run(
        "STRICT_DNS",
        TWO,
        json!({}),
        |hosts| hosts.set(2, 500),
        |world| {
            world.become_(&[("1", "healthy"), ("2", "/failed_active_hc")]);
            world.answer(&[]);
            world.become_(&[("1", "/pending_dynamic_removal")]);
            world.after_lookups();
            world.statistics();
        },
    );
}

#[test]
fn a_host_that_comes_does_not_count_before_its_first_check() {
    for ignores in [false, true] {
        let more = json!({"common_lb_config": {"ignore_new_hosts_until_first_hc": ignores}});
        let does = |world: &mut World| {
            world.become_(&[("1", "healthy")]);
            world.statistics();
            world.answer(&["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
            wait_for(&true, || world.flags().get("3").is_some_and(|flags| flags == "healthy"));
            world.after_lookups();
            world.statistics();
        };
        run("STRICT_DNS", ONE, more, |hosts| hosts.set(2, 0), does);
    }
}

#[test]
fn a_logical_host_is_another_one_when_its_address_is() {
    run(
        "LOGICAL_DNS",
        ONE,
        json!({}),
        |hosts| hosts.set(2, 0),
        |world| {
            world.become_(&[("1", "healthy")]);
            world.answer(&["127.0.1.2"]);
            world.after_lookups();
            world.statistics();
            world.hosts.set(3, 500);
            world.answer(&["127.0.1.3"]);
            world.after_lookups();
            world.statistics();
        },
    );
}
