//! [`ClusterStats`] (Envoy's `ALL_CLUSTER_STATS`).
//!
//! The names are those of Envoy 1.40, also where what they count does not exist here yet, so that a
//! dashboard finds all of them.

use crate::config::cluster::TrackClusterStats;
use crate::stats::Scope;

crate::stats_block! {
    /// Statistics of a cluster, under `cluster.<name>.`, but for those of its membership.
    pub struct ClusterStats {
        counters: [
            assignment_stale,
            assignment_timeout_received,
            assignment_use_cached,
            bind_errors,
            lb_healthy_panic,
            lb_local_cluster_not_ok,
            lb_recalculate_zone_structures,
            lb_subsets_created,
            lb_subsets_fallback,
            lb_subsets_fallback_panic,
            lb_subsets_removed,
            lb_subsets_selected,
            lb_zone_cluster_too_small,
            lb_zone_no_capacity_left,
            lb_zone_routing_all_directly,
            lb_zone_routing_cross_zone,
            lb_zone_routing_sampled,
            original_dst_host_invalid,
            retry_or_shadow_abandoned,
            update_attempt,
            update_empty,
            update_failure,
            update_no_rebuild,
            update_success,
            upstream_cx_close_notify,
            upstream_cx_connect_attempts_exceeded,
            upstream_cx_connect_fail,
            upstream_cx_connect_timeout,
            upstream_cx_connect_with_0_rtt,
            upstream_cx_destroy,
            upstream_cx_destroy_local,
            upstream_cx_destroy_local_with_active_rq,
            upstream_cx_destroy_remote,
            upstream_cx_destroy_remote_with_active_rq,
            upstream_cx_destroy_with_active_rq,
            upstream_cx_http1_total,
            upstream_cx_http2_total,
            upstream_cx_http3_total,
            upstream_cx_idle_timeout,
            upstream_cx_max_duration_reached,
            upstream_cx_max_requests,
            upstream_cx_none_healthy,
            upstream_cx_overflow,
            upstream_cx_pool_overflow,
            upstream_cx_preconnect_skipped,
            upstream_cx_protocol_error,
            upstream_cx_rx_bytes_total,
            upstream_cx_total,
            upstream_cx_tx_bytes_total,
            upstream_flow_control_backed_up_total,
            upstream_flow_control_drained_total,
            upstream_flow_control_paused_reading_total,
            upstream_flow_control_resumed_reading_total,
            upstream_http3_broken,
            upstream_internal_redirect_failed_total,
            upstream_internal_redirect_succeeded_total,
            upstream_rq_0rtt,
            upstream_rq_active_overflow,
            upstream_rq_cancelled,
            upstream_rq_completed,
            upstream_rq_maintenance_mode,
            upstream_rq_max_duration_reached,
            upstream_rq_pending_failure_eject,
            upstream_rq_pending_overflow,
            upstream_rq_pending_total,
            upstream_rq_per_try_idle_timeout,
            upstream_rq_per_try_timeout,
            upstream_rq_retry,
            upstream_rq_retry_backoff_exponential,
            upstream_rq_retry_backoff_ratelimited,
            upstream_rq_retry_limit_exceeded,
            upstream_rq_retry_overflow,
            upstream_rq_retry_success,
            upstream_rq_rx_reset,
            upstream_rq_rx_reset_no_error,
            upstream_rq_timeout,
            upstream_rq_total,
            upstream_rq_tx_reset,
        ],
        gauges: [
            upstream_queue_overloaded,
            lb_subsets_active,
            max_host_weight,
            upstream_cx_active,
            upstream_cx_rx_bytes_buffered,
            upstream_cx_tx_bytes_buffered,
            upstream_rq_active,
            upstream_rq_pending_active,
            version,
            warming_state,
        ],
        histograms: [upstream_cx_connect_ms, upstream_cx_length_ms, upstream_rq_per_cx: Unspecified],
    }
}

crate::stats_block! {
    /// Statistics of a cluster's membership, under `cluster.<name>.`, and of how often a host got its transport. They are apart
    /// because the main thread counts them, and of most clusters nobody counts more.
    pub struct ClusterMembershipStats {
        counters: [membership_change, total_match_count = "default.total_match_count"],
        gauges: [membership_degraded, membership_excluded, membership_healthy, membership_total],
        histograms: [],
    }
}

crate::stats_block! {
    /// How much of their timeouts requests and tries use, in percent, where that is asked for (`timeout_budgets`).
    pub struct ClusterTimeoutBudgetStats {
        counters: [],
        gauges: [],
        histograms: [
            upstream_rq_timeout_budget_per_try_percent_used: Unspecified,
            upstream_rq_timeout_budget_percent_used: Unspecified,
        ],
    }
}

crate::stats_block! {
    /// How large requests and responses are, where that is asked for (`request_response_sizes`).
    pub struct ClusterRequestResponseSizeStats {
        counters: [],
        gauges: [],
        histograms: [
            upstream_rq_body_size: Bytes,
            upstream_rq_headers_count: Unspecified,
            upstream_rq_headers_size: Bytes,
            upstream_rs_body_size: Bytes,
            upstream_rs_headers_count: Unspecified,
            upstream_rs_headers_size: Bytes,
        ],
    }
}

/// What few clusters count of their requests.
pub struct TrackedStats {
    /// `None` where it is not asked for.
    pub timeout_budgets: Option<ClusterTimeoutBudgetStats>,
    /// `None` where it is not asked for.
    pub request_response_sizes: Option<ClusterRequestResponseSizeStats>,
}

impl TrackedStats {
    /// `None` where nothing is asked for.
    pub(super) fn new(config: TrackClusterStats, scope: &Scope) -> Option<Box<Self>> {
        let TrackClusterStats { timeout_budgets, request_response_sizes, .. } = config;
        (timeout_budgets || request_response_sizes).then(|| {
            Box::new(TrackedStats {
                timeout_budgets: timeout_budgets.then(|| ClusterTimeoutBudgetStats::new(scope)),
                request_response_sizes: request_response_sizes
                    .then(|| ClusterRequestResponseSizeStats::new(scope)),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Store, Unit};

    #[test]
    fn requests_per_connection_are_no_milliseconds() {
        let stats = ClusterStats::new(&Store::new(1).root_scope().create_scope("cluster.a."));
        assert_eq!(stats.upstream_rq_per_cx().unit(), Unit::Unspecified);
        assert_eq!(stats.upstream_cx_connect_ms().unit(), Unit::Milliseconds);
        assert_eq!(stats.upstream_cx_total().name(), "cluster.a.upstream_cx_total");
    }
}
