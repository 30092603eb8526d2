//! The way of headers, data and trailers along the filters, the same for request and response.
//!
//! Mirrors `ActiveStream::decodeHeaders`, `ActiveStream::encodeHeaders` and their neighbours in Envoy's
//! `source/common/http/conn_manager_impl.cc`, where each has a loop of its own.

use super::FilterManager;
use super::active_filter::{ActiveFilter, After, IterationState};
use super::direction::{Direction, Encode};
use crate::buffer::Buffer;
use crate::envoy_stream_log;
use crate::filters::http::FilterHeadersStatus;
use crate::http::HeaderMapPtr;
use crate::logger::{self, Id, Level};
use crate::trace::{self, Stage};

/// What passes the filters.
pub(super) enum Frame<'a> {
    /// An informational (1xx) head.
    Informational(&'a HeaderMapPtr),
    /// Headers, and whether the stream ends with them.
    Headers(&'a HeaderMapPtr, bool),
    /// Data, and whether it is the last.
    Data(&'a mut Buffer, bool),
    /// Trailers, which end the stream.
    Trailers(&'a HeaderMapPtr),
}

impl Frame<'_> {
    /// Whether the stream ends with it, unless a filter adds something.
    fn ends(&self) -> bool {
        matches!(self, Frame::Headers(_, true) | Frame::Data(_, true))
    }
}

impl FilterManager {
    /// Passes a frame to filter number `start` and on, and out behind the last.
    pub(super) fn iterate<D: Direction>(&self, start: usize, frame: Frame<'_>) {
        self.pass::<D>(start, frame);
    }

    /// The same, for where it is known what kind of frame it is, which settles most of what is asked here.
    #[inline(always)]
    pub(super) fn pass<D: Direction>(&self, start: usize, mut frame: Frame<'_>) {
        self.with_host(|host| host.reset_idle_timer());
        let half = D::half(self);
        let is_rest = matches!(frame, Frame::Data(..) | Frame::Trailers(_));
        if D::is_over(self) || (is_rest && half.headers_only.get()) {
            return;
        }
        if let Frame::Data(_, end) = &mut frame {
            *end &= half.trailers.borrow().is_none();
        }
        let (ends, is_headers) = (frame.ends(), matches!(frame, Frame::Headers(..)));
        // The first filter that has added what the stream now ends with: a body to headers, or trailers to data.
        let mut adder = None;
        let filters = half.filters();
        for (index, filter) in filters.iter().enumerate().skip(start) {
            D::prepare(self);
            if !self.admit::<D>(filter, &mut frame) {
                return;
            }
            let after = self.give::<D>(filter, &mut frame, ends && adder.is_none());
            if D::is_over(self) {
                return;
            }
            let takes_all = D::LAST_TAKES_ALL && index + 1 == filters.len();
            self.keep::<D>(filter, &mut frame, after, takes_all);
            if after == After::Next || takes_all {
                if ends && adder.is_none() && self.has_more::<D>(&frame) {
                    adder = Some(index);
                }
                continue;
            }
            let goes_on = filter.state.continue_asked.take() || after == After::KeepAndContinue;
            self.pass_added::<D>(adder, is_headers);
            if goes_on {
                self.common_continue::<D>(index);
            }
            return;
        }
        let end = ends && adder.is_none();
        match frame {
            Frame::Informational(headers) => D::informational_out(self, headers),
            Frame::Headers(headers, _) => D::headers_out(self, headers, end || half.headers_only.get()),
            Frame::Data(data, _) => D::data_out(self, data, end),
            Frame::Trailers(trailers) => D::trailers_out(self, trailers),
        }
        self.pass_added::<D>(adder, is_headers);
    }

    /// Whether the filter is given the frame: not where it has stopped everything; its data is kept back.
    fn admit<D: Direction>(&self, filter: &ActiveFilter<D::Filter>, frame: &mut Frame<'_>) -> bool {
        let (half, state) = (D::half(self), &filter.state);
        match frame {
            Frame::Informational(_) | Frame::Headers(..) => true,
            Frame::Data(data, _) if state.stopped_all() => {
                half.streaming.set(state.stopped_all_with_watermark());
                self.buffer_data::<D>(data);
                false
            }
            Frame::Data(..) => !state.end_stream.get(),
            Frame::Trailers(_) => !state.stopped_all(),
        }
    }

    /// Passes a frame to one filter, and does what the filter asked for meanwhile.
    fn give<D: Direction>(
        &self,
        filter: &ActiveFilter<D::Filter>,
        frame: &mut Frame<'_>,
        end: bool,
    ) -> After {
        let (half, state) = (D::half(self), &filter.state);
        match frame {
            Frame::Informational(headers) => {
                let was = self.state.in_encode_1xx.replace(true);
                let status = self.call::<D, _>(filter, false, |f| D::informational(f, headers));
                self.state.in_encode_1xx.set(was);
                self.log_call::<D>("encode 100 continue headers", filter, status as u32);
                state.handle_after_1xx_headers(status)
            }
            Frame::Headers(headers, _) => {
                let end = end || half.headers_only.get();
                let status = self.call::<D, _>(filter, end, |f| D::headers(f, headers, end));
                self.log_call::<D>(D::calls()[0], filter, status as u32);
                if status == FilterHeadersStatus::ContinueAndEndStream {
                    self.converted_to_headers_only::<D>();
                }
                state.handle_after_headers(status, &half.headers_only)
            }
            Frame::Data(data, last) => {
                let was = half.in_last_data.replace(*last);
                let status = self.call::<D, _>(filter, end, |f| D::data(f, data, end));
                half.in_last_data.set(was);
                self.log_call::<D>(D::calls()[1], filter, status as u32);
                state.handle_after_data(status, &half.streaming)
            }
            Frame::Trailers(trailers) => {
                let was = half.in_trailers.replace(true);
                let status = self.call::<D, _>(filter, true, |f| D::trailers(f, trailers));
                half.in_trailers.set(was);
                self.log_call::<D>(D::calls()[2], filter, status as u32);
                state.handle_after_trailers(status)
            }
        }
    }

    fn call<D: Direction, S>(
        &self,
        filter: &ActiveFilter<D::Filter>,
        end: bool,
        f: impl FnOnce(&D::Filter) -> S,
    ) -> S {
        let state = &filter.state;
        state.end_stream.set(end);
        state.in_callback.set(true);
        state.continue_asked.set(false);
        self.state.calls.set(self.state.calls.get() + 1);
        let status = f(&filter.handle);
        self.state.calls.set(self.state.calls.get() - 1);
        state.in_callback.set(false);
        if end {
            D::complete(&filter.handle);
        }
        self.do_asked();
        status
    }

    fn log_call<D: Direction>(&self, what: &str, filter: &ActiveFilter<D::Filter>, status: u32) {
        if logger::enabled(Id::Http, Level::Trace) && self.logs_calls {
            envoy_stream_log!(
                Http,
                trace,
                self.connection_id(),
                self.stream_id(),
                "{} called: filter={:p} status={}",
                what,
                filter,
                status
            );
        }
    }

    fn converted_to_headers_only<D: Direction>(&self) {
        envoy_stream_log!(Http, debug, self.connection_id(), self.stream_id(), "converting to headers only");
        D::end_with_headers(self);
    }

    /// Whether something follows a frame that came as the last.
    fn has_more<D: Direction>(&self, frame: &Frame<'_>) -> bool {
        let half = D::half(self);
        match frame {
            Frame::Headers(..) => half.buffered.borrow().is_some(),
            Frame::Data(..) => half.trailers.borrow().is_some(),
            Frame::Informational(_) | Frame::Trailers(_) => false,
        }
    }

    /// Keeps back what the filter has stopped, as it said; of data that it takes, the end alone, for when it goes on.
    fn keep<D: Direction>(
        &self,
        filter: &ActiveFilter<D::Filter>,
        frame: &mut Frame<'_>,
        after: After,
        takes_all: bool,
    ) {
        let Frame::Data(data, _) = frame else { return };
        match after {
            After::Next => {}
            After::Keep | After::KeepAndContinue => self.buffer_data::<D>(data),
            After::Stop => {
                let ended = filter.state.end_stream.get() && D::half(self).trailers.borrow().is_none();
                if ended && !takes_all {
                    self.buffer_data::<D>(&mut Buffer::new());
                }
            }
        }
    }

    /// Passes on what a filter has added: a body behind headers that were the end, or trailers behind such data.
    #[inline(always)]
    fn pass_added<D: Direction>(&self, adder: Option<usize>, behind_headers: bool) {
        if let Some(index) = adder {
            self.pass_what_was_added::<D>(index, behind_headers);
        }
    }

    #[cold]
    fn pass_what_was_added<D: Direction>(&self, index: usize, behind_headers: bool) {
        if behind_headers {
            D::half(self).filters()[index].state.fake_stop();
            return self.common_continue::<D>(index);
        }
        let trailers = D::half(self).trailers.borrow().clone();
        if let Some(trailers) = trailers {
            self.iterate::<D>(index + 1, Frame::Trailers(&trailers));
        }
    }

    /// Goes on from where a filter had stopped: headers, then data kept back, then trailers.
    pub(super) fn common_continue<D: Direction>(&self, index: usize) {
        let half = D::half(self);
        let filter = &half.filters()[index];
        let state = &filter.state;
        if !state.may_continue() {
            return;
        }
        let (id, stream_id) = (self.connection_id(), self.stream_id());
        if D::is_over(self) {
            envoy_stream_log!(
                Http,
                trace,
                id,
                stream_id,
                "cannot continue filter chain: filter={:p}",
                filter
            );
            return;
        }
        envoy_stream_log!(Http, trace, id, stream_id, "continuing filter chain: filter={:p}", filter);
        trace::instant(Stage::CommonContinue, Some(id), stream_id, index as u64, 0);
        let from = if state.stopped_all() { index } else { index + 1 };
        state.iteration.set(IterationState::Continue);
        let headers = half.headers.borrow().clone();
        if state.holds_1xx.take() {
            self.continue_informational(index + 1);
            if headers.is_none() {
                return;
            }
        }
        let trailers = half.trailers.borrow().clone();
        let complete = half.complete.get() && trailers.is_none();
        if !state.headers_continued.replace(true)
            && let Some(headers) = headers
        {
            let end = complete && half.buffered.borrow().is_none();
            self.iterate::<D>(index + 1, Frame::Headers(&headers, end));
        }
        self.release::<D>(from, complete);
        if let Some(trailers) = trailers {
            self.iterate::<D>(from, Frame::Trailers(&trailers));
        }
    }

    fn continue_informational(&self, start: usize) {
        let held = self.informational_headers.borrow().clone();
        if let Some(held) = held {
            self.iterate::<Encode>(start, Frame::Informational(&held));
        }
    }

    /// Passes data to the filters behind one that stays stopped; its headers, if it has stopped them, go before.
    pub(super) fn inject_data<D: Direction>(&self, index: usize, data: &mut Buffer, end_stream: bool) {
        let half = D::half(self);
        let state = &half.filters()[index].state;
        if !state.headers_continued.get() {
            if state.in_callback.get() {
                return self.buffer_data::<D>(data);
            }
            state.headers_continued.set(true);
            let headers = half.headers.borrow().clone();
            if let Some(headers) = headers {
                self.iterate::<D>(index + 1, Frame::Headers(&headers, false));
            }
        }
        self.iterate::<D>(index + 1, Frame::Data(data, end_stream));
    }
}
