//! Signals: how a proxy ends, reopens its logs, and what it does not mind.

use super::{get, line};
use crate::harness::{Action, Case, Kind, PATIENCE, Site, Wire, new_directory, proxies};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// How soon a proxy that is told to has to end.
const END: Duration = Duration::from_secs(2);

#[test]
fn sigterm_ends_with_idle_connections_and_requests_in_progress() {
    for kind in proxies() {
        let idle = Case::new("idle");
        let silent = Case::new("silent").scripts([vec![Action::Head]]);
        let mut site = Site::start(kind, &[&idle, &silent]);
        let mut idle = Wire::connect(site.port(0));
        idle.send(get(""));
        assert!(idle.answer(false).ends_with(b"ok"), "{kind:?}");
        let fresh = Wire::connect(site.port(0));
        let mut busy = Wire::connect(site.port(1));
        busy.send(get(""));
        assert!(site.boards[1].wait(PATIENCE, |seen| seen.upstream_has(b"\r\n\r\n")), "{kind:?}");

        site.proxy.signal(Signal::SIGTERM);
        let status = site.proxy.wait_for_exit(if kind == Kind::Legate { END } else { PATIENCE });
        assert_eq!(status.map(|s| s.code()), Some(Some(0)), "{kind:?}: {}", site.proxy.log());
        for mut connection in [idle, fresh, busy] {
            assert_eq!(connection.rest(), b"", "{kind:?}");
        }
    }
}

/// Half an empty line at the admin must not keep the main thread busy.
#[test]
fn sigterm_ends_beside_a_lone_cr_at_the_admin() {
    for kind in proxies() {
        let mut site = Site::start(kind, &[&Case::new("admin")]);
        let mut wire = Wire::new(TcpStream::connect(site.proxy.admin.address).expect("a connection"));
        wire.send("\r");
        // A later connection is served after what came on earlier ones.
        assert!(site.proxy.admin.get("/ready").is_some(), "{kind:?}");
        wire.send("\nGET /ready HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(wire.answer(false).starts_with(b"HTTP/1.1 200 "), "{kind:?}");
        wire.send("\r");
        site.proxy.signal(Signal::SIGTERM);
        let status = site.proxy.wait_for_exit(if kind == Kind::Legate { END } else { PATIENCE });
        assert_eq!(status.map(|s| s.code()), Some(Some(0)), "{kind:?}: {}", site.proxy.log());
    }
}

/// Envoy neither starts while nobody has the pipe open for reading nor ends while nobody reads.
#[test]
fn sigterm_ends_although_nobody_reads_the_access_log() {
    let directory = new_directory(Kind::Legate);
    let path = directory.join("log");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": path.to_string_lossy(),
    });
    let case = Case::new("pipe").hcm(json!({"access_log": [{"name": "file", "typed_config": log}]}));
    let mut site = Site::start(Kind::Legate, &[&case]);
    let mut client = Wire::connect(site.port(0));
    let mut ask = || {
        client.send(line("GET /direct HTTP/1.1"));
        assert!(client.answer(false).ends_with(b"direct"));
    };
    ask();
    // Nobody reads, and the pipe takes no more.
    let mut full = OpenOptions::new();
    let mut full =
        full.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).expect("the pipe");
    while full.write(&[b'x'; 4096]).is_ok() {}
    ask();
    site.proxy.signal(Signal::SIGTERM);
    let status = site.proxy.wait_for_exit(PATIENCE);
    assert_eq!(status.map(|s| s.code()), Some(Some(0)), "{}", site.proxy.log());
    assert!(site.proxy.log().contains("is not waited for"), "{}", site.proxy.log());
    let _ = fs::remove_dir_all(directory);
}

#[test]
fn sigusr1_reopens_the_access_log() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("log")]);
        let path = site.access_log(0);
        let moved = path.with_extension("moved");
        let mut client = Wire::connect(site.port(0));
        let mut ask = |deadline: Instant, done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < deadline, "{kind:?}: no line\n{}", site.proxy.log());
                client.send(line("GET /direct HTTP/1.1"));
                assert!(client.answer(false).ends_with(b"direct"), "{kind:?}");
            }
        };
        let has_line = || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'));
        ask(Instant::now() + PATIENCE, &has_line);
        fs::rename(&path, &moved).expect("the log moved");
        site.proxy.signal(Signal::SIGUSR1);
        ask(Instant::now() + PATIENCE, &has_line);
        let text = fs::read_to_string(&path).expect("the new log");
        assert!(text.lines().all(|line| line.starts_with("200 - direct_response")), "{kind:?}: {text}");
        let text = fs::read_to_string(&moved).expect("the old log");
        assert!(text.lines().all(|line| line.starts_with("200 - direct_response")), "{kind:?}: {text}");
    }
}

#[test]
fn sighup_and_sigpipe_end_nothing() {
    for kind in proxies() {
        let mut site = Site::start(kind, &[&Case::new("any")]);
        let mut client = Wire::connect(site.port(0));
        site.proxy.signal(Signal::SIGPIPE);
        site.proxy.signal(Signal::SIGHUP);
        let deadline = Instant::now() + PATIENCE;
        while !site.proxy.log().contains("SIGHUP") {
            assert!(site.proxy.runs() && Instant::now() < deadline, "{kind:?}: {}", site.proxy.log());
            client.send(get(""));
            assert!(client.answer(false).ends_with(b"ok"), "{kind:?}");
        }
        client.send(get(""));
        assert!(client.answer(false).ends_with(b"ok"), "{kind:?}");
        assert!(site.proxy.runs(), "{kind:?}");
    }
}
