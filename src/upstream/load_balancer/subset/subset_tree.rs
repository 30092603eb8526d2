//! Subsets by the keys and values that name them.
//!
//! Mirrors `LbSubsetMap`, `ValueSubsetMap` and `SubsetSelectorMap` of Envoy's `source/common/upstream/subset_lb.h`. What is looked
//! for is lent: no lookup makes anything.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::subset_entry::LbSubset;
use super::{Selector, SelectorFallback};
use crate::upstream::metadata_equal;

/// A key and a value, lent.
pub type Pair<'a> = (&'a str, &'a Value);

/// What a request wants of its host: criteria, sorted by name, perhaps without those that have other names.
#[derive(Clone, Copy)]
pub struct Criteria<'a> {
    pub all: &'a [Pair<'a>],
    /// Sorted.
    pub only: Option<&'a [String]>,
}

impl<'a> Criteria<'a> {
    pub fn iter(self) -> impl Iterator<Item = Pair<'a>> {
        let is_wanted = move |name: &str| {
            self.only.is_none_or(|only| only.binary_search_by(|other| other.as_str().cmp(name)).is_ok())
        };
        self.all.iter().copied().filter(move |(name, _)| is_wanted(name))
    }

    /// The same, but only those of these names.
    pub fn only(self, names: &'a [String]) -> Self {
        // What is left out already is no name of a selector's part.
        Criteria { only: Some(names), ..self }
    }
}

/// A place in the tree: the subset that the keys and values up to here name, and what is below.
#[derive(Default)]
pub struct SubsetTree {
    pub subset: Option<Rc<LbSubset>>,
    children: HashMap<String, HashMap<u64, Vec<(Value, SubsetTree)>>>,
}

impl SubsetTree {
    /// The subset that exactly these criteria name.
    pub fn find(&self, criteria: Criteria<'_>) -> Option<&Rc<LbSubset>> {
        let mut at = self;
        let mut is_any = false;
        for (name, value) in criteria.iter() {
            let same_hash = at.children.get(name)?.get(&hash_of(value))?;
            at = &same_hash.iter().find(|(other, _)| metadata_equal(other, value))?.1;
            is_any = true;
        }
        at.subset.as_ref().filter(|_| is_any)
    }

    /// The place of these keys and values.
    pub fn find_or_create(&mut self, pairs: &[(&str, &Value)]) -> &mut SubsetTree {
        let mut at = self;
        for (name, value) in pairs {
            let values = at.children.entry((*name).to_string()).or_default();
            let same_hash = values.entry(hash_of(value)).or_default();
            let found = same_hash.iter().position(|(other, _)| metadata_equal(other, value));
            let index = found.unwrap_or_else(|| {
                same_hash.push(((*value).clone(), SubsetTree::default()));
                same_hash.len() - 1
            });
            at = &mut same_hash[index].1;
        }
        at
    }

    /// Calls back with each subset.
    pub fn for_each(&self, callback: &mut dyn FnMut(&Rc<LbSubset>)) {
        for (_, place) in self.children.values().flat_map(HashMap::values).flatten() {
            place.subset.iter().for_each(&mut *callback);
            place.for_each(callback);
        }
    }

    /// Forgets what has no hosts; each subset that goes is given away.
    pub fn purge_empty(&mut self, gone: &mut Vec<Rc<LbSubset>>) {
        self.children.retain(|_, values| {
            values.retain(|_, same_hash| {
                same_hash.retain_mut(|(_, place)| {
                    place.purge_empty(gone);
                    let stays = place.subset.as_ref().is_some_and(|subset| subset.is_active())
                        || !place.children.is_empty();
                    if !stays {
                        gone.extend(place.subset.take());
                    }
                    stays
                });
                !same_hash.is_empty()
            });
            !values.is_empty()
        });
    }
}

/// What a selector says of requests that no subset is for, by its keys.
#[derive(Default)]
pub struct SelectorTree {
    said: Option<(SelectorFallback, Arc<[String]>)>,
    children: HashMap<String, SelectorTree>,
}

impl SelectorTree {
    pub fn new(selectors: &[Selector]) -> Self {
        let mut root = Self::default();
        for Selector { keys, fallback_policy, fallback_keys_subset, .. } in selectors {
            let mut at = &mut root;
            for (i, key) in keys.iter().enumerate() {
                let is_new = !at.children.contains_key(key);
                at = at.children.entry(key.clone()).or_default();
                // As in Envoy: the first that comes this way says it.
                if is_new && i + 1 == keys.len() {
                    at.said = Some((*fallback_policy, fallback_keys_subset.clone()));
                }
            }
        }
        root
    }

    /// What is said for criteria with exactly the keys of a selector.
    pub fn find(&self, criteria: Criteria<'_>) -> Option<(SelectorFallback, &Arc<[String]>)> {
        let at = criteria.iter().try_fold(self, |at, (name, _)| at.children.get(name))?;
        at.said.as_ref().map(|(policy, keys)| (*policy, keys))
    }
}

/// The keys and values of a host by which a selector tells it apart, once for each subset that it is in.
pub fn extract<'a>(
    keys: &'a [String],
    said: &'a Map<String, Value>,
    list_as_any: bool,
) -> Vec<Vec<(&'a str, &'a Value)>> {
    let mut all: Vec<Vec<(&str, &Value)>> = Vec::new();
    for key in keys {
        let Some(value) = said.get(key) else { return Vec::new() };
        let values = match value {
            Value::Array(values) if list_as_any => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        if all.is_empty() {
            all = values.iter().map(|value| vec![(key.as_str(), value)]).collect();
            continue;
        }
        let with = |pairs: &Vec<(&'a str, &'a Value)>, value: &'a Value| {
            let mut pairs = pairs.clone();
            pairs.push((key.as_str(), value));
            pairs
        };
        all = all.iter().flat_map(|pairs| values.iter().map(|value| with(pairs, value))).collect();
    }
    // One whose first list is empty is in a subset of fewer keys in Envoy; that is nobody's.
    all.retain(|pairs| pairs.len() == keys.len());
    all
}

fn hash_of(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_into(value, &mut hasher);
    hasher.finish()
}

/// Equal values are alike, numbers however they are written.
fn hash_into(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(flag) => flag.hash(hasher),
        Value::Number(number) => (number.as_f64().unwrap_or(0.0) + 0.0).to_bits().hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::Array(values) => values.iter().for_each(|value| hash_into(value, hasher)),
        // In no order.
        Value::Object(fields) => fields.len().hash(hasher),
    }
}
