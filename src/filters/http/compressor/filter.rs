//! The filter itself. Mirrors `CompressorFilter` of Envoy 1.40's
//! `source/extensions/filters/http/compressor/compressor_filter.cc`.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use super::config::{CompressorFilterConfig, CompressorStats};
use super::encoding::{CompressorRegistry, EncodingDecision, HeaderStat};
use super::message::CompressorPerRoute;
use crate::buffer::Buffer;
use crate::common::Local;
use crate::filters::compression::Compressor;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter,
    StreamDecoderFilterCallbacks, StreamEncoderFilter, StreamEncoderFilterCallbacks,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, utility};
use crate::router::RouteConstSharedPtr;

/// The name under which the compressors of a stream find each other.
const REGISTRY: &str = "compressors";
const ACCEPT_ENCODING: &str = "Accept-Encoding";

/// Says what has become of a response.
const STATUS: &str = "x-envoy-compression-status";

pub(super) struct CompressorFilter {
    config: Local<CompressorFilterConfig>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    encoder: OnceCell<StreamEncoderFilterCallbacks>,
    accept_encoding: OnceCell<String>,
    request_compressor: RefCell<Option<Box<dyn Compressor>>>,
    response_compressor: RefCell<Option<Box<dyn Compressor>>>,
}

impl CompressorFilter {
    pub fn new(config: Local<CompressorFilterConfig>) -> Self {
        CompressorFilter {
            config,
            decoder: OnceCell::new(),
            encoder: OnceCell::new(),
            accept_encoding: OnceCell::new(),
            request_compressor: RefCell::default(),
            response_compressor: RefCell::default(),
        }
    }

    fn of_route<'a>(&self, route: Option<&'a RouteConstSharedPtr>) -> Option<&'a CompressorPerRoute> {
        route.and_then(|route| route.most_specific_filter_config(&self.config.name))
    }

    fn response_compression_enabled(&self, of_route: Option<&CompressorPerRoute>) -> bool {
        let of_route = of_route.and_then(|route| route.response_compression_enabled);
        of_route.unwrap_or_else(|| self.config.response.enabled())
    }

    fn registry(&self) -> Option<Rc<CompressorRegistry>> {
        self.decoder.get()?.stream_info().filter_state()?.get_data_of(REGISTRY)
    }

    /// Whether this filter is the one that the client wants the response from; counts why, or why not.
    fn is_accept_encoding_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(accept_encoding) = self.accept_encoding.get() else {
            self.config.response_stats.no_accept_header.inc();
            return false;
        };
        let Some(registry) = self.registry() else { return false };
        let decide = || registry.choose_encoding(accept_encoding, headers);
        self.should_compress(registry.decision.get_or_init(decide))
    }

    fn should_compress(&self, decision: &EncodingDecision) -> bool {
        let should = self.config.content_encoding().eq_ignore_ascii_case(&decision.encoding);
        let stats = &self.config.response_stats;
        match decision.stat {
            HeaderStat::ValidCompressor if should => stats.header_compressor_used.inc(),
            HeaderStat::ValidCompressor => stats.header_compressor_overshadowed.inc(),
            HeaderStat::Identity => stats.header_identity.inc(),
            HeaderStat::Wildcard => stats.header_wildcard.inc(),
            HeaderStat::NotValid => stats.header_not_valid.inc(),
        }
        should
    }

    fn is_etag_allowed(&self, headers: &HeaderMap) -> bool {
        let is_allowed = !(self.config.disable_on_etag_header && headers.has(HeaderId::Etag));
        if !is_allowed {
            self.config.response_stats.not_compressed_etag.inc();
        }
        is_allowed
    }

    /// Whether it is in no encoding yet.
    fn is_transfer_encoding_allowed(&self, headers: &HeaderMap) -> bool {
        let known = ["gzip", "br", "deflate", "compress", "zstd", self.config.content_encoding()];
        let is_known = |name: &[u8]| known.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        !tokens(headers, HeaderId::TransferEncoding).any(is_known)
    }

    /// A strong etag would be wrong.
    fn sanitize_etag_header(&self, headers: &mut HeaderMap) {
        let Some(etag) = headers.get(HeaderId::Etag) else { return };
        if etag.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"w/")) {
            return;
        }
        if self.config.weaken_etag_on_compress {
            let weak = [b"W/", etag].concat();
            headers.set(HeaderId::Etag, &weak);
        } else {
            headers.remove(HeaderId::Etag);
        }
    }

    /// What is against compressing a response that says what becomes of it, and what it says then; for some reasons that is
    /// nothing.
    fn objection(&self, headers: &HeaderMap) -> Option<Option<&'static str>> {
        let response = &self.config.response;
        if !response.is_minimum_content_length(headers) {
            Some(Some("ContentLengthTooSmall"))
        } else if !response.is_content_type_allowed(headers) {
            Some(Some("ContentTypeNotAllowed"))
        } else if utility::is_upgrade(headers)
            || is_not_to_be_changed(headers)
            || headers.has(HeaderId::ContentEncoding)
        {
            Some(None)
        } else if !self.is_etag_allowed(headers) {
            Some(Some("EtagNotAllowed"))
        } else {
            let is_refused = self.config.uncompressible_response_codes.contains(&headers.status());
            is_refused.then_some(Some("StatusCodeNotAllowed"))
        }
    }

    fn say(&self, headers: &mut HeaderMap, status: &str) {
        let value = format!("{};{status}", self.config.content_encoding());
        headers.add(STATUS, value.as_bytes());
    }

    fn is_compressible(&self, headers: &HeaderMap) -> bool {
        !utility::is_upgrade(headers)
            && !self.config.uncompressible_response_codes.contains(&headers.status())
            && self.config.response.is_content_type_allowed(headers)
            && !is_not_to_be_changed(headers)
            && self.is_etag_allowed(headers)
            && !headers.has(HeaderId::ContentEncoding)
    }
}

