//! The same requests to both proxies, one after the other: what comes of each has to be the same.
//!
//! For what has many small cases, such as routes, and where Envoy says best what to expect.

use super::action::Action;
use super::admin::dechunk;
use super::board::{PATIENCE, Seen};
use super::case::Case;
use super::client::Client;
use super::expect::{normalize, printable};
use super::proxy::{Kind, Launch};
use super::runner::{Site, proxies};
use super::upstream::request_length;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The clusters that routes may lead to: `case0`, `case1` and so on.
pub const CLUSTERS: usize = 3;

/// Between requests of which one waits for the answer to the other.
const NEXT: &str = "\0";

/// How long a copy may take after the answer.
const SETTLE: Duration = Duration::from_millis(60);

/// What came of one request.
#[derive(PartialEq, Eq)]
struct Outcome {
    reply: String,
    /// What each cluster got.
    upstream: Vec<String>,
    log: String,
    is_slow: bool,
}

/// Counters and gauges by name.
type Statistics = HashMap<String, u64>;

/// Requests to one listener.
pub struct Pairs {
    hcm: Value,
    requests: Vec<String>,
    answer: Vec<u8>,
    has_copies: bool,
    /// What the first upstream does with each request in turn.
    told: Vec<Vec<Vec<Action>>>,
    has_statistics: bool,
    cluster: Value,
    /// Of the listener's connections, in bytes.
    limit: Option<u32>,
    other_hosts: Vec<Value>,
    host: Value,
    first_choice: Vec<Value>,
    bootstrap: Value,
    statistics: Vec<&'static str>,
    slow: Option<Duration>,
    whole: bool,
    sorted_fields: bool,
    log_format: Option<String>,
    /// In all; `None` for one of each request.
    log_lines: Option<usize>,
    post: Option<&'static str>,
}

impl Pairs {
    /// Copies of requests go somewhere else, whom nobody waits for.
    pub fn with_copies(mut self) -> Pairs {
        self.has_copies = true;
        self
    }

    /// What was counted of the clusters has to be the same, too.
    pub fn with_statistics(mut self) -> Pairs {
        self.has_statistics = true;
        self
    }

    /// This is merged over the first cluster.
    pub fn cluster(mut self, cluster: Value) -> Pairs {
        self.cluster = cluster;
        self
    }

    /// Connections of the listener keep so many bytes.
    pub fn limit(mut self, bytes: u32) -> Pairs {
        self.limit = Some(bytes);
        self
    }

    /// The first cluster has these hosts, too.
    pub fn other_hosts(mut self, hosts: impl IntoIterator<Item = Value>) -> Pairs {
        self.other_hosts = hosts.into_iter().collect();
        self
    }

    /// This is merged over the first cluster's upstream as a host.
    pub fn host(mut self, host: Value) -> Pairs {
        self.host = host;
        self
    }

    /// The first cluster has these hosts in its first priority, and its upstream in the second.
    pub fn first_choice(mut self, hosts: impl IntoIterator<Item = Value>) -> Pairs {
        self.first_choice = hosts.into_iter().collect();
        self
    }

    /// As [`Pairs::raw`]; the first upstream does with the first request that comes of it what the first answer says, and so on.
    pub fn told(mut self, request: String, answers: impl IntoIterator<Item = Vec<Action>>) -> Pairs {
        self.told.resize(self.requests.len(), Vec::new());
        self.told.push(answers.into_iter().collect());
        self.raw(request)
    }

    /// This is merged over the bootstrap.
    pub fn bootstrap(mut self, value: Value) -> Pairs {
        self.bootstrap = value;
        self
    }

