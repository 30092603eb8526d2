//! A filter's way back to its stream.
//!
//! Mirrors `ActiveStreamFilterBase`, `ActiveStreamDecoderFilter` and `ActiveStreamEncoderFilter` of Envoy's
//! `source/common/http/conn_manager_impl.cc`, as far as they are callbacks. Each filter has one, as a value: it says
//! which stream and which place in its chain.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::{Rc, Weak};

use super::FilterManager;
use super::direction::{Decode, Direction, Encode};
use super::host::FilterManagerCallbacks;
use crate::buffer::Buffer;
use crate::envoy_stream_log;
use crate::event::Dispatcher;
use crate::filters::http::DownstreamWatermarkCallbacks;
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::network::ConnectionImpl;
use crate::router::RouteConstSharedPtr;
use crate::stream_info::StreamInfoImpl;
use crate::trace::Stage;

/// What a filter on the way `D` may ask of its stream.
pub struct FilterCallbacks<D> {
    host: Weak<dyn FilterManagerCallbacks>,
    dispatcher: Rc<Dispatcher>,
    stream_info: Rc<StreamInfoImpl>,
    connection_id: u64,
    stream_id: u64,
    index: usize,
    way: PhantomData<D>,
}

/// What a decoder filter may ask of its stream.
pub type StreamDecoderFilterCallbacks = FilterCallbacks<Decode>;
/// What an encoder filter may ask of its stream.
pub type StreamEncoderFilterCallbacks = FilterCallbacks<Encode>;

/// What any filter may ask. Where the stream is gone nothing happens, and there is nothing.
impl<D: Direction> FilterCallbacks<D> {
    pub(super) fn new(manager: &FilterManager, host: Weak<dyn FilterManagerCallbacks>, index: usize) -> Self {
        FilterCallbacks {
            host,
            dispatcher: manager.dispatcher().clone(),
            stream_info: manager.stream_info().clone(),
            connection_id: manager.connection_id(),
            stream_id: manager.stream_id(),
            index,
            way: PhantomData,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&FilterManager) -> T) -> Option<T> {
        let host = self.host.upgrade()?;
        Some(f(host.filter_manager()))
    }

    /// The worker's dispatcher.
    pub fn dispatcher(&self) -> &Rc<Dispatcher> {
        &self.dispatcher
    }

    /// The downstream connection, while there is one.
    pub fn connection(&self) -> Option<Rc<ConnectionImpl>> {
        self.host.upgrade().and_then(|host| host.connection())
    }

    /// The downstream connection's id, for logs.
    pub fn connection_id(&self) -> u64 {
        self.connection_id
    }

    /// The stream's random id, for logs.
    pub fn stream_id(&self) -> u64 {
        self.stream_id
    }

    /// What is known of the stream.
    pub fn stream_info(&self) -> &Rc<StreamInfoImpl> {
        &self.stream_info
    }

    /// The route of the request, looked up when it is first wanted. While a filter has hold of the headers it is that
    /// of before.
    pub fn route(&self) -> Option<RouteConstSharedPtr> {
        self.host.upgrade().and_then(|host| host.route())
    }

    /// Forgets the route; it is looked up anew before the next filter.
    pub fn clear_route_cache(&self) {
        self.with(FilterManager::clear_route_cache);
    }

    /// Gives the stream up: the downstream is reset.
    pub fn reset_stream(&self) {
        if let Some(host) = self.host.upgrade().filter(|host| !host.filter_manager().is_destroyed()) {
            host.reset_stream();
        }
    }

    /// Answers in place of the upstream. `modify_headers` may add to the answer's headers.
    pub fn send_local_reply(
        &self,
        status: u16,
        body: impl AsRef<[u8]>,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        details: Cow<'static, str>,
    ) {
        self.with(|manager| manager.send_local_reply(status, body, modify_headers, details));
    }

