//! Which of a metric's cells a thread writes, so that counting needs no lock and no locked instruction. No Envoy
//! counterpart: there all threads share one atomic per metric.
//!
//! A worker has a shard of its own. Shard 0 belongs to all threads that have not registered (the main thread,
//! helpers); only there is an atomic addition needed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The shard shared by all unregistered threads.
pub(super) const SHARED: usize = 0;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(SHARED) };
}

/// Gives the calling thread the shard `index` (1 to the thread count of the [`super::Store`]) for the
/// rest of its life. Two live threads must not register the same index: they would lose counts.
pub fn register_thread(index: usize) {
    SHARD.set(index);
}

/// The shard of the calling thread; 0 if it has not registered.
#[inline]
pub fn current_shard() -> usize {
    SHARD.get()
}

/// Whether the calling thread is none of the workers: the main thread, or a helper.
pub fn is_shared_shard() -> bool {
    current_shard() == SHARED
}

/// Adds to a cell of the calling thread's element of `shards`: a plain load and store if the element
/// is its own, an atomic addition if it is the shared one.
#[inline(always)]
pub(super) fn add_to<S>(shards: &[S], amount: u64, cell: impl Fn(&S) -> &AtomicU64) {
    let shard = current_shard();
    match shards.get(shard) {
        Some(own) if shard != SHARED => {
            let cell = cell(own);
            cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
        }
        _ => {
            cell(&shards[SHARED]).fetch_add(amount, Relaxed);
        }
    }
}
