//! Files: when lines reach the disk, and what happens when they cannot.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write as _};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::access_log_file::{AccessLogFileStats, FlushPolicy};
use super::*;
use crate::formatter::Formatter;
use crate::stats::Store;
use crate::stream_info::StreamInfoImpl;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

/// As long as the product's.
const LONG: Duration = Duration::from_secs(5);

/// A directory that goes away with its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("legate-access-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store that keeps the statistics when the manager has gone.
struct KeptStore {
    store: Arc<Store>,
    _stats: AccessLogFileStats,
}

impl KeptStore {
    fn new() -> KeptStore {
        let store = Store::new(1);
        let _stats = AccessLogFileStats::new(&store.root_scope().create_scope("filesystem."));
        KeptStore { store, _stats }
    }
}

impl Deref for KeptStore {
    type Target = Arc<Store>;

    fn deref(&self) -> &Arc<Store> {
        &self.store
    }
}

fn config(path: &Path, format: &str) -> FileAccessLogConfig {
    let sink = AccessLogSink::File(path.to_str().unwrap().to_string());
    FileAccessLogConfig { sink, formatter: Arc::new(Formatter::new(format).unwrap()) }
}

fn write(log: &FileAccessLog) {
    log.log(&LogContext::new(&StreamInfoImpl::new()));
}

fn counter(store: &Store, name: &str) -> u64 {
    store.find_counter(&format!("filesystem.{name}")).unwrap().value()
}

fn buffered(store: &Store) -> u64 {
    store.find_gauge("filesystem.write_total_buffered").unwrap().value()
}

/// Makes a pipe and passes on what comes out of it, `length` bytes at a time, until it is closed.
fn pipe(path: &Path, length: usize) -> Receiver<Vec<u8>> {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    let (path, (sender, receiver)) = (path.to_path_buf(), mpsc::channel());
    // The thread's own waits for a writer.
    let reader = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).unwrap();
    thread::spawn(move || {
        let mut pipe = fs::File::open(path).unwrap();
        drop(reader);
        let mut bytes = vec![0; length];
        while pipe.read_exact(&mut bytes).is_ok() && sender.send(bytes.clone()).is_ok() {}
    });
    receiver
}

fn arrives(receiver: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(receiver.recv_timeout(Duration::from_secs(20)).unwrap()).unwrap()
}

#[test]
fn the_first_line_is_written_at_once_and_others_wait_for_a_flush() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    let receiver = pipe(&path, 2);
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "%RESPONSE_CODE%\n"), &manager).unwrap();
    write(&log);
    assert_eq!(arrives(&receiver), "0\n");
    // What is flushed now is only what came behind the first line.
    manager.flush();
    write(&log);
    write(&log);
    assert_eq!((counter(&store, "write_buffered"), buffered(&store)), (3, 4));
    assert_eq!((counter(&store, "write_completed"), receiver.try_recv().ok()), (1, None));
    manager.flush();
    assert_eq!((arrives(&receiver), arrives(&receiver)), ("0\n".to_string(), "0\n".to_string()));
    assert_eq!(buffered(&store), 0);
    manager.flush();
    assert_eq!((counter(&store, "flushed_by_timer"), counter(&store, "write_failed")), (0, 0));
}

#[test]
fn lines_are_appended() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("log");
    fs::write(&path, "before\n").unwrap();
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "%RESPONSE_CODE%\n"), &manager).unwrap();
    write(&log);
    write(&log);
    manager.flush();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\n0\n0\n");
}

/// A pipe whose reader does not read, and which is full but for less than a line of ten bytes.
fn full_pipe(path: &Path) -> fs::File {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    let mut both_ends =
        OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap();
    while both_ends.write(&[b'x'; 4096]).is_ok() {}
    both_ends
}

