//! Which priority gets how much of the requests, and which of them are in panic.
//!
//! Mirrors the computations of `LoadBalancerBase` in Envoy's
//! `source/common/upstream/load_balancer_impl.cc`. As in Envoy 1.40, and not 1.1: draining hosts do not
//! count, and when every priority is in panic each one gets requests by its number of hosts. (In 1.1
//! priority 0 gets all of them if no host is available.)

use self::HostAvailability::{Degraded, Healthy};
use crate::upstream::{HostSharedPtr, HostVectors};

/// The numbers of hosts of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCounts {
    /// All hosts.
    pub total: usize,
    /// Healthy hosts.
    pub healthy: usize,
    /// Degraded hosts.
    pub degraded: usize,
    /// Hosts that do not count for availability.
    pub excluded: usize,
    /// What counts for availability instead of these numbers, if it is the weights.
    pub weights: Option<HostWeights>,
    /// Percent.
    pub overprovisioning_factor: u32,
}

/// The weights of the hosts of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostWeights {
    /// Of all that count.
    pub counted: u64,
    /// Of healthy hosts.
    pub healthy: u64,
    /// Of degraded hosts.
    pub degraded: u64,
}

/// Which hosts of a priority are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAvailability {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
}

/// How requests are spread; the index is the priority. `healthy` and `degraded` together are 100.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriorityLoad {
    /// Percent for the healthy hosts.
    pub healthy: Vec<u32>,
    /// Percent for the degraded hosts.
    pub degraded: Vec<u32>,
    /// Whether a priority has too few available hosts, so that all of its hosts get requests.
    pub panic: Vec<bool>,
}

impl PriorityLoad {
    /// For these priorities, at least one; `panic_threshold` is in percent.
    pub fn compute(priorities: &[HostCounts], panic_threshold: u32) -> Self {
        let healthy: Vec<u32> = priorities.iter().map(|p| p.availability(Healthy)).collect();
        let degraded: Vec<u32> = priorities.iter().map(|p| p.availability(Degraded)).collect();
        let total_availability = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut load = Self::distribute(&healthy, &degraded, total_availability);
        if total_availability < 100 {
            load.panic = priorities.iter().map(|p| p.in_panic(panic_threshold)).collect();
        }
        if load.panic.iter().all(|panic| *panic) {
            load.spread_by_hosts(priorities);
        } else if total_availability == 0 {
            // Panic is switched off: some priority has to be asked in vain.
            load.healthy[0] = 100;
        }
        load
    }

    /// Without the priorities that are `excluded`; `None` if nobody is available in the others.
    pub fn without(priorities: &[HostCounts], excluded: &[bool]) -> Option<Self> {
        let availability = |of: HostAvailability| -> Vec<u32> {
            let left = |i: usize| !excluded.get(i).copied().unwrap_or(false);
            let percent = |(i, p): (usize, &HostCounts)| if left(i) { p.availability(of) } else { 0 };
            priorities.iter().enumerate().map(percent).collect()
        };
        let (healthy, degraded) = (availability(Healthy), availability(Degraded));
        match healthy.iter().chain(&degraded).sum::<u32>().min(100) {
            0 => None,
            total => Some(Self::distribute(&healthy, &degraded, total)),
        }
    }

    /// Fills the healthy hosts from the first priority on, then the degraded ones.
    fn distribute(healthy: &[u32], degraded: &[u32], total_availability: u32) -> Self {
        let none = || vec![0; healthy.len()];
        let mut load = PriorityLoad { healthy: none(), degraded: none(), panic: vec![false; healthy.len()] };
        if total_availability == 0 {
            return load;
        }
        let mut left = 100;
        let available = healthy.iter().zip(&mut load.healthy).chain(degraded.iter().zip(&mut load.degraded));
        for (availability, load) in available {
            *load = left.min(availability * 100 / total_availability);
            left -= *load;
        }
        // What rounding leaves goes to the first that is available.
        let mut loads = healthy.iter().zip(&mut load.healthy).chain(degraded.iter().zip(&mut load.degraded));
        if let Some((_, first)) = loads.find(|(availability, _)| **availability > 0) {
            *first += left;
        }
        load
    }

    fn spread_by_hosts(&mut self, priorities: &[HostCounts]) {
        let all_hosts: usize = priorities.iter().map(|p| p.total).sum();
        let mut left = 100;
        for (load, counts) in self.healthy.iter_mut().zip(priorities) {
            *load = (100 * counts.total).checked_div(all_hosts).unwrap_or(0) as u32;
            left -= *load;
        }
        self.degraded.fill(0);
        let first = priorities.iter().position(|p| p.total > 0).unwrap_or(0);
        self.healthy[first] += left;
    }

