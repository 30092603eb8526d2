//! The stage recorder: what happened on each thread, stage by stage, in small fixed-size events.
//!
//! Nothing in Envoy corresponds to it; its stages are named after Envoy's classes and methods. Each
//! thread writes a ring of its own and never waits; the main thread reads them. Off, a stage costs one load
//! and one branch. On, reading the clock is most of the cost, so what goes on at once shares a reading.

mod names;
mod render;
mod ring;
mod stage;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use names::Names;
use ring::{Ring, Words};

use crate::event::ticks;

pub use names::StreamName;
pub use render::{chrome, json_lines, text};
pub use stage::{STAGES, Stage, StageInfo};

/// How an event stands to the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Something begins, and ends within the same callback.
    Begin = 0,
    /// What began last ends.
    End = 1,
    /// Something happens.
    Instant = 2,
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds since the recorder was switched on.
    pub time: u64,
    /// The pass of the thread's loop in which it happened, counted from 1 while the recorder is on; 0 for one
    /// that began before the oldest event.
    pub pass: u64,
    /// Whether something begins, ends or happens.
    pub phase: Phase,
    /// The number of the stage, an index into [`STAGES`].
    pub stage: u16,
    /// The connection's id, where there is a connection.
    pub conn: Option<u64>,
    /// The stream's id; 0 for none.
    pub stream: u64,
    /// A detail: bytes, a list's size, event bits.
    pub a: u64,
    /// Another.
    pub b: u64,
}

const CONN_MASK: u64 = (1 << 48) - 1;
const PHASE_SHIFT: u32 = 48;
const STAGE_SHIFT: u32 = 56;
/// In a code: the event has the time of the one before it.
const AT_ONCE: u32 = 4;
/// The same if something ended there.
const AT_ONCE_BEHIND_END: u32 = 8;

/// Stage and phase, as the callers of [`record`] have them: in a constant.
#[inline(always)]
const fn code(phase: Phase, stage: Stage) -> u32 {
    (stage as u32) << 8 | phase as u32
}

/// Packs an event: the time; stage, phase and connection (0 for none, else one more than its id); the stream; both
/// details, cut off where they are too large.
#[inline(always)]
fn pack(ticks: u64, code: u32, conn: u64, stream: u64, a: u64, b: u64) -> Words {
    let (stage, phase) = (u64::from(code >> 8), u64::from(code & 3));
    let head = stage << STAGE_SHIFT | phase << PHASE_SHIFT | conn & CONN_MASK;
    [ticks, head, stream, a.min(CONN_MASK) << 16 | b.min(0xffff)]
}

/// The events of a ring: times in nanoseconds, passes counted by their beginnings.
fn unpack(events: Vec<Words>, clock: &Calibration) -> Vec<Event> {
    let mut pass = 0;
    let unpack_one = |[ticks, head, stream, details]: Words| {
        let stage = (head >> STAGE_SHIFT) as u16;
        let phase = match head >> PHASE_SHIFT & 0xff {
            0 => Phase::Begin,
            1 => Phase::End,
            _ => Phase::Instant,
        };
        let (a, b) = (details >> 16, details & 0xffff);
        if stage == Stage::Pass as u16 && phase == Phase::Begin {
            pass = a;
        }
        let conn = (head & CONN_MASK).checked_sub(1);
        Event { time: clock.nanoseconds(ticks), pass, phase, stage, conn, stream, a, b }
    };
    // A thread that has had nothing to record since then still holds what was recorded before.
    events.into_iter().filter(|event| event[0] >= clock.start).map(unpack_one).collect()
}

/// What turns ticks into time: two readings of both clocks.
#[derive(Clone, Copy)]
struct Calibration {
    start: u64,
    nanoseconds_per_tick: f64,
}

impl Calibration {
    fn since(start: u64, started: Instant) -> Calibration {
        let (now, elapsed) = (ticks(), started.elapsed());
        let nanoseconds_per_tick = elapsed.as_nanos() as f64 / now.saturating_sub(start).max(1) as f64;
        Calibration { start, nanoseconds_per_tick }
    }

