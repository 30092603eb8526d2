//! [`Counter`] and [`Gauge`] (Envoy `source/common/stats/allocator_impl.*`).
//!
//! A handle is 16 bytes. Who has many metrics of one block has the block alone ([`stats_block!`](crate::stats_block)), and makes
//! a [`CounterRef`] or a [`GaugeRef`] of a place in it when it counts.

use std::fmt;
use std::sync::Arc;

use super::block::Block;

/// A number that only grows, until it is reset. Clones are handles to the same counter.
#[derive(Clone)]
pub struct Counter {
    block: Arc<Block>,
    index: u32,
    cell: u32,
}

/// A counter, for a moment.
#[derive(Clone, Copy)]
pub struct CounterRef<'a> {
    block: &'a Arc<Block>,
    index: u32,
    cell: u32,
}

impl<'a> CounterRef<'a> {
    #[inline]
    pub(super) fn new(block: &'a Arc<Block>, index: usize, cell: usize) -> Self {
        CounterRef { block, index: index as u32, cell: cell as u32 }
    }

    /// A handle to keep.
    pub fn handle(self) -> Counter {
        Counter { block: self.block.clone(), index: self.index, cell: self.cell }
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.block.count(self.cell as usize, 1);
    }

    /// Adds `amount`, wrapping at 64 bits.
    #[inline(always)]
    pub fn add(self, amount: u64) {
        if amount == 0 {
            self.block.touch(self.index as usize);
            return;
        }
        self.block.count(self.cell as usize, amount);
    }

    /// The value since the last reset.
    pub fn value(self) -> u64 {
        self.sum().wrapping_sub(self.block.baseline(self.index as usize))
    }

    /// Whether it was ever added to.
    pub fn used(self) -> bool {
        self.sum() != 0 || self.block.is_touched(self.index as usize)
    }

    /// The full name.
    pub fn name(self) -> String {
        self.block.name(self.index as usize)
    }

    fn sum(self) -> u64 {
        self.block.sum(self.cell as usize)
    }
}

impl Counter {
    pub(super) fn new(block: Arc<Block>, index: usize) -> Self {
        let cell = block.cell_of(index) as u32;
        Counter { block, index: index as u32, cell }
    }

    /// The counter, for a moment.
    #[inline]
    pub fn by_ref(&self) -> CounterRef<'_> {
        CounterRef { block: &self.block, index: self.index, cell: self.cell }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.by_ref().inc();
    }

    /// Adds `amount`, wrapping at 64 bits.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.by_ref().add(amount);
    }

    /// The value since the last reset.
    pub fn value(&self) -> u64 {
        self.by_ref().value()
    }

    /// Sets the value to zero. It stays used, and the next [`Counter::latch`] is not affected.
    pub fn reset(&self) {
        let sum = self.by_ref().sum();
        if sum != self.block.baseline(self.index as usize) {
            self.block.set_baseline(self.index as usize, sum);
        }
    }

    /// What was added since the last call; for stat sinks. To be called by one thread only.
    pub fn latch(&self) -> u64 {
        let sum = self.by_ref().sum();
        sum.wrapping_sub(self.block.latch(self.index as usize, sum))
    }

    /// Whether it was ever added to.
    pub fn used(&self) -> bool {
        self.by_ref().used()
    }

    /// The full name.
    pub fn name(&self) -> String {
        self.by_ref().name()
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.value())
    }
}

/// A number that goes up and down. Clones are handles to the same gauge. It may be raised on one thread
/// and lowered on another.
#[derive(Clone)]
pub struct Gauge {
    block: Arc<Block>,
    index: u32,
    cell: u32,
}

/// A gauge, for a moment.
#[derive(Clone, Copy)]
pub struct GaugeRef<'a> {
    block: &'a Arc<Block>,
    index: u32,
    cell: u32,
}

impl<'a> GaugeRef<'a> {
    #[inline]
    pub(super) fn new(block: &'a Arc<Block>, index: usize, cell: usize) -> Self {
        GaugeRef { block, index: index as u32, cell: cell as u32 }
    }

