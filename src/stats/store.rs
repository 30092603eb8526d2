//! [`Store`]: all metrics by name (Envoy `source/common/stats/thread_local_store.*`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::block::{Block, Kind, Schema};
use super::histogram::{Histogram, Unit};
use super::metric::{Counter, Gauge};
use super::scope::Scope;

/// The metrics of a server. A metric lives as long as a handle to it, or to one that was made with it, or the scope in
/// which it was made alone.
pub struct Store {
    shards: usize,
    /// The blocks of each prefix.
    blocks: Mutex<BTreeMap<Arc<str>, Vec<Weak<Block>>>>,
}

/// A metric: its block, and its place there.
pub(super) type Place = (Arc<Block>, usize);

impl Store {
    /// A store for `threads` threads that call [`super::register_thread`] with 1 to `threads`. Any
    /// other thread may use the metrics too, at the cost of an atomic addition.
    pub fn new(threads: usize) -> Arc<Store> {
        Arc::new(Store { shards: threads + 1, blocks: Mutex::default() })
    }

    /// How many shards its metrics have.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The scope without a prefix.
    pub fn root_scope(self: &Arc<Self>) -> Scope {
        Scope::new(self.clone(), "")
    }

    /// All counters, sorted by name.
    pub fn counters(&self) -> Vec<Counter> {
        self.of_kind(Kind::Counter).into_iter().map(|(block, index)| Counter::new(block, index)).collect()
    }

    /// All gauges, sorted by name.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.of_kind(Kind::Gauge).into_iter().map(|(block, index)| Gauge::new(block, index)).collect()
    }

    /// All histograms, sorted by name, to look at: what is recorded in one that had no samples is lost.
    pub fn histograms(&self) -> Vec<Histogram> {
        let all = self.of_kind(Kind::Histogram).into_iter();
        all.map(|(block, index)| block.histogram_to_read(index)).collect()
    }

    /// The counter of that full name, if there is one.
    pub fn find_counter(&self, name: &str) -> Option<Counter> {
        find(&self.blocks(), Kind::Counter, name).map(|(block, index)| Counter::new(block, index))
    }

    /// The gauge of that full name, if there is one.
    pub fn find_gauge(&self, name: &str) -> Option<Gauge> {
        find(&self.blocks(), Kind::Gauge, name).map(|(block, index)| Gauge::new(block, index))
    }

    /// The histogram of that full name, if there is one.
    pub fn find_histogram(&self, name: &str) -> Option<Histogram> {
        let (block, index) = find(&self.blocks(), Kind::Histogram, name)?;
        Some(block.histogram(index).clone())
    }

    /// Merges all histograms; for the main thread at each flush.
    pub fn merge_histograms(&self) {
        for (block, index) in self.unsorted(Kind::Histogram) {
            if let Some(histogram) = block.made_histogram(index) {
                histogram.merge();
            }
        }
    }

    /// Sets all counters to zero. Gauges and histograms keep their values.
    pub fn reset_counters(&self) {
        for (block, index) in self.unsorted(Kind::Counter) {
            Counter::new(block, index).reset();
        }
    }

    /// The metrics of `schema` under `prefix`: those that are there, or new ones. What another block has already is hidden in
    /// the new one, and comes with its place.
    pub(super) fn fixed(
        &self,
        prefix: &Arc<str>,
        schema: &'static Schema,
    ) -> (Arc<Block>, Vec<(usize, Place)>) {
        let mut blocks = self.blocks();
        let there = blocks.get(prefix).into_iter().flatten().filter_map(Weak::upgrade);
        let block = there.into_iter().find(|block| block.is_of(schema));
        // Names of a schema have no dot: only a prefix of this prefix can have one of them.
        let others = prefixes(prefix)
            .flat_map(|start| blocks.get(start).into_iter().flatten().map(move |b| (start, b)));
        let others = others.filter_map(|(start, other)| Some((&prefix[start.len()..], other.upgrade()?)));
        let is_own = |other: &Arc<Block>| block.as_ref().is_some_and(|own| Arc::ptr_eq(own, other));
        let others: Vec<(&str, Arc<Block>)> = others.filter(|(_, other)| !is_own(other)).collect();
        let elsewhere = |(index, kind, name): (usize, Kind, &str)| {
            let place = |(rest, other): &(&str, Arc<Block>)| {
                Some((other.clone(), other.find(kind, &format!("{rest}{name}"))?))
            };
            Some((index, others.iter().find_map(place)?))
        };
        let others: Vec<(usize, Place)> = schema.metrics().filter_map(elsewhere).collect();
        let block = block.unwrap_or_else(|| {
            let is_other = |index| others.iter().any(|(other, _)| *other == index);
            let block = Arc::new(Block::fixed(prefix.clone(), schema, self.shards, is_other));
            insert(&mut blocks, prefix, &block);
            block
        });
        (block, others)
    }

    /// The metric of that full name, or a new one among `own`, the blocks of its scope.
    pub(super) fn single(
        &self,
        prefix: &Arc<str>,
        own: &Mutex<Vec<Arc<Block>>>,
        kind: Kind,
        name: &str,
        unit: Unit,
    ) -> Place {
        let mut blocks = self.blocks();
        if let Some(found) = find(&blocks, kind, &format!("{prefix}{name}")) {
            return found;
        }
        let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
        let free = own.iter().find_map(|block| Some((block.clone(), block.add(kind, name, unit)?)));
        free.unwrap_or_else(|| {
            let block = Arc::new(Block::empty(prefix.clone(), self.shards));
            insert(&mut blocks, prefix, &block);
            own.push(block.clone());
            let index = block.add(kind, name, unit).unwrap_or_default();
            (block, index)
        })
    }

    fn of_kind(&self, kind: Kind) -> Vec<Place> {
        let mut all = self.unsorted(kind);
        all.sort_by_cached_key(|(block, index)| block.name(*index));
        all
    }

    /// All of a kind. What has gone is forgotten on the way.
    fn unsorted(&self, kind: Kind) -> Vec<Place> {
        let mut all = Vec::new();
        self.blocks().retain(|_, of_prefix| {
            of_prefix.retain(|block| block.strong_count() > 0);
            for block in of_prefix.iter().filter_map(Weak::upgrade) {
                let of_kind = block.metrics().filter(|(_, own)| *own == kind);
                all.extend(of_kind.map(|(index, _)| (block.clone(), index)));
            }
            !of_prefix.is_empty()
        });
        all
    }

    fn blocks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Vec<Weak<Block>>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a block, and forgets those of its prefix that are gone.
