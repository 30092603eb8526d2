//! The stage recorder: what happened on each thread, stage by stage, in small fixed-size events.
//!
//! Nothing in Envoy corresponds to it; its stages are named after Envoy's classes and methods. Each
//! thread writes a ring of its own and waits for nobody; the main thread reads them.
//!
//! Off, a stage costs one load and one branch. On, it costs two words in the ring. What would make it cost more is
//! left out and found again by the reader:
//!
//! - the clock, which takes longer to read than all the rest, is read where the table of stages says `timed`; the
//!   other stages have the time of the last such one;
//! - where a stage ends is told by the depth at which the next one stands;
//! - the ids of connection and stream are written when they change, and anew in each callback of the loop.

mod names;
mod render;
mod ring;
mod stage;
pub(crate) mod told;
mod unpack;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use names::Names;
use ring::Ring;

use crate::common::ticks;

pub use names::StreamName;
pub use render::{Format, Rendering, render};
pub use stage::{STAGES, Stage, StageInfo, text_said_by};
pub use told::{StageLog, Whose};
pub(crate) use told::{log_stage, stage};

/// How an event stands to the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Something begins, and ends within the same callback.
    Begin = 0,
    /// What began last ends: at the time of what comes next beside it or around it.
    End = 1,
    /// Something happens.
    Instant = 2,
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds since the recorder was switched on; right for what happened within the last day.
    pub time: u64,
    /// The pass of the thread's loop in which it happened, counted from 1 in each recording; 0 outside of the
    /// loop, and for one that began before the oldest event.
    pub pass: u64,
    /// Whether something begins, ends or happens.
    pub phase: Phase,
    /// The number of the stage, an index into [`STAGES`].
    pub stage: u16,
    /// The connection's id, where there is a connection.
    pub conn: Option<u64>,
    /// The stream's id; 0 for none.
    pub stream: u64,
    /// A detail: bytes, a list's size, event bits; [`StageInfo::details`] names it. Its lower 32 bits, but all of a
    /// pass's number, and of `lists` the lengths, 16 bits each, but the first one's 18; an end has none.
    pub a: u64,
    /// Another.
    pub b: u64,
}

/// An entry of the ring: the time and what happens; both details.
type Words = [u64; 2];

// The first word: 46 bits of time, 10 of stage, 5 of depth, and these.
const TIME_SHIFT: u32 = 18;
const STAGE_SHIFT: u32 = 8;
const DEPTH_SHIFT: u32 = 3;
const MAX_DEPTH: u32 = 31;
const BEGINS: u32 = 4;
/// It has the connection that was set last.
const HAS_CONN: u32 = 2;
/// It has the stream that was set last.
const HAS_STREAM: u32 = 1;

/// In place of a stage: the second word is the connection's id, the stream's.
const SET_CONN: u16 = 1023;
const SET_STREAM: u16 = 1022;
/// In place of an id that was set last: none was.
const NO_ID: u64 = u64::MAX;
const _: () = assert!(STAGES.len() <= SET_STREAM as usize);

/// The stage of an event, and whether it begins.
#[inline(always)]
const fn code(stage: Stage, begins: bool) -> u32 {
    (stage as u32) << STAGE_SHIFT | if begins { BEGINS } else { 0 }
}

/// Both details in a word.
#[inline(always)]
fn details(a: u64, b: u64) -> u64 {
    a << 32 | b & 0xffff_ffff
}

/// The events of one thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadEvents {
    /// The thread's name: `main_thread`, `worker_0`.
    pub thread: String,
    /// The oldest first.
    pub events: Vec<Event>,
    /// There were older ones, in whose place newer ones are.
    pub overwritten: bool,
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
}

/// Entries that a thread keeps: 256 KiB. More would take the processor's caches from what is recorded.
const CAPACITY: usize = 1 << 14;

/// What a thread has recorded, for others to read.
struct Recorded {
    thread: String,
    /// Which recording it belongs to.
    recording: AtomicU64,
    ring: Ring<CAPACITY, 2>,
    names: Names,
}

