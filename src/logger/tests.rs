//! Tests through the macros, and so of the state shared by the process: each uses components of its
//! own, and only one may call `init`.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{envoy_conn_log, envoy_log, envoy_stream_log};

/// A directory that is removed with its contents.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unique =
            format!("legate-log-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(super) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines_with(path: &Path, marker: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| line.contains(marker)).map(str::to_string).collect()
}

#[test]
fn messages_go_to_the_file() {
    let dir = TempDir::new("init");
    let path = dir.join("log");
    let options = LogOptions {
        level: Level::Info,
        component_levels: vec![(Id::Sse, Level::Critical), (Id::Tap, Level::Trace)],
        format: "%l|%n|%s|%v".to_string(),
        escaped: false,
        path: Some(path.clone()),
    };
    let bad = LogOptions { path: Some(dir.join("no/log")), ..options.clone() };
    assert!(init(bad).unwrap_err().starts_with("Failed to open log-file '"));
    init(options.clone()).unwrap();
    assert_eq!(init(options).unwrap_err(), "logging is already initialized");

    envoy_log!(Tap, trace, "marker {} {name}", 1, name = "x");
    envoy_conn_log!(Tap, warn, 7, "marker {}", 2);
    envoy_stream_log!(Tap, error, 7, u64::MAX, "marker 3");
    envoy_log!(Sse, error, "marker off");
    envoy_log!(Sse, critical, "marker 4");
    log::warn!("marker 5");
    let expected = [
        "trace|tap|tests.rs|marker 1 x",
        "warning|tap|tests.rs|[C7] marker 2",
        "error|tap|tests.rs|[C7][S18446744073709551615] marker 3",
        "critical|sse|tests.rs|marker 4",
        "warning|misc|tests.rs|marker 5",
    ];
    assert_eq!(lines_with(&path, "marker"), expected);

    fs::rename(&path, dir.join("moved")).unwrap();
    reopen().unwrap();
    envoy_log!(Tap, info, "marker 6");
    assert_eq!(lines_with(&path, "marker"), ["info|tap|tests.rs|marker 6"]);
    assert_eq!(lines_with(&dir.join("moved"), "marker"), expected);
}

#[test]
fn nothing_is_evaluated_when_the_level_is_off() {
    set_level(Id::Wasm, Level::Info);
    let evaluated = Cell::new(0);
    let evaluate = || {
        evaluated.set(evaluated.get() + 1);
        evaluated.get()
    };
    envoy_log!(Wasm, debug, "{}", evaluate());
    envoy_conn_log!(Wasm, trace, evaluate(), "{}", evaluate());
    envoy_stream_log!(Wasm, trace, evaluate(), evaluate(), "{}", evaluate());
    assert_eq!(evaluated.get(), 0);
    envoy_stream_log!(Wasm, info, evaluate(), evaluate(), "{}", evaluate());
    assert_eq!(evaluated.get(), 3);
}

#[test]
fn levels_are_set_by_component() {
    set_level(Id::Kafka, Level::Error);
    assert_eq!(level(Id::Kafka), Level::Error);
    assert!(enabled(Id::Kafka, Level::Error) && !enabled(Id::Kafka, Level::Warn));
}

#[test]
fn files_are_named_from_below_src() {
    assert_eq!(below_src("src/http/mod.rs"), "http/mod.rs");
    assert_eq!(below_src("/a/src/b.rs"), "b.rs");
    assert_eq!(below_src("tests/e2e/main.rs"), "tests/e2e/main.rs");
}

#[test]
fn threads_have_ids_of_their_own() {
    let own = thread_id();
    assert_eq!(own, nix::unistd::gettid().as_raw());
    assert_ne!(own, std::thread::spawn(thread_id).join().unwrap());
}
