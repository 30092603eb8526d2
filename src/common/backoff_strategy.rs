//! How long to wait before something is tried again. Mirrors Envoy's `source/common/common/backoff_strategy.cc`, with the
//! intervals of 1.40: 1.1 multiplies the first one by 1, 3, 7 and so on.

/// Anything below an interval that doubles each time, up to the longest one.
#[derive(Debug, Clone, Copy)]
pub struct JitteredBackOffStrategy {
    next_interval: u64,
    max_interval: u64,
}

impl JitteredBackOffStrategy {
    /// In milliseconds, neither of them zero.
    pub fn new(base_interval: u64, max_interval: u64) -> Self {
        JitteredBackOffStrategy { next_interval: base_interval, max_interval }
    }

    /// The next pause in milliseconds; what it is of all that it may be comes from `random`.
    pub fn next_back_off_ms(&mut self, random: u64) -> u64 {
        let interval = self.next_interval;
        self.next_interval = if interval < self.max_interval / 2 { interval * 2 } else { self.max_interval };
        (random % interval.max(1)).min(self.max_interval)
    }
}

/// Between an interval that somebody has asked for and half as much again (1.40: `JitteredLowerBoundBackOffStrategy`).
pub fn jittered_lower_bound_ms(min_interval: u64, random: u64) -> u64 {
    random % (min_interval / 2).max(1) + min_interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_longest() {
        let mut strategy = JitteredBackOffStrategy::new(25, 250);
        let mut next = |random| strategy.next_back_off_ms(random);
        assert_eq!([24, 25, 49, 99, 199, 249, 250].map(&mut next), [24, 25, 49, 99, 199, 249, 0]);
        let mut constant = JitteredBackOffStrategy::new(10, 10);
        assert_eq!([9, 19, 10].map(|random| constant.next_back_off_ms(random)), [9, 9, 0]);
    }

    #[test]
    fn who_has_asked_for_an_interval_gets_it() {
        assert_eq!([0, 499, 500].map(|random| jittered_lower_bound_ms(1000, random)), [1000, 1499, 1000]);
    }
}