    fn nanoseconds(&self, ticks: u64) -> u64 {
        (ticks.saturating_sub(self.start) as f64 * self.nanoseconds_per_tick) as u64
    }
}

/// The events of one thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadEvents {
    /// The thread's name: `main_thread`, `worker_0`.
    pub thread: String,
    /// The oldest first.
    pub events: Vec<Event>,
    /// What the last streams ask for, the oldest first.
    pub streams: Vec<StreamName>,
}

static ENABLED: AtomicBool = AtomicBool::new(false);
/// Counts the times that the recorder was switched on.
static RECORDING: AtomicU64 = AtomicU64::new(0);
/// Of threads that have ended, too.
static THREADS: Mutex<Vec<&'static Recorded>> = Mutex::new(Vec::new());
/// When the recorder was last switched on, in ticks and in time.
static STARTED: Mutex<Option<(u64, Instant)>> = Mutex::new(None);

thread_local! {
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
    static THREAD: ThreadRecorder = const { ThreadRecorder::new() };
    static PASS: Cell<u64> = const { Cell::new(0) };
    static IN_PASS: Cell<bool> = const { Cell::new(false) };
}

/// Events that a thread keeps: 1 MiB.
const CAPACITY: usize = 1 << 15;

/// What a thread has recorded, for others to read.
struct Recorded {
    thread: String,
    ring: Ring<CAPACITY>,
    names: Mutex<Names>,
}

/// What a thread keeps to write it. Nothing here needs dropping, which makes it quick to reach.
struct ThreadRecorder {
    recorded: Cell<Option<&'static Recorded>>,
    /// Which recording it has written to.
    recording: Cell<u64>,
    /// The last event's time.
    last: Cell<u64>,
    /// The last event is the end of something.
    after_end: Cell<bool>,
}

fn threads() -> MutexGuard<'static, Vec<&'static Recorded>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names the present thread in what is recorded.
pub fn register_thread(name: &str) {
    NAME.with_borrow_mut(|own| name.clone_into(own));
}

/// Whether stages are recorded.
#[inline(always)]
pub fn enabled() -> bool {
    !cfg!(without_recorder) && ENABLED.load(Ordering::Relaxed)
}

/// Starts recording; what was recorded before is forgotten. No effect while it is on.
pub fn enable() {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !enabled() {
        *started = Some((ticks(), Instant::now()));
        RECORDING.fetch_add(1, Ordering::Release);
        ENABLED.store(true, Ordering::Release);
    }
}

/// Stops recording; what was recorded stays readable.
pub fn disable() {
    ENABLED.store(false, Ordering::Release);
}

/// What all threads have recorded, and still hold.
pub fn collect() -> Vec<ThreadEvents> {
    let Some((start, started)) = *STARTED.lock().unwrap_or_else(PoisonError::into_inner) else {
        return Vec::new();
    };
    let clock = Calibration::since(start, started);
    let mut threads: Vec<ThreadEvents> = threads()
        .iter()
        .map(|recorded| ThreadEvents {
            thread: recorded.thread.clone(),
            events: unpack(recorded.ring.read(), &clock),
            streams: recorded.names().read(),
        })
        .filter(|thread| !thread.events.is_empty())
        .collect();
    threads.sort_by(|a, b| a.thread.cmp(&b.thread));
    threads
}

/// A detail that takes some work to find out; 0 while nothing is recorded.
#[inline(always)]
pub fn detail(find: impl FnOnce() -> u64) -> u64 {
    if enabled() { find() } else { 0 }
}

/// Records that something happens.
#[inline(always)]
pub fn instant(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) {
    if enabled() {
        record(code(Phase::Instant, stage), number(conn), stream, a, b);
    }
}

/// Records that something happens right behind the event before it, whose time it gets.
#[inline(always)]
pub fn at_once(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) {
    if enabled() {
        record(code(Phase::Instant, stage) | AT_ONCE, number(conn), stream, a, b);
    }
}

