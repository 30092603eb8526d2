//! Data that filters have kept back, and its limit.
//!
//! Mirrors `ActiveStreamFilterBase::commonHandleBufferData` and its neighbours in Envoy's
//! `source/common/http/conn_manager_impl.cc`.

use super::FilterManager;
use super::direction::{Decode, Direction, Encode};
use super::iteration::Frame;
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::envoy_stream_log;
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::trace::{Stage, stage};

impl FilterManager {
    /// Keeps data back; an empty piece keeps the end of the stream for when the filter goes on, as in Envoy 1.40. What
    /// comes beyond the limit is for the way to say.
    pub(super) fn buffer_data<D: Direction>(&self, data: &mut Buffer) {
        let went_above = {
            let mut slot = D::half(self).buffered.borrow_mut();
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

    /// Passes what was kept back to filter number `from` and on.
    pub(super) fn release<D: Direction>(&self, from: usize, end_stream: bool) {
        let buffered = D::half(self).buffered.borrow_mut().take();
        let Some(mut buffered) = buffered else { return };
        self.iterate::<D>(from, Frame::Data(&mut buffered.buffer, end_stream));
        if buffered.went_below() {
            D::drained(self);
        }
    }

    /// Adds to what is kept back, or passes it on where filter number `index` is being given the trailers.
    pub(super) fn add_data<D: Direction>(&self, index: usize, data: &mut Buffer, streaming: bool) {
        let half = D::half(self);
        if half.in_trailers.get() {
            self.iterate::<D>(index + 1, Frame::Data(data, false));
        } else {
            half.streaming.set(streaming);
            self.buffer_data::<D>(data);
        }
    }

    /// Trailers for a stream without, while its last data is passed to a filter.
    pub(super) fn add_trailers<D: Direction>(&self) -> Option<HeaderMapPtr> {
        let half = D::half(self);
        let mut trailers = half.trailers.borrow_mut();
        if !half.in_last_data.get() || trailers.is_some() {
            return None;
        }
        Some(trailers.insert(HeaderMap::new().shared()).clone())
    }

    /// How much is kept back.
    pub(super) fn buffered_len<D: Direction>(&self) -> usize {
        D::half(self).buffered.borrow().as_ref().map_or(0, |buffered| buffered.buffer.len())
    }

    /// Takes all that is kept back of the request, for a stream that begins anew.
    pub fn take_buffered_request_data(&self) -> Option<Buffer> {
        self.decoding.buffered.borrow_mut().take().map(|mut buffered| std::mem::take(&mut buffered.buffer))
    }

    /// Has `f` look at data kept back, which is nobody's for as long, and tells of a limit that was crossed.
    pub(super) fn modify_buffered<D: Direction>(&self, f: &mut dyn FnMut(&mut Buffer)) {
        let slot = &D::half(self).buffered;
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
        stage!(SetStreamBufferLimit(self.connection_id(), self.stream_id()), limit = limit);
        self.buffer_limit.set(limit);
        self.modify_buffered::<Decode>(&mut |_| {});
        self.modify_buffered::<Encode>(&mut |_| {});
    }

    /// Request data beyond the limit: back pressure where the filter streams, else 413.
    pub(super) fn request_data_too_large(&self) {
        envoy_stream_log!(
            Http,
            debug,
            self.connection_id(),
            self.stream_id(),
            "request data too large watermark exceeded"
        );
        if self.decoding.streaming.get() {
            return self.with_host(|host| host.on_decoder_filter_above_write_buffer_high_watermark());
        }
        self.passed(Stage::RequestDataTooLarge, self.buffer_limit.get() as u64);
        self.with_host(|host| host.on_request_data_too_large());
        self.send_local_reply(413, "Payload Too Large", None, "request_payload_too_large".into());
    }

    /// Response data beyond the limit: back pressure where the filter streams, else 500, or a reset once the head
    /// is out.
    pub(super) fn response_data_too_large(&self) {
        if self.encoding.streaming.get() {
            return self.call_high_watermark_callbacks();
        }
        self.passed(Stage::ResponseDataTooLarge, self.buffer_limit.get() as u64);
        self.with_host(|host| host.on_response_data_too_large());
        self.send_local_reply(500, "Internal Server Error", None, "response_payload_too_large".into());
    }
}
