//! Logs of one's own: real clients and servers do not wait until the proxy has come to rest, so the kernel decides what of theirs
//! arrives together. Here a trace loses what depends on that and on nothing else: edges (whose own law is checked on each side),
//! where a read or a write ends, in how many pieces a body comes, whether a FIN comes with the last bytes, and back pressure.
//! What is read and written, and in which order it is parsed, decided and passed on, stays.

use crate::added_up::{self, Turns};
use crate::lanes::{Event, LaneId, Trace, add_up};
use crate::stage_texts::Dialect;

const FILE_EVENT: &str = "ConnectionImpl::onFileEvent";
const READ_READY: &str = "ConnectionImpl::onReadReady";
const WRITE_READY: &str = "ConnectionImpl::onWriteReady";
const READ: &str = "RawBufferSocket::doRead";
const WRITE: &str = "RawBufferSocket::doWrite";
const END: &str = "ConnectionImpl::onReadReady end";
const DISPATCH: &str = "ConnectionImpl::dispatch";
const DISPATCHED: &str = "ConnectionImpl::dispatch done";
const CLOSED: &str = "ConnectionImpl::closeSocket";

/// What there is more or less of as the kernel likes.
const DROPPED: [&str; 7] = [
    FILE_EVENT,
    READ_READY,
    WRITE_READY,
    "RawBufferSocket::doRead again",
    "RawBufferSocket::doWrite again",
    "DispatcherImpl::deferredDelete",
    "DispatcherImpl::clearDeferredDeleteList",
];
/// What is added up, or has its place elsewhere.
const MOVED: [&str; 5] = [READ, WRITE, DISPATCH, DISPATCHED, END];
/// What passes once for each piece of a body.
const OF_PIECES: [&str; 8] = [
    "ConnectionImpl::onBody",
    "ConnectionImpl::write",
    "ActiveStream::encodeData",
    "ActiveStream::encodeData filter",
    "ActiveStream::decodeData filter",
    "UpstreamRequest::encodeData",
    "UpstreamRequest::encodeData buffered",
    "UpstreamFilterManager::decodeData filter",
];

/// Whether nothing can depend on a stage, because its place or its number does not count.
pub fn is_joined(stage: &str) -> bool {
    DROPPED.contains(&stage) || MOVED.contains(&stage) || added_up::is_back_pressure(stage)
}

/// A trace without what depends on when things arrive. A recording does not tell what the laws are about.
fn joined(trace: &Trace, tells_all: bool) -> Trace {
    let mut out = trace.clone();
    let mut faults = match tells_all {
        true => Turns::faults_of(trace, trace.dialect == Dialect::V1_1),
        false => Default::default(),
    };
    for (id, events) in &mut out.lanes {
        let mut own = faults.remove(id).unwrap_or_default();
        let is_connection = matches!(id, LaneId::Downstream(_) | LaneId::Upstream(_));
        if is_connection && tells_all {
            own.extend(edges(events));
        }
        let mut lane = Lane { is_upstream: matches!(id, LaneId::Upstream(_)), ..Lane::default() };
        events.iter().for_each(|event| lane.take(event));
        *events = lane.finish();
        for fault in own {
            let at = events.partition_point(|event| event.line <= fault.line);
            events.insert(at, fault);
        }
    }
    out.lanes.retain(|(_, events)| !events.is_empty());
    out
}

/// Both traces as [`joined`]. A client that goes when the proxy is told to may be faster or slower than that.
pub fn both_joined(envoy: &Trace, legate: &Trace, tells_all: bool) -> [Trace; 2] {
    let mut both = [envoy, legate].map(|trace| joined(trace, tells_all));
    let ends = [envoy, legate].map(worker_ends);
    let ids: Vec<LaneId> = both[0].lanes.iter().map(|(id, _)| *id).collect();
    for id in ids.into_iter().filter(|id| matches!(id, LaneId::Downstream(_))) {
        let is_late =
            |side: usize| both[side].lane(id).iter().any(|e| e.stage == CLOSED && e.line > ends[side]);
        if is_late(0) != is_late(1) {
            for trace in &mut both {
                trace
                    .lanes
                    .iter_mut()
                    .filter(|(lane, _)| *lane == id)
                    .for_each(|(_, lane)| forget_who_closes(lane));
            }
        }
    }
    both
}