fn insert(blocks: &mut BTreeMap<Arc<str>, Vec<Weak<Block>>>, prefix: &Arc<str>, block: &Arc<Block>) {
    let of_prefix = blocks.entry(prefix.clone()).or_default();
    of_prefix.retain(|block| block.strong_count() > 0);
    of_prefix.reserve_exact(1);
    of_prefix.push(Arc::downgrade(block));
}

/// What a name may begin with: each ends behind a dot.
fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(at, _)| &name[..=at]).chain([""])
}

/// The metric of that full name, whichever prefix it was made under.
fn find(blocks: &BTreeMap<Arc<str>, Vec<Weak<Block>>>, kind: Kind, name: &str) -> Option<Place> {
    prefixes(name).find_map(|prefix| {
        let rest = &name[prefix.len()..];
        let of_prefix = blocks.get(prefix)?.iter().filter_map(Weak::upgrade);
        of_prefix.into_iter().find_map(|block| block.find(kind, rest).map(|index| (block, index)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_gives_the_same_metric() {
        let store = Store::new(1);
        let scope = store.root_scope().create_scope("a.");
        scope.counter("x").inc();
        store.root_scope().counter("a.x").inc();
        assert_eq!(store.find_counter("a.x").map(|c| c.value()), Some(2));
        scope.gauge("x").inc();
        assert_eq!(scope.gauge("x").value(), 1);
        scope.histogram("x", Unit::Bytes).record(1);
        assert_eq!(scope.histogram("x", Unit::Milliseconds).unit(), Unit::Bytes);
        assert_eq!((store.counters().len(), store.gauges().len(), store.histograms().len()), (1, 1, 1));
    }

    #[test]
    fn lists_are_sorted_by_name() {
        let store = Store::new(1);
        let scope = store.root_scope();
        for name in ["b", "a.c", "a"] {
            scope.counter(name);
            scope.gauge(name);
            scope.histogram(name, Unit::Unspecified);
        }
        let sorted = ["a", "a.c", "b"];
        assert!(store.counters().iter().map(Counter::name).eq(sorted));
        assert!(store.gauges().iter().map(Gauge::name).eq(sorted));
        assert!(store.histograms().iter().map(Histogram::name).eq(sorted));
        // Names are sorted, not prefixes.
        let of_a = scope.create_scope("a.").counter("b");
        assert_eq!(store.counters().iter().map(Counter::name).nth(1), Some(of_a.name()));
    }

    #[test]
    fn merging_and_resetting_reach_all_metrics() {
        let store = Store::new(1);
        let scope = store.root_scope();
        let (counter, gauge) = (scope.counter("c"), scope.gauge("g"));
        let histogram = scope.histogram("h", Unit::Milliseconds);
        counter.inc();
        gauge.inc();
        histogram.record(3);
        store.merge_histograms();
        store.reset_counters();
        assert_eq!((counter.value(), gauge.value(), histogram.cumulative().count), (0, 1, 1));
    }

    #[test]
    fn unknown_names_are_not_found() {
        let store = Store::new(1);
        assert!(store.find_counter("x").is_none());
        assert!(store.find_gauge("x").is_none());
        assert!(store.find_histogram("x").is_none());
    }

    #[test]
    fn what_a_scope_has_made_goes_with_it() {
        crate::stats_struct! {
            struct Some { counters: [x, y], gauges: [z], histograms: [t_ms] }
        }
        let store = Store::new(1);
        let scope = store.root_scope().create_scope("cluster.a.");
        let all = Some::new(&scope);
        let single = scope.counter("w");
        assert_eq!((store.counters().len(), store.gauges().len(), store.histograms().len()), (3, 1, 1));
        let one = all.x.clone();
        drop(all);
        assert_eq!(store.counters().len(), 3, "a handle keeps what was made with it");
        drop((one, scope));
        assert_eq!(store.counters().iter().map(Counter::name).collect::<Vec<_>>(), ["cluster.a.w"]);
        drop(single);
        assert!(store.counters().is_empty() && store.gauges().is_empty() && store.histograms().is_empty());
        assert!(store.blocks().is_empty(), "not even the names are left");
        assert_eq!(Some::new(&store.root_scope().create_scope("cluster.a.")).x.value(), 0);
    }

    #[test]
    fn a_metric_is_one_however_it_is_made() {
        crate::stats_struct! {
            struct Ours { counters: [x, y], gauges: [], histograms: [t_ms] }
        }
        crate::stats_struct! {
            struct Theirs { counters: [y, z], gauges: [], histograms: [] }
        }
        let store = Store::new(1);
        let scope = store.root_scope().create_scope("a.b.");
        let single = store.root_scope().counter("a.b.x");
        let times = scope.histogram("t_ms", Unit::Bytes);
        let (ours, theirs) = (Ours::new(&scope), Theirs::new(&scope));
        single.inc();
        theirs.y.add(2);
        times.record(5);
        store.merge_histograms();
        assert_eq!(
            (ours.x.value(), ours.y.value(), theirs.z.value(), ours.t_ms.unit()),
            (1, 2, 0, Unit::Bytes)
        );
        assert_eq!((Ours::new(&scope).x.value(), ours.t_ms.cumulative().count), (1, 1));
        let names: Vec<String> = store.counters().iter().map(Counter::name).collect();
        assert_eq!(
            (names, store.histograms().len()),
            (vec!["a.b.x".into(), "a.b.y".into(), "a.b.z".into()], 1)
        );
    }
}