/// What a thread keeps to write it. Nothing here needs dropping, which makes it quick to reach.
struct ThreadRecorder {
    recorded: Cell<Option<&'static Recorded>>,
    /// Which recording it has written to.
    recording: Cell<u64>,
    /// The time that was read last, in its place in an entry.
    time: Cell<u64>,
    /// Stages that are under way, in their place in an entry.
    depth: Cell<u32>,
    /// What was set last.
    conn: Cell<u64>,
    stream: Cell<u64>,
    pass: Cell<u64>,
    in_pass: Cell<bool>,
    /// How many entries there were behind the last write to a socket, at whose end the clock is read.
    entries_at_write: Cell<u64>,
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
    // A thread that has had nothing to record since then still holds what was recorded before.
    let present = RECORDING.load(Ordering::Acquire);
    let is_present = |recorded: &&&'static Recorded| recorded.recording.load(Ordering::Acquire) == present;
    let all = threads().clone();
    let held: Vec<_> =
        all.iter().filter(is_present).map(|recorded| (*recorded, recorded.ring.read())).collect();
    let clock = unpack::Clock::since(start, started);
    let mut threads: Vec<ThreadEvents> = held
        .into_iter()
        .map(|(recorded, held)| ThreadEvents {
            thread: recorded.thread.clone(),
            overwritten: held.overflowed,
            events: unpack::unpack(held, &clock),
            streams: recorded.names.read(),
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

/// Whose something is, where that is not known where it happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The downstream connection.
    pub connection: u64,
    /// The stream on it.
    pub stream: u64,
}

/// Records that something happens. A stream comes with its connection.
#[inline(always)]
pub fn instant(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) {
    if enabled() {
        record(stage, false, conn, stream, a, b);
    }
}

/// Records that something begins, and ends when the result is dropped.
#[inline(always)]
#[must_use]
pub fn scope(stage: Stage, conn: Option<u64>, stream: u64, a: u64, b: u64) -> Scope {
    if !enabled() {
        return Scope(false);
    }
    record(stage, true, conn, stream, a, b);
    THREAD.with(|thread| thread.deepen(1));
    Scope(true)
}

/// A stage under way; see [`scope`].
pub struct Scope(bool);

impl Drop for Scope {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0 {
            THREAD.with(|thread| thread.deepen(-1));
        }
    }
}

/// Records the lengths of a pool's lists.
#[inline(always)]
pub fn pool_lists(pool: u64, pending: usize, busy: usize, ready: usize) {
    if enabled() {
        let word = unpack::pack_lists(pool, pending as u64, busy as u64, ready as u64);
        record_bare(code(Stage::PoolLists, false), word);
    }
}

/// Remembers what a stream asks for.
#[inline(always)]
pub fn name_stream(stream: u64, method: &[u8], path: &[u8]) {
    if enabled() {
        THREAD.with(|thread| thread.recorded().names.push(stream, method, path));
    }
}

/// Which of the four functions is called is settled where the stage is recorded.
#[inline(always)]
fn record(stage: Stage, begins: bool, conn: Option<u64>, stream: u64, a: u64, b: u64) {
    let (code, details) = (code(stage, begins), details(a, b));
    match (conn, STAGES[stage as usize].timed) {
        (None, false) => record_bare(code, details),
        (None, true) => record_bare_timed(code, details),
        (Some(conn), false) => record_ids(code | HAS_CONN, conn, stream, details),
        (Some(conn), true) => record_ids_timed(code | HAS_CONN, conn, stream, details),
    }
}

// These stand at many callers: what each of them has to pass is kept small, for while the recorder is off it takes room
// in the processor's caches for nothing.

/// Adds an event of a connection, and perhaps a stream, to this thread's ring, at the time that was read last.
#[inline(never)]
fn record_ids(code: u32, conn: u64, stream: u64, details: u64) {
    THREAD.with(|thread| match thread.recorded.get() {
        Some(recorded) => thread.push_ids(&recorded.ring, code, conn, stream, details),
        None => record_first(code, conn, stream, details),
    });
}

/// The same for an event of neither.
#[inline(never)]
fn record_bare(code: u32, details: u64) {
    THREAD.with(|thread| match thread.recorded.get() {
        Some(recorded) => thread.push(&recorded.ring, code, details),
        None => record_first(code, 0, 0, details),
    });
}

/// The same at the present time.
#[inline(never)]
fn record_ids_timed(code: u32, conn: u64, stream: u64, details: u64) {
    THREAD.with(ThreadRecorder::read_clock);
    record_ids(code, conn, stream, details);
    if code >> STAGE_SHIFT == Stage::DoWrite as u32 {
        THREAD.with(ThreadRecorder::note_write);
    }
}

#[inline(never)]
fn record_bare_timed(code: u32, details: u64) {
    THREAD.with(ThreadRecorder::read_clock);
    record_bare(code, details);
}

#[cold]
#[inline(never)]
fn record_first(code: u32, conn: u64, stream: u64, details: u64) {
    THREAD.with(|thread| {
        let ring = &thread.begin().ring;
        if code & HAS_CONN == 0 {
            thread.push(ring, code, details);
        } else {
            thread.push_ids(ring, code, conn, stream, details);
        }
    });
}

impl ThreadRecorder {
    const fn new() -> Self {
        ThreadRecorder {
            recorded: Cell::new(None),
            recording: Cell::new(0),
            time: Cell::new(0),
            depth: Cell::new(0),
            conn: Cell::new(NO_ID),
            stream: Cell::new(NO_ID),
            pass: Cell::new(0),
            in_pass: Cell::new(false),
            entries_at_write: Cell::new(NO_ID),
        }
    }

