//! From the entries of a ring to events: what the writer left out is found again.

use std::time::Instant;

use super::ring::Held;
use super::{
    BEGINS, DEPTH_SHIFT, Event, HAS_CONN, HAS_STREAM, MAX_DEPTH, Phase, SET_CONN, SET_STREAM, STAGE_SHIFT,
    Stage, TIME_SHIFT, Words,
};
use crate::common::ticks;

/// What turns ticks into time: two readings of both clocks.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    start: u64,
    now: u64,
    nanoseconds_per_tick: f64,
}

impl Clock {
    /// `start` and `started` were read together; the present time is read here, behind all events.
    pub(super) fn since(start: u64, started: Instant) -> Clock {
        let (now, elapsed) = (ticks(), started.elapsed());
        let nanoseconds_per_tick = elapsed.as_nanos() as f64 / now.saturating_sub(start).max(1) as f64;
        Clock { start, now, nanoseconds_per_tick }
    }

    /// Nanoseconds since the start. An entry has room for 46 bits of a time; the others are the present one's.
    fn nanoseconds(&self, head: u64) -> u64 {
        let time = head >> TIME_SHIFT << TIME_SHIFT;
        // Less than nothing where another processor's counter is a little ahead.
        let ago = (self.now << TIME_SHIFT).wrapping_sub(time) as i64 >> TIME_SHIFT;
        let ticks = self.now.wrapping_sub(ago as u64);
        (ticks.saturating_sub(self.start) as f64 * self.nanoseconds_per_tick) as u64
    }
}

/// Pending, busy, ready and pool in 18, 16, 16 and 14 bits.
pub(super) fn pack_lists(pool: u64, pending: u64, busy: u64, ready: u64) -> u64 {
    pending.min(0x3_ffff) << 46 | busy.min(0xffff) << 30 | ready.min(0xffff) << 14 | pool.min(0x3fff)
}

/// As the details of an event: the lengths, in 16 bits each but the first, and the pool.
fn unpack_lists(word: u64) -> (u64, u64) {
    (word >> 46 << 32 | (word >> 30 & 0xffff) << 16 | word >> 14 & 0xffff, word & 0x3fff)
}

/// The number of the stage, or what stands in its place.
fn stage_of(head: u64) -> u16 {
    (head >> STAGE_SHIFT) as u16 & 0x3ff
}

#[derive(Default)]
struct Unpacker {
    events: Vec<Event>,
    /// What has begun, with its depth.
    open: Vec<(u32, Event)>,
    conn: Option<u64>,
    stream: u64,
    pass: u64,
}

/// The events of a ring. Ends are told by depths; those that are still to come are left out.
pub(super) fn unpack(held: Held<2>, clock: &Clock) -> Vec<Event> {
    let is_callback = |words: &Words| stage_of(words[0]) == Stage::Callback as u16;
    // Behind entries that are lost nobody knows whose the ids are before they are set anew.
    let lost =
        if held.overflowed { held.entries.iter().take_while(|words| !is_callback(words)).count() } else { 0 };
    let mut unpacker = Unpacker::default();
    for words in &held.entries[lost..] {
        unpacker.take(*words, clock);
    }
    unpacker.events
}

impl Unpacker {
    fn take(&mut self, [head, details]: Words, clock: &Clock) {
        let (stage, bits) = (stage_of(head), head as u32);
        match stage {
            SET_CONN => self.conn = Some(details),
            SET_STREAM => self.stream = details,
            _ => self.event(stage, bits, clock.nanoseconds(head), details),
        }
    }

    fn event(&mut self, stage: u16, bits: u32, time: u64, details: u64) {
        let (depth, begins) = (bits >> DEPTH_SHIFT & MAX_DEPTH, bits & BEGINS != 0);
        self.end_down_to(depth, time);
        let (mut a, mut b) = (details >> 32, details & 0xffff_ffff);
        if stage == Stage::Pass as u16 {
            (self.pass, a, b) = (details, details, 0);
            if !begins {
                return;
            }
        } else if stage == Stage::PoolLists as u16 {
            (a, b) = unpack_lists(details);
        }
        let event = Event {
            time,
            pass: self.pass,
            phase: if begins { Phase::Begin } else { Phase::Instant },
            stage,
            conn: self.conn.filter(|_| bits & HAS_CONN != 0),
            stream: if bits & HAS_STREAM != 0 { self.stream } else { 0 },
            a,
            b,
        };
        self.events.push(event);
        if begins {
            self.open.push((depth, event));
        }
    }