    /// As [`send_local_reply`](Self::send_local_reply), where a gRPC client gets this status instead of the one that
    /// stands for `status`.
    pub fn send_local_reply_with_grpc_status(
        &self,
        status: u16,
        body: impl AsRef<[u8]>,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        grpc_status: Option<u32>,
        details: Cow<'static, str>,
    ) {
        self.with(|manager| {
            manager.send_local_reply_with_grpc_status(status, body, modify_headers, grpc_status, details);
        });
    }

    fn common_continue(&self) {
        self.with(|manager| manager.common_continue::<D>(self.index));
    }

    fn modify_buffer(&self, f: &mut dyn FnMut(&mut Buffer)) {
        self.with(|manager| manager.modify_buffered::<D>(f));
    }

    fn add_data(&self, data: &mut Buffer, streaming: bool) {
        self.with(|manager| manager.add_data::<D>(self.index, data, streaming));
    }

    fn inject_data(&self, data: &mut Buffer, end_stream: bool) {
        self.with(|manager| manager.inject_data::<D>(self.index, data, end_stream));
    }

    fn add_trailers(&self) -> Option<HeaderMapPtr> {
        self.with(FilterManager::add_trailers::<D>).flatten()
    }

    fn buffer_limit(&self) -> usize {
        self.with(|manager| manager.buffer_limit.get()).unwrap_or_default()
    }

    fn set_buffer_limit(&self, limit: usize) {
        self.with(|manager| manager.set_buffer_limit(limit));
    }
}

impl FilterCallbacks<Decode> {
    /// Goes on behind this filter after it had stopped; asked for in a call to the filter, once that returns.
    pub fn continue_decoding(&self) {
        self.common_continue();
    }

    /// Bytes of request data kept back by filters.
    pub fn decoding_buffer_length(&self) -> usize {
        self.with(FilterManager::buffered_len::<Decode>).unwrap_or_default()
    }

    /// Shows `f` the request data kept back, if there is some. Data on its way to a filter is no longer kept back.
    pub fn decoding_buffer(&self, f: &mut dyn FnMut(&Buffer)) {
        self.modify_buffer(&mut |buffer| f(buffer));
    }

    /// Has `f` change the request data kept back, if there is some.
    pub fn modify_decoding_buffer(&self, f: &mut dyn FnMut(&mut Buffer)) {
        self.modify_buffer(f);
    }

    /// Adds to the data kept back, or passes it on, depending on the call under way.
    pub fn add_decoded_data(&self, data: &mut Buffer, streaming: bool) {
        self.add_data(data, streaming);
    }

    /// Passes data to the filters behind this one, which stays stopped: for one that takes the data it is given, and
    /// gives out other. Headers that it has stopped go before, but not from inside the call that stops them:
    /// the data is then added to what is kept back.
    pub fn inject_decoded_data_to_filter_chain(&self, data: &mut Buffer, end_stream: bool) {
        self.inject_data(data, end_stream);
    }

    /// Trailers for a request without; to be called, once, while its last data is passed to this filter, else
    /// there are none to be had.
    pub fn add_decoded_trailers(&self) -> Option<HeaderMapPtr> {
        self.add_trailers()
    }

    /// The limit on data kept back, in bytes; 0 is none.
    pub fn decoder_buffer_limit(&self) -> usize {
        self.buffer_limit()
    }

    /// Changes the limit, for both ways.
    pub fn set_decoder_buffer_limit(&self, limit: usize) {
        self.set_buffer_limit(limit);
    }

    /// Begins anew with a request that has come completely, and what the filters have kept back of its body: for
    /// filters that have changed its headers. False where this cannot be done: the request goes on, or its response
    /// has begun. `response` is what is told of this stream in its place.
    pub fn recreate_stream(&self, response: Option<&HeaderMapPtr>) -> bool {
        self.with(|manager| manager.recreate_stream(response)).unwrap_or_default()
    }

    /// Sends an informational (1xx) head.
    pub fn encode_1xx_headers(&self, headers: HeaderMapPtr) {
        self.with(|manager| manager.encode_1xx_headers(headers));
    }

