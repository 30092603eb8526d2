//! HTTP filters and what they and the connection manager are to each other.
//!
//! Mirrors Envoy's `include/envoy/http/filter.h`. Filters of a stream are called in order for the
//! request and in reverse order for the response; the router is the last.

pub mod async_client;
pub mod buffer;
pub mod compressor;
pub mod cors;
pub mod csrf;
pub mod decompressor;
pub mod ext_authz;
mod factory;
pub mod fault;
pub mod header_mutation;
pub mod health_check;
pub mod local_ratelimit;
pub mod manager;
mod mutation_rules;
pub mod rbac;
pub mod router;

use std::rc::Rc;

use crate::access_log;
use crate::buffer::Buffer;
use crate::http::HeaderMapPtr;

pub use factory::{HttpFilter, HttpFilterConfig, NamedHttpFilterConfigFactory};
pub use manager::{StreamDecoderFilterCallbacks, StreamEncoderFilterCallbacks};

/// What a filter says after headers. The numbers are Envoy's and appear in its trace log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterHeadersStatus {
    /// On to the next filter.
    Continue = 0,
    /// Stop until the filter continues; data is still offered to this filter.
    StopIteration = 1,
    /// On to the next filter, as if the stream ended with its headers.
    ContinueAndEndStream = 2,
    /// Stop for everything; data is buffered up to the limit.
    StopAllIterationAndBuffer = 3,
    /// Stop for everything; data is buffered with back pressure.
    StopAllIterationAndWatermark = 4,
}

/// What a filter says after data. The numbers are Envoy's and appear in its trace log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterDataStatus {
    /// On to the next filter.
    Continue = 0,
    /// Stop and keep the data, up to the buffer limit.
    StopIterationAndBuffer = 1,
    /// Stop and keep the data, with back pressure at the buffer limit.
    StopIterationAndWatermark = 2,
    /// Stop; the filter has taken what it wants of the data.
    StopIterationNoBuffer = 3,
}

/// What a filter says after trailers. The numbers are Envoy's and appear in its trace log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterTrailersStatus {
    /// On to the next filter.
    Continue = 0,
    /// Stop until the filter continues.
    StopIteration = 1,
}

/// An answer that the proxy is about to make itself.
pub struct LocalReplyData<'a> {
    /// Its status.
    pub code: u16,
    /// The status that a gRPC client gets for it.
    pub grpc_status: Option<u32>,
    /// Why it is made.
    pub details: &'a str,
    /// A filter told before has the stream reset instead.
    pub reset_imminent: bool,
}

/// What a filter says to a local reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalErrorStatus {
    /// So be it.
    Continue,
    /// The other filters are told too; then the stream is reset instead.
    ContinueAndResetStream,
}

/// A filter on the way of the request. What it does not do itself passes through (Envoy: `PassThroughDecoderFilter`).
pub trait StreamDecoderFilter {
    /// Called once, before anything else.
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks);
    /// The request's headers.
    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus;
    /// A piece of the request's body.
    fn decode_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterDataStatus {
        FilterDataStatus::Continue
    }
    /// The request's trailers.
    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        FilterTrailersStatus::Continue
    }
    /// The request has been passed to this filter completely.
    fn decode_complete(&self) {}
    /// The proxy is about to answer itself, by this filter's or another's wish.
    fn on_local_reply(&self, _data: &LocalReplyData<'_>) -> LocalErrorStatus {
        LocalErrorStatus::Continue
    }
    /// The stream ends; nothing may be called back any more.
    fn on_destroy(&self) {}
}

/// A filter on the way of the response. What it does not do itself passes through (Envoy: `PassThroughEncoderFilter`).
pub trait StreamEncoderFilter {
    /// Called once, before anything else.
    fn set_encoder_filter_callbacks(&self, _callbacks: StreamEncoderFilterCallbacks) {}
    /// An informational (1xx) head before the response.
    fn encode_1xx_headers(&self, _headers: &HeaderMapPtr) -> FilterHeadersStatus {
        FilterHeadersStatus::Continue
    }
    /// The response's headers.
    fn encode_headers(&self, _headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        FilterHeadersStatus::Continue
    }
    /// A piece of the response's body.
    fn encode_data(&self, _data: &mut Buffer, _end_stream: bool) -> FilterDataStatus {
        FilterDataStatus::Continue
    }
    /// The response's trailers.
    fn encode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        FilterTrailersStatus::Continue
    }
    /// The response has been passed to this filter completely.
    fn encode_complete(&self) {}
    /// The proxy is about to answer itself, by this filter's or another's wish; not called for a filter of both ways,
    /// whose [`StreamDecoderFilter::on_local_reply`] is.
    fn on_local_reply(&self, _data: &LocalReplyData<'_>) -> LocalErrorStatus {
        LocalErrorStatus::Continue
    }
    /// The stream ends; not called for a filter of both ways, whose [`StreamDecoderFilter::on_destroy`] is.
    fn on_destroy(&self) {}
}

/// A filter on both ways.
pub trait StreamFilter: StreamDecoderFilter + StreamEncoderFilter {}

impl<T: StreamDecoderFilter + StreamEncoderFilter> StreamFilter for T {}

/// Told when the downstream connection backs up and flows again.
pub trait DownstreamWatermarkCallbacks {
    /// Too much waits to be written downstream.
    fn on_above_write_buffer_high_watermark(&self);
    /// What waits has been written.
    fn on_below_write_buffer_low_watermark(&self);
}

/// Takes the filters of a new stream.
pub trait FilterChainFactoryCallbacks {
    /// Adds a filter to the way of the request, at its end.
    fn add_stream_decoder_filter(&self, filter: Rc<dyn StreamDecoderFilter>);
    /// Adds a filter to the way of the response, at its start.
    fn add_stream_encoder_filter(&self, filter: Rc<dyn StreamEncoderFilter>);
    /// Adds a filter to both ways.
    fn add_stream_filter(&self, filter: Rc<dyn StreamFilter>);
    /// Adds one to those who are told when the stream has ended, behind the access logs of the configuration.
    fn add_access_log_handler(&self, handler: Rc<dyn access_log::Instance>);
}

/// Adds a fresh filter to a stream (Envoy: `FilterFactoryCb`). It belongs to a worker, and holds what it needs by counts of
/// the worker's own.
pub type FilterFactoryCb = Box<dyn Fn(&dyn FilterChainFactoryCallbacks)>;

/// Makes one kind of filter for each stream; shared by all workers.
pub trait FilterFactory: Send + Sync {
    /// What does so on the calling worker; asked for once a worker.
    fn on_worker(&self) -> FilterFactoryCb;
}
