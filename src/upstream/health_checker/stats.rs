//! What a checker counts. Mirrors `HealthCheckerStats` of Envoy's `source/common/upstream/health_checker_base_impl.h`.

use crate::stats_struct;

stats_struct! {
    /// `cluster.<name>.health_check.`, and `name.<name>.` of checks that have a name.
    pub struct HealthCheckerStats {
        counters: [attempt, failure, network_failure, passive_failure, success, verify_cluster],
        gauges: [degraded, healthy],
        histograms: [],
    }
}
