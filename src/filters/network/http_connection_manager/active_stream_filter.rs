//! A filter's place in its stream, and its way back to it.
//!
//! Mirrors `ActiveStreamFilterBase` and its two kinds in Envoy's
//! `source/common/http/conn_manager_impl.cc`.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::{Rc, Weak};

use super::active_stream::ActiveStream;
use super::filter_chain::{Decode, Encode};
use crate::buffer::Buffer;
use crate::envoy_stream_log;
use crate::event::Dispatcher;
use crate::filters::http::{
    DownstreamWatermarkCallbacks, FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus,
    StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter, StreamEncoderFilterCallbacks,
    StreamFilterCallbacks,
};
use crate::http::{HeaderMap, HeaderMapPtr, StreamInfoImpl};
use crate::network::ConnectionImpl;
use crate::router::RouteConstSharedPtr;
use crate::trace::Stage;

/// Whether and how a filter has stopped the iteration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum IterationState {
    #[default]
    Continue,
    StopSingleIteration,
    StopAllBuffer,
    StopAllWatermark,
}

/// What both kinds of filters keep.
pub(super) struct FilterState {
    parent: Weak<ActiveStream>,
    dispatcher: Rc<Dispatcher>,
    connection_id: u64,
    stream_id: u64,
    iteration: Cell<IterationState>,
    headers_continued: Cell<bool>,
    /// The end of the stream has been given to this filter.
    end_stream: Cell<bool>,
    /// The filter is being called; what it asks for that calls further filters waits for its return.
    in_callback: Cell<bool>,
    continue_asked: Cell<bool>,
    /// The filter has stopped at an informational head.
    holds_1xx: Cell<bool>,
}

impl FilterState {
    fn new(parent: &Weak<ActiveStream>, stream: &ActiveStream) -> Self {
        FilterState {
            parent: parent.clone(),
            dispatcher: stream.dispatcher.clone(),
            connection_id: stream.connection_id,
            stream_id: stream.stream_id,
            iteration: Cell::default(),
            headers_continued: Cell::new(false),
            end_stream: Cell::new(false),
            in_callback: Cell::new(false),
            continue_asked: Cell::new(false),
            holds_1xx: Cell::new(false),
        }
    }

    /// Calls the filter.
    pub(super) fn call<S>(&self, f: impl FnOnce() -> S) -> S {
        self.in_callback.set(true);
        self.continue_asked.set(false);
        let status = f();
        self.in_callback.set(false);
        status
    }

    /// Whether the filter is to go on, having stopped. A filter that asks from inside a call goes on when that
    /// has returned.
    fn may_continue(&self) -> bool {
        if self.in_callback.get() {
            self.continue_asked.set(true);
            return false;
        }
        self.iteration.get() != IterationState::Continue
    }

    /// Whether the filter asked to go on while it was called.
    pub(super) fn take_continue_asked(&self) -> bool {
        self.continue_asked.take()
    }

    /// True to go on to the next filter.
    pub(super) fn handle_after_1xx_headers(&self, status: FilterHeadersStatus) -> bool {
        let stop = status == FilterHeadersStatus::StopIteration;
        self.holds_1xx.set(stop);
        if stop {
            self.iteration.set(IterationState::StopSingleIteration);
        }
        !stop
    }

    pub(super) fn stopped_all(&self) -> bool {
        matches!(self.iteration.get(), IterationState::StopAllBuffer | IterationState::StopAllWatermark)
    }

    pub(super) fn stopped_all_with_watermark(&self) -> bool {
        self.iteration.get() == IterationState::StopAllWatermark
    }

    pub(super) fn end_stream(&self) -> bool {
        self.end_stream.get()
    }

    pub(super) fn set_end_stream(&self, end_stream: bool) {
        self.end_stream.set(end_stream);
    }

    /// As if the filter had stopped by itself, for a continue that follows.
    pub(super) fn fake_stop(&self) {
        self.iteration.set(IterationState::StopSingleIteration);
    }

