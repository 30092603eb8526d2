//! The callbacks of one codec stream. Mirrors Envoy's `source/common/http/codec_helper.h`.

use std::cell::{Cell, RefCell};
use std::rc::Weak;

use super::{StreamCallbacks, StreamResetReason};

type Listener = Weak<dyn StreamCallbacks>;

/// Listeners in the order in which they came. The first three take no memory of their own, and no stream has more: those of a
/// request to an upstream are the codec client, the pool and the router.
#[derive(Clone, Default)]
struct Listeners {
    first: [Option<Listener>; 3],
    others: Vec<Listener>,
}

impl Listeners {
    #[inline(always)]
    fn push(&mut self, listener: Listener) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(listener),
            None => self.others.push(listener),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.first.iter().flatten().chain(&self.others)
    }

    fn remove(&mut self, listener: &Listener) {
        let is_it = |place: &Option<Listener>| place.as_ref().is_some_and(|l| l.ptr_eq(listener));
        let Some(at) = self.first.iter().position(is_it) else {
            return self.others.retain(|l| !l.ptr_eq(listener));
        };
        // Who comes behind it moves up, so that the order is kept.
        self.first[at..].rotate_left(1);
        let last = self.first.len() - 1;
        self.first[last] = if self.others.is_empty() { None } else { Some(self.others.remove(0)) };
    }
}

/// The listeners of one stream, told in the order in which they were added.
#[derive(Default)]
pub struct StreamCallbackHelper {
    callbacks: RefCell<Listeners>,
    reset_callbacks_started: Cell<bool>,
    high_watermark_callbacks: Cell<u32>,
}

impl StreamCallbackHelper {
    /// Adds a listener and tells it of watermarks crossed already.
    #[inline(always)]
    pub fn add(&self, callbacks: Weak<dyn StreamCallbacks>) {
        debug_assert!(!self.reset_callbacks_started.get());
        if self.high_watermark_callbacks.get() > 0 {
            return self.add_and_tell(callbacks);
        }
        self.callbacks.borrow_mut().push(callbacks);
    }

    #[cold]
    fn add_and_tell(&self, callbacks: Weak<dyn StreamCallbacks>) {
        let crossed = self.high_watermark_callbacks.get();
        let to_tell = callbacks.upgrade();
        self.callbacks.borrow_mut().push(callbacks);
        if let Some(callbacks) = to_tell {
            (0..crossed).for_each(|_| callbacks.on_above_write_buffer_high_watermark());
        }
    }

    /// Removes a listener.
    pub fn remove(&self, callbacks: &Weak<dyn StreamCallbacks>) {
        self.callbacks.borrow_mut().remove(callbacks);
    }

    /// Tells all listeners that the stream is reset; at most once.
    pub fn run_reset_callbacks(&self, reason: StreamResetReason) {
        if self.reset_callbacks_started.replace(true) {
            return;
        }
        self.for_each(|c| c.on_reset_stream(reason));
    }

    /// Tells all listeners of a high watermark, unless they have been told of a reset.
    pub fn run_high_watermark_callbacks(&self) {
        if self.reset_callbacks_started.get() {
            return;
        }
        self.high_watermark_callbacks.set(self.high_watermark_callbacks.get() + 1);
        self.for_each(|c| c.on_above_write_buffer_high_watermark());
    }

    /// Tells all listeners of a low watermark, unless they have been told of a reset.
    pub fn run_low_watermark_callbacks(&self) {
        if self.reset_callbacks_started.get() {
            return;
        }
        self.high_watermark_callbacks.set(self.high_watermark_callbacks.get().saturating_sub(1));
        self.for_each(|c| c.on_below_write_buffer_low_watermark());
    }

    fn for_each(&self, f: impl Fn(&dyn StreamCallbacks)) {
        // A copy, because a listener may add or remove listeners; one removed meanwhile is skipped.
        let snapshot = self.callbacks.borrow().clone();
        for callbacks in snapshot.iter() {
            let still_there = self.callbacks.borrow().iter().any(|c| c.ptr_eq(callbacks));
            if let Some(callbacks) = callbacks.upgrade().filter(|_| still_there) {
                f(&*callbacks);
            }
        }
    }
}
