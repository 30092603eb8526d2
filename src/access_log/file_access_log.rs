//! [`FileAccessLog`]: an access log that is lines of a file.
//!
//! Mirrors `FileAccessLog` of Envoy's `source/extensions/access_loggers/file/`.

use std::cell::Cell;
use std::sync::Arc;

use super::access_log_file::AccessLogFile;
use super::access_log_manager::AccessLogManager;
use super::file_config::FileAccessLogConfig;
use super::instance::{Instance, LogContext};
use crate::formatter::Formatter;

thread_local! {
    /// Room for the line that this thread makes next.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A format and the file that its lines go to. Shared by all workers.
pub struct FileAccessLog {
    formatter: Arc<Formatter>,
    file: Arc<AccessLogFile>,
}

impl FileAccessLog {
    /// Builds a log and opens its file.
    ///
    /// # Errors
    /// Envoy's text for a file that cannot be opened.
    pub fn new(config: &FileAccessLogConfig, manager: &AccessLogManager) -> Result<Self, String> {
        Ok(FileAccessLog { formatter: config.formatter.clone(), file: manager.file(&config.sink)? })
    }
}

impl Instance for FileAccessLog {
    fn log(&self, context: &LogContext<'_>) {
        // A stream may end while its thread does, when there are no thread locals any more.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        self.formatter.format(&mut line, context);
        self.file.write(&line);
        let _ = LINE.try_with(|kept| kept.set(line));
    }
}
