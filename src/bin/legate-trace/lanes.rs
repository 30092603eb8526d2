//! A log as stage events, grouped by where they happened: a lane per connection, per worker's pools and loop, and one for
//! the main thread. Connections and streams are numbered by first appearance.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::extent::Extent;
use crate::laws;
use crate::log_line::{self, LogLine};
use crate::stage_texts::{Details, Dialect, Place, Row, StageTexts};

/// Where events happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LaneId {
    /// A connection to a client, by number.
    Downstream(usize),
    /// A connection to an upstream, by number.
    Upstream(usize),
    /// A stream that the proxy itself began, by number.
    Own(usize),
    /// The pools of a worker, by number.
    Pool(usize),
    /// The event loop of a worker, by number.
    Loop(usize),
    /// The start of a worker, by number, or of the main thread (0).
    Start(usize),
    /// The main thread.
    Main,
}

impl LaneId {
    /// All that [`LaneId::kind`] returns.
    pub const KINDS: [&str; 7] = ["downstream", "upstream", "own", "pool", "loop", "start", "main"];

    /// What differences may name it by.
    pub fn kind(self) -> &'static str {
        match self {
            LaneId::Downstream(_) => "downstream",
            LaneId::Upstream(_) => "upstream",
            LaneId::Own(_) => "own",
            LaneId::Pool(_) => "pool",
            LaneId::Loop(_) => "loop",
            LaneId::Start(_) => "start",
            LaneId::Main => "main",
        }
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaneId::Downstream(n) => write!(f, "downstream connection {n}"),
            LaneId::Upstream(n) => write!(f, "upstream connection {n}"),
            LaneId::Own(n) => write!(f, "stream of the proxy's own {n}"),
            LaneId::Pool(n) => write!(f, "pool of worker {n}"),
            LaneId::Loop(n) => write!(f, "loop of worker {n}"),
            LaneId::Start(0) => write!(f, "start of the main thread"),
            LaneId::Start(n) => write!(f, "start of worker {n}"),
            LaneId::Main => write!(f, "main thread"),
        }
    }
}

/// One stage that was passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The stage, or the text itself when the table does not know it.
    pub stage: String,
    /// Whether the table knows it.
    pub known: bool,
    /// The stream's number on its connection.
    pub stream: Option<usize>,
    /// The connection, where the lane does not tell.
    pub conn: Option<LaneId>,
    /// What else both sides have to agree on.
    pub details: Details,
    /// Line number in the log.
    pub line: usize,
}

impl Event {
    /// Whether it is the same stage of the same stream.
    pub fn same_stage(&self, other: &Event) -> bool {
        self.stage == other.stage && self.stream == other.stream && self.conn == other.conn
    }

    /// A detail's value.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Names of the details that both have, with other values; one that only one side has does not count.
    pub fn differing_details(&self, other: &Event) -> Vec<String> {
        let differs = |(name, value): &(String, String)| {
            other.details.iter().any(|(n, v)| n == name && v != value).then(|| name.clone())
        };
        self.details.iter().filter_map(differs).collect()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.known {
            return write!(f, "unknown text: {}", self.stage);
        }
        f.write_str(&self.stage)?;
        if let Some(conn) = self.conn {
            let name = match conn {
                LaneId::Upstream(n) => format!(" U{n}"),
                LaneId::Downstream(n) => format!(" D{n}"),
                LaneId::Own(n) => format!(" O{n}"),
                _ => String::new(),
            };
            f.write_str(&name)?;
        }
        if let Some(stream) = self.stream {
            write!(f, " S{stream}")?;
        }
        for (name, value) in &self.details {
            if name != "headers" {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}

/// What a log tells.
#[derive(Clone, Default, Debug)]
pub struct Trace {
    /// The lanes in the order of their ids.
    pub lanes: Vec<(LaneId, Vec<Event>)>,
    /// How many connections to clients each worker had, in the order of the workers' first appearance.
    pub downstream_by_worker: Vec<usize>,
    /// Why it ends before the scenario does.
    pub stuck: Option<String>,
    /// Whose texts the log has.
    pub dialect: Dialect,
    /// Which proxy wrote it, if it says so.
    pub proxy: Option<ProxyKind>,
    /// How many lines of workers are no step.
    pub ignored: usize,
    /// What is to be known about the log.
    pub notes: Vec<String>,
    /// Which part of the log is there.
    pub extent: Extent,
    /// The log's lines.
    pub log: Arc<[String]>,
}

/// A proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyKind {
    /// Envoy.
    Envoy,
    /// legate.
    Legate,
}

impl fmt::Display for ProxyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyKind::Envoy => "Envoy",
            ProxyKind::Legate => "legate",
        })
    }
}

