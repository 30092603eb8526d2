//! What a detector counts. Mirrors `DetectionStats` of Envoy's `source/common/upstream/outlier_detection_impl.h`, with the
//! names of 1.40; `ejections_total`, `ejections_consecutive_5xx` and `ejections_success_rate` are there for old dashboards.

use super::host_monitor::EjectionType;
use crate::stats::Counter;
use crate::stats_struct;

stats_struct! {
    /// `cluster.<name>.outlier_detection.`
    pub struct DetectionStats {
        counters: [
            ejections_consecutive_5xx,
            ejections_detected_consecutive_5xx,
            ejections_detected_consecutive_gateway_failure,
            ejections_detected_consecutive_local_origin_failure,
            ejections_detected_degradation,
            ejections_detected_failure_percentage,
            ejections_detected_local_origin_failure_percentage,
            ejections_detected_local_origin_success_rate,
            ejections_detected_success_rate,
            ejections_enforced_consecutive_5xx,
            ejections_enforced_consecutive_gateway_failure,
            ejections_enforced_consecutive_local_origin_failure,
            ejections_enforced_failure_percentage,
            ejections_enforced_local_origin_failure_percentage,
            ejections_enforced_local_origin_success_rate,
            ejections_enforced_success_rate,
            ejections_enforced_total,
            ejections_overflow,
            ejections_success_rate,
            ejections_total,
        ],
        gauges: [ejections_active],
        histograms: [],
    }
}

impl DetectionStats {
    /// Of hosts that should be ejected.
    pub(super) fn detected(&self, kind: EjectionType) -> &Counter {
        match kind {
            EjectionType::Consecutive5xx => &self.ejections_detected_consecutive_5xx,
            EjectionType::ConsecutiveGatewayFailure => &self.ejections_detected_consecutive_gateway_failure,
            EjectionType::SuccessRate => &self.ejections_detected_success_rate,
            EjectionType::ConsecutiveLocalOriginFailure => {
                &self.ejections_detected_consecutive_local_origin_failure
            }
            EjectionType::SuccessRateLocalOrigin => &self.ejections_detected_local_origin_success_rate,
            EjectionType::FailurePercentage => &self.ejections_detected_failure_percentage,
            EjectionType::FailurePercentageLocalOrigin => {
                &self.ejections_detected_local_origin_failure_percentage
            }
            EjectionType::Degraded => &self.ejections_detected_degradation,
        }
    }

    /// Counts a host that is ejected.
    pub(super) fn count_enforced(&self, kind: EjectionType) {
        self.ejections_enforced_total.inc();
        match kind {
            EjectionType::Consecutive5xx => &self.ejections_enforced_consecutive_5xx,
            EjectionType::ConsecutiveGatewayFailure => &self.ejections_enforced_consecutive_gateway_failure,
            EjectionType::SuccessRate => &self.ejections_enforced_success_rate,
            EjectionType::ConsecutiveLocalOriginFailure => {
                &self.ejections_enforced_consecutive_local_origin_failure
            }
            EjectionType::SuccessRateLocalOrigin => &self.ejections_enforced_local_origin_success_rate,
            EjectionType::FailurePercentage => &self.ejections_enforced_failure_percentage,
            EjectionType::FailurePercentageLocalOrigin => {
                &self.ejections_enforced_local_origin_failure_percentage
            }
            EjectionType::Degraded => return,
        }
        .inc();
    }
}
