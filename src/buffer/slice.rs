//! One contiguous piece of a buffer and the per-thread pool that pieces come from.

use std::cell::RefCell;

/// Bytes in a pooled slice; also what one socket read asks for (Envoy: 16384).
pub const SLICE_SIZE: usize = 16384;

/// Idle slices a thread keeps (2 MiB).
const POOL_SLICES: usize = 128;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Readable bytes are `start..end` of the memory; what lies behind `end` is free.
pub(super) struct Slice {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Slice {
    /// An empty slice of [`SLICE_SIZE`]. Pooled memory keeps old bytes: only `start..end` is ever shown.
    pub(super) fn new() -> Slice {
        let memory = POOL
            .try_with(|pool| pool.borrow_mut().pop())
            .ok()
            .flatten()
            .unwrap_or_else(|| vec![0; SLICE_SIZE].into_boxed_slice());
        Slice { memory, start: 0, end: 0 }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The free space behind the data.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.end..]
    }

    pub(super) fn space_len(&self) -> usize {
        self.memory.len() - self.end
    }

    /// Takes `n` bytes of [`Slice::space`] as data.
    pub(super) fn commit(&mut self, n: usize) {
        debug_assert!(n <= self.space_len());
        self.end += n;
    }

    /// Copies what fits and returns how much that was.
    pub(super) fn append(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.space_len());
        self.memory[self.end..self.end + n].copy_from_slice(&data[..n]);
        self.end += n;
        n
    }

    pub(super) fn drain(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// A slice with memory of exactly `size` bytes, outside the pool.
    pub(super) fn unpooled(size: usize) -> Slice {
        Slice { memory: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        if self.memory.len() != SLICE_SIZE {
            return;
        }
        let memory = std::mem::take(&mut self.memory);
        // During thread exit the pool may be gone already; then the memory is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_SLICES {
                pool.push(memory);
            }
        });
    }
}
