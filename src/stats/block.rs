//! [`Block`]: the metrics that were made together in a scope.
//!
//! Envoy makes each metric by itself, with a name of its own. Here what a `stats_struct!` lists is one allocation: a
//! prefix, a list of names that stands in the program once, and cells. A name is put together when somebody
//! asks. The metrics that are made one by one in a scope share blocks of [`DYNAMIC`] names.
//!
//! Each thread has a row of cells of its own, so that a worker counts with a plain load and store; see
//! [`super::shard`]. It is made when the thread counts for the first time: of thousands of clusters most workers use a few.
//! Behind a gauge's cell stands one that is not zero if its thread has ever written it: the value alone
//! cannot tell, as it may be back at zero.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::histogram::{Histogram, Unit};
use super::shard::{SHARED, current_shard};

/// How many metrics a block of names of their own has room for.
const DYNAMIC: usize = 15;

/// The cells of two cache lines, which x86 fetches in pairs: no two rows share such a pair.
#[repr(align(128))]
#[derive(Default)]
struct Lines([AtomicU64; LINE]);

const LINE: usize = 16;
const BITS: usize = 64;

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram.
    Histogram,
}

/// The metrics of a `stats_struct!`, in its order.
#[derive(Debug)]
pub struct Schema {
    /// Names of counters.
    pub counters: &'static [&'static str],
    /// Names of gauges.
    pub gauges: &'static [&'static str],
    /// Names of histograms, and what they measure.
    pub histograms: &'static [(&'static str, Unit)],
}

impl Schema {
    /// Their indices, kinds and names.
    pub(super) fn metrics(&self) -> impl Iterator<Item = (usize, Kind, &'static str)> {
        (0..).map_while(|index| self.get(index).map(|(kind, name)| (index, kind, name)))
    }

    fn len(&self) -> usize {
        self.counters.len() + self.gauges.len() + self.histograms.len()
    }

    fn get(&self, index: usize) -> Option<(Kind, &'static str)> {
        let gauges = self.counters.len();
        let histograms = gauges + self.gauges.len();
        Some(match index {
            _ if index < gauges => (Kind::Counter, self.counters[index]),
            _ if index < histograms => (Kind::Gauge, self.gauges[index - gauges]),
            _ => (Kind::Histogram, self.histograms.get(index - histograms)?.0),
        })
    }
}

enum Names {
    Fixed(&'static Schema),
    Added(Box<[OnceLock<Added>; DYNAMIC]>),
}

/// A name that came later, and what it names.
type Added = (Kind, Unit, Box<str>);

/// See the module's description.
pub(super) struct Block {
    prefix: Arc<str>,
    names: Names,
    /// Metrics that another block had first: here they are not counted. Bits by index.
    hidden: Box<[u64]>,
    /// One a shard, once it is used.
    rows: Box<[OnceLock<Box<[Lines]>>]>,
    /// How many cells a row has.
    row: usize,
    /// Each is made when it is first wanted: one without samples needs no more than its name.
    histograms: Box<[OnceLock<Histogram>]>,
    rare: OnceLock<Box<Rare>>,
}

/// What few counters have, and few servers.
#[derive(Default)]
struct Rare {
    /// Counters that something of zero was added to, which leaves no trace in the cells.
    touched: OnceLock<Box<[AtomicBool]>>,
    /// What counters had at the last reset. The cells are only ever written by their own threads, so that a reset
    /// cannot clear them.
    baselines: Sums,
    /// What counters had at the last latch.
    latched: Sums,
}

/// A number for each metric, once there is one.
type Sums = OnceLock<Box<[AtomicU64]>>;

impl Block {
    /// The metrics of a schema, but for those of `is_hidden`.
    pub(super) fn fixed(
        prefix: Arc<str>,
        schema: &'static Schema,
        shards: usize,
        is_hidden: impl Fn(usize) -> bool,
    ) -> Block {
        let mut hidden: Box<[u64]> = Box::default();
        for index in (0..schema.len()).filter(|index| is_hidden(*index)) {
            if hidden.is_empty() {
                hidden = vec![0; schema.len().div_ceil(BITS)].into_boxed_slice();
            }
            hidden[index / BITS] |= 1 << (index % BITS);
        }
        Block::new(prefix, Names::Fixed(schema), shards, schema.histograms.len(), hidden)
    }

