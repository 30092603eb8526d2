//! [`PrimitiveCells`]: numbers without a name (what Envoy 1.40's `PrimitiveCounter` and `PrimitiveGauge` are there for).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shard::add_to;

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
        let row = || Box::new(Row([const { AtomicU64::new(0) }; N]));
        add_to(&self.0, amount, |cells| &cells.get_or_init(row).0[cell]);
    }

    /// One of them.
    pub fn sum(&self, cell: usize) -> u64 {
        let rows = self.0.iter().filter_map(OnceLock::get);
        rows.fold(0, |sum, row| sum.wrapping_add(row.0[cell].load(Relaxed)))
    }
}