    /// Counters and gauges whose names begin so are the same in the end.
    pub fn statistics(mut self, prefixes: &[&'static str]) -> Pairs {
        self.statistics = prefixes.to_vec();
        self
    }

    /// The same requests take longer than this.
    pub fn slow(mut self, time: Duration) -> Pairs {
        self.slow = Some(time);
        self
    }

    /// The admin is asked for this before.
    pub fn post(mut self, path: &'static str) -> Pairs {
        self.post = Some(path);
        self
    }

    /// How bodies are cut into chunks, or compressed, does not count.
    pub fn whole(mut self) -> Pairs {
        self.whole = true;
        self
    }

    /// The order of fields does not count in what upstreams get.
    pub fn sorted_fields(mut self) -> Pairs {
        self.sorted_fields = true;
        self
    }

    /// The access log has these lines.
    pub fn log_format(mut self, format: &str) -> Pairs {
        self.log_format = Some(format.to_string());
        self
    }

    /// The access log has so many lines in all.
    pub fn log_lines(mut self, count: usize) -> Pairs {
        self.log_lines = Some(count);
        self
    }

    /// To a listener whose connection manager has this merged over it.
    pub fn new(hcm: Value) -> Pairs {
        Pairs {
            hcm,
            requests: Vec::new(),
            answer: super::upstream::SERVED.to_vec(),
            has_copies: false,
            told: Vec::new(),
            has_statistics: false,
            cluster: Value::Null,
            limit: None,
            other_hosts: Vec::new(),
            host: json!({}),
            first_choice: Vec::new(),
            bootstrap: json!({}),
            statistics: Vec::new(),
            slow: None,
            whole: false,
            sorted_fields: false,
            log_format: None,
            log_lines: None,
            post: None,
        }
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

    /// GETs of these paths of `h` on one connection, each when the one before has been answered.
    pub fn one_by_one(self, paths: &[&str]) -> Pairs {
        let last = paths.len() - 1;
        let one = |(i, path): (usize, &&str)| {
            let close = if i == last { "connection: close\r\n" } else { "" };
            format!("GET {path} HTTP/1.1\r\nhost: h\r\n{close}\r\n")
        };
        let all: Vec<_> = paths.iter().enumerate().map(one).collect();
        self.raw(all.join(NEXT))
    }

    /// Whatever this is. It has to ask for the connection to be closed.
    pub fn raw(mut self, request: String) -> Pairs {
        self.requests.push(request);
        self
    }

    /// Runs them all.
    pub fn run(&self) {
        let kinds = proxies();
        let outcomes: Vec<(Vec<Outcome>, Statistics)> = thread::scope(|scope| {
            let runs: Vec<_> =
                kinds.into_iter().map(|kind| scope.spawn(move || self.run_against(kind))).collect();
            runs.into_iter().map(|run| run.join().expect("the requests ran")).collect()
        });
        let [(ours, our_statistics), (theirs, their_statistics)] = outcomes.as_slice() else { return };
        let mut misfits: Vec<String> = our_statistics
            .keys()
            .chain(their_statistics.keys())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|name| (name, our_statistics.get(name), their_statistics.get(name)))
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(name, ours, theirs)| format!("{name} is {ours:?} instead of {theirs:?}"))
            .collect();
        let end = ["in the end".to_string(), "in the end".to_string()];
        for ((request, ours), theirs) in self.requests.iter().chain(&end).zip(ours).zip(theirs) {
            let mut differs = |what: &str, ours: &str, theirs: &str| {
                if ours != theirs {
                    let request = printable(request.as_bytes());
                    misfits.push(format!("{request}\n  {what} {ours}\n  instead of {theirs}"));
                }
            };
            differs("client gets", &ours.reply, &theirs.reply);
            differs("upstream gets", &ours.upstream.join("  &  "), &theirs.upstream.join("  &  "));
            differs("logs", &ours.log, &theirs.log);
            differs("is slow:", &ours.is_slow.to_string(), &theirs.is_slow.to_string());
        }
        assert!(misfits.is_empty(), "{} misfits\n{}", misfits.len(), misfits.join("\n"));
    }

    fn shown(&self, message: &[u8]) -> String {
        let bytes = normalize(message);
        printable(&Some(&bytes).filter(|_| self.whole).and_then(|bytes| opened(bytes)).unwrap_or(bytes))
    }