    /// Room for metrics that are made one by one.
    pub(super) fn empty(prefix: Arc<str>, shards: usize) -> Block {
        Block::new(prefix, Names::Added(Default::default()), shards, DYNAMIC, Box::default())
    }

    fn new(prefix: Arc<str>, names: Names, shards: usize, histograms: usize, hidden: Box<[u64]>) -> Block {
        let values = match &names {
            Names::Fixed(schema) => schema.counters.len() + 2 * schema.gauges.len(),
            Names::Added(_) => 2 * DYNAMIC,
        };
        Block {
            prefix,
            names,
            hidden,
            rows: (0..shards.max(1)).map(|_| OnceLock::new()).collect(),
            row: values,
            histograms: (0..histograms).map(|_| OnceLock::new()).collect(),
            rare: OnceLock::new(),
        }
    }

    /// The next free place gets that name; `None` when all are taken, or the names are fixed. Callers hold the
    /// registry's lock.
    pub(super) fn add(&self, kind: Kind, name: &str, unit: Unit) -> Option<usize> {
        let Names::Added(names) = &self.names else { return None };
        let index = names.iter().position(|name| name.get().is_none())?;
        let _ = names[index].set((kind, unit, name.into()));
        Some(index)
    }

    /// Whether its metrics are those of `schema`.
    pub(super) fn is_of(&self, schema: &'static Schema) -> bool {
        matches!(self.names, Names::Fixed(own) if std::ptr::eq(own, schema))
    }

    /// Its metrics.
    pub(super) fn metrics(&self) -> impl Iterator<Item = (usize, Kind)> {
        (0..)
            .map_while(|index| Some((index, self.get(index)?)))
            .filter_map(|(index, (kind, _))| (!self.is_hidden(index)).then_some((index, kind)))
    }

    /// The metric of that kind and name behind the prefix.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<usize> {
        self.metrics()
            .find(|(index, own)| *own == kind && self.get(*index).is_some_and(|(_, n)| n == name))
            .map(|(index, _)| index)
    }

    pub(super) fn is_hidden(&self, index: usize) -> bool {
        self.hidden.get(index / BITS).is_some_and(|bits| bits >> (index % BITS) & 1 == 1)
    }

    fn get(&self, index: usize) -> Option<(Kind, &str)> {
        match &self.names {
            Names::Fixed(schema) => schema.get(index),
            Names::Added(names) => names.get(index)?.get().map(|(kind, _, name)| (*kind, &**name)),
        }
    }

    /// The full name.
    pub(super) fn name(&self, index: usize) -> String {
        let name = self.get(index).map_or("", |(_, name)| name);
        let mut full = String::with_capacity(self.prefix.len() + name.len());
        full.push_str(&self.prefix);
        full.push_str(name);
        full
    }

    /// The histogram at that index, which must be one, made if need be.
    #[inline]
    pub(super) fn histogram(&self, index: usize) -> &Histogram {
        self.histograms[index - self.first_histogram()].get_or_init(|| self.new_histogram(index))
    }

    /// The histogram at that index, to look at: one without samples is not kept.
    pub(super) fn histogram_to_read(&self, index: usize) -> Histogram {
        let made = self.histograms[index - self.first_histogram()].get();
        made.cloned().unwrap_or_else(|| self.new_histogram(index))
    }

    /// The histogram at that index, if it was made.
    pub(super) fn made_histogram(&self, index: usize) -> Option<&Histogram> {
        self.histograms.get(index.checked_sub(self.first_histogram())?)?.get()
    }

    fn first_histogram(&self) -> usize {
        match &self.names {
            Names::Fixed(schema) => schema.counters.len() + schema.gauges.len(),
            Names::Added(_) => 0,
        }
    }

    #[cold]
    fn new_histogram(&self, index: usize) -> Histogram {
        Histogram::new(self.name(index), self.unit(index), self.rows.len())
    }

    /// What the histogram at that index measures.
    pub(super) fn unit(&self, index: usize) -> Unit {
        match &self.names {
            Names::Fixed(schema) => schema.histograms[index - self.first_histogram()].1,
            Names::Added(names) => names[index].get().map_or(Unit::Unspecified, |(_, unit, _)| *unit),
        }
    }

