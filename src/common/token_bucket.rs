//! Token buckets. Mirrors Envoy's `source/common/common/token_bucket_impl.cc`, of which [`AtomicTokenBucketImpl`] is of
//! 1.40.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// So many tokens at most, filled at a constant rate; full at first.
#[derive(Debug)]
pub struct TokenBucketImpl {
    max_tokens: f64,
    /// Tokens per second.
    fill_rate: f64,
    tokens: f64,
    last_fill: Instant,
}

impl TokenBucketImpl {
    /// A full one.
    pub fn new(max_tokens: u64, fill_rate: f64, now: Instant) -> Self {
        let max_tokens = max_tokens as f64;
        TokenBucketImpl { max_tokens, fill_rate, tokens: max_tokens, last_fill: now }
    }

    /// Has so many tokens from here on.
    pub fn reset(&mut self, tokens: u64, now: Instant) {
        self.tokens = self.max_tokens.min(tokens as f64);
        self.last_fill = now;
    }

    /// Takes `tokens`, or as many as there are with `allow_partial`, and says how many it took.
    pub fn consume(&mut self, tokens: u64, allow_partial: bool, now: Instant) -> u64 {
        if self.tokens < self.max_tokens {
            let since = now.saturating_duration_since(self.last_fill).as_secs_f64();
            self.tokens = self.max_tokens.min(since * self.fill_rate + self.tokens);
            self.last_fill = now;
        }
        let tokens = if allow_partial { tokens.min(self.tokens as u64) } else { tokens };
        if self.tokens < tokens as f64 {
            return 0;
        }
        self.tokens -= tokens as f64;
        tokens
    }

    /// When to ask for the next one.
    pub fn next_token_available(&self) -> Duration {
        if self.tokens >= 1.0 {
            return Duration::ZERO;
        }
        Duration::from_millis((1000.0 / self.fill_rate).ceil() as u64)
    }
}

/// A bucket for several threads. All that it knows is the time at which it would have been empty.
#[derive(Debug)]
pub struct AtomicTokenBucketImpl {
    max_tokens: f64,
    /// Tokens per second.
    fill_rate: f64,
    /// The bits of a number of seconds.
    empty_at: AtomicU64,
}

/// Seconds are counted from here.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Seconds until now.
fn now() -> f64 {
    START.elapsed().as_secs_f64()
}

impl AtomicTokenBucketImpl {
    /// A full one.
    pub fn new(max_tokens: u64, fill_rate: f64) -> Self {
        let max_tokens = max_tokens as f64;
        let empty_at = AtomicU64::new((now() - max_tokens / fill_rate).to_bits());
        AtomicTokenBucketImpl { max_tokens, fill_rate, empty_at }
    }

    /// Takes `tokens`, or none if there are not so many.
    pub fn consume(&self, tokens: u64) -> bool {
        self.consume_at(tokens as f64, now())
    }

    fn consume_at(&self, tokens: f64, now: f64) -> bool {
        let take = |empty_at: u64| {
            let left = self.tokens_at(f64::from_bits(empty_at), now) - tokens;
            (left >= 0.0).then(|| (now - left / self.fill_rate).to_bits())
        };
        self.empty_at.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    fn tokens_at(&self, empty_at: f64, now: f64) -> f64 {
        self.max_tokens.min((now - empty_at) * self.fill_rate)
    }

    /// How many there may be.
    pub fn max_tokens(&self) -> u64 {
        self.max_tokens as u64
    }

    /// Tokens per second.
    pub fn fill_rate(&self) -> f64 {
        self.fill_rate
    }

    /// How many there are.
    pub fn remaining_tokens(&self) -> f64 {
        self.tokens_at(f64::from_bits(self.empty_at.load(Relaxed)), now()).max(0.0)
    }

    /// How long there will be none.
    pub fn next_token_available(&self) -> Duration {
        let missing = 1.0 - self.remaining_tokens();
        Duration::try_from_secs_f64((missing / self.fill_rate).max(0.0)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time() {
        let start = Instant::now();
        let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut bucket = TokenBucketImpl::new(16, 16.0, start);
        assert_eq!(bucket.next_token_available(), Duration::ZERO);
        assert_eq!(bucket.consume(20, false, start), 0, "all or nothing");
        assert_eq!(bucket.consume(20, true, start), 16);
        assert_eq!(bucket.consume(1, true, after(0.05)), 0);
        assert_eq!(bucket.next_token_available(), Duration::from_millis(63));
        assert_eq!(bucket.consume(1, false, after(0.0625)), 1);
        assert_eq!(bucket.consume(9, true, after(0.5625)), 8);
        assert_eq!(bucket.consume(99, true, after(90.0)), 16, "no more than there is room for");
        bucket.reset(2, after(90.0));
        assert_eq!(bucket.consume(99, true, after(90.0)), 2);
    }

    #[test]
    fn an_atomic_bucket_knows_when_it_was_empty() {
        let bucket = AtomicTokenBucketImpl::new(4, 0.25);
        let start = now();
        assert!(bucket.consume_at(3.0, start));
        assert!(!bucket.consume_at(1.5, start), "all or nothing");
        assert!(bucket.consume_at(1.0, start + 0.01));
        assert!(!bucket.consume_at(1.0, start + 3.9));
        assert!(bucket.consume_at(1.0, start + 4.01));
        assert!(!bucket.consume_at(4.1, start + 1000.0), "no more than there is room for");
        assert!(bucket.consume_at(4.0, start + 1000.0));
        let bucket = AtomicTokenBucketImpl::new(1, 1.0 / 3600.0);
        assert_eq!((bucket.remaining_tokens(), bucket.next_token_available()), (1.0, Duration::ZERO));
        assert!(bucket.consume(1) && !bucket.consume(1));
        assert_eq!(bucket.next_token_available().as_secs(), 3599);
    }

    #[test]
    fn threads_share_the_tokens_of_one_bucket() {
        let bucket = AtomicTokenBucketImpl::new(1000, 1e-6);
        let taken = std::thread::scope(|scope| {
            let taker = || scope.spawn(|| (0..500).filter(|_| bucket.consume(1)).count());
            let takers: Vec<_> = (0..4).map(|_| taker()).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 1000);
    }
}
