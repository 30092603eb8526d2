//! [`IntegerOverride`] and [`PercentOverride`]: what the runtime has under a key, in place of another value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Denominator, FractionalPercent, LoaderImpl, RuntimeUser, SnapshotImpl};

/// A whole number, if the runtime has one.
#[derive(Debug)]
pub struct IntegerOverride {
    key: String,
    value: AtomicU64,
}

/// Stands for none; a number that large is as good as none.
const NONE: u64 = u64::MAX;

impl IntegerOverride {
    /// What is under `key`, now and later; without a runtime nothing ever is.
    pub fn new(key: &str, runtime: Option<&LoaderImpl>) -> Arc<Self> {
        let number = Arc::new(IntegerOverride { key: key.to_string(), value: AtomicU64::new(NONE) });
        if let Some(runtime) = runtime {
            runtime.add_user(&number);
        }
        number
    }

    /// The runtime's, or this one.
    pub fn get(&self, default: u64) -> u64 {
        match self.value.load(Relaxed) {
            NONE => default,
            value => value,
        }
    }
}

impl RuntimeUser for IntegerOverride {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.value.store(snapshot.get_integer(&self.key, NONE), Relaxed);
    }
}

/// A share, if the runtime has one.
#[derive(Debug)]
pub struct PercentOverride {
    key: String,
    /// So many of so many, the first in the upper half; of nothing where there is none.
    value: AtomicU64,
}

impl PercentOverride {
    /// What is under `key`, now and later.
    pub fn new(key: &str, runtime: &LoaderImpl) -> Arc<Self> {
        let share = Arc::new(PercentOverride { key: key.to_string(), value: AtomicU64::new(0) });
        runtime.add_user(&share);
        share
    }

    /// The runtime's, or this one.
    pub fn get(&self, default: FractionalPercent) -> FractionalPercent {
        let value = self.value.load(Relaxed);
        let denominator = match value as u32 {
            0 => return default,
            100 => Denominator::Hundred,
            10_000 => Denominator::TenThousand,
            _ => Denominator::Million,
        };
        FractionalPercent { numerator: (value >> 32) as u32, denominator }
    }
}

impl RuntimeUser for PercentOverride {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        let share = snapshot.find_percent(&self.key);
        let packed = share.map_or(0, |share| (u64::from(share.numerator) << 32) | share.denominator as u64);
        self.value.store(packed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::OverrideLayer;
    use crate::stats::Store;
    use serde_json::json;

    #[test]
    fn the_runtime_has_the_last_word() {
        let runtime = LoaderImpl::empty(&Store::new(1));
        let number = IntegerOverride::new("number", Some(&runtime));
        let share = PercentOverride::new("share", &runtime);
        let half = FractionalPercent { numerator: 1, denominator: Denominator::TenThousand };
        assert_eq!((number.get(5), share.get(half)), (5, half));
        let values = json!({ "number": 0, "share": {"numerator": 7, "denominator": "MILLION"} });
        let layer = OverrideLayer::of_static("a", values.as_object().unwrap());
        let snapshot = SnapshotImpl::new(vec![layer]);
        number.on_new_snapshot(&snapshot);
        share.on_new_snapshot(&snapshot);
        let seven = FractionalPercent { numerator: 7, denominator: Denominator::Million };
        assert_eq!((number.get(5), share.get(half)), (0, seven));
        let values = json!({ "share": 0 });
        let layer = OverrideLayer::of_static("a", values.as_object().unwrap());
        share.on_new_snapshot(&SnapshotImpl::new(vec![layer]));
        assert_eq!(share.get(half).numerator, 0, "nothing is a share, too");
        number.on_new_snapshot(&SnapshotImpl::default());
        share.on_new_snapshot(&SnapshotImpl::default());
        assert_eq!((number.get(5), share.get(half)), (5, half));
    }
}
