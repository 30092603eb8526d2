//! What legate's stage recorder tells (`GET /trace?format=json`, `--trace-stages=FILE`), in the form of a log's trace.
//!
//! The recorder knows stages that no log text stands for, and the other way round; what both know is compared.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use legate::trace::{STAGES, Whose, text_said_by};

use crate::lanes::{Event, LaneId, Trace};
use crate::stage_texts::{Details, Place, StageTexts};

/// A recorded stage and the one that a log text stands for.
struct Same {
    stage: &'static str,
    place: Place,
    whose: Whose,
    /// What the first detail is, if the log has it, too.
    detail: &'static str,
}

/// `ConnectionEvent::Connected` in Envoy's numbers.
const CONNECTED: u64 = 2;
/// The request that is reset waits in the pool's queue.
const PENDING: u64 = 1;

/// Stages at which something else is logged where the first detail is (`true`) or is not (`false`) this number.
const CASES: [(&str, (u64, bool), &str, Whose); 4] = [
    ("UpstreamRequest::resetStream", (PENDING, true), "UpstreamRequest::resetStream pending", Whose::Streams),
    (
        "ConnPoolImpl::onConnectionEvent",
        (CONNECTED, false),
        "ConnPoolImpl::onConnectionEvent closed",
        Whose::Connections,
    ),
    (
        "ConnPoolImpl::onConnectionEvent raw",
        (CONNECTED, false),
        "ConnPoolImpl::onConnectionEvent closed",
        Whose::Connections,
    ),
    ("CodecClient::onEvent", (CONNECTED, true), "CodecClient::onEvent connected", Whose::Connections),
];

/// Numbers that are logged as they are recorded.
const NUMBERS: [&str; 3] = ["bytes", "event", "type"];

impl Same {
    /// What is logged at a recorded stage with this first detail.
    fn of(texts: &StageTexts, name: &str, a: u64) -> Option<Same> {
        let case = CASES.iter().find(|(of, (number, wanted), ..)| *of == name && (a == *number) == *wanted);
        let (stage, whose, detail) = match case {
            Some((.., stage, whose)) => (*stage, *whose, ""),
            None => {
                let info = STAGES.iter().find(|info| info.name == name)?;
                let log = info.log?;
                let first = info.details.split(' ').next().unwrap_or_default();
                let is_said = NUMBERS.contains(&first) && log.text.contains(&format!("{{{first}}}"));
                (info.said_by()?, log.whose, if is_said { first } else { "" })
            }
        };
        let place = texts.rows().iter().find(|row| row.stage == stage)?.place;
        Some(Same { stage, place, whose, detail })
    }
}

/// Whether the recorder knows a stage.
pub fn is_recorded(stage: &str) -> bool {
    CASES.iter().any(|(_, _, of, _)| *of == stage) || text_said_by(stage).is_some()
}

/// Drops from a log's trace what the recorder does not know.
pub fn keep_recorded(trace: &mut Trace) {
    for (_, events) in &mut trace.lanes {
        events.retain(|event| !event.known || is_recorded(&event.stage));
    }
    trace.lanes.retain(|(id, events)| !events.is_empty() && !matches!(id, LaneId::Main | LaneId::Start(_)));
}

/// A worker whose recording has no beginning any more.
fn overwritten_worker<'a>(threads: &'a [String], overwritten: &Value) -> Option<&'a String> {
    let is_lost = |&index: &usize| overwritten[index] == true && threads[index].starts_with("worker");
    (0..threads.len()).find(is_lost).map(|index| &threads[index])
}

/// Whether a text is what the recorder writes.
pub fn is_recording(text: &str) -> bool {
    text.starts_with("{\"header\":")
}

