//! A long body comes in pieces as the kernel likes. Here a trace loses what depends on that: of what repeats while the body
//! passes, the first one stays in its place, and the last one that moves bytes with the sum of all. What stops and resumes
//! reading is checked on each side by itself ([`Turns`]).

use std::collections::{HashMap, HashSet};

use crate::lanes::{Event, LaneId, Trace};
use crate::stage_texts::Dialect;

/// Stages that repeat.
const REPEATING: [&str; 20] = [
    "ConnectionImpl::onFileEvent",
    "ConnectionImpl::onReadReady",
    "RawBufferSocket::doRead",
    "RawBufferSocket::doRead again",
    "ConnectionImpl::onWriteReady",
    "RawBufferSocket::doWrite",
    "RawBufferSocket::doWrite again",
    "ConnectionImpl::write",
    "ConnectionImpl::dispatch",
    "ConnectionImpl::dispatch done",
    "ConnectionImpl::onBody",
    DATA,
    "ActiveStream::encodeData filter",
    "ConnectionImpl::onReadBufferHighWatermark",
    "ConnectionImpl::onReadBufferLowWatermark",
    HIGH,
    LOW,
    DISABLING,
    ENABLING,
    READ_DISABLE,
];
const HIGH: &str = "ConnectionImpl::onHighWatermark";
const LOW: &str = "ConnectionImpl::onLowWatermark";
const DISABLING: &str = "ActiveStream::callHighWatermarkCallbacks";
const ENABLING: &str = "ActiveStream::callLowWatermarkCallbacks";
const DATA: &str = "ActiveStream::encodeData";
/// Stops and resumes reading.
pub const READ_DISABLE: &str = "ConnectionImpl::readDisable";

/// Whether a stage may have changed its place or its number.
pub fn is_repeating(stage: &str) -> bool {
    REPEATING.contains(&stage)
}

/// Whether a stage belongs to back pressure, or looks like it.
pub fn is_back_pressure(stage: &str) -> bool {
    const OF_READING: [&str; 2] =
        ["ConnectionImpl::onReadBufferHighWatermark", "ConnectionImpl::onReadBufferLowWatermark"];
    [HIGH, LOW, DISABLING, ENABLING, READ_DISABLE].contains(&stage) || OF_READING.contains(&stage)
}

/// Both traces without what depends on the pieces. A recording of legate's does not tell all that [`Turns`] need.
pub fn added_up(envoy: &Trace, legate: &Trace, recorded: bool) -> [Trace; 2] {
    [(envoy, legate, true), (legate, envoy, !recorded)].map(|(trace, other, tells_all)| {
        let mut faults = HashMap::new();
        if tells_all {
            faults = Turns::faults_of(trace, trace.dialect == Dialect::V1_1);
        }
        let mut added_up = trace.clone();
        for (id, events) in &mut added_up.lanes {
            let own = faults.remove(id).unwrap_or_default();
            *events = lane(events, other.lane(*id), own);
        }
        added_up
    })
}

fn lane(events: &[Event], others: &[Event], mut faults: Vec<Event>) -> Vec<Event> {
    let mut lane = Collapsed::new(events);
    for (at, event) in events.iter().enumerate() {
        if is_repeating(&event.stage) {
            lane.mark(at, event);
        } else {
            // Only what both have tells where in the lane it is.
            if others.iter().any(|other| other.stage == event.stage) {
                lane.flush();
            }
            lane.out.push(event.clone());
        }
        while faults.first().is_some_and(|fault| fault.line <= event.line) {
            lane.out.push(faults.remove(0));
        }
    }
    lane.flush();
    lane.out.append(&mut faults);
    lane.out
}

struct Collapsed<'a> {
    out: Vec<Event>,
    /// What stands between two other stages, in whichever order.
    unordered: Vec<Event>,
    seen: HashSet<&'a str>,
    /// The last event of each stage that moves bytes, and the sum of all.
    last: HashMap<&'a str, (usize, u64)>,
}

impl<'a> Collapsed<'a> {
    fn new(events: &'a [Event]) -> Collapsed<'a> {
        let mut last: HashMap<&str, (usize, u64)> = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            let bytes: Option<u64> = event.detail("bytes").and_then(|bytes| bytes.parse().ok());
            if let Some(bytes) = bytes {
                let (place, sum) = last.entry(&event.stage).or_default();
                (*place, *sum) = (at, *sum + bytes);
            }
        }
        Collapsed { out: Vec::new(), unordered: Vec::new(), seen: HashSet::new(), last }
    }

