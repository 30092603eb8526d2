//! What counts the requests.
//!
//! Mirrors Envoy 1.40's `source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc`. Nothing is filled by a
//! timer: a bucket knows from the time what has come back.

use std::sync::Arc;

use super::message::TokenBucket;
use crate::common::token_bucket::AtomicTokenBucketImpl;

/// A bucket, which all workers may share.
#[derive(Debug)]
pub(super) struct RateLimitTokenBucket(AtomicTokenBucketImpl);

impl RateLimitTokenBucket {
    fn new(config: &TokenBucket) -> Arc<Self> {
        let fill_rate = f64::from(config.tokens_per_fill) / config.fill_interval.as_secs_f64();
        Arc::new(RateLimitTokenBucket(AtomicTokenBucketImpl::new(config.max_tokens.into(), fill_rate)))
    }

    pub fn max_tokens(&self) -> u64 {
        self.0.max_tokens()
    }

    pub fn remaining_tokens(&self) -> u64 {
        self.0.remaining_tokens() as u64
    }

    /// When the next one comes, in seconds that have begun.
    pub fn reset_seconds(&self) -> u64 {
        let next = self.0.next_token_available();
        next.as_secs() + u64::from(next.subsec_nanos() > 0)
    }
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct LocalRateLimiterImpl {
    default_token_bucket: Option<Arc<RateLimitTokenBucket>>,
}

/// What becomes of a request.
pub(super) struct Result {
    pub allowed: bool,
    /// The bucket that the client is told of.
    pub token_bucket: Option<Arc<RateLimitTokenBucket>>,
}

impl LocalRateLimiterImpl {
    pub fn new(token_bucket: Option<&TokenBucket>) -> Self {
        LocalRateLimiterImpl { default_token_bucket: token_bucket.map(RateLimitTokenBucket::new) }
    }

    pub fn request_allowed(&self) -> Result {
        let Some(bucket) = &self.default_token_bucket else {
            return Result { allowed: true, token_bucket: None };
        };
        Result { allowed: bucket.0.consume(1), token_bucket: Some(bucket.clone()) }
    }
}
