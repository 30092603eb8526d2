//! [`Store`]: all metrics by name (Envoy `source/common/stats/thread_local_store.*`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::histogram::{Histogram, Unit};
use super::metric::{Counter, Gauge};
use super::scope::Scope;
use super::shard::Allocator;

/// The metrics of a server. Metrics live as long as the store.
pub struct Store {
    shards: usize,
    registry: Mutex<Registry>,
}

struct Registry {
    allocator: Allocator,
    counters: BTreeMap<Arc<str>, Counter>,
    gauges: BTreeMap<Arc<str>, Gauge>,
    histograms: BTreeMap<Arc<str>, Histogram>,
}

impl Store {
    /// A store for `threads` threads that call [`super::register_thread`] with 1 to `threads`. Any
    /// other thread may use the metrics too, at the cost of an atomic addition.
    pub fn new(threads: usize) -> Arc<Store> {
        let shards = threads + 1;
        let registry = Registry {
            allocator: Allocator::new(shards),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
        };
        Arc::new(Store { shards, registry: Mutex::new(registry) })
    }

    /// The scope without a prefix.
    pub fn root_scope(self: &Arc<Self>) -> Scope {
        Scope::new(self.clone(), "")
    }

    /// All counters, sorted by name.
    pub fn counters(&self) -> Vec<Counter> {
        self.registry().counters.values().cloned().collect()
    }

    /// All gauges, sorted by name.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.registry().gauges.values().cloned().collect()
    }

    /// All histograms, sorted by name.
    pub fn histograms(&self) -> Vec<Histogram> {
        self.registry().histograms.values().cloned().collect()
    }

    /// The counter of that full name, if there is one.
    pub fn find_counter(&self, name: &str) -> Option<Counter> {
        self.registry().counters.get(name).cloned()
    }

    /// The gauge of that full name, if there is one.
    pub fn find_gauge(&self, name: &str) -> Option<Gauge> {
        self.registry().gauges.get(name).cloned()
    }

    /// The histogram of that full name, if there is one.
    pub fn find_histogram(&self, name: &str) -> Option<Histogram> {
        self.registry().histograms.get(name).cloned()
    }

    /// Merges all histograms; for the main thread at each flush.
    pub fn merge_histograms(&self) {
        for histogram in self.histograms() {
            histogram.merge();
        }
    }

    /// Sets all counters to zero. Gauges and histograms keep their values.
    pub fn reset_counters(&self) {
        for counter in self.counters() {
            counter.reset();
        }
    }

    pub(super) fn counter(&self, name: String) -> Counter {
        let mut registry = self.registry();
        if let Some(counter) = registry.counters.get(name.as_str()) {
            return counter.clone();
        }
        let name: Arc<str> = name.into();
        let counter = Counter::new(name.clone(), registry.allocator.allocate());
        registry.counters.insert(name, counter.clone());
        counter
    }

    pub(super) fn gauge(&self, name: String) -> Gauge {
        let mut registry = self.registry();
        if let Some(gauge) = registry.gauges.get(name.as_str()) {
            return gauge.clone();
        }
        let name: Arc<str> = name.into();
        let (value, used) = (registry.allocator.allocate(), registry.allocator.allocate());
        let gauge = Gauge::new(name.clone(), value, used);
        registry.gauges.insert(name, gauge.clone());
        gauge
    }

    pub(super) fn histogram(&self, name: String, unit: Unit) -> Histogram {
        let mut registry = self.registry();
        if let Some(histogram) = registry.histograms.get(name.as_str()) {
            return histogram.clone();
        }
        let name: Arc<str> = name.into();
        let histogram = Histogram::new(name.clone(), unit, self.shards);
        registry.histograms.insert(name, histogram.clone());
        histogram
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}
