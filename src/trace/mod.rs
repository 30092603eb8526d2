//! The stage recorder: what happened on each thread, stage by stage, in small fixed-size events.
//!
//! Nothing in Envoy corresponds to it; its stages are named after Envoy's classes and methods. Each
//! thread writes a ring of its own and never waits; the main thread reads them. Off, a stage costs one load
//! and one branch.

mod names;
mod render;
mod ring;
mod stage;

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use names::Names;
use ring::{CAPACITY, Ring, Words};

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

/// Packs an event: ticks; stage, phase and connection; stream; both details, cut off where they are too large.
fn pack(ticks: u64, phase: Phase, stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) -> Words {
    let conn = conn.map_or(0, |id| id + 1) & CONN_MASK;
    let head = (stage as u64) << 56 | (phase as u64) << 48 | conn;
    [ticks, head, stream, a.min(CONN_MASK) << 16 | b.min(0xffff)]
}

const CONN_MASK: u64 = (1 << 48) - 1;

/// The reverse of [`pack`], for a whole ring: times in nanoseconds, passes counted by their beginnings.
fn unpack(events: Vec<Words>, clock: &Calibration) -> Vec<Event> {
    let mut pass = 0;
    let unpack_one = |[ticks, head, stream, details]: Words| {
        let stage = (head >> 56) as u16;
        let phase = match head >> 48 & 0xff {
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
static THREADS: Mutex<Vec<Arc<Recorded>>> = Mutex::new(Vec::new());
/// When the recorder was last switched on, in ticks and in time.
static STARTED: Mutex<Option<(u64, Instant)>> = Mutex::new(None);
static CLOCK: OnceLock<fn() -> u64> = OnceLock::new();

thread_local! {
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
    static THREAD: OnceCell<ThreadRecorder> = const { OnceCell::new() };
    static PASS: Cell<u64> = const { Cell::new(0) };
    static IN_PASS: Cell<bool> = const { Cell::new(false) };
}

/// What a thread has recorded, for others to read.
struct Recorded {
    thread: String,
    ring: Ring,
    names: Mutex<Names>,
}

/// What a thread keeps to write it.
struct ThreadRecorder {
    recorded: Arc<Recorded>,
    recording: Cell<u64>,
    clock: fn() -> u64,
}

/// Gives the recorder a clock that is quick to read and ticks evenly; the first one stays.
pub(crate) fn set_clock(clock: fn() -> u64) {
    let _ = CLOCK.set(clock);
}

fn clock() -> fn() -> u64 {
    fn coarse() -> u64 {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
    CLOCK.get().copied().unwrap_or(coarse)
}

fn ticks() -> u64 {
    clock()()
}

fn threads() -> MutexGuard<'static, Vec<Arc<Recorded>>> {
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

/// Records that something happens.
#[inline(always)]
pub fn instant(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) {
    if enabled() {
        record(Phase::Instant, stage, conn, stream, a, b);
    }
}

/// Records that something begins, and ends when the result is dropped.
#[inline(always)]
#[must_use]
pub fn scope(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) -> Scope {
    if !enabled() {
        return Scope(None);
    }
    record(Phase::Begin, stage, conn, stream, a, b);
    Scope(Some((stage, conn, stream)))
}

/// A stage under way; see [`scope`].
pub struct Scope(Option<(Stage, Option<u64>, u64)>);

impl Drop for Scope {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((stage, conn, stream)) = self.0 {
            record(Phase::End, stage, conn, stream, 0, 0);
        }
    }
}

#[cold]
#[inline(never)]
fn record(phase: Phase, stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) {
    // While a thread ends it may be too late to record.
    let _ = THREAD.try_with(|thread| {
        let thread = thread.get_or_init(ThreadRecorder::new);
        thread.forget_earlier_recordings();
        thread.recorded.ring.push(pack((thread.clock)(), phase, stage, conn, stream, a, b));
    });
}

/// Remembers what a stream asks for.
#[inline(always)]
pub fn name_stream(stream: u64, method: &[u8], path: &[u8]) {
    if enabled() {
        record_name(stream, method, path);
    }
}

#[cold]
#[inline(never)]
fn record_name(stream: u64, method: &[u8], path: &[u8]) {
    let _ = THREAD.try_with(|thread| {
        let thread = thread.get_or_init(ThreadRecorder::new);
        thread.forget_earlier_recordings();
        thread.recorded.names().push(stream, method, path);
    });
}

impl Recorded {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadRecorder {
    fn new() -> Self {
        let thread = NAME.with_borrow(String::clone);
        let recorded = Arc::new(Recorded { thread, ring: Ring::new(CAPACITY), names: Mutex::default() });
        threads().push(recorded.clone());
        ThreadRecorder { recorded, recording: Cell::new(0), clock: clock() }
    }

    /// Switching the recorder on begins anew.
    #[inline]
    fn forget_earlier_recordings(&self) {
        let recording = RECORDING.load(Ordering::Relaxed);
        if self.recording.replace(recording) != recording {
            self.recorded.ring.clear();
            self.recorded.names().clear();
        }
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
    if !IN_PASS.replace(true) {
        PASS.set(PASS.get() + 1);
        record(Phase::Begin, Stage::Pass, None, 0, PASS.get(), 0);
    }
    scope(Stage::Callback, None, 0, kind, bits | if by_hand { BY_HAND } else { 0 })
}

/// The loop is about to poll again.
#[inline(always)]
pub(crate) fn end_pass() {
    if IN_PASS.replace(false) {
        record(Phase::End, Stage::Pass, None, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_packed_and_unpacked() {
        let clock = Calibration { start: 100, nanoseconds_per_tick: 0.5 };
        let words = vec![
            pack(99, Phase::Instant, Stage::Connect, None, 0, 0, 0),
            pack(100, Phase::Instant, Stage::Write, None, 0, 1, 2),
            pack(102, Phase::Begin, Stage::Pass, None, 0, 9, 0),
            pack(104, Phase::Begin, Stage::OnData, Some(0), u64::MAX, 7, 3),
            pack(108, Phase::End, Stage::OnData, Some(1 << 40), 5, u64::MAX, u64::MAX),
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
}
