//! [`Counter`] and [`Gauge`] (Envoy `source/common/stats/allocator_impl.*`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::shard::Cells;

/// A number that only grows, until it is reset. Clones are handles to the same counter.
#[derive(Clone)]
pub struct Counter {
    cells: Cells,
    meta: Arc<CounterMeta>,
}

struct CounterMeta {
    name: Arc<str>,
    /// The sum of the cells at the last reset. The cells are only ever written by their own threads,
    /// so a reset cannot clear them.
    baseline: AtomicU64,
    /// The sum of the cells at the last latch.
    latched: AtomicU64,
    /// Set by an addition of zero, which leaves no trace in the cells.
    touched: AtomicBool,
}

impl Counter {
    pub(super) fn new(name: Arc<str>, cells: Cells) -> Self {
        let meta = CounterMeta {
            name,
            baseline: AtomicU64::new(0),
            latched: AtomicU64::new(0),
            touched: AtomicBool::new(false),
        };
        Counter { cells, meta: Arc::new(meta) }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.cells.add(1);
    }

    /// Adds `amount`, wrapping at 64 bits.
    #[inline]
    pub fn add(&self, amount: u64) {
        if amount == 0 {
            self.meta.touched.store(true, Relaxed);
            return;
        }
        self.cells.add(amount);
    }

    /// The value since the last reset.
    pub fn value(&self) -> u64 {
        self.cells.sum().wrapping_sub(self.meta.baseline.load(Relaxed))
    }

    /// Sets the value to zero. It stays used, and the next [`Counter::latch`] is not affected.
    pub fn reset(&self) {
        self.meta.baseline.store(self.cells.sum(), Relaxed);
    }

    /// What was added since the last call; for stat sinks. To be called by one thread only.
    pub fn latch(&self) -> u64 {
        let sum = self.cells.sum();
        sum.wrapping_sub(self.meta.latched.swap(sum, Relaxed))
    }

    /// Whether it was ever added to.
    pub fn used(&self) -> bool {
        self.cells.sum() != 0 || self.meta.touched.load(Relaxed)
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.meta.name
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
    cells: Cells,
    /// Non-zero in a shard that has written the gauge: the value alone cannot tell, as it may be back
    /// at zero. Allocated next to `cells`, so it is on the same cache line more often than not.
    used: Cells,
    name: Arc<str>,
}

impl Gauge {
    pub(super) fn new(name: Arc<str>, cells: Cells, used: Cells) -> Self {
        Gauge { cells, used, name }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.sub(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.used.store(1);
        self.cells.add(amount);
    }

    /// Subtracts `amount`. The caller must have added as much before, on whatever thread.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// Sets the value. Only for gauges that a single thread writes: a concurrent change by another
    /// thread may be lost.
    pub fn set(&self, value: u64) {
        self.used.store(1);
        self.cells.store(value.wrapping_sub(self.cells.sum_of_others()));
    }

    /// The current value.
    pub fn value(&self) -> u64 {
        self.cells.sum()
    }

    /// Whether it was ever written.
    pub fn used(&self) -> bool {
        self.used.sum() != 0
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.name
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
        let handle = counter.clone();
        handle.add(41);
        drop(handle);
        assert_eq!((counter.value(), counter.used(), counter.name()), (42, true, "c"));
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
