//! Chrome's trace events, which Perfetto and chrome://tracing open: a track per thread, slices for what begins and
//! ends, an arrow from the downstream connection to the upstream one, and the pool's lists as counters.
//!
//! `tests/trace_events.py` has the rules.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::super::{Event, Phase, Stage, ThreadEvents};
use super::{Render, details, info, lengths, name};

/// The one process of a Chrome trace. Perfetto takes the thread of the same number for its main thread.
const PROCESS: usize = 1;

/// One object, a thread after the other.
#[derive(Default)]
pub(super) struct Chrome {
    started: bool,
    ended: bool,
    thread: usize,
    /// What is known of the thread whose turn it is.
    track: Option<Track>,
}

struct Track {
    tid: usize,
    arrows: Arrows,
    /// What has begun and not ended.
    open: Vec<u16>,
    next: usize,
}

impl Render for Chrome {
    fn append(&mut self, threads: &[ThreadEvents], out: &mut String) -> bool {
        if !self.started {
            self.started = true;
            out.push_str("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
            let _ = write!(out, "{}", metadata(PROCESS, "process_name", "legate"));
            return true;
        }
        let Some(thread) = threads.get(self.thread) else {
            if !std::mem::replace(&mut self.ended, true) {
                out.push_str("]}");
            }
            return false;
        };
        match &mut self.track {
            None => {
                let track = Track::new(self.thread, thread);
                let _ = write!(out, ",{}", metadata(track.tid, "thread_name", &thread.thread));
                self.track = Some(track);
            }
            Some(track) => {
                let (events, more) = track.next(&thread.events);
                for event in events {
                    let _ = write!(out, ",{event}");
                }
                if !more {
                    self.track = None;
                    self.thread += 1;
                }
            }
        }
        true
    }
}

impl Track {
    fn new(number: usize, thread: &ThreadEvents) -> Track {
        // Perfetto takes 0 for no number.
        let tid = if thread.thread == "main_thread" { PROCESS } else { PROCESS + 1 + number };
        Track { tid, arrows: Arrows::new(&thread.events), open: Vec::new(), next: 0 }
    }

    /// What the next event is drawn as, or what ends behind the last one; and whether there may be more.
    fn next(&mut self, events: &[Event]) -> (Vec<Value>, bool) {
        let Some(event) = events.get(self.next) else {
            let last = events.last().map_or(0, |event| event.time);
            return (self.open.iter().map(|_| end_of_slice(self.tid, last)).collect(), false);
        };
        self.next += 1;
        // What began before the oldest event that is left has no beginning.
        match event.phase {
            Phase::Begin => self.open.push(event.stage),
            Phase::End if self.open.last() == Some(&event.stage) => drop(self.open.pop()),
            Phase::End => return (Vec::new(), true),
            Phase::Instant => {}
        }
        let mut drawn = Vec::new();
        push_chrome(&mut drawn, self.tid, event);
        drawn.extend(self.arrows.end_at(event, self.tid));
        (drawn, true)
    }
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
        let attached = events.iter().filter(|e| e.stage == Stage::AttachRequestToClient as u16);
        Arrows { attached: attached.map(|e| e.stream).collect(), begun: HashSet::new() }
    }

    /// The end of an arrow at this event, if one is there.
    fn end_at(&mut self, event: &Event, tid: usize) -> Option<Value> {
        let stream = event.stream;
        let phase = match event.stage {
            s if s == Stage::PoolNewStream as u16 => {
                (self.attached.contains(&stream) && self.begun.insert(stream)).then_some("s")
            }
            s if s == Stage::AttachRequestToClient as u16 => {
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
    if event.stage == Stage::PoolLists as u16 {
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
