//! When connections should be closed because the server, or a listener, goes away.
//!
//! Mirrors Envoy's `source/server/drain_manager_impl.cc`. As in 1.40 a drain may be of the inbound listeners
//! alone, `--drain-strategy` counts, and the share of responses that close their connections is measured by
//! Envoy 1.40: none in the first second, all of them when half the drain time is over.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::options::DrainStrategy;
use crate::config::listener::{DrainType, TrafficDirection};
use crate::envoy_log;
use crate::event::{Dispatcher, Timer};
use crate::network::DrainDecision;
use crate::trace::{self, Stage};

/// The steps in which a drain goes on.
const TICK: Duration = Duration::from_secs(1);

/// Which listeners a drain is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainDirection {
    /// Those of inbound traffic.
    InboundOnly,
    /// All of them.
    All,
}

impl DrainDirection {
    /// Whether a listener of that traffic is meant.
    pub fn concerns(self, traffic: TrafficDirection) -> bool {
        self == DrainDirection::All || traffic == TrafficDirection::Inbound
    }
}

/// How drains go on.
#[derive(Clone, Copy, Debug)]
struct DrainSettings {
    /// In ticks.
    drain_time: u64,
    strategy: DrainStrategy,
}

/// How far a drain has come; shared by all threads.
#[derive(Default)]
struct DrainProgress {
    /// The first comes at once, the others a second apart; 0 for not draining.
    ticks: AtomicU64,
}

impl DrainProgress {
    fn draining(&self) -> bool {
        self.ticks.load(Relaxed) > 0
    }

    /// Whether a connection that is asked for now should be closed.
    fn closes(&self, settings: &DrainSettings) -> bool {
        let Some(seconds) = self.ticks.load(Relaxed).checked_sub(1) else { return false };
        settings.strategy == DrainStrategy::Immediate
            || seconds >= settings.drain_time
            || seconds > fastrand::u64(..settings.drain_time.div_ceil(2))
    }
}

/// Shared by all threads: a drain is started by the main thread and asked about by workers.
pub struct DrainManagerImpl {
    settings: DrainSettings,
    health_check_failed: Arc<AtomicBool>,
    inbound: Arc<DrainProgress>,
    all: Arc<DrainProgress>,
}

impl DrainManagerImpl {
    /// A manager whose drains take `drain_time`, in whole seconds.
    pub fn new(drain_time: Duration, strategy: DrainStrategy) -> Arc<Self> {
        Arc::new(DrainManagerImpl {
            settings: DrainSettings { drain_time: drain_time.as_secs(), strategy },
            health_check_failed: Arc::default(),
            inbound: Arc::default(),
            all: Arc::default(),
        })
    }

    /// Whether the server fails its health checks.
    pub fn health_check_failed(&self) -> &Arc<AtomicBool> {
        &self.health_check_failed
    }

    /// The server fails, or passes again, its health checks.
    pub fn set_health_check_failed(&self, failed: bool) {
        self.health_check_failed.store(failed, Relaxed);
    }

    /// Whether the listeners meant are being drained, or have been.
    pub fn draining(&self, direction: DrainDirection) -> bool {
        self.all.draining() || (direction == DrainDirection::InboundOnly && self.inbound.draining())
    }

    /// Starts draining: from now on a growing share of responses closes its connection. `complete` is called
    /// when the drain time is over, which may be now; not if what is returned goes before.
    pub fn start_drain_sequence(
        &self,
        direction: DrainDirection,
        dispatcher: &Rc<Dispatcher>,
        complete: impl FnOnce() + 'static,
    ) -> DrainSequence {
        let progress = match direction {
            DrainDirection::InboundOnly => &self.inbound,
            DrainDirection::All => &self.all,
        };
        DrainSequence::start(progress, self.settings.drain_time, dispatcher, complete)
    }

    /// What a listener's connections go by.
    pub fn for_listener(
        self: &Arc<Self>,
        drain_type: DrainType,
        traffic: TrafficDirection,
    ) -> Arc<ListenerDrainManager> {
        Arc::new(ListenerDrainManager { server: self.clone(), own: Arc::default(), drain_type, traffic })
    }
}

/// The drain manager of one listener, which asks the server's, too.
pub struct ListenerDrainManager {
    server: Arc<DrainManagerImpl>,
    own: Arc<DrainProgress>,
    drain_type: DrainType,
    traffic: TrafficDirection,
}

impl ListenerDrainManager {
    /// As [`DrainManagerImpl::start_drain_sequence`], for this listener alone.
    pub fn start_drain_sequence(
        &self,
        dispatcher: &Rc<Dispatcher>,
        complete: impl FnOnce() + 'static,
    ) -> DrainSequence {
        DrainSequence::start(&self.own, self.server.settings.drain_time, dispatcher, complete)
    }
}

impl DrainDecision for ListenerDrainManager {
    fn drain_close(&self) -> bool {
        let server = &*self.server;
        let failing = self.drain_type == DrainType::Default && server.health_check_failed.load(Relaxed);
        let closes = failing
            || self.own.closes(&server.settings)
            || server.all.closes(&server.settings)
            || (self.traffic == TrafficDirection::Inbound && server.inbound.closes(&server.settings));
        if closes {
            trace::instant(Stage::DrainClose, None, 0, failing.into(), 0);
        }
        closes
    }
}