/// The line where the first worker ends.
fn worker_ends(trace: &Trace) -> usize {
    let events = trace.lanes.iter().flat_map(|(_, events)| events);
    let ends = events.filter(|event| event.stage == "WorkerImpl::threadRoutine exited");
    ends.map(|event| event.line).min().unwrap_or(usize::MAX)
}

/// Takes a FIN's marks, and those of a close by the proxy, from the end of a connection that waits for nothing.
fn forget_who_closes(lane: &mut Vec<Event>) {
    const BY_EITHER: [&str; 3] = [READ, END, "ConnectionImpl::close"];
    let Some(closed) = lane.iter().rposition(|event| event.stage == CLOSED) else { return };
    let is_mark = |event: &Event| {
        BY_EITHER.contains(&event.stage.as_str()) && event.detail("bytes").is_none_or(|bytes| bytes == "0")
    };
    let first = lane[..closed].iter().rposition(|event| !is_mark(event)).map_or(0, |at| at + 1);
    lane.drain(first..closed);
    for event in &mut lane[first..] {
        event.details.retain(|(name, _)| name != "event");
    }
}

/// Breaks of the law of edges: what the kernel reports is looked at, and nothing else is.
fn edges(events: &[Event]) -> Vec<Event> {
    let (mut reads, mut writes, mut fin, mut connected, mut looked) = (None, None, None, false, false);
    let mut faults = Vec::new();
    for event in events {
        let broken = match event.stage.as_str() {
            FILE_EVENT => {
                let unseen = [reads.take(), writes.take(), fin.take()].into_iter().flatten().next();
                faults.extend(unseen.map(|edge| fault("nobody looks at what is reported", edge)));
                let bits: u32 = event.detail("bits").and_then(|bits| bits.parse().ok()).unwrap_or(0);
                reads = (bits & 1 != 0).then_some(event);
                writes = (bits & 2 != 0).then_some(event);
                (connected, looked) = (false, false);
                false
            }
            WRITE_READY => writes.take().is_none() && !std::mem::take(&mut connected),
            READ_READY => {
                looked = true;
                // What can be written is looked at first.
                reads.take().is_none() || writes.take().is_some()
            }
            READ => {
                fin = (event.detail("bytes") == Some("0")).then_some(event);
                !looked
            }
            END => fin.take().is_none(),
            "ConnectionImpl::onWriteReady connected" => {
                connected = true;
                false
            }
            WRITE => connected,
            CLOSED => {
                (reads, writes) = (None, None);
                false
            }
            _ => false,
        };
        if broken {
            faults.push(fault("nothing has been reported", event));
        }
    }
    faults.extend(fin.map(|read| fault("nobody looks at what is reported", read)));
    faults
}

fn fault(what: &str, event: &Event) -> Event {
    let stage = format!("{what}: {}", event.stage);
    Event { stage, known: false, details: Vec::new(), ..event.clone() }
}

/// What was read at a time, and where it is in the lane: places of the read and of what the codec says before and after.
#[derive(Default)]
struct Reading {
    read: usize,
    dispatch: Option<usize>,
    dispatched: Option<usize>,
}

#[derive(Default)]
struct Lane {
    is_upstream: bool,
    out: Vec<Option<Event>>,
    reading: Option<Reading>,
    /// The write that later ones are added to.
    written: Option<usize>,
    /// Where each stage of a body's pieces is that later ones are added to.
    pieces: Vec<usize>,
    /// A FIN that was read and not acted on yet.
    end: Option<Event>,
    is_closed: bool,
}

impl Lane {
    fn take(&mut self, event: &Event) {
        let stage = event.stage.as_str();
        match stage {
            _ if !event.known => self.push(event.clone()),
            READ if event.detail("bytes") == Some("0") => self.end = Some(event.clone()),
            READ => self.read(event),
            DISPATCH => self.dispatch(event),
            DISPATCHED => self.dispatched(event),
            WRITE => self.write(event),
            // One that is closed does not need to know of the FIN.
            END if self.is_closed => self.end = None,
            END => {
                let end = self.end.take();
                self.out.extend([end, Some(event.clone())]);
            }
            _ if DROPPED.contains(&stage) || self.is_back_pressure(stage) => {}
            _ if OF_PIECES.contains(&stage) && event.detail("end") != Some("true") => self.piece(event),
            _ => self.push(event.clone()),
        }
    }

    /// Reading from a client stops for other reasons, too, which are no matter of time.
    fn is_back_pressure(&self, stage: &str) -> bool {
        added_up::is_back_pressure(stage) && (self.is_upstream || stage != added_up::READ_DISABLE)
    }

