//! The time of the callback that is running.
//!
//! A request asks for the time a dozen times within microseconds. Inside a callback of the loop the
//! clock is read once, when it is first asked for (Envoy: `approximateMonotonicTime`, per pass).

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

#[derive(Clone, Copy)]
enum State {
    Outside,
    Inside(Option<Moment>),
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Outside) };
}

/// The monotonic time, at most one callback old; exact outside of callbacks.
#[inline]
pub fn now() -> Moment {
    match STATE.get() {
        State::Inside(Some(now)) => now,
        State::Inside(None) => read_in_callback(),
        State::Outside => Moment::exact(),
    }
}

#[inline(never)]
fn read_in_callback() -> Moment {
    let now = Moment::exact();
    STATE.set(State::Inside(Some(now)));
    now
}

pub(super) fn enter_callback() {
    STATE.set(State::Inside(None));
}

pub(super) fn leave_callback() {
    STATE.set(State::Outside);
}

/// A point in monotonic time, in nanoseconds (Envoy: `MonotonicTime`). What passed between two of them is one subtraction, which
/// between two of the standard library's `Instant` is a call, and it takes half of the memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(NonZeroU64);

impl Moment {
    fn new(nanoseconds: u64) -> Moment {
        Moment(NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN))
    }

    /// The monotonic time of the callback that is running; see [`now`].
    #[inline]
    pub fn now() -> Moment {
        now()
    }

    /// The time by the clock, also in a callback that has taken long.
    pub fn exact() -> Moment {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        Moment::new(now.unwrap_or_default().as_nanos() as u64)
    }

    /// The same as a number that is not zero, for who keeps it where threads share it.
    pub fn nanoseconds(self) -> u64 {
        self.0.get()
    }

    /// What [`nanoseconds`](Self::nanoseconds) has given; `None` for zero.
    pub fn from_nanoseconds(nanoseconds: u64) -> Option<Moment> {
        NonZeroU64::new(nanoseconds).map(Moment)
    }

    /// What has passed since then.
    #[inline]
    pub fn elapsed(self) -> Duration {
        now().since(self)
    }

    /// What passed from `earlier` to this; nothing where that is later.
    #[inline]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// What passed from `earlier` to this, in whole milliseconds; none where that is later.
    #[inline]
    pub fn milliseconds_since(self, earlier: Moment) -> u64 {
        self.0.get().saturating_sub(earlier.0.get()) / 1_000_000
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Moment {
        self.after_nanoseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(super) fn after_nanoseconds(self, time: u64) -> Moment {
        Moment(self.0.saturating_add(time))
    }
}
