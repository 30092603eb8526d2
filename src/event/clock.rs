//! The time of the callback that is running.
//!
//! A request asks for the time a dozen times within microseconds. Inside a callback of the loop the
//! clock is read once, when it is first asked for (Envoy: `approximateMonotonicTime`, per pass).

use std::cell::Cell;
use std::time::Instant;

#[derive(Clone, Copy)]
enum State {
    Outside,
    Inside(Option<Instant>),
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Outside) };
}

/// The monotonic time, at most one callback old; exact outside of callbacks.
pub fn now() -> Instant {
    match STATE.get() {
        State::Inside(Some(now)) => now,
        State::Inside(None) => {
            let now = Instant::now();
            STATE.set(State::Inside(Some(now)));
            now
        }
        State::Outside => Instant::now(),
    }
}

pub(super) fn enter_callback() {
    STATE.set(State::Inside(None));
}

pub(super) fn leave_callback() {
    STATE.set(State::Outside);
}