/// Records that something begins, and ends when the result is dropped.
#[inline(always)]
#[must_use]
pub fn scope(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) -> Scope {
    begin(0, stage, conn, stream, a, b)
}

/// Records that something begins right behind the event before it, whose time it gets; ends as with [`scope`].
#[inline(always)]
#[must_use]
pub fn scope_at_once(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) -> Scope {
    begin(AT_ONCE, stage, conn, stream, a, b)
}

#[inline(always)]
fn begin(time: u32, stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) -> Scope {
    if !enabled() {
        return Scope(None);
    }
    record(code(Phase::Begin, stage) | time, number(conn), stream, a, b);
    Scope(Some(stage))
}

/// A stage under way; see [`scope`].
pub struct Scope(Option<Stage>);

impl Drop for Scope {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(stage) = self.0 {
            record_end(code(Phase::End, stage) | AT_ONCE_BEHIND_END);
        }
    }
}

#[inline(always)]
fn number(conn: Option<u64>) -> u64 {
    conn.map_or(0, |id| id + 1)
}

/// What stands at its many callers is kept small: while it is off, it takes room in the processor's caches for nothing.
#[inline(never)]
fn record(code: u32, conn: u64, stream: u64, a: u64, b: u64) {
    THREAD.with(|thread| match thread.recorded() {
        Some(recorded) => thread.push(recorded, code, conn, stream, a, b),
        None => thread.push_first(code, conn, stream, a, b),
    });
}

/// What ends is what began last, so its ids need not be told.
#[inline(never)]
fn record_end(code: u32) {
    THREAD.with(|thread| match thread.recorded() {
        Some(recorded) => thread.push(recorded, code, 0, 0, 0, 0),
        None => thread.push_first(code, 0, 0, 0, 0),
    });
}

/// Remembers what a stream asks for.
#[inline(always)]
pub fn name_stream(stream: u64, method: &[u8], path: &[u8]) {
    if enabled() {
        record_name(stream, method, path);
    }
}

#[inline(never)]
fn record_name(stream: u64, method: &[u8], path: &[u8]) {
    THREAD.with(|thread| {
        let recorded = thread.recorded().unwrap_or_else(|| thread.begin());
        recorded.names().push(stream, method, path);
    });
}

impl Recorded {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadRecorder {
    const fn new() -> Self {
        ThreadRecorder {
            recorded: Cell::new(None),
            recording: Cell::new(0),
            last: Cell::new(0),
            after_end: Cell::new(false),
        }
    }

    /// What the thread records into, unless the recorder has been switched on since.
    #[inline(always)]
    fn recorded(&self) -> Option<&'static Recorded> {
        if self.recording.get() == RECORDING.load(Ordering::Relaxed) { self.recorded.get() } else { None }
    }

    /// Makes room, or empties what there is.
    #[cold]
    fn begin(&self) -> &'static Recorded {
        self.recording.set(RECORDING.load(Ordering::Relaxed));
        self.last.set(ticks());
        if let Some(recorded) = self.recorded.get() {
            recorded.ring.clear();
            recorded.names().clear();
            return recorded;
        }
        // The list of threads keeps it for ever: it is read after the thread has ended.
        let thread = NAME.try_with(|name| name.borrow().clone()).unwrap_or_default();
        let recorded = Recorded { thread, ring: Ring::new(), names: Mutex::default() };
        let recorded: &'static Recorded = Box::leak(Box::new(recorded));
        threads().push(recorded);
        self.recorded.set(Some(recorded));
        recorded
    }

    #[cold]
    #[inline(never)]
    fn push_first(&self, code: u32, conn: u64, stream: u64, a: u64, b: u64) {
        self.push(self.begin(), code, conn, stream, a, b);
    }

    #[inline(always)]
    fn push(&self, recorded: &Recorded, code: u32, conn: u64, stream: u64, a: u64, b: u64) {
        let ticks = self.time(code, ticks);
        recorded.ring.push(pack(ticks, code, conn, stream, a, b));
    }

    /// The time of an event. What ends right behind another end has its time.
    #[inline(always)]
    fn time(&self, code: u32, clock: impl FnOnce() -> u64) -> u64 {
        let shares = code & AT_ONCE != 0 || (code & AT_ONCE_BEHIND_END != 0 && self.after_end.get());
        let time = if shares { self.last.get() } else { clock() };
        self.last.set(time);
        self.after_end.set(code & 3 == Phase::End as u32);
        time
    }
}