    /// Where a metric's cell is in each row; a gauge has the one behind it, too.
    pub(super) fn cell_of(&self, index: usize) -> usize {
        match &self.names {
            Names::Fixed(schema) => index + index.saturating_sub(schema.counters.len()),
            Names::Added(_) => 2 * index,
        }
    }

    /// Adds to the calling thread's cell, wrapping.
    #[inline]
    pub(super) fn count(&self, cell: usize, amount: u64) {
        match self.own_row() {
            Some(row) => add(cell_in(row, cell), amount),
            None => self.count_first(cell, amount),
        }
    }

    #[cold]
    fn count_first(&self, cell: usize, amount: u64) {
        let shard = self.shard();
        let cell = self.cell(shard, cell);
        if shard == SHARED {
            cell.fetch_add(amount, Relaxed);
        } else {
            add(cell, amount);
        }
    }

    /// Adds to the calling thread's cell, wrapping, and marks it as written in the one behind it.
    #[inline]
    pub(super) fn count_and_mark(&self, cell: usize, amount: u64) {
        match self.own_row() {
            Some(row) => {
                cell_in(row, cell + 1).store(1, Relaxed);
                add(cell_in(row, cell), amount);
            }
            None => {
                self.store(cell + 1, 1);
                self.count_first(cell, amount);
            }
        }
    }

    /// Stores into the calling thread's cell.
    #[inline]
    pub(super) fn store(&self, cell: usize, value: u64) {
        self.cell(self.shard(), cell).store(value, Relaxed);
    }

    /// The sum of all shards, wrapping.
    pub(super) fn sum(&self, cell: usize) -> u64 {
        let rows = self.rows.iter().filter_map(OnceLock::get);
        rows.fold(0, |sum, row| sum.wrapping_add(cell_in(row, cell).load(Relaxed)))
    }

    /// The sum of all shards but the one that [`Block::store`] would write.
    pub(super) fn sum_of_others(&self, cell: usize) -> u64 {
        self.sum(cell).wrapping_sub(self.cell(self.shard(), cell).load(Relaxed))
    }

    /// Notes that something of zero was added.
    pub(super) fn touch(&self, index: usize) {
        let new = || (0..self.len()).map(|_| AtomicBool::new(false)).collect();
        self.rare().touched.get_or_init(new)[index].store(true, Relaxed);
    }

    pub(super) fn is_touched(&self, index: usize) -> bool {
        let touched = self.rare.get().and_then(|rare| rare.touched.get());
        touched.is_some_and(|touched| touched[index].load(Relaxed))
    }

    /// What the counter had at the last reset.
    pub(super) fn baseline(&self, index: usize) -> u64 {
        let baselines = self.rare.get().and_then(|rare| rare.baselines.get());
        baselines.map_or(0, |sums| sums[index].load(Relaxed))
    }

    pub(super) fn set_baseline(&self, index: usize, sum: u64) {
        self.sums(&self.rare().baselines)[index].store(sum, Relaxed);
    }

    /// Notes a counter's sum; returns the one noted before.
    pub(super) fn latch(&self, index: usize, sum: u64) -> u64 {
        self.sums(&self.rare().latched)[index].swap(sum, Relaxed)
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    fn sums<'a>(&self, sums: &'a Sums) -> &'a [AtomicU64] {
        sums.get_or_init(|| (0..self.len()).map(|_| AtomicU64::new(0)).collect())
    }

    /// How many metrics it has room for.
    fn len(&self) -> usize {
        match &self.names {
            Names::Fixed(schema) => schema.len(),
            Names::Added(_) => DYNAMIC,
        }
    }

    /// The calling thread's row, if nobody else writes it and it was made.
    #[inline]
    fn own_row(&self) -> Option<&[Lines]> {
        match current_shard() {
            SHARED => None,
            shard => self.rows.get(shard)?.get().map(|row| &**row),
        }
    }

    /// Which row the calling thread writes.
    #[inline]
    fn shard(&self) -> usize {
        let shard = current_shard();
        if shard < self.rows.len() { shard } else { SHARED }
    }

    #[inline]
    fn row(&self, shard: usize) -> &[Lines] {
        match self.rows[shard].get() {
            Some(row) => row,
            None => self.make_row(shard),
        }
    }

    #[inline]
    fn cell(&self, shard: usize, cell: usize) -> &AtomicU64 {
        cell_in(self.row(shard), cell)
    }

    #[cold]
    fn make_row(&self, shard: usize) -> &[Lines] {
        self.rows[shard].get_or_init(|| (0..self.row.div_ceil(LINE)).map(|_| Lines::default()).collect())
    }
}