    fn push(&mut self, event: Event) {
        self.is_closed |= event.stage == CLOSED;
        if event.stage.starts_with("ActiveStream::encodeHeaders")
            || event.stage.starts_with("ActiveStream::encode1xx")
        {
            self.written = None;
        }
        self.pieces.clear();
        self.out.push(Some(event));
    }

    fn last(&self) -> Option<usize> {
        self.out.len().checked_sub(1)
    }

    /// Adds to what was read before, if nothing has come of that in between.
    fn read(&mut self, event: &Event) {
        self.written = None;
        let last = self.last();
        if let Some(reading) = &self.reading
            && (last == Some(reading.read) || (reading.dispatched.is_some() && last == reading.dispatched))
        {
            return add_to(&mut self.out[reading.read], event);
        }
        self.pieces.clear();
        self.out.push(Some(event.clone()));
        self.reading = Some(Reading { read: self.out.len() - 1, ..Reading::default() });
    }

    fn dispatch(&mut self, event: &Event) {
        match &mut self.reading {
            Some(Reading { dispatch: Some(before), .. }) => add_to(&mut self.out[*before], event),
            Some(reading) => {
                self.out.push(Some(event.clone()));
                reading.dispatch = Some(self.out.len() - 1);
            }
            None => self.push(event.clone()),
        }
    }

    fn dispatched(&mut self, event: &Event) {
        let before = self.reading.as_mut().and_then(|reading| reading.dispatched.take());
        let mut event = Some(event.clone());
        if let Some(before) = before.and_then(|at| self.out[at].take()) {
            add_to(&mut event, &before);
        }
        self.out.push(event);
        if let Some(reading) = &mut self.reading {
            reading.dispatched = Some(self.out.len() - 1);
        }
    }

    fn write(&mut self, event: &Event) {
        let mut event = Some(event.clone());
        if let Some(before) = self.written.and_then(|at| self.out[at].take()) {
            add_to(&mut event, &before);
        }
        self.out.push(event);
        self.written = Some(self.out.len() - 1);
    }

    fn piece(&mut self, event: &Event) {
        let is_it = |at: &&usize| self.out[**at].as_ref().is_some_and(|before| before.same_stage(event));
        match self.pieces.iter().find(is_it) {
            Some(at) => add_to(&mut self.out[*at], event),
            None => {
                self.out.push(Some(event.clone()));
                self.pieces.push(self.out.len() - 1);
            }
        }
    }

    fn finish(mut self) -> Vec<Event> {
        let end = self.end.take().filter(|_| !self.is_closed);
        self.out.into_iter().chain([end]).flatten().collect()
    }
}

