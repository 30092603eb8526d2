//! [`Scope`]: a prefix under which metrics are made (Envoy `Stats::Scope`).

use std::sync::Arc;

use super::histogram::{Histogram, Unit};
use super::metric::{Counter, Gauge};
use super::store::Store;

/// Makes metrics whose names begin with a prefix. Making one takes a lock, so it is done when an object
/// is set up and not per request.
#[derive(Clone)]
pub struct Scope {
    store: Arc<Store>,
    prefix: String,
}

impl Scope {
    pub(super) fn new(store: Arc<Store>, prefix: &str) -> Self {
        Scope { store, prefix: sanitize(prefix) }
    }

    /// A scope whose prefix is `prefix` appended to this one's, as is: a dot at its end is the
    /// caller's business.
    pub fn create_scope(&self, prefix: &str) -> Scope {
        Scope::new(self.store.clone(), &format!("{}{prefix}", self.prefix))
    }

    /// The counter `<prefix><name>`; the existing one if there is one.
    pub fn counter(&self, name: &str) -> Counter {
        self.store.counter(self.full_name(name))
    }

    /// The gauge `<prefix><name>`; the existing one if there is one.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.store.gauge(self.full_name(name))
    }

    /// The histogram `<prefix><name>`; the existing one, whatever its unit, if there is one.
    pub fn histogram(&self, name: &str, unit: Unit) -> Histogram {
        self.store.histogram(self.full_name(name), unit)
    }

    /// What the names of this scope begin with; empty for the root scope.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The store the metrics are in.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn full_name(&self, name: &str) -> String {
        sanitize(&format!("{}{name}", self.prefix))
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
