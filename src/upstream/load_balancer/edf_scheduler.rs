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
    /// An empty scheduler with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Self {
        EdfScheduler { queue: BinaryHeap::with_capacity(capacity), ..Self::default() }
    }

    /// Adds an entry; `weight` is more than zero.
    pub fn add(&mut self, weight: f64, index: usize) {
        let deadline = self.current_time + 1.0 / weight;
        self.queue.push(Entry { deadline, order: self.order_offset, index });
        self.order_offset += 1;
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
        let mut scheduler = EdfScheduler::with_capacity(weights.len());
        weights.iter().enumerate().for_each(|(i, w)| scheduler.add(*w, i));
        scheduler
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
    fn a_new_weight_counts_from_the_next_pick_on() {
        let mut scheduler = scheduler(&[1.0, 1.0]);
        let weights = [4.0, 1.0];
        assert_eq!(picks(&mut scheduler, &weights, 8), [0, 1, 0, 0, 0, 1, 0, 0]);
        let picked = picks(&mut scheduler, &weights, 500);
        assert_eq!(picked.iter().filter(|i| **i == 0).count(), 400);
    }
}
