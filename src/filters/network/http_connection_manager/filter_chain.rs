//! The way of headers, data and trailers along the filters of a stream, and out to the codec.
//!
//! Mirrors the decode and encode halves of `ActiveStream` in Envoy's
//! `source/common/http/conn_manager_impl.cc`.

use std::cell::RefCell;
use std::rc::Rc;

use super::active_stream::ActiveStream;
use super::active_stream_filter::{ActiveStreamDecoderFilter, ActiveStreamEncoderFilter, AfterData};
use super::conn_manager::DrainState;
use super::header_mutation;
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::config::ServerHeaderTransformation;
use crate::envoy_stream_log;
use crate::event;
use crate::http::{HeaderId, HeaderMapPtr, utility};
use crate::trace::{self, Stage};

/// A call to a filter in the trace log, in Envoy's words.
macro_rules! log_filter_call {
    ($stream:expr, $what:literal, $filter:expr, $status:expr) => {
        envoy_stream_log!(
            Http,
            trace,
            $stream.connection_id,
            $stream.stream_id,
            concat!($what, " called: filter={:p} status={}"),
            Rc::as_ptr(&$filter),
            $status as u32
        )
    };
}

/// A way of data through the filters.
pub(super) trait Direction {
    /// Where data is kept back.
    fn buffered(stream: &ActiveStream) -> &RefCell<Option<Box<WatermarkBuffer>>>;
    /// It has come above the limit.
    fn too_large(stream: &ActiveStream);
    /// It has fallen below half the limit.
    fn drained(stream: &ActiveStream);
}

/// The way of the request.
pub(super) struct Decode;

impl Direction for Decode {
    fn buffered(stream: &ActiveStream) -> &RefCell<Option<Box<WatermarkBuffer>>> {
        &stream.buffered_request_data
    }

    fn too_large(stream: &ActiveStream) {
        stream.request_data_too_large();
    }

    fn drained(stream: &ActiveStream) {
        stream.read_disable_downstream(false);
    }
}

/// The way of the response.
pub(super) struct Encode;

impl Direction for Encode {
    fn buffered(stream: &ActiveStream) -> &RefCell<Option<Box<WatermarkBuffer>>> {
        &stream.buffered_response_data
    }

    fn too_large(stream: &ActiveStream) {
        stream.response_data_too_large();
    }

    fn drained(stream: &ActiveStream) {
        stream.call_low_watermark_callbacks();
    }
}

impl ActiveStream {
    pub(super) fn decoder_filter(&self, index: usize) -> Option<Rc<ActiveStreamDecoderFilter>> {
        self.decoder_filters.borrow().get(index).cloned()
    }

    pub(super) fn encoder_filter(&self, index: usize) -> Option<Rc<ActiveStreamEncoderFilter>> {
        self.encoder_filters.borrow().get(index).cloned()
    }

    /// Whether nobody is given any more of the request: the response is complete, or the stream has gone.
    fn decoding_is_over(&self) -> bool {
        self.state.local_complete.get() || self.state.destroyed.get()
    }

    /// Passes the request's headers to filter number `start` and on.
    pub(super) fn decode_headers_from(&self, start: usize, headers: &HeaderMapPtr, end_stream: bool) {
        let last = self.decoder_filters.borrow().len().saturating_sub(1);
        let mut continue_data_from: Option<Rc<ActiveStreamDecoderFilter>> = None;
        let mut index = start;
        while let Some(filter) = self.decoder_filter(index) {
            self.refresh_cleared_route();
            self.state.in_decode_headers.set(true);
            let end = self.state.decoding_headers_only.get() || (end_stream && continue_data_from.is_none());
            filter.state.set_end_stream(end);
            let status = filter.state.call(|| filter.handle.decode_headers(headers, end));
            if end {
                filter.handle.decode_complete();
            }
            self.state.in_decode_headers.set(false);
            log_filter_call!(self, "decode headers", filter, status);
            let go_on = filter.state.handle_after_headers(status, &self.state.decoding_headers_only);
            if self.decoding_is_over() {
                return;
            }
            if !go_on && index != last {
                let asked = filter.state.take_continue_asked();
                if let Some(adder) = continue_data_from {
                    adder.state.fake_stop();
                    adder.common_continue();
                }
                if asked {
                    filter.common_continue();
                }
                return;
            }
            // A filter gave a body to a request without one: what follows must wait for it.
            if end_stream && continue_data_from.is_none() && self.buffered_request_data.borrow().is_some() {
                continue_data_from = Some(filter);
            }
            index += 1;
        }
        if let Some(filter) = continue_data_from {
            filter.state.fake_stop();
            filter.common_continue();
        }
        if end_stream {
            self.disarm_request_timeout();
        }
    }