    /// What the thread records into. It joins a new recording between two callbacks of its loop, not within one.
    #[inline(always)]
    fn recorded(&self) -> &'static Recorded {
        self.recorded.get().unwrap_or_else(|| self.begin())
    }

    /// Makes room, or empties what there is: the recorder has been switched on since.
    #[cold]
    fn begin(&self) -> &'static Recorded {
        let recording = RECORDING.load(Ordering::Relaxed);
        self.recording.set(recording);
        self.time.set(ticks() << TIME_SHIFT);
        self.forget_ids();
        self.pass.set(0);
        self.entries_at_write.set(NO_ID);
        if let Some(recorded) = self.recorded.get() {
            recorded.ring.clear();
            recorded.names.clear();
            recorded.recording.store(recording, Ordering::Release);
            return recorded;
        }
        // The list of threads keeps it for ever: it is read after the thread has ended.
        let thread = NAME.try_with(|name| name.borrow().clone()).unwrap_or_default();
        let recording = AtomicU64::new(recording);
        let recorded = Recorded { thread, recording, ring: Ring::new(), names: Names::new() };
        let recorded: &'static Recorded = Box::leak(Box::new(recorded));
        threads().push(recorded);
        self.recorded.set(Some(recorded));
        recorded
    }

    #[inline(always)]
    fn deepen(&self, by: i32) {
        self.depth.set(self.depth.get().wrapping_add_signed(by << DEPTH_SHIFT));
    }

    #[inline(always)]
    fn read_clock(&self) {
        self.time.set(ticks() << TIME_SHIFT);
    }

    fn note_write(&self) {
        if let Some(recorded) = self.recorded.get() {
            self.entries_at_write.set(recorded.ring.written());
        }
    }

    fn forget_ids(&self) {
        self.conn.set(NO_ID);
        self.stream.set(NO_ID);
    }

    #[inline(always)]
    fn push_ids(&self, ring: &Ring<CAPACITY, 2>, mut code: u32, conn: u64, stream: u64, details: u64) {
        if self.conn.get() != conn {
            self.conn.set(conn);
            ring.push([u64::from(SET_CONN) << STAGE_SHIFT, conn]);
        }
        if stream != 0 {
            code |= HAS_STREAM;
            if self.stream.get() != stream {
                self.stream.set(stream);
                ring.push([u64::from(SET_STREAM) << STAGE_SHIFT, stream]);
            }
        }
        self.push(ring, code, details);
    }

    #[inline(always)]
    fn push(&self, ring: &Ring<CAPACITY, 2>, code: u32, details: u64) {
        debug_assert!(self.depth.get() >> DEPTH_SHIFT <= MAX_DEPTH, "stages in stages");
        let head = code | self.depth.get() & MAX_DEPTH << DEPTH_SHIFT;
        ring.push([self.time.get() | u64::from(head), details]);
    }

    /// A callback begins, and with the first one a pass. The reader may have to begin here: the ids are set anew.
    #[inline(never)]
    fn enter_callback(&self, details: u64) {
        if self.recording.get() != RECORDING.load(Ordering::Relaxed) {
            self.begin();
        }
        let ring = &self.recorded().ring;
        // A callback that ends with a write has just read the clock.
        if self.entries_at_write.get() != ring.written() {
            self.read_clock();
        }
        if !self.in_pass.replace(true) {
            self.pass.set(self.pass.get() + 1);
            self.push(ring, code(Stage::Pass, true), self.pass.get());
            self.deepen(1);
        }
        self.forget_ids();
        self.push(ring, code(Stage::Callback, true), details);
        self.deepen(1);
    }

    fn end_pass(&self) {
        if self.in_pass.replace(false) {
            self.deepen(-1);
            record_bare_timed(code(Stage::Pass, false), 0);
        }
    }
}

/// In the second detail of [`Stage::Callback`]: the callback is due to `event_active`, not to the kernel.
pub const BY_HAND: u64 = 8;

