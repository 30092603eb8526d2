//! Statistics of a host, which only the admin's `/clusters` shows.
//!
//! Mirrors Envoy's `ALL_HOST_STATS` (`include/envoy/upstream/host_description.h`) with the names of
//! 1.40. They have no names in the store: a cluster may have thousands of hosts. Each thread has cells of its own, as it has
//! of other statistics.

use crate::stats::PrimitiveCells;

/// A number that only grows.
#[derive(Clone, Copy)]
pub struct PrimitiveCounter<'a>(&'a Cells, usize);

impl PrimitiveCounter<'_> {
    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.0.add(self.1, 1);
    }

    /// The value.
    pub fn value(self) -> u64 {
        self.0.sum(self.1)
    }
}

/// A number that goes up and down.
#[derive(Clone, Copy)]
pub struct PrimitiveGauge<'a>(&'a Cells, usize);

impl PrimitiveGauge<'_> {
    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.0.add(self.1, 1);
    }

    /// Subtracts one that was added before, on whatever thread.
    #[inline]
    pub fn dec(self) {
        self.0.add(self.1, 1_u64.wrapping_neg());
    }

    /// The value.
    pub fn value(self) -> u64 {
        self.0.sum(self.1)
    }
}

macro_rules! host_stats {
    ($($(#[$doc:meta])* $name:ident: $kind:ident = $cell:literal,)*) => {
        impl HostStats {
            $($(#[$doc])*
            #[inline]
            pub fn $name(&self) -> $kind<'_> {
                $kind(&self.0, $cell)
            })*

            /// Names and values of counters and gauges together, sorted by name.
            pub fn all(&self) -> [(&'static str, u64); CELLS] {
                [$((stringify!($name), self.$name().value())),*]
            }
        }
    };
}

const CELLS: usize = 9;
type Cells = PrimitiveCells<CELLS>;

/// The statistics of a host.
pub struct HostStats(Cells);

host_stats! {
    /// Connections.
    cx_active: PrimitiveGauge = 0,
    /// Connections that failed or took too long to be established.
    cx_connect_fail: PrimitiveCounter = 1,
    /// Connections tried.
    cx_total: PrimitiveCounter = 2,
    /// Requests in flight.
    rq_active: PrimitiveGauge = 3,
    /// Answers with a 5xx status, and failures.
    rq_error: PrimitiveCounter = 4,
    /// Requests that wait for a connection.
    rq_pending_active: PrimitiveGauge = 5,
    /// Answers that are no errors.
    rq_success: PrimitiveCounter = 6,
    /// Requests that took too long.
    rq_timeout: PrimitiveCounter = 7,
    /// Requests sent.
    rq_total: PrimitiveCounter = 8,
}

impl HostStats {
    /// All zero; `shards` is what the store has.
    pub fn new(shards: usize) -> Self {
        HostStats(Cells::new(shards))
    }

    /// Names and values of the counters, sorted by name.
    pub fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("cx_connect_fail", self.cx_connect_fail().value()),
            ("cx_total", self.cx_total().value()),
            ("rq_error", self.rq_error().value()),
            ("rq_success", self.rq_success().value()),
            ("rq_timeout", self.rq_timeout().value()),
            ("rq_total", self.rq_total().value()),
        ]
    }

    /// Names and values of the gauges, sorted by name.
    pub fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("cx_active", self.cx_active().value()),
            ("rq_active", self.rq_active().value()),
            ("rq_pending_active", self.rq_pending_active().value()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::register_thread;

    #[test]
    fn all_are_sorted_as_envoy_prints_them() {
        let stats = HostStats::new(1);
        stats.cx_total().inc();
        stats.rq_active().inc();
        stats.rq_active().inc();
        stats.rq_active().dec();
        let expected = [
            ("cx_active", 0),
            ("cx_connect_fail", 0),
            ("cx_total", 1),
            ("rq_active", 1),
            ("rq_error", 0),
            ("rq_pending_active", 0),
            ("rq_success", 0),
            ("rq_timeout", 0),
            ("rq_total", 0),
        ];
        assert_eq!(stats.all(), expected);
        let mut apart: Vec<_> = stats.counters().into_iter().chain(stats.gauges()).collect();
        apart.sort_unstable();
        assert_eq!(apart, expected);
    }

    #[test]
    fn threads_add_up() {
        let stats = HostStats::new(3);
        std::thread::scope(|scope| {
            for shard in [0, 0, 1, 2, 9] {
                let stats = &stats;
                scope.spawn(move || {
                    register_thread(shard);
                    for _ in 0..1000 {
                        stats.rq_total().inc();
                        stats.rq_active().inc();
                    }
                });
            }
        });
        (0..4999).for_each(|_| stats.rq_active().dec());
        assert_eq!((stats.rq_total().value(), stats.rq_active().value()), (5000, 1));
    }
}
