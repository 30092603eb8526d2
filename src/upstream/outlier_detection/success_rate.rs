//! How much of what a host was asked for went well.
//!
//! Mirrors `SuccessRateAccumulator` and `SuccessRateMonitor` of Envoy's `source/common/upstream/outlier_detection_impl.cc`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuccessRateMonitorType {
    /// The answers of hosts; without a difference between origins, all that goes wrong.
    ExternalOrigin,
    /// Whether there is an answer at all.
    LocalOrigin,
}

/// An average and what is too far below it; -1 for what is not known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EjectionPair {
    /// Percent.
    pub success_rate_average: f64,
    /// Percent.
    pub ejection_threshold: f64,
}

impl EjectionPair {
    /// Not known.
    pub const NONE: EjectionPair = EjectionPair { success_rate_average: -1.0, ejection_threshold: -1.0 };

    /// Of these success rates: the mean, less so many standard deviations.
    pub(super) fn of(rates: &[f64], stdev_factor: f64) -> Self {
        let count = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / count;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
        EjectionPair { success_rate_average: mean, ejection_threshold: mean - stdev_factor * variance.sqrt() }
    }
}

/// The requests of an interval.
#[derive(Default)]
struct Bucket {
    total: AtomicU64,
    success: AtomicU64,
}

/// The requests of the interval that runs, in which all threads count, and of the one before, which the main thread looks at.
pub(super) struct SuccessRateMonitor {
    buckets: [Bucket; 2],
    current: AtomicUsize,
    /// The bits of what `/clusters` shows; -1 where there were too few requests.
    success_rate: AtomicU64,
}

impl SuccessRateMonitor {
    pub(super) fn new() -> Self {
        SuccessRateMonitor {
            buckets: Default::default(),
            current: AtomicUsize::new(0),
            success_rate: AtomicU64::new((-1.0_f64).to_bits()),
        }
    }

    fn current(&self) -> &Bucket {
        &self.buckets[self.current.load(Relaxed) & 1]
    }

    /// There was a request.
    #[inline]
    pub(super) fn inc_total(&self) {
        self.current().total.fetch_add(1, Relaxed);
    }

    /// It went well.
    #[inline]
    pub(super) fn inc_success(&self) {
        self.current().success.fetch_add(1, Relaxed);
    }

    /// The interval is over.
    pub(super) fn update_current_bucket(&self) {
        let next = self.current.load(Relaxed) ^ 1;
        self.buckets[next & 1].success.store(0, Relaxed);
        self.buckets[next & 1].total.store(0, Relaxed);
        self.current.store(next, Relaxed);
    }

    /// Percent, and of how many requests, in the last interval; `None` where there were none.
    pub(super) fn rate_and_volume(&self) -> Option<(f64, u64)> {
        let last = &self.buckets[(self.current.load(Relaxed) ^ 1) & 1];
        let (total, success) = (last.total.load(Relaxed), last.success.load(Relaxed));
        (total > 0).then(|| (success as f64 * 100.0 / total as f64, total))
    }

    pub(super) fn success_rate(&self) -> f64 {
        f64::from_bits(self.success_rate.load(Relaxed))
    }

    pub(super) fn set_success_rate(&self, rate: f64) {
        self.success_rate.store(rate.to_bits(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_so_many_deviations_below_the_average() {
        let pair = EjectionPair::of(&[50.0, 100.0, 100.0, 100.0, 100.0], 1.9);
        assert_eq!((pair.success_rate_average, pair.ejection_threshold), (90.0, 52.0));
        let pair = EjectionPair::of(&[100.0; 5], 1.9);
        assert_eq!((pair.success_rate_average, pair.ejection_threshold), (100.0, 100.0));
    }

    #[test]
    fn an_interval_is_looked_at_when_it_is_over() {
        let monitor = SuccessRateMonitor::new();
        assert_eq!((monitor.rate_and_volume(), monitor.success_rate()), (None, -1.0));
        (0..4).for_each(|_| monitor.inc_total());
        monitor.inc_success();
        assert_eq!(monitor.rate_and_volume(), None);
        monitor.update_current_bucket();
        monitor.inc_total();
        assert_eq!(monitor.rate_and_volume(), Some((25.0, 4)));
        monitor.update_current_bucket();
        assert_eq!(monitor.rate_and_volume(), Some((0.0, 1)));
        monitor.update_current_bucket();
        assert_eq!(monitor.rate_and_volume(), None);
    }
}