    /// Sends the response's headers.
    #[inline(always)]
    pub fn encode_headers(&self, headers: HeaderMapPtr, end_stream: bool, details: &'static str) {
        self.with(|manager| {
            if !Encode::is_over(manager) {
                manager.passed(Stage::FilterEncodeHeaders, end_stream.into());
                manager.stream_info().set_response_code_details(details);
                manager.encode_headers(headers, end_stream);
            }
        });
    }

    /// Sends a piece of the response's body.
    #[inline(always)]
    pub fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.with(|manager| manager.encode_data(data, end_stream));
    }

    /// Sends the response's trailers.
    pub fn encode_trailers(&self, trailers: HeaderMapPtr) {
        self.with(|manager| manager.encode_trailers(trailers));
    }

    /// Too much request data waits behind this filter: reading stops.
    pub fn on_decoder_filter_above_write_buffer_high_watermark(&self) {
        if let Some(host) = self.host.upgrade() {
            host.filter_manager().passed(Stage::DecoderFilterAboveHighWatermark, 0);
            host.on_decoder_filter_above_write_buffer_high_watermark();
        }
    }

    /// Reading goes on.
    pub fn on_decoder_filter_below_write_buffer_low_watermark(&self) {
        if let Some(host) = self.host.upgrade() {
            host.filter_manager().passed(Stage::DecoderFilterBelowLowWatermark, 0);
            host.on_decoder_filter_below_write_buffer_low_watermark();
        }
    }

    /// Subscribes to the downstream's watermarks; at most one subscriber a stream.
    #[inline(always)]
    pub fn add_downstream_watermark_callbacks(&self, callbacks: Weak<dyn DownstreamWatermarkCallbacks>) {
        self.with(|manager| manager.set_watermark_callbacks(Some(callbacks)));
    }

    /// Ends the subscription.
    #[inline(always)]
    pub fn remove_downstream_watermark_callbacks(&self) {
        self.with(|manager| manager.set_watermark_callbacks(None));
    }
}

impl FilterCallbacks<Encode> {
    /// Goes on behind this filter after it had stopped; asked for in a call to the filter, once that returns.
    pub fn continue_encoding(&self) {
        self.common_continue();
    }

    /// As [`FilterCallbacks::decoding_buffer`], for the response.
    pub fn encoding_buffer(&self, f: &mut dyn FnMut(&Buffer)) {
        self.modify_buffer(&mut |buffer| f(buffer));
    }

    /// As [`FilterCallbacks::modify_decoding_buffer`], for the response.
    pub fn modify_encoding_buffer(&self, f: &mut dyn FnMut(&mut Buffer)) {
        self.modify_buffer(f);
    }

    /// Adds to the data kept back, or passes it on, depending on the call under way.
    pub fn add_encoded_data(&self, data: &mut Buffer, streaming: bool) {
        self.add_data(data, streaming);
    }

    /// As [`FilterCallbacks::inject_decoded_data_to_filter_chain`], for the response.
    pub fn inject_encoded_data_to_filter_chain(&self, data: &mut Buffer, end_stream: bool) {
        self.inject_data(data, end_stream);
    }

    /// As [`FilterCallbacks::add_decoded_trailers`], for the response.
    pub fn add_encoded_trailers(&self) -> Option<HeaderMapPtr> {
        self.add_trailers()
    }

    /// The limit on data kept back, in bytes; 0 is none.
    pub fn encoder_buffer_limit(&self) -> usize {
        self.buffer_limit()
    }

    /// Changes the limit, for both ways.
    pub fn set_encoder_buffer_limit(&self, limit: usize) {
        self.set_buffer_limit(limit);
    }

    /// Too much response data waits behind this filter: the upstream is paused.
    pub fn on_encoder_filter_above_write_buffer_high_watermark(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "Disabling upstream stream due to filter callbacks."
        );
        self.with(FilterManager::call_high_watermark_callbacks);
    }

    /// The upstream goes on.
    pub fn on_encoder_filter_below_write_buffer_low_watermark(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "Enabling upstream stream due to filter callbacks."
        );
        self.with(FilterManager::call_low_watermark_callbacks);
    }
}
