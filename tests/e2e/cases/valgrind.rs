//! Legate under valgrind: nothing read that was not written, nothing used that was freed, nothing lost.

use super::{get, line, post};
use crate::harness::{Action, Case, Kind, Launch, Site, Wire};
use nix::sys::signal::Signal;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Everything is some twenty times as slow there.
const SLOWLY: Duration = Duration::from_secs(60);

const WRAPPER: [&str; 5] =
    ["valgrind", "--quiet", "--error-exitcode=97", "--leak-check=full", "--errors-for-leak-kinds=definite"];

fn valgrind_is_there() -> bool {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: no valgrind, memory is not checked");
    }
    found
}

/// Sends, and expects an answer with that status line and end.
fn ask(wire: &mut Wire, request: impl AsRef<[u8]>, status: &str, end: &str) {
    let to_head = request.as_ref().starts_with(b"HEAD");
    assert!(wire.send(&request), "{}", request.as_ref().escape_ascii());
    let answer = String::from_utf8_lossy(&wire.answer(to_head)).into_owned();
    let fits = answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(end);
    assert!(fits, "{}: {answer:?}", request.as_ref().escape_ascii());
}

/// Requests of every ordinary kind on one connection.
fn ordinary(port: u16) {
    let mut wire = Wire::connect(port);
    wire.be_patient(SLOWLY);
    ask(&mut wire, get(""), "200", "\r\n\r\nok");
    ask(&mut wire, post("content-length: 5\r\n", "hello"), "200", "ok");
    ask(&mut wire, post("transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\nt: v\r\n\r\n"), "200", "ok");
    ask(&mut wire, post("expect: 100-continue\r\ncontent-length: 1\r\n", ""), "100", "\r\n\r\n");
    ask(&mut wire, "x", "200", "ok");
    ask(&mut wire, line("HEAD /x HTTP/1.1"), "200", "\r\n\r\n");
    ask(&mut wire, line("GET /direct HTTP/1.1"), "200", "direct");
    ask(&mut wire, "GET /x HTTP/1.1\r\nhost: none.test\r\n\r\n", "404", "\r\n\r\n");
    ask(&mut wire, line("GET /refused HTTP/1.1"), "503", "remote connection failure");
    ask(&mut wire, line("GET /nohosts HTTP/1.1"), "503", "no healthy upstream");
    ask(&mut wire, line("GET /full HTTP/1.1"), "503", "overflow");
    wire.send(get("").repeat(3));
    for _ in 0..3 {
        assert!(wire.answer(false).ends_with(b"ok"));
    }
    ask(&mut wire, "NO REQUEST\r\n\r\n", "400", "Bad Request");
    assert_eq!(wire.rest(), b"");
}

/// Requests that end early, of either end's doing.
fn extraordinary(site: &Site) {
    let mut wire = Wire::connect(site.port(1));
    wire.be_patient(SLOWLY);
    ask(&mut wire, line("GET /short HTTP/1.1"), "504", "upstream request timeout");
    let mut wire = Wire::connect(site.port(2));
    wire.be_patient(SLOWLY);
    ask(&mut wire, get(""), "503", "reset reason: connection termination");
    // The client goes while its request waits, then within its body.
    for request in [get(""), post("content-length: 9\r\n", "half")] {
        let mut wire = Wire::connect(site.port(3));
        wire.send(&request);
        let head = request[..4].to_vec();
        assert!(site.boards[3].wait(SLOWLY, |seen| seen.upstream_has(&head)));
        wire.reset();
    }
    let gone = |seen: usize| {
        site.boards[3].wait(SLOWLY, |s| s.upstreams.iter().filter(|u| u.closed_by_proxy).count() == seen)
    };
    assert!(gone(2));
}

#[test]
fn nothing_is_lost_and_nothing_is_used_that_is_gone() {
    if !valgrind_is_there() {
        return;
    }
    let cases = [
        Case::new("serving"),
        Case::new("silent").scripts([vec![Action::Head]]),
        Case::new("reset").scripts([vec![Action::Head, Action::Reset]]),
        Case::new("aborted").scripts([vec![Action::Head]]),
    ];
    let cases: Vec<&Case> = cases.iter().collect();
    let launch = Launch { wrapper: &WRAPPER, patience: SLOWLY, ..Launch::default() };
    let mut site = Site::start_with(Kind::Legate, &cases, launch);
    thread::scope(|scope| {
        scope.spawn(|| ordinary(site.port(0)));
        scope.spawn(|| extraordinary(&site));
    });
    let idle = Wire::connect(site.port(0));
    site.proxy.signal(Signal::SIGTERM);
    let status = site.proxy.wait_for_exit(SLOWLY);
    assert_eq!(status.map(|s| s.code()), Some(Some(0)), "{}", site.proxy.log());
    drop(idle);
}
