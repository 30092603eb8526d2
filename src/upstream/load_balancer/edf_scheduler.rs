//! Weighted round robin by earliest deadline first.
//!
//! Mirrors Envoy's `source/common/upstream/edf_scheduler.h`. It schedules indices instead of weak
//! pointers, because it is always rebuilt together with what they point to; and an entry that was
//! picked is put back in place, so that picking allocates nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Entries with deadlines; the earliest is next. Entries with the same deadline come first in, first out.
#[derive(Debug, Default)]
pub struct EdfScheduler {
    queue: BinaryHeap<Entry>,
    current_time: f64,
    /// The order of the next entry.
    order_offset: u64,
}

#[derive(Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    index: usize,
}

impl EdfScheduler {
    /// With entries of (index, weight), as if there had been so many picks (Envoy: `createWithPicks`).
    pub fn with_picks(entries: &[(usize, f64)], picks: u32) -> Self {
        let sum: f64 = entries.iter().map(|(_, weight)| weight).sum();
        // Where nobody has a weight nobody has had a turn.
        let picks = if sum > 0.0 { picks } else { 0 };
        let mut scheduler = Self::default();
        let mut picked: u32 = 0;
        let mut queue = Vec::with_capacity(entries.len());
        for (index, weight) in entries.iter().copied() {
            // It has been picked that often in any case.
            let floor = (weight * f64::from(picks) / sum) as u32;
            picked = picked.saturating_add(floor);
            scheduler.current_time = scheduler.current_time.max(f64::from(floor) / weight);
            let deadline = (f64::from(floor) + 1.0) / weight;
            queue.push(Entry { deadline, order: scheduler.order_offset, index });
            scheduler.order_offset += 1;
        }
        scheduler.queue = queue.into();
        if !entries.is_empty() {
            let weight_of = |index| {
                entries.binary_search_by_key(&index, |(index, _)| *index).map_or(1.0, |at| entries[at].1)
            };
            // The rest is less than one for each entry.
            (picked..picks).for_each(|_| _ = scheduler.pick_and_add(weight_of));
        }
        scheduler
    }

    /// Picks the next entry and adds it again with the weight that `weight` says; `None` if there are
    /// no entries.
    #[inline]
    pub fn pick_and_add(&mut self, weight: impl FnOnce(usize) -> f64) -> Option<usize> {
        let mut top = self.queue.peek_mut()?;
        let index = top.index;
        self.current_time = top.deadline;
        top.deadline += 1.0 / weight(index);
        top.order = self.order_offset;
        self.order_offset += 1;
        Some(index)
    }
}

/// Greater is sooner: the heap has its greatest entry on top.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(scheduler: &mut EdfScheduler, weights: &[f64], count: usize) -> Vec<usize> {
        (0..count).map(|_| scheduler.pick_and_add(|i| weights[i]).unwrap()).collect()
    }

    fn scheduler(weights: &[f64]) -> EdfScheduler {
        EdfScheduler::with_picks(&weights.iter().copied().enumerate().collect::<Vec<_>>(), 0)
    }

    #[test]
    fn an_empty_scheduler_has_nothing() {
        assert_eq!(EdfScheduler::default().pick_and_add(|_| 1.0), None);
    }

    #[test]
    fn equal_weights_take_turns_in_order() {
        let weights = [3.0; 4];
        assert_eq!(picks(&mut scheduler(&weights), &weights, 8), [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn picks_are_proportional_and_interleaved() {
        let weights = [1.0, 2.0, 4.0];
        let mut scheduler = scheduler(&weights);
        assert_eq!(picks(&mut scheduler, &weights, 7), [2, 1, 2, 2, 0, 1, 2]);
        let picked = picks(&mut scheduler, &weights, 7000);
        let count = |index| picked.iter().filter(|i| **i == index).count();
        assert_eq!([count(0), count(1), count(2)], [1000, 2000, 4000]);
    }

    #[test]
    fn picks_beforehand_are_as_if_they_had_been_made() {
        // Of such that doubles know exactly: where two are due at a time, the one in front is first.
        let weights = [1.0, 2.0, 4.0];
        let entries: Vec<_> = weights.iter().copied().enumerate().collect();
        let sequence = picks(&mut scheduler(&weights), &weights, 77);
        for made in 0..70 {
            let mut scheduler = EdfScheduler::with_picks(&entries, made);
            assert_eq!(picks(&mut scheduler, &weights, 7), sequence[made as usize..][..7], "{made}");
        }
        assert_eq!(EdfScheduler::with_picks(&[], 7).pick_and_add(|_| 1.0), None);
        let equal: Vec<_> = (0..5).map(|index| (index, 7.0)).collect();
        assert_eq!(EdfScheduler::with_picks(&equal, u32::MAX).pick_and_add(|_| 7.0), Some(0));
    }

    #[test]
    fn shares_follow_whatever_weights() {
        for _ in 0..200 {
            let hosts = fastrand::usize(1..20);
            let weights: Vec<f64> = (0..hosts).map(|_| f64::from(fastrand::u32(1..50))).collect();
            let entries: Vec<_> = weights.iter().copied().enumerate().collect();
            let mut scheduler = EdfScheduler::with_picks(&entries, fastrand::u32(..1000));
            // Twice round: each has its share then, but for the one pick in which the sums of doubles may differ.
            let all = 2.0 * weights.iter().sum::<f64>();
            let picked = picks(&mut scheduler, &weights, all as usize);
            for (host, weight) in weights.iter().enumerate() {
                let count = picked.iter().filter(|other| **other == host).count();
                assert!(count.abs_diff(2 * *weight as usize) <= 1, "{count} of {weight} in {weights:?}");
            }
        }
    }

    #[test]
    fn without_weights_all_take_turns() {
        let weights = [0.0; 3];
        let entries: Vec<_> = weights.iter().copied().enumerate().collect();
        let mut scheduler = EdfScheduler::with_picks(&entries, u32::MAX);
        assert_eq!(picks(&mut scheduler, &weights, 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn who_has_no_weight_beside_others_has_no_turn() {
        let weights = [0.0, 2.0, 1.0];
        let entries: Vec<_> = weights.iter().copied().enumerate().collect();
        let mut scheduler = EdfScheduler::with_picks(&entries, 1000);
        assert!(!picks(&mut scheduler, &weights, 300).contains(&0));
    }

    #[test]
    fn a_new_weight_counts_from_the_next_pick_on() {
        let mut scheduler = scheduler(&[1.0, 1.0]);
        let weights = [4.0, 1.0];
        assert_eq!(picks(&mut scheduler, &weights, 8), [0, 1, 0, 0, 0, 1, 0, 0]);
        let picked = picks(&mut scheduler, &weights, 500);
        assert_eq!(picked.iter().filter(|i| **i == 0).count(), 400);
    }
}
