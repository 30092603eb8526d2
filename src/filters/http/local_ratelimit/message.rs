//! The messages of the local rate limit filter.

use std::time::Duration;

use crate::config::ConfigError;
use crate::config::core::RuntimeFractionalPercent;
use crate::config::reader::MessageReader;
use crate::config::route::HeaderValueOption;
use crate::{enum_fields, message};

message! {
    /// How many requests there may be.
    #[derive(Eq)]
    pub struct LocalRateLimit = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", checked by check {
        /// Before the names of the statistics.
        pub stat_prefix: String,
        /// The status of those that are refused; one that is no error is 429.
        pub status: Option<u16> => read_status,
        /// Without it there is no limit.
        pub token_bucket: Option<TokenBucket>,
        /// Which requests are counted; none where it is absent.
        pub filter_enabled: Option<RuntimeFractionalPercent>,
        /// Which of those that are too many are refused; none where it is absent.
        pub filter_enforced: Option<RuntimeFractionalPercent>,
        /// The others are told so to the upstream.
        pub request_headers_to_add_when_not_enforced: Vec<HeaderValueOption>,
        /// What is told to clients that are refused.
        pub response_headers_to_add: Vec<HeaderValueOption>,
        /// Each connection has a bucket of its own.
        pub local_rate_limit_per_downstream_connection: bool,
        /// Clients are told how many requests they have left.
        pub enable_x_ratelimit_headers: XRateLimitHeaders,
        /// gRPC clients that are refused get another status.
        pub rate_limited_as_resource_exhausted: bool,
        /// Clients that are refused are told when to come again.
        pub enable_retry_after_header: bool,
    }
}

/// The filter's alone: of its rules none says so.
fn check(r: &mut MessageReader<'_>, config: &LocalRateLimit) {
    if config.token_bucket.is_some_and(|bucket| bucket.fill_interval < Duration::from_millis(50)) {
        r.refuse("token_bucket.fill_interval", "local rate limit token bucket fill timer must be >= 50ms");
    }
}

fn read_status(r: &mut MessageReader<'_>, name: &str) -> Result<Option<u16>, ConfigError> {
    r.message_with(name, |r| Ok(r.enum_number("code")?.unwrap_or(0) as u16))
}

message! {
    /// Envoy's own description of a bucket.
    #[derive(Eq, Copy)]
    pub struct TokenBucket = "envoy.type.v3.TokenBucket" {
        /// It is full with so many.
        pub max_tokens: u32,
        /// So many come back.
        pub tokens_per_fill: u32 = 1,
        /// In this time.
        pub fill_interval: Duration,
    }
}

/// Whether clients are told how many requests they have left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum XRateLimitHeaders {
    /// They are not.
    #[default]
    Off,
    /// As the third draft of the RFC has it.
    DraftVersion03,
}

impl XRateLimitHeaders {
    const TABLE: &crate::config::reader::EnumTable<Self> =
        &[("OFF", Self::Off), ("DRAFT_VERSION_03", Self::DraftVersion03)];
}

enum_fields! { XRateLimitHeaders }
