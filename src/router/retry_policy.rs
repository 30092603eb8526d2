//! Which answers a route does not take, and what comes then.
//!
//! Mirrors `RetryPolicyImpl` of Envoy's `source/common/router/config_impl.cc` and the words of
//! `source/common/router/retry_state_impl.cc`, with those of 1.40 and blanks around them.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::ConfigError;
use crate::config::route::{ResetHeaderFormat, RetryPolicy};
use crate::http::header_utility::HeaderMatcher;
use crate::http::{HeaderMap, HeaderName};
use crate::upstream::retry::{
    RetryHostPredicate, RetryHostPredicateConfig, RetryPriority, RetryPriorityConfig,
};

/// Which answers are not taken: a bit for each word.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RetryOn(u32);

macro_rules! words {
    ($($name:ident $bit:literal $word:literal,)+) => {
        impl RetryOn {
            $(#[doc = concat!("`", $word, "`")] pub const $name: RetryOn = RetryOn(1 << $bit);)+
            const WORDS: &[(&str, RetryOn)] = &[$(($word, RetryOn::$name),)+];
        }
    };
}

words! {
    FIVE_XX 0 "5xx",
    GATEWAY_ERROR 1 "gateway-error",
    CONNECT_FAILURE 2 "connect-failure",
    RETRIABLE_4XX 3 "retriable-4xx",
    REFUSED_STREAM 4 "refused-stream",
    RETRIABLE_STATUS_CODES 5 "retriable-status-codes",
    RETRIABLE_HEADERS 6 "retriable-headers",
    RESET 7 "reset",
    RESET_BEFORE_REQUEST 8 "reset-before-request",
    ENVOY_RATE_LIMITED 9 "envoy-ratelimited",
    HTTP3_POST_CONNECT_FAILURE 10 "http3-post-connect-failure",
    GRPC_CANCELLED 16 "cancelled",
    GRPC_DEADLINE_EXCEEDED 17 "deadline-exceeded",
    GRPC_RESOURCE_EXHAUSTED 18 "resource-exhausted",
    GRPC_UNAVAILABLE 19 "unavailable",
    GRPC_INTERNAL 20 "internal",
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

impl RetryOn {
    /// Nothing.
    pub const NONE: RetryOn = RetryOn(0);
    const GRPC: u32 = 0xffff_0000;

    /// All words; a policy may mix them.
    pub fn parse(text: &str) -> Self {
        let words = text.split(',').map(str::trim);
        let bit = |word| RetryOn::WORDS.iter().find(|(name, _)| *name == word).map_or(0, |(_, bit)| bit.0);
        RetryOn(words.map(bit).fold(0, |all, bit| all | bit))
    }

    /// The words that say nothing of gRPC.
    pub fn parse_http(text: &str) -> Self {
        RetryOn(Self::parse(text).0 & !Self::GRPC)
    }

    /// The words of gRPC alone.
    pub fn parse_grpc(text: &str) -> Self {
        RetryOn(Self::parse(text).0 & Self::GRPC)
    }

    /// Whether all words are known ones that say nothing of gRPC.
    pub fn are_http(text: &str) -> bool {
        words(text).all(|word| !Self::parse_http(word).is_empty())
    }

    /// Whether all words are known ones of gRPC.
    pub fn are_grpc(text: &str) -> bool {
        words(text).all(|word| !Self::parse_grpc(word).is_empty())
    }

    /// Both.
    pub fn with(self, other: RetryOn) -> Self {
        RetryOn(self.0 | other.0)
    }

    /// Whether it has this word, or one of these.
    #[inline]
    pub fn has(self, words: RetryOn) -> bool {
        self.0 & words.0 != 0
    }

    /// Whether nothing is said.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// That of a status of gRPC.
    pub fn of_grpc_status(status: u32) -> Self {
        match status {
            1 => Self::GRPC_CANCELLED,
            4 => Self::GRPC_DEADLINE_EXCEEDED,
            8 => Self::GRPC_RESOURCE_EXHAUSTED,
            13 => Self::GRPC_INTERNAL,
            14 => Self::GRPC_UNAVAILABLE,
            _ => Self::NONE,
        }
    }
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct RetryPolicyImpl {
    /// Which answers are not taken.
    pub retry_on: RetryOn,
    /// How often.
    pub num_retries: u32,
    /// For each try; zero is no limit.
    pub per_try_timeout: Duration,
    /// For each pause in a try; zero is no limit.
    pub per_try_idle_timeout: Duration,
    /// Of `retriable-status-codes`.
    pub retriable_status_codes: Box<[u32]>,
    /// Of `retriable-headers`.
    pub retriable_headers: Box<[HeaderMatcher]>,
    /// Only requests that are like one of these; none is all.
    pub retriable_request_headers: Box<[HeaderMatcher]>,
    /// The shortest and the longest of the longest pauses, in milliseconds.
    pub base_interval: Option<u64>,
    /// See there.
    pub max_interval: Option<u64>,
    reset_headers: Box<[ResetHeaderParser]>,
    reset_max_interval: u64,
    /// How often another host is asked for.
    pub host_selection_max_attempts: u32,
    host_predicates: Box<[Arc<dyn RetryHostPredicateConfig>]>,
    priority: Option<Arc<dyn RetryPriorityConfig>>,
}

static OF_HEADERS_ALONE: LazyLock<Arc<RetryPolicyImpl>> = LazyLock::new(|| {
    Arc::new(RetryPolicyImpl { num_retries: 1, host_selection_max_attempts: 1, ..RetryPolicyImpl::default() })
});

/// Envoy counts whole milliseconds, and at least one.
fn milliseconds(interval: Duration) -> u64 {
    (interval.as_millis() as u64).max(1)
}

impl RetryPolicyImpl {
    /// As a configuration has it.
    ///
    /// # Errors
    /// A predicate that is none, which one that was read never is.
    pub fn new(config: &RetryPolicy) -> Result<Arc<Self>, ConfigError> {
        let back_off = config.retry_back_off.as_ref();
        let rate_limited = config.rate_limited_retry_back_off.as_ref();
        let predicates = config.retry_host_predicate.iter().map(|predicate| predicate.config.get().cloned());
        let priority = config.retry_priority.as_ref().map(|priority| priority.config.get().cloned());
        Ok(Arc::new(RetryPolicyImpl {
            retry_on: RetryOn::parse(&config.retry_on),
            num_retries: config.num_retries,
            per_try_timeout: config.per_try_timeout,
            per_try_idle_timeout: config.per_try_idle_timeout,
            retriable_status_codes: config.retriable_status_codes.as_slice().into(),
            retriable_headers: config.retriable_headers.iter().map(HeaderMatcher::new).collect(),
            retriable_request_headers: (config.retriable_request_headers.iter())
                .map(HeaderMatcher::new)
                .collect(),
            base_interval: back_off.map(|back_off| milliseconds(back_off.base_interval)),
            max_interval: back_off.and_then(|back_off| back_off.max_interval).map(milliseconds),
            reset_headers: (rate_limited.iter().flat_map(|back_off| &back_off.reset_headers))
                .map(|header| ResetHeaderParser {
                    name: HeaderName::new(&header.name),
                    format: header.format,
                })
                .collect(),
            reset_max_interval: rate_limited.map_or(0, |back_off| milliseconds(back_off.max_interval)),
            host_selection_max_attempts: match config.host_selection_retry_max_attempts {
                0 => 1,
                attempts => attempts,
            },
            host_predicates: predicates.collect::<Result<_, _>>()?,
            priority: priority.transpose()?,
        }))
    }

    /// For requests that say themselves what is not taken.
    pub fn of_headers_alone() -> &'static Arc<Self> {
        &OF_HEADERS_ALONE
    }

    /// Whether a request may be tried again at all.
    pub fn is_for(&self, request: &HeaderMap) -> bool {
        let wanted = &self.retriable_request_headers;
        wanted.is_empty() || wanted.iter().any(|matcher| matcher.matches(Some(request)))
    }

    /// Which hosts one request does not want.
    pub fn host_predicates(&self) -> Box<[Box<dyn RetryHostPredicate>]> {
        self.host_predicates.iter().map(|predicate| predicate.create_host_predicate()).collect()
    }

    /// Which priorities one request wants.
    pub fn retry_priority(&self) -> Option<Box<dyn RetryPriority>> {
        self.priority.as_ref().map(|priority| priority.create_retry_priority())
    }

    /// For how many milliseconds a response asks not to be tried again, if it is to be listened to.
    pub fn reset_interval(&self, response: &HeaderMap) -> Option<u64> {
        let intervals = self.reset_headers.iter().filter_map(|parser| parser.parse_interval(response));
        let mut fitting = intervals.filter(|interval| *interval <= self.reset_max_interval);
        fitting.next().filter(|interval| *interval > 1)
    }
}

/// Envoy 1.40: `ResetHeaderParserImpl` of `source/common/router/reset_header_parser.cc`.
#[derive(Debug)]
struct ResetHeaderParser {
    name: HeaderName,
    format: ResetHeaderFormat,
}

impl ResetHeaderParser {
    fn parse_interval(&self, response: &HeaderMap) -> Option<u64> {
        let seconds: u64 = std::str::from_utf8(self.name.find(response)?).ok()?.trim().parse().ok()?;
        let from = match self.format {
            ResetHeaderFormat::Seconds => 0,
            ResetHeaderFormat::UnixTimestamp => SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs(),
        };
        seconds.checked_sub(from)?.checked_mul(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_commas_between_them() {
        let all = RetryOn::parse("5xx, reset,nothing,  unavailable");
        assert_eq!(all, RetryOn::FIVE_XX.with(RetryOn::RESET).with(RetryOn::GRPC_UNAVAILABLE));
        assert_eq!(RetryOn::parse_http("5xx,internal"), RetryOn::FIVE_XX);
        assert_eq!(RetryOn::parse_grpc("5xx,internal"), RetryOn::GRPC_INTERNAL);
        assert!(RetryOn::parse("").is_empty() && !all.has(RetryOn::GATEWAY_ERROR));
    }

    #[test]
    fn the_first_interval_that_is_not_too_long_counts() {
        let parser = |name: &str, format| ResetHeaderParser { name: HeaderName::new(name), format };
        let policy = RetryPolicyImpl {
            reset_headers: [
                parser("retry-after", ResetHeaderFormat::Seconds),
                parser("x-reset", ResetHeaderFormat::UnixTimestamp),
            ]
            .into(),
            reset_max_interval: 5000,
            ..RetryPolicyImpl::default()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let interval = |fields: &[(&str, String)]| {
            let mut headers = HeaderMap::new();
            fields.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
            policy.reset_interval(&headers)
        };
        assert_eq!(interval(&[("retry-after", "3".into())]), Some(3000));
        assert_eq!(interval(&[("retry-after", "6".into())]), None);
        assert_eq!(interval(&[("retry-after", "x".into())]), None);
        assert_eq!(interval(&[("retry-after", "0".into())]), None);
        assert_eq!(interval(&[("x-reset", (now - 9).to_string())]), None);
        let later = interval(&[("retry-after", "9".into()), ("x-reset", (now + 4).to_string())]);
        assert!(later.is_some_and(|ms| (2000..=4000).contains(&ms)), "{later:?}");
    }
}
