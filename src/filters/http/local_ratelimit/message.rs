//! The messages of the local rate limit filter.

use std::time::Duration;

use crate::config::ConfigError;
use crate::config::core::{RuntimeFractionalPercent, TokenBucket};
use crate::config::reader::MessageReader;
use crate::config::route::{HeaderValueOption, RateLimit};
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
        /// Those that are described so have buckets of their own.
        pub descriptors: Vec<LocalRateLimitDescriptor>,
        /// What requests are described by, instead of what routes say.
        pub rate_limits: Vec<RateLimit>,
        /// What routes say to this stage.
        pub stage: u32,
        /// Whether what virtual hosts say counts, too.
        pub vh_rate_limits: VhRateLimits,
        /// They take from the bucket of all, too.
        pub always_consume_default_token_bucket: bool = true,
        /// Each connection has a bucket of its own.
        pub local_rate_limit_per_downstream_connection: bool,
        /// Clients are told how many requests they have left.
        pub enable_x_ratelimit_headers: XRateLimitHeaders,
        /// gRPC clients that are refused get another status.
        pub rate_limited_as_resource_exhausted: bool,
        /// How many buckets there are at most for a description with any values: those that were asked last.
        pub max_dynamic_descriptors: u32 = 20,
        /// Clients that are refused are told when to come again.
        pub enable_retry_after_header: bool,
    }
}

/// The filter's alone: of its rules none says so.
fn check(r: &mut MessageReader<'_>, config: &LocalRateLimit) {
    if config.token_bucket.is_some_and(|bucket| bucket.fill_interval < Duration::from_millis(50)) {
        r.refuse("token_bucket.fill_interval", "local rate limit token bucket fill timer must be >= 50ms");
    }
    for (i, limit) in config.rate_limits.iter().enumerate() {
        if limit.stage != 0 || !limit.disable_key.is_empty() {
            let message = "'stage' field and 'disable_key' field are not supported";
            r.refuse(&format!("rate_limits[{i}]"), message);
        }
        if limit.limit.is_some() {
            r.refuse(&format!("rate_limits[{i}].limit"), "'limit' field is not supported");
        }
        if limit.hits_addend.as_ref().is_some_and(|hits| hits.number.is_some() != hits.format.is_empty()) {
            let message = "hits_addend must contain either a format or a number";
            r.refuse(&format!("rate_limits[{i}].hits_addend"), message);
        }
    }
    for (i, descriptor) in config.descriptors.iter().enumerate() {
        let here = format!("descriptors[{i}]");
        if descriptor.token_bucket.fill_interval < Duration::from_millis(50) {
            let message = "local rate limit descriptor token bucket fill timer must be >= 50ms";
            r.refuse(&format!("{here}.token_bucket.fill_interval"), message);
        }
        if config.descriptors[..i].iter().any(|other| other.entries == descriptor.entries) {
            let entry = |entry: &Entry| format!("{}={}", entry.key, entry.value);
            let entries = descriptor.entries.iter().map(entry).collect::<Vec<_>>().join(",");
            r.refuse(&here, format!("duplicate descriptor in the local rate descriptor: {entries}"));
        }
    }
}

fn read_status(r: &mut MessageReader<'_>, name: &str) -> Result<Option<u16>, ConfigError> {
    r.message_with(name, |r| Ok(r.enum_number("code")?.unwrap_or(0) as u16))
}

message! {
    /// A bucket of those that are described so.
    #[derive(Eq)]
    pub struct LocalRateLimitDescriptor = "envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor" {
        /// How.
        pub entries: Vec<Entry>,
        /// How many there may be.
        pub token_bucket: TokenBucket,
        /// Those that are too many are only counted.
        pub shadow_mode: bool,
    }
}

message! {
    /// A part of a description.
    #[derive(Eq)]
    pub struct Entry = "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry" {
        /// What it is of.
        pub key: String,
        /// What it is; empty for anything, each of which has a bucket of its own.
        pub value: String,
    }
}

/// Whether what a virtual host says counts, where its route does not want it to anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VhRateLimits {
    /// Where the route says nothing.
    #[default]
    Override,
    /// It does.
    Include,
    /// It does not.
    Ignore,
}

impl VhRateLimits {
    const TABLE: &crate::config::reader::EnumTable<Self> =
        &[("OVERRIDE", Self::Override), ("INCLUDE", Self::Include), ("IGNORE", Self::Ignore)];
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

enum_fields! { VhRateLimits, XRateLimitHeaders }
