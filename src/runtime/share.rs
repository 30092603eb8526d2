//! [`RuntimeShare`]: a share of requests that the runtime may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{FractionalPercent, LoaderImpl, RuntimeUser, SnapshotImpl};
use crate::config::core;

/// As the runtime has it now, or the configuration.
#[derive(Debug)]
pub struct RuntimeShare {
    key: String,
    default: FractionalPercent,
    /// So many of so many, the first in the upper half.
    value: AtomicU64,
}

impl RuntimeShare {
    /// What the configuration says, until the runtime says something else; without a key it never does.
    pub fn new(key: &str, default: core::FractionalPercent, runtime: Option<&LoaderImpl>) -> Arc<Self> {
        let default = FractionalPercent::from(default);
        let share =
            Arc::new(RuntimeShare { key: key.to_string(), default, value: AtomicU64::new(packed(default)) });
        if let Some(runtime) = runtime.filter(|_| !key.is_empty()) {
            runtime.add_user(&share);
        }
        share
    }

    /// Whether what has this number is in the share.
    pub fn is_in(&self, random: u64) -> bool {
        let value = self.value.load(Relaxed);
        random % (value & u64::from(u32::MAX)) < value >> 32
    }
}

fn packed(share: FractionalPercent) -> u64 {
    (u64::from(share.numerator) << 32) | share.denominator as u64
}

impl RuntimeUser for RuntimeShare {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.value.store(packed(snapshot.get_percent(&self.key, self.default)), Relaxed);
    }
}
