//! What other threads see of a loop: whether it is at work, and for how long in the same pass.
//!
//! Stands where Envoy's dispatcher touches its watchdog with a timer and from callbacks
//! (`source/server/watchdog_impl.cc`). Here the loop notes where each pass begins and ends, which is a store to
//! memory that nobody else writes: an idle loop is not woken, and no clock is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A loop's pulse. Clones are of the same loop.
#[derive(Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The pass in which the loop is at work; `None` while it waits in the kernel or does not run.
    pub fn busy_with(&self) -> Option<u64> {
        let now = self.0.load(Ordering::Relaxed);
        (now % 2 == 1).then_some(now)
    }

    /// The loop has something to do. Only its own thread may say so.
    #[inline]
    pub(crate) fn begin_pass(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// The loop has done everything. Only its own thread may say so.
    #[inline]
    pub(crate) fn end_pass(&self) {
        self.0.store((self.0.load(Ordering::Relaxed) | 1) + 1, Ordering::Relaxed);
    }
}