/// A callback of the loop is about to run; the first one begins a pass.
#[inline(always)]
pub(crate) fn enter_callback(kind: u64, bits: u64, by_hand: bool) -> Scope {
    if !enabled() {
        return Scope(false);
    }
    let details = details(kind, bits | if by_hand { BY_HAND } else { 0 });
    THREAD.with(|thread| thread.enter_callback(details));
    Scope(true)
}

/// The loop is about to poll again.
#[inline(always)]
pub(crate) fn end_pass() {
    THREAD.with(ThreadRecorder::end_pass);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What a thread of its own has recorded when it has run `f`.
    fn recorded(name: &'static str, f: impl FnOnce() + Send + 'static) -> ThreadEvents {
        enable();
        let run = move || {
            register_thread(name);
            f();
        };
        std::thread::spawn(run).join().expect("it ends");
        collect().into_iter().find(|thread| thread.thread == name).expect("it has recorded")
    }

    fn pass_the_time() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1) {}
    }

    #[test]
    fn what_is_recorded_is_read() {
        use Phase::{Begin, End};
        let thread = recorded("reader", || {
            for conn in [7, 8] {
                let callback = enter_callback(1, 3, conn == 8);
                let data = scope(Stage::OnData, Some(conn), 0, 10, 1);
                instant(Stage::NewStream, Some(conn), 99, 0, 0);
                instant(Stage::Write, Some(0), 0, u64::from(u32::MAX), 0);
                drop(data);
                pool_lists(2, 3, 4, 5);
                drop(callback);
                pass_the_time();
            }
            end_pass();
            pass_the_time();
            drop(enter_callback(2, 0, false));
            end_pass();
            instant(Stage::Terminate, None, 0, 0, 0);
        });
        let brief = |e: &Event| (e.phase, e.stage, e.pass, e.conn, e.stream, (e.a, e.b));
        let events: Vec<_> = thread.events.iter().map(brief).collect();
        let (pass, callback, data) = (Stage::Pass as u16, Stage::Callback as u16, Stage::OnData as u16);
        let of_callback = |conn, bits| {
            [
                (Begin, callback, 1, None, 0, (1, bits)),
                (Begin, data, 1, Some(conn), 0, (10, 1)),
                (Phase::Instant, Stage::NewStream as u16, 1, Some(conn), 99, (0, 0)),
                (Phase::Instant, Stage::Write as u16, 1, Some(0), 0, (u64::from(u32::MAX), 0)),
                (End, data, 1, Some(conn), 0, (0, 0)),
                (Phase::Instant, Stage::PoolLists as u16, 1, None, 0, (3 << 32 | 4 << 16 | 5, 2)),
                (End, callback, 1, None, 0, (0, 0)),
            ]
        };
        let mut wanted = vec![(Begin, pass, 1, None, 0, (1, 0))];
        wanted.extend(of_callback(7, 3));
        wanted.extend(of_callback(8, 3 | BY_HAND));
        wanted.push((End, pass, 1, None, 0, (0, 0)));
        wanted.push((Begin, pass, 2, None, 0, (2, 0)));
        wanted.push((Begin, callback, 2, None, 0, (2, 0)));
        wanted.push((End, callback, 2, None, 0, (0, 0)));
        wanted.push((End, pass, 2, None, 0, (0, 0)));
        wanted.push((Phase::Instant, Stage::Terminate as u16, 0, None, 0, (0, 0)));
        assert_eq!(events, wanted);
        // Within a callback the clock stands still where no stage asks for it; the next one reads it.
        let (times, ms) = (thread.events.iter().map(|e| e.time).collect::<Vec<_>>(), 1_000_000);
        assert_eq!((times[0], times[1], times[6]), (times[1], times[2], times[1]));
        for (from, to) in [(6, 8), (8, 15), (15, 16)] {
            assert!(times[to] - times[from] >= ms, "{from} to {to}: {times:?}");
        }
        assert!(!thread.overwritten);
    }

    #[test]
    fn behind_what_is_overwritten_ids_are_known() {
        let thread = recorded("overwriter", || {
            for _ in 0..CAPACITY {
                let _callback = enter_callback(1, 0, false);
                instant(Stage::OnData, Some(5), 9, 0, 0);
            }
        });
        assert!(thread.overwritten);
        let mut data = thread.events.iter().filter(|e| e.stage == Stage::OnData as u16);
        assert!(data.clone().count() > CAPACITY / 5 && data.all(|e| (e.conn, e.stream) == (Some(5), 9)));
    }
}
