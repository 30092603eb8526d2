//! Brotli. Mirrors Envoy 1.40's `source/extensions/compression/brotli/compressor/brotli_compressor_impl.cc` and
//! `source/extensions/compression/brotli/decompressor/brotli_decompressor_impl.cc`.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use brotli::enc::backward_references::BrotliEncoderMode;
use brotli::enc::{BrotliEncoderParams, StandardAlloc};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, CompressorWriter};

use super::{
    Compressor, CompressorFactory, CompressorLibrary, CreateDecompressor, Decompressor, DecompressorFactory,
    DecompressorLibrary,
};
use crate::buffer::Buffer;
use crate::config::reader::{EnumTable, FromMessage};
use crate::stats::Scope;
use crate::{enum_fields, message, stats_struct};

const BROTLI: &str = "br";
/// A piece that becomes so many times as large is wrong.
const MAX_INFLATE_RATIO: usize = 100;

/// Brotli's compressor among the extensions.
pub static BROTLI_COMPRESSOR: CompressorLibrary = CompressorLibrary::new(
    "envoy.compression.brotli.compressor",
    &["envoy.extensions.compression.brotli.compressor.v3.Brotli"],
    |r| Ok(Arc::new(BrotliCompressor::read(r)?)),
);

/// Brotli's decompressor among the extensions.
pub static BROTLI_DECOMPRESSOR: DecompressorLibrary = DecompressorLibrary::new(
    "envoy.compression.brotli.decompressor",
    &["envoy.extensions.compression.brotli.decompressor.v3.Brotli"],
    |r| Ok(Arc::new(BrotliDecompressor::read(r)?)),
);

message! {
    /// How much work is put into it.
    #[derive(Eq)]
    pub struct BrotliCompressor = "envoy.extensions.compression.brotli.compressor.v3.Brotli" {
        /// 0..=11; more is smaller, and slower.
        pub quality: u32 = 3,
        /// For what kind of data.
        pub encoder_mode: EncoderMode,
        /// So many bits have the number of bytes that are looked back at.
        pub window_bits: u32 = 18,
        /// So many bits have the number of bytes that are looked at together.
        pub input_block_bits: u32 = 24,
        /// Pieces of what comes out have this size.
        pub chunk_size: u32 = 4096,
        /// Faster, and larger.
        pub disable_literal_context_modeling: bool,
    }
}

message! {
    /// How a body is made as it was.
    #[derive(Eq)]
    pub struct BrotliDecompressor = "envoy.extensions.compression.brotli.decompressor.v3.Brotli" {
        /// Its memory is had at once.
        pub disable_ring_buffer_reallocation: bool,
        /// Pieces of what comes out have this size.
        pub chunk_size: u32 = 4096,
    }
}

/// For what kind of data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EncoderMode {
    /// Any.
    #[default]
    Generic,
    /// Text in UTF-8.
    Text,
    /// Fonts.
    Font,
}

impl EncoderMode {
    const TABLE: &EnumTable<Self> =
        &[("DEFAULT", Self::Generic), ("GENERIC", Self::Generic), ("TEXT", Self::Text), ("FONT", Self::Font)];
}

enum_fields! { EncoderMode }

impl CompressorFactory for BrotliCompressor {
    fn create_compressor(&self) -> Box<dyn Compressor> {
        let params = BrotliEncoderParams {
            quality: self.quality as i32,
            mode: match self.encoder_mode {
                EncoderMode::Generic => BrotliEncoderMode::BROTLI_MODE_GENERIC,
                EncoderMode::Text => BrotliEncoderMode::BROTLI_MODE_TEXT,
                EncoderMode::Font => BrotliEncoderMode::BROTLI_MODE_FONT,
            },
            lgwin: self.window_bits as i32,
            lgblock: self.input_block_bits as i32,
            disable_literal_context_modeling: self.disable_literal_context_modeling.into(),
            ..BrotliEncoderParams::default()
        };
        let writer = CompressorWriter::with_params(Vec::new(), self.chunk_size as usize, &params);
        Box::new(BrotliCompressorImpl { writer: Some(writer) })
    }

    fn content_encoding(&self) -> &'static str {
        BROTLI
    }

    fn stats_prefix(&self) -> &'static str {
        "brotli"
    }
}

struct BrotliCompressorImpl {
    /// `None` once it has ended.
    writer: Option<CompressorWriter<Vec<u8>>>,
}

impl Compressor for BrotliCompressorImpl {
    fn compress(&mut self, piece: &mut Buffer, is_last: bool) {
        let input = std::mem::take(piece);
        let Some(writer) = &mut self.writer else { return };
        for slice in input.chunks() {
            let _ = writer.write_all(slice); // a vector takes everything
        }
        if !is_last {
            let _ = writer.flush(); // as above
            return piece.add(&std::mem::take(writer.get_mut()));
        }
        if let Some(writer) = self.writer.take() {
            piece.add(&writer.into_inner());
        }
    }
}

