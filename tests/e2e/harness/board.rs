//! What the two ends of one case have seen so far, so that each can wait for the other.

use super::action::Action;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long anything that has to happen may take.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// One connection that the proxy made to the upstream.
#[derive(Default)]
pub struct UpstreamSeen {
    /// Every byte of it.
    pub received: Vec<u8>,
    /// The proxy closed or reset it.
    pub closed_by_proxy: bool,
    /// It was a reset.
    pub reset_by_proxy: bool,
}

/// Everything seen.
#[derive(Default)]
pub struct Seen {
    /// What the client got.
    pub client: Vec<u8>,
    /// The client saw the end, or a reset.
    pub client_closed: bool,
    /// What the upstream does with its next requests, on whichever connection they come.
    pub answers: VecDeque<Vec<Action>>,
    /// In the order of their acceptance.
    pub upstreams: Vec<UpstreamSeen>,
    /// The case is over: every thread returns.
    pub over: bool,
}

impl Seen {
    /// Some upstream connection has got `bytes` somewhere.
    pub fn upstream_has(&self, bytes: &[u8]) -> bool {
        self.upstreams.iter().any(|u| contains(&u.received, bytes))
    }
}

/// The shared state of a case.
#[derive(Default)]
pub struct Board {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the state and wakes who waits.
    pub fn update<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Looks at the state.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until `done`, but not longer than `patience`; says whether it came true.
    pub fn wait(&self, patience: Duration, mut done: impl FnMut(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        loop {
            if done(&seen) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || seen.over {
                return false;
            }
            seen = match self.changed.wait_timeout(seen, left) {
                Ok((seen, _)) => seen,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Whether `needle` occurs in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|w| w == needle)
}
