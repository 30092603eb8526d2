//! Byte buffers: a queue of slices, moved rather than copied where that pays.
//!
//! Mirrors Envoy's `source/common/buffer/` (`OwnedImpl` and `WatermarkBuffer`). Envoy's 1.1 tree still
//! has a libevent `evbuffer` behind one of its two implementations; legate has only the native one.
//! Slices come from a small per-thread pool, and an empty buffer holds none, so that an idle
//! connection costs no buffer memory.

mod owned;
mod slice;
mod slice_queue;
mod watermark;
mod writer;

pub use owned::Buffer;
pub use slice::SLICE_SIZE;
pub use watermark::WatermarkBuffer;
pub use writer::Writer;
