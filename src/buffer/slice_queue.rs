//! The slices of a buffer.
//!
//! Most buffers have one slice, for a moment: it lies in the buffer itself. Further ones are in a queue, and queues are used
//! again.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::slice::Slice;

/// Idle queues that a thread keeps.
const POOL_QUEUES: usize = 64;

/// Longer queues are not kept.
const MAX_POOLED_QUEUE: usize = 16;

thread_local! {
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    static QUEUES: RefCell<Vec<Box<Queue>>> = const { RefCell::new(Vec::new()) };
}

/// See the module's description. Without a first slice there are no others.
#[derive(Default)]
pub(super) struct SliceQueue {
    first: Option<Slice>,
    others: Option<Box<Queue>>,
}

#[derive(Default)]
struct Queue(VecDeque<Slice>);

impl SliceQueue {
    pub(super) const fn new() -> Self {
        SliceQueue { first: None, others: None }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.as_ref().map_or(0, |others| others.0.len())
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Slice> {
        self.first.as_ref()
    }

    #[inline]
    pub(super) fn front_mut(&mut self) -> Option<&mut Slice> {
        self.first.as_mut()
    }

    #[inline]
    pub(super) fn back_mut(&mut self) -> Option<&mut Slice> {
        match &mut self.others {
            Some(others) if !others.0.is_empty() => others.0.back_mut(),
            _ => self.first.as_mut(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slice> {
        self.first.iter().chain(self.others.iter().flat_map(|others| &others.0))
    }

    #[inline]
    pub(super) fn push_back(&mut self, slice: Slice) {
        if self.first.is_none() {
            self.first = Some(slice);
        } else {
            self.others().push_back(slice);
        }
    }

    pub(super) fn push_front(&mut self, slice: Slice) {
        if let Some(second) = self.first.replace(slice) {
            self.others().push_front(second);
        }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Slice> {
        let next = self.others.as_mut().and_then(|others| others.0.pop_front());
        std::mem::replace(&mut self.first, next)
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.first = None;
        if let Some(others) = &mut self.others {
            others.0.clear();
        }
    }

    #[cold]
    fn others(&mut self) -> &mut VecDeque<Slice> {
        let used = || QUEUES.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        &mut self.others.get_or_insert_with(|| used().unwrap_or_default()).0
    }
}

/// Keeps a queue for another buffer.
#[cold]
fn give_back(mut queue: Box<Queue>) {
    queue.0.clear();
    if queue.0.capacity() > MAX_POOLED_QUEUE {
        return;
    }
    let _ = QUEUES.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOL_QUEUES {
            pool.push(queue);
        }
    });
}

impl Drop for SliceQueue {
    #[inline]
    fn drop(&mut self) {
        if let Some(others) = self.others.take() {
            give_back(others);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(byte: u8) -> Slice {
        let mut slice = Slice::for_data(1);
        slice.append(&[byte]);
        slice
    }

    fn content(queue: &SliceQueue) -> Vec<u8> {
        queue.iter().map(|slice| slice.data()[0]).collect()
    }

    #[test]
    fn slices_come_and_go_at_both_ends() {
        let mut queue = SliceQueue::new();
        assert!(queue.pop_front().is_none() && queue.back_mut().is_none() && queue.front().is_none());
        queue.push_back(slice(2));
        assert!(queue.len() == 1 && queue.others.is_none(), "one slice needs no queue");
        queue.push_front(slice(1));
        queue.push_back(slice(3));
        assert_eq!((queue.len(), content(&queue)), (3, vec![1, 2, 3]));
        assert_eq!(queue.back_mut().map(|slice| slice.data()[0]), Some(3));
        assert_eq!(queue.pop_front().map(|slice| slice.data()[0]), Some(1));
        assert_eq!((queue.front().map(|s| s.data()[0]), content(&queue)), (Some(2), vec![2, 3]));
        queue.clear();
        assert_eq!((queue.len(), content(&queue)), (0, vec![]));
    }

    #[test]
    fn a_queue_is_used_again() {
        let mut queue = SliceQueue::new();
        (0..3).for_each(|byte| queue.push_back(slice(byte)));
        let place = |queue: &SliceQueue| queue.others.as_ref().map(|others| &raw const **others);
        let first = place(&queue);
        drop(queue);
        let mut again = SliceQueue::new();
        again.push_back(slice(0));
        again.push_back(slice(1));
        assert_eq!((place(&again), content(&again)), (first, vec![0, 1]));
    }
}
