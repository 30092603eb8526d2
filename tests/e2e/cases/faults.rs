//! System calls that fail: what one of them takes away is said, counted, and nothing else suffers.

use super::{get, line};
use crate::harness::{
    Case, Fault, Faults, Kind, Launch, PATIENCE, Proxy, Site, Threads, Wire, minimal, new_directory,
};
use nix::errno::Errno;
use nix::libc::EPOLL_CTL_ADD;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ACCEPT_FAILURE: &str = "listener.127.0.0.1_0.downstream_cx_accept_failure";

/// A case in which each request has an upstream connection of its own. One whose request went before it was
/// connected stays in the pool, but not for long.
fn case() -> Case {
    let idle = json!({"idle_timeout": "0.5s"});
    Case::new("faults")
        .cluster(json!({"max_requests_per_connection": 1, "common_http_protocol_options": idle}))
}

/// Legate with two workers, whose system calls can be made to fail.
fn with_faults(run: impl FnOnce(&mut Site, &Faults)) {
    let directory = new_directory(Kind::Legate);
    let Some(faults) = Faults::new(&directory) else { return };
    let wrapper = faults.wrapper();
    let wrapper = wrapper.each_ref().map(String::as_str);
    let launch = Launch { wrapper: &wrapper, workers: 2, ..Launch::default() };
    let mut site = Site::start_with(Kind::Legate, &[&case()], launch);
    // The proxy is ready before each worker has added its listener, which takes system calls too.
    assert_eq!(site.proxy.admin.wait_for_stat("listener_manager.listener_create_success", 2), Ok(()));
    run(&mut site, &faults);
    let _ = fs::remove_dir_all(directory);
}

/// A request on a connection of its own. It must not wait in vain.
fn ask(port: u16) -> String {
    ask_with(port, &get(""))
}

fn ask_with(port: u16, request: &[u8]) -> String {
    let start = Instant::now();
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return String::new() };
    let mut wire = Wire::new(stream);
    wire.send(request);
    let answer = String::from_utf8_lossy(&wire.answer(false)).into_owned();
    assert!(start.elapsed() < PATIENCE, "no answer, and no end either: {answer:?}");
    answer
}

/// Everyone is served again, and everything that was taken is given back.
fn assert_well(site: &Site, fds: usize) {
    for _ in 0..8 {
        let answer = ask(site.port(0));
        assert!(answer.ends_with("ok"), "{answer:?}\n{}", site.proxy.log());
    }
    for name in [
        "http.case0.downstream_cx_active",
        "http.case0.downstream_rq_active",
        "listener.127.0.0.1_0.downstream_cx_active",
        "cluster.case0.upstream_cx_active",
        "cluster.case0.upstream_rq_active",
        "cluster.case0.upstream_rq_pending_active",
    ] {
        assert_eq!(site.proxy.admin.wait_for_stat(name, 0), Ok(()), "{name}");
    }
    let deadline = Instant::now() + PATIENCE;
    while open_fds(site) > fds {
        assert!(Instant::now() < deadline, "{} fds instead of {fds}", open_fds(site));
        thread::sleep(Duration::from_millis(5)); // an fd tells nobody that it is gone
    }
}

fn open_fds(site: &Site) -> usize {
    fs::read_dir(format!("/proc/{}/fd", site.proxy.pid())).expect("its fds").count()
}

#[test]
fn a_loop_that_fails_ends_the_process() {
    for (threads, name) in [(Threads::Workers, "worker_"), (Threads::Main, "main_thread")] {
        with_faults(|site, faults| {
            faults.set("epoll_pwait", Fault { threads, ..Fault::once(Errno::EBADF) });
            let status = site.proxy.wait_for_exit(PATIENCE).expect("an end");
            let log = site.proxy.log();
            assert_eq!(status.code(), Some(1), "{name}: {log}");
            let text = format!("the event loop of {name}");
            let line = log.lines().find(|line| line.contains(&text)).expect("a line about it");
            assert!(line.contains("[critical][main]") && line.contains("Bad file descriptor"), "{line}");
        });
    }
}

