//! What was recorded, for people and for programs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{BY_HAND, Event, Phase, STAGES, Stage, StageInfo, StreamName, ThreadEvents};

/// What a callback of the loop may be for, by its number in [`Stage::Callback`] events.
pub(crate) const CALLBACK_KINDS: [&str; 5] = ["", "fd event", "timer", "signal", "listener"];

fn info(event: &Event) -> &'static StageInfo {
    Stage::info(event.stage).unwrap_or(&STAGES[0])
}

/// The stage's name; of a callback also what it is for, and whether `event_active` is behind it.
fn name(event: &Event) -> Cow<'static, str> {
    match CALLBACK_KINDS.get(event.a as usize) {
        Some(kind) if event.stage == Stage::Callback as u8 && !kind.is_empty() => {
            let by = if event.b & BY_HAND != 0 { " by event_active" } else { "" };
            format!("callback: {kind}{by}").into()
        }
        _ => info(event).name.into(),
    }
}

/// The details that have a name; the lengths of a pool's lists apart.
fn details(event: &Event) -> Vec<(&'static str, u64)> {
    if event.stage == Stage::PoolLists as u8 {
        let [pending, busy, ready] = lengths(event);
        return vec![("pending", pending), ("busy", busy), ("ready", ready), ("pool", event.b)];
    }
    let names = info(event).details.split_ascii_whitespace();
    names.zip([event.a, event.b]).filter(|(name, _)| *name != "_").collect()
}

/// Pending, busy, ready.
fn lengths(event: &Event) -> [u64; 3] {
    [event.a >> 32, event.a >> 16 & 0xffff, event.a & 0xffff]
}

/// All events in the order of their times, with the number of their thread.
fn merged(threads: &[ThreadEvents]) -> Vec<(usize, &Event)> {
    let mut all: Vec<(usize, &Event)> =
        threads.iter().enumerate().flat_map(|(i, t)| t.events.iter().map(move |e| (i, e))).collect();
    all.sort_by_key(|(_, event)| event.time);
    all
}

/// A table, a line per event.
pub fn text(threads: &[ThreadEvents]) -> String {
    let mut out = format!(
        "{:>14} {:<12} {:>7} {:>6} {:>20}  {}\n",
        "time us", "thread", "pass", "conn", "stream", "stage"
    );
    for thread in threads.iter().filter(|thread| thread.overwritten) {
        let _ = writeln!(out, "older events of {} were overwritten", thread.thread);
    }
    let mut depth = vec![0usize; threads.len()];
    for (thread, event) in merged(threads) {
        if event.phase == Phase::End {
            depth[thread] = depth[thread].saturating_sub(1);
            continue;
        }
        let conn = event.conn.map_or(String::new(), |id| format!("C{id}"));
        let stream = if event.stream == 0 { String::new() } else { event.stream.to_string() };
        let indent = 2 * depth[thread];
        let _ = write!(
            out,
            "{:>10}.{:03} {:<12} {:>7} {:>6} {:>20}  {:indent$}{}",
            event.time / 1000,
            event.time % 1000,
            threads[thread].thread,
            event.pass,
            conn,
            stream,
            "",
            name(event),
        );
        for (name, value) in details(event) {
            let _ = write!(out, " {name}={value}");
        }
        out.push('\n');
        if event.phase == Phase::Begin {
            depth[thread] += 1;
        }
    }
    out
}

