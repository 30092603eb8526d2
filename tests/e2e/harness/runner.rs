//! Runs cases against every proxy there is and reports all that do not fit.

use super::board::{Board, PATIENCE, Seen, contains};
use super::case::{Case, End, Expect, Step};
use super::client::Client;
use super::config::{self, RefusingPort};
use super::expect::{DIRECT, expand, normalize, printable};
use super::proxy::{Kind, Launch, Proxy, new_directory};
use super::upstream::Upstream;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Cases that are under way at the same time.
const AT_ONCE: usize = 8;
/// How long nothing must happen to be sure that nothing does.
const QUIET: Duration = Duration::from_millis(80);

/// A request that shows that a connection still serves.
const PROBE: &[u8] = b"GET /direct HTTP/1.1\r\nhost: probe\r\n\r\n";

/// The proxies to test with; says which are left out.
pub fn proxies() -> Vec<Kind> {
    let only = std::env::var("LEGATE_E2E_ONLY").unwrap_or_default();
    [Kind::Legate, Kind::Envoy]
        .into_iter()
        .filter(|kind| only.is_empty() || format!("{kind:?}").eq_ignore_ascii_case(&only))
        .filter(|kind| {
            let present = kind.binary().is_some();
            if !present {
                println!("SKIPPED: no {kind:?} binary, expectations are not checked against it");
            }
            present
        })
        .collect()
}

/// Runs the cases and panics with everything that does not fit.
pub fn run(cases: Vec<Case>) {
    let wanted = std::env::var("LEGATE_E2E_CASE").unwrap_or_default();
    let cases: Vec<&Case> = cases.iter().filter(|case| case.name.contains(&wanted)).collect();
    let cases = cases.as_slice();
    let failures: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> =
            proxies().into_iter().map(|kind| scope.spawn(move || run_against(kind, cases))).collect();
        runs.into_iter().flat_map(|run| run.join().expect("the cases ran")).collect()
    });
    assert!(failures.is_empty(), "{} misfits\n{}", failures.len(), failures.join("\n"));
}

/// A proxy with the upstreams of its cases.
pub struct Site {
    /// The proxy.
    pub proxy: Proxy,
    /// What the ends of each case see.
    pub boards: Vec<Arc<Board>>,
    directory: PathBuf,
    _upstreams: Vec<Upstream>,
    _refusing: RefusingPort,
}

impl Site {
    /// Starts upstreams and proxy.
    pub fn start(kind: Kind, cases: &[&Case]) -> Site {
        Site::start_with(kind, cases, Launch::default())
    }

    /// Starts upstreams, and the proxy in a way of its own.
    pub fn start_with(kind: Kind, cases: &[&Case], launch: Launch) -> Site {
        Site::start_over(kind, cases, launch, &json!({}))
    }

    /// Starts upstreams, and the proxy in a way of its own with `over` merged over its bootstrap.
    pub fn start_over(kind: Kind, cases: &[&Case], launch: Launch, over: &Value) -> Site {
        let boards: Vec<Arc<Board>> = cases.iter().map(|_| Arc::default()).collect();
        let upstreams: Vec<Upstream> = cases
            .iter()
            .zip(&boards)
            .map(|(case, board)| Upstream::start(case.scripts.clone(), board.clone()))
            .collect();
        let ports: Vec<u16> = upstreams.iter().map(Upstream::port).collect();
        let refusing = RefusingPort::new();
        let directory = new_directory(kind);
        let bootstrap = config::bootstrap(cases, &ports, &refusing, &directory, over);
        let proxy = Proxy::start(kind, &bootstrap, directory.clone(), launch);
        Site { proxy, boards, directory, _upstreams: upstreams, _refusing: refusing }
    }

    /// Where a case's access log is.
    pub fn access_log(&self, index: usize) -> PathBuf {
        config::access_log(&self.directory, &config::prefix(index))
    }

    /// The port of a case's listener.
    pub fn port(&self, index: usize) -> u16 {
        self.proxy.listeners.get(&config::prefix(index)).copied().unwrap_or_default()
    }
}