impl Trace {
    /// The events of a lane; none for a lane that is not there.
    pub fn lane(&self, id: LaneId) -> &[Event] {
        self.lanes.iter().find(|(lane, _)| *lane == id).map_or(&[], |(_, events)| events)
    }
}

/// Whose texts these are: only Envoy 1.40 writes tags by name.
fn dialect_of(log: &str) -> Dialect {
    if log.contains("[Tags: \"") { Dialect::V1_40 } else { Dialect::V1_1 }
}

/// Who wrote it: sources of Envoy are C++, those of legate are Rust.
fn proxy_of(lines: &[LogLine]) -> Option<ProxyKind> {
    lines.iter().filter_map(|line| line.file.as_deref()).find_map(|file| match file.rsplit_once('.')?.1 {
        "rs" => Some(ProxyKind::Legate),
        "cc" | "h" => Some(ProxyKind::Envoy),
        _ => None,
    })
}

/// Reads a log. The main thread is known by what it says. Threads without a connection are left out, and of what a worker
/// says before its first one, only what the table has for each thread counts.
pub fn read(texts: &StageTexts, log: &str) -> Trace {
    let dialect = dialect_of(log);
    let lines = log_line::parse(log);
    let all: Vec<Matched> = lines.iter().map(|line| (line, texts.find(dialect, line))).collect();
    let stage = |(_, found): &Matched| found.as_ref().map(|(index, _)| &texts.rows()[*index]);
    let is_of_main = |row: &Row| row.place == Place::Main || row.stage.starts_with("InstanceImpl::");
    let main = all.iter().find(|matched| stage(matched).is_some_and(is_of_main));
    let main = main.map_or("", |(line, _)| line.thread.as_str());
    let proxy = proxy_of(&lines);
    let mut reader = Reader::new(texts);
    reader.has_start =
        all.iter().any(|matched| stage(matched).is_some_and(|row| row.stage == "InstanceImpl::initialize"));
    if !reader.has_start {
        let name = proxy.map_or_else(|| "A".to_string(), |proxy| format!("{proxy}'s"));
        reader.notes.push(format!("{name} log does not have the start: what was open before is incomplete"));
    }
    let says_goodbye = all.iter().any(|matched| stage(matched).is_some_and(|row| row.stage == LAST_WORDS));
    let extent = Extent::of(log, &lines, says_goodbye);
    reader.number_connections(&all, main);
    for (line, found) in all {
        if line.thread == main {
            reader.main_thread(line, found);
        } else if reader.workers.contains(&line.thread) && reader.counts(line, &found) {
            reader.worker(line, found);
        }
    }
    if extent.has_end {
        reader.expect_nothing_deferred();
    }
    let log = log.lines().map(str::to_string).collect();
    let mut trace = Trace { dialect, proxy, extent, log, ..reader.finish() };
    if dialect == Dialect::V1_1 {
        laws::check(&mut trace);
    }
    trace
}

/// A line, the row that its text belongs to, and what it says in detail.
type Matched<'a> = (&'a LogLine, Option<(usize, Details)>);