stats_struct! {
    /// What has been wrong.
    struct BrotliDecompressorStats {
        counters: [brotli_error, brotli_output_overflow, brotli_redundant_input],
        gauges: [],
        histograms: [],
    }
}

impl DecompressorFactory for BrotliDecompressor {
    fn create_decompressor(&self, scope: &Scope) -> CreateDecompressor {
        let (config, scope, stats) = (self.clone(), scope.clone(), OnceLock::new());
        Box::new(move || {
            let alloc = StandardAlloc::default;
            Box::new(BrotliDecompressorImpl {
                state: Box::new(BrotliState::new(alloc(), alloc(), alloc())),
                chunk: vec![0; config.chunk_size as usize],
                filled: 0,
                stats: stats.get_or_init(|| BrotliDecompressorStats::new(&scope)).clone(),
            })
        })
    }

    fn content_encoding(&self) -> &'static str {
        BROTLI
    }

    fn stats_prefix(&self) -> &'static str {
        "brotli"
    }
}

struct BrotliDecompressorImpl {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    chunk: Vec<u8>,
    /// So much of the chunk is not yet put out.
    filled: usize,
    stats: BrotliDecompressorStats,
}

impl BrotliDecompressorImpl {
    /// Goes on with `input`, of which it takes what it has read; false where it cannot go on.
    fn process(&mut self, input: &mut &[u8], output: &mut Buffer, limit: usize) -> bool {
        let (mut available_in, mut input_offset, mut total_out) = (input.len(), 0, 0);
        let mut available_out = self.chunk.len() - self.filled;
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut input_offset,
            input,
            &mut available_out,
            &mut self.filled,
            &mut self.chunk,
            &mut total_out,
            &mut self.state,
        );
        *input = &input[input_offset..];
        if matches!(result, BrotliResult::ResultFailure) {
            self.stats.brotli_error.inc();
            return false;
        }
        if output.len() > limit {
            self.stats.brotli_output_overflow.inc();
            return false;
        }
        if matches!(result, BrotliResult::ResultSuccess) && !input.is_empty() {
            self.stats.brotli_redundant_input.inc();
            return false;
        }
        if available_out == 0 {
            self.finalize_output(output);
        }
        true
    }

    fn process_all(&mut self, input: &Buffer, output: &mut Buffer) {
        let limit = MAX_INFLATE_RATIO.saturating_mul(input.len());
        for mut slice in input.chunks() {
            while !slice.is_empty() {
                if !self.process(&mut slice, output, limit) {
                    return;
                }
            }
        }
        // All has been read, but where a chunk was filled there may be more to come.
        loop {
            let before = output.len();
            if !self.process(&mut &[][..], output, limit) || output.len() == before {
                return;
            }
        }
    }

    fn finalize_output(&mut self, output: &mut Buffer) {
        output.add(&self.chunk[..self.filled]);
        self.filled = 0;
    }
}

impl Decompressor for BrotliDecompressorImpl {
    fn decompress(&mut self, input: &Buffer, output: &mut Buffer) {
        self.process_all(input, output);
        self.finalize_output(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::compression::tests::{compressed, decompressed, there_and_back};
    use crate::stats::Store;

    #[test]
    fn what_was_compressed_comes_back_piece_by_piece() {
        let normal = BrotliCompressor::default();
        for config in [
            normal.clone(),
            BrotliCompressor { quality: 0, window_bits: 10, input_block_bits: 16, ..normal.clone() },
            BrotliCompressor { quality: 11, encoder_mode: EncoderMode::Text, ..normal.clone() },
            BrotliCompressor { disable_literal_context_modeling: true, chunk_size: 65_536, ..normal },
        ] {
            there_and_back(&config, &BrotliDecompressor::default());
        }
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let store = Store::new(1);
        let counted = BrotliDecompressorStats::new(&store.root_scope());
        let errors = || {
            let overflow = counted.brotli_output_overflow.value();
            (counted.brotli_error.value(), overflow, counted.brotli_redundant_input.value())
        };
        let decompress =
            |input: &[u8]| decompressed(&BrotliDecompressor::default(), &store, &[input])[0].len();
        decompress(b"no brotli, for sure");
        assert_eq!(errors(), (1, 0, 0));
        let zeros = compressed(&BrotliCompressor::default(), &[&[0; 1 << 20]]).concat();
        assert!(decompress(&zeros) < 1 << 20);
        assert_eq!(errors(), (1, 1, 0));
        let some = compressed(&BrotliCompressor::default(), &[b"abcdefgh"]).concat();
        assert_eq!(decompress(&[&some[..], b"more"].concat()), 8);
        assert_eq!(errors(), (1, 1, 1));
    }
}