    fn mark(&mut self, at: usize, event: &'a Event) {
        let part = |name: &str| ("part".to_string(), name.to_string());
        if self.seen.insert(&event.stage) {
            self.unordered.push(Event { details: vec![part("first")], ..event.clone() });
        }
        if let Some((_, sum)) = self.last.get(event.stage.as_str()).filter(|(last, _)| *last == at) {
            let details = vec![part("last"), ("bytes".to_string(), sum.to_string())];
            self.unordered.push(Event { details, ..event.clone() });
        }
    }

    fn flush(&mut self) {
        self.unordered.sort_by(|a, b| (&a.stage, &a.details).cmp(&(&b.stage, &b.details)));
        self.out.append(&mut self.unordered);
    }
}

/// Whether back pressure takes its turns: a full buffer stops the other connection's reading at once, each high watermark has
/// its low one, and reading resumes as often as it stopped.
pub struct Turns {
    faults: HashMap<LaneId, Vec<Event>>,
    /// Buffers above their high watermark.
    high: HashMap<LaneId, Event>,
    /// How often a stream has stopped reading, less how often it has resumed.
    stopped: HashMap<LaneId, i64>,
    /// The same for a connection to an upstream.
    disabled: HashMap<LaneId, i64>,
}

impl Turns {
    /// What comes out of turn, by lane.
    pub fn faults_of(trace: &Trace, of_1_1: bool) -> HashMap<LaneId, Vec<Event>> {
        let mut events: Vec<(LaneId, &Event)> = Vec::new();
        for (id, lane) in &trace.lanes {
            let takes_part = |event: &&Event| match id {
                LaneId::Downstream(_) => {
                    [HIGH, LOW, DISABLING, ENABLING].contains(&event.stage.as_str()) || ends_response(event)
                }
                LaneId::Upstream(_) => event.stage == READ_DISABLE,
                _ => false,
            };
            events.extend(lane.iter().filter(takes_part).map(|event| (*id, event)));
        }
        events.sort_by_key(|(_, event)| event.line);
        let mut turns = Turns {
            faults: HashMap::new(),
            high: HashMap::new(),
            stopped: HashMap::new(),
            disabled: HashMap::new(),
        };
        for (at, (id, event)) in events.iter().enumerate() {
            let next = events.get(at + 1).map(|(_, event)| *event);
            let previous = at.checked_sub(1).map(|at| events[at].1);
            if !turns.take(*id, event, next) || (of_1_1 && !comes_from_its_buffer(event, previous)) {
                turns.fault(*id, event, "out of turn");
            }
        }
        turns.end(events.last().map(|(_, event)| *event));
        turns.faults
    }

    /// Whether an event may come now.
    fn take(&mut self, id: LaneId, event: &Event, next: Option<&Event>) -> bool {
        let next_is = |stage: &str| next.is_some_and(|next| next.stage == stage);
        let next_disables = |value: &str| {
            next_is(READ_DISABLE) && next.and_then(|next| next.detail("disable")) == Some(value)
        };
        let mut count = |disables: bool, counts: fn(&mut Turns) -> &mut HashMap<LaneId, i64>| {
            let count = counts(self).entry(id).or_default();
            *count += if disables { 1 } else { -1 };
            *count >= 0
        };
        match event.stage.as_str() {
            DISABLING => count(true, |turns| &mut turns.stopped) && next_disables("true"),
            ENABLING => count(false, |turns| &mut turns.stopped) && next_disables("false"),
            READ_DISABLE => count(event.detail("disable") == Some("true"), |turns| &mut turns.disabled),
            HIGH => self.high.insert(id, event.clone()).is_none() && next_is(DISABLING),
            // When the response has ended, there is no stream to tell.
            DATA => {
                self.stopped.remove(&id);
                true
            }
            _ => {
                let tells = self.stopped.get(&id).is_some_and(|count| *count > 0);
                self.high.remove(&id).is_some() && (!tells || next_is(ENABLING))
            }
        }
    }

    fn end(&mut self, last: Option<&Event>) {
        for (id, event) in std::mem::take(&mut self.high) {
            self.fault(id, &event, "never ends");
        }
        for (id, count) in std::mem::take(&mut self.disabled) {
            if let Some(last) = last.filter(|_| count != 0) {
                self.fault(id, last, &format!("reading was stopped {count} times more than resumed"));
            }
        }
    }

