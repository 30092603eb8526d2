//! [`PrimitiveCells`]: numbers without a name (what Envoy 1.40's `PrimitiveCounter` and `PrimitiveGauge` are there for).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shard::{SHARED, current_shard};

/// Some numbers, each the sum of a cell of every thread. A thread's cells are made when it first counts: of thousands of
/// hosts most workers use a few. They share no cache line with another thread's.
pub struct PrimitiveCells<const N: usize>(Box<[OnceLock<Box<Row<N>>>]>);

#[repr(align(128))]
struct Row<const N: usize>([AtomicU64; N]);

impl<const N: usize> PrimitiveCells<N> {
    /// All zero, for as many shards as the [`Store`](super::Store) has.
    pub fn new(shards: usize) -> Self {
        PrimitiveCells((0..shards.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// Adds to one of them, wrapping.
    #[inline]
    pub fn add(&self, cell: usize, amount: u64) {
        let shard = current_shard();
        let shard = if shard < self.0.len() { shard } else { SHARED };
        let row = self.0[shard].get_or_init(|| Box::new(Row([const { AtomicU64::new(0) }; N])));
        let cell = &row.0[cell];
        if shard == SHARED {
            cell.fetch_add(amount, Relaxed);
        } else {
            cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
        }
    }

    /// One of them.
    pub fn sum(&self, cell: usize) -> u64 {
        let rows = self.0.iter().filter_map(OnceLock::get);
        rows.fold(0, |sum, row| sum.wrapping_add(row.0[cell].load(Relaxed)))
    }
}
