//! What a detector goes by: its configuration, and what runtime says instead.
//!
//! Mirrors `DetectorConfig` of Envoy's `source/common/upstream/outlier_detection_impl.cc`. There each look at a number asks the
//! runtime; here the runtime tells when it has another one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::outlier_detection::OutlierDetection;
use crate::runtime::{RuntimeUser, SnapshotImpl};

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $from:expr;)*) => {
        /// The numbers of now, for all threads.
        pub struct DetectorConfig {
            configured: OutlierDetection,
            $($name: AtomicU64,)*
        }

        impl DetectorConfig {
            /// As configured.
            pub fn new(configured: &OutlierDetection) -> Self {
                DetectorConfig {
                    $($name: AtomicU64::new({ let from: fn(&OutlierDetection) -> u64 = $from; from(configured) }),)*
                    configured: configured.clone(),
                }
            }

            $($(#[$doc])*
            #[inline]
            pub fn $name(&self) -> u64 {
                self.$name.load(Relaxed)
            })*
        }

        impl RuntimeUser for DetectorConfig {
            fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
                $({
                    let from: fn(&OutlierDetection) -> u64 = $from;
                    let now = snapshot.get_integer(concat!("outlier_detection.", $key), from(&self.configured));
                    self.$name.store(now, Relaxed);
                })*
            }
        }
    };
}

settings! {
    /// Answers of 500 and more in a row.
    consecutive_5xx = "consecutive_5xx", |c| c.consecutive_5xx.into();
    /// Answers of 502, 503 or 504 in a row.
    consecutive_gateway_failure = "consecutive_gateway_failure", |c| c.consecutive_gateway_failure.into();
    /// Failures before an answer in a row.
    consecutive_local_origin_failure =
        "consecutive_local_origin_failure", |c| c.consecutive_local_origin_failure.into();
    /// Between two looks at the hosts.
    interval_ms = "interval_ms", |c| ms(c.interval);
    /// What each ejection takes longer than the one before.
    base_ejection_time_ms = "base_ejection_time_ms", |c| ms(c.base_ejection_time);
    /// The longest ejection.
    max_ejection_time_ms = "max_ejection_time_ms", |c| ms(c.max_ejection_time());
    /// At most so much is added to each.
    max_ejection_time_jitter_ms = "max_ejection_time_jitter_ms", |c| ms(c.max_ejection_time_jitter);
    /// Of the hosts that may be ejected at a time.
    max_ejection_percent = "max_ejection_percent", |c| c.max_ejection_percent.into();
    /// Hosts for their success rates to be compared.
    success_rate_minimum_hosts = "success_rate_minimum_hosts", |c| c.success_rate_minimum_hosts.into();
    /// Requests of a host for that.
    success_rate_request_volume = "success_rate_request_volume", |c| c.success_rate_request_volume.into();
    /// Thousandths of the standard deviation.
    success_rate_stdev_factor = "success_rate_stdev_factor", |c| c.success_rate_stdev_factor.into();
    /// Hosts for their failures to count.
    failure_percentage_minimum_hosts =
        "failure_percentage_minimum_hosts", |c| c.failure_percentage_minimum_hosts.into();
    /// Requests of a host for that.
    failure_percentage_request_volume =
        "failure_percentage_request_volume", |c| c.failure_percentage_request_volume.into();
    /// Percent of failures that are too many.
    failure_percentage_threshold = "failure_percentage_threshold", |c| c.failure_percentage_threshold.into();
    /// Percent, as all that follow.
    enforcing_consecutive_5xx = "enforcing_consecutive_5xx", |c| c.enforcing_consecutive_5xx.into();
    /// See there.
    enforcing_consecutive_gateway_failure =
        "enforcing_consecutive_gateway_failure", |c| c.enforcing_consecutive_gateway_failure.into();
    /// See there.
    enforcing_consecutive_local_origin_failure =
        "enforcing_consecutive_local_origin_failure", |c| c.enforcing_consecutive_local_origin_failure.into();
    /// See there.
    enforcing_success_rate = "enforcing_success_rate", |c| c.enforcing_success_rate.into();
    /// See there.
    enforcing_local_origin_success_rate =
        "enforcing_local_origin_success_rate", |c| c.enforcing_local_origin_success_rate.into();
    /// See there.
    enforcing_failure_percentage = "enforcing_failure_percentage", |c| c.enforcing_failure_percentage.into();
    /// See there.
    enforcing_failure_percentage_local_origin =
        "enforcing_failure_percentage_local_origin", |c| c.enforcing_failure_percentage_local_origin.into();
}

impl DetectorConfig {
    /// Whether failures before an answer are told from bad answers.
    #[inline]
    pub fn split_external_local_origin_errors(&self) -> bool {
        self.configured.split_external_local_origin_errors
    }

    /// Whether a host may say that it is degraded.
    #[inline]
    pub fn detect_degraded_hosts(&self) -> bool {
        self.configured.detect_degraded_hosts
    }

    /// Whether one host may be ejected, whatever that is in percent.
    pub fn always_eject_one_host(&self) -> bool {
        self.configured.always_eject_one_host
    }

    /// Whether a good health check ends an ejection.
    pub fn successful_active_health_check_uneject_host(&self) -> bool {
        self.configured.successful_active_health_check_uneject_host
    }
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}
