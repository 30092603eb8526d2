//! [`AccessLogManager`]: all files that access logs go to.
//!
//! Mirrors `AccessLogManagerImpl` of Envoy's `source/common/access_log/access_log_manager_impl.cc`; the
//! statistics are 1.40's, under `filesystem.`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::access_log_file::{AccessLogFile, AccessLogFileStats, FlushPolicy};
use super::file_config::AccessLogSink;
use crate::stats::Store;

/// Default for the bytes that must wait before they are written ahead of time.
const MIN_FLUSH_SIZE: usize = 64 * 1024;
/// The bytes that may wait for one file, and as many may be under way: seconds of a busy server's lines.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// How long the end waits for a file that is slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens every file once, however many logs go there, and keeps it open.
pub struct AccessLogManager {
    policy: FlushPolicy,
    stats: AccessLogFileStats,
    files: Mutex<Vec<(AccessLogSink, Arc<AccessLogFile>)>>,
}

impl AccessLogManager {
    /// A manager whose files are written at their first line, every `flush_interval` from then on, and whenever more
    /// than 64 KiB wait.
    pub fn new(stats: &Arc<Store>, flush_interval: Duration) -> Arc<AccessLogManager> {
        AccessLogManager::with_min_flush_size(stats, flush_interval, MIN_FLUSH_SIZE)
    }

    /// The same with another size, in bytes. An interval below 1 ms counts as 1 ms.
    pub fn with_min_flush_size(
        stats: &Arc<Store>,
        flush_interval: Duration,
        min_flush_size: usize,
    ) -> Arc<AccessLogManager> {
        let interval = flush_interval.max(Duration::from_millis(1));
        let max_size = MAX_WAITING.max(2 * min_flush_size);
        let policy = FlushPolicy { interval, min_size: min_flush_size, max_size, patience: PATIENCE };
        AccessLogManager::with_policy(stats, policy)
    }

    pub(super) fn with_policy(stats: &Arc<Store>, policy: FlushPolicy) -> Arc<AccessLogManager> {
        Arc::new(AccessLogManager {
            policy,
            stats: AccessLogFileStats::new(&stats.root_scope().create_scope("filesystem.")),
            files: Mutex::default(),
        })
    }

    /// Writes what all files have collected to disk before it returns; a disk that takes nothing is not waited for.
    pub fn flush(&self) {
        let flushing: Vec<_> = self.files().into_iter().map(|file| (file.start_flush(), file)).collect();
        flushing.iter().for_each(|(ticket, file)| file.finish_flush(ticket));
    }

    /// Has all files opened anew by their paths, for log rotation; does not wait for it.
    pub fn reopen(&self) {
        self.files().iter().for_each(|file| file.reopen());
    }

    /// A file for lines that are no access log's, each with its end.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn create_access_log(&self, path: &str) -> Result<impl Fn(&[u8]) + use<>, String> {
        let file = self.file(&AccessLogSink::File(path.to_owned()))?;
        Ok(move |line: &[u8]| file.write(line))
    }

    /// The file of a sink, opened now if it is not yet.
    pub(super) fn file(&self, sink: &AccessLogSink) -> Result<Arc<AccessLogFile>, String> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = files.iter().find(|(known, _)| known == sink) {
            return Ok(file.clone());
        }
        let file = Arc::new(AccessLogFile::open(sink, self.policy, &self.stats)?);
        files.push((sink.clone(), file.clone()));
        Ok(file)
    }

    fn files(&self) -> Vec<Arc<AccessLogFile>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().map(|(_, file)| file.clone()).collect()
    }
}
