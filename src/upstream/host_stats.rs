//! Statistics of a host, which only the admin's `/clusters` shows.
//!
//! Mirrors Envoy's `ALL_HOST_STATS` (`include/envoy/upstream/host_description.h`) with the names of
//! 1.40. They are plain numbers: a cluster may have thousands of hosts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct PrimitiveCounter(AtomicU64);

impl PrimitiveCounter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct PrimitiveGauge(AtomicU64);

impl PrimitiveGauge {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Subtracts one that was added before.
    #[inline]
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The statistics of a host. Aligned so that counting does not disturb those who read its neighbours.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct HostStats {
    /// Connections tried.
    pub cx_total: PrimitiveCounter,
    /// Connections that failed or took too long to be established.
    pub cx_connect_fail: PrimitiveCounter,
    /// Requests sent.
    pub rq_total: PrimitiveCounter,
    /// Requests that took too long.
    pub rq_timeout: PrimitiveCounter,
    /// Answers that are no errors.
    pub rq_success: PrimitiveCounter,
    /// Answers with a 5xx status, and failures.
    pub rq_error: PrimitiveCounter,
    /// Connections.
    pub cx_active: PrimitiveGauge,
    /// Requests in flight.
    pub rq_active: PrimitiveGauge,
    /// Requests that wait for a connection.
    pub rq_pending_active: PrimitiveGauge,
}

impl HostStats {
    /// Names and values of the counters, sorted by name.
    pub fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("cx_connect_fail", self.cx_connect_fail.value()),
            ("cx_total", self.cx_total.value()),
            ("rq_error", self.rq_error.value()),
            ("rq_success", self.rq_success.value()),
            ("rq_timeout", self.rq_timeout.value()),
            ("rq_total", self.rq_total.value()),
        ]
    }

    /// Names and values of the gauges, sorted by name.
    pub fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("cx_active", self.cx_active.value()),
            ("rq_active", self.rq_active.value()),
            ("rq_pending_active", self.rq_pending_active.value()),
        ]
    }

    /// Names and values of counters and gauges together, sorted by name.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<_> = self.counters().into_iter().chain(self.gauges()).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_sorted_as_envoy_prints_them() {
        let stats = HostStats::default();
        stats.cx_total.inc();
        stats.rq_active.inc();
        stats.rq_active.inc();
        stats.rq_active.dec();
        let expected = [
            ("cx_active", 0),
            ("cx_connect_fail", 0),
            ("cx_total", 1),
            ("rq_active", 1),
            ("rq_error", 0),
            ("rq_pending_active", 0),
            ("rq_success", 0),
            ("rq_timeout", 0),
            ("rq_total", 0),
        ];
        assert_eq!(stats.all(), expected);
    }

    #[test]
    fn counting_leaves_the_neighbours_alone() {
        assert_eq!(align_of::<HostStats>(), 64);
    }
}
