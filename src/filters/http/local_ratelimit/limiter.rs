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

    /// Takes so many tokens, or none if there are not so many. To take none at all is to fail, as in Envoy.
    fn consume(&self, tokens: u64) -> bool {
        tokens > 0 && self.bucket.consume(tokens)
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

/// A description of a request.
pub(super) struct Described {
    pub descriptor: Descriptor,
    /// How many requests it counts as.
    pub hits: u64,
    /// Whether its client is told how many are left; `None` leaves it to the filter.
    pub x_ratelimit_option: Option<bool>,
}

/// What becomes of a request.
pub(super) struct Result {
    pub allowed: bool,
    /// It is not, but this is only counted.
    pub shadow_mode: bool,
    /// The bucket that the client is told of.
    pub token_bucket: Option<Arc<RateLimitTokenBucket>>,
    /// Whether it is; `None` leaves it to the filter.
    pub x_ratelimit_option: Option<bool>,
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
    pub fn request_allowed(&self, request: &[Described]) -> Result {
        let of = |described: &Described| {
            let exact = self.descriptors.iter().find(|(entries, _)| *entries == described.descriptor);
            let bucket = match exact {
                Some((_, bucket)) => Some(Cow::Borrowed(bucket)),
                None => {
                    let mut dynamic = self.dynamic_descriptors.iter();
                    dynamic.find_map(|dynamic| dynamic.bucket(&described.descriptor)).map(Cow::Owned)
                }
            };
            Some(Matched { bucket: bucket?, hits: described.hits, option: described.x_ratelimit_option })
        };
        let mut matched: SmallVec<[Matched<'_>; 8]> = request.iter().filter_map(of).collect();
        // The slowest first: it is the one that most likely has nothing left.
        matched.sort_by(|a, b| a.bucket.bucket.fill_rate().total_cmp(&b.bucket.bucket.fill_rate()));
        let mut shadowed = None;
        for one in &matched {
            if one.bucket.consume(one.hits) {
                continue;
            }
            if !one.bucket.shadow_mode {
                return one.result(false, false);
            }
            shadowed.get_or_insert(one);
        }
        let first = matched.first();
        let default = self.default_token_bucket.as_ref();
        let of_default = |allowed| Result {
            allowed,
            shadow_mode: false,
            token_bucket: default.cloned(),
            x_ratelimit_option: None,
        };
        if let Some(default) = default.filter(|_| first.is_none() || self.always_consume_default_token_bucket)
            && !default.consume(1)
        {
            return of_default(false);
        }
        match (shadowed, first) {
            (Some(shadowed), _) => shadowed.result(false, true),
            (None, Some(first)) => first.result(true, false),
            (None, None) => of_default(true),
        }
    }
}

/// A bucket that a request is to take from.
struct Matched<'a> {
    bucket: Cow<'a, Arc<RateLimitTokenBucket>>,
    hits: u64,
    option: Option<bool>,
}

impl Matched<'_> {
    fn result(&self, allowed: bool, shadow_mode: bool) -> Result {
        let token_bucket = Some(Arc::clone(&self.bucket));
        Result { allowed, shadow_mode, token_bucket, x_ratelimit_option: self.option }
    }
}
