//! The filter itself. Mirrors `DecompressorFilter` of Envoy 1.40's
//! `source/extensions/filters/http/decompressor/decompressor_filter.cc`.

use std::cell::{Cell, OnceCell, RefCell};

use super::{DecompressorFilterConfig, DirectionConfig};
use crate::buffer::Buffer;
use crate::common::Local;
use crate::envoy_stream_log;
use crate::filters::compression::Decompressor;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter,
    StreamDecoderFilterCallbacks, StreamEncoderFilter, StreamEncoderFilterCallbacks,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};

pub(super) struct DecompressorFilter {
    config: Local<DecompressorFilterConfig>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    encoder: OnceCell<StreamEncoderFilterCallbacks>,
    request: Way,
    response: Way,
}

/// A body that may be decompressed.
#[derive(Default)]
struct Way {
    decompressor: RefCell<Option<Box<dyn Decompressor>>>,
    compressed_bytes: Cell<u64>,
    uncompressed_bytes: Cell<u64>,
}

impl Way {
    fn is_decompressed(&self) -> bool {
        self.decompressor.borrow().is_some()
    }

    /// Begins, if this is a body to be decompressed.
    fn maybe_init(
        &self,
        config: &DecompressorFilterConfig,
        direction: &DirectionConfig,
        headers: &mut HeaderMap,
    ) {
        let may = direction.enabled.enabled()
            && (direction.ignore_no_transform_header || !has_no_transform(headers));
        if !may || !content_encoding_matches(headers, config.content_encoding) {
            return direction.stats.not_decompressed.inc();
        }
        direction.stats.decompressed.inc();
        *self.decompressor.borrow_mut() = Some((config.create_decompressor)());
        headers.remove(HeaderId::ContentLength);
        modify_content_encoding(headers);
    }

    fn decompress(&self, direction: &DirectionConfig, data: &mut Buffer) {
        let Some(decompressor) = &mut *self.decompressor.borrow_mut() else { return };
        let input = std::mem::take(data);
        decompressor.decompress(&input, data);
        let (compressed, uncompressed) = (input.len() as u64, data.len() as u64);
        self.compressed_bytes.set(self.compressed_bytes.get() + compressed);
        self.uncompressed_bytes.set(self.uncompressed_bytes.get() + uncompressed);
        direction.stats.total_compressed_bytes.add(compressed);
        direction.stats.total_uncompressed_bytes.add(uncompressed);
    }

    fn report_total_bytes(&self, config: &DecompressorFilterConfig, trailers: Option<&HeaderMapPtr>) {
        let Some(trailers) = trailers.filter(|_| self.is_decompressed()) else { return };
        let [compressed, uncompressed] = &config.trailers;
        let mut trailers = trailers.borrow_mut();
        trailers.add(compressed, self.compressed_bytes.get().to_string().as_bytes());
        trailers.add(uncompressed, self.uncompressed_bytes.get().to_string().as_bytes());
    }
}

fn has_no_transform(headers: &HeaderMap) -> bool {
    let mut tokens = headers.get(HeaderId::CacheControl).unwrap_or_default().split(|byte| *byte == b',');
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// The encoding that was made last is named first in Envoy.
fn content_encoding_matches(headers: &HeaderMap, encoding: &str) -> bool {
    let value = headers.get(HeaderId::ContentEncoding);
    let first = value.and_then(|value| value.split(|byte| *byte == b',').next());
    first.is_some_and(|first| first.trim_ascii().eq_ignore_ascii_case(encoding.as_bytes()))
}

fn modify_content_encoding(headers: &mut HeaderMap) {
    let value = headers.get(HeaderId::ContentEncoding).unwrap_or_default();
    match value.iter().position(|byte| *byte == b',') {
        Some(comma) => {
            let rest = value[comma + 1..].trim_ascii().to_vec();
            headers.set(HeaderId::ContentEncoding, &rest);
        }
        None => headers.remove(HeaderId::ContentEncoding),
    }
}

/// Adds an encoding to those that are accepted, most of all.
fn add_encoding_to_accept_encoding(headers: &mut HeaderMap, encoding: &str) {
    let value = headers.get(HeaderId::AcceptEncoding).unwrap_or_default();
    let is_other = |token: &&[u8]| {
        let name = token.split(|byte| *byte == b';').next().unwrap_or_default();
        !token.is_empty() && name != encoding.as_bytes()
    };
    let others = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(is_other);
    let all: Vec<_> = others.chain([encoding.as_bytes()]).collect();
    let value = all.join(&b","[..]);
    headers.set(HeaderId::AcceptEncoding, &value);
}

impl DecompressorFilter {
    pub fn new(config: Local<DecompressorFilterConfig>) -> Self {
        DecompressorFilter {
            config,
            decoder: OnceCell::new(),
            encoder: OnceCell::new(),
            request: Way::default(),
            response: Way::default(),
        }
    }
}

impl StreamDecoderFilter for DecompressorFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let config = &self.config;
        let headers = &mut *headers.borrow_mut();
        if config.advertise_accept_encoding && config.response.enabled.enabled() {
            add_encoding_to_accept_encoding(headers, config.content_encoding);
            if let Some(callbacks) = self.decoder.get() {
                envoy_stream_log!(
                    Filter,
                    debug,
                    callbacks.connection_id(),
                    callbacks.stream_id(),
                    "DecompressorFilter::decodeHeaders advertise Accept-Encoding with value '{}'",
                    headers.get_str(HeaderId::AcceptEncoding).unwrap_or_default()
                );
            }
        }
        if !end_stream {
            self.request.maybe_init(config, &config.request, headers);
        }
        FilterHeadersStatus::Continue
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        if !self.request.is_decompressed() {
            return FilterDataStatus::Continue;
        }
        self.request.decompress(&self.config.request, data);
        if end_stream {
            let trailers = self.decoder.get().and_then(|callbacks| callbacks.add_decoded_trailers());
            self.request.report_total_bytes(&self.config, trailers.as_ref());
        }
        FilterDataStatus::Continue
    }

    fn decode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        self.request.report_total_bytes(&self.config, Some(trailers));
        FilterTrailersStatus::Continue
    }
}

impl StreamEncoderFilter for DecompressorFilter {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.encoder.get_or_init(|| callbacks);
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        if !end_stream {
            self.response.maybe_init(&self.config, &self.config.response, &mut headers.borrow_mut());
        }
        FilterHeadersStatus::Continue
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        if !self.response.is_decompressed() {
            return FilterDataStatus::Continue;
        }
        self.response.decompress(&self.config.response, data);
        if end_stream {
            let trailers = self.encoder.get().and_then(|callbacks| callbacks.add_encoded_trailers());
            self.response.report_total_bytes(&self.config, trailers.as_ref());
        }
        FilterDataStatus::Continue
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        self.response.report_total_bytes(&self.config, Some(trailers));
        FilterTrailersStatus::Continue
    }
}