#[test]
fn what_a_full_pipe_does_not_take_is_bounded_and_dropped_lines_are_counted() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    let mut pipe = full_pipe(&path);
    let policy = FlushPolicy { interval: NEVER, min_size: 10, max_size: 100, patience: LONG };
    let manager = AccessLogManager::with_policy(&store, policy);
    let log = FileAccessLog::new(&config(&path, "123456789\n"), &manager).unwrap();
    (0..1000).for_each(|_| write(&log));
    // As many may be under way as may wait.
    let dropped = counter(&store, "write_dropped");
    assert!((980..=990).contains(&dropped), "{dropped}");
    assert_eq!(counter(&store, "write_buffered") + dropped, 1000);
    assert_eq!(buffered(&store), 10 * (1000 - dropped));

    // The end does not wait for it, and only once.
    let start = Instant::now();
    manager.flush();
    drop((log, manager));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());

    // Its thread goes on once it can.
    let mut bytes = [0; 4096];
    while buffered(&store) > 0 {
        let _ = pipe.read(&mut bytes);
        thread::yield_now();
    }
    assert!(counter(&store, "write_completed") > 0);
}

#[test]
fn a_slow_reader_gets_all_lines_at_the_end() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    let mut pipe = full_pipe(&path);
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "1234\n"), &manager).unwrap();
    (0..40_000).for_each(|_| write(&log));
    let reader = thread::spawn(move || {
        let (mut bytes, mut lines) = ([0; 65536], 0);
        let deadline = Instant::now() + Duration::from_secs(20);
        while lines < 40_000 && Instant::now() < deadline {
            let n = pipe.read(&mut bytes).unwrap_or(0);
            lines += bytes[..n].iter().filter(|byte| **byte == b'\n').count();
            thread::yield_now();
        }
        lines
    });
    drop((log, manager));
    assert_eq!(reader.join().unwrap(), 40_000);
    assert_eq!((buffered(&store), counter(&store, "write_dropped")), (0, 0));
}

/// It takes bytes all the time, but would take long: it is waited for once, not by each who ends.
#[test]
fn a_file_that_is_too_slow_is_waited_for_once() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    let mut pipe = full_pipe(&path);
    let patience = Duration::from_millis(200);
    let policy = FlushPolicy { interval: NEVER, min_size: 1 << 20, max_size: 1 << 24, patience };
    let manager = AccessLogManager::with_policy(&store, policy);
    let log = FileAccessLog::new(&config(&path, &format!("{}\n", "x".repeat(199))), &manager).unwrap();
    (0..25_000).for_each(|_| write(&log));
    let (ended, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (until, count) = (ended.clone(), taken.clone());
    let reader = thread::spawn(move || {
        let mut bytes = [0; 4096];
        while !until.load(Ordering::Relaxed) {
            count.fetch_add(pipe.read(&mut bytes).unwrap_or(0) as u32, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1)); // some 4 MB a second
        }
    });
    let start = Instant::now();
    manager.flush();
    assert!(start.elapsed() >= patience);
    let some_more = taken.load(Ordering::Relaxed) + 256 * 1024;
    while taken.load(Ordering::Relaxed) < some_more {
        thread::yield_now();
    }
    let start = Instant::now();
    drop((log, manager));
    assert!(start.elapsed() < patience / 2, "{:?}", start.elapsed());
    ended.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}

#[test]
fn lines_wait_for_the_reader_of_a_pipe() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let policy =
        FlushPolicy { interval: Duration::from_millis(1), min_size: 1, max_size: 100, patience: LONG };
    let manager = AccessLogManager::with_policy(&store, policy);
    let log = FileAccessLog::new(&config(&path, "a\n"), &manager).unwrap();
    write(&log);
    while counter(&store, "reopen_failed") < 2 {
        thread::yield_now();
    }
    write(&log);
    let mut reader = OpenOptions::new().read(true).open(&path).unwrap();
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!((&bytes, counter(&store, "write_failed")), (b"a\na\n", 0));
}

#[test]
fn a_pipe_that_never_gets_a_reader_is_not_waited_for_at_the_end() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "a\n"), &manager).unwrap();
    write(&log);
    drop((log, manager));
    assert_eq!((counter(&store, "write_failed"), buffered(&store)), (1, 0));
}

#[test]
fn much_is_written_at_once() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("pipe");
    let receiver = pipe(&path, 6);
    let manager = AccessLogManager::with_min_flush_size(&store, NEVER, 10);
    let log = FileAccessLog::new(&config(&path, "12345\n"), &manager).unwrap();
    write(&log);
    assert_eq!(arrives(&receiver), "12345\n");
    // Often, so that the flush thread sleeps at least once when it is wanted.
    for _ in 0..100 {
        write(&log);
        write(&log);
        assert_eq!((arrives(&receiver), arrives(&receiver)), ("12345\n".to_string(), "12345\n".to_string()));
    }
    assert_eq!(counter(&store, "flushed_by_timer"), 0);
}

