//! `server.` statistics. Names as in Envoy's `source/server/server.h`, and 1.40's additions.

use std::time::Duration;

use crate::init;
use crate::stats::Store;
use crate::stats_struct;

stats_struct! {
    /// `server.`
    pub struct ServerStats {
        counters: [
            debug_assertion_failures,
            dynamic_unknown_fields,
            static_unknown_fields,
        ],
        gauges: [
            concurrency,
            days_until_first_cert_expiring,
            hot_restart_epoch,
            live,
            memory_allocated,
            memory_heap_size,
            memory_physical_size,
            parent_connections,
            state,
            total_connections,
            uptime,
            version,
        ],
        histograms: [initialization_time_ms],
    }
}

/// `envoy.admin.v3.ServerInfo.State`, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It serves.
    Live,
    /// It fails its health checks.
    Draining,
    /// Clusters are waited for.
    PreInitializing,
    /// Listeners are waited for.
    Initializing,
}

impl ServerState {
    /// Mirrors `Utility::serverState` of 1.40's `source/server/utils.cc`.
    pub(super) fn new(init_manager: init::State, health_check_failed: bool) -> Self {
        match init_manager {
            init::State::Uninitialized => ServerState::PreInitializing,
            init::State::Initializing => ServerState::Initializing,
            init::State::Initialized if health_check_failed => ServerState::Draining,
            init::State::Initialized => ServerState::Live,
        }
    }

    /// Its name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            ServerState::Live => "LIVE",
            ServerState::Draining => "DRAINING",
            ServerState::PreInitializing => "PRE_INITIALIZING",
            ServerState::Initializing => "INITIALIZING",
        }
    }
}

impl ServerStats {
    /// Brings what changes by itself up to date; at each flush.
    pub(super) fn update(&self, store: &Store, uptime: Duration) {
        self.uptime.set(uptime.as_secs());
        if let Some((resident, data)) = memory() {
            self.memory_physical_size.set(resident);
            self.memory_heap_size.set(data);
            self.memory_allocated.set(data.min(resident));
        }
        store.merge_histograms();
    }
}

/// Bytes of resident memory, and of the heap as the kernel sees it; `None` while it does not say.
fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let page = 4096;
    Some((pages.get(1)? * page, pages.get(5)? * page))
}
