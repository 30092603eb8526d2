//! [`AccessLogFile`]: a file that many threads append lines to.
//!
//! Mirrors `AccessLogFileImpl` of Envoy's `source/common/access_log/access_log_manager_impl.cc`: lines
//! are collected in memory, and a thread of the file's own writes them to disk. Deliberately different:
//! that thread keeps the time itself instead of being woken by a timer of the main thread, and is the only one
//! that touches the disk: writers never wait for it, and disk writes to different files do not exclude each other.
//! What waits for the disk is bounded, and so is the time for which the end of the server waits.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::file_config::AccessLogSink;
use crate::envoy_log;

crate::stats_struct! {
    /// Statistics of all access log files together.
    pub(super) struct AccessLogFileStats {
        counters: [
            write_buffered, write_completed, write_dropped, write_failed, flushed_by_timer, reopen_failed,
        ],
        gauges: [write_total_buffered],
        histograms: [],
    }
}

/// When a file's lines are written to disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FlushPolicy {
    /// The first line at once, and from then on at least this often.
    pub(super) interval: Duration,
    /// As soon as more bytes than this are waiting.
    pub(super) min_size: usize,
    /// What does not fit into as many bytes is dropped.
    pub(super) max_size: usize,
    /// How long one who waits for lines to be written does so in all; a second while not a byte is.
    pub(super) patience: Duration,
}

/// How long one who waits for lines to be written does so while not a byte is.
const STALLED: Duration = Duration::from_secs(1);
/// Bytes written at a time.
const PIECE: usize = 64 * 1024;

/// An open file. Dropping it writes what is left.
pub(super) struct AccessLogFile {
    shared: Arc<Shared>,
    flush_thread: Option<JoinHandle<()>>,
}

/// What the writers and the flush thread share.
struct Shared {
    sink: AccessLogSink,
    policy: FlushPolicy,
    stats: AccessLogFileStats,
    state: Mutex<State>,
    /// For the flush thread: there is work.
    wake_up: Condvar,
    /// For those who wait for the flush thread: it has written a piece.
    moved_on: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether there ever was a line, and so whether the intervals have begun.
    started: bool,
    flush: bool,
    reopen: bool,
    exit: bool,
    /// Nobody has the pipe open for reading: what waits does so until the next interval.
    held_back: bool,
    /// Lines have been dropped since the flush thread last took what waited.
    dropping: bool,
    /// The flush thread has ended.
    ended: bool,
    /// Bytes that ever waited, and those of them that wait no more.
    appended: u64,
    settled: u64,
    /// How much was settled when somebody last waited in vain; `u64::MAX` where that was for good.
    gave_up_at: Option<u64>,
}

/// What [`AccessLogFile::start_flush`] has started.
pub(super) struct FlushTicket {
    start: Instant,
    wanted: u64,
    settled: u64,
}

impl AccessLogFile {
    /// Opens the file, which is made if need be, and starts its thread.
    ///
    /// # Errors
    /// Envoy's text with the path and the system's reason.
    pub(super) fn open(
        sink: &AccessLogSink,
        policy: FlushPolicy,
        stats: &AccessLogFileStats,
    ) -> Result<AccessLogFile, String> {
        let fail = |error: io::Error| format!("unable to open file '{}': {}", name(sink), reason(&error));
        let file = match open(sink) {
            Err(error) if lacks_reader(&error) => None,
            opened => Some(opened.map_err(fail)?),
        };
        let shared = Arc::new(Shared {
            sink: sink.clone(),
            policy,
            stats: stats.clone(),
            state: Mutex::default(),
            wake_up: Condvar::new(),
            moved_on: Condvar::new(),
        });
        let for_thread = shared.clone();
        let thread = thread::Builder::new().name("AccessLogFlush".to_string());
        let flush_thread = thread.spawn(move || for_thread.run(file)).map_err(fail)?;
        Ok(AccessLogFile { shared, flush_thread: Some(flush_thread) })
    }