/// A drain that goes on for as long as this lives. Main thread only.
pub struct DrainSequence {
    _timer: Rc<Timer>,
}

impl DrainSequence {
    fn start(
        progress: &Arc<DrainProgress>,
        drain_time: u64,
        dispatcher: &Rc<Dispatcher>,
        complete: impl FnOnce() + 'static,
    ) -> Self {
        trace::instant(Stage::StartServerDrain, None, 0, 0, 0);
        let (progress, complete) = (progress.clone(), RefCell::new(Some(complete)));
        let tick = Rc::new(move |timer: &Timer| {
            if !drain_sequence_tick(&progress, drain_time, timer)
                && let Some(complete) = complete.take()
            {
                complete();
            }
        });
        let on_timer = tick.clone();
        let timer = Rc::new_cyclic(|timer: &Weak<Timer>| {
            let timer = timer.clone();
            dispatcher.create_timer(move || {
                if let Some(timer) = timer.upgrade() {
                    on_timer(&timer);
                }
            })
        });
        tick(&timer);
        DrainSequence { _timer: timer }
    }
}

/// Whether there are more ticks to come.
fn drain_sequence_tick(progress: &DrainProgress, drain_time: u64, timer: &Timer) -> bool {
    let ticks = progress.ticks.fetch_add(1, Relaxed);
    envoy_log!(Main, trace, "drain tick #{}", ticks);
    trace::instant(Stage::DrainTick, None, 0, ticks, 0);
    let goes_on = ticks < drain_time;
    if goes_on {
        timer.enable_timer(TICK);
    }
    goes_on
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn manager(seconds: u64, strategy: DrainStrategy) -> Arc<DrainManagerImpl> {
        DrainManagerImpl::new(Duration::from_secs(seconds), strategy)
    }

    fn unspecified(manager: &Arc<DrainManagerImpl>) -> Arc<ListenerDrainManager> {
        manager.for_listener(DrainType::Default, TrafficDirection::Unspecified)
    }

    #[test]
    fn nothing_is_closed_until_draining_or_failing() {
        let drain = manager(600, DrainStrategy::Immediate);
        let listener = unspecified(&drain);
        let modify_only = drain.for_listener(DrainType::ModifyOnly, TrafficDirection::Inbound);
        assert!(!listener.drain_close());
        drain.set_health_check_failed(true);
        assert!(listener.drain_close() && !modify_only.drain_close());
        drain.set_health_check_failed(false);
        assert!(!listener.drain_close() && !drain.draining(DrainDirection::InboundOnly));
    }

    #[test]
    fn a_drain_time_of_zero_is_over_at_once() {
        let drain = manager(0, DrainStrategy::Gradual);
        let listener = unspecified(&drain);
        let over = Rc::new(Cell::new(false));
        let complete = over.clone();
        let _sequence =
            drain.start_drain_sequence(DrainDirection::All, &Dispatcher::new("test"), move || {
                complete.set(true)
            });
        assert!(over.get() && listener.drain_close());
    }

    #[test]
    fn each_tick_closes_a_larger_share() {
        // Seen with Envoy 1.40: of a drain of five seconds, a third in the second one, two in the third.
        for (seconds, shares) in
            [(4, vec![0, 500, 1000, 1000, 1000]), (5, vec![0, 333, 667, 1000, 1000, 1000])]
        {
            let drain = manager(seconds, DrainStrategy::Gradual);
            let listener = unspecified(&drain);
            let timer = Dispatcher::new("test").create_timer(|| {});
            for (second, share) in shares.iter().enumerate() {
                let goes_on = drain_sequence_tick(&drain.all, seconds, &timer);
                assert_eq!(goes_on, (second as u64) < seconds);
                let closed = (0..1000).filter(|_| listener.drain_close()).count();
                assert!(closed.abs_diff(*share) <= 100, "{seconds} s, second {second}: {closed}");
            }
        }
    }

    #[test]
    fn at_once_where_the_strategy_says_so() {
        let drain = manager(600, DrainStrategy::Immediate);
        let listener = unspecified(&drain);
        let _sequence = drain.start_drain_sequence(DrainDirection::All, &Dispatcher::new("test"), || {});
        assert!((0..1000).all(|_| listener.drain_close()));
    }

    #[test]
    fn inbound_and_one_listener_alone() {
        let dispatcher = Dispatcher::new("test");
        let drain = manager(600, DrainStrategy::Immediate);
        let inbound = drain.for_listener(DrainType::ModifyOnly, TrafficDirection::Inbound);
        let [outbound, other] = [TrafficDirection::Outbound, TrafficDirection::Unspecified]
            .map(|traffic| drain.for_listener(DrainType::Default, traffic));
        let _first = drain.start_drain_sequence(DrainDirection::InboundOnly, &dispatcher, || {});
        assert!(drain.draining(DrainDirection::InboundOnly) && !drain.draining(DrainDirection::All));
        assert!(inbound.drain_close() && !outbound.drain_close() && !other.drain_close());
        let _second = other.start_drain_sequence(&dispatcher, || {});
        assert!(other.drain_close() && !outbound.drain_close());
        let _third = drain.start_drain_sequence(DrainDirection::All, &dispatcher, || {});
        assert!(drain.draining(DrainDirection::All) && outbound.drain_close());
    }
}
