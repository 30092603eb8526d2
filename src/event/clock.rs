//! The time of the callback that is running.
//!
//! A request asks for the time a dozen times within microseconds. Inside a callback of the loop the
//! clock is read once, when it is first asked for (Envoy: `approximateMonotonicTime`, per pass).

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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

/// A point in time in half of an [`Instant`]'s memory, for what there are thousands of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(u64);

impl Moment {
    /// The monotonic time of the callback that is running; see [`now`].
    pub fn now() -> Moment {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let now = now();
        Moment(now.saturating_duration_since(*FIRST.get_or_init(|| now)).as_nanos() as u64)
    }

    /// What has passed since then.
    pub fn elapsed(self) -> Duration {
        Moment::now().since(self)
    }

    /// What passed from `earlier` to this; nothing where that is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}