    /// True to go on to the next filter.
    pub(super) fn handle_after_headers(
        &self,
        status: FilterHeadersStatus,
        headers_only: &Cell<bool>,
    ) -> bool {
        if matches!(status, FilterHeadersStatus::Continue | FilterHeadersStatus::ContinueAndEndStream)
            && self.holds_1xx.take()
        {
            // The response has overtaken the informational head.
            self.iteration.set(IterationState::Continue);
        }
        let stop = match status {
            FilterHeadersStatus::StopIteration => IterationState::StopSingleIteration,
            FilterHeadersStatus::StopAllIterationAndBuffer => IterationState::StopAllBuffer,
            FilterHeadersStatus::StopAllIterationAndWatermark => IterationState::StopAllWatermark,
            FilterHeadersStatus::ContinueAndEndStream => {
                headers_only.set(true);
                envoy_stream_log!(
                    Http,
                    debug,
                    self.connection_id,
                    self.stream_id,
                    "converting to headers only"
                );
                return true;
            }
            FilterHeadersStatus::Continue => {
                self.headers_continued.set(true);
                return true;
            }
        };
        self.iteration.set(stop);
        false
    }

    fn parent(&self) -> Option<Rc<ActiveStream>> {
        self.parent.upgrade()
    }
}

/// What follows a filter's word on data or trailers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterData {
    /// On to the next filter.
    Next,
    /// Stop; the data is to be kept back.
    Buffer,
    /// Stop; the data is dropped.
    Stop,
    /// The data is to be kept back, and the filter then goes on from its earlier stop.
    BufferAndContinue,
}

impl FilterState {
    pub(super) fn handle_after_data(&self, status: FilterDataStatus, streaming: &Cell<bool>) -> AfterData {
        match status {
            FilterDataStatus::Continue if self.iteration.get() == IterationState::StopSingleIteration => {
                AfterData::BufferAndContinue
            }
            FilterDataStatus::Continue => AfterData::Next,
            FilterDataStatus::StopIterationNoBuffer => {
                self.iteration.set(IterationState::StopSingleIteration);
                AfterData::Stop
            }
            FilterDataStatus::StopIterationAndBuffer | FilterDataStatus::StopIterationAndWatermark => {
                self.iteration.set(IterationState::StopSingleIteration);
                streaming.set(status == FilterDataStatus::StopIterationAndWatermark);
                AfterData::Buffer
            }
        }
    }

    pub(super) fn handle_after_trailers(&self, status: FilterTrailersStatus) -> AfterData {
        match status {
            FilterTrailersStatus::Continue if self.iteration.get() == IterationState::StopSingleIteration => {
                AfterData::BufferAndContinue
            }
            FilterTrailersStatus::Continue => AfterData::Next,
            FilterTrailersStatus::StopIteration => {
                if self.iteration.get() == IterationState::Continue {
                    self.iteration.set(IterationState::StopSingleIteration);
                }
                AfterData::Stop
            }
        }
    }
}

/// A filter on the way of the request.
pub(super) struct ActiveStreamDecoderFilter {
    pub(super) state: FilterState,
    index: usize,
    pub(super) handle: Rc<dyn StreamDecoderFilter>,
}

impl ActiveStreamDecoderFilter {
    pub(super) fn new(
        parent: &Weak<ActiveStream>,
        stream: &ActiveStream,
        index: usize,
        handle: Rc<dyn StreamDecoderFilter>,
    ) -> Rc<Self> {
        let wrapper =
            Rc::new(ActiveStreamDecoderFilter { state: FilterState::new(parent, stream), index, handle });
        let callbacks: Weak<dyn StreamDecoderFilterCallbacks> =
            Rc::downgrade(&(wrapper.clone() as Rc<dyn StreamDecoderFilterCallbacks>));
        wrapper.handle.set_decoder_filter_callbacks(callbacks);
        wrapper
    }

    pub(super) fn on_destroy(&self) {
        self.handle.on_destroy();
    }

    /// Goes on if the filter asked for it in the call that made it stop.
    pub(super) fn continue_if_asked(&self) {
        if self.state.take_continue_asked() {
            self.common_continue();
        }
    }