/// A header that names threads and stages, what the streams ask for, then an object per event, each on a line of
/// its own.
pub fn json_lines(threads: &[ThreadEvents]) -> String {
    let stage = |s: &StageInfo| {
        json!({"name": s.name, "stage": s.number, "details": s.details, "envoy_file": s.envoy_file,
            "legate_file": s.legate_file, "libevent": s.libevent})
    };
    let names: Vec<&str> = threads.iter().map(|t| t.thread.as_str()).collect();
    let overwritten: Vec<bool> = threads.iter().map(|t| t.overwritten).collect();
    let stages: Vec<Value> = STAGES.iter().map(stage).collect();
    let mut out = json!({"header": {"version": 1, "workers": names, "overwritten": overwritten,
        "enabled": super::enabled(), "started_ns": 0, "stages": stages}})
    .to_string();
    out.push('\n');
    for StreamName { stream, method, path } in threads.iter().flat_map(|thread| &thread.streams) {
        let info = json!({"stream_info": {"stream": stream.to_string(), "method": method, "path": path}});
        let _ = writeln!(out, "{info}");
    }
    for (thread, event) in merged(threads) {
        let phase = match event.phase {
            Phase::Begin => 'B',
            Phase::End => 'E',
            Phase::Instant => 'I',
        };
        let _ = write!(out, r#"{{"t":{},"w":{thread},"pass":{},"ph":"{phase}""#, event.time, event.pass);
        if let Some(conn) = event.conn {
            let _ = write!(out, r#","conn":{conn}"#);
        }
        if event.stream != 0 {
            let _ = write!(out, r#","stream":"{}""#, event.stream);
        }
        let _ = writeln!(out, r#","stage":"{}","a":{},"b":{}}}"#, info(event).name, event.a, event.b);
    }
    out
}

/// The one process of a Chrome trace. Perfetto takes the thread of the same number for its main thread.
const PROCESS: usize = 1;

/// Chrome's trace events, which Perfetto and chrome://tracing open: a track per thread, slices for what begins
/// and ends, an arrow from the downstream connection to the upstream one, and the pool's lists as counters.
///
/// `tests/trace_events.py` has the rules.
pub fn chrome(threads: &[ThreadEvents]) -> String {
    let mut events = vec![metadata(PROCESS, "process_name", "legate")];
    for (i, thread) in threads.iter().enumerate() {
        // Perfetto takes 0 for no number.
        let tid = if thread.thread == "main_thread" { PROCESS } else { PROCESS + 1 + i };
        events.push(metadata(tid, "thread_name", &thread.thread));
        let mut arrows = Arrows::new(&thread.events);
        let mut open: Vec<u8> = Vec::new();
        for event in &thread.events {
            // What began before the oldest event that is left has no beginning.
            match event.phase {
                Phase::Begin => open.push(event.stage),
                Phase::End if open.last() == Some(&event.stage) => drop(open.pop()),
                Phase::End => continue,
                Phase::Instant => {}
            }
            push_chrome(&mut events, tid, event);
            events.extend(arrows.end_at(event, tid));
        }
        let last = thread.events.last().map_or(0, |event| event.time);
        events.extend(open.iter().map(|_| end_of_slice(tid, last)));
    }
    json!({"displayTimeUnit": "ns", "traceEvents": events}).to_string()
}

fn metadata(tid: usize, what: &str, name: &str) -> Value {
    json!({"ph": "M", "pid": PROCESS, "tid": tid, "name": what, "args": {"name": name}})
}

/// Microseconds; the nanoseconds are behind the point.
fn microseconds(time: u64) -> f64 {
    time as f64 / 1000.0
}

/// The end of the slice that began last; a name other than that one's would leave it open.
fn end_of_slice(tid: usize, time: u64) -> Value {
    json!({"ph": "E", "pid": PROCESS, "tid": tid, "ts": microseconds(time)})
}

/// The arrows of a thread: a stream's starts where it asks the pool and ends where its upstream connection has
/// it. Only one of which both ends are there is drawn.
struct Arrows {
    attached: HashSet<u64>,
    begun: HashSet<u64>,
}

impl Arrows {
    fn new(events: &[Event]) -> Arrows {
        let attached = events.iter().filter(|e| e.stage == Stage::AttachRequestToClient as u8);
        Arrows { attached: attached.map(|e| e.stream).collect(), begun: HashSet::new() }
    }

    /// The end of an arrow at this event, if one is there.
    fn end_at(&mut self, event: &Event, tid: usize) -> Option<Value> {
        let stream = event.stream;
        let phase = match event.stage {
            s if s == Stage::PoolNewStream as u8 => {
                (self.attached.contains(&stream) && self.begun.insert(stream)).then_some("s")
            }
            s if s == Stage::AttachRequestToClient as u8 => {
                (self.begun.contains(&stream) && self.attached.remove(&stream)).then_some("f")
            }
            _ => None,
        }?;
        // Perfetto reads a string as a hexadecimal number of 64 bits.
        let mut arrow = json!({
            "ph": phase, "pid": PROCESS, "tid": tid, "ts": microseconds(event.time),
            "id": format!("{stream:#x}"), "name": "request", "cat": "flow",
        });
        if phase == "f" {
            arrow["bp"] = json!("e");
        }
        Some(arrow)
    }
}

fn push_chrome(events: &mut Vec<Value>, tid: usize, event: &Event) {
    let ts = microseconds(event.time);
    let stage = info(event);
    if event.stage == Stage::PoolLists as u8 {
        let [pending, busy, ready] = lengths(event);
        let lists = json!({"pending": pending, "busy": busy, "ready": ready});
        events.push(json!({"ph": "C", "pid": PROCESS, "tid": tid, "ts": ts, "name": format!("pool {}", event.b), "args": lists}));
        return;
    }
    let mut args = json!({"pass": event.pass, "stage": stage.number, "file": stage.envoy_file});
    for (name, value) in details(event) {
        args[name] = json!(value);
    }
    if let Some(conn) = event.conn {
        args["conn"] = json!(conn);
    }
    if event.stream != 0 {
        args["stream"] = json!(event.stream.to_string());
    }
    let name = name(event);
    let cat = format!("stage {}", stage.number);
    match event.phase {
        Phase::Begin => {
            events.push(
                json!({"ph": "B", "pid": PROCESS, "tid": tid, "ts": ts, "name": name, "cat": cat, "args": args}),
            );
        }
        Phase::End => events.push(end_of_slice(tid, event.time)),
        Phase::Instant => {
            events.push(
                json!({"ph": "i", "s": "t", "pid": PROCESS, "tid": tid, "ts": ts, "name": name, "cat": cat, "args": args}),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads() -> Vec<ThreadEvents> {
        let event = |time, phase, stage: Stage, conn, stream, a, b| Event {
            time,
            pass: 3,
            phase,
            stage: stage as u8,
            conn,
            stream,
            a,
            b,
        };
        let lists = 1u64 << 32 | 2 << 16 | 3;
        vec![
            ThreadEvents {
                thread: "worker_0".into(),
                events: vec![
                    event(50, Phase::End, Stage::Pass, None, 0, 0, 0),
                    event(1_000, Phase::Begin, Stage::OnFileEvent, Some(4), 0, 1, 0),
                    event(1_500, Phase::Instant, Stage::PoolNewStream, Some(4), 9, 0, 0),
                    event(1_600, Phase::Instant, Stage::PoolLists, None, 0, lists, 7),
                    event(1_700, Phase::Instant, Stage::AttachRequestToClient, Some(5), 9, 4, 0),
                    event(2_000, Phase::End, Stage::OnFileEvent, Some(4), 0, 0, 0),
                    event(3_000, Phase::Begin, Stage::Callback, None, 0, 2, BY_HAND),
                ],
                overwritten: true,
                streams: vec![StreamName { stream: 9, method: "GET".into(), path: "/\"".into() }],
            },
            ThreadEvents {
                thread: "worker_1".into(),
                events: vec![event(1_200, Phase::Instant, Stage::Write, Some(6), 0, 12, 0)],
                overwritten: false,
                streams: vec![],
            },
        ]
    }

    #[test]
    fn the_table_is_in_order_and_indented() {
        let text = text(&threads());
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines.remove(1), "older events of worker_0 were overwritten");
        assert!(lines[1].ends_with("  ConnectionImpl::onFileEvent bits=1"), "{}", lines[1]);
        assert!(lines[2].contains("worker_1") && lines[2].contains("C6"), "{}", lines[2]);
        assert!(lines[3].ends_with("    ConnPoolImpl::newStream waiting=0 pool=0"), "{}", lines[3]);
        assert!(lines[4].ends_with("    lists pending=1 busy=2 ready=3 pool=7"), "{}", lines[4]);
        assert!(lines[6].ends_with("  callback: timer by event_active kind=2 bits=8"), "{}", lines[6]);
    }

    #[test]
    fn each_line_of_json_is_an_object() {
        let lines: Vec<Value> =
            json_lines(&threads()).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["header"]["workers"], json!(["worker_0", "worker_1"]));
        assert_eq!(lines[0]["header"]["overwritten"], json!([true, false]));
        assert_eq!(lines[0]["header"]["stages"].as_array().unwrap().len(), STAGES.len());
        let want = json!({"t": 1500, "w": 0, "pass": 3, "ph": "I", "conn": 4, "stream": "9",
            "stage": "ConnPoolImpl::newStream", "a": 0, "b": 0});
        assert_eq!(lines[1], json!({"stream_info": {"stream": "9", "method": "GET", "path": "/\""}}));
        assert_eq!(lines[5], want);
        assert_eq!(lines.len(), 10);
    }

    #[test]
    fn slices_of_a_chrome_trace_are_balanced() {
        let trace: Value = serde_json::from_str(&chrome(&threads())).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let count = |ph: &str| events.iter().filter(|e| e["ph"] == ph).count();
        assert_eq!(
            (count("B"), count("E"), count("s"), count("f"), count("C"), count("M")),
            (2, 2, 1, 1, 1, 3)
        );
        let lists = events.iter().find(|e| e["ph"] == "C").unwrap();
        assert_eq!(
            (&lists["name"], &lists["args"]),
            (&json!("pool 7"), &json!({"pending": 1, "busy": 2, "ready": 3}))
        );
        assert!(events.iter().any(|e| e["name"] == "callback: timer by event_active"));
        assert_eq!(events.iter().find(|e| e["ph"] == "B").unwrap()["ts"], json!(1.0));
    }

    fn chrome_events(threads: &[ThreadEvents]) -> Vec<Value> {
        let trace: Value = serde_json::from_str(&chrome(threads)).unwrap();
        trace["traceEvents"].as_array().unwrap().clone()
    }

    #[test]
    fn an_end_in_a_chrome_trace_ends_whatever_began_last() {
        let events = chrome_events(&threads());
        assert!(events.iter().filter(|e| e["ph"] == "E").all(|e| e["name"].is_null() && e["cat"].is_null()));
    }

    #[test]
    fn each_thread_of_a_chrome_trace_has_a_number_of_its_own() {
        let thread = |name: &str| ThreadEvents {
            thread: name.into(),
            events: Vec::new(),
            overwritten: false,
            streams: Vec::new(),
        };
        let tids = |threads: &[ThreadEvents]| -> Vec<u64> {
            let names = chrome_events(threads).into_iter().filter(|e| e["name"] == "thread_name");
            names.map(|e| e["tid"].as_u64().unwrap()).collect()
        };
        assert_eq!(tids(&[thread("main_thread"), thread("worker_0"), thread("worker_1")]), [1, 3, 4]);
        assert_eq!(tids(&[thread("worker_0"), thread("worker_1")]), [2, 3]);
    }

    #[test]
    fn an_arrow_has_both_ends_or_is_not_drawn() {
        let event = |time, stage: Stage, stream| Event {
            time,
            pass: 1,
            phase: Phase::Instant,
            stage: stage as u8,
            conn: Some(1),
            stream,
            a: 0,
            b: 0,
        };
        let events = vec![
            event(10, Stage::AttachRequestToClient, 1),
            event(20, Stage::PoolNewStream, u64::MAX),
            event(30, Stage::PoolNewStream, 3),
            event(40, Stage::AttachRequestToClient, u64::MAX),
            event(50, Stage::PoolNewStream, u64::MAX),
            event(60, Stage::AttachRequestToClient, u64::MAX),
        ];
        let events = chrome_events(&[ThreadEvents {
            thread: "worker_0".into(),
            events,
            overwritten: false,
            streams: Vec::new(),
        }]);
        let arrows = events.iter().filter(|e| e["cat"] == "flow");
        let ends: Vec<_> = arrows.map(|e| (&e["ph"], &e["bp"], &e["ts"], &e["id"])).collect();
        let id = json!("0xffffffffffffffff");
        assert_eq!(
            ends,
            [(&json!("s"), &Value::Null, &json!(0.02), &id), (&json!("f"), &json!("e"), &json!(0.04), &id)]
        );
    }
}