    /// A request with its fields in the order of their names, if that is wanted.
    fn sorted(&self, request: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(request).into_owned();
        match text.split_once("\r\n\r\n").filter(|_| self.sorted_fields) {
            Some((head, body)) => {
                let mut lines: Vec<&str> = head.split("\r\n").collect();
                lines[1..].sort_unstable();
                format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
            }
            None => request.to_vec(),
        }
    }

    fn run_against(&self, kind: Kind) -> (Vec<Outcome>, Statistics) {
        let answer = [Action::Head, Action::Send(self.answer.clone())];
        let count: usize = self.requests.iter().map(|request| request.split(NEXT).count()).sum();
        let serves = !self.told.is_empty() && self.answer == super::upstream::SERVED;
        let script: Vec<Action> = answer.iter().cycle().take(2 * count).cloned().collect();
        let script = if serves { vec![Action::Serve] } else { script };
        let mut cases: Vec<Case> =
            (0..CLUSTERS).map(|i| Case::new(format!("cluster {i}")).scripts([script.clone()])).collect();
        cases[0] = cases[0].clone().hcm(self.hcm.clone());
        if !self.cluster.is_null() {
            cases[0] = cases[0].clone().cluster(self.cluster.clone());
        }
        if let Some(limit) = self.limit {
            cases[0] = cases[0].clone().listener(json!({"per_connection_buffer_limit_bytes": limit}));
        }
        cases[0].other_hosts.clone_from(&self.other_hosts);
        cases[0].host.clone_from(&self.host);
        cases[0].first_choice.clone_from(&self.first_choice);
        cases[0].log_format.clone_from(&self.log_format);
        if !self.told.is_empty() {
            cases[0] = cases[0].clone().scripts([vec![Action::AsTold]]);
        }
        let cases: Vec<&Case> = cases.iter().collect();
        let site = Site::start_over(kind, &cases, Launch::default(), &self.bootstrap);
        if let Some(path) = self.post {
            site.proxy.admin.post(path).expect("the admin's answer");
        }
        let mut before = vec![Vec::new(); CLUSTERS];
        let mut outcomes = Vec::new();
        for (index, request) in self.requests.iter().enumerate() {
            let board = &site.boards[0];
            board.update(|seen| {
                seen.answers = self.told.get(index).cloned().unwrap_or_default().into();
                seen.client.clear();
                seen.client_closed = false;
            });
            let mut client = Client::connect(site.port(0), board).expect("a connection");
            let start = Instant::now();
            for (i, request) in request.split(NEXT).enumerate() {
                board.wait(PATIENCE, |seen| replies(&seen.client) >= i);
                client.send(request.as_bytes());
            }
            board.wait(PATIENCE, |seen| seen.client_closed);
            let is_slow = self.slow.is_some_and(|time| start.elapsed() > time);
            if self.has_copies {
                thread::sleep(SETTLE); // nobody says that a copy has come, or that none will
            }
            let upstream = site.boards.iter().zip(&mut before).map(|(board, before)| {
                board.look(|seen| {
                    new_requests(seen, before, |request| without_rest(&self.shown(&self.sorted(request))))
                })
            });
            let upstream = upstream.collect();
            let reply = board.look(|seen| self.shown(&seen.client));
            outcomes.push(Outcome { reply, upstream, log: String::new(), is_slow });
        }
        let lines = log_lines(&site, self.log_lines.unwrap_or(self.requests.len()));
        if self.log_lines.is_some() {
            let log = lines.join("\n    ");
            outcomes.push(Outcome { reply: String::new(), upstream: Vec::new(), log, is_slow: false });
        } else {
            outcomes.iter_mut().zip(lines).for_each(|(outcome, line)| outcome.log = line);
        }
        if self.has_statistics {
            let log = statistics(&site);
            outcomes.push(Outcome { reply: String::new(), upstream: Vec::new(), log, is_slow: false });
        }
        let mut statistics = site.proxy.admin.stats();
        statistics.retain(|name, _| {
            self.statistics.iter().any(|prefix| name.starts_with(prefix)) && !is_other_library(name)
        });
        (outcomes, statistics)
    }
}

