//! A header that names threads and stages, what the streams ask for, then an object per event, each on a line of its
//! own.

use std::fmt::Write;

use serde_json::{Value, json};

use super::super::{Phase, STAGES, StageInfo, StreamName, ThreadEvents};
use super::{Merge, Render, info};

#[derive(Default)]
pub(super) struct JsonLines {
    merge: Option<Merge>,
}

impl Render for JsonLines {
    fn append(&mut self, threads: &[ThreadEvents], out: &mut String) -> bool {
        let Some(merge) = &mut self.merge else {
            self.merge = Some(Merge::new(threads));
            head(threads, out);
            return true;
        };
        let Some((thread, event)) = merge.next(threads) else { return false };
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
        let _ = writeln!(out, r#","stage":"{}","a":{},"b":{}}}"#, info(&event).name, event.a, event.b);
        true
    }
}

fn head(threads: &[ThreadEvents], out: &mut String) {
    let stage = |s: &StageInfo| {
        json!({"name": s.name, "stage": s.number, "details": s.details, "envoy_file": s.envoy_file,
            "legate_file": s.legate_file, "libevent": s.libevent})
    };
    let names: Vec<&str> = threads.iter().map(|t| t.thread.as_str()).collect();
    let overwritten: Vec<bool> = threads.iter().map(|t| t.overwritten).collect();
    let stages: Vec<Value> = STAGES.iter().map(stage).collect();
    let header = json!({"header": {"version": 1, "workers": names, "overwritten": overwritten,
        "enabled": super::super::enabled(), "started_ns": 0, "stages": stages}});
    let _ = writeln!(out, "{header}");
    for StreamName { stream, method, path } in threads.iter().flat_map(|thread| &thread.streams) {
        let info = json!({"stream_info": {"stream": stream.to_string(), "method": method, "path": path}});
        let _ = writeln!(out, "{info}");
    }
}
