//! [`Scope`]: a prefix under which metrics are made (Envoy `Stats::Scope`).

use std::sync::{Arc, Mutex};

use super::block::{Block, Kind, Schema};
use super::histogram::{Histogram, Unit};
use super::metric::{Counter, CounterRef, Gauge, GaugeRef};
use super::store::{Place, Store};

/// Makes metrics whose names begin with a prefix. Making one takes a lock, so it is done when an object
/// is set up and not per request. Metrics that are made one by one live as long as the scope and its clones, or a handle.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    prefix: Arc<str>,
    /// Metrics that were made one by one.
    own: Mutex<Vec<Arc<Block>>>,
}

impl Scope {
    pub(super) fn new(store: Arc<Store>, prefix: &str) -> Self {
        Scope(Arc::new(Inner { store, prefix: sanitize(prefix).into(), own: Mutex::default() }))
    }

    /// A scope whose prefix is `prefix` appended to this one's, as is: a dot at its end is the
    /// caller's business.
    pub fn create_scope(&self, prefix: &str) -> Scope {
        Scope::new(self.0.store.clone(), &format!("{}{prefix}", self.0.prefix))
    }

    /// The counter `<prefix><name>`; the existing one if there is one.
    pub fn counter(&self, name: &str) -> Counter {
        let (block, index) = self.single(Kind::Counter, name, Unit::Unspecified);
        Counter::new(block, index)
    }

    /// The gauge `<prefix><name>`; the existing one if there is one.
    pub fn gauge(&self, name: &str) -> Gauge {
        let (block, index) = self.single(Kind::Gauge, name, Unit::Unspecified);
        Gauge::new(block, index)
    }

    /// The histogram `<prefix><name>`; the existing one, whatever its unit, if there is one.
    pub fn histogram(&self, name: &str, unit: Unit) -> Histogram {
        let (block, index) = self.single(Kind::Histogram, name, unit);
        block.histogram(index).clone()
    }

    /// The metrics of a `stats_block!`.
    pub fn block(&self, schema: &'static Schema) -> MetricBlock {
        let (block, others) = self.0.store.fixed(&self.0.prefix, schema);
        MetricBlock { block, others: (!others.is_empty()).then(|| others.into()) }
    }

    /// The metrics of a `stats_struct!`, to be taken in its order.
    pub fn metrics(&self, schema: &'static Schema) -> Metrics {
        let (block, others) = self.0.store.fixed(&self.0.prefix, schema);
        Metrics { block, others, next: 0 }
    }

    /// What the names of this scope begin with; empty for the root scope.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The store the metrics are in.
    pub fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    fn single(&self, kind: Kind, name: &str, unit: Unit) -> Place {
        self.0.store.single(&self.0.prefix, &self.0.own, kind, &sanitize(name), unit)
    }
}

/// The metrics of a `stats_struct!`, one after the other.
pub struct Metrics {
    block: Arc<Block>,
    /// Those that were there before, in another block.
    others: Vec<(usize, Place)>,
    next: usize,
}

impl Metrics {
    /// The next one, which is a counter.
    pub fn counter(&mut self) -> Counter {
        let (block, index) = self.next();
        Counter::new(block, index)
    }

    /// The next one, which is a gauge.
    pub fn gauge(&mut self) -> Gauge {
        let (block, index) = self.next();
        Gauge::new(block, index)
    }

    /// The next one, which is a histogram.
    pub fn histogram(&mut self) -> Histogram {
        let (block, index) = self.next();
        block.histogram(index).clone()
    }

    fn next(&mut self) -> Place {
        let index = self.next;
        self.next += 1;
        let other = self.others.iter().find(|(own, _)| *own == index);
        other.map_or_else(|| (self.block.clone(), index), |(_, place)| place.clone())
    }
}

/// The metrics of a `stats_block!`, by their places in its lists.
#[derive(Clone)]
pub struct MetricBlock {
    block: Arc<Block>,
    /// Those that were there before, in another block.
    others: Option<Arc<[(usize, Place)]>>,
}

impl MetricBlock {
    /// The one at `index`, which is a counter.
    #[inline]
    pub fn counter(&self, index: usize) -> CounterRef<'_> {
        match self.elsewhere(index) {
            None => CounterRef::new(&self.block, index, index),
            Some((block, index)) => CounterRef::new(block, *index, block.cell_of(*index)),
        }
    }

    /// The one at `index`, which is a gauge, behind so many counters.
    #[inline]
    pub fn gauge(&self, index: usize, counters: usize) -> GaugeRef<'_> {
        match self.elsewhere(index) {
            None => GaugeRef::new(&self.block, index, index + (index - counters)),
            Some((block, index)) => GaugeRef::new(block, *index, block.cell_of(*index)),
        }
    }

    /// The one at `index`, which is a histogram.
    #[inline]
    pub fn histogram(&self, index: usize) -> &Histogram {
        match self.elsewhere(index) {
            None => self.block.histogram(index),
            Some((block, index)) => block.histogram(*index),
        }
    }

    #[inline]
    fn elsewhere(&self, index: usize) -> Option<&Place> {
        let others = self.others.as_ref()?;
        others.iter().find(|(own, _)| *own == index).map(|(_, place)| place)
    }
}

/// Replaces what sinks use as a separator.
fn sanitize(name: &str) -> String {
    name.replace([':', '\0'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_concatenated() {
        let scope = Store::new(1).root_scope().create_scope("cluster.foo.");
        assert_eq!(scope.counter("upstream_cx_total").name(), "cluster.foo.upstream_cx_total");
        let inner = scope.create_scope("outlier_detection.");
        assert_eq!(inner.prefix(), "cluster.foo.outlier_detection.");
        assert_eq!(inner.gauge("ejections_active").name(), "cluster.foo.outlier_detection.ejections_active");
    }

    #[test]
    fn colons_and_nuls_become_underscores() {
        let scope = Store::new(1).root_scope().create_scope("listener.[::1]:80.");
        assert_eq!(scope.prefix(), "listener.[__1]_80.");
        assert_eq!(scope.counter("a\0b:c").name(), "listener.[__1]_80.a_b_c");
    }
}
