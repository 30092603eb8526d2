//! [`RuntimeInteger`]: a number that the runtime may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{LoaderImpl, RuntimeUser, SnapshotImpl};

/// As the runtime has it now, or the default.
#[derive(Debug)]
pub struct RuntimeInteger {
    key: &'static str,
    default: u64,
    value: AtomicU64,
}

impl RuntimeInteger {
    /// The default, until the runtime says something else; without a runtime it never does.
    pub fn new(key: &'static str, default: u64, runtime: Option<&LoaderImpl>) -> Arc<Self> {
        let integer = Arc::new(RuntimeInteger { key, default, value: AtomicU64::new(default) });
        if let Some(runtime) = runtime {
            runtime.add_user(&integer);
        }
        integer
    }

    /// What it is now.
    pub fn value(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

impl RuntimeUser for RuntimeInteger {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.value.store(snapshot.get_integer(self.key, self.default), Relaxed);
    }
}