/// Adds to a cell that only the calling thread writes.
#[inline]
fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
}

#[inline]
fn cell_in(row: &[Lines], cell: usize) -> &AtomicU64 {
    &row[cell / LINE].0[cell % LINE]
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::shard::register_thread;
    use super::*;

    static SCHEMA: Schema = Schema {
        counters: &["a", "b"],
        gauges: &["c"],
        histograms: &[("d_ms", Unit::Milliseconds), ("e", Unit::Bytes)],
    };

    fn block(shards: usize) -> Block {
        Block::fixed("x.".into(), &SCHEMA, shards, |_| false)
    }

    #[test]
    fn rows_share_no_cache_line() {
        let block = block(3);
        let address = |shard, cell| block.cell(shard, cell) as *const AtomicU64 as usize;
        assert_eq!((address(0, 0) % 128, address(1, 0) % 128), (0, 0));
        assert_eq!(address(0, LINE - 1) - address(0, 0), 128 - 8);
        assert_ne!(address(0, 0), address(1, 0));
    }

    #[test]
    fn each_registered_thread_has_a_row_and_the_rest_share_one() {
        let block = block(3);
        std::thread::scope(|scope| {
            for shard in [0, 1, 2, 99] {
                let block = &block;
                scope.spawn(move || {
                    register_thread(shard);
                    (0..1000).for_each(|_| block.count(1, 1));
                });
            }
        });
        let rows: Vec<u64> = (0..block.rows.len()).map(|row| block.cell(row, 1).load(Relaxed)).collect();
        assert_eq!((rows, block.sum(1), block.sum(0)), (vec![2000, 1000, 1000], 4000, 0));
    }

    #[test]
    fn threads_that_share_a_row_lose_nothing() {
        let block = block(1);
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    (0..1_000_000).for_each(|_| block.count(0, 1));
                });
            }
        });
        assert_eq!(block.sum(0), 2_000_000);
    }

    #[test]
    fn names_and_kinds_are_those_of_the_schema() {
        let block = Block::fixed("x.".into(), &SCHEMA, 1, |index| index == 1);
        let all: Vec<(String, Kind)> =
            block.metrics().map(|(index, kind)| (block.name(index), kind)).collect();
        let of = |name: &str, kind| (name.to_string(), kind);
        assert_eq!(
            all,
            [
                of("x.a", Kind::Counter),
                of("x.c", Kind::Gauge),
                of("x.d_ms", Kind::Histogram),
                of("x.e", Kind::Histogram)
            ]
        );
        assert_eq!((block.find(Kind::Gauge, "c"), block.find(Kind::Counter, "c")), (Some(2), None));
        assert!(block.is_hidden(1) && block.find(Kind::Counter, "b").is_none());
        assert_eq!(
            (block.histogram_to_read(4).name().to_string(), block.unit(4), block.made_histogram(4).is_none()),
            ("x.e".into(), Unit::Bytes, true)
        );
    }

    #[test]
    fn a_block_of_single_metrics_fills_up() {
        let block = Block::empty("x.".into(), 2);
        for index in 0..DYNAMIC {
            assert_eq!(block.add(Kind::Counter, &index.to_string(), Unit::Unspecified), Some(index));
        }
        assert_eq!(block.add(Kind::Counter, "one more", Unit::Unspecified), None);
        let cell = block.cell_of(DYNAMIC - 1);
        block.count(cell, 3);
        block.touch(DYNAMIC - 1);
        assert_eq!((block.sum(cell), block.name(DYNAMIC - 1)), (3, "x.14".to_string()));
        assert!(block.is_touched(DYNAMIC - 1) && !block.is_touched(0));
    }
}
