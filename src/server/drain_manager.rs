//! When connections should be closed because the server, or a listener, goes away.
//!
//! Mirrors Envoy's `source/server/drain_manager_impl.cc`.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::listener::DrainType;
use crate::envoy_log;
use crate::event::{Dispatcher, Timer};
use crate::filters::network::http_connection_manager::DrainDecision;
use crate::trace::{self, Stage};

/// The steps in which a drain goes on.
const TICK: Duration = Duration::from_secs(1);

/// Shared by all threads: a drain is started by the main thread and asked about by workers.
pub struct DrainManagerImpl {
    /// In ticks.
    drain_time: u64,
    health_check_failed: AtomicBool,
    /// Ticks since draining started; 0 for not draining.
    ticks: AtomicU64,
}

impl DrainManagerImpl {
    /// A manager that closes all connections within `drain_time`, in whole seconds, of a drain's start.
    pub fn new(drain_time: Duration) -> Arc<Self> {
        Arc::new(DrainManagerImpl {
            drain_time: drain_time.as_secs(),
            health_check_failed: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        })
    }

    /// The server fails, or passes again, its health checks.
    pub fn set_health_check_failed(&self, failed: bool) {
        self.health_check_failed.store(failed, Relaxed);
    }

    /// Starts draining: from now on a growing share of responses closes its connection, until the drain
    /// time is over or the returned timer is dropped.
    pub fn start_drain_sequence(self: &Arc<Self>, dispatcher: &Rc<Dispatcher>) -> Rc<Timer> {
        trace::instant(Stage::StartServerDrain, None, 0, 0, 0);
        let manager = self.clone();
        let timer = Rc::new_cyclic(|timer: &Weak<Timer>| {
            let timer = timer.clone();
            dispatcher.create_timer(move || {
                if let Some(timer) = timer.upgrade() {
                    manager.drain_sequence_tick(&timer);
                }
            })
        });
        self.drain_sequence_tick(&timer);
        timer
    }

    fn drain_sequence_tick(&self, timer: &Timer) {
        let ticks = self.ticks.fetch_add(1, Relaxed);
        envoy_log!(Main, trace, "drain tick #{}", ticks);
        trace::instant(Stage::DrainTick, None, 0, ticks, 0);
        if ticks + 1 < self.drain_time {
            timer.enable_timer(TICK);
        }
    }

    /// What a listener's connections go by.
    pub fn for_listener(self: &Arc<Self>, drain_type: DrainType) -> Arc<dyn DrainDecision> {
        Arc::new(ListenerDrainDecision { manager: self.clone(), drain_type })
    }

    fn drain_close(&self, drain_type: DrainType) -> bool {
        let failing = drain_type == DrainType::Default && self.health_check_failed.load(Relaxed);
        let closes = failing
            || match self.ticks.load(Relaxed) {
                0 => false,
                ticks => self.drain_time == 0 || ticks > fastrand::u64(..self.drain_time),
            };
        if closes {
            trace::instant(Stage::DrainClose, None, 0, failing.into(), 0);
        }
        closes
    }
}

struct ListenerDrainDecision {
    manager: Arc<DrainManagerImpl>,
    drain_type: DrainType,
}

impl DrainDecision for ListenerDrainDecision {
    fn drain_close(&self) -> bool {
        self.manager.drain_close(self.drain_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_closed_until_draining_or_failing() {
        let drain = DrainManagerImpl::new(Duration::from_secs(600));
        assert!(!drain.drain_close(DrainType::Default));
        drain.set_health_check_failed(true);
        assert!(drain.drain_close(DrainType::Default));
        assert!(!drain.drain_close(DrainType::ModifyOnly));
        drain.set_health_check_failed(false);
        assert!(!drain.drain_close(DrainType::Default));
    }

    #[test]
    fn a_drain_time_of_zero_closes_at_once() {
        let drain = DrainManagerImpl::new(Duration::ZERO);
        let _timer = drain.start_drain_sequence(&Dispatcher::new("test"));
        assert!(drain.drain_close(DrainType::Default));
    }

    #[test]
    fn each_tick_closes_a_larger_share() {
        let drain = DrainManagerImpl::new(Duration::from_secs(4));
        let dispatcher = Dispatcher::new("test");
        let timer = drain.start_drain_sequence(&dispatcher);
        for tick in 1..=4 {
            let closed = (0..1000).filter(|_| drain.drain_close(DrainType::Default)).count();
            let expected = 250 * tick;
            assert!((expected - 100..=expected + 100).contains(&closed), "tick {tick}: {closed}");
            drain.drain_sequence_tick(&timer);
        }
    }
}
