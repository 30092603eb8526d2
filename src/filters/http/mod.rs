//! HTTP filters and what they and the connection manager are to each other.
//!
//! Mirrors Envoy's `include/envoy/http/filter.h`. Filters of a stream are called in order for the
//! request and in reverse order for the response; the router is the last.

pub mod router;

use std::borrow::Cow;
use std::rc::{Rc, Weak};

use crate::buffer::Buffer;
use crate::event::Dispatcher;
use crate::http::{HeaderMap, HeaderMapPtr, StreamInfoImpl};
use crate::network::ConnectionImpl;
use crate::router::RouteConstSharedPtr;

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

/// A filter on the way of the request.
pub trait StreamDecoderFilter {
    /// Called once, before anything else.
    fn set_decoder_filter_callbacks(&self, callbacks: Weak<dyn StreamDecoderFilterCallbacks>);
    /// The request's headers.
    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus;
    /// A piece of the request's body.
    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus;
    /// The request's trailers.
    fn decode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus;
    /// The request has been passed to this filter completely.
    fn decode_complete(&self) {}
    /// The stream ends; nothing may be called back any more.
    fn on_destroy(&self) {}
}

/// A filter on the way of the response.
pub trait StreamEncoderFilter {
    /// Called once, before anything else.
    fn set_encoder_filter_callbacks(&self, callbacks: Weak<dyn StreamEncoderFilterCallbacks>);
    /// An informational (1xx) head before the response.
    fn encode_1xx_headers(&self, _headers: &HeaderMapPtr) -> FilterHeadersStatus {
        FilterHeadersStatus::Continue
    }
    /// The response's headers.
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus;
    /// A piece of the response's body.
    fn encode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus;
    /// The response's trailers.
    fn encode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus;
    /// The response has been passed to this filter completely.
    fn encode_complete(&self) {}
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

/// What any filter may ask of its stream.
pub trait StreamFilterCallbacks {
    /// The worker's dispatcher.
    fn dispatcher(&self) -> &Rc<Dispatcher>;
    /// The downstream connection, while there is one.
    fn connection(&self) -> Option<Rc<ConnectionImpl>>;
    /// The downstream connection's id, for logs.
    fn connection_id(&self) -> u64;
    /// The stream's random id, for logs.
    fn stream_id(&self) -> u64;
    /// Runs `f` with what is known of the stream.
    fn with_stream_info(&self, f: &mut dyn FnMut(&StreamInfoImpl));
    /// The route of the request, looked up when it is first wanted.
    fn route(&self) -> Option<RouteConstSharedPtr>;
    /// Forgets the route; it is looked up anew when wanted.
    fn clear_route_cache(&self);
    /// Gives the stream up: the downstream is reset.
    fn reset_stream(&self);
}

/// What a decoder filter may ask of its stream.
pub trait StreamDecoderFilterCallbacks: StreamFilterCallbacks {
    /// Goes on behind this filter after it had stopped; asked for in a call to the filter, once that returns.
    fn continue_decoding(&self);
    /// Bytes of request data kept back by filters.
    fn decoding_buffer_length(&self) -> usize;
    /// Shows `f` the request data kept back, if there is some. Data on its way to a filter is no longer kept back.
    fn decoding_buffer(&self, f: &mut dyn FnMut(&Buffer));
    /// Has `f` change the request data kept back, if there is some.
    fn modify_decoding_buffer(&self, f: &mut dyn FnMut(&mut Buffer));
    /// Adds to the data kept back, or passes it on, depending on the call under way.
    fn add_decoded_data(&self, data: &mut Buffer, streaming: bool);
    /// Passes data to the filters behind this one, which stays stopped: for one that takes the data it is given, and
    /// gives out other. Headers that it has stopped go before, but not from inside the call that stops them:
    /// the data is then added to what is kept back.
    fn inject_decoded_data_to_filter_chain(&self, data: &mut Buffer, end_stream: bool);
    /// Trailers for a request without; to be called, once, while its last data is passed to this filter, else
    /// there are none to be had.
    fn add_decoded_trailers(&self) -> Option<HeaderMapPtr>;
    /// The limit on data kept back, in bytes; 0 is none.
    fn decoder_buffer_limit(&self) -> usize;
    /// Changes the limit, for both ways.
    fn set_decoder_buffer_limit(&self, limit: usize);
    /// Begins anew with a request that is complete and had no body; false where this cannot be done.
    fn recreate_stream(&self) -> bool {
        false
    }
    /// Answers in place of the upstream. `modify_headers` may add to the answer's headers.
    fn send_local_reply(
        &self,
        status: u16,
        body: &str,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        details: Cow<'static, str>,
    );
    /// Sends an informational (1xx) head.
    fn encode_1xx_headers(&self, headers: HeaderMapPtr);
    /// Sends the response's headers.
    fn encode_headers(&self, headers: HeaderMapPtr, end_stream: bool, details: &'static str);
    /// Sends a piece of the response's body.
    fn encode_data(&self, data: &mut Buffer, end_stream: bool);
    /// Sends the response's trailers.
    fn encode_trailers(&self, trailers: HeaderMapPtr);
    /// Too much request data waits behind this filter: reading stops.
    fn on_decoder_filter_above_write_buffer_high_watermark(&self);
    /// Reading goes on.
    fn on_decoder_filter_below_write_buffer_low_watermark(&self);
    /// Subscribes to the downstream's watermarks; at most one subscriber a stream.
    fn add_downstream_watermark_callbacks(&self, callbacks: Weak<dyn DownstreamWatermarkCallbacks>);
    /// Ends the subscription.
    fn remove_downstream_watermark_callbacks(&self);
}

/// What an encoder filter may ask of its stream.
pub trait StreamEncoderFilterCallbacks: StreamFilterCallbacks {
    /// Goes on behind this filter after it had stopped; asked for in a call to the filter, once that returns.
    fn continue_encoding(&self);
    /// As [`StreamDecoderFilterCallbacks::decoding_buffer`], for the response.
    fn encoding_buffer(&self, f: &mut dyn FnMut(&Buffer));
    /// As [`StreamDecoderFilterCallbacks::modify_decoding_buffer`], for the response.
    fn modify_encoding_buffer(&self, f: &mut dyn FnMut(&mut Buffer));
    /// Adds to the data kept back, or passes it on, depending on the call under way.
    fn add_encoded_data(&self, data: &mut Buffer, streaming: bool);
    /// As [`StreamDecoderFilterCallbacks::inject_decoded_data_to_filter_chain`], for the response.
    fn inject_encoded_data_to_filter_chain(&self, data: &mut Buffer, end_stream: bool);
    /// As [`StreamDecoderFilterCallbacks::add_decoded_trailers`], for the response.
    fn add_encoded_trailers(&self) -> Option<HeaderMapPtr>;
    /// The limit on data kept back, in bytes; 0 is none.
    fn encoder_buffer_limit(&self) -> usize;
    /// Changes the limit, for both ways.
    fn set_encoder_buffer_limit(&self, limit: usize);
    /// Too much response data waits behind this filter: the upstream is paused.
    fn on_encoder_filter_above_write_buffer_high_watermark(&self);
    /// The upstream goes on.
    fn on_encoder_filter_below_write_buffer_low_watermark(&self);
}

/// Takes the filters of a new stream.
pub trait FilterChainFactoryCallbacks {
    /// Adds a filter to the way of the request, at its end.
    fn add_stream_decoder_filter(&self, filter: Rc<dyn StreamDecoderFilter>);
    /// Adds a filter to the way of the response, at its start.
    fn add_stream_encoder_filter(&self, filter: Rc<dyn StreamEncoderFilter>);
    /// Adds a filter to both ways.
    fn add_stream_filter(&self, filter: Rc<dyn StreamFilter>);
}

/// Makes one kind of filter for each stream; shared by all workers.
pub trait FilterFactory: Send + Sync {
    /// Adds a fresh filter for a stream.
    fn create(&self, callbacks: &dyn FilterChainFactoryCallbacks);
}
