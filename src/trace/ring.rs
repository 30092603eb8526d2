//! The ring that one thread writes and another may read at any time.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The last `N` entries of one thread, of `W` words each; `N` is a power of two, so that finding a slot takes no
/// division.
///
/// One thread writes. A reader takes what it finds and afterwards drops what may have been overwritten
/// meanwhile, so neither waits for the other.
pub(super) struct Ring<const N: usize, const W: usize> {
    slots: Box<[[AtomicU64; W]; N]>,
    /// Entries written ever. It only grows: a reader tells by it what has been overwritten.
    written: AtomicU64,
    /// How many of them [`Ring::clear`] has forgotten.
    cleared: AtomicU64,
}

/// What a ring holds.
pub(super) struct Held<const W: usize> {
    /// The oldest first.
    pub entries: Vec<[u64; W]>,
    /// Older ones were overwritten.
    pub overflowed: bool,
}

impl<const N: usize, const W: usize> Ring<N, W> {
    pub(super) fn new() -> Self {
        const { assert!(N.is_power_of_two()) };
        let slots: Box<[_]> = (0..N).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        Ring {
            slots: slots.try_into().expect("N slots"),
            written: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
        } // invariant
    }

    /// Forgets everything. The writing thread's business.
    pub(super) fn clear(&self) {
        self.cleared.store(self.written(), Ordering::Relaxed);
    }

    /// Entries written ever. The writing thread's business.
    #[inline(always)]
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Adds an entry in place of the oldest one. The writing thread's business.
    #[inline(always)]
    pub(super) fn push(&self, entry: [u64; W]) {
        let number = self.written();
        let slot = &self.slots[number as usize & (N - 1)];
        // Who sees the slot change sees, behind the fence in `read`, that its number has come.
        fence(Ordering::Release);
        for (word, value) in slot.iter().zip(entry) {
            word.store(value, Ordering::Relaxed);
        }
        self.written.store(number + 1, Ordering::Release);
    }

    pub(super) fn read(&self) -> Held<W> {
        let capacity = N as u64;
        let end = self.written.load(Ordering::Acquire);
        let start = end.saturating_sub(capacity);
        let entries: Vec<[u64; W]> = (start..end).map(|number| self.slot(number)).collect();
        fence(Ordering::Acquire);
        let now = self.written.load(Ordering::Relaxed);
        // Who has seen an entry sees here what was forgotten before it was written.
        let cleared = self.cleared.load(Ordering::Relaxed);
        // The slot of the entry being written now counts as overwritten.
        let first_whole = (now + 1).saturating_sub(capacity);
        let first = first_whole.max(cleared);
        let entries = entries.into_iter().skip(first.saturating_sub(start) as usize).collect();
        Held { entries, overflowed: first_whole > cleared }
    }

    fn slot(&self, number: u64) -> [u64; W] {
        let slot = &self.slots[number as usize & (N - 1)];
        std::array::from_fn(|i| slot[i].load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(time: u64) -> [u64; 4] {
        [time, 1, 2, time]
    }

    fn times<const N: usize>(ring: &Ring<N, 4>) -> Vec<u64> {
        ring.read().entries.iter().map(|e| e[0]).collect()
    }

    #[test]
    fn the_newest_entries_are_kept_in_order() {
        let ring = Ring::<8, 4>::new();
        assert!(ring.read().entries.is_empty());
        (0..5).for_each(|n| ring.push(entry(n)));
        assert_eq!(times(&ring), [0, 1, 2, 3, 4]);
        assert_eq!(ring.read().entries[4], entry(4));
        assert!(!ring.read().overflowed);
        (5..20).for_each(|n| ring.push(entry(n)));
        // One less than it holds: the oldest may be the one being overwritten.
        assert_eq!(times(&ring), [13, 14, 15, 16, 17, 18, 19]);
        assert!(ring.read().overflowed);
        ring.clear();
        assert!(ring.read().entries.is_empty());
    }

    #[test]
    fn what_is_read_while_it_is_written_is_whole() {
        let ring = Ring::<64, 4>::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|n| ring.push(entry(n))));
            for _ in 0..2000 {
                let events = ring.read().entries;
                assert!(events.windows(2).all(|pair| pair[0][0] + 1 == pair[1][0]));
                assert!(events.iter().all(|e| *e == entry(e[0])));
            }
        });
    }
}

/// What a reader may see, in every order of the two threads and with every value the memory model allows (`make loom`).
#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    const WRITTEN: u64 = 3;

    /// Writes entries while another thread reads once, and checks what that has got. The reader is the younger thread: loom
    /// goes back to the last access of another, which the writer's look at its own counter hides.
    fn read_while_written(check: impl Fn(Held<2>) + Sync + Send + Copy + 'static) {
        loom::model(move || {
            let ring = Arc::new(Ring::<2, 2>::new());
            let reader = ring.clone();
            let reader = thread::spawn(move || check(reader.read()));
            (1..=WRITTEN).for_each(|n| ring.push([n, n]));
            reader.join().unwrap();
            let last = ring.read().entries.last().copied();
            assert_eq!(last, Some([WRITTEN, WRITTEN]), "nothing is lost that is not overwritten");
        });
    }

    #[test]
    fn entries_are_whole_and_follow_each_other() {
        read_while_written(|held| {
            assert!(held.entries.iter().all(|[a, b]| a == b && (1..=WRITTEN).contains(a)), "torn");
            assert!(held.entries.windows(2).all(|pair| pair[0][0] + 1 == pair[1][0]), "out of order");
        });
    }

    #[test]
    fn what_is_there_when_the_ring_is_cleared_is_not_mixed_with_what_comes() {
        loom::model(|| {
            let ring = Arc::new(Ring::<4, 2>::new());
            ring.push([1, 1]);
            let reader = ring.clone();
            let reader = thread::spawn(move || {
                let entries = reader.read().entries;
                assert!(entries.is_empty() || entries == [[1, 1]] || entries == [[2, 2]], "{entries:?}");
            });
            ring.clear();
            ring.push([2, 2]);
            reader.join().unwrap();
        });
    }
}
