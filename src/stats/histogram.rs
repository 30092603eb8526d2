//! [`Histogram`] (Envoy `ThreadLocalHistogramImpl` and `ParentHistogramImpl`).
//!
//! Each shard counts into bins that only its thread writes; the bins of a decade are allocated when a
//! value falls into it. Merging reads all shards and takes the difference to the previous merge as the
//! interval, so that no worker is ever made to wait. Envoy swaps two histograms per thread instead.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::bins::{BINS_PER_DECADE, Bin, DECADES};
use super::shard::add_to;
use super::statistics::HistogramStatistics;

/// What the values of a histogram measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Unspecified,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
}

/// The samples of one bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramBucket {
    /// Where it begins.
    pub lower_bound: f64,
    /// The distance to the next one; zero for that of zero.
    pub width: f64,
    /// How many there are.
    pub count: u64,
}

/// A distribution of recorded values. Clones are handles to the same histogram.
#[derive(Clone)]
pub struct Histogram(Arc<Inner>);

struct Inner {
    name: Box<str>,
    unit: Unit,
    /// How many shards there are to be.
    count: usize,
    /// Made with the first sample.
    shards: OnceLock<Box<[Shard]>>,
    merged: Mutex<Merged>,
}

/// The bins that one thread writes.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    zeros: AtomicU64,
    decades: [OnceLock<Box<Decade>>; DECADES],
}

#[repr(align(128))]
struct Decade([AtomicU64; BINS_PER_DECADE]);

/// The state at the last merge: bins with samples, in order, and their counts.
#[derive(Default)]
struct Merged {
    interval: Vec<(Bin, u64)>,
    cumulative: Vec<(Bin, u64)>,
}

impl Histogram {
    /// With bins for `shards` shards, at least one.
    pub(super) fn new(name: String, unit: Unit, shards: usize) -> Self {
        let (name, count) = (name.into(), shards.max(1));
        Histogram(Arc::new(Inner { name, unit, count, shards: OnceLock::new(), merged: Mutex::default() }))
    }

    /// Adds a sample, to be seen after the next merge.
    #[inline(always)]
    pub fn record(&self, value: u64) {
        let bin = Bin::of(value);
        let shards = self.0.shards.get_or_init(|| (0..self.0.count).map(|_| Shard::default()).collect());
        add_to(shards, 1, |shard| shard.cell(bin));
    }

    /// Makes the samples recorded so far visible: those since the last merge as the interval, all of
    /// them as cumulative.
    pub fn merge(&self) {
        let cumulative = self.totals();
        let mut merged = self.merged();
        merged.interval = difference(&cumulative, &merged.cumulative);
        merged.cumulative = cumulative;
    }

    /// Whether the last merge had seen any sample since the start.
    pub fn used(&self) -> bool {
        !self.merged().cumulative.is_empty()
    }

    /// Statistics of the samples between the last two merges.
    pub fn interval(&self) -> HistogramStatistics {
        HistogramStatistics::new(&self.merged().interval)
    }

    /// Statistics of all samples up to the last merge.
    pub fn cumulative(&self) -> HistogramStatistics {
        HistogramStatistics::new(&self.merged().cumulative)
    }

    /// The bins that have samples of the time between the last two merges.
    pub fn interval_buckets(&self) -> Vec<HistogramBucket> {
        buckets(&self.merged().interval)
    }

    /// The bins that have samples.
    pub fn cumulative_buckets(&self) -> Vec<HistogramBucket> {
        buckets(&self.merged().cumulative)
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the values measure.
    pub fn unit(&self) -> Unit {
        self.0.unit
    }

    fn merged(&self) -> MutexGuard<'_, Merged> {
        self.0.merged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All bins that have samples in any shard.
    fn totals(&self) -> Vec<(Bin, u64)> {
        let Some(all) = self.0.shards.get() else { return Vec::new() };
        let zeros = all.iter().map(|shard| shard.zeros.load(Relaxed)).sum();
        let mut totals = vec![(Bin::Zero, zeros)];
        for decade in 0..DECADES {
            let shards: Vec<&Decade> =
                all.iter().filter_map(|shard| shard.decades[decade].get().map(Box::as_ref)).collect();
            if shards.is_empty() {
                continue;
            }
            totals.extend((0..BINS_PER_DECADE).map(|step| {
                let count = shards.iter().map(|decade| decade.0[step].load(Relaxed)).sum();
                (Bin::Step { decade: decade as u8, step: step as u8 }, count)
            }));
        }
        totals.retain(|(_, count)| *count > 0);
        totals
    }
}

fn buckets(bins: &[(Bin, u64)]) -> Vec<HistogramBucket> {
    let bucket = |(bin, count): &(Bin, u64)| HistogramBucket {
        lower_bound: bin.left(),
        width: bin.width(),
        count: *count,
    };
    bins.iter().map(bucket).collect()
}

impl Shard {
    #[inline]
    fn cell(&self, bin: Bin) -> &AtomicU64 {
        match bin {
            Bin::Zero => &self.zeros,
            Bin::Step { decade, step } => {
                let decade = self.decades[usize::from(decade)].get_or_init(new_decade);
                &decade.0[usize::from(step)]
            }
        }
    }
}

#[cold]
fn new_decade() -> Box<Decade> {
    Box::new(Decade([const { AtomicU64::new(0) }; BINS_PER_DECADE]))
}

/// `new` less `old`, where every bin of `old` is also in `new`; both sorted.
fn difference(new: &[(Bin, u64)], old: &[(Bin, u64)]) -> Vec<(Bin, u64)> {
    let mut old = old.iter().peekable();
    let mut result = Vec::new();
    for (bin, count) in new {
        let before = old.next_if(|(old_bin, _)| old_bin == bin).map_or(0, |(_, count)| *count);
        if count - before > 0 {
            result.push((*bin, count - before));
        }
    }
    result
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::super::register_thread;
    use super::*;

    fn histogram(shards: usize) -> Histogram {
        Histogram::new("h".into(), Unit::Milliseconds, shards)
    }

    #[test]
    fn samples_show_after_a_merge() {
        let histogram = histogram(1);
        histogram.record(7);
        assert!(!histogram.used());
        assert_eq!(histogram.cumulative().count, 0);
        histogram.merge();
        assert!(histogram.used());
        assert_eq!((histogram.interval().count, histogram.cumulative().count), (1, 1));
    }

    #[test]
    fn the_interval_has_what_came_since_the_previous_merge() {
        let histogram = histogram(1);
        [0, 5, 1000].iter().for_each(|v| histogram.record(*v));
        histogram.merge();
        [5, 60].iter().for_each(|v| histogram.record(*v));
        histogram.merge();
        let merged = histogram.merged();
        assert_eq!(merged.interval, [(Bin::of(5), 1), (Bin::of(60), 1)]);
        assert_eq!(
            merged.cumulative,
            [(Bin::Zero, 1), (Bin::of(5), 2), (Bin::of(60), 1), (Bin::of(1000), 1)]
        );
        drop(merged);
        histogram.merge();
        assert_eq!((histogram.interval().count, histogram.used()), (0, true));
    }

    #[test]
    fn threads_are_merged() {
        let histogram = histogram(3);
        std::thread::scope(|scope| {
            for shard in [0, 0, 1, 2] {
                let histogram = histogram.clone();
                scope.spawn(move || {
                    register_thread(shard);
                    (0..1000).for_each(|v| histogram.record(v));
                });
            }
        });
        histogram.merge();
        assert_eq!(histogram.cumulative().count, 4000);
        assert_eq!(histogram.merged().cumulative[0], (Bin::Zero, 4));
    }
}
