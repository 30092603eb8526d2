//! A thread that does not come back to its loop: counted, and the end of the process when that is configured.

use super::get;
use crate::harness::{Case, Fault, Faults, Kind, Launch, PATIENCE, Site, Wire, new_directory, proxies};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

const CALM: &str = "watchdogs: {worker_watchdog: {miss_timeout: 0.1s, megamiss_timeout: 0.3s}}";
const SEVERE: &str = "watchdogs: {worker_watchdog: {miss_timeout: 0.1s, kill_timeout: 0.3s}}";

/// A proxy with two workers, one of which hangs while it takes this client's connection.
fn hanging(kind: Kind, watchdogs: &str, run: impl FnOnce(&mut Site, &Faults, Wire)) {
    let directory = new_directory(kind);
    let Some(faults) = Faults::new(&directory) else { return };
    let wrapper = faults.wrapper();
    let wrapper = wrapper.each_ref().map(String::as_str);
    let launch = Launch {
        wrapper: &wrapper,
        workers: 2,
        arguments: &["--config-yaml", watchdogs],
        ..Launch::default()
    };
    let case = Case::new("hang");
    let mut site = Site::start_with(kind, &[&case], launch);
    faults.set("setsockopt", Fault::hang());
    let mut client = Wire::connect(site.port(0));
    client.send(get(""));
    run(&mut site, &faults, client);
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_thread_that_is_away_is_counted() {
    for kind in proxies() {
        hanging(kind, CALM, |site, faults, mut client| {
            let deadline = Instant::now() + PATIENCE;
            let stats = loop {
                let stats = site.proxy.admin.stats();
                if stats["workers.watchdog_mega_miss"] > 0 || Instant::now() > deadline {
                    break stats;
                }
            };
            let of = |name: &str| stats[&format!("{name}.watchdog_mega_miss")];
            assert_eq!(of("workers"), 1, "{kind:?}: {}", site.proxy.log());
            assert_eq!(of("server.worker_0") + of("server.worker_1"), 1, "{kind:?}");
            assert_eq!((of("main_thread"), of("server.main_thread")), (0, 0), "{kind:?}");
            // A busy machine may add misses of its own.
            assert!(stats["workers.watchdog_miss"] >= 1, "{kind:?}");
            faults.clear("setsockopt");
            assert!(client.answer(false).ends_with(b"ok"), "{kind:?}: it goes on");
        });
    }
}

#[test]
fn kill_timeout_ends_the_process() {
    for kind in proxies() {
        hanging(kind, SEVERE, |site, _, client| {
            let status = site.proxy.wait_for_exit(PATIENCE).expect("an end");
            assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{kind:?}: {status:?}");
            let text = "panic: GuardDog: one thread (";
            let log = site.proxy.log();
            assert!(
                kind == Kind::Envoy || (log.contains(text) && log.contains("[critical][assert]")),
                "{log}"
            );
            drop(client);
        });
    }
}