fn run_against(kind: Kind, cases: &[&Case]) -> Vec<String> {
    if cases.is_empty() {
        return Vec::new();
    }
    let mut site = Site::start(kind, cases);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let index = cases.iter().position(|c| std::ptr::eq(*c, *case)).unwrap_or_default();
                    let misfits = run_case(kind, case, index, &site);
                    if !misfits.is_empty() {
                        failures.lock().expect("no panic").push(misfits);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no panic");
    failures.sort();
    if !site.proxy.runs() {
        failures.push(format!("{kind:?} has died:\n{}", site.proxy.log()));
    }
    if !failures.is_empty() {
        failures.push(format!("{kind:?}'s files are kept in {}", site.proxy.keep_files().display()));
    }
    failures
}

/// Runs one case; the result says what does not fit.
fn run_case(kind: Kind, case: &Case, index: usize, site: &Site) -> String {
    let expect = match (&case.legate, kind) {
        (Some((_, expect)), Kind::Legate) => expect,
        _ => &case.expect,
    };
    let board = &site.boards[index];
    let mut report = String::new();
    match Client::connect(site.port(index), board) {
        Ok(mut client) => {
            for step in &case.steps {
                if let Err(what) = take(step, index, &mut client, board, site) {
                    let _ = writeln!(report, "  {what}");
                }
            }
            check_reply(expect, &mut client, board, &mut report);
            check_upstream(expect, board, &mut report);
        }
        Err(e) => report = format!("  no connection: {e}\n"),
    }
    let prefix = config::prefix(index);
    check_log(expect, &config::access_log(&site.directory, &prefix), &mut report);
    board.update(|seen| seen.over = true);
    if report.is_empty() {
        return report;
    }
    let reason = case.legate.as_ref().filter(|_| kind == Kind::Legate);
    let reason = reason.map(|(reason, _)| format!(" (differs: {reason})")).unwrap_or_default();
    format!("{kind:?}: {}{reason}\n{report}", case.name)
}

fn take(step: &Step, index: usize, client: &mut Client, board: &Board, site: &Site) -> Result<(), String> {
    let waited = |done: bool, what: &dyn std::fmt::Debug| {
        if done { Ok(()) } else { Err(format!("waited in vain: {what:?}")) }
    };
    match step {
        Step::Send(bytes) => client.send(bytes),
        Step::SendSingly(bytes) => bytes.chunks(1).for_each(|byte| client.send(byte)),
        Step::FinishWriting => client.finish_writing(),
        Step::Leave => client.leave(),
        Step::Has(bytes) => {
            return waited(board.wait(PATIENCE, |seen| contains(&seen.client, bytes)), step);
        }
        Step::UpstreamHas(bytes) => {
            return waited(board.wait(PATIENCE, |seen| seen.upstream_has(bytes)), step);
        }
        Step::UpstreamClosed(count) => {
            let closed = |seen: &Seen| seen.upstreams.iter().filter(|u| u.closed_by_proxy).count();
            return waited(board.wait(PATIENCE, |seen| closed(seen) >= *count), step);
        }
        Step::Stat(name, value) => {
            let name = name.replace("{}", &config::prefix(index));
            return site
                .proxy
                .admin
                .wait_for_stat(&name, *value)
                .map_err(|last| format!("waited in vain for {name} to be {value}, it is {last:?}"));
        }
    }
    Ok(())
}

fn check_reply(expect: &Expect, client: &mut Client, board: &Board, report: &mut String) {
    let mut reply = expand(&expect.reply);
    let came = |seen: &Seen, reply: &[u8]| seen.client_closed || normalize(&seen.client) == reply;
    match expect.end {
        End::Closed => {
            if !board.wait(PATIENCE, |seen| seen.client_closed) {
                let _ = writeln!(report, "  not closed");
            }
        }
        End::Kept => {
            board.wait(PATIENCE, |seen| came(seen, &reply));
            client.send(PROBE);
            reply.extend_from_slice(&expand(DIRECT));
            board.wait(PATIENCE, |seen| came(seen, &reply));
        }
        End::Waits => {
            board.wait(PATIENCE, |seen| came(seen, &reply));
            if board.wait(QUIET, |seen| seen.client_closed || normalize(&seen.client) != reply) {
                let _ = writeln!(report, "  more came, or the end");
            }
        }
    }
    let got = board.look(|seen| normalize(&seen.client));
    if got != reply {
        let closed = if board.look(|seen| seen.client_closed) { " [closed]" } else { "" };
        let _ = writeln!(
            report,
            "  client gets {}{closed}\n   instead of {}",
            printable(&got),
            printable(&reply)
        );
    }
}

fn check_upstream(expect: &Expect, board: &Board, report: &mut String) {
    let expected: Vec<Vec<u8>> = expect.upstream.iter().map(|bytes| expand(bytes)).collect();
    let received = |seen: &Seen| -> Vec<Vec<u8>> {
        let all = seen.upstreams.iter().map(|u| normalize(&u.received));
        all.filter(|bytes| !bytes.is_empty()).collect()
    };
    if !board.wait(PATIENCE, |seen| received(seen) == expected) {
        let shown = |list: &[Vec<u8>]| list.iter().map(|b| printable(b)).collect::<Vec<_>>().join("  &  ");
        let got = board.look(received);
        let _ = writeln!(report, "  upstream gets {}\n     instead of {}", shown(&got), shown(&expected));
    }
}

/// As many words of a line of the log as the expectation has, with the names that differ from case to case taken out.
fn log_words(line: &str, expected: &str) -> String {
    let word = |(i, word): (usize, &str)| match (i, word) {
        (3, name) if name != "-" => "cluster".to_string(),
        (4, address) if address != "-" => "host".to_string(),
        (_, word) => word.to_string(),
    };
    let words: Vec<String> =
        line.split(' ').enumerate().map(word).take(expected.split(' ').count()).collect();
    words.join(" ")
}

fn check_log(expect: &Expect, path: &Path, report: &mut String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> =
            text.lines().zip(&expect.log).map(|(line, expected)| log_words(line, expected)).collect();
        if lines == expect.log {
            return;
        }
        if lines.len() == expect.log.len() || Instant::now() > deadline {
            let _ = writeln!(report, "  logs {lines:?}\n  instead of {:?}", expect.log);
            return;
        }
        thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
    }
}