    /// Passes a piece of the request's body to filter number `start` and on.
    pub(super) fn decode_data_from(&self, start: usize, data: &mut Buffer, end_stream: bool) {
        self.reset_idle_timer();
        // Once the response is complete nobody wants the rest of the request.
        if self.state.decoding_headers_only.get() || self.decoding_is_over() {
            return;
        }
        let last = self.decoder_filters.borrow().len().saturating_sub(1);
        let had_trailers = self.request_trailers.borrow().is_some();
        let mut trailers_from = None;
        let mut index = start;
        while let Some(filter) = self.decoder_filter(index) {
            self.refresh_cleared_route();
            if filter.state.stopped_all() {
                self.state.decoder_filters_streaming.set(filter.state.stopped_all_with_watermark());
                self.buffer_data::<Decode>(data);
                return;
            }
            if filter.state.end_stream() {
                return;
            }
            self.state.in_decode_data.set(true);
            self.state.in_last_decode_data.set(end_stream);
            let end = end_stream && self.request_trailers.borrow().is_none();
            filter.state.set_end_stream(end);
            let status = filter.state.call(|| filter.handle.decode_data(data, end));
            if end {
                filter.handle.decode_complete();
            }
            self.state.in_decode_data.set(false);
            self.state.in_last_decode_data.set(false);
            let trailers = self.request_trailers.borrow().is_some();
            if trailers && !had_trailers && trailers_from.is_none() {
                trailers_from = Some(index + 1);
            }
            log_filter_call!(self, "decode data", filter, status);
            let after = filter.state.handle_after_data(status, &self.state.decoder_filters_streaming);
            if self.decoding_is_over() {
                return;
            }
            match after {
                AfterData::Next => {}
                AfterData::Stop if index == last => {}
                AfterData::Stop => {
                    if end && !trailers {
                        self.buffer_data::<Decode>(&mut Buffer::new());
                    }
                    filter.continue_if_asked();
                    return;
                }
                AfterData::Buffer => {
                    self.buffer_data::<Decode>(data);
                    filter.continue_if_asked();
                    return;
                }
                AfterData::BufferAndContinue => {
                    self.buffer_data::<Decode>(data);
                    filter.common_continue();
                    return;
                }
            }
            index += 1;
        }
        let added = self.request_trailers.borrow().clone();
        if let (Some(from), Some(trailers)) = (trailers_from, added) {
            self.decode_trailers_from(from, &trailers);
        }
        if end_stream {
            self.disarm_request_timeout();
        }
    }

    /// Passes the request's trailers to filter number `start` and on.
    pub(super) fn decode_trailers_from(&self, start: usize, trailers: &HeaderMapPtr) {
        if self.state.decoding_headers_only.get() || self.decoding_is_over() {
            return;
        }
        let mut index = start;
        while let Some(filter) = self.decoder_filter(index) {
            self.refresh_cleared_route();
            if filter.state.stopped_all() {
                return;
            }
            self.state.in_decode_trailers.set(true);
            let status = filter.state.call(|| filter.handle.decode_trailers(trailers));
            filter.handle.decode_complete();
            filter.state.set_end_stream(true);
            self.state.in_decode_trailers.set(false);
            log_filter_call!(self, "decode trailers", filter, status);
            let after = filter.state.handle_after_trailers(status);
            if self.decoding_is_over() {
                return;
            }
            match after {
                AfterData::Next => {}
                AfterData::BufferAndContinue => {
                    filter.common_continue();
                    return;
                }
                AfterData::Stop | AfterData::Buffer => {
                    filter.continue_if_asked();
                    return;
                }
            }
            index += 1;
        }
        self.disarm_request_timeout();
    }

    /// Passes an informational head past the filters to the codec.
    pub(super) fn encode_1xx_headers(&self, headers: HeaderMapPtr) {
        if !self.config.proxy_100_continue || self.state.destroyed.get() {
            return;
        }
        *self.continue_headers.borrow_mut() = Some(headers.clone());
        self.encode_1xx_headers_from(0, &headers);
    }