struct Reader<'a> {
    texts: &'a StageTexts,
    connections: HashMap<String, LaneId>,
    streams: HashMap<String, usize>,
    streams_of: HashMap<LaneId, usize>,
    /// Streams that have no connection to a client, and are logged with the number 0 in its place.
    own: HashMap<String, LaneId>,
    /// The one that each worker was last at.
    at_own: HashMap<String, LaneId>,
    /// Threads that have connections.
    workers: Vec<String>,
    /// The connection that each worker was last at.
    at: HashMap<String, LaneId>,
    lanes: HashMap<LaneId, Vec<Event>>,
    downstream_by_worker: Vec<usize>,
    /// Whether the log begins where the proxy does.
    has_start: bool,
    /// How many objects each worker is to delete.
    deferred: HashMap<String, usize>,
    /// What was connected to.
    addresses: Vec<String>,
    /// What a duration in a head has made longer, of what is still to be written and to be sent.
    durations: HashMap<LaneId, [usize; 2]>,
    ignored: usize,
    notes: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(texts: &'a StageTexts) -> Reader<'a> {
        Reader {
            texts,
            connections: HashMap::new(),
            streams: HashMap::new(),
            streams_of: HashMap::new(),
            own: HashMap::new(),
            at_own: HashMap::new(),
            workers: Vec::new(),
            at: HashMap::new(),
            lanes: HashMap::new(),
            downstream_by_worker: Vec::new(),
            has_start: false,
            deferred: HashMap::new(),
            addresses: Vec::new(),
            durations: HashMap::new(),
            ignored: 0,
            notes: Vec::new(),
        }
    }

    fn row(&self, found: &Option<(usize, Details)>) -> Option<&'a Row> {
        found.as_ref().map(|(index, _)| &self.texts.rows()[*index])
    }

    /// A connection may be mentioned before it is clear what it is, so this comes first.
    fn number_connections(&mut self, lines: &[Matched], main: &str) {
        let upstream = |(line, found): &&Matched| {
            self.row(found).is_some_and(|row| row.place == Place::Upstream) && line.thread != main
        };
        let upstream: HashSet<String> =
            lines.iter().filter(upstream).filter_map(|(line, _)| line.conn.clone()).collect();
        self.number_own(lines, main);
        let (mut downstreams, mut upstreams) = (0, 0);
        for (line, _) in lines.iter().filter(|(line, _)| line.thread != main) {
            if self.own_lane(line).is_some() {
                continue;
            }
            let Some(conn) = line.conn.as_ref() else { continue };
            if self.connections.contains_key(conn) {
                continue;
            }
            let worker = match self.workers.iter().position(|w| *w == line.thread) {
                Some(worker) => worker,
                None => {
                    self.workers.push(line.thread.clone());
                    self.downstream_by_worker.push(0);
                    self.workers.len() - 1
                }
            };
            let id = if upstream.contains(conn) {
                upstreams += 1;
                LaneId::Upstream(upstreams)
            } else {
                downstreams += 1;
                self.downstream_by_worker[worker] += 1;
                LaneId::Downstream(downstreams)
            };
            self.connections.insert(conn.clone(), id);
        }
    }

    /// A client's stream is first heard of when its head is complete, one of the proxy's own in the router.
    fn number_own(&mut self, lines: &[Matched], main: &str) {
        let mut heard_of = HashSet::new();
        for (line, found) in lines.iter().filter(|(line, _)| line.thread != main) {
            let Some(stream) = line.stream.as_ref().filter(|stream| heard_of.insert(stream.as_str())) else {
                continue;
            };
            if self.row(found).is_some_and(|row| row.stage == ROUTED) {
                self.own.insert(stream.clone(), LaneId::Own(self.own.len() + 1));
            }
        }
    }

    fn own_lane(&self, line: &LogLine) -> Option<LaneId> {
        line.stream.as_ref().and_then(|stream| self.own.get(stream).copied())
    }

    /// Whether what a worker says is more than what surrounds its start.
    fn counts(&self, line: &LogLine, found: &Option<(usize, Details)>) -> bool {
        let is_of_start = || self.row(found).is_some_and(|row| row.place == Place::Start);
        line.conn.is_some() || self.at.contains_key(&line.thread) || is_of_start()
    }

    fn main_thread(&mut self, line: &LogLine, found: Option<(usize, Details)>) {
        // The main thread says much that has nothing to do with requests; only what the table names counts.
        let Some(row) = self.row(&found) else { return };
        let lane = match row.place {
            Place::Main | Place::PoolAndLoop => LaneId::Main,
            Place::Start => LaneId::Start(0),
            _ => return,
        };
        let details = found.map(|(_, details)| details).unwrap_or_default();
        self.push(lane, event(row, line, None, None, details));
    }

    fn worker(&mut self, line: &LogLine, found: Option<(usize, Details)>) {
        let worker = self.workers.iter().position(|w| *w == line.thread).unwrap_or(0) + 1;
        let of_connection = || line.conn.as_ref().and_then(|conn| self.connections.get(conn).copied());
        let own = self.own_lane(line);
        self.at_own.extend(own.map(|own| (line.thread.clone(), own)));
        let conn = own.or_else(of_connection);
        if let Some(conn) = conn {
            self.at.insert(line.thread.clone(), conn);
        }
        let at = conn.or_else(|| self.at.get(&line.thread).copied()).unwrap_or(LaneId::Loop(worker));
        let stream = self.stream_number(at, line);
        let said = format!("[{}] {}", line.component, line.text.lines().next().unwrap_or_default());
        let Some(row) = self.row(&found) else {
            return self.push(at, unknown(said, line, stream));
        };
        let mut details = found.map(|(_, details)| details).unwrap_or_default();
        self.number_addresses(&mut details);
        self.shorten(at, row, line, &mut details);
        if row.place == Place::Loop
            && let Some(size) = take_size(&mut details)
            && let Some(expected) = self.unexpected_size(line, row, size)
        {
            let stage = format!("{said} instead of {expected}");
            return self.push(LaneId::Loop(worker), unknown(stage, line, stream));
        }
        let own = |details| event(row, line, stream, None, details);
        match row.place {
            Place::None => self.ignored += 1,
            Place::Main => {}
            Place::Connection | Place::Downstream | Place::Upstream => {
                self.push(at, own(details));
            }
            Place::Own => {
                let lane = self.at_own.get(&line.thread).copied().unwrap_or(at);
                self.push(lane, own(details));
            }
            Place::Pool => self.push(LaneId::Pool(worker), event(row, line, stream, conn, details)),
            Place::ConnectionAndPool | Place::ConnectionAndLoop => {
                let other = match row.place {
                    Place::ConnectionAndPool => LaneId::Pool(worker),
                    _ => LaneId::Loop(worker),
                };
                self.push(other, event(row, line, stream, conn, details.clone()));
                self.push(at, own(details));
            }
            Place::Loop => self.push(LaneId::Loop(worker), own(details)),
            Place::Start => self.push(LaneId::Start(worker), own(details)),
            Place::PoolAndLoop => {
                self.push(LaneId::Pool(worker), own(details.clone()));
                self.push(LaneId::Loop(worker), own(details));
            }
        }
    }

    /// How many digits a duration has is a matter of time: bytes count as if it had one.
    fn shorten(&mut self, at: LaneId, row: &Row, line: &LogLine, details: &mut Details) {
        let which = match row.stage.as_str() {
            "ActiveStream::encodeHeaders" => {
                let value = line.text.split_once(DURATION).and_then(|(_, rest)| rest.split('\'').next());
                let more = value.map_or(0, |value| value.len().saturating_sub(1));
                self.durations.entry(at).or_default().iter_mut().for_each(|left| *left += more);
                return;
            }
            "ConnectionImpl::write" => 0,
            "RawBufferSocket::doWrite" => 1,
            _ => return,
        };
        let Some(left) = self.durations.get_mut(&at).map(|both| std::mem::take(&mut both[which])) else {
            return;
        };
        let bytes = details.iter_mut().find(|(name, _)| name == "bytes");
        if let Some((_, bytes)) = bytes.filter(|_| left > 0)
            && let Ok(number) = bytes.parse::<usize>()
        {
            *bytes = number.saturating_sub(left).to_string();
        }
    }

    fn number_addresses(&mut self, details: &mut Details) {
        for (_, address) in details.iter_mut().filter(|(name, _)| name == "address") {
            let known = self.addresses.iter().position(|known| known == address);
            let number = known.unwrap_or_else(|| {
                self.addresses.push(address.clone());
                self.addresses.len() - 1
            });
            *address = (number + 1).to_string();
        }
    }

    /// How long the list of what is to be deleted should be, if it is not so long: it grows by one, until all of it goes.
    fn unexpected_size(&mut self, line: &LogLine, row: &Row, size: usize) -> Option<usize> {
        let known = self.deferred.get(&line.thread).copied().or_else(|| self.has_start.then_some(0));
        let grows = row.stage == DEFERRED_DELETE;
        self.deferred.insert(line.thread.clone(), if grows { size } else { 0 });
        let expected = known? + usize::from(grows);
        (expected != size).then_some(expected)
    }

    /// At the end of all, no list of what is to be deleted has anything left.
    fn expect_nothing_deferred(&mut self) {
        for (index, worker) in self.workers.clone().iter().enumerate() {
            let left = self.deferred.get(worker).copied().unwrap_or_default();
            let lane = LaneId::Loop(index + 1);
            let last = self.lanes.get(&lane).and_then(|events| events.last()).cloned();
            if let Some(last) = last.filter(|_| left > 0) {
                let stage = format!("{left} are left in the deferred deletion list");
                self.push(lane, Event { stage, known: false, details: Vec::new(), ..last });
            }
        }
    }

    fn stream_number(&mut self, lane: LaneId, line: &LogLine) -> Option<usize> {
        let stream = line.stream.as_ref()?;
        if let Some(number) = self.streams.get(stream) {
            return Some(*number);
        }
        let number = self.streams_of.entry(lane).or_default();
        *number += 1;
        self.streams.insert(stream.clone(), *number);
        Some(*number)
    }

    fn push(&mut self, lane: LaneId, event: Event) {
        self.lanes.entry(lane).or_default().push(event);
    }

    fn finish(self) -> Trace {
        let mut lanes: Vec<(LaneId, Vec<Event>)> = self.lanes.into_iter().collect();
        lanes.sort_by_key(|(id, _)| *id);
        lanes.iter_mut().filter(|(id, _)| matches!(id, LaneId::Pool(_))).for_each(|(_, pool)| sort_end(pool));
        Trace {
            lanes,
            downstream_by_worker: self.downstream_by_worker,
            ignored: self.ignored,
            notes: self.notes,
            ..Trace::default()
        }
    }
}

