//! The same requests to both proxies, one after the other: what comes of each has to be the same.
//!
//! For what has many small cases, such as routes, and where Envoy says best what to expect.

use super::board::{PATIENCE, Seen};
use super::case::Case;
use super::client::Client;
use super::expect::{normalize, printable};
use super::proxy::Kind;
use super::runner::{Site, proxies};
use super::upstream::Action;
use serde_json::Value;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The clusters that routes may lead to: `case0`, `case1` and so on.
pub const CLUSTERS: usize = 3;

/// How long a copy may take after the answer.
const SETTLE: Duration = Duration::from_millis(60);

/// What came of one request.
#[derive(PartialEq, Eq)]
struct Outcome {
    reply: String,
    /// What each cluster got.
    upstream: Vec<String>,
    log: String,
}

/// Requests to one listener.
pub struct Pairs {
    hcm: Value,
    requests: Vec<String>,
    answer: Vec<u8>,
    has_copies: bool,
}

impl Pairs {
    /// Copies of requests go somewhere else, whom nobody waits for.
    pub fn with_copies(mut self) -> Pairs {
        self.has_copies = true;
        self
    }

    /// To a listener whose connection manager has this merged over it.
    pub fn new(hcm: Value) -> Pairs {
        Pairs { hcm, requests: Vec::new(), answer: super::upstream::SERVED.to_vec(), has_copies: false }
    }

    /// What upstreams answer.
    pub fn answer(mut self, bytes: &str) -> Pairs {
        self.answer = bytes.as_bytes().to_vec();
        self
    }

    /// A GET of `host` and `path`, with more lines.
    pub fn get(self, host: &str, path: &str, more: &str) -> Pairs {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n"))
    }

    /// Whatever this is. It has to ask for the connection to be closed.
    pub fn raw(mut self, request: String) -> Pairs {
        self.requests.push(request);
        self
    }

    /// Runs them all.
    pub fn run(&self) {
        let kinds = proxies();
        let outcomes: Vec<(Kind, Vec<Outcome>)> = thread::scope(|scope| {
            let runs: Vec<_> =
                kinds.into_iter().map(|kind| (kind, scope.spawn(move || self.run_against(kind)))).collect();
            runs.into_iter().map(|(kind, run)| (kind, run.join().expect("the requests ran"))).collect()
        });
        let [(_, ours), (_, theirs)] = outcomes.as_slice() else { return };
        let mut misfits = Vec::new();
        for ((request, ours), theirs) in self.requests.iter().zip(ours).zip(theirs) {
            let mut differs = |what: &str, ours: &str, theirs: &str| {
                if ours != theirs {
                    let request = printable(request.as_bytes());
                    misfits.push(format!("{request}\n  {what} {ours}\n  instead of {theirs}"));
                }
            };
            differs("client gets", &ours.reply, &theirs.reply);
            differs("upstream gets", &ours.upstream.join("  &  "), &theirs.upstream.join("  &  "));
            differs("logs", &ours.log, &theirs.log);
        }
        assert!(misfits.is_empty(), "{} misfits\n{}", misfits.len(), misfits.join("\n"));
    }

    fn run_against(&self, kind: Kind) -> Vec<Outcome> {
        let answer = [Action::Head, Action::Send(self.answer.clone())];
        let script: Vec<Action> = answer.iter().cycle().take(2 * self.requests.len()).cloned().collect();
        let mut cases: Vec<Case> =
            (0..CLUSTERS).map(|i| Case::new(format!("cluster {i}")).scripts([script.clone()])).collect();
        cases[0] = cases[0].clone().hcm(self.hcm.clone());
        let cases: Vec<&Case> = cases.iter().collect();
        let site = Site::start(kind, &cases);
        let got = |seen: &Seen| seen.upstreams.iter().flat_map(|u| u.received.clone()).collect::<Vec<u8>>();
        let mut before = vec![0; CLUSTERS];
        let mut outcomes = Vec::new();
        for request in &self.requests {
            let board = &site.boards[0];
            board.update(|seen| {
                seen.client.clear();
                seen.client_closed = false;
            });
            let mut client = Client::connect(site.port(0), board).expect("a connection");
            client.send(request.as_bytes());
            board.wait(PATIENCE, |seen| seen.client_closed);
            if self.has_copies {
                thread::sleep(SETTLE); // nobody says that a copy has come, or that none will
            }
            let upstream = site.boards.iter().zip(&mut before).map(|(board, before)| {
                let all = board.look(got);
                let new = all[*before..].to_vec();
                *before = all.len();
                printable(&normalize(&new))
            });
            let upstream = upstream.collect();
            let reply = board.look(|seen| printable(&normalize(&seen.client)));
            outcomes.push(Outcome { reply, upstream, log: String::new() });
        }
        for (outcome, line) in outcomes.iter_mut().zip(log_lines(&site, self.requests.len())) {
            outcome.log = line;
        }
        outcomes
    }
}

/// So many lines of the access log, or those that there are, without what differs from run to run.
fn log_lines(site: &Site, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(site.access_log(0)).unwrap_or_default();
        // The last line may be half written.
        let complete = text.matches('\n').count();
        if complete < count && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
            continue;
        }
        let word =
            |word: &str| if word.contains("127.0.0.1:") { "HOST".to_string() } else { word.to_string() };
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        return text.lines().take(complete).map(line).collect();
    }
}
