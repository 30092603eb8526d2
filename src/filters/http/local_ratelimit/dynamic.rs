//! Buckets that are made when they are asked for: one for each value that a description may have.
//!
//! Mirrors `DynamicDescriptor` and `DynamicDescriptorMap` of Envoy 1.40's
//! `source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc`. As there, workers wait for each other here:
//! which bucket was asked last is known to all of them, and only requests that are described so come here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::limiter::RateLimitTokenBucket;
use super::message::LocalRateLimitDescriptor;
use crate::config::core::TokenBucket;
use crate::router::Descriptor;

/// A description some of whose values may be anything.
#[derive(Debug)]
pub(super) struct DynamicDescriptor {
    /// An empty value is any.
    entries: Descriptor,
    token_bucket: TokenBucket,
    shadow_mode: bool,
    most: usize,
    buckets: Mutex<Buckets>,
}

/// The buckets that were asked last.
#[derive(Debug, Default)]
struct Buckets {
    by_descriptor: HashMap<Arc<Descriptor>, (Arc<RateLimitTokenBucket>, u64)>,
    /// The descriptions, by when they were asked.
    by_age: BTreeMap<u64, Arc<Descriptor>>,
    next: u64,
}

impl DynamicDescriptor {
    pub fn new(config: &LocalRateLimitDescriptor, most: u32) -> Self {
        DynamicDescriptor {
            entries: config.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
            token_bucket: config.token_bucket,
            shadow_mode: config.shadow_mode,
            most: most as usize,
            buckets: Mutex::default(),
        }
    }

    /// The bucket of a request that is described so, if it is one of these.
    pub fn bucket(&self, described: &Descriptor) -> Option<Arc<RateLimitTokenBucket>> {
        let fits = |((key, value), (wanted_key, wanted)): (&(String, String), &(String, String))| {
            key == wanted_key && (wanted.is_empty() || value == wanted)
        };
        if described.len() != self.entries.len() || !described.iter().zip(&self.entries).all(fits) {
            return None;
        }
        let make = || RateLimitTokenBucket::new(&self.token_bucket, self.shadow_mode);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        Some(buckets.get(described, self.most, make))
    }
}

impl Buckets {
    /// The bucket of a description, which is the last one now. The one that is too many goes: it was asked before all others.
    fn get(
        &mut self,
        described: &Descriptor,
        most: usize,
        make: impl FnOnce() -> Arc<RateLimitTokenBucket>,
    ) -> Arc<RateLimitTokenBucket> {
        self.next += 1;
        if let Some((bucket, asked)) = self.by_descriptor.get_mut(described) {
            if let Some(described) = self.by_age.remove(asked) {
                self.by_age.insert(self.next, described);
            }
            *asked = self.next;
            return bucket.clone();
        }
        let (bucket, described) = (make(), Arc::new(described.clone()));
        self.by_age.insert(self.next, described.clone());
        self.by_descriptor.insert(described, (bucket.clone(), self.next));
        if self.by_age.len() > most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_descriptor.remove(&oldest);
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::http::local_ratelimit::message::Entry;
    use std::time::Duration;

    fn described(value: &str) -> Descriptor {
        vec![("k".into(), "v".into()), ("any".into(), value.into())]
    }

    #[test]
    fn the_bucket_goes_that_was_asked_before_all_others() {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        let config = LocalRateLimitDescriptor {
            entries: vec![entry("k", "v"), entry("any", "")],
            token_bucket: TokenBucket {
                max_tokens: 1,
                tokens_per_fill: 1,
                fill_interval: Duration::from_secs(60),
            },
            shadow_mode: false,
        };
        let dynamic = DynamicDescriptor::new(&config, 2);
        let bucket = |value: &str| dynamic.bucket(&described(value)).unwrap();
        let (a, b) = (bucket("a"), bucket("b"));
        assert!(Arc::ptr_eq(&a, &bucket("a")));
        let c = bucket("c");
        assert!(
            Arc::ptr_eq(&a, &bucket("a")) && Arc::ptr_eq(&c, &bucket("c")) && !Arc::ptr_eq(&b, &bucket("b"))
        );
        assert!(!Arc::ptr_eq(&a, &bucket("a")));
        for other in [
            vec![("any".to_string(), "a".to_string())],
            vec![("k".into(), "w".into()), ("any".into(), "a".into())],
        ] {
            assert!(dynamic.bucket(&other).is_none());
        }
    }
}
