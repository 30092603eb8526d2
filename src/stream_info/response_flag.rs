//! [`ResponseFlag`]: why a stream did not go as it should.
//!
//! Mirrors `ResponseFlag` of Envoy's `include/envoy/stream_info/stream_info.h` and `ResponseFlagUtils` of
//! `source/common/stream_info/utility.cc`, with the flags of 1.40.

/// Why a response is not simply the upstream's. The names are Envoy 1.40's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ResponseFlag {
    /// The local health check failed.
    FailedLocalHealthCheck,
    /// No healthy host in the cluster.
    NoHealthyUpstream,
    /// The route's or the try's timeout.
    UpstreamRequestTimeout,
    /// Reset from this side.
    LocalReset,
    /// Reset by the upstream.
    UpstreamRemoteReset,
    /// The connection to the upstream failed.
    UpstreamConnectionFailure,
    /// The connection to the upstream ended.
    UpstreamConnectionTermination,
    /// A circuit breaker's limit.
    UpstreamOverflow,
    /// No route for the request.
    NoRouteFound,
    /// The fault filter delayed the request.
    DelayInjected,
    /// The fault filter aborted the request.
    FaultInjected,
    /// Rate limited.
    RateLimited,
    /// Denied by the external authorization service.
    UnauthorizedExternalService,
    /// The rate limit service failed.
    RateLimitServiceError,
    /// The downstream went away.
    DownstreamConnectionTermination,
    /// All retries were used up.
    UpstreamRetryLimitExceeded,
    /// The stream's idle timeout.
    StreamIdleTimeout,
    /// An `x-envoy-` header with a value that strict checking refuses.
    InvalidEnvoyRequestHeaders,
    /// The downstream broke the protocol.
    DownstreamProtocolError,
    /// The longest duration of the upstream's half of the stream.
    UpstreamMaxStreamDurationReached,
    /// Answered from a cache.
    ResponseFromCacheFilter,
    /// The configuration of a filter did not arrive in time.
    NoFilterConfigFound,
    /// The longest duration of the stream.
    DurationTimeout,
    /// The upstream broke the protocol.
    UpstreamProtocolError,
    /// The route's cluster does not exist.
    NoClusterFound,
    /// The overload manager ended the stream.
    OverloadManager,
    /// The upstream's name did not resolve.
    DnsResolutionFailed,
    /// Dropped by the cluster's drop policy.
    DropOverload,
    /// Reset by the downstream.
    DownstreamRemoteReset,
    /// Dropped by a drop policy that drops everything.
    UnconditionalDropOverload,
}

/// The flags in their order with their short names and their long ones.
const NAMES: [(ResponseFlag, &str, &str); 30] = [
    (ResponseFlag::FailedLocalHealthCheck, "LH", "FailedLocalHealthCheck"),
    (ResponseFlag::NoHealthyUpstream, "UH", "NoHealthyUpstream"),
    (ResponseFlag::UpstreamRequestTimeout, "UT", "UpstreamRequestTimeout"),
    (ResponseFlag::LocalReset, "LR", "LocalReset"),
    (ResponseFlag::UpstreamRemoteReset, "UR", "UpstreamRemoteReset"),
    (ResponseFlag::UpstreamConnectionFailure, "UF", "UpstreamConnectionFailure"),
    (ResponseFlag::UpstreamConnectionTermination, "UC", "UpstreamConnectionTermination"),
    (ResponseFlag::UpstreamOverflow, "UO", "UpstreamOverflow"),
    (ResponseFlag::NoRouteFound, "NR", "NoRouteFound"),
    (ResponseFlag::DelayInjected, "DI", "DelayInjected"),
    (ResponseFlag::FaultInjected, "FI", "FaultInjected"),
    (ResponseFlag::RateLimited, "RL", "RateLimited"),
    (ResponseFlag::UnauthorizedExternalService, "UAEX", "UnauthorizedExternalService"),
    (ResponseFlag::RateLimitServiceError, "RLSE", "RateLimitServiceError"),
    (ResponseFlag::DownstreamConnectionTermination, "DC", "DownstreamConnectionTermination"),
    (ResponseFlag::UpstreamRetryLimitExceeded, "URX", "UpstreamRetryLimitExceeded"),
    (ResponseFlag::StreamIdleTimeout, "SI", "StreamIdleTimeout"),
    (ResponseFlag::InvalidEnvoyRequestHeaders, "IH", "InvalidEnvoyRequestHeaders"),
    (ResponseFlag::DownstreamProtocolError, "DPE", "DownstreamProtocolError"),
    (ResponseFlag::UpstreamMaxStreamDurationReached, "UMSDR", "UpstreamMaxStreamDurationReached"),
    (ResponseFlag::ResponseFromCacheFilter, "RFCF", "ResponseFromCacheFilter"),
    (ResponseFlag::NoFilterConfigFound, "NFCF", "NoFilterConfigFound"),
    (ResponseFlag::DurationTimeout, "DT", "DurationTimeout"),
    (ResponseFlag::UpstreamProtocolError, "UPE", "UpstreamProtocolError"),
    (ResponseFlag::NoClusterFound, "NC", "NoClusterFound"),
    (ResponseFlag::OverloadManager, "OM", "OverloadManager"),
    (ResponseFlag::DnsResolutionFailed, "DF", "DnsResolutionFailed"),
    (ResponseFlag::DropOverload, "DO", "DropOverload"),
    (ResponseFlag::DownstreamRemoteReset, "DR", "DownstreamRemoteReset"),
    (ResponseFlag::UnconditionalDropOverload, "UDO", "UnconditionalDropOverload"),
];

impl ResponseFlag {
    /// The short text in access logs.
    pub fn as_str(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The name in `%RESPONSE_FLAGS_LONG%`.
    pub fn long_name(self) -> &'static str {
        NAMES[self as usize].2
    }

    /// The flag with that short text.
    pub fn find(text: &str) -> Option<ResponseFlag> {
        NAMES.iter().find(|(_, short, _)| *short == text).map(|(flag, _, _)| *flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_its_names() {
        for (i, (flag, short, long)) in NAMES.into_iter().enumerate() {
            assert_eq!((flag as usize, flag.as_str(), flag.long_name()), (i, short, long));
            assert_eq!((format!("{flag:?}").as_str(), ResponseFlag::find(short)), (long, Some(flag)));
        }
        assert_eq!(ResponseFlag::find("XX"), None);
    }
}
