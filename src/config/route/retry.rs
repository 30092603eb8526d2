//! Whether a request is tried again: `RetryPolicy` and `HedgePolicy` of `envoy.config.route.v3`.

use std::time::Duration;

use crate::config::core::FractionalPercent;
use crate::config::error::ConfigError;
use crate::config::extension::{Category, TypedConfig};
use crate::config::header_matcher::HeaderMatcher;
use crate::config::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message};

message! {
    /// Which answers are not taken, and what comes then.
    pub struct RetryPolicy = "envoy.config.route.v3.RetryPolicy" {
        /// Words with commas between them; those that nobody knows mean nothing.
        pub retry_on: String,
        /// How often, default 1.
        pub num_retries: u32 = 1,
        /// For each try; zero is no limit.
        pub per_try_timeout: Duration,
        /// For each pause in a try; zero is no limit.
        pub per_try_idle_timeout: Duration,
        /// Which hosts are not wanted.
        pub retry_host_predicate: Vec<RetryHostPredicate>,
        /// Which priorities are wanted.
        pub retry_priority: Option<RetryPriority>,
        /// How often another host is asked for; 0 is 1.
        pub host_selection_retry_max_attempts: u32 => read_attempts,
        /// Of `retriable-status-codes`.
        pub retriable_status_codes: Vec<u32>,
        /// How long is waited before each try.
        pub retry_back_off: Option<RetryBackOff>,
        /// How long an upstream may ask for.
        pub rate_limited_retry_back_off: Option<RateLimitedRetryBackOff>,
        /// Of `retriable-headers`.
        pub retriable_headers: Vec<HeaderMatcher>,
        /// Only requests that are like one of these.
        pub retriable_request_headers: Vec<HeaderMatcher>,
    }
}

fn read_attempts(r: &mut MessageReader<'_>, name: &str) -> Result<u32, ConfigError> {
    Ok(u32::try_from(r.i64(name)?).unwrap_or(u32::MAX))
}

message! {
    /// Hosts that are not wanted.
    pub message RetryHostPredicate = "envoy.config.route.v3.RetryPolicy.RetryHostPredicate" {
        /// For people.
        pub name: String,
        /// Which they are.
        pub config: TypedConfig => read_predicate,
    }
}

fn read_predicate(r: &mut MessageReader<'_>, _: &str) -> Result<TypedConfig, ConfigError> {
    r.typed_config("typed_config", Category::RetryHostPredicates)
}

message! {
    /// Priorities that are wanted.
    pub message RetryPriority = "envoy.config.route.v3.RetryPolicy.RetryPriority" {
        /// For people.
        pub name: String,
        /// Which they are.
        pub config: TypedConfig => read_priority,
    }
}

fn read_priority(r: &mut MessageReader<'_>, _: &str) -> Result<TypedConfig, ConfigError> {
    r.typed_config("typed_config", Category::RetryPriorities)
}

message! {
    /// The longest pause grows from one try to the next.
    #[derive(Eq)]
    pub struct RetryBackOff = "envoy.config.route.v3.RetryPolicy.RetryBackOff" or "envoy.config.core.v3.BackoffStrategy", checked by check_back_off {
        /// Where it begins; has to be there.
        pub base_interval: Duration,
        /// Where it ends, default ten times that.
        pub max_interval: Option<Duration>,
    }
}

fn check_back_off(r: &MessageReader<'_>, back_off: &RetryBackOff) {
    // As Envoy compares them: less than a millisecond is one.
    let milliseconds = |interval: Duration| interval.as_millis().max(1);
    if back_off.max_interval.is_some_and(|max| milliseconds(max) < milliseconds(back_off.base_interval)) {
        let message = "retry_policy.max_interval must greater than or equal to the base_interval";
        r.refuse("max_interval", message);
    }
}

message! {
    /// An upstream says how long it does not want to be asked.
    #[derive(Eq)]
    pub struct RateLimitedRetryBackOff = "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff" {
        /// In which headers; the first that can be read counts.
        pub reset_headers: Vec<ResetHeader>,
        /// What is more than this is not listened to.
        pub max_interval: Duration = Duration::from_secs(300),
    }
}

message! {
    /// A header that says when to come again.
    #[derive(Eq)]
    pub struct ResetHeader = "envoy.config.route.v3.RetryPolicy.ResetHeader" {
        /// Its name.
        pub name: String,
        /// What it says.
        pub format: ResetHeaderFormat,
    }
}

/// What a header says of when to come again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResetHeaderFormat {
    /// In so many seconds.
    #[default]
    Seconds,
    /// At a second since 1970.
    UnixTimestamp,
}

impl ResetHeaderFormat {
    /// API names.
    pub const TABLE: &EnumTable<Self> =
        &[("SECONDS", Self::Seconds), ("UNIX_TIMESTAMP", Self::UnixTimestamp)];
}

enum_fields! { ResetHeaderFormat }

message! {
    /// Whether a request is sent to several hosts at once.
    #[derive(Eq)]
    pub struct HedgePolicy = "envoy.config.route.v3.HedgePolicy" {
        /// Not looked at, as in Envoy.
        pub initial_requests: Option<u32>,
        /// Not looked at, as in Envoy.
        pub additional_request_chance: Option<FractionalPercent>,
        /// A try whose time is over goes on beside the next one.
        pub hedge_on_per_try_timeout: bool,
    }
}
