//! When connections should be closed because the server, or a listener, goes away.
//!
//! Mirrors Envoy's `source/server/drain_manager_impl.cc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::filters::network::http_connection_manager::DrainDecision;

/// Shared by all threads: a drain is started by the main thread and asked about by workers.
pub struct DrainManagerImpl {
    drain_time: Duration,
    health_check_failed: AtomicBool,
    /// Milliseconds from `origin` at which draining started; 0 for not draining.
    started_ms: AtomicU64,
    origin: Instant,
}

impl DrainManagerImpl {
    /// A manager that closes all connections within `drain_time` of a drain's start.
    pub fn new(drain_time: Duration) -> Arc<Self> {
        Arc::new(DrainManagerImpl {
            drain_time,
            health_check_failed: AtomicBool::new(false),
            started_ms: AtomicU64::new(0),
            origin: Instant::now(),
        })
    }

    /// The server fails, or passes again, its health checks.
    pub fn set_health_check_failed(&self, failed: bool) {
        self.health_check_failed.store(failed, Relaxed);
    }

    /// Starts draining: from now on a growing share of responses closes its connection.
    pub fn start_drain_sequence(&self) {
        let now = self.origin.elapsed().as_millis() as u64;
        self.started_ms.store(now.max(1), Relaxed);
    }
}

impl DrainDecision for DrainManagerImpl {
    fn drain_close(&self) -> bool {
        if self.health_check_failed.load(Relaxed) {
            return true;
        }
        let started = self.started_ms.load(Relaxed);
        if started == 0 {
            return false;
        }
        let elapsed = (self.origin.elapsed().as_millis() as u64).saturating_sub(started) / 1000;
        let period = self.drain_time.as_secs();
        period == 0 || elapsed > fastrand::u64(..) % period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_closed_until_draining_or_failing() {
        let drain = DrainManagerImpl::new(Duration::from_secs(600));
        assert!(!drain.drain_close());
        drain.set_health_check_failed(true);
        assert!(drain.drain_close());
        drain.set_health_check_failed(false);
        assert!(!drain.drain_close());
    }

    #[test]
    fn a_drain_time_of_zero_closes_at_once() {
        let drain = DrainManagerImpl::new(Duration::ZERO);
        drain.start_drain_sequence();
        assert!(drain.drain_close());
    }
}
