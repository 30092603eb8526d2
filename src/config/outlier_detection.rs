//! `envoy.config.cluster.v3.OutlierDetection`: when a host that fails gets no requests for a while.

use std::time::Duration;

use super::reader::MessageReader;
use crate::message;

/// The longest ejection, unless the shortest is longer.
const DEFAULT_MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

message! {
    /// `OutlierDetection`. What is in percent is at most 100.
    #[derive(Eq)]
    pub struct OutlierDetection = "envoy.config.cluster.v3.OutlierDetection", checked by check_times {
        /// So many answers of 500 and more in a row; default 5.
        pub consecutive_5xx: u32 = 5,
        /// Between two looks at the hosts; more than zero, default 10 s.
        pub interval: Duration = Duration::from_secs(10),
        /// How long the first ejection takes, and what each further one takes longer; more than zero, default 30 s.
        pub base_ejection_time: Duration = Duration::from_secs(30),
        /// Of the hosts that may be ejected at a time; default 10.
        pub max_ejection_percent: u32 = 10,
        /// Percent of the consecutive failures that lead to an ejection; default 100.
        pub enforcing_consecutive_5xx: u32 = 100,
        /// The same of bad success rates; default 100.
        pub enforcing_success_rate: u32 = 100,
        /// Hosts with enough requests for their success rates to be compared; default 5.
        pub success_rate_minimum_hosts: u32 = 5,
        /// Requests in an interval that are enough; default 100.
        pub success_rate_request_volume: u32 = 100,
        /// How far below the average is too far, in thousandths of the standard deviation; default 1900.
        pub success_rate_stdev_factor: u32 = 1900,
        /// So many answers of 502, 503 or 504 in a row; default 5.
        pub consecutive_gateway_failure: u32 = 5,
        /// Percent of these that lead to an ejection; default 0.
        pub enforcing_consecutive_gateway_failure: u32,
        /// Whether what fails before a host answers is told from bad answers.
        pub split_external_local_origin_errors: bool,
        /// So many failures before an answer in a row; default 5.
        pub consecutive_local_origin_failure: u32 = 5,
        /// Percent of these that lead to an ejection; default 100.
        pub enforcing_consecutive_local_origin_failure: u32 = 100,
        /// The same of bad rates of requests that come as far as an answer; default 100.
        pub enforcing_local_origin_success_rate: u32 = 100,
        /// Percent of requests that fail and are too many; default 85.
        pub failure_percentage_threshold: u32 = 85,
        /// Percent of these that lead to an ejection; default 0.
        pub enforcing_failure_percentage: u32,
        /// The same of requests that fail before an answer; default 0.
        pub enforcing_failure_percentage_local_origin: u32,
        /// Hosts with enough requests for their failures to count; default 5.
        pub failure_percentage_minimum_hosts: u32 = 5,
        /// Requests in an interval that are enough; default 50.
        pub failure_percentage_request_volume: u32 = 50,
        /// The longest ejection; `None` is five minutes, or the base time if that is more.
        pub max_ejection_time: Option<Duration>,
        /// At most so much is added to each; default 0.
        pub max_ejection_time_jitter: Duration,
        /// Whether a good health check ends an ejection; default true.
        pub successful_active_health_check_uneject_host: bool = true,
        /// Whether one host may be ejected, whatever that is in percent; default false.
        pub always_eject_one_host: bool,
        /// Whether a host that says of itself that it is degraded is so for a while; default false.
        pub detect_degraded_hosts: bool,
    }
}

impl OutlierDetection {
    /// The longest ejection.
    pub fn max_ejection_time(&self) -> Duration {
        self.max_ejection_time.unwrap_or_else(|| DEFAULT_MAX_EJECTION_TIME.max(self.base_ejection_time))
    }
}

fn check_times(r: &mut MessageReader<'_>, config: &OutlierDetection) {
    if config.max_ejection_time() < config.base_ejection_time {
        r.refuse(
            "max_ejection_time",
            "outlier detector's max_ejection_time cannot be smaller than base_ejection_time",
        );
    }
}