    /// Goes on from where the filter had stopped: headers, then data kept back, then trailers.
    pub(super) fn common_continue(&self) {
        let Some(stream) = self.state.parent() else { return };
        if !self.state.may_continue() {
            return;
        }
        let (id, stream_id) = (stream.connection_id, stream.stream_id);
        if stream.state.local_complete.get() || stream.state.destroyed.get() {
            envoy_stream_log!(Http, trace, id, stream_id, "cannot continue filter chain: filter={:p}", self);
            return;
        }
        envoy_stream_log!(Http, trace, id, stream_id, "continuing filter chain: filter={:p}", self);
        let from_current = self.state.stopped_all();
        self.state.iteration.set(IterationState::Continue);
        let complete = stream.state.remote_complete.get();
        let trailers = stream.request_trailers.borrow().clone();
        let headers = stream.request_headers.borrow().clone();
        if !self.state.headers_continued.replace(true)
            && let Some(headers) = headers
        {
            let buffered = stream.buffered_request_data.borrow().is_some();
            stream.decode_headers_from(self.index + 1, &headers, complete && !buffered && trailers.is_none());
        }
        let from = if from_current { self.index } else { self.index + 1 };
        let buffered = stream.buffered_request_data.borrow_mut().take();
        if let Some(mut buffered) = buffered {
            stream.decode_data_from(from, &mut buffered.buffer, complete && trailers.is_none());
            if buffered.went_below() {
                stream.read_disable_downstream(false);
            }
        }
        if let Some(trailers) = trailers {
            stream.decode_trailers_from(from, &trailers);
        }
    }
}

/// A filter on the way of the response.
pub(super) struct ActiveStreamEncoderFilter {
    pub(super) state: FilterState,
    index: Cell<usize>,
    /// The filter is on the way of the request too, and destroyed there.
    dual: bool,
    pub(super) handle: Rc<dyn StreamEncoderFilter>,
}

impl ActiveStreamEncoderFilter {
    pub(super) fn new(
        parent: &Weak<ActiveStream>,
        stream: &ActiveStream,
        handle: Rc<dyn StreamEncoderFilter>,
        dual: bool,
    ) -> Rc<Self> {
        let wrapper = Rc::new(ActiveStreamEncoderFilter {
            state: FilterState::new(parent, stream),
            index: Cell::new(0),
            dual,
            handle,
        });
        let callbacks: Weak<dyn StreamEncoderFilterCallbacks> =
            Rc::downgrade(&(wrapper.clone() as Rc<dyn StreamEncoderFilterCallbacks>));
        wrapper.handle.set_encoder_filter_callbacks(callbacks);
        wrapper
    }

    pub(super) fn set_index(&self, index: usize) {
        self.index.set(index);
    }

    pub(super) fn on_destroy(&self) {
        if !self.dual {
            self.handle.on_destroy();
        }
    }

    /// Goes on if the filter asked for it in the call that made it stop.
    pub(super) fn continue_if_asked(&self) {
        if self.state.take_continue_asked() {
            self.common_continue();
        }
    }

    /// As [`ActiveStreamDecoderFilter::common_continue`], for the response.
    pub(super) fn common_continue(&self) {
        let Some(stream) = self.state.parent() else { return };
        if !self.state.may_continue() {
            return;
        }
        let (id, stream_id) = (stream.connection_id, stream.stream_id);
        if stream.state.destroyed.get() {
            envoy_stream_log!(Http, trace, id, stream_id, "cannot continue filter chain: filter={:p}", self);
            return;
        }
        envoy_stream_log!(Http, trace, id, stream_id, "continuing filter chain: filter={:p}", self);
        let from_current = self.state.stopped_all();
        self.state.iteration.set(IterationState::Continue);
        let complete = stream.state.local_complete.get();
        let trailers = stream.response_trailers.borrow().clone();
        let headers = stream.response_headers.borrow().clone();
        let index = self.index.get();
        if self.state.holds_1xx.take() {
            let held = stream.continue_headers.borrow().clone();
            if let Some(held) = held {
                stream.encode_1xx_headers_from(index + 1, &held);
            }
            if headers.is_none() {
                return;
            }
        }
        if !self.state.headers_continued.replace(true)
            && let Some(headers) = headers
        {
            let buffered = stream.buffered_response_data.borrow().is_some();
            stream.encode_headers_from(index + 1, &headers, complete && !buffered && trailers.is_none());
        }
        let from = if from_current { index } else { index + 1 };
        let buffered = stream.buffered_response_data.borrow_mut().take();
        if let Some(mut buffered) = buffered {
            stream.encode_data_from(from, &mut buffered.buffer, complete && trailers.is_none());
            if buffered.went_below() {
                stream.call_low_watermark_callbacks();
            }
        }
        if let Some(trailers) = trailers {
            stream.encode_trailers_from(from, &trailers);
        }
    }
}

