//! Zstandard. Mirrors Envoy 1.40's `source/extensions/compression/zstd/compressor/zstd_compressor_impl.cc` and
//! `source/extensions/compression/zstd/decompressor/zstd_decompressor_impl.cc`. Left out: dictionaries.

use std::sync::{Arc, OnceLock};

use zstd_safe::zstd_sys::{ZSTD_EndDirective, ZSTD_ErrorCode};
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, Strategy};

use super::{
    Compressor, CompressorFactory, CompressorLibrary, CreateDecompressor, Decompressor, DecompressorFactory,
    DecompressorLibrary,
};
use crate::buffer::Buffer;
use crate::config::reader::{EnumTable, FromMessage};
use crate::stats::Scope;
use crate::{enum_fields, message, stats_struct};

const ZSTD: &str = "zstd";
/// A piece that becomes so many times as large is wrong.
const MAX_INFLATE_RATIO: usize = 100;

/// Zstandard's compressor among the extensions.
pub static ZSTD_COMPRESSOR: CompressorLibrary = CompressorLibrary::new(
    "envoy.compression.zstd.compressor",
    &["envoy.extensions.compression.zstd.compressor.v3.Zstd"],
    |r| Ok(Arc::new(ZstdCompressor::read(r)?)),
);

/// Zstandard's decompressor among the extensions.
pub static ZSTD_DECOMPRESSOR: DecompressorLibrary = DecompressorLibrary::new(
    "envoy.compression.zstd.decompressor",
    &["envoy.extensions.compression.zstd.decompressor.v3.Zstd"],
    |r| Ok(Arc::new(ZstdDecompressor::read(r)?)),
);

message! {
    /// How much work is put into it.
    #[derive(Eq)]
    pub struct ZstdCompressor = "envoy.extensions.compression.zstd.compressor.v3.Zstd" {
        /// 1..=22; more is smaller, and slower.
        pub compression_level: u32 = 3,
        /// A checksum stands at the end.
        pub enable_checksum: bool,
        /// Of the library, from the fastest on.
        pub strategy: ZstdStrategy,
        /// Pieces of what comes out have this size.
        pub chunk_size: u32 = 131_072,
    }
}

message! {
    /// How a body is made as it was.
    #[derive(Eq)]
    pub struct ZstdDecompressor = "envoy.extensions.compression.zstd.decompressor.v3.Zstd" {
        /// Pieces of what comes out have this size.
        pub chunk_size: u32 = 131_072,
    }
}

/// The library's own; `None` for the level's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ZstdStrategy(Option<Strategy>);

impl ZstdStrategy {
    const TABLE: &EnumTable<Self> = &[
        ("DEFAULT", Self(None)),
        ("FAST", Self(Some(Strategy::ZSTD_fast))),
        ("DFAST", Self(Some(Strategy::ZSTD_dfast))),
        ("GREEDY", Self(Some(Strategy::ZSTD_greedy))),
        ("LAZY", Self(Some(Strategy::ZSTD_lazy))),
        ("LAZY2", Self(Some(Strategy::ZSTD_lazy2))),
        ("BTLAZY2", Self(Some(Strategy::ZSTD_btlazy2))),
        ("BTOPT", Self(Some(Strategy::ZSTD_btopt))),
        ("BTULTRA", Self(Some(Strategy::ZSTD_btultra))),
        ("BTULTRA2", Self(Some(Strategy::ZSTD_btultra2))),
    ];
}

enum_fields! { ZstdStrategy }

impl CompressorFactory for ZstdCompressor {
    fn create_compressor(&self) -> Box<dyn Compressor> {
        let mut context = CCtx::create();
        let strategy = self.strategy.0.map(CParameter::Strategy);
        let level = CParameter::CompressionLevel(self.compression_level as i32);
        for parameter in [Some(level), Some(CParameter::ChecksumFlag(self.enable_checksum)), strategy] {
            // The rules of the API keep them within what the library takes.
            let _ = parameter.map(|parameter| context.set_parameter(parameter));
        }
        Box::new(ZstdCompressorImpl { context, chunk: vec![0; self.chunk_size as usize] })
    }

    fn content_encoding(&self) -> &'static str {
        ZSTD
    }
}

struct ZstdCompressorImpl {
    context: CCtx<'static>,
    chunk: Vec<u8>,
}

impl ZstdCompressorImpl {
    /// Until there is nothing more to come out.
    fn process(&mut self, input: &[u8], output: &mut Buffer, mode: ZSTD_EndDirective) {
        let mut input = InBuffer::around(input);
        loop {
            let mut out = OutBuffer::around(&mut self.chunk[..]);
            let left = self.context.compress_stream2(&mut out, &mut input, mode);
            output.add(out.as_slice());
            let is_over = match mode {
                ZSTD_EndDirective::ZSTD_e_continue => input.pos == input.src.len(),
                _ => left == Ok(0),
            };
            if is_over || left.is_err() {
                return;
            }
        }
    }
}