/// When a worker ends, its clusters go in the order of a hash table: here their connections in their own.
fn sort_end(pool: &mut Vec<Event>) {
    let Some(end) = pool.iter().position(|event| event.stage == CLUSTERS_GO) else { return };
    let mut closing = None;
    let with_connection = |event: Event| {
        closing = event.conn.or(closing);
        (closing, event)
    };
    let mut rest: Vec<(Option<LaneId>, Event)> = pool.drain(end + 1..).map(with_connection).collect();
    rest.sort_by_key(|(conn, _)| *conn);
    pool.extend(rest.into_iter().map(|(_, event)| event));
}

const CLUSTERS_GO: &str = "ThreadLocalClusterManagerImpl::~ThreadLocalClusterManagerImpl";

/// What the router says first of a request.
const ROUTED: &str = "Filter::decodeHeaders cluster";

/// The last that the main thread says.
const LAST_WORDS: &str = "InstanceImpl::terminate";

/// What grows the list of objects that are to be deleted.
const DEFERRED_DELETE: &str = "DispatcherImpl::deferredDelete";

/// Makes one of what is deferred, or cleared, several times in a row: how many objects go is each proxy's own affair.
pub fn fold_deferred(trace: &mut Trace) {
    for (id, events) in &mut trace.lanes {
        if matches!(id, LaneId::Loop(_)) {
            events.dedup_by(|event, last| event.stage.starts_with(DISPATCHER) && last.same_stage(event));
        }
    }
}

