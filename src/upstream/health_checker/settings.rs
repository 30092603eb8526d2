//! What runtime says to a checker. In Envoy each check asks the runtime; here the runtime tells when it has something else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::runtime::{Denominator, FractionalPercent, RuntimeUser, SnapshotImpl};

/// The numbers of now.
pub(super) struct HealthCheckerSettings {
    min_interval: AtomicU64,
    max_interval: AtomicU64,
    /// So many of so many, the first in the upper half.
    verify_cluster: AtomicU64,
}

impl HealthCheckerSettings {
    pub(super) fn new() -> Self {
        HealthCheckerSettings {
            min_interval: AtomicU64::new(0),
            max_interval: AtomicU64::new(u64::MAX),
            verify_cluster: AtomicU64::new(100 << 32 | 100),
        }
    }

    /// An interval within its limits, and at least a millisecond, or else checks would go on without a pause.
    pub(super) fn within_limits(&self, milliseconds: u64) -> Duration {
        let most = milliseconds.min(self.max_interval.load(Relaxed));
        Duration::from_millis(most.max(self.min_interval.load(Relaxed)).max(1))
    }

    /// Whether a host has to say who it is, this time.
    pub(super) fn verifies_cluster(&self, random: u64) -> bool {
        let share = self.verify_cluster.load(Relaxed);
        random % (share & u64::from(u32::MAX)) < share >> 32
    }
}

impl RuntimeUser for HealthCheckerSettings {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.min_interval.store(snapshot.get_integer("health_check.min_interval", 0), Relaxed);
        self.max_interval.store(snapshot.get_integer("health_check.max_interval", u64::MAX), Relaxed);
        let all = FractionalPercent { numerator: 100, denominator: Denominator::Hundred };
        let share = snapshot.get_percent("health_check.verify_cluster", all);
        let packed = u64::from(share.numerator) << 32 | share.denominator as u64;
        self.verify_cluster.store(packed, Relaxed);
    }
}
