//! What counts the requests.
//!
//! Mirrors Envoy 1.40's `source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc`. Nothing is filled by a
//! timer: a bucket knows from the time what has come back.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::dynamic::DynamicDescriptor;
use super::message::{LocalRateLimit, LocalRateLimitDescriptor};
use crate::common::token_bucket::AtomicTokenBucketImpl;
use crate::config::core::TokenBucket;
use crate::router::Descriptor;

/// A bucket, which all workers may share.
#[derive(Debug)]
pub(super) struct RateLimitTokenBucket {
    bucket: AtomicTokenBucketImpl,
    /// Requests that are too many are only counted.
    shadow_mode: bool,
}

impl RateLimitTokenBucket {
    pub fn new(config: &TokenBucket, shadow_mode: bool) -> Arc<Self> {
        let bucket = AtomicTokenBucketImpl::new(config.max_tokens.into(), config.fill_rate());
        Arc::new(RateLimitTokenBucket { bucket, shadow_mode })
    }

    pub fn max_tokens(&self) -> u64 {
        self.bucket.max_tokens()
    }

    pub fn remaining_tokens(&self) -> u64 {
        self.bucket.remaining_tokens() as u64
    }

    /// When the next one comes, in seconds that have begun.
    pub fn reset_seconds(&self) -> u64 {
        let next = self.bucket.next_token_available();
        next.as_secs() + u64::from(next.subsec_nanos() > 0)
    }
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct LocalRateLimiterImpl {
    default_token_bucket: Option<Arc<RateLimitTokenBucket>>,
    descriptors: Vec<(Descriptor, Arc<RateLimitTokenBucket>)>,
    /// Those with any values.
    dynamic_descriptors: Vec<DynamicDescriptor>,
    always_consume_default_token_bucket: bool,
}

/// What becomes of a request.
pub(super) struct Result {
    pub allowed: bool,
    /// It is not, but this is only counted.
    pub shadow_mode: bool,
    /// The bucket that the client is told of.
    pub token_bucket: Option<Arc<RateLimitTokenBucket>>,
}

impl LocalRateLimiterImpl {
    pub fn new(config: &LocalRateLimit) -> Self {
        let is_dynamic = |descriptor: &&LocalRateLimitDescriptor| {
            descriptor.entries.iter().any(|entry| entry.value.is_empty())
        };
        let descriptor = |descriptor: &LocalRateLimitDescriptor| {
            let entries = descriptor.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone()));
            let bucket = RateLimitTokenBucket::new(&descriptor.token_bucket, descriptor.shadow_mode);
            (entries.collect(), bucket)
        };
        let bucket = config.token_bucket.as_ref();
        LocalRateLimiterImpl {
            default_token_bucket: bucket.map(|bucket| RateLimitTokenBucket::new(bucket, false)),
            descriptors: config.descriptors.iter().filter(|one| !is_dynamic(one)).map(descriptor).collect(),
            dynamic_descriptors: (config.descriptors.iter().filter(is_dynamic))
                .map(|descriptor| DynamicDescriptor::new(descriptor, config.max_dynamic_descriptors))
                .collect(),
            always_consume_default_token_bucket: config.always_consume_default_token_bucket,
        }
    }

    /// Of a request that is described so.
    pub fn request_allowed(&self, request: &[Descriptor]) -> Result {
        let of = |described: &Descriptor| {
            let exact = self.descriptors.iter().find(|(entries, _)| entries == described);
            match exact {
                Some((_, bucket)) => Some(Cow::Borrowed(bucket)),
                None => {
                    let mut dynamic = self.dynamic_descriptors.iter();
                    dynamic.find_map(|dynamic| dynamic.bucket(described)).map(Cow::Owned)
                }
            }
        };
        let mut matched: SmallVec<[Cow<'_, Arc<RateLimitTokenBucket>>; 8]> =
            request.iter().filter_map(of).collect();
        // The slowest first: it is the one that most likely has nothing left.
        matched.sort_by(|a, b| a.bucket.fill_rate().total_cmp(&b.bucket.fill_rate()));
        let mut shadowed = None;
        for bucket in &matched {
            if bucket.bucket.consume(1) {
                continue;
            }
            if !bucket.shadow_mode {
                return Result { allowed: false, shadow_mode: false, token_bucket: Some(Arc::clone(bucket)) };
            }
            shadowed.get_or_insert(&**bucket);
        }
        let first = matched.first().map(|bucket| &**bucket);
        let default = self.default_token_bucket.as_ref();
        if let Some(default) = default.filter(|_| first.is_none() || self.always_consume_default_token_bucket)
            && !default.bucket.consume(1)
        {
            return Result { allowed: false, shadow_mode: false, token_bucket: Some(default.clone()) };
        }
        let (allowed, bucket) = (shadowed.is_none(), shadowed.or(first).or(default));
        Result { allowed, shadow_mode: !allowed, token_bucket: bucket.cloned() }
    }
}
