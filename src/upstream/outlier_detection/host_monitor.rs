//! What is noted of a host by those who send requests there.
//!
//! Mirrors `DetectorHostMonitorImpl` of Envoy's `source/common/upstream/outlier_detection_impl.cc`. What only the main thread
//! knows of the host, such as how often it was ejected, the detector has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::config::DetectorConfig;
use super::detector::DetectorOnMainThread;
use super::success_rate::{SuccessRateMonitor, SuccessRateMonitorType};
use crate::trace::{self, Stage};
use crate::upstream::{HealthFlag, HostImpl};

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutlierResult {
    /// There is a connection; what comes of the request is still to be seen.
    LocalOriginConnectSuccess,
    /// There is a connection, and nobody looks at what comes of it.
    LocalOriginConnectSuccessFinal,
    /// There was no answer in time.
    LocalOriginTimeout,
    /// There was no connection, or it ended before an answer.
    LocalOriginConnectFailed,
}

/// Why a host is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionType {
    /// Answers of 500 and more in a row.
    Consecutive5xx,
    /// Answers of 502, 503 or 504 in a row.
    ConsecutiveGatewayFailure,
    /// A success rate far below the average.
    SuccessRate,
    /// Failures before an answer in a row.
    ConsecutiveLocalOriginFailure,
    /// Fewer requests than on average come as far as an answer.
    SuccessRateLocalOrigin,
    /// Too many failures.
    FailurePercentage,
    /// Too many failures before an answer.
    FailurePercentageLocalOrigin,
    /// It says of itself that it is degraded, and is not ejected.
    Degraded,
}

impl EjectionType {
    /// As the event log has it.
    pub fn as_str(self) -> &'static str {
        match self {
            EjectionType::Consecutive5xx => "CONSECUTIVE_5XX",
            EjectionType::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
            EjectionType::SuccessRate => "SUCCESS_RATE",
            EjectionType::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
            EjectionType::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
            EjectionType::FailurePercentage => "FAILURE_PERCENTAGE",
            EjectionType::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
            EjectionType::Degraded => "DEGRADED",
        }
    }
}

/// A count of failures in a row, by whatever thread.
#[derive(Default)]
struct Consecutive(AtomicU64);

impl Consecutive {
    /// One more; whether these are now as many, and not only more.
    fn reaches(&self, threshold: u64) -> bool {
        self.0.fetch_add(1, Relaxed) + 1 == threshold
    }

    /// Writes nothing where there is nothing to forget: the line stays with all threads.
    fn reset(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }
}

/// See the module's description. Shared by all threads, without a lock.
pub struct DetectorHostMonitorImpl {
    /// Among those of its detector.
    pub(super) number: u64,
    detector: Arc<DetectorOnMainThread>,
    config: Arc<DetectorConfig>,
    consecutive_5xx: Consecutive,
    consecutive_gateway_failure: Consecutive,
    consecutive_local_origin_failure: Consecutive,
    external_origin: SuccessRateMonitor,
    local_origin: SuccessRateMonitor,
}

impl DetectorHostMonitorImpl {
    pub(super) fn new(
        number: u64,
        detector: &Arc<DetectorOnMainThread>,
        config: &Arc<DetectorConfig>,
    ) -> Arc<Self> {
        Arc::new(DetectorHostMonitorImpl {
            number,
            detector: detector.clone(),
            config: config.clone(),
            consecutive_5xx: Consecutive::default(),
            consecutive_gateway_failure: Consecutive::default(),
            consecutive_local_origin_failure: Consecutive::default(),
            external_origin: SuccessRateMonitor::new(),
            local_origin: SuccessRateMonitor::new(),
        })
    }

    /// The host has answered, or this stands for what it has done instead.
    pub fn put_http_response_code(&self, status: u16) {
        trace::instant(Stage::PutHttpResponseCode, None, 0, status.into(), 0);
        self.external_origin.inc_total();
        if status < 500 {
            self.external_origin.inc_success();
            self.consecutive_5xx.reset();
            self.consecutive_gateway_failure.reset();
            return;
        }
        if !matches!(status, 502..=504) {
            self.consecutive_gateway_failure.reset();
        } else if self.consecutive_gateway_failure.reaches(self.config.consecutive_gateway_failure()) {
            self.notify(EjectionType::ConsecutiveGatewayFailure);
        }
        if self.consecutive_5xx.reaches(self.config.consecutive_5xx()) {
            self.notify(EjectionType::Consecutive5xx);
        }
    }

    /// The host, which has these flags, has said with an answer that it is degraded. The main thread is told while that
    /// would change anything.
    pub fn put_degraded(&self, host: &HostImpl) {
        let is_known = host.health_flag_get(HealthFlag::DegradedOutlierDetection)
            || host.health_flag_get(HealthFlag::FailedOutlierCheck);
        if self.config.detect_degraded_hosts() && !is_known {
            self.notify(EjectionType::Degraded);
        }
    }

    /// This has come of a request that is not answered, or not yet; `status` is what the client got for that.
    pub fn put_result(&self, result: OutlierResult, status: Option<u16>) {
        use OutlierResult::{LocalOriginConnectFailed, LocalOriginTimeout};
        let is_failure = matches!(result, LocalOriginTimeout | LocalOriginConnectFailed);
        if self.config.split_external_local_origin_errors() {
            return self.put_local_origin(is_failure);
        }
        let status = status.or(match result {
            OutlierResult::LocalOriginConnectSuccess => None,
            OutlierResult::LocalOriginConnectSuccessFinal => Some(200),
            LocalOriginTimeout => Some(504),
            LocalOriginConnectFailed => Some(503),
        });
        if let Some(status) = status {
            self.put_http_response_code(status);
        }
    }

    fn put_local_origin(&self, is_failure: bool) {
        self.local_origin.inc_total();
        if !is_failure {
            self.local_origin.inc_success();
            self.consecutive_local_origin_failure.reset();
        } else if self
            .consecutive_local_origin_failure
            .reaches(self.config.consecutive_local_origin_failure())
        {
            self.notify(EjectionType::ConsecutiveLocalOriginFailure);
        }
    }

    fn notify(&self, kind: EjectionType) {
        self.detector.notify_consecutive_error(self.number, kind);
    }

    pub(super) fn monitor(&self, kind: SuccessRateMonitorType) -> &SuccessRateMonitor {
        match kind {
            SuccessRateMonitorType::ExternalOrigin => &self.external_origin,
            SuccessRateMonitorType::LocalOrigin => &self.local_origin,
        }
    }

    /// Percent in the last interval; -1 where there were too few requests.
    pub fn success_rate(&self, kind: SuccessRateMonitorType) -> f64 {
        self.monitor(kind).success_rate()
    }

    /// The failures in a row of this kind begin anew.
    pub(super) fn reset_consecutive(&self, kind: EjectionType) {
        match kind {
            EjectionType::Consecutive5xx => self.consecutive_5xx.reset(),
            EjectionType::ConsecutiveGatewayFailure => self.consecutive_gateway_failure.reset(),
            EjectionType::ConsecutiveLocalOriginFailure => self.consecutive_local_origin_failure.reset(),
            _ => {}
        }
    }
}