    /// The priority and hosts for a random number.
    #[inline]
    pub fn choose(&self, random: u64) -> (usize, HostAvailability) {
        let wanted = (random % 100 + 1) as u32;
        let mut sum = 0;
        for (priority, load) in self.healthy.iter().enumerate() {
            sum += load;
            if wanted <= sum {
                return (priority, Healthy);
            }
        }
        for (priority, load) in self.degraded.iter().enumerate() {
            sum += load;
            if wanted <= sum {
                return (priority, Degraded);
            }
        }
        // Not reached: the sum of all is 100.
        (0, Healthy)
    }
}

impl HostCounts {
    /// Those of a snapshot.
    pub fn of(vectors: &HostVectors) -> Self {
        HostCounts {
            total: vectors.hosts.len(),
            healthy: vectors.healthy_hosts.len(),
            degraded: vectors.degraded_hosts.len(),
            excluded: vectors.excluded_hosts,
            weights: vectors.options.weighted_priority_health.then(|| HostWeights {
                counted: weight_of(&vectors.hosts).saturating_sub(vectors.excluded_weight),
                healthy: weight_of(&vectors.healthy_hosts),
                degraded: weight_of(&vectors.degraded_hosts),
            }),
            overprovisioning_factor: vectors.options.overprovisioning_factor,
        }
    }

    /// Percent, at most 100.
    fn availability(&self, of: HostAvailability) -> u32 {
        let (available, counted) = match (self.weights, of) {
            (Some(weights), Healthy) => (weights.healthy, weights.counted),
            (Some(weights), Degraded) => (weights.degraded, weights.counted),
            (None, Healthy) => (self.healthy as u64, self.counted()),
            (None, Degraded) => (self.degraded as u64, self.counted()),
        };
        let percent = u64::from(self.overprovisioning_factor).saturating_mul(available);
        percent.checked_div(counted).unwrap_or(0).min(100) as u32
    }

    /// Whether too few hosts are available.
    pub fn in_panic(&self, threshold: u32) -> bool {
        let percent = |available: usize| match self.counted() {
            0 => 0.0,
            counted => 100.0 * available as f64 / counted as f64,
        };
        percent(self.healthy) + percent(self.degraded) < f64::from(threshold)
    }

    fn counted(&self) -> u64 {
        self.total.saturating_sub(self.excluded) as u64
    }
}

