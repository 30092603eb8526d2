//! [`AccessLogFile`]: a file that many threads append lines to.
//!
//! Mirrors `AccessLogFileImpl` of Envoy's `source/common/access_log/access_log_manager_impl.cc`: lines
//! are collected in memory, and a thread of the file's own writes them to disk. Deliberately different:
//! that thread keeps the time itself instead of being woken by a timer of the main thread, writers never
//! wait for the disk, and disk writes to different files do not exclude each other.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::config::AccessLogSink;

crate::stats_struct! {
    /// Statistics of all access log files together.
    pub(super) struct AccessLogFileStats {
        counters: [write_buffered, write_completed, write_failed, flushed_by_timer, reopen_failed],
        gauges: [write_total_buffered],
        histograms: [],
    }
}

/// When a file's lines are written to disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FlushPolicy {
    /// At least this often, from the first line on.
    pub(super) interval: Duration,
    /// As soon as more bytes than this are waiting.
    pub(super) min_size: usize,
}

/// An open file. Dropping it writes what is left.
pub(super) struct AccessLogFile {
    shared: Arc<Shared>,
    flush_thread: Option<JoinHandle<()>>,
}

/// What the writers and the flush thread share. Locked in this order: `output`, `state`.
struct Shared {
    sink: AccessLogSink,
    policy: FlushPolicy,
    stats: AccessLogFileStats,
    state: Mutex<State>,
    wake_up: Condvar,
    output: Mutex<Output>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether there ever was a line, and so whether the intervals have begun.
    started: bool,
    reopen: bool,
    exit: bool,
}

struct Output {
    /// `None` when the file could not be opened again.
    file: Option<File>,
    /// What is being written; empty in between.
    writing: Vec<u8>,
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
        let file = open(sink).map_err(fail)?;
        let shared = Arc::new(Shared {
            sink: sink.clone(),
            policy,
            stats: stats.clone(),
            state: Mutex::default(),
            wake_up: Condvar::new(),
            output: Mutex::new(Output { file: Some(file), writing: Vec::new() }),
        });
        let for_thread = shared.clone();
        let thread = thread::Builder::new().name("AccessLogFlush".to_string());
        let flush_thread = thread.spawn(move || for_thread.run()).map_err(fail)?;
        Ok(AccessLogFile { shared, flush_thread: Some(flush_thread) })
    }

    /// Appends a line; it may be any text. Never waits for the disk.
    pub(super) fn write(&self, line: &[u8]) {
        let shared = &self.shared;
        shared.stats.write_buffered.inc();
        shared.stats.write_total_buffered.add(line.len() as u64);
        let mut state = lock(&shared.state);
        let was_enough = shared.is_enough(&state);
        state.waiting.extend_from_slice(line);
        let wake_up = !state.started || (!was_enough && shared.is_enough(&state));
        state.started = true;
        drop(state);
        if wake_up {
            shared.wake_up.notify_one();
        }
    }

    /// Writes all lines to disk before it returns.
    pub(super) fn flush(&self) {
        self.shared.flush(false);
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
        self.shared.wake_up.notify_one();
        if let Some(thread) = self.flush_thread.take() {
            // It fails only when the thread panicked; what is left is written all the same.
            let _ = thread.join();
        }
        self.shared.flush(false);
    }
}

impl Shared {
    fn is_enough(&self, state: &State) -> bool {
        state.waiting.len() > self.policy.min_size
    }

    /// The flush thread.
    fn run(&self) {
        let mut next_tick = None;
        loop {
            let Some(reopen) = self.wait(&mut next_tick) else { return };
            self.flush(reopen);
        }
    }

    /// Waits for work; returns whether to open the file anew, or `None` at the end.
    fn wait(&self, next_tick: &mut Option<Instant>) -> Option<bool> {
        let mut state = lock(&self.state);
        loop {
            if std::mem::take(&mut state.reopen) {
                return Some(true);
            }
            if state.exit {
                return None;
            }
            if self.is_enough(&state) {
                return Some(false);
            }
            if !state.started {
                state = self.wake_up.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let tick = *next_tick.get_or_insert(now + self.policy.interval);
            if now < tick {
                let waited = self.wake_up.wait_timeout(state, tick - now);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            *next_tick = Some(now + self.policy.interval);
            self.stats.flushed_by_timer.inc();
            if !state.waiting.is_empty() {
                return Some(false);
            }
        }
    }

    /// Writes what is waiting, to a newly opened file if so wanted. A file that could not be opened is
    /// tried again whenever there is something to write.
    fn flush(&self, reopen: bool) {
        let mut output = lock(&self.output);
        let Output { file, writing } = &mut *output;
        std::mem::swap(&mut lock(&self.state).waiting, writing);
        if reopen {
            *file = None;
        }
        if file.is_none() && (reopen || !writing.is_empty()) {
            *file = open(&self.sink).inspect_err(|_| self.stats.reopen_failed.inc()).ok();
        }
        if writing.is_empty() {
            return;
        }
        match file.as_mut().map(|file| file.write_all(writing)) {
            Some(Ok(())) => self.stats.write_completed.inc(),
            _ => self.stats.write_failed.inc(),
        }
        self.stats.write_total_buffered.sub(writing.len() as u64);
        writing.clear();
        // A burst must not hold its memory for ever.
        writing.shrink_to(4 * self.policy.min_size);
    }
}

/// A lock whose data is sound whatever happened to another holder: a panic leaves at worst half a line.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(sink: &AccessLogSink) -> io::Result<File> {
    match sink {
        AccessLogSink::File(path) => OpenOptions::new().create(true).append(true).open(path),
        AccessLogSink::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        AccessLogSink::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
    }
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
