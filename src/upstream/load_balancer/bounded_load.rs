//! No host gets much more than its share of the requests: one that has its fill is passed over for another.
//!
//! Mirrors `BoundedLoadHashingLoadBalancer` of Envoy 1.40's `thread_aware_lb_impl.cc`: which host is next depends on the number of the
//! request alone, by the same generator.

use std::cell::RefCell;

use crate::upstream::{ClusterInfoImpl, HostImpl, HostSharedPtr};

/// See the module's description.
pub struct BoundedLoad {
    /// Percent of the average.
    balance_factor: u32,
    /// The order in which hosts are looked at.
    order: RefCell<Vec<u32>>,
}

impl BoundedLoad {
    /// With that percentage of the average.
    pub fn new(balance_factor: u32) -> Self {
        BoundedLoad { balance_factor, order: RefCell::default() }
    }

    /// The place of a host that has room, or else the one that has the least too much; `first` where that has.
    pub fn place(
        &self,
        hash: u64,
        first: usize,
        hosts: &[HostSharedPtr],
        weights: &[f64],
        info: &ClusterInfoImpl,
    ) -> usize {
        let all = info.stats().upstream_rq_active().value() as u32;
        let total_slots = (all.wrapping_add(1).wrapping_mul(self.balance_factor).wrapping_add(99)) / 100;
        let overload = |place: usize| overload_factor(&hosts[place], weights[place], total_slots);
        let mut least = (first, overload(first));
        if least.1 <= 1.0 {
            return first;
        }
        let mut order = self.order.borrow_mut();
        order.clear();
        order.extend(0..hosts.len() as u32);
        let mut random = Mt19937::new(hash as u32);
        for i in 0..order.len() {
            let other = i + random.below((order.len() - i) as u32) as usize;
            order.swap(i, other);
            let place = order[i] as usize;
            if place == first {
                continue;
            }
            let overload = overload(place);
            if overload <= 1.0 {
                return place;
            }
            if overload < least.1 {
                least = (place, overload);
            }
        }
        least.0
    }
}

/// The requests of a host by those that it has room for.
fn overload_factor(host: &HostImpl, weight: f64, total_slots: u32) -> f64 {
    let slots = ((f64::from(total_slots) * weight).ceil() as u32).max(1);
    host.stats().rq_active().value() as f64 / f64::from(slots)
}

/// The generator of that name (`std::mt19937`).
struct Mt19937 {
    state: [u32; 624],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before: u32 = state[i - 1];
            state[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Mt19937 { state, next: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % 624] & 0x7fff_ffff;
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    /// A number less than that.
    fn below(&mut self, limit: u32) -> u32 {
        let step = (1_u64 << 32) / u64::from(limit);
        loop {
            let number = (u64::from(self.next()) / step) as u32;
            if number < limit {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_known_one() {
        let mut random = Mt19937::new(5489);
        // What the standard of C++ demands of the 10000th number.
        let last = (0..10_000).map(|_| random.next()).last();
        assert_eq!(last, Some(4_123_659_995));
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
