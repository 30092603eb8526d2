//! [`FeatureFlag`]: a yes or no that the runtime may change.
//!
//! Mirrors Envoy's `source/common/runtime/runtime_protos.h`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{LoaderImpl, RuntimeUser, SnapshotImpl};
use crate::config::core::RuntimeFeatureFlag;

/// As the runtime has it now, or the configuration.
#[derive(Debug)]
pub struct FeatureFlag {
    key: String,
    default: bool,
    value: AtomicBool,
}

impl FeatureFlag {
    /// What the configuration says, until the runtime says something else; without any of both it is yes.
    pub fn new(config: Option<&RuntimeFeatureFlag>, runtime: &LoaderImpl) -> Arc<Self> {
        let default = config.and_then(|config| config.default_value).unwrap_or(true);
        let key = config.map(|config| config.runtime_key.clone()).unwrap_or_default();
        let flag = Arc::new(FeatureFlag { key, default, value: AtomicBool::new(default) });
        if !flag.key.is_empty() {
            runtime.add_user(&flag);
        }
        flag
    }

    /// What it is now.
    pub fn enabled(&self) -> bool {
        self.value.load(Relaxed)
    }
}

impl RuntimeUser for FeatureFlag {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.value.store(snapshot.get_boolean(&self.key, self.default), Relaxed);
    }
}