/// Reads a recording.
///
/// # Errors
/// A line is not what the recorder writes; the text names it.
pub fn read(text: &str) -> Result<Trace, String> {
    let mut reader = Reader { texts: StageTexts::built_in()?, ..Reader::default() };
    let mut events = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let value: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", index + 1))?;
        if let Some(header) = value.get("header") {
            let names = header["workers"].as_array().cloned().unwrap_or_default();
            reader.threads = names.iter().filter_map(Value::as_str).map(str::to_string).collect();
            if let Some(thread) = overwritten_worker(&reader.threads, &header["overwritten"]) {
                return Err(format!("older events of {thread} were overwritten: record less at once"));
            }
        } else if value.get("stage").is_some() {
            events.push((index + 1, value));
        }
    }
    if reader.threads.is_empty() {
        return Err("line 1: it has no header that names the workers".to_string());
    }
    for (_, event) in &events {
        if event["stage"] == "CodecClient::CodecClient" {
            reader.upstream.extend(event["conn"].as_u64());
        }
        if event["stage"] == "AsyncStreamImpl::sendHeaders" {
            let id = event["stream"].as_str().unwrap_or_default();
            reader.own.insert(id.to_string(), LaneId::Own(reader.own.len() + 1));
        }
    }
    for (line, event) in &events {
        reader.event(*line, event);
    }
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    texts: StageTexts,
    threads: Vec<String>,
    /// Ids of connections to upstreams.
    upstream: Vec<u64>,
    connections: HashMap<u64, LaneId>,
    streams: HashMap<String, (LaneId, usize)>,
    /// Streams of the proxy's own.
    own: HashMap<String, LaneId>,
    /// Threads with connections, in the order of their first one.
    workers: Vec<usize>,
    downstream_by_worker: Vec<usize>,
    lanes: BTreeMap<LaneId, Vec<Event>>,
}

impl Reader {
    fn event(&mut self, line: usize, event: &Value) {
        let thread = event["w"].as_u64().unwrap_or(0) as usize;
        let is_worker = self.threads.get(thread).is_some_and(|name| name.starts_with("worker"));
        if !is_worker || event["ph"] == "E" {
            return;
        }
        let own = event["stream"].as_str().and_then(|id| self.own.get(id).copied());
        let conn = own.or_else(|| event["conn"].as_u64().map(|id| self.connection(id, thread)));
        let stream = event["stream"].as_str().map(|id| self.stream(id, conn));
        let (name, a) = (event["stage"].as_str().unwrap_or_default(), event["a"].as_u64().unwrap_or(0));
        // A read that found nothing is no line of a log that legate would write.
        if name == "RawBufferSocket::doRead" && a == 0 && event["b"] == 0 {
            return;
        }
        // What a filter manager records of these is not logged.
        if own.is_some() && name.starts_with("ActiveStream::") {
            return;
        }
        let Some(same) = Same::of(&self.texts, name, a) else { return };
        let details: Details = match same.detail {
            "" => Details::new(),
            name => vec![(name.to_string(), a.to_string())],
        };
        let known = Event {
            stage: same.stage.to_string(),
            known: true,
            stream: stream.filter(|_| same.whose == Whose::Streams),
            conn: None,
            details,
            line,
        };
        let in_pool = || Event { conn: conn.filter(|_| same.whose != Whose::Nobodys), ..known.clone() };
        let worker = self.workers.iter().position(|w| *w == thread).map_or(1, |index| index + 1);
        match (same.place, conn) {
            (Place::Connection | Place::Downstream | Place::Upstream | Place::Own, Some(lane)) => {
                self.push(lane, known);
            }
            (Place::ConnectionAndPool, Some(lane)) => {
                self.push(LaneId::Pool(worker), in_pool());
                self.push(lane, known);
            }
            (Place::Pool, _) => self.push(LaneId::Pool(worker), in_pool()),
            (Place::Loop, _) => self.push(LaneId::Loop(worker), known),
            _ => {}
        }
    }

    fn connection(&mut self, id: u64, thread: usize) -> LaneId {
        if let Some(lane) = self.connections.get(&id) {
            return *lane;
        }
        let worker = match self.workers.iter().position(|w| *w == thread) {
            Some(worker) => worker,
            None => {
                self.workers.push(thread);
                self.downstream_by_worker.push(0);
                self.workers.len() - 1
            }
        };
        let count = |upstream: bool| {
            let is_such = |lane: &&LaneId| matches!(lane, LaneId::Upstream(_)) == upstream;
            self.connections.values().filter(is_such).count() + 1
        };
        let lane = if self.upstream.contains(&id) {
            LaneId::Upstream(count(true))
        } else {
            self.downstream_by_worker[worker] += 1;
            LaneId::Downstream(count(false))
        };
        self.connections.insert(id, lane);
        lane
    }