#[test]
fn little_is_written_after_a_while() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let manager = AccessLogManager::new(&store, Duration::from_millis(1));
    // Many, so that at least one flush thread sleeps when its first line comes.
    let open = |number: usize| {
        let path = directory.path(&number.to_string());
        let receiver = pipe(&path, 2);
        (FileAccessLog::new(&config(&path, "a\n"), &manager).unwrap(), receiver)
    };
    let logs: Vec<_> = (0..20).map(open).collect();
    for (log, receiver) in &logs {
        write(log);
        assert_eq!(arrives(receiver), "a\n");
        write(log);
        assert_eq!(arrives(receiver), "a\n");
    }
    assert!(counter(&store, "flushed_by_timer") > 0);
}

#[test]
fn what_is_left_is_written_at_the_end() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("log");
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "a\n"), &manager).unwrap();
    write(&log);
    drop((log, manager));
    assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
}

#[test]
fn a_moved_file_is_made_anew() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let (path, moved) = (directory.path("log"), directory.path("moved"));
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "a\n"), &manager).unwrap();
    write(&log);
    manager.flush();
    fs::rename(&path, &moved).unwrap();
    manager.reopen();
    write(&log);
    // Waits for the flush thread, which sees the wish before the end.
    drop((log, manager));
    assert_eq!(fs::read_to_string(&moved).unwrap(), "a\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
    assert_eq!(counter(&store, "reopen_failed"), 0);
}

#[test]
fn a_moved_file_is_made_anew_without_waiting_for_lines() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("log");
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&path, "a\n"), &manager).unwrap();
    fs::remove_file(&path).unwrap();
    manager.reopen();
    drop((log, manager));
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn lines_are_lost_while_the_file_cannot_be_opened() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let inner = directory.path("inner");
    fs::create_dir(&inner).unwrap();
    let manager = AccessLogManager::new(&store, NEVER);
    let log = FileAccessLog::new(&config(&inner.join("log"), "a\n"), &manager).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    manager.reopen();
    write(&log);
    drop((log, manager));
    assert!(counter(&store, "reopen_failed") > 0);
    assert_eq!((counter(&store, "write_failed"), counter(&store, "write_completed")), (1, 0));
    assert_eq!(buffered(&store), 0);
}

#[test]
fn logs_share_a_file() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("log");
    let manager = AccessLogManager::new(&store, NEVER);
    let one = FileAccessLog::new(&config(&path, "one\n"), &manager).unwrap();
    let two = FileAccessLog::new(&config(&path, "two\n"), &manager).unwrap();
    write(&two);
    write(&one);
    manager.flush();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\none\n");
}

#[test]
fn threads_do_not_break_each_others_lines() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let path = directory.path("log");
    let manager = AccessLogManager::with_min_flush_size(&store, Duration::from_millis(1), 100);
    let log = FileAccessLog::new(&config(&path, "0123456789\n"), &manager).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| write(&log)));
        }
    });
    drop((log, manager));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| *line == "0123456789").count(), 2000);
    assert_eq!(text.len(), 22_000);
    assert_eq!((counter(&store, "write_buffered"), buffered(&store)), (2000, 0));
}

#[test]
fn errors_name_the_file() {
    let (store, directory) = (KeptStore::new(), Directory::new());
    let manager = AccessLogManager::new(&store, NEVER);
    let error = |path: &Path, format| FileAccessLog::new(&config(path, format), &manager).err().unwrap();
    let missing = directory.path("missing/log");
    let expected = format!("unable to open file '{}': No such file or directory", missing.display());
    assert_eq!(error(&missing, "a"), expected);
    let expected = format!("unable to open file '{}': Is a directory", directory.0.display());
    assert_eq!(error(&directory.0, "a"), expected);
}

#[test]
fn standard_streams_are_files_too() {
    let manager: Arc<AccessLogManager> = AccessLogManager::new(&Store::new(1), NEVER);
    for sink in [AccessLogSink::Stdout, AccessLogSink::Stderr] {
        let config = FileAccessLogConfig { sink, formatter: Arc::new(Formatter::new("").unwrap()) };
        write(&FileAccessLog::new(&config, &manager).unwrap());
    }
    manager.flush();
}
