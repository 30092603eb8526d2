//! A watched signal. Mirrors Envoy's `source/common/event/signal_impl.cc`.

use std::ffi::c_short;
use std::io;
use std::rc::Rc;

use super::cell::Event;
use super::ffi;
use super::libevent::Base;

/// Runs its callback in the loop each time the signal arrives.
pub struct SignalEvent {
    _event: Event,
}

impl SignalEvent {
    pub(super) fn new(base: &Rc<Base>, signal: i32, callback: impl Fn() + 'static) -> io::Result<Self> {
        let bits = (ffi::EV_SIGNAL | ffi::EV_PERSIST) as c_short;
        let event = Event::new(base, signal, bits, move |_| callback());
        event.add(None)?;
        Ok(SignalEvent { _event: event })
    }
}