#[test]
fn a_connection_that_cannot_be_watched_is_refused_alone() {
    with_faults(|site, faults| {
        let fds = open_fds(site);
        for error in [Errno::ENOSPC, Errno::ENOMEM] {
            let failures = site.proxy.admin.stat(ACCEPT_FAILURE).expect("the counter");
            faults.set("epoll_ctl", Fault { detail: EPOLL_CTL_ADD, ..Fault::once(error) });
            assert_eq!(ask(site.port(0)), "", "closed");
            assert_eq!(faults.clear("epoll_ctl"), 1);
            // The client may know before it is counted.
            assert_eq!(site.proxy.admin.wait_for_stat(ACCEPT_FAILURE, failures + 1), Ok(()), "{error}");
            assert_well(site, fds);
        }
        let log = site.proxy.log();
        assert!(log.contains("listener accept failure on 127.0.0.1:"), "{log}");
        assert!(log.contains(Errno::ENOSPC.desc()), "{log}");
    });
}

#[test]
fn an_upstream_connection_that_cannot_be_had_fails_its_request_alone() {
    with_faults(|site, faults| {
        let fds = open_fds(site);
        let watching = Fault { detail: EPOLL_CTL_ADD, skip: 1, ..Fault::once(Errno::ENOSPC) };
        let faulty = [
            ("epoll_ctl", watching),
            ("socket", Fault::once(Errno::EMFILE)),
            ("connect", Fault::once(Errno::EADDRNOTAVAIL)),
            ("getsockopt", Fault::once(Errno::ENOBUFS)),
        ];
        for (count, (call, fault)) in faulty.into_iter().enumerate() {
            faults.set(call, fault);
            let answer = ask(site.port(0));
            assert!(answer.starts_with("HTTP/1.1 503 "), "{call}: {answer}");
            assert_eq!(faults.clear(call), 1);
            let failures = site.proxy.admin.stat("cluster.case0.upstream_cx_connect_fail");
            assert_eq!(failures, Some(count as u64 + 1), "{call}");
            assert_well(site, fds);
        }
    });
}

/// What the manual says of each call that serving makes, where it can happen to a sound program.
const SERVING: [(&str, &[Errno]); 10] = [
    (
        "accept4",
        &[
            Errno::ECONNABORTED,
            Errno::EINTR,
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOBUFS,
            Errno::ENOMEM,
            Errno::EPERM,
            Errno::EPROTO,
        ],
    ),
    (
        "connect",
        &[
            Errno::EACCES,
            Errno::EADDRINUSE,
            Errno::EADDRNOTAVAIL,
            Errno::EAGAIN,
            Errno::ECONNREFUSED,
            Errno::EINTR,
            Errno::ENETUNREACH,
            Errno::EPERM,
            Errno::ETIMEDOUT,
        ],
    ),
    ("epoll_ctl", &[Errno::ENOMEM, Errno::ENOSPC]),
    ("epoll_pwait", &[Errno::EINTR]),
    ("getsockopt", &[Errno::ENOBUFS, Errno::ENOMEM]),
    ("recv", &[Errno::EINTR, Errno::ECONNREFUSED, Errno::ECONNRESET, Errno::ENOMEM, Errno::ETIMEDOUT]),
    ("send", &[Errno::EINTR, Errno::ECONNRESET, Errno::ENOBUFS, Errno::ENOMEM, Errno::EPIPE]),
    ("setsockopt", &[Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL]),
    ("socket", &[Errno::EACCES, Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM]),
    ("write", &[Errno::EIO, Errno::ENOSPC]),
];

#[test]
fn each_call_may_fail_while_it_serves() {
    with_faults(|site, faults| {
        let fds = open_fds(site);
        for (call, errors) in SERVING {
            for (error, skip) in errors.iter().flat_map(|error| [(*error, 0), (*error, 1)]) {
                // Nobody but the log writes to standard error.
                let (threads, detail) =
                    if call == "write" { (Threads::All, 2) } else { (Threads::Workers, 0) };
                faults.set(call, Fault { threads, detail, skip, ..Fault::once(error) });
                let answers: Vec<String> = (0..3).map(|_| ask(site.port(0))).collect();
                let hits = faults.clear(call);
                assert!(hits == 1 || call == "write", "{call} is not called");
                assert!(site.proxy.runs(), "{call} {error}: {}", site.proxy.log());
                let whole = |answer: &&String| answer.is_empty() || answer.starts_with("HTTP/1.1 ");
                assert_eq!(answers.iter().filter(whole).count(), 3, "{call} {error}: {answers:?}");
            }
        }
        assert_well(site, fds);
        site.proxy.signal(Signal::SIGTERM);
        let status = site.proxy.wait_for_exit(PATIENCE).and_then(|status| status.code());
        assert_eq!(status, Some(0), "{}", site.proxy.log());
    });
}