    /// What stands at this depth or deeper has ended when something else does.
    fn end_down_to(&mut self, depth: u32, time: u64) {
        while let Some((_, begun)) = self.open.pop_if(|(begun, _)| *begun >= depth) {
            self.events.push(Event { time, phase: Phase::End, a: 0, b: 0, ..begun });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{code, details};

    const CLOCK: Clock = Clock { start: 100, now: 1000, nanoseconds_per_tick: 0.5 };

    fn entry(ticks: u64, stage: Stage, begins: bool, depth: u32, ids: u32, details: u64) -> Words {
        let head = code(stage, begins) | depth << DEPTH_SHIFT | ids;
        [ticks << TIME_SHIFT | u64::from(head), details]
    }

    fn set(what: u16, id: u64) -> Words {
        [u64::from(what) << STAGE_SHIFT, id]
    }

    fn recorded() -> Vec<Words> {
        vec![
            entry(100, Stage::Pass, true, 0, 0, 1 << 40),
            entry(100, Stage::Callback, true, 1, 0, details(1, 3)),
            set(SET_CONN, 7),
            entry(102, Stage::OnData, true, 2, HAS_CONN, details(u64::MAX, 2)),
            set(SET_STREAM, u64::MAX),
            entry(104, Stage::NewStream, false, 3, HAS_CONN | HAS_STREAM, 0),
            entry(106, Stage::Write, false, 2, HAS_CONN, details(9, 1)),
            entry(110, Stage::PoolLists, false, 2, 0, pack_lists(5, 1 << 20, 2, 1 << 20)),
            entry(120, Stage::Pass, false, 0, 0, 0),
            entry(130, Stage::Terminate, false, 0, 0, 0),
        ]
    }

    #[test]
    fn ends_ids_and_times_are_found_again() {
        use Phase::{Begin, End, Instant};
        let events = unpack(Held { entries: recorded(), overflowed: false }, &CLOCK);
        let brief: Vec<_> =
            events.iter().map(|e| (e.time, e.phase, e.stage, e.conn, e.stream, (e.a, e.b))).collect();
        let (pass, callback, data) = (Stage::Pass as u16, Stage::Callback as u16, Stage::OnData as u16);
        let lists = 0x3_ffff << 32 | 2 << 16 | 0xffff;
        let wanted = [
            (0, Begin, pass, None, 0, (1 << 40, 0)),
            (0, Begin, callback, None, 0, (1, 3)),
            (1, Begin, data, Some(7), 0, (u32::MAX.into(), 2)),
            (2, Instant, Stage::NewStream as u16, Some(7), u64::MAX, (0, 0)),
            (3, End, data, Some(7), 0, (0, 0)),
            (3, Instant, Stage::Write as u16, Some(7), 0, (9, 1)),
            (5, Instant, Stage::PoolLists as u16, None, 0, (lists, 5)),
            (10, End, callback, None, 0, (0, 0)),
            (10, End, pass, None, 0, (0, 0)),
            (15, Instant, Stage::Terminate as u16, None, 0, (0, 0)),
        ];
        assert_eq!(brief, wanted);
        let passes: Vec<u64> = events.iter().map(|e| e.pass).collect();
        assert_eq!(passes, [[1 << 40; 9].as_slice(), &[0]].concat());
    }

    #[test]
    fn behind_lost_entries_reading_begins_with_a_callback() {
        let (first, second) = (recorded(), recorded());
        let entries = [&first[2..], &second[1..]].concat();
        let events = unpack(Held { entries: entries.clone(), overflowed: true }, &CLOCK);
        assert_eq!((events[0].stage, events[0].pass), (Stage::Callback as u16, 0));
        assert_eq!(events[1].conn, Some(7));
        let all = unpack(Held { entries, overflowed: false }, &CLOCK);
        assert_eq!(all[0].stage, Stage::OnData as u16);
    }

    #[test]
    fn times_last_longer_than_their_46_bits_and_may_be_ahead() {
        let clock = Clock { start: 1 << 50, now: (1 << 50) + 1000, nanoseconds_per_tick: 1.0 };
        let head = |ticks: u64| ticks << TIME_SHIFT | 0x3_ffff;
        assert_eq!(clock.nanoseconds(head((1 << 50) + 10)), 10);
        assert_eq!(clock.nanoseconds(head((1 << 50) + 1003)), 1003);
        assert_eq!(clock.nanoseconds(head((1 << 50) - 5)), 0, "before the start");
    }
}
