//! The system calls that a request costs the worker of each proxy, by `strace -f`. Other threads do not count.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use crate::bootstrap::Bootstrap;
use crate::players::{Peer, Upstream, UpstreamKind};
use crate::proxy::{Launch, Proxy};

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: legate.test\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// What both call the thread that serves the requests.
const WORKER: &str = "wrk:worker_0";

/// How often the worker made each call.
pub type Calls = BTreeMap<String, usize>;

/// Has a proxy serve `requests` requests, one after another on kept-alive connections, and counts the calls of its worker.
///
/// # Errors
/// There is no strace, it may not trace, or the proxy does not serve.
pub fn count(
    binary: &Path,
    config: Option<&Path>,
    directory: &Path,
    requests: usize,
) -> Result<Calls, String> {
    let upstream = Upstream::new(UpstreamKind::Listening).map_err(|e| format!("no upstream: {e}"))?;
    let mut bootstrap = Bootstrap::load(config)?;
    bootstrap.set_addresses(upstream.address(), Vec::new());
    std::fs::create_dir_all(directory).map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    let calls = directory.join("calls");
    let calls_name = calls.to_string_lossy().into_owned();
    // -D keeps the proxy our child.
    let wrapper = ["strace", "-D", "-f", "-qq", "-o", &calls_name];
    let launch = Launch { binary, wrapper: &wrapper, options: &[], concurrency: 1, log_level: "warning" };
    let proxy = Proxy::start(&launch, &bootstrap.json(), directory)?;
    let read = || std::fs::read_to_string(&calls).map_err(|e| format!("{calls_name}: {e}"));
    let worker = proxy.thread(WORKER)?;

    let serve = || -> Result<usize, Box<dyn Error>> {
        let mut client = Peer::connect(proxy.listener())?;
        client.send(REQUEST)?;
        let mut server = upstream.accept()?;
        let mut respond = |client: &mut Peer| -> Result<(), Box<dyn Error>> {
            server.read_message()?;
            server.send(RESPONSE)?;
            client.read_message()?;
            Ok(())
        };
        respond(&mut client)?;
        proxy.settle();
        let before = read()?.lines().count();
        for _ in 0..requests {
            client.send(REQUEST)?;
            respond(&mut client)?;
        }
        proxy.settle();
        Ok(before)
    };
    let before = serve().map_err(|e| e.to_string())?;
    Ok(calls_of(&worker, &read()?, before))
}

/// Counts from line `from` on, for one thread.
fn calls_of(worker: &str, trace: &str, from: usize) -> Calls {
    let mut calls = Calls::new();
    for line in trace.lines().skip(from) {
        let Some((_, call)) = line.split_once(' ').filter(|(thread, _)| *thread == worker) else { continue };
        // A call that was interrupted by another thread's is told twice.
        let Some((name, _)) = call.trim_start().split_once('(').filter(|(name, _)| !name.contains(' '))
        else {
            continue;
        };
        *calls.entry(name.to_string()).or_default() += 1;
    }
    calls
}

/// Both side by side, the most frequent first.
pub fn table(envoy: &Calls, legate: &Calls, requests: usize) -> String {
    let per_request = |calls: &Calls, name: &str| {
        calls.get(name).map_or(String::new(), |n| format!("{:.2}", *n as f64 / requests as f64))
    };
    let total = |calls: &Calls| format!("{:.2}", calls.values().sum::<usize>() as f64 / requests as f64);
    let mut names: Vec<&String> = envoy.keys().chain(legate.keys()).collect();
    names.sort_by_key(|name| {
        let count = |calls: &Calls| calls.get(*name).copied().unwrap_or(0);
        (std::cmp::Reverse(count(envoy) + count(legate)), name.as_str())
    });
    names.dedup();
    let mut out = format!("{:<16} {:>8} {:>8}\n", "per request", "Envoy", "legate");
    for name in names {
        let row = format!("{name:<16} {:>8} {:>8}", per_request(envoy, name), per_request(legate, name));
        let _ = writeln!(out, "{}", row.trim_end());
    }
    let _ = writeln!(out, "{:<16} {:>8} {:>8}", "all", total(envoy), total(legate));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread_and_name() {
        let trace = "\
1 read(3, \"(\", 1) = 1
7 epoll_wait(5, <unfinished ...>
7 <... epoll_wait resumed>) = 1
7 recvfrom(9, \"GET\", 3) = 3
1 write(2, \"x\", 1) = 1
7 recvfrom(9, 0x1, 3) = -1 EAGAIN
7 +++ exited with 0 +++
";
        let calls = calls_of("7", trace, 1);
        assert_eq!(calls, Calls::from([("epoll_wait".to_string(), 1), ("recvfrom".to_string(), 2)]));
        assert_eq!(calls_of("7", trace, 5).len(), 1);
    }

    #[test]
    fn the_table_is_sorted_and_divided() {
        let calls = |list: &[(&str, usize)]| list.iter().map(|(n, c)| (n.to_string(), *c)).collect();
        let table = table(&calls(&[("readv", 40), ("writev", 20)]), &calls(&[("recvfrom", 50)]), 10);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "recvfrom                      5.00");
        assert_eq!(lines[2], "readv                4.00");
        assert_eq!(lines[4], "all                  6.00     5.00");
    }
}
