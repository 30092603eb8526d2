//! The upstream's last answer, for as long as it is good.
//!
//! Mirrors `HealthCheckCacheManager` of Envoy's `source/extensions/filters/http/health_check/health_check.h`, where a timer
//! of the main thread forgets it. Here the answer carries the number of the timer's period that it is of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Shared by all workers.
pub(super) struct HealthCheckCacheManager {
    start: Instant,
    timeout: Duration,
    /// The number of the period in the upper half; below the status, and whether the upstream was degraded. 0 for none.
    response: AtomicU64,
}

const DEGRADED: u64 = 1 << 16;

impl HealthCheckCacheManager {
    pub fn new(timeout: Duration) -> Self {
        HealthCheckCacheManager { start: Instant::now(), timeout, response: AtomicU64::new(0) }
    }

    /// The number of the period that it is, from 1.
    fn period(&self) -> u64 {
        let periods = self.start.elapsed().as_nanos() / self.timeout.as_nanos().max(1);
        periods as u64 % u64::from(u32::MAX) + 1
    }

    /// The status, and whether the upstream was degraded, if they are known.
    pub fn cached_response(&self) -> Option<(u16, bool)> {
        let response = self.response.load(Relaxed);
        (response >> 32 == self.period()).then_some((response as u16, response & DEGRADED != 0))
    }

    pub fn set_cached_response(&self, status: u16, degraded: bool) {
        let degraded = if degraded { DEGRADED } else { 0 };
        self.response.store(self.period() << 32 | degraded | u64::from(status), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_until_the_period_ends() {
        let mut cache = HealthCheckCacheManager::new(Duration::from_secs(3600));
        assert_eq!(cache.cached_response(), None);
        cache.set_cached_response(503, true);
        assert_eq!(cache.cached_response(), Some((503, true)));
        cache.set_cached_response(200, false);
        assert_eq!(cache.cached_response(), Some((200, false)));
        cache.start -= Duration::from_secs(3600);
        assert_eq!(cache.cached_response(), None);
        cache.set_cached_response(204, false);
        assert_eq!(cache.cached_response(), Some((204, false)));
    }
}
