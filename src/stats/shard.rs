//! Cells of metrics, one per thread and metric, so that counting needs no lock and no locked
//! instruction. No Envoy counterpart: there all threads share one atomic per metric.
//!
//! A metric owns the same cell index in the block of every shard. A block is only written by the
//! thread of its shard, and is aligned so that two shards never share a cache line. Shard 0 belongs to
//! all threads that have not registered (the main thread, helpers); only there is an atomic addition
//! needed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cells in a block: 4 KiB per shard, allocated when the previous block is full.
const BLOCK_CELLS: usize = 512;

/// The shard shared by all unregistered threads.
const SHARED: usize = 0;

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

/// 128 rather than 64: x86 prefetches cache lines in pairs.
#[repr(align(128))]
struct Block([AtomicU64; BLOCK_CELLS]);

/// One cell per shard at the same index of each block.
#[derive(Clone)]
pub(super) struct Cells {
    blocks: Arc<[Block]>,
    index: usize,
}

impl Cells {
    /// Adds to the calling thread's cell, wrapping.
    #[inline]
    pub(super) fn add(&self, amount: u64) {
        add_to(&self.blocks, amount, |block| self.of(block));
    }

    /// Stores into the calling thread's cell.
    #[inline]
    pub(super) fn store(&self, value: u64) {
        let shard = current_shard();
        let block = self.blocks.get(shard).unwrap_or(&self.blocks[SHARED]);
        self.of(block).store(value, Relaxed);
    }

    /// The sum of all shards, wrapping.
    pub(super) fn sum(&self) -> u64 {
        self.blocks.iter().fold(0, |sum, block| sum.wrapping_add(self.of(block).load(Relaxed)))
    }

    /// The sum of all shards but the one that [`Cells::store`] would write.
    pub(super) fn sum_of_others(&self) -> u64 {
        let shard = current_shard();
        let own = self.blocks.get(shard).unwrap_or(&self.blocks[SHARED]);
        self.sum().wrapping_sub(self.of(own).load(Relaxed))
    }

    #[inline]
    fn of<'a>(&self, block: &'a Block) -> &'a AtomicU64 {
        // The mask only spares the bounds check: the index is always below BLOCK_CELLS.
        &block.0[self.index % BLOCK_CELLS]
    }
}

/// Adds to a cell of the calling thread's element of `shards`: a plain load and store if the element
/// is its own, an atomic addition if it is the shared one.
#[inline]
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

/// Hands out [`Cells`] for a fixed number of shards.
pub(super) struct Allocator {
    shards: usize,
    blocks: Arc<[Block]>,
    next: usize,
}

impl Allocator {
    /// For `shards` shards, at least one.
    pub(super) fn new(shards: usize) -> Self {
        let shards = shards.max(1);
        Allocator { shards, blocks: new_blocks(shards), next: 0 }
    }

    /// A fresh set of cells, all zero.
    pub(super) fn allocate(&mut self) -> Cells {
        if self.next == BLOCK_CELLS {
            self.blocks = new_blocks(self.shards);
            self.next = 0;
        }
        let index = self.next;
        self.next += 1;
        Cells { blocks: self.blocks.clone(), index }
    }
}

fn new_blocks(shards: usize) -> Arc<[Block]> {
    (0..shards).map(|_| Block([const { AtomicU64::new(0) }; BLOCK_CELLS])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn blocks_of_two_shards_share_no_cache_line() {
        let mut allocator = Allocator::new(3);
        let cells = allocator.allocate();
        assert_eq!(align_of::<Block>(), 128);
        let addresses: Vec<usize> = cells.blocks.iter().map(|b| cells.of(b) as *const _ as usize).collect();
        assert_eq!(addresses[1] - addresses[0], BLOCK_CELLS * 8);
    }

    #[test]
    fn a_full_block_is_followed_by_a_new_one() {
        let mut allocator = Allocator::new(2);
        let all: Vec<Cells> = (0..BLOCK_CELLS * 2 + 1).map(|_| allocator.allocate()).collect();
        for (i, cells) in all.iter().enumerate() {
            cells.add(i as u64);
        }
        for (i, cells) in all.iter().enumerate() {
            assert_eq!(cells.sum(), i as u64);
        }
    }

    #[test]
    fn each_registered_thread_has_a_cell_and_the_rest_share_one() {
        let cells = Allocator::new(3).allocate();
        std::thread::scope(|scope| {
            for shard in [0, 1, 2, 99] {
                let cells = &cells;
                scope.spawn(move || {
                    register_thread(shard);
                    assert_eq!(current_shard(), shard);
                    (0..1000).for_each(|_| cells.add(1));
                });
            }
        });
        let per_shard: Vec<u64> = cells.blocks.iter().map(|b| cells.of(b).load(Relaxed)).collect();
        assert_eq!(per_shard, [2000, 1000, 1000]);
        assert_eq!(cells.sum(), 4000);
    }

    #[test]
    fn threads_that_share_a_shard_lose_nothing() {
        let cells = Allocator::new(1).allocate();
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    (0..1_000_000).for_each(|_| cells.add(1));
                });
            }
        });
        assert_eq!(cells.sum(), 2_000_000);
    }
}