    /// A handle to keep.
    pub fn handle(self) -> Gauge {
        Gauge { block: self.block.clone(), index: self.index, cell: self.cell }
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(self) {
        self.sub(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(self, amount: u64) {
        self.block.count_and_mark(self.cell as usize, amount);
    }

    /// Subtracts `amount`. The caller must have added as much before, on whatever thread.
    #[inline]
    pub fn sub(self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// Sets the value. Only for gauges that a single thread writes: a concurrent change by another
    /// thread may be lost.
    pub fn set(self, value: u64) {
        self.block.store(self.cell as usize + 1, 1);
        let others = self.block.sum_of_others(self.cell as usize);
        self.block.store(self.cell as usize, value.wrapping_sub(others));
    }

    /// The current value.
    pub fn value(self) -> u64 {
        self.block.sum(self.cell as usize)
    }

    /// The full name.
    pub fn name(self) -> String {
        self.block.name(self.index as usize)
    }
}

impl Gauge {
    pub(super) fn new(block: Arc<Block>, index: usize) -> Self {
        let cell = block.cell_of(index) as u32;
        Gauge { block, index: index as u32, cell }
    }

    /// The gauge, for a moment.
    #[inline]
    pub fn by_ref(&self) -> GaugeRef<'_> {
        GaugeRef { block: &self.block, index: self.index, cell: self.cell }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.by_ref().inc();
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.by_ref().dec();
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.by_ref().add(amount);
    }

    /// Subtracts `amount`. The caller must have added as much before, on whatever thread.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.by_ref().sub(amount);
    }

    /// Sets the value. Only for gauges that a single thread writes: a concurrent change by another
    /// thread may be lost.
    pub fn set(&self, value: u64) {
        self.by_ref().set(value);
    }

    /// The current value.
    pub fn value(&self) -> u64 {
        self.by_ref().value()
    }

    /// Whether it was ever written.
    pub fn used(&self) -> bool {
        self.block.sum(self.cell as usize + 1) != 0
    }

    /// The full name.
    pub fn name(&self) -> String {
        self.by_ref().name()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Store, register_thread};

    #[test]
    fn a_counter_counts_and_resets() {
        let scope = Store::new(2).root_scope();
        let counter = scope.counter("c");
        assert!(!counter.used());
        counter.inc();
        counter.clone().add(41);
        assert_eq!((counter.value(), counter.used(), counter.name()), (42, true, "c".to_string()));
        counter.reset();
        assert_eq!((counter.value(), counter.used()), (0, true));
        counter.inc();
        assert_eq!(counter.value(), 1);
    }

    #[test]
    fn adding_zero_makes_a_counter_used() {
        let counter = Store::new(1).root_scope().counter("c");
        counter.add(0);
        assert_eq!((counter.value(), counter.used()), (0, true));
    }

    #[test]
    fn latch_gives_the_difference_and_ignores_resets() {
        let counter = Store::new(1).root_scope().counter("c");
        counter.add(5);
        assert_eq!(counter.latch(), 5);
        counter.add(2);
        counter.reset();
        assert_eq!((counter.latch(), counter.latch()), (2, 0));
    }

    #[test]
    fn a_counter_sums_its_threads() {
        let counter = Store::new(2).root_scope().counter("c");
        std::thread::scope(|scope| {
            for shard in 0..=2 {
                let counter = counter.clone();
                scope.spawn(move || {
                    register_thread(shard);
                    (0..1000).for_each(|_| counter.inc());
                });
            }
        });
        assert_eq!(counter.value(), 3000);
    }

    #[test]
    fn a_gauge_rises_on_one_thread_and_falls_on_another() {
        let gauge = Store::new(2).root_scope().gauge("g");
        assert!(!gauge.used());
        let other = gauge.clone();
        gauge.add(3);
        let raised = std::thread::spawn(move || {
            register_thread(1);
            other.dec();
            other.sub(2);
            other.inc();
            other.value()
        });
        assert_eq!(raised.join().unwrap(), 1);
        gauge.dec();
        assert_eq!((gauge.value(), gauge.used()), (0, true));
    }

    #[test]
    fn a_set_gauge_has_that_value_whatever_the_shards_hold() {
        let gauge = Store::new(1).root_scope().gauge("g");
        gauge.add(10);
        let other = gauge.clone();
        let set = std::thread::spawn(move || {
            register_thread(1);
            other.set(3);
        });
        set.join().unwrap();
        assert_eq!(gauge.value(), 3);
        gauge.set(u64::MAX);
        assert_eq!(gauge.value(), u64::MAX);
        gauge.set(0);
        assert_eq!((gauge.value(), gauge.used()), (0, true));
    }
}