fn add_to(sum: &mut Option<Event>, more: &Event) {
    if let Some(sum) = sum {
        add_up(sum, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str, line: usize) -> Event {
        let (details, stage): (Vec<&str>, Vec<&str>) = text.split(' ').partition(|word| word.contains('='));
        let details = details.into_iter().filter_map(|word| word.split_once('='));
        let details = details.map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let stage = stage.join(" ");
        Event { stage, known: true, stream: None, conn: None, details, line }
    }

    fn trace(id: LaneId, words: &[&str]) -> Trace {
        let events = words.iter().enumerate().map(|(line, text)| event(text, line)).collect();
        Trace { lanes: vec![(id, events)], ..Trace::default() }
    }

    fn texts(trace: &Trace, id: LaneId) -> Vec<String> {
        trace.lane(id).iter().map(Event::to_string).collect()
    }

    /// Abbreviations, for the eye.
    fn words(text: &str) -> Vec<String> {
        let long = |word: &str| {
            let (name, rest) = word.split_at(word.find([' ', '=']).unwrap_or(word.len()));
            let rest = rest.replacen('=', " bytes=", 1);
            match name {
                "edge" => format!("{FILE_EVENT} bits={}", &rest[7..]),
                "rr" => READ_READY.to_string(),
                "wr" => WRITE_READY.to_string(),
                "read" => format!("{READ}{rest}"),
                "write" => format!("{WRITE}{rest}"),
                "fin" => END.to_string(),
                "parse" => format!("{DISPATCH}{rest}"),
                "parsed" => format!("{DISPATCHED}{rest}"),
                "closed" => CLOSED.to_string(),
                "connected" => "ConnectionImpl::onWriteReady connected".to_string(),
                "body" => format!("ActiveStream::encodeData{rest} end=false"),
                "send" => format!("ConnectionImpl::write{rest}"),
                other => format!("A::{other}"),
            }
        };
        text.split(", ").map(long).collect()
    }

    fn joined_texts(text: &str) -> Vec<String> {
        let id = LaneId::Downstream(1);
        let words = words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        texts(&joined(&trace(id, &words), true), id)
    }

    fn same(apart: &str, together: &str) {
        assert_eq!(joined_texts(apart), joined_texts(together), "{apart} / {together}");
    }

    #[test]
    fn what_comes_apart_is_as_if_it_came_together() {
        let together = "edge=3, wr, rr, read=7, parse=7, head, body=3, parsed=7";
        same(
            "edge=3, wr, rr, read=4, parse=4, head, parsed=4, edge=1, rr, read=3, parse=3, body=3, parsed=3",
            together,
        );
        same("edge=2, wr, edge=1, rr, read=4, read=3, parse=7, head, body=3, parsed=7", together);
        same("edge=1, rr, read=7, parse=7, head, body=1, body=2, parsed=7", together);
        assert!(joined_texts(together).iter().all(|text| !text.starts_with("unknown")));
        let fin = "edge=1, rr, read=7, read=0, parse=7, head, parsed=7, fin, closed";
        same("edge=1, rr, read=7, parse=7, head, parsed=7, edge=1, rr, read=0, fin, closed", fin);
        same(
            "edge=1, rr, read=7, read=0, parse=7, closed, parsed=7, fin",
            "edge=1, rr, read=7, parse=7, closed, parsed=7",
        );
        same(
            "send=1, edge=2, wr, write=1, body=3, send=3, edge=2, wr, write=3",
            "send=1, body=3, send=3, edge=2, wr, write=4",
        );
    }

    #[test]
    fn what_has_come_of_it_keeps_things_apart() {
        let apart = |text: &str| joined_texts(text).iter().filter(|text| text.starts_with(READ)).count();
        assert_eq!(
            apart("edge=1, rr, read=7, parse=7, parsed=7, answer, edge=1, rr, read=7, parse=7, parsed=7"),
            2
        );
        assert_eq!(apart("edge=1, rr, read=7, parse=7, parsed=7, edge=1, rr, read=7, parse=7, parsed=7"), 1);
    }

    #[test]
    fn the_law_of_edges_holds_on_each_side() {
        let faults =
            |text: &str| joined_texts(text).iter().filter(|text| text.starts_with("unknown")).count();
        assert_eq!(faults("edge=3, wr, rr, read=7, edge=2, wr, write=1, edge=1, rr"), 0);
        assert_eq!(faults("edge=2, wr, connected, wr, write=1"), 0);
        assert_eq!(faults("edge=3, wr, closed, edge=0"), 0);
        for broken in [
            "rr, read=7",
            "edge=1, read=7, edge=2, wr",
            "edge=3, rr, read=7, edge=0",
            "edge=2, wr, connected, write=1",
            "edge=2, wr, wr",
            "edge=3, rr, read=0, fin, closed",
            "edge=1, rr, read=0, closed",
            "edge=1, rr, closed, fin",
        ] {
            assert!(faults(broken) > 0, "{broken}");
        }
    }

    #[test]
    fn a_client_may_go_as_the_worker_ends() {
        let id = LaneId::Downstream(1);
        let of = |events: &[&str], end: usize| {
            let mut trace = trace(id, events);
            trace.lanes.push((LaneId::Loop(1), vec![event("WorkerImpl::threadRoutine exited", end)]));
            trace
        };
        let fin = [
            "A::a",
            FILE_EVENT,
            READ_READY,
            "RawBufferSocket::doRead bytes=0",
            END,
            "ConnectionImpl::closeSocket event=0",
        ];
        let own = ["A::a", "ConnectionImpl::close bytes=0 type=1", "ConnectionImpl::closeSocket event=1"];
        let texts_of = |[a, b]: [Trace; 2]| [texts(&a, id), texts(&b, id)];
        let [a, b] = texts_of(both_joined(&of(&fin, 9), &of(&own, 0), false));
        assert_eq!((&a, a.len()), (&b, 2));
        let [a, b] = texts_of(both_joined(&of(&fin, 9), &of(&own, 9), false));
        assert_ne!(a, b);
    }
}
