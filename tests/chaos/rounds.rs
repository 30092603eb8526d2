//! Rounds of chaos, each followed by a look at whether everything is as before.

use super::client::{Plan, play};
use super::harness::Proxy;
use super::harness::wire::Wire;
use super::options::Options;
use super::plan::{derive, once_in};
use super::rest::{Rest, SETTLING, rss};
use super::sites::{KINDS, Kind, Sites};
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections of each client in a round.
const CONNECTIONS: u64 = 12;
/// Faults of a round that are shown.
const SHOWN: usize = 12;
/// Rounds after which memory should not grow any more, and by how much it may nevertheless.
const WARM: u64 = 3;
const GROWTH_KIB: u64 = 4 * 1024;

#[test]
fn random_clients_and_upstreams_leave_nothing_behind() {
    let options = Options::from_env();
    let mut sites = Sites::start(options.against);
    let rest = Rest::of(&sites.proxy, sites.port(Kind::Plain));
    let begun = Instant::now();
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let (mut number, mut warm) = (0, 0);
    while number < options.rounds && (number == 0 || begun.elapsed() < options.time) {
        let seed = options.seed.wrapping_add(number);
        println!(
            "round {number}, seed {seed}: {} s, RSS {} KiB",
            begun.elapsed().as_secs(),
            rss(&sites.proxy)
        );
        let mut faults = round(&sites, seed, options, &mut statuses);
        if sites.proxy.runs() {
            faults.extend(rest.differs(&sites.proxy, sites.port(Kind::Plain)));
        } else {
            faults.push("the proxy has ended".into());
        }
        if !faults.is_empty() {
            let files = sites.proxy.keep_files().display().to_string();
            panic!(
                "seed {seed}: {} faults (again: make chaos CHAOS='--seed {seed} --rounds 1')\n{}\n\
                 the proxy's files are kept in {files}; its log:\n{}",
                faults.len(),
                faults[..faults.len().min(SHOWN)].join("\n"),
                sites.proxy.log()
            );
        }
        number += 1;
        if number <= WARM {
            warm = rss(&sites.proxy);
        }
    }
    let requests: u64 = sites.upstreams.iter().map(|u| u.requests()).sum();
    let grown = rss(&sites.proxy).saturating_sub(warm);
    println!(
        "{number} rounds, {requests} requests came to upstreams, RSS {warm} KiB, then {grown} more; {statuses:?}"
    );
    println!("{}", counted(&sites.proxy));
    assert_eq!(ends_politely(&mut sites), Ok(()), "seed {}", options.seed);
    assert!(grown < GROWTH_KIB, "seed {}: RSS {warm} KiB, then {grown} more", options.seed);
}

/// What happened, added up over the sites.
fn counted(proxy: &Proxy) -> String {
    let of_sites = ["http.", "cluster."];
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (name, value) in proxy.admin.stats() {
        let of_site =
            of_sites.iter().any(|start| name.starts_with(start)) && !name.starts_with("http.admin.");
        if let (true, Some(counter)) = (of_site && value > 0, name.splitn(3, '.').nth(2)) {
            *sums.entry(counter.to_string()).or_default() += value;
        }
    }
    sums.iter().map(|(name, sum)| format!("{name} {sum}")).collect::<Vec<_>>().join(", ")
}

/// One round; what is wrong.
fn round(sites: &Sites, seed: u64, options: Options, statuses: &mut BTreeMap<u16, u64>) -> Vec<String> {
    sites.upstreams.iter().for_each(|upstream| upstream.ends.open());
    let over = AtomicBool::new(false);
    let results = Mutex::new((Vec::new(), statuses));
    thread::scope(|scope| {
        let disturber = scope.spawn(|| disturb(&sites.proxy, seed, &over));
        let clients: Vec<_> = (0..options.clients)
            .filter(|client| options.only.is_none_or(|only| only == *client))
            .map(|client| {
                let results = &results;
                scope.spawn(move || {
                    for connection in 0..CONNECTIONS {
                        // What comes after a failure says nothing.
                        if !results.lock().expect("no panic").0.is_empty() {
                            return;
                        }
                        let plan = Plan::new(derive(derive(seed, client), connection));
                        let place = KINDS.iter().position(|k| *k == plan.kind).unwrap_or_default();
                        let outcome = play(&plan, sites.port(plan.kind), &sites.upstreams[place]);
                        let mut results = results.lock().expect("no panic");
                        let fault =
                            outcome.fault.map(|f| format!("client {client}, connection {connection}: {f}"));
                        results.0.extend(fault);
                        for status in outcome.statuses {
                            *results.1.entry(status).or_default() += 1;
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client that ends");
        }
        over.store(true, Ordering::Relaxed);
        disturber.join().expect("its end");
    });
    // Their idle connections end in one of three ways: the upstream's end, a reset, or the proxy's time limit.
    let way = derive(seed, 1_000) % 3;
    for (kind, upstream) in KINDS.iter().zip(&sites.upstreams) {
        if way > 0 || !kind.has_limits() {
            upstream.ends.close(way == 1);
        }
    }
    let mut faults = results.into_inner().expect("no panic").0;
    faults.extend(sites.upstreams.iter().flat_map(|u| u.take_complaints()));
    faults
}

/// What is asked of the admin interface meanwhile, among it a page of megabytes.
const PAGES: [&str; 8] = [
    "POST /trace?enable=y",
    "POST /trace?enable=y",
    "POST /trace?enable=n",
    "GET /trace?format=json",
    "GET /stats",
    "GET /clusters",
    "GET /listeners",
    "GET /ready",
];

/// Switches the recorder and asks for pages, and stops the process now and then, so that much has come when it
/// looks again.
fn disturb(proxy: &Proxy, seed: u64, over: &AtomicBool) {
    let mut rng = Rng::with_seed(derive(seed, 2_000));
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(rng.u64(5..60)));
        if !once_in(&mut rng, 4) {
            proxy.signal(Signal::SIGSTOP);
            thread::sleep(Duration::from_millis(rng.u64(1..15)));
            proxy.signal(Signal::SIGCONT);
            continue;
        }
        let mut wire = Wire::connect(proxy.admin.address.port());
        let page = PAGES[rng.usize(0..PAGES.len())];
        wire.send(format!("{page} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"));
        if once_in(&mut rng, 4) {
            wire.reset();
        } else {
            wire.rest();
        }
    }
}

/// SIGTERM ends the process, whatever its connections wait for.
fn ends_politely(sites: &mut Sites) -> Result<(), String> {
    let wires = ["", "GET /half HT", "POST /whole HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\n"]
        .map(|bytes| {
            let mut wire = Wire::connect(sites.port(Kind::Plain));
            wire.send(bytes);
            wire
        });
    sites.proxy.signal(Signal::SIGTERM);
    let status = sites.proxy.wait_for_exit(SETTLING).map(|status| status.code());
    drop(wires);
    if status == Some(Some(0)) { Ok(()) } else { Err(format!("SIGTERM: {status:?}\n{}", sites.proxy.log())) }
}