macro_rules! stream_filter_callbacks {
    ($wrapper:ty) => {
        impl StreamFilterCallbacks for $wrapper {
            fn dispatcher(&self) -> &Rc<Dispatcher> {
                &self.state.dispatcher
            }

            fn connection(&self) -> Option<Rc<ConnectionImpl>> {
                self.state.parent().and_then(|stream| stream.manager.upgrade()).and_then(|m| m.connection())
            }

            fn connection_id(&self) -> u64 {
                self.state.connection_id
            }

            fn stream_id(&self) -> u64 {
                self.state.stream_id
            }

            fn with_stream_info(&self, f: &mut dyn FnMut(&StreamInfoImpl)) {
                if let Some(stream) = self.state.parent() {
                    f(&stream.stream_info);
                }
            }

            fn route(&self) -> Option<RouteConstSharedPtr> {
                self.state.parent().and_then(|stream| stream.route())
            }

            fn clear_route_cache(&self) {
                if let Some(stream) = self.state.parent() {
                    stream.clear_route_cache();
                }
            }

            fn reset_stream(&self) {
                if let Some(stream) = self.state.parent().filter(|s| !s.state.destroyed.get()) {
                    stream.config.stats.downstream_rq_tx_reset.inc();
                    stream.end_stream();
                }
            }
        }
    };
}

stream_filter_callbacks!(ActiveStreamDecoderFilter);
stream_filter_callbacks!(ActiveStreamEncoderFilter);

impl StreamDecoderFilterCallbacks for ActiveStreamDecoderFilter {
    fn continue_decoding(&self) {
        self.common_continue();
    }

    fn decoding_buffer_length(&self) -> usize {
        let stream = self.state.parent();
        stream.map_or(0, |s| s.buffered_request_data.borrow().as_ref().map_or(0, |b| b.buffer.len()))
    }

    fn add_decoded_data(&self, data: &mut Buffer, streaming: bool) {
        let Some(stream) = self.state.parent() else { return };
        if stream.state.in_decode_trailers.get() {
            stream.decode_data_from(self.index + 1, data, false);
        } else {
            stream.state.decoder_filters_streaming.set(streaming);
            stream.buffer_data::<Decode>(data);
        }
    }

    fn decoding_buffer(&self, f: &mut dyn FnMut(&Buffer)) {
        self.modify_decoding_buffer(&mut |buffer| f(buffer));
    }

    fn modify_decoding_buffer(&self, f: &mut dyn FnMut(&mut Buffer)) {
        if let Some(stream) = self.state.parent() {
            stream.modify_buffered::<Decode>(f);
        }
    }

    fn inject_decoded_data_to_filter_chain(&self, data: &mut Buffer, end_stream: bool) {
        let Some(stream) = self.state.parent() else { return };
        if !self.state.headers_continued.get() {
            if self.state.in_callback.get() {
                stream.buffer_data::<Decode>(data);
                return;
            }
            self.state.headers_continued.set(true);
            let headers = stream.request_headers.borrow().clone();
            if let Some(headers) = headers {
                stream.decode_headers_from(self.index + 1, &headers, false);
            }
        }
        stream.decode_data_from(self.index + 1, data, end_stream);
    }

    fn add_decoded_trailers(&self) -> Option<HeaderMapPtr> {
        let stream = self.state.parent()?;
        let mut trailers = stream.request_trailers.borrow_mut();
        if !stream.state.in_last_decode_data.get() || trailers.is_some() {
            return None;
        }
        Some(trailers.insert(HeaderMap::new().shared()).clone())
    }

    fn set_decoder_buffer_limit(&self, limit: usize) {
        if let Some(stream) = self.state.parent() {
            stream.set_buffer_limit(limit);
        }
    }

    fn decoder_buffer_limit(&self) -> usize {
        self.state.parent().map_or(0, |stream| stream.buffer_limit.get())
    }

    fn send_local_reply(
        &self,
        status: u16,
        body: &str,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        details: Cow<'static, str>,
    ) {
        if let Some(stream) = self.state.parent() {
            stream.send_local_reply_with(status, body, modify_headers, details);
        }
    }

    fn encode_1xx_headers(&self, headers: HeaderMapPtr) {
        if let Some(stream) = self.state.parent() {
            stream.encode_1xx_headers(headers);
        }
    }

    fn encode_headers(&self, headers: HeaderMapPtr, end_stream: bool, details: &'static str) {
        if let Some(stream) = self.state.parent() {
            if stream.state.destroyed.get() {
                return;
            }
            stream.passed(Stage::FilterEncodeHeaders, end_stream.into());
            stream.stream_info.set_response_code_details(details);
            *stream.response_headers.borrow_mut() = Some(headers.clone());
            stream.encode_headers_from(0, &headers, end_stream);
        }
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        if let Some(stream) = self.state.parent() {
            stream.encode_data_from(0, data, end_stream);
        }
    }

