//! gzip. Mirrors Envoy 1.40's `source/extensions/compression/gzip/compressor/zlib_compressor_impl.cc` and
//! `source/extensions/compression/gzip/decompressor/zlib_decompressor_impl.cc`.

use std::sync::{Arc, OnceLock};

use zlib_rs::{
    Deflate, DeflateConfig, DeflateFlush, Inflate, InflateError, InflateFlush, Method, Status, Strategy,
};

use super::{
    Compressor, CompressorFactory, CompressorLibrary, CreateDecompressor, Decompressor, DecompressorFactory,
    DecompressorLibrary,
};
use crate::buffer::Buffer;
use crate::config::reader::{EnumTable, FromMessage};
use crate::stats::Scope;
use crate::{enum_fields, message, stats_struct};

const GZIP: &str = "gzip";
/// Beside the size of the window: with gzip's head and end.
const WITH_GZIP_HEADER: u32 = 16;

/// gzip's compressor among the extensions.
pub static GZIP_COMPRESSOR: CompressorLibrary = CompressorLibrary::new(
    "envoy.compression.gzip.compressor",
    &["envoy.extensions.compression.gzip.compressor.v3.Gzip"],
    |r| Ok(Arc::new(GzipCompressor::read(r)?)),
);

/// gzip's decompressor among the extensions.
pub static GZIP_DECOMPRESSOR: DecompressorLibrary = DecompressorLibrary::new(
    "envoy.compression.gzip.decompressor",
    &["envoy.extensions.compression.gzip.decompressor.v3.Gzip"],
    |r| Ok(Arc::new(GzipDecompressor::read(r)?)),
);

message! {
    /// How much work is put into it.
    #[derive(Eq)]
    pub struct GzipCompressor = "envoy.extensions.compression.gzip.compressor.v3.Gzip" {
        /// 1..=9; more is faster, and smaller.
        pub memory_level: u32 = 5,
        /// More is smaller, and slower.
        pub compression_level: CompressionLevel,
        /// For what kind of data.
        pub compression_strategy: CompressionStrategy,
        /// So many bits have the number of bytes that are looked back at.
        pub window_bits: u32 = 12,
        /// Pieces of what comes out have this size.
        pub chunk_size: u32 = 4096,
    }
}

message! {
    /// How a body is made as it was.
    #[derive(Eq)]
    pub struct GzipDecompressor = "envoy.extensions.compression.gzip.decompressor.v3.Gzip" {
        /// As of the compressor, or more.
        pub window_bits: u32 = 15,
        /// Pieces of what comes out have this size.
        pub chunk_size: u32 = 4096,
        /// A piece that becomes so many times as large is wrong.
        pub max_inflate_ratio: u32 = 100,
    }
}

/// zlib's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevel(i32);

impl Default for CompressionLevel {
    fn default() -> Self {
        CompressionLevel(-1)
    }
}

impl CompressionLevel {
    const TABLE: &EnumTable<Self> = &[
        ("DEFAULT_COMPRESSION", Self(-1)),
        ("BEST_SPEED", Self(1)),
        ("COMPRESSION_LEVEL_1", Self(1)),
        ("COMPRESSION_LEVEL_2", Self(2)),
        ("COMPRESSION_LEVEL_3", Self(3)),
        ("COMPRESSION_LEVEL_4", Self(4)),
        ("COMPRESSION_LEVEL_5", Self(5)),
        ("COMPRESSION_LEVEL_6", Self(6)),
        ("COMPRESSION_LEVEL_7", Self(7)),
        ("COMPRESSION_LEVEL_8", Self(8)),
        ("COMPRESSION_LEVEL_9", Self(9)),
        ("BEST_COMPRESSION", Self(9)),
    ];
}

/// zlib's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompressionStrategy(Strategy);

impl CompressionStrategy {
    const TABLE: &EnumTable<Self> = &[
        ("DEFAULT_STRATEGY", Self(Strategy::Default)),
        ("FILTERED", Self(Strategy::Filtered)),
        ("HUFFMAN_ONLY", Self(Strategy::HuffmanOnly)),
        ("RLE", Self(Strategy::Rle)),
        ("FIXED", Self(Strategy::Fixed)),
    ];
}

enum_fields! { CompressionLevel, CompressionStrategy }

impl CompressorFactory for GzipCompressor {
    fn create_compressor(&self) -> Box<dyn Compressor> {
        let deflate = Deflate::new_with_config(DeflateConfig {
            level: self.compression_level.0,
            method: Method::Deflated,
            window_bits: (self.window_bits + WITH_GZIP_HEADER) as i32,
            mem_level: self.memory_level as i32,
            strategy: self.compression_strategy.0,
        });
        Box::new(ZlibCompressorImpl { deflate, chunk: vec![0; self.chunk_size as usize] })
    }

    fn content_encoding(&self) -> &'static str {
        GZIP
    }
}

struct ZlibCompressorImpl {
    deflate: Deflate,
    chunk: Vec<u8>,
}