    fn fault(&mut self, id: LaneId, event: &Event, what: &str) {
        let stage = format!("{what}: {}", event.stage);
        let fault = Event { stage, known: false, details: Vec::new(), ..event.clone() };
        self.faults.entry(id).or_default().push(fault);
    }
}

fn ends_response(event: &Event) -> bool {
    event.stage == DATA && event.detail("end") == Some("true")
}

fn comes_from_its_buffer(event: &Event, previous: Option<&Event>) -> bool {
    let previous_is = |stage: &str| previous.is_some_and(|previous| previous.stage == stage);
    match event.stage.as_str() {
        DISABLING => previous_is(HIGH),
        ENABLING => previous_is(LOW),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str, line: usize) -> Event {
        let mut words = text.split(' ');
        let stage = words.next().unwrap_or_default().to_string();
        let details = words.filter_map(|word| word.split_once('='));
        let details = details.map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Event { stage, known: true, stream: None, conn: None, details, line }
    }

    /// `d:` and `u:` before a stage name its lane.
    fn trace(words: &[&str]) -> Trace {
        let mut lanes = [(LaneId::Downstream(1), vec![]), (LaneId::Upstream(1), vec![])];
        for (line, word) in words.iter().enumerate() {
            let (lane, text) = word.split_once(':').unwrap();
            lanes[usize::from(lane == "u")].1.push(event(text, line));
        }
        Trace { lanes: lanes.into(), ..Trace::default() }
    }

    fn texts(trace: &Trace, of_1_1: bool) -> Vec<String> {
        let dialect = if of_1_1 { Dialect::V1_1 } else { Dialect::V1_40 };
        let [added_up, _] = added_up(&Trace { dialect, ..trace.clone() }, trace, false);
        added_up.lanes.iter().flat_map(|(_, events)| events.iter().map(Event::to_string)).collect()
    }

    #[test]
    fn repeated_stages_keep_their_ends_and_their_sum() {
        let read = "ConnectionImpl::onReadReady";
        let words = [
            "d:A::a",
            &format!("d:{read}"),
            "d:RawBufferSocket::doRead bytes=3",
            "d:A::b",
            "d:RawBufferSocket::doRead bytes=4",
            &format!("d:{read}"),
            "d:A::c",
        ];
        let want = [
            "A::a",
            "ConnectionImpl::onReadReady part=first",
            "RawBufferSocket::doRead part=first",
            "A::b",
            "RawBufferSocket::doRead part=last bytes=7",
            "A::c",
        ];
        assert_eq!(texts(&trace(&words), true), want);
    }

    const CYCLE: [&str; 6] = [
        "d:ConnectionImpl::onHighWatermark",
        "d:ActiveStream::callHighWatermarkCallbacks",
        "u:ConnectionImpl::readDisable disable=true",
        "d:ConnectionImpl::onLowWatermark",
        "d:ActiveStream::callLowWatermarkCallbacks",
        "u:ConnectionImpl::readDisable disable=false",
    ];

    fn faults(words: &[&str], of_1_1: bool) -> usize {
        texts(&trace(words), of_1_1).iter().filter(|text| text.starts_with("unknown text")).count()
    }

    #[test]
    fn back_pressure_takes_its_turns() {
        let twice = [CYCLE, CYCLE].concat();
        assert_eq!(faults(&twice, true), 0);
        for (left_out, stage) in CYCLE.iter().enumerate() {
            let mut words = twice.clone();
            words.remove(left_out);
            assert!(faults(&words, true) > 0, "nobody misses {stage}");
        }
        let mut swapped = CYCLE;
        swapped.swap(1, 2);
        assert!(faults(&swapped, false) > 0);
        swapped.swap(1, 2);
        swapped.swap(2, 5);
        assert!(faults(&swapped, false) > 0);
        assert!(faults(&CYCLE[..3], false) > 0, "it never resumes");
        // The stream may end while its connection still has much to write.
        assert_eq!(faults(&[CYCLE[0], CYCLE[1], CYCLE[2], CYCLE[4], CYCLE[5], CYCLE[3]], false), 0);
        assert!(faults(&[CYCLE[1], CYCLE[2], CYCLE[4], CYCLE[5]], true) > 0);
    }
}