    /// Appends a line; it may be any text. Never waits for the disk.
    pub(super) fn write(&self, line: &[u8]) {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if state.waiting.len() + line.len() > shared.policy.max_size {
            let began = !std::mem::replace(&mut state.dropping, true);
            drop(state);
            shared.stats.write_dropped.inc();
            if began {
                shared.warn("takes no lines: they are dropped");
            }
            return;
        }
        shared.stats.write_buffered.inc();
        shared.stats.write_total_buffered.add(line.len() as u64);
        let was_enough = shared.is_enough(&state);
        state.waiting.extend_from_slice(line);
        state.appended += line.len() as u64;
        let first = !std::mem::replace(&mut state.started, true);
        state.flush |= first;
        let wake_up = first || (!was_enough && shared.is_enough(&state));
        drop(state);
        if wake_up {
            shared.wake_up.notify_one();
        }
    }

    /// Has all lines written to disk; [`AccessLogFile::finish_flush`] waits for it.
    pub(super) fn start_flush(&self) -> FlushTicket {
        let mut state = lock(&self.shared.state);
        state.flush |= !state.waiting.is_empty();
        self.shared.wake_up.notify_one();
        FlushTicket { start: Instant::now(), wanted: state.appended, settled: state.settled }
    }

    /// Waits until all lines are on disk, but not for a disk that takes none.
    pub(super) fn finish_flush(&self, ticket: &FlushTicket) {
        self.shared.wait_for(ticket, |state| state.settled >= ticket.wanted);
    }

    /// Has the flush thread open the path anew and then write what is waiting. Lines that come while
    /// that fails are lost.
    pub(super) fn reopen(&self) {
        lock(&self.shared.state).reopen = true;
        self.shared.wake_up.notify_one();
    }
}