fn weight_of(hosts: &[HostSharedPtr]) -> u64 {
    hosts.iter().map(|host| u64::from(host.weight())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(total: usize, healthy: usize, degraded: usize) -> HostCounts {
        HostCounts { total, healthy, degraded, excluded: 0, weights: None, overprovisioning_factor: 140 }
    }

    fn compute(priorities: &[(usize, usize, usize)]) -> (Vec<u32>, Vec<u32>, Vec<bool>) {
        let counts: Vec<_> = priorities.iter().map(|(t, h, d)| counts(*t, *h, *d)).collect();
        let load = PriorityLoad::compute(&counts, 50);
        assert_eq!(load.healthy.iter().chain(&load.degraded).sum::<u32>(), 100, "{priorities:?}");
        (load.healthy, load.degraded, load.panic)
    }

    #[test]
    fn a_priority_overflows_when_fewer_than_five_of_seven_are_healthy() {
        // The table in Envoy's documentation of priority levels, by healthy hosts of P0.
        for (healthy, load) in [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35)] {
            let (loads, ..) = compute(&[(100, healthy, 0), (100, 100, 0)]);
            assert_eq!(loads, [load, 100 - load], "{healthy} %");
        }
        assert_eq!(compute(&[(100, 0, 0), (100, 100, 0)]).0, [0, 100]);
    }

    #[test]
    fn what_is_left_is_scaled_up() {
        // 25 % of each, that is 35 + 35 of 70, and all of them in panic: by number of hosts then.
        assert_eq!(compute(&[(100, 25, 0), (100, 25, 0)]), (vec![50, 50], vec![0, 0], vec![true, true]));
        // 20 % and 60 %: 28 and 84 are enough together.
        assert_eq!(compute(&[(5, 1, 0), (5, 3, 0)]), (vec![28, 72], vec![0, 0], vec![false, false]));
        // Only P0 is in panic: 14 and 70 of 84.
        assert_eq!(compute(&[(10, 1, 0), (10, 5, 0)]), (vec![17, 83], vec![0, 0], vec![true, false]));
    }

    #[test]
    fn degraded_hosts_get_what_healthy_ones_cannot_take() {
        assert_eq!(compute(&[(2, 1, 1)]), (vec![70], vec![30], vec![false]));
        assert_eq!(compute(&[(2, 0, 2)]), (vec![0], vec![100], vec![false]));
        assert_eq!(compute(&[(2, 1, 1), (2, 2, 0)]), (vec![70, 30], vec![0, 0], vec![false, false]));
        // 10 / 20 / 10 % healthy and 20 / 10 / 0 % degraded, all without overprovisioning.
        let counts: Vec<_> = [(10, 1, 2), (10, 2, 1), (10, 1, 0)]
            .map(|(t, h, d)| HostCounts { overprovisioning_factor: 100, ..counts(t, h, d) })
            .to_vec();
        let load = PriorityLoad::compute(&counts, 0);
        assert_eq!((load.healthy, load.degraded), (vec![16, 28, 14], vec![28, 14, 0]));
    }

    #[test]
    fn no_priority_panics_while_all_together_suffice() {
        assert_eq!(compute(&[(10, 1, 0), (10, 10, 0)]).2, [false, false]);
        assert_eq!(compute(&[(10, 7, 0)]).2, [false]);
        assert_eq!(compute(&[(10, 5, 0)]).2, [false]);
        assert_eq!(compute(&[(10, 4, 0)]).2, [true]);
        assert_eq!(compute(&[(10, 3, 2)]).2, [false]);
    }

    #[test]
    fn in_total_panic_hosts_count_whatever_their_health() {
        assert_eq!(compute(&[(2, 0, 0), (0, 0, 0), (2, 0, 0)]), (vec![50, 0, 50], vec![0; 3], vec![true; 3]));
        assert_eq!(compute(&[(0, 0, 0), (1, 0, 0), (2, 0, 0)]).0, [0, 34, 66]);
        assert_eq!(compute(&[(0, 0, 0), (0, 0, 0)]), (vec![100, 0], vec![0, 0], vec![true, true]));
    }

    #[test]
    fn without_panic_priority_0_is_asked_in_vain() {
        let load = PriorityLoad::compute(&[counts(2, 0, 0), counts(2, 0, 0)], 0);
        assert_eq!((load.healthy, load.panic), (vec![100, 0], vec![false, false]));
    }

    #[test]
    fn excluded_hosts_do_not_count() {
        let draining = HostCounts { excluded: 6, ..counts(10, 4, 0) };
        let load = PriorityLoad::compute(&[draining, counts(10, 10, 0)], 50);
        assert_eq!(load.healthy, [100, 0]);
        let all = HostCounts { excluded: 2, ..counts(2, 0, 0) };
        assert_eq!(PriorityLoad::compute(&[all], 50).panic, [true]);
    }

    #[test]
    fn weights_may_count_but_for_panic() {
        let weights = Some(HostWeights { counted: 100, healthy: 50, degraded: 10 });
        let weighted = HostCounts { weights, ..counts(10, 9, 1) };
        let load = PriorityLoad::compute(&[weighted, counts(10, 10, 0)], 50);
        assert_eq!((load.healthy, load.degraded), (vec![70, 30], vec![0, 0]));
        let weights = Some(HostWeights { counted: 100, healthy: 50, degraded: 0 });
        let load = PriorityLoad::compute(&[HostCounts { weights, ..counts(10, 1, 0) }], 50);
        assert_eq!((load.healthy, load.panic), (vec![100], vec![true]));
    }

    #[test]
    fn weights_may_be_as_large_as_they_may_be_written() {
        let all = 1000 * u64::from(u32::MAX);
        let weights = |healthy| Some(HostWeights { counted: 2 * all, healthy, degraded: 0 });
        let of = |weights| HostCounts { weights, overprovisioning_factor: u32::MAX, ..counts(10, 9, 1) };
        let load = PriorityLoad::compute(&[of(weights(all)), of(weights(2 * all))], 50);
        assert_eq!(load.healthy, [100, 0]);
    }

    #[test]
    fn the_random_number_walks_the_sums() {
        let load = PriorityLoad { healthy: vec![20, 30], degraded: vec![10, 40], panic: vec![false; 2] };
        let choice = |random| load.choose(random);
        assert_eq!((choice(0), choice(19)), ((0, HostAvailability::Healthy), (0, HostAvailability::Healthy)));
        assert_eq!(
            (choice(20), choice(49)),
            ((1, HostAvailability::Healthy), (1, HostAvailability::Healthy))
        );
        assert_eq!(
            (choice(50), choice(59)),
            ((0, HostAvailability::Degraded), (0, HostAvailability::Degraded))
        );
        assert_eq!(
            (choice(60), choice(199)),
            ((1, HostAvailability::Degraded), (1, HostAvailability::Degraded))
        );
    }
}