/// In the second detail of [`Stage::Callback`]: the callback is due to `event_active`, not to the kernel.
pub const BY_HAND: u64 = 8;

/// A callback of the loop is about to run; the first one begins a pass.
#[inline(always)]
pub(crate) fn enter_callback(kind: u64, bits: u64, by_hand: bool) -> Scope {
    if !enabled() {
        return Scope(None);
    }
    let mut time = 0;
    if !IN_PASS.replace(true) {
        PASS.set(PASS.get() + 1);
        record(code(Phase::Begin, Stage::Pass), 0, 0, PASS.get(), 0);
        time = AT_ONCE;
    }
    begin(time, Stage::Callback, None, 0, kind, bits | if by_hand { BY_HAND } else { 0 })
}

/// The loop is about to poll again.
#[inline(always)]
pub(crate) fn end_pass() {
    if IN_PASS.replace(false) {
        // Always in its own time: what the last callback did behind its last event counts.
        record_end(code(Phase::End, Stage::Pass));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_packed_and_unpacked() {
        let clock = Calibration { start: 100, nanoseconds_per_tick: 0.5 };
        let words = vec![
            pack(99, code(Phase::Instant, Stage::Connect), number(None), 0, 0, 0),
            pack(100, code(Phase::Instant, Stage::Write), number(None), 0, 1, 2),
            pack(102, code(Phase::Begin, Stage::Pass), number(None), 0, 9, 0),
            pack(104, code(Phase::Begin, Stage::OnData), number(Some(0)), u64::MAX, 7, 3),
            pack(108, code(Phase::End, Stage::OnData), number(Some(1 << 40)), 5, u64::MAX, u64::MAX),
        ];
        let events = unpack(words, &clock);
        let brief: Vec<_> =
            events.iter().map(|e| (e.time, e.pass, e.phase, e.conn, e.stream, e.a, e.b)).collect();
        assert_eq!(brief.len(), 4, "what is older than the start is left out");
        assert_eq!(brief[0], (0, 0, Phase::Instant, None, 0, 1, 2));
        assert_eq!(brief[1], (1, 9, Phase::Begin, None, 0, 9, 0));
        assert_eq!(brief[2], (2, 9, Phase::Begin, Some(0), u64::MAX, 7, 3));
        assert_eq!(brief[3], (4, 9, Phase::End, Some(1 << 40), 5, CONN_MASK, 0xffff));
        assert_eq!(events[2].stage, Stage::OnData as u16);
    }

    #[test]
    fn what_goes_on_at_once_shares_a_reading_of_the_clock() {
        use Phase::{Begin, End, Instant};
        let (thread, readings) = (ThreadRecorder::new(), Cell::new(0));
        let clock = || {
            readings.set(readings.get() + 1);
            readings.get()
        };
        let events = [
            (Begin, 0, Stage::Pass, 1),
            (Begin, AT_ONCE, Stage::Callback, 1),
            (Begin, 0, Stage::OnFileEvent, 2),
            (Instant, AT_ONCE, Stage::DoRead, 2),
            (Begin, 0, Stage::OnData, 3),
            (End, AT_ONCE_BEHIND_END, Stage::OnData, 4),
            (End, AT_ONCE_BEHIND_END, Stage::OnFileEvent, 4),
            (Instant, 0, Stage::Write, 5),
            (End, AT_ONCE_BEHIND_END, Stage::Callback, 6),
            (End, 0, Stage::Pass, 7),
        ];
        for (phase, time, stage, wanted) in events {
            assert_eq!(thread.time(code(phase, stage) | time, clock), wanted, "{phase:?} {stage:?}");
        }
    }
}
