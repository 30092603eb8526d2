//! A table, a line per event.

use std::collections::HashMap;
use std::fmt::Write;

use super::super::{Event, Phase, StreamName, ThreadEvents};
use super::words::words;
use super::{Merge, Render, name};

/// Streams have short names, in the order in which they come; what the name stands for is behind the first line of
/// each.
#[derive(Default)]
pub(super) struct Text {
    merge: Option<Merge>,
    depth: Vec<usize>,
    streams: HashMap<u64, usize>,
}

impl Render for Text {
    fn append(&mut self, threads: &[ThreadEvents], out: &mut String) -> bool {
        let Some(merge) = &mut self.merge else {
            self.merge = Some(Merge::new(threads));
            self.depth = vec![0; threads.len()];
            head(threads, out);
            return true;
        };
        let Some((thread, event)) = merge.next(threads) else { return false };
        let depth = &mut self.depth[thread];
        if event.phase == Phase::End {
            *depth = depth.saturating_sub(1);
            return true;
        }
        let indent = 2 * *depth;
        if event.phase == Phase::Begin {
            *depth += 1;
        }
        self.line(&threads[thread], &event, indent, out);
        true
    }
}

fn head(threads: &[ThreadEvents], out: &mut String) {
    let _ = writeln!(
        out,
        "{:>14} {:<12} {:>7} {:>6} {:>6}  stage",
        "time us", "thread", "pass", "conn", "stream"
    );
    for thread in threads.iter().filter(|thread| thread.overwritten) {
        let _ = writeln!(out, "older events of {} were overwritten", thread.thread);
    }
}

impl Text {
    fn line(&mut self, thread: &ThreadEvents, event: &Event, indent: usize, out: &mut String) {
        let conn = event.conn.map_or(String::new(), |id| format!("C{id}"));
        let (mut stream, mut meaning) = (String::new(), String::new());
        if event.stream != 0 {
            let next = self.streams.len() + 1;
            let number = *self.streams.entry(event.stream).or_insert(next);
            stream = format!("S{number}");
            if number == next {
                meaning = self::meaning(&thread.streams, event.stream);
            }
        }
        let _ = writeln!(
            out,
            "{:>10}.{:03} {:<12} {:>7} {conn:>6} {stream:>6}  {:indent$}{}{}{meaning}",
            event.time / 1000,
            event.time % 1000,
            thread.thread,
            event.pass,
            "",
            name(event),
            words(event),
        );
    }
}

/// The id by which logs and other formats know a stream, and what it asks for.
fn meaning(streams: &[StreamName], id: u64) -> String {
    let asks = streams.iter().rev().find(|stream| stream.stream == id);
    asks.map_or_else(|| format!(" [{id}]"), |s| format!(" [{id} {} {}]", s.method, s.path.escape_debug()))
}
