//! The two ways along the filters, and what differs between them.

use super::FilterManager;
use super::filter_manager::Half;
use crate::buffer::Buffer;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter, StreamEncoderFilter,
};
use crate::http::HeaderMapPtr;
use crate::trace::{self, Stage};

/// A way along the filters.
pub trait Direction: Sized + 'static {
    /// A filter on this way.
    type Filter: ?Sized + 'static;
    /// The last filter is the way's end: it has the stream, whatever it says.
    const LAST_TAKES_ALL: bool;

    /// The calls to a filter in the trace log, in Envoy's words: headers, data, trailers.
    fn calls() -> [&'static str; 3];
    /// What the filter manager has of this way.
    fn half(manager: &FilterManager) -> &Half<Self::Filter>;
    /// Passes an informational head to a filter.
    fn informational(filter: &Self::Filter, headers: &HeaderMapPtr) -> FilterHeadersStatus;
    /// Passes headers to a filter.
    fn headers(filter: &Self::Filter, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus;
    /// Passes data to a filter.
    fn data(filter: &Self::Filter, data: &mut Buffer, end_stream: bool) -> FilterDataStatus;
    /// Passes trailers to a filter.
    fn trailers(filter: &Self::Filter, trailers: &HeaderMapPtr) -> FilterTrailersStatus;
    /// Tells a filter that it has been passed all.
    fn complete(filter: &Self::Filter);

    /// Before a filter is called.
    fn prepare(manager: &FilterManager);
    /// Whether no filter is given any more.
    fn is_over(manager: &FilterManager) -> bool;
    /// A filter has the stream end with its headers.
    fn end_with_headers(manager: &FilterManager);
    /// An informational head has passed the last filter.
    fn informational_out(manager: &FilterManager, headers: &HeaderMapPtr);
    /// Headers have passed the last filter.
    fn headers_out(manager: &FilterManager, headers: &HeaderMapPtr, end_stream: bool);
    /// Data has passed the last filter.
    fn data_out(manager: &FilterManager, data: &mut Buffer, end_stream: bool);
    /// Trailers have passed the last filter.
    fn trailers_out(manager: &FilterManager, trailers: &HeaderMapPtr);
    /// More is kept back than may be.
    fn too_large(manager: &FilterManager);
    /// What is kept back has fallen below half the limit.
    fn drained(manager: &FilterManager);
}

/// The way of the request.
pub struct Decode;

impl Direction for Decode {
    type Filter = dyn StreamDecoderFilter;
    const LAST_TAKES_ALL: bool = true;

    fn calls() -> [&'static str; 3] {
        ["decode headers", "decode data", "decode trailers"]
    }

    fn half(manager: &FilterManager) -> &Half<Self::Filter> {
        &manager.decoding
    }

    fn informational(_filter: &Self::Filter, _headers: &HeaderMapPtr) -> FilterHeadersStatus {
        FilterHeadersStatus::Continue
    }

    fn headers(filter: &Self::Filter, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        filter.decode_headers(headers, end_stream)
    }

    fn data(filter: &Self::Filter, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        filter.decode_data(data, end_stream)
    }

    fn trailers(filter: &Self::Filter, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        filter.decode_trailers(trailers)
    }

    fn complete(filter: &Self::Filter) {
        filter.decode_complete();
    }

    fn prepare(manager: &FilterManager) {
        manager.refresh_cleared_route();
    }

    /// Once the response is complete nobody wants the rest of the request.
    fn is_over(manager: &FilterManager) -> bool {
        manager.encoding.complete.get() || Encode::is_over(manager)
    }

    fn end_with_headers(_manager: &FilterManager) {}

    fn informational_out(_manager: &FilterManager, _headers: &HeaderMapPtr) {}

    fn headers_out(manager: &FilterManager, _headers: &HeaderMapPtr, end_stream: bool) {
        manager.request_passed(end_stream);
    }

    fn data_out(manager: &FilterManager, _data: &mut Buffer, end_stream: bool) {
        manager.request_passed(end_stream);
    }

    fn trailers_out(manager: &FilterManager, _trailers: &HeaderMapPtr) {
        manager.request_passed(true);
    }

    /// Back pressure where the filter streams, else 413.
    fn too_large(manager: &FilterManager) {
        manager.request_data_too_large();
    }

    fn drained(manager: &FilterManager) {
        manager.with_host(|host| host.on_decoder_filter_below_write_buffer_low_watermark());
    }
}

/// The way of the response.
pub struct Encode;

impl Direction for Encode {
    type Filter = dyn StreamEncoderFilter;
    const LAST_TAKES_ALL: bool = false;

    fn calls() -> [&'static str; 3] {
        ["encode headers", "encode data", "encode trailers"]
    }

    fn half(manager: &FilterManager) -> &Half<Self::Filter> {
        &manager.encoding
    }

    fn informational(filter: &Self::Filter, headers: &HeaderMapPtr) -> FilterHeadersStatus {
        filter.encode_1xx_headers(headers)
    }

    fn headers(filter: &Self::Filter, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        filter.encode_headers(headers, end_stream)
    }

    fn data(filter: &Self::Filter, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        filter.encode_data(data, end_stream)
    }

    fn trailers(filter: &Self::Filter, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        filter.encode_trailers(trailers)
    }

    fn complete(filter: &Self::Filter) {
        filter.encode_complete();
    }

    fn prepare(_manager: &FilterManager) {}

    fn is_over(manager: &FilterManager) -> bool {
        manager.state.destroyed.get() || manager.is_asked()
    }

    fn end_with_headers(manager: &FilterManager) {
        manager.encoding.complete.set(true);
    }

    fn informational_out(manager: &FilterManager, headers: &HeaderMapPtr) {
        manager.with_host(|host| host.encode_1xx_headers(headers));
    }

    fn headers_out(manager: &FilterManager, headers: &HeaderMapPtr, end_stream: bool) {
        let status = trace::detail(|| headers.borrow().status().into());
        let _stage = manager.stage(Stage::EncodeHeaders, status, end_stream.into());
        manager.state.response_headers_encoded.set(true);
        manager.with_host(|host| host.encode_headers(headers, end_stream));
        manager.maybe_end_encode(end_stream);
    }

    fn data_out(manager: &FilterManager, data: &mut Buffer, end_stream: bool) {
        let _stage = manager.stage(Stage::EncodeData, data.len() as u64, end_stream.into());
        manager.with_host(|host| host.encode_data(data, end_stream));
        manager.maybe_end_encode(end_stream);
    }

    fn trailers_out(manager: &FilterManager, trailers: &HeaderMapPtr) {
        let _stage = manager.stage(Stage::EncodeTrailers, 0, 0);
        manager.with_host(|host| host.encode_trailers(trailers));
        manager.maybe_end_encode(true);
    }

    /// Back pressure where the filter streams, else 500, or a reset once the head is out.
    fn too_large(manager: &FilterManager) {
        manager.response_data_too_large();
    }

    fn drained(manager: &FilterManager) {
        manager.call_low_watermark_callbacks();
    }
}