impl ZlibCompressorImpl {
    /// Until there is nothing more to come out.
    fn process(&mut self, mut input: &[u8], output: &mut Buffer, flush: DeflateFlush) {
        loop {
            let before = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(input, &mut self.chunk, flush);
            input = &input[(self.deflate.total_in() - before.0) as usize..];
            let produced = (self.deflate.total_out() - before.1) as usize;
            output.add(&self.chunk[..produced]);
            let is_over = match status {
                Ok(Status::StreamEnd) | Err(_) => true,
                Ok(_) if flush == DeflateFlush::Finish => false,
                Ok(_) => input.is_empty() && produced < self.chunk.len(),
            };
            if is_over {
                return;
            }
        }
    }
}

impl Compressor for ZlibCompressorImpl {
    fn compress(&mut self, piece: &mut Buffer, is_last: bool) {
        let input = std::mem::take(piece);
        for slice in input.chunks() {
            self.process(slice, piece, DeflateFlush::NoFlush);
        }
        self.process(&[], piece, if is_last { DeflateFlush::Finish } else { DeflateFlush::SyncFlush });
    }
}

stats_struct! {
    /// What has been wrong.
    struct ZlibDecompressorStats {
        counters: [
            zlib_buf_error,
            zlib_data_error,
            zlib_errno,
            zlib_mem_error,
            zlib_stream_error,
            zlib_version_error,
        ],
        gauges: [],
        histograms: [],
    }
}

impl DecompressorFactory for GzipDecompressor {
    fn create_decompressor(&self, scope: &Scope) -> CreateDecompressor {
        let (config, scope, stats) = (self.clone(), scope.clone(), OnceLock::new());
        Box::new(move || {
            Box::new(ZlibDecompressorImpl {
                inflate: Inflate::new(true, (config.window_bits + WITH_GZIP_HEADER) as u8),
                chunk: vec![0; config.chunk_size as usize],
                max_inflate_ratio: config.max_inflate_ratio as usize,
                stats: stats.get_or_init(|| ZlibDecompressorStats::new(&scope)).clone(),
            })
        })
    }

    fn content_encoding(&self) -> &'static str {
        GZIP
    }
}

struct ZlibDecompressorImpl {
    inflate: Inflate,
    chunk: Vec<u8>,
    max_inflate_ratio: usize,
    stats: ZlibDecompressorStats,
}

impl ZlibDecompressorImpl {
    /// False where it has become too much.
    fn inflate(&mut self, mut input: &[u8], output: &mut Buffer, limit: usize) -> bool {
        loop {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, &mut self.chunk, InflateFlush::NoFlush);
            input = &input[(self.inflate.total_in() - before.0) as usize..];
            let produced = (self.inflate.total_out() - before.1) as usize;
            output.add(&self.chunk[..produced]);
            let is_over = match status {
                Ok(Status::StreamEnd) => true,
                Ok(_) => input.is_empty() && produced < self.chunk.len(),
                Err(error) => {
                    self.charge_error_stats(error);
                    true
                }
            };
            if is_over {
                return true;
            }
            if output.len() > limit {
                self.stats.zlib_data_error.inc();
                return false;
            }
        }
    }

    fn charge_error_stats(&self, error: InflateError) {
        match error {
            InflateError::DataError | InflateError::NeedDict { .. } => self.stats.zlib_data_error.inc(),
            InflateError::StreamError => self.stats.zlib_stream_error.inc(),
            InflateError::MemError => self.stats.zlib_mem_error.inc(),
        }
    }
}

impl Decompressor for ZlibDecompressorImpl {
    fn decompress(&mut self, input: &Buffer, output: &mut Buffer) {
        let limit = self.max_inflate_ratio.saturating_mul(input.len());
        for slice in input.chunks() {
            if !self.inflate(slice, output, limit) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::compression::tests::{compressed, decompressed, there_and_back};
    use crate::stats::Store;

    #[test]
    fn what_was_compressed_comes_back_piece_by_piece() {
        let normal = GzipCompressor::default();
        for config in [
            normal.clone(),
            GzipCompressor { window_bits: 9, memory_level: 1, ..normal.clone() },
            GzipCompressor { window_bits: 15, memory_level: 9, chunk_size: 65_536, ..normal.clone() },
            GzipCompressor { compression_level: CompressionLevel(9), ..normal.clone() },
            GzipCompressor { compression_strategy: CompressionStrategy(Strategy::HuffmanOnly), ..normal },
        ] {
            there_and_back(&config, &GzipDecompressor::default());
        }
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let store = Store::new(1);
        let counted = ZlibDecompressorStats::new(&store.root_scope());
        let errors = || counted.zlib_data_error.value();
        let normal = GzipDecompressor::default();
        let decompress = |input: &[u8], config| decompressed(config, &store, &[input])[0].len();
        assert_eq!((decompress(b"no gzip", &normal), errors()), (0, 1));
        let config = GzipCompressor { window_bits: 15, ..GzipCompressor::default() };
        let zeros = compressed(&config, &[&[0; 1 << 20]]).concat();
        let came = decompress(&zeros, &normal);
        assert!(came < 1 << 20 && came > 100 * zeros.len(), "{came} of {}", zeros.len());
        assert_eq!(errors(), 2);
        let patient = GzipDecompressor { max_inflate_ratio: 2000, ..normal };
        assert_eq!((decompress(&zeros, &patient), errors()), (1 << 20, 2));
    }
}