impl Compressor for ZstdCompressorImpl {
    fn compress(&mut self, piece: &mut Buffer, is_last: bool) {
        let input = std::mem::take(piece);
        for slice in input.chunks() {
            self.process(slice, piece, ZSTD_EndDirective::ZSTD_e_continue);
        }
        let end = if is_last { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_flush };
        self.process(&[], piece, end);
    }
}

stats_struct! {
    /// What has been wrong.
    struct ZstdDecompressorStats {
        counters: [
            zstd_checksum_wrong_error,
            zstd_dictionary_error,
            zstd_generic_error,
            zstd_memory_error,
        ],
        gauges: [],
        histograms: [],
    }
}

impl DecompressorFactory for ZstdDecompressor {
    fn create_decompressor(&self, scope: &Scope) -> CreateDecompressor {
        let (config, scope, stats) = (self.clone(), scope.clone(), OnceLock::new());
        Box::new(move || {
            Box::new(ZstdDecompressorImpl {
                context: DCtx::create(),
                chunk: vec![0; config.chunk_size as usize],
                stats: stats.get_or_init(|| ZstdDecompressorStats::new(&scope)).clone(),
            })
        })
    }

    fn content_encoding(&self) -> &'static str {
        ZSTD
    }
}

struct ZstdDecompressorImpl {
    context: DCtx<'static>,
    chunk: Vec<u8>,
    stats: ZstdDecompressorStats,
}

impl ZstdDecompressorImpl {
    /// False where it cannot go on.
    fn process(&mut self, input: &[u8], output: &mut Buffer) -> bool {
        let mut input = InBuffer::around(input);
        loop {
            let mut out = OutBuffer::around(&mut self.chunk[..]);
            let result = self.context.decompress_stream(&mut out, &mut input);
            let is_full = out.pos() == out.capacity();
            output.add(out.as_slice());
            if let Err(code) = result {
                self.charge_error_stats(code);
                return false;
            }
            if input.pos == input.src.len() && !is_full {
                return true;
            }
        }
    }

    fn charge_error_stats(&self, code: zstd_safe::ErrorCode) {
        // The library's codes are negative numbers of this kind.
        let is = |kind: ZSTD_ErrorCode| code == (kind as usize).wrapping_neg();
        if is(ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
            self.stats.zstd_memory_error.inc();
        } else if is(ZSTD_ErrorCode::ZSTD_error_dictionary_wrong)
            || is(ZSTD_ErrorCode::ZSTD_error_dictionary_corrupted)
        {
            self.stats.zstd_dictionary_error.inc();
        } else if is(ZSTD_ErrorCode::ZSTD_error_checksum_wrong) {
            self.stats.zstd_checksum_wrong_error.inc();
        } else {
            self.stats.zstd_generic_error.inc();
        }
    }
}

impl Decompressor for ZstdDecompressorImpl {
    fn decompress(&mut self, input: &Buffer, output: &mut Buffer) {
        let limit = MAX_INFLATE_RATIO.saturating_mul(input.len());
        for slice in input.chunks().filter(|slice| !slice.is_empty()) {
            if !self.process(slice, output) {
                return;
            }
            if output.len() > limit {
                return self.stats.zstd_generic_error.inc();
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
        let normal = ZstdCompressor::default();
        for config in [
            normal.clone(),
            ZstdCompressor { compression_level: 22, chunk_size: 4096, ..normal.clone() },
            ZstdCompressor { enable_checksum: true, ..normal.clone() },
            ZstdCompressor { strategy: ZstdStrategy(Some(Strategy::ZSTD_btultra2)), ..normal },
        ] {
            there_and_back(&config, &ZstdDecompressor::default());
            there_and_back(&config, &ZstdDecompressor { chunk_size: 4096 });
        }
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let store = Store::new(1);
        let counted = ZstdDecompressorStats::new(&store.root_scope());
        let errors = || (counted.zstd_generic_error.value(), counted.zstd_checksum_wrong_error.value());
        let decompress = |input: &[u8]| decompressed(&ZstdDecompressor::default(), &store, &[input]);
        decompress(b"this is no zstd");
        assert_eq!(errors(), (1, 0));
        let config = ZstdCompressor { enable_checksum: true, ..ZstdCompressor::default() };
        let mut some = compressed(&config, &[b"abcdefghijklmnop"]).concat();
        *some.last_mut().unwrap() ^= 1;
        decompress(&some);
        assert_eq!(errors(), (1, 1));
    }
}
