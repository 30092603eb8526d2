//! Lets a response pass no faster than at a rate.
//!
//! Mirrors `StreamRateLimiter` of Envoy's `source/extensions/filters/http/fault/fault_filter.cc`. As in 1.40 a response
//! begins with one slice, and not with all those of its first second.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::buffer::{Buffer, WatermarkBuffer};
use crate::common::token_bucket::TokenBucketImpl;
use crate::envoy_log;
use crate::event::{Dispatcher, Timer};
use crate::filters::http::{FilterTrailersStatus, StreamEncoderFilterCallbacks};

/// Each second has so many slices. 16 divides 1024 evenly.
const SECOND_DIVISOR: u64 = 16;

/// See the module's description.
pub(super) struct StreamRateLimiter {
    bytes_per_time_slice: u64,
    callbacks: Rc<StreamEncoderFilterCallbacks>,
    token_bucket: RefCell<TokenBucketImpl>,
    token_timer: Timer,
    saw_end_stream: Cell<bool>,
    saw_trailers: Cell<bool>,
    buffer: RefCell<WatermarkBuffer>,
}

impl StreamRateLimiter {
    pub fn new(
        max_kbps: u64,
        callbacks: &Rc<StreamEncoderFilterCallbacks>,
        dispatcher: &Rc<Dispatcher>,
    ) -> Rc<Self> {
        let now = std::time::Instant::now();
        let mut token_bucket = TokenBucketImpl::new(SECOND_DIVISOR, SECOND_DIVISOR as f64, now);
        token_bucket.reset(1, now);
        let mut buffer = WatermarkBuffer::default();
        buffer.set_watermarks(callbacks.encoder_buffer_limit());
        Rc::new_cyclic(|limiter: &Weak<StreamRateLimiter>| {
            let limiter = limiter.clone();
            let on_timer = move || {
                if let Some(limiter) = limiter.upgrade() {
                    limiter.on_token_timer();
                }
            };
            StreamRateLimiter {
                bytes_per_time_slice: max_kbps.saturating_mul(1024 / SECOND_DIVISOR),
                callbacks: callbacks.clone(),
                token_bucket: RefCell::new(token_bucket),
                token_timer: dispatcher.create_timer(on_timer),
                saw_end_stream: Cell::new(false),
                saw_trailers: Cell::new(false),
                buffer: RefCell::new(buffer),
            }
        })
    }

    fn buffered(&self) -> u64 {
        self.buffer.borrow().buffer.len() as u64
    }

    fn on_token_timer(&self) {
        let buffered = self.buffered();
        envoy_log!(Filter, trace, "limiter: timer wakeup: buffered={}", buffered);
        let tokens_needed = buffered.div_ceil(self.bytes_per_time_slice);
        let now = std::time::Instant::now();
        let tokens_obtained = self.token_bucket.borrow_mut().consume(tokens_needed, true, now);
        let bytes_to_write = tokens_obtained.saturating_mul(self.bytes_per_time_slice).min(buffered);
        envoy_log!(
            Filter,
            trace,
            "limiter: tokens_needed={} tokens_obtained={} to_write={}",
            tokens_needed,
            tokens_obtained,
            bytes_to_write
        );
        let mut data_to_write = Buffer::default();
        let went_below = {
            let mut buffer = self.buffer.borrow_mut();
            data_to_write.move_n_from(&mut buffer.buffer, bytes_to_write as usize);
            buffer.went_below()
        };
        if went_below {
            self.callbacks.on_encoder_filter_below_write_buffer_low_watermark();
        }
        if self.buffered() > 0 {
            let wait = self.token_bucket.borrow().next_token_available();
            if wait > Duration::ZERO {
                envoy_log!(Filter, trace, "limiter: scheduling wakeup for {}ms", wait.as_millis());
                self.token_timer.enable_timer(wait);
            }
        }
        let ends = self.saw_end_stream.get() && self.buffered() == 0 && !self.saw_trailers.get();
        self.callbacks.inject_encoded_data_to_filter_chain(&mut data_to_write, ends);
        if self.buffered() == 0 && self.saw_trailers.get() {
            self.callbacks.continue_encoding();
        }
    }

    /// Takes all of `incoming`; the filter stops then.
    pub fn write_data(&self, incoming: &mut Buffer, end_stream: bool) {
        envoy_log!(
            Filter,
            trace,
            "limiter: incoming data length={} buffered={}",
            incoming.len(),
            self.buffered()
        );
        let went_above = {
            let mut buffer = self.buffer.borrow_mut();
            buffer.buffer.move_from(incoming);
            buffer.went_above()
        };
        self.saw_end_stream.set(end_stream);
        if went_above {
            self.callbacks.on_encoder_filter_above_write_buffer_high_watermark();
        }
        if !self.token_timer.enabled() {
            // When the stack has unwound; what has come with the end of the stream may have to go without it.
            self.token_timer.enable_timer(Duration::ZERO);
        }
    }

    pub fn on_trailers(&self) -> FilterTrailersStatus {
        self.saw_end_stream.set(true);
        self.saw_trailers.set(true);
        if self.buffered() > 0 { FilterTrailersStatus::StopIteration } else { FilterTrailersStatus::Continue }
    }

    /// The stream ends.
    pub fn destroy(&self) {
        self.token_timer.disable_timer();
    }
}
