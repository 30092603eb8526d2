//! A one-shot timer.
//!
//! Mirrors Envoy's `source/common/event/timer_impl.cc`: 0 ms is `event_active`, which runs the
//! callback in the current pass. [`Timer::enable_after_poll`] is legate's own: it is what Envoy's
//! HTTP/1 pool wants from its 0 ms timer and later Envoys call `scheduleCallbackNextIteration`.

use std::ffi::c_short;
use std::rc::Rc;
use std::time::Duration;

use super::cell::{ByHand, Event};
use super::ffi;
use super::libevent::Base;

/// A one-shot timer of the loop. Dropping it disarms it.
pub struct Timer {
    event: Event,
}

impl Timer {
    pub(super) fn new(base: &Rc<Base>, callback: impl Fn() + 'static) -> Self {
        Timer { event: Event::new(base, -1, 0, move |_| callback()) }
    }

    /// Arms the timer, replacing an earlier deadline. Resolution is a millisecond (epoll's); zero
    /// runs the callback in the current pass, after what is queued already.
    pub fn enable_timer(&self, after: Duration) {
        if after.is_zero() {
            self.event.activate(ffi::EV_TIMEOUT as c_short);
        } else {
            self.add(after);
        }
    }

    /// Arms the timer so that the callback runs only after the loop has polled the kernel again and
    /// has queued what it found: libevent collects due timers after the poll, behind the fd events.
    pub fn enable_after_poll(&self) {
        self.add(Duration::ZERO);
    }

    fn add(&self, after: Duration) {
        self.event.add(Some(after)).expect("a timer armed"); // invariant: the kernel is not asked
    }

    /// Disarms the timer.
    pub fn disable_timer(&self) {
        self.event.del();
    }

    /// Whether the timer is armed.
    pub fn enabled(&self) -> bool {
        self.event.pending(ffi::EV_TIMEOUT as c_short)
    }

    /// For `event_active` on other threads, which is the only thing to do with this timer then.
    pub(super) fn raw_event(&self) -> *mut ffi::event {
        self.event.mark_by_hand(ByHand::Always);
        self.event.raw()
    }
}
