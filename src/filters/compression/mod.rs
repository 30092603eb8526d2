//! What makes bodies smaller, and as they were before.
//!
//! Stands where Envoy 1.40 has the interfaces of `envoy/compression/`. Each library is an extension, which filters name in
//! their configuration.

mod brotli;
mod gzip;
#[cfg(test)]
mod tests;
mod zstd;

use std::fmt::Debug;

use crate::buffer::Buffer;
use crate::config::extension::Factory;
use crate::stats::Scope;

pub use self::brotli::{BROTLI_COMPRESSOR, BROTLI_DECOMPRESSOR};
pub use gzip::{GZIP_COMPRESSOR, GZIP_DECOMPRESSOR};
pub use zstd::{ZSTD_COMPRESSOR, ZSTD_DECOMPRESSOR};

/// Reads the configuration of what makes bodies smaller.
pub type CompressorLibrary = Factory<dyn CompressorFactory>;
/// Reads the configuration of what makes them as they were.
pub type DecompressorLibrary = Factory<dyn DecompressorFactory>;

/// Makes one body smaller.
pub trait Compressor {
    /// Takes the next piece, and leaves in its place all that can be said of it; of the last one, with the end.
    fn compress(&mut self, piece: &mut Buffer, is_last: bool);
}

/// Makes compressors.
pub trait CompressorFactory: Debug + Send + Sync {
    /// One for a body.
    fn create_compressor(&self) -> Box<dyn Compressor>;
    /// The name in `content-encoding`.
    fn content_encoding(&self) -> &'static str;
    /// The name of its statistics.
    fn stats_prefix(&self) -> &'static str {
        self.content_encoding()
    }
}

/// Makes one body as it was.
pub trait Decompressor {
    /// Adds to `output` what has become of the next piece.
    fn decompress(&mut self, input: &Buffer, output: &mut Buffer);
}

/// Makes a decompressor.
pub type CreateDecompressor = Box<dyn Fn() -> Box<dyn Decompressor> + Send + Sync>;

/// Makes decompressors.
pub trait DecompressorFactory: Debug + Send + Sync {
    /// What makes one for a body; what is wrong with bodies is counted in `scope`, from the first one on.
    fn create_decompressor(&self, scope: &Scope) -> CreateDecompressor;
    /// The name in `content-encoding`.
    fn content_encoding(&self) -> &'static str;
    /// The name of its statistics.
    fn stats_prefix(&self) -> &'static str {
        self.content_encoding()
    }
}
