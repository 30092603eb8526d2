//! One contiguous piece of a buffer and the per-thread pools that pieces come from.
//!
//! There are two sizes: large ones are read into, small ones take what is put together here, a head or a
//! short answer. With hundreds of answers waiting at the end of a pass, the size decides what stays in the
//! processor's caches.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Bytes in a pooled slice; also what one socket read asks for (Envoy: 16384).
pub const SLICE_SIZE: usize = 16384;

/// Bytes in a small pooled slice.
pub(super) const SMALL_SLICE_SIZE: usize = 2048;

/// Idle slices a thread keeps (2 MiB).
const POOL_SLICES: usize = 128;

/// Idle small slices a thread keeps (1 MiB).
const POOL_SMALL_SLICES: usize = 512;

type Pool = RefCell<Vec<Box<[u8]>>>;

thread_local! {
    static POOL: Pool = const { RefCell::new(Vec::new()) };
    static SMALL_POOL: Pool = const { RefCell::new(Vec::new()) };
}

/// Readable bytes are `start..end` of the memory; what lies behind `end` is free. No slice has 4 GiB.
pub(super) struct Slice {
    memory: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Slice {
    /// An empty slice of [`SLICE_SIZE`]. Pooled memory keeps old bytes: only `start..end` is ever shown.
    pub(super) fn new() -> Slice {
        Slice::pooled(&POOL, SLICE_SIZE)
    }

    /// An empty slice for data of which `n` bytes are at hand: a small one if they fit.
    #[inline(always)]
    pub(super) fn for_data(n: usize) -> Slice {
        if n <= SMALL_SLICE_SIZE { Slice::pooled(&SMALL_POOL, SMALL_SLICE_SIZE) } else { Slice::new() }
    }

    #[inline]
    fn pooled(pool: &'static LocalKey<Pool>, size: usize) -> Slice {
        let pooled = pool.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let memory = pooled.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Slice { memory, start: 0, end: 0 }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.memory[self.start as usize..self.end as usize]
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The free space behind the data.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.end as usize..]
    }

    pub(super) fn space_len(&self) -> usize {
        self.memory.len() - self.end as usize
    }

    /// Takes `n` bytes of [`Slice::space`] as data.
    pub(super) fn commit(&mut self, n: usize) {
        debug_assert!(n <= self.space_len());
        self.end += n as u32;
    }

    /// Copies what fits and returns how much that was.
    pub(super) fn append(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.space_len());
        self.space()[..n].copy_from_slice(&data[..n]);
        self.end += n as u32;
        n
    }

    pub(super) fn drain(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start += n as u32;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// A slice with memory of exactly `size` bytes, outside the pool.
    pub(super) fn unpooled(size: usize) -> Slice {
        assert!(u32::try_from(size).is_ok(), "a slice of 4 GiB");
        Slice { memory: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Drop for Slice {
    #[inline(always)]
    fn drop(&mut self) {
        let (pool, limit) = match self.memory.len() {
            SLICE_SIZE => (&POOL, POOL_SLICES),
            SMALL_SLICE_SIZE => (&SMALL_POOL, POOL_SMALL_SLICES),
            _ => return,
        };
        let memory = std::mem::take(&mut self.memory);
        // During thread exit the pool may be gone already; then the memory is simply freed.
        let _ = pool.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < limit {
                pool.push(memory);
            }
        });
    }
}