impl Drop for AccessLogFile {
    fn drop(&mut self) {
        lock(&self.shared.state).exit = true;
        let ticket = self.start_flush();
        let ended = self.shared.wait_for(&ticket, |state| state.ended);
        // A thread that the system does not let go on ends with the process.
        if let Some(thread) = self.flush_thread.take().filter(|_| ended) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_enough(&self, state: &State) -> bool {
        state.waiting.len() > self.policy.min_size && !state.held_back
    }

    fn warn(&self, what: &str) {
        envoy_log!(File, warn, "access log file '{}' {}", name(&self.sink), what);
    }

    /// Waits until `done`; false when nothing goes on, at once if that was so the last time.
    fn wait_for(&self, ticket: &FlushTicket, done: impl Fn(&State) -> bool) -> bool {
        let mut state = lock(&self.state);
        let mut seen = (ticket.settled, ticket.start);
        while !done(&state) {
            let now = Instant::now();
            if seen.0 != state.settled {
                seen = (state.settled, now);
            }
            let left =
                (seen.1 + STALLED).min(ticket.start + self.policy.patience).saturating_duration_since(now);
            if left.is_zero() || state.gave_up_at.is_some_and(|at| at >= state.settled) {
                let (settled, lost) = (state.settled, state.appended - state.settled);
                // A file that is only slow would use up the patience of each who waits for it.
                let for_good = now >= ticket.start + self.policy.patience;
                let first = state.gave_up_at.is_none();
                state.gave_up_at =
                    if for_good { Some(u64::MAX) } else { state.gave_up_at.max(Some(settled)) };
                drop(state);
                if first {
                    self.warn(&format!("is not waited for: {lost} bytes are not written"));
                }
                return false;
            }
            let waited = self.moved_on.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The flush thread.
    fn run(&self, mut file: Option<File>) {
        let (mut taken, mut next_tick) = (Vec::new(), None);
        loop {
            let (reopen, exit) = self.wait_for_work(&mut taken, &mut next_tick);
            self.flush(&mut file, &mut taken, reopen);
            if exit {
                lock(&self.state).ended = true;
                self.moved_on.notify_all();
                return;
            }
        }
    }

    /// Waits for work and takes what is waiting; whether to open the file anew, and whether to end then.
    fn wait_for_work(&self, taken: &mut Vec<u8>, next_tick: &mut Option<Instant>) -> (bool, bool) {
        let mut state = lock(&self.state);
        loop {
            let reopen = std::mem::take(&mut state.reopen);
            if std::mem::take(&mut state.flush) || reopen || state.exit || self.is_enough(&state) {
                std::mem::swap(&mut state.waiting, taken);
                state.dropping = false;
                if state.started {
                    next_tick.get_or_insert_with(|| Instant::now() + self.policy.interval);
                }
                return (reopen, state.exit);
            }
            let Some(tick) = *next_tick else {
                state = self.wake_up.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            if now < tick {
                let waited = self.wake_up.wait_timeout(state, tick - now);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            *next_tick = Some(now + self.policy.interval);
            self.stats.flushed_by_timer.inc();
            state.flush = !state.waiting.is_empty();
        }
    }

    /// Writes what was taken, to a newly opened file if so wanted. A file that could not be opened is
    /// tried again whenever there is something to write, which is then lost; but a pipe may yet get its reader.
    fn flush(&self, file: &mut Option<File>, taken: &mut Vec<u8>, reopen: bool) {
        if reopen {
            *file = None;
        }
        if file.is_none() && (reopen || !taken.is_empty()) {
            let opened = open(&self.sink).inspect_err(|_| self.stats.reopen_failed.inc());
            if self.hold_back(taken, opened.as_ref().is_err_and(lacks_reader)) {
                return;
            }
            *file = opened.ok();
        }
        if taken.is_empty() {
            return;
        }
        match file.as_mut().map(|file| self.write_pieces(file, taken)) {
            Some(Ok(())) => {}
            failed => {
                self.stats.write_failed.inc();
                let written = failed.and_then(Result::err).unwrap_or(0);
                self.settle(taken.len() - written);
            }
        }
        taken.clear();
        // A burst must not hold its memory for ever.
        taken.shrink_to(4 * self.policy.min_size);
    }

    /// Puts back what was taken, if so wanted and it is not the end.
    fn hold_back(&self, taken: &mut Vec<u8>, wanted: bool) -> bool {
        let mut state = lock(&self.state);
        state.held_back = wanted && !state.exit;
        if state.held_back {
            std::mem::swap(&mut state.waiting, taken);
            state.waiting.append(taken);
        }
        state.held_back
    }

    /// Writes all bytes; or else says how many it has written.
    fn write_pieces(&self, file: &mut File, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match file.write(&bytes[written..bytes.len().min(written + PIECE)]) {
                Ok(0) => return Err(written),
                Ok(n) => {
                    written += n;
                    if written == bytes.len() {
                        self.stats.write_completed.inc();
                    }
                    self.settle(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A standard stream that somebody else has made so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }

    /// So many bytes wait no more.
    fn settle(&self, bytes: usize) {
        self.stats.write_total_buffered.sub(bytes as u64);
        lock(&self.state).settled += bytes as u64;
        self.moved_on.notify_all();
    }
}

/// A lock whose data is sound whatever happened to another holder: a panic leaves at worst half a line.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(sink: &AccessLogSink) -> io::Result<File> {
    match sink {
        AccessLogSink::File(path) => {
            // Opening a pipe does not wait for its reader; writing to it then waits, as to any file.
            let flags = OFlag::O_NONBLOCK.bits();
            let file = OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
            fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
            Ok(file)
        }
        AccessLogSink::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        AccessLogSink::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
    }
}

/// Whether a pipe could not be opened because nobody has it open for reading.
fn lacks_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENXIO as i32)
}

fn name(sink: &AccessLogSink) -> &str {
    match sink {
        AccessLogSink::File(path) => path,
        AccessLogSink::Stdout => "/dev/stdout",
        AccessLogSink::Stderr => "/dev/stderr",
    }
}

/// The system's text without the number that the standard library adds.
fn reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_string())
}
