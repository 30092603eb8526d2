//! What has to be so once nothing is going on any more.

use super::harness::wire::Wire;
use super::harness::{Admin, Proxy};
use super::sites::WORKERS;
use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long things may take to end.
pub const SETTLING: Duration = Duration::from_secs(8);
/// Over which CPU time is looked at, and how much of it a thread at rest may use.
const WATCHED: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_millis(9);

/// A proxy at rest.
#[derive(Clone, Debug)]
pub struct Rest {
    gauges: BTreeMap<String, u64>,
    fds: usize,
}

/// A statistic that says what is going on at the moment; the admin's own are left out.
fn is_momentary(name: &str) -> bool {
    let ends = ["_active", "_open", "_bytes_buffered", "_draining"];
    let own = ["http.admin.", "listener.admin.", "runtime.", "listener_manager."];
    let momentary = name.contains(".remaining_") || ends.iter().any(|end| name.ends_with(end));
    momentary && !own.iter().any(|start| name.starts_with(start))
}

/// Every such statistic.
fn gauges(admin: Admin) -> BTreeMap<String, u64> {
    admin.stats().into_iter().filter(|(name, _)| is_momentary(name)).collect()
}

/// Open descriptors of a process.
pub fn fds(proxy: &Proxy) -> usize {
    fs::read_dir(format!("/proc/{}/fd", proxy.pid())).map_or(0, Iterator::count)
}

/// `VmRSS` in KiB.
pub fn rss(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// CPU time of each thread of a process, by its name and id.
fn cpu(proxy: &Proxy) -> BTreeMap<String, Duration> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).into_iter().flatten().flatten();
    let time = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let used = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds = used.split_whitespace().next()?.parse().ok()?;
        let name = format!("{} {}", name.trim(), task.file_name().to_string_lossy());
        Some((name, Duration::from_nanos(nanoseconds)))
    };
    tasks.filter_map(time).collect()
}

impl Rest {
    /// How a proxy is before anything happens.
    pub fn of(proxy: &Proxy, port: u16) -> Rest {
        each_worker_answers(proxy, port).expect("every worker answers");
        settle("before anything has happened", || {
            let gauges = gauges(proxy.admin);
            let going_on = gauges.iter().filter(|(n, v)| **v > 0 && !n.contains("remaining_"));
            let going_on: Vec<&str> = going_on.map(|(n, _)| n.as_str()).collect();
            if going_on.is_empty() { Ok(()) } else { Err(going_on.join(" ")) }
        })
        .expect("rest");
        Rest { gauges: gauges(proxy.admin), fds: fds(proxy) }
    }

    /// Everything that is wrong with a proxy that should be at rest.
    pub fn differs(&self, proxy: &Proxy, port: u16) -> Vec<String> {
        let checks = [
            settle("threads at rest", || threads_are_idle(proxy)),
            each_worker_answers(proxy, port),
            settle("gauges", || self.gauges_fit(proxy.admin)),
            settle("descriptors", || {
                let now = fds(proxy);
                if now <= self.fds { Ok(()) } else { Err(format!("{now} instead of {}", self.fds)) }
            }),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn gauges_fit(&self, admin: Admin) -> Result<(), String> {
        let now = gauges(admin);
        let other = self.gauges.iter().filter(|(name, value)| now.get(*name) != Some(*value));
        let other: Vec<String> =
            other.map(|(name, value)| format!("{name} is {:?} instead of {value}", now.get(name))).collect();
        if other.is_empty() { Ok(()) } else { Err(other.join("\n    ")) }
    }
}

/// Waits until something is so.
fn settle(what: &str, mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + SETTLING;
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(format!("{what}: {error}")),
            Err(_) => thread::sleep(Duration::from_millis(20)), // there is no event for rest
        }
    }
}

fn threads_are_idle(proxy: &Proxy) -> Result<(), String> {
    let before = cpu(proxy);
    thread::sleep(WATCHED); // that nothing happens is no event
    let after = cpu(proxy);
    let used = |(name, time): (&String, &Duration)| (name.clone(), *time - *before.get(name).unwrap_or(time));
    let busy: Vec<String> = after
        .iter()
        .map(used)
        .filter(|(_, t)| *t > IDLE)
        .map(|(name, t)| format!("{name} used {t:?}"))
        .collect();
    if before.is_empty() {
        return Err("there is no such process".into());
    }
    if busy.is_empty() { Ok(()) } else { Err(format!("{} of {WATCHED:?}", busy.join(", "))) }
}

/// Each worker takes a connection and answers on it, and so does everyone who takes one.
fn each_worker_answers(proxy: &Proxy, port: u16) -> Result<(), String> {
    let deadline = Instant::now() + SETTLING;
    let taken = || -> Vec<u64> {
        let stats = proxy.admin.stats();
        let name = |worker| format!("listener.127.0.0.1_{port}.worker_{worker}.downstream_cx_total");
        let fallback = |worker| format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total");
        let of = |worker| stats.get(&name(worker)).or_else(|| stats.get(&fallback(worker))).copied();
        (0..WORKERS).map(|worker| of(worker).unwrap_or_default()).collect()
    };
    let before = taken();
    loop {
        let mut wires: Vec<Wire> = (0..8).map(|_| Wire::connect(port)).collect();
        for wire in &mut wires {
            wire.send("GET /direct HTTP/1.1\r\nhost: rest.test\r\n\r\n");
        }
        for wire in &mut wires {
            if !wire.answer(false).ends_with(b"direct") {
                return Err("workers: a connection is not answered".into());
            }
        }
        let now = taken();
        let silent: Vec<usize> = (0..before.len()).filter(|i| now[*i] == before[*i]).collect();
        if silent.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("workers: {silent:?} take no connections ({before:?}, {now:?})"));
        }
    }
}