/// What stands ahead of the duration's value in a list of fields.
const DURATION: &str = "'x-envoy-upstream-service-time', '";

const DISPATCHER: &str = "DispatcherImpl::";

fn take_size(details: &mut Details) -> Option<usize> {
    let at = details.iter().position(|(name, _)| name == "size")?;
    details.remove(at).1.parse().ok()
}

/// A text that no row has.
fn unknown(stage: String, line: &LogLine, stream: Option<usize>) -> Event {
    Event { stage, known: false, stream, conn: None, details: Vec::new(), line: line.number }
}

fn event(row: &Row, line: &LogLine, stream: Option<usize>, conn: Option<LaneId>, details: Details) -> Event {
    Event { stage: row.stage.clone(), known: true, stream, conn, details, line: line.number }
}

/// Adds the bytes of `more`; any other detail that differs is dropped.
pub fn add_up(event: &mut Event, more: &Event) {
    let sum = |(name, value): (String, String)| {
        let other = more.details.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())?;
        match (value.parse::<u64>(), other.parse::<u64>()) {
            (Ok(a), Ok(b)) if name == "bytes" => Some((name, (a + b).to_string())),
            _ => (value == other).then_some((name, value)),
        }
    };
    event.details = std::mem::take(&mut event.details).into_iter().filter_map(sum).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[2026-01-01 00:00:00.000][1][info][main] [a.rs:1] initializing epoch 0 (hot restart version=disabled)
