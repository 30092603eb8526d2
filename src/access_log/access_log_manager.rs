//! [`AccessLogManager`]: all files that access logs go to.
//!
//! Mirrors `AccessLogManagerImpl` of Envoy's `source/common/access_log/access_log_manager_impl.cc`; the
//! statistics are 1.40's, under `filesystem.`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::access_log_file::{AccessLogFile, AccessLogFileStats, FlushPolicy};
use crate::config::AccessLogSink;
use crate::stats::Store;

/// Default for the bytes that must wait before they are written ahead of time.
const MIN_FLUSH_SIZE: usize = 64 * 1024;

/// Opens every file once, however many logs go there, and keeps it open.
pub struct AccessLogManager {
    policy: FlushPolicy,
    stats: AccessLogFileStats,
    files: Mutex<Vec<(AccessLogSink, Arc<AccessLogFile>)>>,
}

impl AccessLogManager {
    /// A manager whose files are written every `flush_interval`, and whenever more than 64 KiB wait.
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
        Arc::new(AccessLogManager {
            policy: FlushPolicy { interval, min_size: min_flush_size },
            stats: AccessLogFileStats::new(&stats.root_scope().create_scope("filesystem.")),
            files: Mutex::default(),
        })
    }

    /// Writes what all files have collected to disk before it returns.
    pub fn flush(&self) {
        self.files().iter().for_each(|file| file.flush());
    }

    /// Has all files opened anew by their paths, for log rotation; does not wait for it.
    pub fn reopen(&self) {
        self.files().iter().for_each(|file| file.reopen());
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
