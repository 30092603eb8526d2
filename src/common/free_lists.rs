//! Memory that a worker has freed, kept for what it makes next.
//!
//! Envoy links tcmalloc for it. A request makes a dozen small objects and frees them again; here they go onto a list for
//! their size which belongs to the thread, and come back from it in a few instructions, without a call of malloc. The
//! binary installs it ([`FreeLists`]); a thread takes part from [`keep`] until what that returns is dropped.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// Sizes go in steps of this many bytes, as those of glibc's malloc do.
const STEP: usize = 16;
/// What malloc needs of the first step.
const OVERHEAD: usize = 8;
const CLASSES: usize = 128;
/// The largest that is kept.
const LARGEST: usize = CLASSES * STEP - OVERHEAD;
/// Bytes that a thread keeps at most.
const MOST_KEPT: usize = 2 << 20;

/// The system's allocator with a free list for each size and thread.
pub struct FreeLists;

struct Lists {
    /// By size; each block's first word points to the next one.
    first: [Cell<*mut u8>; CLASSES],
    /// How many more bytes may be kept; none on a thread that takes no part.
    room: Cell<usize>,
}

thread_local! {
    static LISTS: Lists =
        const { Lists { first: [const { Cell::new(ptr::null_mut()) }; CLASSES], room: Cell::new(0) } };
}

/// Has the calling thread keep what it frees, until the value is dropped.
pub fn keep() -> Keeping {
    LISTS.with(|lists| lists.room.set(MOST_KEPT));
    Keeping(())
}

/// Gives back to the system what malloc holds and nobody uses: to be called when much was freed at once for good.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// See [`keep`].
#[must_use]
pub struct Keeping(());

impl Drop for Keeping {
    fn drop(&mut self) {
        LISTS.with(|lists| {
            lists.room.set(0);
            for (class, first) in lists.first.iter().enumerate() {
                let mut block = first.replace(ptr::null_mut());
                while !block.is_null() {
                    // SAFETY: a block on a list is free, holds the next one's address, and was given out by `System`
                    // with its class's layout.
                    unsafe {
                        let next = block.cast::<*mut u8>().read();
                        System.dealloc(block, layout_of(class));
                        block = next;
                    }
                }
            }
        });
    }
}

/// The list for a layout, if it is of a size and alignment that are kept.
#[inline(always)]
fn class_of(layout: Layout) -> Option<usize> {
    let fits = layout.size() <= LARGEST && layout.align() <= STEP;
    // Nobody asks for a size of zero.
    fits.then(|| (layout.size() + OVERHEAD - 1) / STEP)
}

/// What is asked of the system for a class.
#[inline(always)]
fn layout_of(class: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and the size is small.
    unsafe { Layout::from_size_align_unchecked((class + 1) * STEP - OVERHEAD, STEP) }
}

// SAFETY: every block comes from `System`, with the layout of its class or, where it has none, with its own, and goes back
// to it with the same one. In between it is on one list at most, of which only one thread knows.
unsafe impl GlobalAlloc for FreeLists {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's layout.
            return unsafe { System.alloc(layout) };
        };
        LISTS.with(|lists| {
            let block = lists.first[class].get();
            if block.is_null() {
                // SAFETY: the layout is of no size zero.
                return unsafe { System.alloc(layout_of(class)) };
            }
            // SAFETY: a block on a list holds the next one's address.
            lists.first[class].set(unsafe { block.cast::<*mut u8>().read() });
            lists.room.set(lists.room.get() + (class + 1) * STEP);
            block
        })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: the block was given out for this layout, which has no class.
            return unsafe { System.dealloc(block, layout) };
        };
        LISTS.with(|lists| {
            let Some(room) = lists.room.get().checked_sub((class + 1) * STEP) else {
                // SAFETY: the block was asked for with its class's layout.
                return unsafe { System.dealloc(block, layout_of(class)) };
            };
            // SAFETY: nobody uses the block any more, it has room for an address and is aligned for one.
            unsafe { block.cast::<*mut u8>().write(lists.first[class].get()) };
            lists.first[class].set(block);
            lists.room.set(room);
        });
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(layout).is_none() {
            // SAFETY: the caller's layout.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's layout; the block is as large.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is none that overflows.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class_of(layout), class_of(new)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: the block was given out for this layout, which has no class, and neither has what comes of it.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: both are as large as what is copied; the old one is given back once.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    fn room() -> usize {
        LISTS.with(|lists| lists.room.get())
    }

    #[test]
    fn sizes_have_the_steps_of_malloc() {
        let class = |size| class_of(layout(size));
        assert_eq!(
            (class(1), class(8), class(9), class(24), class(25)),
            (Some(0), Some(0), Some(1), Some(1), Some(2))
        );
        assert_eq!((class(LARGEST), class(LARGEST + 1)), (Some(CLASSES - 1), None));
        assert_eq!(class_of(Layout::from_size_align(64, 32).unwrap()), None);
        for size in 1..=LARGEST {
            assert!(layout_of(class(size).unwrap()).size() >= size);
        }
    }

    #[test]
    fn what_was_freed_last_comes_back_first_and_all_is_given_back() {
        // SAFETY: each block is used within its size, and freed once with its layout.
        unsafe {
            let keeping = keep();
            let (a, b) = (FreeLists.alloc(layout(100)), FreeLists.alloc(layout(100)));
            FreeLists.dealloc(a, layout(100));
            FreeLists.dealloc(b, layout(100));
            assert_eq!(room(), MOST_KEPT - 2 * 112);
            assert_eq!((FreeLists.alloc(layout(97)), FreeLists.alloc(layout(104))), (b, a));
            assert_eq!(room(), MOST_KEPT);
            FreeLists.dealloc(a, layout(104));
            drop(keeping);
            assert_eq!(room(), 0);
            assert!(LISTS.with(|lists| lists.first.iter().all(|first| first.get().is_null())));
            // A thread that takes no part keeps nothing.
            FreeLists.dealloc(b, layout(97));
            assert!(LISTS.with(|lists| lists.first.iter().all(|first| first.get().is_null())));
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        // SAFETY: as above.
        unsafe {
            let _keeping = keep();
            let blocks: Vec<_> = (0..MOST_KEPT / 1008 + 9).map(|_| FreeLists.alloc(layout(1000))).collect();
            for block in blocks {
                FreeLists.dealloc(block, layout(1000));
            }
            assert!(room() < 1008);
        }
    }

    #[test]
    fn a_block_keeps_its_bytes_when_it_grows_and_shrinks() {
        // SAFETY: as above.
        unsafe {
            let _keeping = keep();
            let mut size = 40;
            let mut block = FreeLists.alloc(layout(size));
            block.write_bytes(7, size);
            for next in [41, 48, 300, LARGEST + 1, 100_000, 64] {
                block = FreeLists.realloc(block, layout(size), next);
                let kept = std::slice::from_raw_parts(block, size.min(next).min(40));
                assert!(kept.iter().all(|byte| *byte == 7), "{size} to {next}");
                size = next;
            }
            FreeLists.dealloc(block, layout(size));
            let zeroed = FreeLists.alloc_zeroed(layout(64));
            assert_eq!(std::slice::from_raw_parts(zeroed, 64), [0; 64]);
            FreeLists.dealloc(zeroed, layout(64));
        }
    }
}