/// What has come since `before`, over which connection whatever.
fn new_requests(seen: &Seen, before: &mut Vec<usize>, shown: impl Fn(&[u8]) -> String) -> String {
    before.resize(seen.upstreams.len(), 0);
    let mut requests = Vec::new();
    for (upstream, before) in seen.upstreams.iter().zip(&*before) {
        let mut rest = &upstream.received[*before..];
        while !rest.is_empty() {
            let (request, others) = rest.split_at(request_length(rest).unwrap_or(rest.len()));
            requests.push(shown(request));
            rest = others;
        }
    }
    // As they are written, and not by connection: which one is taken is the pool's business.
    requests.sort_unstable();
    *before = seen.upstreams.iter().map(|upstream| upstream.received.len()).collect();
    requests.concat()
}

/// What is left of the time of a request, in seconds, or quarters if there are few: it is less for one that is tried again.
fn without_rest(text: &str) -> String {
    let name = "x-envoy-expected-rq-timeout-ms: ";
    let mut parts = text.split(name);
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |all, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let milliseconds: u64 = part[..part.len() - rest.len()].parse().unwrap_or(0);
        let step = if milliseconds > 1000 { 1000 } else { 250 };
        format!("{all}{name}{}{rest}", milliseconds.div_ceil(step) * step)
    })
}

/// What was counted of the clusters, without what depends on the moment.
fn statistics(site: &Site) -> String {
    thread::sleep(SETTLE); // the last connections are closed
    let stats = site.proxy.admin.stats();
    let wanted = |name: &&String| {
        let changing =
            ["_time", "_bytes", "_ms", "_length", "membership", "cx_http", "cx_connect", "cx_active"];
        let of_clusters = name.starts_with("cluster.") && !changing.iter().any(|part| name.contains(part));
        let is_redirect = name.contains("internal_redirect_");
        is_redirect
            || of_clusters && (name.contains("_rq_") || name.contains("retry") || name.contains("_cx_"))
    };
    let mut lines: Vec<String> = (stats.keys().filter(wanted))
        .filter(|name| stats[*name] != 0)
        .map(|name| format!("{name} {}", stats[name]))
        .collect();
    lines.sort();
    lines.join("\n    ")
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

/// How many complete answers these bytes are, if all of them say how long they are.
fn replies(mut bytes: &[u8]) -> usize {
    for count in 0.. {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        let Some(head) = text.find("\r\n\r\n") else { return count };
        let length = text[..head].lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        match bytes.get(head + 4 + length..) {
            Some(rest) => bytes = rest,
            None => return count,
        }
    }
    unreachable!("as many answers as there are numbers")
}

/// Whether it says how small a body has become, which libraries may differ in.
fn is_other_library(name: &str) -> bool {
    name.contains("compressor.") && name.ends_with("total_compressed_bytes")
}

/// A message with its body in one piece, and as it was before it was compressed; `None` if it is not to be read so.
fn opened(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let has = |line: &str| head.lines().any(|other| other.eq_ignore_ascii_case(line));
    let body = &bytes[end..];
    let body = if has("transfer-encoding: chunked") { dechunk(body)? } else { body.to_vec() };
    let body = match () {
        () if has("content-encoding: gzip") => gunzip(&body)?,
        () if has("content-encoding: br") => unbrotli(&body)?,
        () if has("content-encoding: zstd") => unzstd(&body)?,
        () => body,
    };
    Some([head.as_bytes(), &body].concat())
}

fn unbrotli(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    brotli::BrotliDecompress(&mut &*bytes, &mut output).ok()?;
    Some(output)
}

fn unzstd(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut output = vec![0; 1 << 20];
    let length = zstd_safe::decompress(&mut output[..], bytes).ok()?;
    output.truncate(length);
    Some(output)
}

fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut output = vec![0; 1 << 20];
    let mut inflate = zlib_rs::Inflate::new(true, 15 + 16);
    let status = inflate.decompress(bytes, &mut output, zlib_rs::InflateFlush::Finish).ok()?;
    output.truncate(inflate.total_out() as usize);
    let rest = &bytes[inflate.total_in() as usize..];
    (status == zlib_rs::Status::StreamEnd).then(|| [&output, rest].concat())
}
