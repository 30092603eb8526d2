//! The stage recorder: what happened on each thread, stage by stage, in small fixed-size events.
//!
//! Nothing in Envoy corresponds to it; its stages are named after Envoy's classes and methods. Each
//! thread writes a ring of its own and never waits; the main thread reads them. Off, a stage costs one load
//! and one branch.

mod render;
mod ring;
mod stage;

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ring::{CAPACITY, Ring};

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
    /// The pass of the thread's loop in which it happened, counted from 1; 0 outside of the loop.
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

const PASS_BITS: u32 = 40;

impl Event {
    fn to_words(self) -> [u64; 6] {
        let head =
            (self.stage as u64) << 48 | (self.phase as u64) << PASS_BITS | self.pass & ((1 << PASS_BITS) - 1);
        [self.time, head, self.conn.map_or(0, |id| id + 1), self.stream, self.a, self.b]
    }

    fn from_words([time, head, conn, stream, a, b]: [u64; 6]) -> Event {
        let phase = match head >> PASS_BITS & 0xff {
            0 => Phase::Begin,
            1 => Phase::End,
            _ => Phase::Instant,
        };
        let pass = head & ((1 << PASS_BITS) - 1);
        Event { time, pass, phase, stage: (head >> 48) as u16, conn: conn.checked_sub(1), stream, a, b }
    }
}

/// The events of one thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadEvents {
    /// The thread's name: `main_thread`, `worker_0`.
    pub thread: String,
    /// The oldest first.
    pub events: Vec<Event>,
}

static ENABLED: AtomicBool = AtomicBool::new(false);
/// Counts the times that the recorder was switched on.
static RECORDING: AtomicU64 = AtomicU64::new(0);
static RINGS: Mutex<Vec<(String, Arc<Ring>)>> = Mutex::new(Vec::new());
static STARTED: Mutex<Option<Instant>> = Mutex::new(None);

thread_local! {
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
    static THREAD: OnceCell<ThreadRecorder> = const { OnceCell::new() };
    static PASS: Cell<u64> = const { Cell::new(0) };
    static IN_PASS: Cell<bool> = const { Cell::new(false) };
}

/// What a thread keeps to write its ring.
struct ThreadRecorder {
    ring: Arc<Ring>,
    recording: Cell<u64>,
    started: Cell<Instant>,
}

fn rings() -> MutexGuard<'static, Vec<(String, Arc<Ring>)>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names the present thread in what is recorded.
pub fn register_thread(name: &str) {
    NAME.with_borrow_mut(|own| name.clone_into(own));
}

/// Whether stages are recorded.
#[inline(always)]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Starts recording; what was recorded before is forgotten. No effect while it is on.
pub fn enable() {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !enabled() {
        *started = Some(Instant::now());
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
    let rings = rings();
    let read =
        |(name, ring): &(String, Arc<Ring>)| ThreadEvents { thread: name.clone(), events: ring.read() };
    rings.iter().map(read).filter(|thread| !thread.events.is_empty()).collect()
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
    let pass = PASS.get();
    // While a thread ends it may be too late to record.
    let _ = THREAD.try_with(|thread| {
        let thread = thread.get_or_init(ThreadRecorder::new);
        thread.begin_recording();
        let time = thread.started.get().elapsed().as_nanos() as u64;
        thread.ring.push(&Event { time, pass, phase, stage: stage as u16, conn, stream, a, b });
    });
}

impl ThreadRecorder {
    fn new() -> Self {
        let ring = Arc::new(Ring::new(CAPACITY));
        let name = NAME.with_borrow(String::clone);
        rings().push((name, ring.clone()));
        ThreadRecorder { ring, recording: Cell::new(0), started: Cell::new(Instant::now()) }
    }

    /// Forgets what was recorded before the recorder was last switched on.
    fn begin_recording(&self) {
        let recording = RECORDING.load(Ordering::Acquire);
        if self.recording.replace(recording) != recording {
            self.ring.clear();
            let started = *STARTED.lock().unwrap_or_else(PoisonError::into_inner);
            self.started.set(started.unwrap_or_else(Instant::now));
        }
    }
}

/// A callback of the loop is about to run; the first one begins a pass.
#[inline(always)]
pub(crate) fn enter_callback(kind: u64, bits: u64) -> Scope {
    if !enabled() {
        return Scope(None);
    }
    if !IN_PASS.replace(true) {
        PASS.set(PASS.get() + 1);
        record(Phase::Begin, Stage::Pass, None, 0, 0, 0);
    }
    scope(Stage::Callback, None, 0, kind, bits)
}

/// The loop is about to poll again.
#[inline(always)]
pub(crate) fn end_pass() {
    if IN_PASS.replace(false) {
        record(Phase::End, Stage::Pass, None, 0, 0, 0);
    }
}
