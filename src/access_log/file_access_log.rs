//! [`FileAccessLog`]: an access log that is lines of a file.
//!
//! Mirrors `FileAccessLog` of Envoy's `source/extensions/access_loggers/file/`.

use std::cell::RefCell;
use std::sync::Arc;

use super::access_log_file::AccessLogFile;
use super::access_log_manager::AccessLogManager;
use super::file_config::FileAccessLogConfig;
use super::instance::{Instance, LogContext};
use crate::formatter::Formatter;

thread_local! {
    /// The line that this thread is making.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
        let write = |line: &mut Vec<u8>| {
            line.clear();
            self.formatter.format(line, context);
            self.file.write(line);
        };
        // A stream may end while its thread does, when there are no thread locals any more.
        if LINE.try_with(|line| write(&mut line.borrow_mut())).is_err() {
            write(&mut Vec::new());
        }
    }
}
