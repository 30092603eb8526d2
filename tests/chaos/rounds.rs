//! Rounds of chaos, each followed by a look at whether everything is as before.

use super::client::{Plan, play};
use super::harness::{Kind as ProxyKind, Proxy};
use super::options::Options;
use super::plan::derive;
use super::rest::{Rest, SETTLING, rss};
use super::sites::{KINDS, Kind, Sites};
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
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
    sites.proxy.signal(Signal::SIGTERM);
    let status = sites.proxy.wait_for_exit(SETTLING).map(|status| status.code());
    assert_eq!(status, Some(Some(0)), "seed {}: SIGTERM: {}", options.seed, sites.proxy.log());
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
        let disturber = scope.spawn(|| disturb(&sites.proxy, seed, options.against, &over));
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

/// Switches the recorder, and stops the process now and then, so that much has come when it looks again.
fn disturb(proxy: &Proxy, seed: u64, against: ProxyKind, over: &AtomicBool) {
    let mut rng = Rng::with_seed(derive(seed, 2_000));
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(rng.u64(5..60)));
        if rng.u32(0..4) > 0 {
            proxy.signal(Signal::SIGSTOP);
            thread::sleep(Duration::from_millis(rng.u64(1..15)));
            proxy.signal(Signal::SIGCONT);
        } else if against == ProxyKind::Legate {
            let to = if rng.bool() { "y" } else { "n" };
            if let Ok(mut stream) = TcpStream::connect(proxy.admin.address) {
                let request =
                    format!("POST /trace?enable={to} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(request.as_bytes());
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    }
}