[2026-01-01 00:00:00.000][2][debug][main] [a.rs:1] [C5] new connection
[2026-01-01 00:00:00.000][2][debug][router] [a.rs:1] [C5][S77] router decoding headers:
':path', '/'
[2026-01-01 00:00:00.000][2][debug][pool] [a.rs:1] creating a new connection
[2026-01-01 00:00:00.000][2][debug][client] [a.rs:1] [C6] connecting
[2026-01-01 00:00:00.000][2][debug][router] [a.rs:1] [C5][S78] pool ready
[2026-01-01 00:00:00.000][3][debug][http] [a.rs:1] [C7] new stream
[2026-01-01 00:00:00.000][3][debug][http] [a.rs:1] a text that is in no table
[2026-01-01 00:00:00.000][3][trace][main] [a.rs:1] item added to deferred deletion list (size=1)
[2026-01-01 00:00:00.000][3][trace][main] [a.rs:1] item added to deferred deletion list (size=2)
[2026-01-01 00:00:00.000][4][trace][main] [a.rs:1] item added to deferred deletion list (size=1)
[2026-01-01 00:00:00.000][1][info][main] [a.rs:1] shutting down server instance
[2026-01-01 00:00:00.000][1][info][main] [a.rs:1] anything else
";

    #[test]
    fn events_go_to_their_lanes() {
        let trace = read(&StageTexts::built_in().unwrap(), LOG);
        let lanes: Vec<(LaneId, Vec<String>)> = trace
            .lanes
            .iter()
            .map(|(id, events)| (*id, events.iter().map(Event::to_string).collect()))
            .collect();
        let want: Vec<(LaneId, Vec<&str>)> = vec![
            (
                LaneId::Downstream(1),
                vec![
                    "ActiveListener::newConnection",
                    "Filter::decodeHeaders S1",
                    "UpstreamRequest::onPoolReady S2",
                ],
            ),
            (
                LaneId::Downstream(2),
                vec!["ConnectionManagerImpl::newStream", "unknown text: [http] a text that is in no table"],
            ),
            (LaneId::Upstream(1), vec!["CodecClient::CodecClient"]),
            (
                LaneId::Pool(1),
                vec!["ConnPoolImpl::createNewConnection", "UpstreamRequest::onPoolReady D1 S2"],
            ),
            (LaneId::Loop(2), vec!["DispatcherImpl::deferredDelete"; 2]),
            (LaneId::Start(0), vec!["InstanceImpl::initialize"]),
            (LaneId::Main, vec!["InstanceImpl::shutdown"]),
        ];
        let want: Vec<(LaneId, Vec<String>)> =
            want.into_iter().map(|(id, e)| (id, e.into_iter().map(str::to_string).collect())).collect();
        assert_eq!(lanes, want);
        assert_eq!(trace.downstream_by_worker, [1, 1]);
    }

    #[test]
    fn a_log_tells_who_wrote_it_and_where_it_starts() {
        let texts = StageTexts::built_in().unwrap();
        let trace = read(&texts, LOG);
        assert_eq!((trace.proxy, trace.dialect), (Some(ProxyKind::Legate), Dialect::V1_1));
        assert!(trace.notes.is_empty());
        let rest = LOG.split_once('\n').unwrap().1.replace("a.rs", "a.cc");
        let trace = read(&texts, &rest);
        assert_eq!(trace.proxy, Some(ProxyKind::Envoy));
        assert!(trace.notes[0].starts_with("Envoy's log does not have the start"), "{:?}", trace.notes);
        // The main thread is still known.
        assert_eq!(trace.lane(LaneId::Main).len(), 1);
    }

    #[test]
    fn the_list_of_what_is_to_be_deleted_grows_by_one() {
        let texts = StageTexts::built_in().unwrap();
        let line = |text: &str| format!("[2026-01-01 00:00:00.000][3][trace][main] [a.rs:1] {text}\n");
        let (added, cleared) = ("item added to deferred deletion list", "clearing deferred deletion list");
        let unknown = |sizes: &[(&str, usize)]| {
            let lines = sizes.iter().map(|(text, size)| line(&format!("{text} (size={size})")));
            let trace = read(&texts, &format!("{LOG}{}", lines.collect::<String>()));
            trace.lane(LaneId::Loop(2)).iter().filter(|event| !event.known).count()
        };
        assert_eq!(unknown(&[(cleared, 2), (added, 1), (cleared, 1)]), 0);
        assert_eq!(unknown(&[(added, 3), (added, 4), (cleared, 4)]), 0);
        assert_eq!(unknown(&[(added, 4), (cleared, 4)]), 1);
        assert_eq!(unknown(&[(cleared, 3)]), 1);
        let end = "[2026-01-01 00:00:00.000][1][info][main] [a.rs:1] exiting\n";
        let ended = read(&texts, &format!("{LOG}{end}"));
        assert_eq!(ended.lane(LaneId::Loop(2)).iter().filter(|event| !event.known).count(), 1);
    }

    #[test]
    fn a_stream_that_no_client_began_has_a_lane_of_its_own() {
        let line = |text: &str| format!("[2026-01-01 00:00:00.000][2][debug]{text}\n");
        let log = [
            "[http] [a.rs:1] [C5][S90] request headers complete (end_stream=true):",
            "[router] [a.rs:1] [C5][S90] cluster 'a' match for URL '/'",
            "[router] [a.rs:1] [C0][S91] cluster 'b' match for URL '/'",
            "[router] [a.rs:1] [C5][S90] upstream headers complete: end_stream=true",
            "[http] [a.rs:1] async http request response data (length=0 end_stream=true)",
        ]
        .map(line)
        .concat();
        let trace = read(&StageTexts::built_in().unwrap(), &format!("{LOG}{log}"));
        let own: Vec<String> = trace.lane(LaneId::Own(1)).iter().map(Event::to_string).collect();
        assert_eq!(
            own,
            [format!("{ROUTED} S1 cluster=b path=/"), "AsyncStreamImpl::encodeData bytes=0 end=true".into()]
        );
        assert_eq!(trace.downstream_by_worker, [1, 1], "C0 is no connection");
    }

    #[test]
    fn how_long_a_duration_is_does_not_count() {
        let bytes = |value: &str, written: usize| {
            let line = |text: &str| format!("[2026-01-01 00:00:00.000][2][debug]{text}\n");
            let head = format!(
                "[http] [a.rs:1] [C5][S77] encoding headers via codec (end_stream=true):\n{DURATION}{value}'"
            );
            let write = format!("[connection] [a.rs:1] [C5] writing {written} bytes, end_stream false");
            let sent = format!("[connection] [a.rs:1] [C5] write returns: {written}");
            let log = [&head, &write, &sent, &write].map(|text| line(text)).concat();
            let trace = read(&StageTexts::built_in().unwrap(), &format!("{LOG}{log}"));
            let events = trace.lane(LaneId::Downstream(1)).iter();
            events.filter_map(|event| event.detail("bytes").map(str::to_string)).collect::<Vec<_>>()
        };
        assert_eq!(bytes("0", 50), ["50", "50", "50"]);
        assert_eq!(bytes("501", 52), ["50", "50", "52"]);
    }

    #[test]
    fn clusters_may_end_in_any_order() {
        let line = |text: &str| format!("[2026-01-01 00:00:00.000][3][debug]{text}\n");
        let pool_of = |order: [&str; 2]| {
            let mut log = String::from(LOG);
            log.extend(["[client] [a.rs:1] [C8] connecting", "[client] [a.rs:1] [C9] connecting"].map(line));
            log += &line("[upstream] [a.rs:1] shutting down thread local cluster manager");
            for conn in order {
                log += &line(&format!("[pool] [a.rs:1] [{conn}] client disconnected, failure reason: "));
                log += &line("[pool] [a.rs:1] moving to ready");
            }
            let trace = read(&StageTexts::built_in().unwrap(), &log);
            trace.lane(LaneId::Pool(2)).iter().map(Event::to_string).collect::<Vec<_>>()
        };
        let pool = pool_of(["C8", "C9"]);
        assert!(pool[1].contains(" U2 ") && pool[3].contains(" U3 "), "{pool:?}");
        assert_eq!(pool_of(["C9", "C8"]), pool);
    }

    #[test]
    fn a_worker_starts_with_what_the_table_has_for_each_thread() {
        let start = "\
[2026-01-01 00:00:00.000][1][debug][upstream] [a.rs:1] adding TLS initial cluster a
[2026-01-01 00:00:00.000][2][debug][main] [a.rs:1] worker entering dispatch loop
[2026-01-01 00:00:00.000][2][debug][upstream] [a.rs:1] adding TLS initial cluster a
[2026-01-01 00:00:00.000][2][debug][upstream] [a.rs:1] and whatever else
";
        let trace = read(&StageTexts::built_in().unwrap(), &format!("{start}{LOG}"));
        let names = |id: LaneId| trace.lane(id).iter().map(|event| event.stage.as_str()).collect::<Vec<_>>();
        let of_cluster = "ThreadLocalClusterManagerImpl::ThreadLocalClusterManagerImpl";
        assert_eq!(names(LaneId::Start(1)), ["WorkerImpl::threadRoutine", of_cluster]);
        assert_eq!(names(LaneId::Start(0))[0], of_cluster);
    }

    #[test]
    fn details_differ_only_where_both_have_them() {
        let event = |details: &[(&str, &str)]| Event {
            stage: "A::b".into(),
            known: true,
            stream: None,
            conn: None,
            details: details.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            line: 1,
        };
        assert!(event(&[("x", "1"), ("y", "2")]).differing_details(&event(&[("x", "1")])).is_empty());
        assert_eq!(event(&[("x", "1")]).differing_details(&event(&[("x", "2")])), ["x"]);
        let mut sum = event(&[("bytes", "1"), ("y", "1"), ("z", "c")]);
        add_up(&mut sum, &event(&[("bytes", "2"), ("y", "2"), ("z", "c")]));
        assert_eq!(sum, event(&[("bytes", "3"), ("z", "c")]));
    }
}
