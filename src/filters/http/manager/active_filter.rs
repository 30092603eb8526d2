//! A filter's place in its stream: whether it lets the stream pass.
//!
//! Mirrors `ActiveStreamFilterBase` of Envoy's `source/common/http/conn_manager_impl.cc`.

use std::cell::Cell;
use std::rc::Rc;

use crate::filters::http::{FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus};

/// A filter on one of the ways.
pub(super) struct ActiveFilter<F: ?Sized> {
    pub handle: Rc<F>,
    /// The filter is on both ways; what is told once, it is told as a filter of the request.
    pub dual: bool,
    pub state: FilterState,
}

impl<F: ?Sized> ActiveFilter<F> {
    pub fn new(handle: Rc<F>, dual: bool) -> Self {
        ActiveFilter { handle, dual, state: FilterState::default() }
    }
}

/// Whether and how a filter has stopped the iteration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum IterationState {
    #[default]
    Continue,
    StopSingleIteration,
    StopAllBuffer,
    StopAllWatermark,
}

/// What follows a filter's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// On to the next filter.
    Next,
    /// Stop; data is dropped.
    Stop,
    /// Stop; data is to be kept back.
    Keep,
    /// Data is to be kept back, and the filter then goes on from its earlier stop.
    KeepAndContinue,
}

/// How far a filter has let the stream pass.
#[derive(Default)]
pub(super) struct FilterState {
    pub iteration: Cell<IterationState>,
    pub headers_continued: Cell<bool>,
    /// The end of the stream has been given to this filter.
    pub end_stream: Cell<bool>,
    /// The filter is being called; what it asks for that calls further filters waits for its return.
    pub in_callback: Cell<bool>,
    pub continue_asked: Cell<bool>,
    /// The filter has stopped at an informational head.
    pub holds_1xx: Cell<bool>,
}

impl FilterState {
    /// Whether the filter is to go on, having stopped. A filter that asks from inside a call goes on when that
    /// has returned.
    pub fn may_continue(&self) -> bool {
        if self.in_callback.get() {
            self.continue_asked.set(true);
            return false;
        }
        self.iteration.get() != IterationState::Continue
    }

    pub fn stopped_all(&self) -> bool {
        matches!(self.iteration.get(), IterationState::StopAllBuffer | IterationState::StopAllWatermark)
    }

    pub fn stopped_all_with_watermark(&self) -> bool {
        self.iteration.get() == IterationState::StopAllWatermark
    }

    /// As if the filter had stopped by itself, for a continue that follows.
    pub fn fake_stop(&self) {
        self.iteration.set(IterationState::StopSingleIteration);
    }

    pub fn handle_after_1xx_headers(&self, status: FilterHeadersStatus) -> After {
        let stop = status == FilterHeadersStatus::StopIteration;
        self.holds_1xx.set(stop);
        if !stop {
            return After::Next;
        }
        self.fake_stop();
        After::Stop
    }

    /// `headers_only` is set where the filter has the stream end with its headers.
    pub fn handle_after_headers(&self, status: FilterHeadersStatus, headers_only: &Cell<bool>) -> After {
        let go_on =
            matches!(status, FilterHeadersStatus::Continue | FilterHeadersStatus::ContinueAndEndStream);
        if go_on && self.holds_1xx.take() {
            // The response has overtaken the informational head.
            self.iteration.set(IterationState::Continue);
        }
        match status {
            FilterHeadersStatus::Continue => self.headers_continued.set(true),
            FilterHeadersStatus::ContinueAndEndStream => headers_only.set(true),
            FilterHeadersStatus::StopIteration => self.iteration.set(IterationState::StopSingleIteration),
            FilterHeadersStatus::StopAllIterationAndBuffer => {
                self.iteration.set(IterationState::StopAllBuffer);
            }
            FilterHeadersStatus::StopAllIterationAndWatermark => {
                self.iteration.set(IterationState::StopAllWatermark);
            }
        }
        if go_on { After::Next } else { After::Stop }
    }

    /// `streaming` is set where what is kept back is limited by back pressure.
    pub fn handle_after_data(&self, status: FilterDataStatus, streaming: &Cell<bool>) -> After {
        match status {
            FilterDataStatus::Continue => self.handle_after_continue(),
            FilterDataStatus::StopIterationNoBuffer => {
                self.fake_stop();
                After::Stop
            }
            FilterDataStatus::StopIterationAndBuffer | FilterDataStatus::StopIterationAndWatermark => {
                self.fake_stop();
                streaming.set(status == FilterDataStatus::StopIterationAndWatermark);
                After::Keep
            }
        }
    }

    pub fn handle_after_trailers(&self, status: FilterTrailersStatus) -> After {
        match status {
            FilterTrailersStatus::Continue => self.handle_after_continue(),
            FilterTrailersStatus::StopIteration => {
                if self.iteration.get() == IterationState::Continue {
                    self.fake_stop();
                }
                After::Stop
            }
        }
    }

    /// A filter that lets data or trailers pass lets pass what it has stopped before.
    fn handle_after_continue(&self) -> After {
        if self.iteration.get() == IterationState::StopSingleIteration {
            After::KeepAndContinue
        } else {
            After::Next
        }
    }
}
