//! Access logs (placeholder until the formatter lands).
use crate::config;
use crate::http::{HeaderMap, StreamInfoImpl};
use std::sync::Arc;
/// Files that access logs go to.
#[derive(Default)]
pub struct AccessLogManager {}
impl AccessLogManager {
    /// A manager.
    pub fn new(_: &Arc<crate::stats::Store>, _: std::time::Duration) -> Arc<Self> {
        Arc::default()
    }
    /// Flushes.
    pub fn flush(&self) {}
    /// Reopens all files.
    pub fn reopen(&self) {}
}
/// One access log.
pub struct AccessLog {}
impl AccessLog {
    /// Builds a log.
    pub fn new(_: &config::AccessLog, _: &Arc<AccessLogManager>) -> Result<Arc<Self>, String> {
        Ok(Arc::new(AccessLog {}))
    }
    /// Logs a stream.
    pub fn log(
        &self,
        _: Option<&HeaderMap>,
        _: Option<&HeaderMap>,
        _: Option<&HeaderMap>,
        _: &StreamInfoImpl,
    ) {
    }
}
