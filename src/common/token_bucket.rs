//! A token bucket. Mirrors Envoy's `source/common/common/token_bucket_impl.cc`.

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
}
