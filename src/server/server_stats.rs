//! `server.` statistics. Names as in Envoy's `source/server/server.h`, and 1.40's additions.

use std::time::Duration;

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
