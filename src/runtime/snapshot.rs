//! All settings as they are at a time. Mirrors `SnapshotImpl` of Envoy's `source/common/runtime/runtime_impl.cc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::{Entry, FractionalPercent};
use super::layers::OverrideLayer;

/// Immutable; shared by all threads.
#[derive(Debug, Default)]
pub struct SnapshotImpl {
    layers: Vec<OverrideLayer>,
    /// The layer that wins, by key.
    values: BTreeMap<String, usize>,
}

impl SnapshotImpl {
    /// Of these layers, of which a later one wins.
    pub fn new(layers: Vec<OverrideLayer>) -> Arc<Self> {
        let keys = layers.iter().enumerate().flat_map(|(i, l)| l.values.keys().map(move |k| (k.clone(), i)));
        let values = keys.collect();
        Arc::new(SnapshotImpl { layers, values })
    }

    /// The layers, the weakest first.
    pub fn layers(&self) -> &[OverrideLayer] {
        &self.layers
    }

    /// All keys with their values, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.values.iter().filter_map(|(key, layer)| Some((&**key, self.layers[*layer].values.get(key)?)))
    }

    /// How many keys there are.
    pub fn num_keys(&self) -> usize {
        self.values.len()
    }

    /// Whether a layer names a key that begins so.
    pub fn names_any(&self, prefix: &str) -> bool {
        let range = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        self.values.range::<str, _>(range).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.values.get(key).and_then(|layer| self.layers[*layer].values.get(key))
    }

    /// The text under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entry(key).map(|entry| entry.raw_string_value.as_str())
    }

    /// The whole number under a key.
    pub fn get_integer(&self, key: &str, default: u64) -> u64 {
        self.entry(key).and_then(|entry| entry.uint_value).unwrap_or(default)
    }

    /// The number under a key.
    pub fn get_double(&self, key: &str, default: f64) -> f64 {
        self.entry(key).and_then(|entry| entry.double_value).unwrap_or(default)
    }

    /// True or false, as a key says.
    pub fn get_boolean(&self, key: &str, default: bool) -> bool {
        self.entry(key).and_then(|entry| entry.bool_value).unwrap_or(default)
    }

    /// The share under a key, which may be a whole number of percent.
    pub fn get_percent(&self, key: &str, default: FractionalPercent) -> FractionalPercent {
        self.find_percent(key).unwrap_or(default)
    }

    /// The share under a key, if there is one.
    pub fn find_percent(&self, key: &str) -> Option<FractionalPercent> {
        self.entry(key).and_then(Entry::percent)
    }

    /// Whether `random` is in the share under a key.
    pub fn feature_enabled(&self, key: &str, default: FractionalPercent, random: u64) -> bool {
        self.get_percent(key, default).evaluate(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Denominator;
    use serde_json::json;

    fn layer(name: &str, values: serde_json::Value) -> OverrideLayer {
        OverrideLayer::of_static(name, values.as_object().unwrap())
    }

    #[test]
    fn a_later_layer_wins() {
        let first = layer("first", json!({ "a": 1, "b": "x", "c": true }));
        let second = layer("second", json!({ "a": 2, "d": 0.5 }));
        let snapshot = SnapshotImpl::new(vec![first, second]);
        assert_eq!((snapshot.get_integer("a", 9), snapshot.get_integer("z", 9)), (2, 9));
        assert_eq!((snapshot.get("b"), snapshot.get("z")), (Some("x"), None));
        assert!(snapshot.get_boolean("c", false) && snapshot.get_boolean("a", true));
        assert_eq!((snapshot.get_double("d", 9.0), snapshot.get_double("b", 9.0)), (0.5, 9.0));
        assert_eq!((snapshot.num_keys(), snapshot.layers().len()), (4, 2));
        let entries: Vec<_> = snapshot.entries().map(|(key, e)| (key, &*e.raw_string_value)).collect();
        assert_eq!(entries, [("a", "2"), ("b", "x"), ("c", "true"), ("d", "0.5")]);
        assert_eq!(snapshot.get_integer("b", 9), 9, "what is no number is not there");
    }

    #[test]
    fn shares() {
        let values = json!({ "percent": 30, "all": 1000, "none": 0, "half": 44.5,
                             "parts": { "numerator": 1, "denominator": "MILLION" } });
        let snapshot = SnapshotImpl::new(vec![layer("a", values)]);
        let default = FractionalPercent { numerator: 7, denominator: Denominator::Hundred };
        let enabled = |key| (0..1_000_000).filter(|n| snapshot.feature_enabled(key, default, *n)).count();
        assert_eq!(["percent", "all", "none", "half"].map(enabled), [300_000, 1_000_000, 0, 440_000]);
        assert_eq!(["parts", "other"].map(enabled), [1, 70_000]);
    }

    #[test]
    fn prefixes() {
        let snapshot = SnapshotImpl::new(vec![layer("a", json!({ "b.c": 1, "d": 1 }))]);
        assert_eq!(
            ["b.", "b", "a", "c", "d", "e", "b.d"].map(|p| snapshot.names_any(p)),
            [true, true, false, false, true, false, false]
        );
    }
}