/// Many calls fail at the same time, again and again.
#[test]
fn calls_that_fail_by_chance_leave_nothing_behind() {
    with_faults(|site, faults| {
        let fds = open_fds(site);
        for (call, errors) in SERVING.iter().filter(|(call, _)| *call != "write") {
            let often = Fault { threads: Threads::Workers, chance: 65536 / 50, ..Fault::always(errors[0]) };
            faults.set(call, often);
        }
        let left = AtomicUsize::new(400);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                    {
                        ask(site.port(0));
                    }
                });
            }
        });
        let hits: u32 = SERVING.iter().map(|(call, _)| faults.clear(call)).sum();
        assert!(hits > 50, "{hits}");
        assert_well(site, fds);
    });
}

/// Of starting. The calls of one entry fail together: for some, libevent has others in reserve.
const STARTING: [(&[&str], Errno); 13] = [
    (&["bind"], Errno::EADDRINUSE),
    (&["epoll_create", "epoll_create1"], Errno::EMFILE),
    (&["epoll_ctl"], Errno::ENOSPC),
    (&["eventfd"], Errno::EMFILE),
    (&["eventfd", "pipe", "pipe2", "socketpair"], Errno::EMFILE),
    (&["getsockname"], Errno::ENOBUFS),
    (&["listen"], Errno::EADDRINUSE),
    (&["open64"], Errno::EMFILE),
    (&["pipe", "pipe2", "socketpair"], Errno::ENFILE),
    (&["pthread_create"], Errno::EAGAIN),
    (&["setsockopt"], Errno::ENOMEM),
    (&["sigaction"], Errno::EINVAL),
    (&["socket"], Errno::ENFILE),
];

/// Starts legate so that each of the calls fails a few times after `skip` that work. The result is whether it
/// came to that, or what is wrong with what legate does.
fn start_with(calls: &[&str], error: Errno, skip: u32, faults: &Faults) -> Result<bool, String> {
    for call in calls {
        let detail = if *call == "epoll_ctl" { EPOLL_CTL_ADD } else { 0 };
        faults.set(call, Fault { skip, detail, times: 4, ..Fault::always(error) });
    }
    let wrapper = faults.wrapper();
    let wrapper = wrapper.each_ref().map(String::as_str);
    let launch = Launch { wrapper: &wrapper, workers: 2, ..Launch::default() };
    let directory = new_directory(Kind::Legate);
    let mut proxy = Proxy::spawn(Kind::Legate, &minimal(&directory), directory, launch);
    let exited = proxy.wait_until_ready(PATIENCE);
    let hits: u32 = calls.iter().map(|call| faults.clear(call)).sum();
    let said = |what: &str| proxy.log().contains(what);
    if let Some(status) = exited {
        let fine = status.code().is_some_and(|code| code != 0 && code != 101);
        let named = said("[critical]") || said("Failed to open log-file");
        return if fine && named { Ok(hits > 0) } else { Err(format!("{status}: {}", proxy.log())) };
    }
    let port = proxy.admin.listeners().get("case0").copied().unwrap_or_default();
    if !said("[critical]") && !ask_with(port, &line("GET /direct HTTP/1.1")).ends_with("direct") {
        return Err(format!("it does not serve: {}", proxy.log()));
    }
    proxy.signal(Signal::SIGTERM);
    match proxy.wait_for_exit(PATIENCE).and_then(|status| status.code()) {
        Some(0) => Ok(hits > 0),
        other => Err(format!("it ends with {other:?}: {}", proxy.log())),
    }
}

#[test]
fn each_call_may_fail_while_it_starts() {
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((calls, error)) = STARTING.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let directory = new_directory(Kind::Legate);
                    let Some(faults) = Faults::new(&directory) else { return };
                    for skip in 0..100 {
                        match start_with(calls, *error, skip, &faults) {
                            Ok(true) => {}
                            Ok(false) => break,
                            Err(what) => {
                                let text = format!("{calls:?} {error} after {skip}: {what}");
                                problems.lock().expect("no panic").push(text);
                            }
                        }
                    }
                    let _ = fs::remove_dir_all(directory);
                }
            });
        }
    });
    let problems = problems.into_inner().expect("no panic");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