    fn encode_trailers(&self, trailers: HeaderMapPtr) {
        if let Some(stream) = self.state.parent() {
            *stream.response_trailers.borrow_mut() = Some(trailers.clone());
            stream.encode_trailers_from(0, &trailers);
        }
    }

    fn on_decoder_filter_above_write_buffer_high_watermark(&self) {
        if let Some(stream) = self.state.parent() {
            stream.passed(Stage::DecoderFilterAboveHighWatermark, 0);
            stream.read_disable_downstream(true);
        }
    }

    fn on_decoder_filter_below_write_buffer_low_watermark(&self) {
        if let Some(stream) = self.state.parent() {
            stream.passed(Stage::DecoderFilterBelowLowWatermark, 0);
            stream.read_disable_downstream(false);
        }
    }

    fn add_downstream_watermark_callbacks(&self, callbacks: Weak<dyn DownstreamWatermarkCallbacks>) {
        if let Some(stream) = self.state.parent() {
            stream.set_watermark_callbacks(Some(callbacks));
        }
    }

    fn remove_downstream_watermark_callbacks(&self) {
        if let Some(stream) = self.state.parent() {
            stream.set_watermark_callbacks(None);
        }
    }
}

impl StreamEncoderFilterCallbacks for ActiveStreamEncoderFilter {
    fn continue_encoding(&self) {
        self.common_continue();
    }

    fn add_encoded_data(&self, data: &mut Buffer, streaming: bool) {
        let Some(stream) = self.state.parent() else { return };
        if stream.state.in_encode_trailers.get() {
            stream.encode_data_from(self.index.get() + 1, data, false);
        } else {
            stream.state.encoder_filters_streaming.set(streaming);
            stream.buffer_data::<Encode>(data);
        }
    }

    fn encoding_buffer(&self, f: &mut dyn FnMut(&Buffer)) {
        self.modify_encoding_buffer(&mut |buffer| f(buffer));
    }

    fn modify_encoding_buffer(&self, f: &mut dyn FnMut(&mut Buffer)) {
        if let Some(stream) = self.state.parent() {
            stream.modify_buffered::<Encode>(f);
        }
    }

    fn inject_encoded_data_to_filter_chain(&self, data: &mut Buffer, end_stream: bool) {
        let Some(stream) = self.state.parent() else { return };
        if !self.state.headers_continued.get() {
            if self.state.in_callback.get() {
                stream.buffer_data::<Encode>(data);
                return;
            }
            self.state.headers_continued.set(true);
            let headers = stream.response_headers.borrow().clone();
            if let Some(headers) = headers {
                stream.encode_headers_from(self.index.get() + 1, &headers, false);
            }
        }
        stream.encode_data_from(self.index.get() + 1, data, end_stream);
    }

    fn add_encoded_trailers(&self) -> Option<HeaderMapPtr> {
        let stream = self.state.parent()?;
        let mut trailers = stream.response_trailers.borrow_mut();
        if !stream.state.in_last_encode_data.get() || trailers.is_some() {
            return None;
        }
        Some(trailers.insert(HeaderMap::new().shared()).clone())
    }

    fn set_encoder_buffer_limit(&self, limit: usize) {
        if let Some(stream) = self.state.parent() {
            stream.set_buffer_limit(limit);
        }
    }

    fn encoder_buffer_limit(&self) -> usize {
        self.state.parent().map_or(0, |stream| stream.buffer_limit.get())
    }

    fn on_encoder_filter_above_write_buffer_high_watermark(&self) {
        if let Some(stream) = self.state.parent() {
            envoy_stream_log!(
                Http,
                debug,
                stream.connection_id,
                stream.stream_id,
                "Disabling upstream stream due to filter callbacks."
            );
            stream.call_high_watermark_callbacks();
        }
    }

    fn on_encoder_filter_below_write_buffer_low_watermark(&self) {
        if let Some(stream) = self.state.parent() {
            envoy_stream_log!(
                Http,
                debug,
                stream.connection_id,
                stream.stream_id,
                "Enabling upstream stream due to filter callbacks."
            );
            stream.call_low_watermark_callbacks();
        }
    }
}