fn is_not_to_be_changed(headers: &HeaderMap) -> bool {
    tokens(headers, HeaderId::CacheControl).any(|token| token.eq_ignore_ascii_case(b"no-transform"))
}

/// The values in a list.
fn tokens(headers: &HeaderMap, id: HeaderId) -> impl Iterator<Item = &[u8]> {
    headers.get(id).into_iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// A cache in front of this proxy has to know that the response could be another one.
fn insert_vary_header(headers: &mut HeaderMap) {
    let name = ACCEPT_ENCODING.as_bytes();
    if tokens(headers, HeaderId::Vary).any(|token| token == name) {
        return;
    }
    let value = match headers.get(HeaderId::Vary) {
        Some(others) => [others, b", ", name].concat(),
        None => name.to_vec(),
    };
    headers.set(HeaderId::Vary, &value);
}

/// Compresses the next piece, if something is compressed at all.
fn compress(
    compressor: &RefCell<Option<Box<dyn Compressor>>>,
    stats: &CompressorStats,
    data: &mut Buffer,
    is_last: bool,
) {
    if let Some(compressor) = &mut *compressor.borrow_mut() {
        stats.total_uncompressed_bytes.add(data.len() as u64);
        compressor.compress(data, is_last);
        stats.total_compressed_bytes.add(data.len() as u64);
    }
}

impl StreamDecoderFilter for CompressorFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        let state = callbacks.stream_info().make_filter_state();
        let registry = state.get_data_of::<CompressorRegistry>(REGISTRY).unwrap_or_else(|| {
            let registry = Rc::new(CompressorRegistry::default());
            state.set_data(REGISTRY, registry.clone());
            registry
        });
        registry.configs.borrow_mut().push(self.config.clone());
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.decoder.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        let headers = &mut *headers.borrow_mut();
        if let Some(value) = headers.get(HeaderId::AcceptEncoding) {
            self.accept_encoding.get_or_init(|| String::from_utf8_lossy(value).into_owned());
        }
        let of_route = self.of_route(route.as_ref());
        let removes = of_route.and_then(|route| route.remove_accept_encoding_header);
        if removes.unwrap_or(self.config.remove_accept_encoding_header)
            && self.response_compression_enabled(of_route)
        {
            headers.remove(HeaderId::AcceptEncoding);
        }
        let config = &self.config.request;
        if !end_stream
            && self.config.has_request_direction
            && config.enabled()
            && !utility::is_upgrade(headers)
            && config.is_minimum_content_length(headers)
            && config.is_content_type_allowed(headers)
            && !headers.has(HeaderId::ContentEncoding)
            && self.is_transfer_encoding_allowed(headers)
        {
            headers.remove(HeaderId::ContentLength);
            headers.set(HeaderId::ContentEncoding, self.config.content_encoding().as_bytes());
            config.stats.compressed.inc();
            *self.request_compressor.borrow_mut() = Some(self.config.library.create_compressor());
        } else {
            config.stats.not_compressed.inc();
        }
        FilterHeadersStatus::Continue
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        compress(&self.request_compressor, &self.config.request.stats, data, end_stream);
        FilterDataStatus::Continue
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        let mut end = Buffer::default();
        compress(&self.request_compressor, &self.config.request.stats, &mut end, true);
        if let Some(callbacks) = self.decoder.get().filter(|_| !end.is_empty()) {
            callbacks.add_decoded_data(&mut end, true);
        }
        FilterTrailersStatus::Continue
    }
}

impl StreamEncoderFilter for CompressorFilter {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.encoder.get_or_init(|| callbacks);
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.encoder.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        let headers = &mut *headers.borrow_mut();
        let config = &self.config.response;
        let is_enabled = self.response_compression_enabled(self.of_route(route.as_ref()));
        let says_status = self.config.status_header_enabled && is_enabled && !end_stream;
        let objection = if says_status { self.objection(headers) } else { None };
        let is_wanted = is_enabled && config.is_minimum_content_length(headers);
        let is_compressible =
            is_wanted && if says_status { objection.is_none() } else { self.is_compressible(headers) };
        // Whoever says why not does not look at what the client accepts.
        let is_looked_at = !end_stream && is_wanted && (is_compressible || !says_status);
        let is_accepted = is_looked_at && self.is_accept_encoding_allowed(headers);
        if is_accepted && is_compressible && self.is_transfer_encoding_allowed(headers) {
            self.sanitize_etag_header(headers);
            if says_status {
                insert_vary_header(headers);
            }
            headers.set(HeaderId::ContentEncoding, self.config.content_encoding().as_bytes());
            if says_status {
                let length = headers.get_str(HeaderId::ContentLength).unwrap_or_default();
                let status = format!("Compressed;OriginalLength={length}");
                self.say(headers, &status);
            }
            headers.remove(HeaderId::ContentLength);
            config.stats.compressed.inc();
            *self.response_compressor.borrow_mut() = Some(self.config.library.create_compressor());
        } else {
            config.stats.not_compressed.inc();
        }
        if let Some(Some(reason)) = objection {
            self.say(headers, reason);
        }
        if is_compressible {
            insert_vary_header(headers);
        }
        FilterHeadersStatus::Continue
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        compress(&self.response_compressor, &self.config.response.stats, data, end_stream);
        FilterDataStatus::Continue
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        let mut end = Buffer::default();
        compress(&self.response_compressor, &self.config.response.stats, &mut end, true);
        if let Some(callbacks) = self.encoder.get().filter(|_| !end.is_empty()) {
            callbacks.add_encoded_data(&mut end, true);
        }
        FilterTrailersStatus::Continue
    }
}
