//! Logging by component (Envoy `source/common/common/logger.*`).
//!
//! The macros [`envoy_log!`](crate::envoy_log), [`envoy_conn_log!`](crate::envoy_conn_log) and
//! [`envoy_stream_log!`](crate::envoy_stream_log) check the level of their component, one relaxed load,
//! before they evaluate anything. What passes goes through the `log` crate to `env_logger`, which writes
//! a line in the format of `--log-format` to standard error or to the file of `--log-path`.
//!
//! ```
//! use legate::envoy_conn_log;
//! let connection_id = 7;
//! envoy_conn_log!(Pool, debug, connection_id, "creating a new connection");
//! ```
//!
//! Deliberately different from Envoy: times are UTC, source files are named from below `src/`, and
//! there is no fine-grain mode (a level per source file). `log` has no level above error: a critical
//! record travels as an error with the target `critical:<component>`. Records of other crates are
//! those of the component `misc`.

mod escape;
mod id;
mod level;
mod levels;
mod macros;
mod pattern;
mod sink;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

pub use id::Id;
pub use level::Level;
pub use levels::parse_component_levels;

use levels::Levels;
use pattern::{Line, Pattern};
use sink::FileSink;

/// The format of Envoy 1.40 when `--log-format` is not given.
pub const DEFAULT_FORMAT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

/// Before the component in the target of a critical record.
const CRITICAL_TARGET: &str = "critical:";

static LEVELS: Levels = Levels::new(Level::Info);
static FILE: OnceLock<FileSink> = OnceLock::new();

/// How and where to log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The level of all components not in `component_levels`.
    pub level: Level,
    /// Components with a level of their own; the last one of a name counts.
    pub component_levels: Vec<(Id, Level)>,
    /// The format of a line, with the flags of spdlog.
    pub format: String,
    /// Whether each line is written with C escapes, so that it stays one line.
    pub escaped: bool,
    /// The file to append to; standard error if none.
    pub path: Option<PathBuf>,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            level: Level::Info,
            component_levels: Vec::new(),
            format: DEFAULT_FORMAT.to_string(),
            escaped: false,
            path: None,
        }
    }
}

/// Starts logging. To be called once in a process; until then nothing is written. Fails if the file
/// cannot be opened, or on a second call.
pub fn init(options: LogOptions) -> Result<(), String> {
    let file = options.path.map(FileSink::open).transpose()?;
    let pattern = Pattern::new(&options.format, options.escaped);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(log::LevelFilter::Trace);
    builder.format(move |out, record| out.write_all(pattern.format(&line_of(record)).as_bytes()));
    if let Some(file) = &file {
        builder.target(env_logger::Target::Pipe(Box::new(file.clone())));
    }
    builder.try_init().map_err(|_| "logging is already initialized".to_string())?;
    if let Some(file) = file {
        FILE.get_or_init(|| file);
    }
    set_all(options.level);
    for (id, level) in options.component_levels {
        set_level(id, level);
    }
    Ok(())
}

/// Opens the log file anew, after it has been moved away. On failure the old file stays in use. Does
/// nothing when logging to standard error.
pub fn reopen() -> Result<(), String> {
    FILE.get().map_or(Ok(()), FileSink::reopen)
}

/// Sets the level of one component, for all threads.
pub fn set_level(id: Id, level: Level) {
    LEVELS.set(id, level);
    log::set_max_level(self::level(Id::Misc).filter());
}

/// Sets the level of all components, for all threads.
pub fn set_all(level: Level) {
    LEVELS.set_all(level);
    log::set_max_level(level.filter());
}

/// The level of a component.
pub fn level(id: Id) -> Level {
    LEVELS.get(id)
}

/// Whether a component logs messages of that level.
#[inline]
pub fn enabled(id: Id, level: Level) -> bool {
    LEVELS.enabled(id, level)
}

/// Where in the source a message comes from.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Location {
    pub file: &'static str,
    pub line: u32,
    pub module: &'static str,
}

/// Writes a message without checking the level; for the macros.
#[doc(hidden)]
#[cold]
pub fn write(id: Id, level: Level, location: Location, message: fmt::Arguments<'_>) {
    let target = match level {
        Level::Critical => Cow::Owned(format!("{CRITICAL_TARGET}{}", id.name())),
        _ => Cow::Borrowed(id.name()),
    };
    log::logger().log(
        &log::Record::builder()
            .level(level.log_level())
            .target(&target)
            .file(Some(location.file))
            .line(Some(location.line))
            .module_path(Some(location.module))
            .args(message)
            .build(),
    );
}

/// The line that a message gets in a format of `--log-format`; for tests.
#[doc(hidden)]
pub fn line_in_format(format: &str, escaped: bool, message: &str) -> String {
    let line = Line {
        time: SystemTime::now(),
        thread: thread_id(),
        level: Level::Info,
        component: Id::Misc.name(),
        file: "logger/mod.rs",
        line: Some(1),
        module: module_path!(),
        message: message.into(),
    };
    Pattern::new(format, escaped).format(&line)
}

fn line_of<'a>(record: &'a log::Record<'_>) -> Line<'a> {
    let critical = record.target().strip_prefix(CRITICAL_TARGET);
    let component = critical.unwrap_or_else(|| record.target());
    Line {
        time: SystemTime::now(),
        thread: thread_id(),
        level: if critical.is_some() { Level::Critical } else { Level::from_log(record.level()) },
        component: Id::from_name(component).unwrap_or(Id::Misc).name(),
        file: record.file().map_or("", below_src),
        line: record.line(),
        module: record.module_path().unwrap_or_default(),
        message: record.args().as_str().map_or_else(|| record.args().to_string().into(), Cow::Borrowed),
    }
}

fn below_src(file: &str) -> &str {
    file.rsplit_once("src/").map_or(file, |(_, below)| below)
}

/// The thread id as the system knows it, asked for once per thread.
fn thread_id() -> i32 {
    thread_local!(static ID: Cell<i32> = const { Cell::new(0) });
    if ID.get() == 0 {
        ID.set(nix::unistd::gettid().as_raw());
    }
    ID.get()
}

#[cfg(test)]
mod tests;