    /// Passes an informational head to filter number `start` and on, and to the codec.
    pub(super) fn encode_1xx_headers_from(&self, start: usize, headers: &HeaderMapPtr) {
        self.reset_idle_timer();
        let status = headers.borrow().status();
        self.passed(Stage::Encode100Continue, status.into());
        let mut index = start;
        while let Some(filter) = self.encoder_filter(index) {
            self.state.in_encode_1xx.set(true);
            let status = filter.state.call(|| filter.handle.encode_1xx_headers(headers));
            self.state.in_encode_1xx.set(false);
            log_filter_call!(self, "encode 100 continue headers", filter, status);
            let go_on = filter.state.handle_after_1xx_headers(status);
            if self.state.destroyed.get() {
                return;
            }
            if !go_on {
                filter.continue_if_asked();
                return;
            }
            index += 1;
        }
        header_mutation::mutate_response_headers(&mut headers.borrow_mut(), None, "");
        self.charge_stats(status);
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "encoding 100 continue headers via codec:\n{}",
            headers.borrow()
        );
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_1xx_headers(headers);
        }
    }

    /// Passes the response's headers to filter number `start` and on, and to the codec.
    pub(super) fn encode_headers_from(&self, start: usize, headers: &HeaderMapPtr, end_stream: bool) {
        if self.state.destroyed.get() {
            return;
        }
        self.reset_idle_timer();
        self.disarm_request_timeout();
        if start == 0 {
            self.state.local_complete.set(end_stream);
        }
        let mut continue_data_from: Option<Rc<ActiveStreamEncoderFilter>> = None;
        let mut index = start;
        while let Some(filter) = self.encoder_filter(index) {
            self.state.in_encode_headers.set(true);
            let end = self.state.encoding_headers_only.get() || (end_stream && continue_data_from.is_none());
            filter.state.set_end_stream(end);
            let status = filter.state.call(|| filter.handle.encode_headers(headers, end));
            if end {
                filter.handle.encode_complete();
            }
            self.state.in_encode_headers.set(false);
            log_filter_call!(self, "encode headers", filter, status);
            let go_on = filter.state.handle_after_headers(status, &self.state.encoding_headers_only);
            if self.state.encoding_headers_only.get() {
                self.state.local_complete.set(true);
            }
            if self.state.destroyed.get() {
                return;
            }
            if !go_on {
                let asked = filter.state.take_continue_asked();
                if let Some(adder) = continue_data_from {
                    adder.state.fake_stop();
                    adder.common_continue();
                }
                if asked {
                    filter.common_continue();
                }
                return;
            }
            if end_stream && continue_data_from.is_none() && self.buffered_response_data.borrow().is_some() {
                continue_data_from = Some(filter);
            }
            index += 1;
        }
        let end = self.state.encoding_headers_only.get() || (end_stream && continue_data_from.is_none());
        self.encode_headers_via_codec(headers, end);
        match continue_data_from {
            Some(filter) => {
                filter.state.fake_stop();
                filter.common_continue();
            }
            None => self.maybe_end_encode(end),
        }
    }

    fn encode_headers_via_codec(&self, headers: &HeaderMapPtr, end_stream: bool) {
        let status = trace::detail(|| headers.borrow().status().into());
        let _stage = self.stage(Stage::EncodeHeaders, status, end_stream.into());
        self.set_base_headers(headers);
        self.state.response_headers_encoded.set(true);
        self.state.response_has_length.set(headers.borrow().has(HeaderId::ContentLength));
        // Without a length, an HTTP/1.0 client learns of the end by the close alone.
        if self.is_http_10() && !self.state.response_has_length.get() {
            self.state.saw_connection_close.set(true);
        }
        let Some(manager) = self.manager.upgrade() else { return };
        self.decide_connection_close(&manager);
        {
            let mut headers = headers.borrow_mut();
            // A draining connection stays open for a while, and tells the client, as in Envoy 1.40.
            if manager.drain_state.get() != DrainState::NotDraining {
                if !utility::is_upgrade(&headers) {
                    headers.set(HeaderId::Connection, b"close");
                }
            } else if self.is_http_10() {
                headers.set(HeaderId::Connection, b"keep-alive");
            }
            self.charge_stats(headers.status());
        }
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "encoding headers via codec (end_stream={}):\n{}",
            end_stream,
            headers.borrow()
        );
        self.stream_info.first_downstream_tx_byte_sent.set(Some(event::now()));
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_headers(headers, end_stream);
        }
    }

    /// What every response gets, whoever made it.
    fn set_base_headers(&self, headers: &HeaderMapPtr) {
        let mut headers = headers.borrow_mut();
        if !headers.has(HeaderId::Date)
            && let Some(date) = self.config.date_provider.get()
        {
            date.set_date_header(&mut headers);
        }
        match self.config.server_header_transformation {
            ServerHeaderTransformation::PassThrough => {}
            ServerHeaderTransformation::AppendIfAbsent if headers.has(HeaderId::Server) => {}
            _ => headers.set(HeaderId::Server, self.config.server_name.as_bytes()),
        }
        self.passed(Stage::MutateResponseHeaders, 0);
        header_mutation::mutate_response_headers(&mut headers, Some(&self.request_traits), &self.config.via);
        if self.config.always_set_request_id_in_response
            && let Some(id) = &*self.request_traits.id.borrow()
        {
            headers.set(HeaderId::RequestId, id);
        }
    }

    /// Passes a piece of the response's body to filter number `start` and on, and to the codec.
    pub(super) fn encode_data_from(&self, start: usize, data: &mut Buffer, end_stream: bool) {
        self.reset_idle_timer();
        if self.state.encoding_headers_only.get() || self.state.destroyed.get() {
            return;
        }
        if start == 0 {
            self.state.local_complete.set(end_stream);
        }
        let had_trailers = self.response_trailers.borrow().is_some();
        let mut trailers_from = None;
        let mut index = start;
        while let Some(filter) = self.encoder_filter(index) {
            if filter.state.stopped_all() {
                self.state.encoder_filters_streaming.set(filter.state.stopped_all_with_watermark());
                self.buffer_data::<Encode>(data);
                return;
            }
            if filter.state.end_stream() {
                return;
            }
            self.state.in_encode_data.set(true);
            self.state.in_last_encode_data.set(end_stream);
            let end = end_stream && self.response_trailers.borrow().is_none();
            filter.state.set_end_stream(end);
            let status = filter.state.call(|| filter.handle.encode_data(data, end));
            if end {
                filter.handle.encode_complete();
            }
            self.state.in_encode_data.set(false);
            self.state.in_last_encode_data.set(false);
            let trailers = self.response_trailers.borrow().is_some();
            if trailers && !had_trailers && trailers_from.is_none() {
                trailers_from = Some(index + 1);
            }
            log_filter_call!(self, "encode data", filter, status);
            let after = filter.state.handle_after_data(status, &self.state.encoder_filters_streaming);
            if self.state.destroyed.get() {
                return;
            }
            match after {
                AfterData::Next => {}
                AfterData::Stop => {
                    if end && !trailers {
                        self.buffer_data::<Encode>(&mut Buffer::new());
                    }
                    filter.continue_if_asked();
                    return;
                }
                AfterData::Buffer => {
                    self.buffer_data::<Encode>(data);
                    filter.continue_if_asked();
                    return;
                }
                AfterData::BufferAndContinue => {
                    self.buffer_data::<Encode>(data);
                    filter.common_continue();
                    return;
                }
            }
            index += 1;
        }
        envoy_stream_log!(
            Http,
            trace,
            self.connection_id,
            self.stream_id,
            "encoding data via codec (size={} end_stream={})",
            data.len(),
            end_stream
        );
        self.stream_info.add_bytes_sent(data.len() as u64);
        let _stage = self.stage(Stage::EncodeData, data.len() as u64, end_stream.into());
        let added = self.response_trailers.borrow().clone().filter(|_| trailers_from.is_some());
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_data(data, end_stream && added.is_none());
        }
        match (trailers_from, added) {
            (Some(from), Some(trailers)) => self.encode_trailers_from(from, &trailers),
            _ => self.maybe_end_encode(end_stream),
        }
    }

    /// Passes the response's trailers to filter number `start` and on, and to the codec.
    pub(super) fn encode_trailers_from(&self, start: usize, trailers: &HeaderMapPtr) {
        self.reset_idle_timer();
        if self.state.encoding_headers_only.get() || self.state.destroyed.get() {
            return;
        }
        if start == 0 {
            self.state.local_complete.set(true);
        }
        let mut index = start;
        while let Some(filter) = self.encoder_filter(index) {
            if filter.state.stopped_all() {
                return;
            }
            self.state.in_encode_trailers.set(true);
            let status = filter.state.call(|| filter.handle.encode_trailers(trailers));
            filter.handle.encode_complete();
            filter.state.set_end_stream(true);
            self.state.in_encode_trailers.set(false);
            log_filter_call!(self, "encode trailers", filter, status);
            let after = filter.state.handle_after_trailers(status);
            if self.state.destroyed.get() {
                return;
            }
            match after {
                AfterData::Next => {}
                AfterData::BufferAndContinue => {
                    filter.common_continue();
                    return;
                }
                AfterData::Stop | AfterData::Buffer => {
                    filter.continue_if_asked();
                    return;
                }
            }
            index += 1;
        }
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "encoding trailers via codec:\n{}",
            trailers.borrow()
        );
        let _stage = self.stage(Stage::EncodeTrailers, 0, 0);
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_trailers(trailers);
        }
        self.maybe_end_encode(true);
    }

    pub(super) fn maybe_end_encode(&self, end_stream: bool) {
        if !end_stream || self.state.codec_saw_local_complete.replace(true) {
            return;
        }
        let now = event::now();
        self.stream_info.last_downstream_tx_byte_sent.set(Some(now));
        let elapsed = now.duration_since(self.stream_info.start_time_monotonic()).as_millis() as u64;
        self.passed(Stage::MaybeEndEncode, elapsed);
        self.config.stats.downstream_rq_time.record(elapsed);
        self.end_stream();
    }

    /// Keeps data back; an empty piece keeps the end of the stream for when the filter goes on, as in Envoy 1.40. What
    /// comes beyond the limit is for the way to say.
    pub(super) fn buffer_data<D: Direction>(&self, data: &mut Buffer) {
        let went_above = {
            let mut slot = D::buffered(self).borrow_mut();
            let buffered = slot.get_or_insert_with(|| {
                let mut buffer = Box::<WatermarkBuffer>::default();
                buffer.set_watermarks(self.buffer_limit.get());
                buffer
            });
            buffered.buffer.move_from(data);
            buffered.went_above()
        };
        if went_above {
            D::too_large(self);
        }
    }

    /// Request data beyond the limit: back pressure where the filter streams, else 413.
    fn request_data_too_large(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "request data too large watermark exceeded"
        );
        if self.state.decoder_filters_streaming.get() {
            self.read_disable_downstream(true);
        } else {
            self.passed(Stage::RequestDataTooLarge, self.buffer_limit.get() as u64);
            self.config.stats.downstream_rq_too_large.inc();
            self.send_local_reply_with(413, "Payload Too Large", None, "request_payload_too_large".into());
        }
    }

    /// Response data beyond the limit: back pressure where the filter streams, else 500, or a reset once the head
    /// is out.
    fn response_data_too_large(&self) {
        if self.state.encoder_filters_streaming.get() {
            self.call_high_watermark_callbacks();
            return;
        }
        self.passed(Stage::ResponseDataTooLarge, self.buffer_limit.get() as u64);
        self.config.stats.rs_too_large.inc();
        self.send_local_reply_with(500, "Internal Server Error", None, "response_payload_too_large".into());
    }

    /// Has `f` look at data kept back, which is nobody's for as long, and tells of a limit that was crossed.
    pub(super) fn modify_buffered<D: Direction>(&self, f: &mut dyn FnMut(&mut Buffer)) {
        let slot = D::buffered(self);
        let taken = slot.borrow_mut().take();
        let Some(mut buffered) = taken else { return };
        f(&mut buffered.buffer);
        if let Some(mut added) = slot.borrow_mut().take() {
            buffered.buffer.move_from(&mut added.buffer);
        }
        buffered.set_watermarks(self.buffer_limit.get());
        let (above, below) = (buffered.went_above(), buffered.went_below());
        *slot.borrow_mut() = Some(buffered);
        if above {
            D::too_large(self);
        } else if below {
            D::drained(self);
        }
    }

    /// Changes the limit on data kept back, on both ways.
    pub(super) fn set_buffer_limit(&self, limit: usize) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id,
            self.stream_id,
            "setting buffer limit to {}",
            limit
        );
        self.buffer_limit.set(limit);
        self.modify_buffered::<Decode>(&mut |_| {});
        self.modify_buffered::<Encode>(&mut |_| {});
    }

    /// Stops or resumes reading the request.
    pub(super) fn read_disable_downstream(&self, disable: bool) {
        let (id, stream_id) = (self.connection_id, self.stream_id);
        if disable {
            envoy_stream_log!(
                Http,
                debug,
                id,
                stream_id,
                "Read-disabling downstream stream due to filter callbacks."
            );
            self.config.stats.downstream_flow_control_paused_reading_total.inc();
        } else {
            envoy_stream_log!(
                Http,
                debug,
                id,
                stream_id,
                "Read-enabling downstream stream due to filter callbacks."
            );
            self.config.stats.downstream_flow_control_resumed_reading_total.inc();
        }
        if let Some(encoder) = self.response_encoder() {
            encoder.stream().read_disable(disable);
        }
    }
}