    fn stream(&mut self, id: &str, conn: Option<LaneId>) -> usize {
        if let Some((_, number)) = self.streams.get(id) {
            return *number;
        }
        let lane = conn.unwrap_or(LaneId::Main);
        let number = self.streams.values().filter(|(l, _)| *l == lane).count() + 1;
        self.streams.insert(id.to_string(), (lane, number));
        number
    }

    fn push(&mut self, lane: LaneId, event: Event) {
        self.lanes.entry(lane).or_default().push(event);
    }

    fn finish(self) -> Trace {
        Trace {
            lanes: self.lanes.into_iter().collect(),
            downstream_by_worker: self.downstream_by_worker,
            ..Trace::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_known_on_both_sides() {
        let texts = StageTexts::built_in().unwrap();
        for info in STAGES.iter().filter(|info| info.log.is_some()) {
            assert!(Same::of(&texts, info.name, u64::MAX).is_some(), "{} has no row", info.name);
        }
        for (recorded, (number, wanted), stage, _) in CASES {
            assert!(STAGES.iter().any(|info| info.name == recorded), "{recorded} is not recorded");
            let a = if wanted { number } else { number + 1 };
            assert!(
                Same::of(&texts, recorded, a).is_some_and(|same| same.stage == stage),
                "{stage} has no row"
            );
        }
    }

    #[test]
    fn a_recording_becomes_lanes() {
        let header = r#"{"header":{"version":1,"workers":["main_thread","worker_0"]}}"#;
        let event = |w: u64, ph: &str, ids: &str, stage: &str, a: u64| {
            format!(r#"{{"t":1,"w":{w},"pass":1,"ph":"{ph}"{ids},"stage":"{stage}","a":{a},"b":0}}"#)
        };
        let lines = [
            header.to_string(),
            r#"{"stream_info":{"stream":"9","method":"GET","path":"/"}}"#.to_string(),
            event(0, "B", r#","conn":1"#, "ActiveListener::newConnection", 0),
            event(1, "B", r#","conn":5"#, "ActiveListener::newConnection", 0),
            event(1, "E", r#","conn":5"#, "ActiveListener::newConnection", 0),
            event(1, "I", r#","conn":5"#, "RawBufferSocket::doRead", 37),
            event(1, "B", r#","conn":5,"stream":"9""#, "ActiveStream::decodeHeaders", 1),
            event(1, "I", r#","conn":5,"stream":"9""#, "ConnPoolImpl::createNewConnection", 0),
            event(1, "I", r#","conn":6"#, "CodecClient::CodecClient", 0),
            event(1, "I", r#","conn":6"#, "CodecClient::onEvent", 0),
            event(1, "I", r#","conn":6"#, "CodecClient::onEvent", 2),
            event(1, "B", r#","conn":5,"stream":"9""#, "UpstreamRequest::onPoolReady", 0),
            event(1, "I", "", "DispatcherImpl::deferredDelete", 1),
            event(1, "I", "", "DispatcherImpl::deferredDelete", 2),
        ];
        let trace = read(&lines.join("\n")).unwrap();
        let brief = |id: LaneId| trace.lane(id).iter().map(Event::to_string).collect::<Vec<_>>().join(", ");
        assert_eq!(
            brief(LaneId::Downstream(1)),
            "ActiveListener::newConnection, RawBufferSocket::doRead bytes=37, ActiveStream::decodeHeaders S1, \
             UpstreamRequest::onPoolReady S1"
        );
        assert_eq!(brief(LaneId::Upstream(1)), "CodecClient::CodecClient, CodecClient::onEvent connected");
        assert_eq!(
            brief(LaneId::Pool(1)),
            "ConnPoolImpl::createNewConnection, UpstreamRequest::onPoolReady D1 S1"
        );
        assert_eq!(brief(LaneId::Loop(1)), "DispatcherImpl::deferredDelete, DispatcherImpl::deferredDelete");
        assert_eq!(trace.downstream_by_worker, [1]);
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert_eq!(read("{}").unwrap_err(), "line 1: it has no header that names the workers");
        assert!(read("x").unwrap_err().starts_with("line 1: "));
        let header = r#"{"header":{"workers":["main_thread","worker_0"],"overwritten":[true,true]}}"#;
        assert!(read(header).unwrap_err().contains("older events of worker_0 were overwritten"));
        assert!(read(&header.replace("true,true", "true,false")).is_ok());
        assert!(is_recording("{\"header\":{}}") && !is_recording("[2026"));
    }
}
