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

impl ResponseFlag {
    /// The short text in access logs.
    pub fn as_str(self) -> &'static str {
        match self {
            ResponseFlag::FailedLocalHealthCheck => "LH",
            ResponseFlag::NoHealthyUpstream => "UH",
            ResponseFlag::UpstreamRequestTimeout => "UT",
            ResponseFlag::LocalReset => "LR",
            ResponseFlag::UpstreamRemoteReset => "UR",
            ResponseFlag::UpstreamConnectionFailure => "UF",
            ResponseFlag::UpstreamConnectionTermination => "UC",
            ResponseFlag::UpstreamOverflow => "UO",
            ResponseFlag::NoRouteFound => "NR",
            ResponseFlag::DelayInjected => "DI",
            ResponseFlag::FaultInjected => "FI",
            ResponseFlag::RateLimited => "RL",
            ResponseFlag::UnauthorizedExternalService => "UAEX",
            ResponseFlag::RateLimitServiceError => "RLSE",
            ResponseFlag::DownstreamConnectionTermination => "DC",
            ResponseFlag::UpstreamRetryLimitExceeded => "URX",
            ResponseFlag::StreamIdleTimeout => "SI",
            ResponseFlag::InvalidEnvoyRequestHeaders => "IH",
            ResponseFlag::DownstreamProtocolError => "DPE",
            ResponseFlag::UpstreamMaxStreamDurationReached => "UMSDR",
            ResponseFlag::ResponseFromCacheFilter => "RFCF",
            ResponseFlag::NoFilterConfigFound => "NFCF",
            ResponseFlag::DurationTimeout => "DT",
            ResponseFlag::UpstreamProtocolError => "UPE",
            ResponseFlag::NoClusterFound => "NC",
            ResponseFlag::OverloadManager => "OM",
            ResponseFlag::DnsResolutionFailed => "DF",
            ResponseFlag::DropOverload => "DO",
            ResponseFlag::DownstreamRemoteReset => "DR",
            ResponseFlag::UnconditionalDropOverload => "UDO",
        }
    }

    /// The name in `%RESPONSE_FLAGS_LONG%`.
    pub fn long_name(self) -> &'static str {
        match self {
            ResponseFlag::FailedLocalHealthCheck => "FailedLocalHealthCheck",
            ResponseFlag::NoHealthyUpstream => "NoHealthyUpstream",
            ResponseFlag::UpstreamRequestTimeout => "UpstreamRequestTimeout",
            ResponseFlag::LocalReset => "LocalReset",
            ResponseFlag::UpstreamRemoteReset => "UpstreamRemoteReset",
            ResponseFlag::UpstreamConnectionFailure => "UpstreamConnectionFailure",
            ResponseFlag::UpstreamConnectionTermination => "UpstreamConnectionTermination",
            ResponseFlag::UpstreamOverflow => "UpstreamOverflow",
            ResponseFlag::NoRouteFound => "NoRouteFound",
            ResponseFlag::DelayInjected => "DelayInjected",
            ResponseFlag::FaultInjected => "FaultInjected",
            ResponseFlag::RateLimited => "RateLimited",
            ResponseFlag::UnauthorizedExternalService => "UnauthorizedExternalService",
            ResponseFlag::RateLimitServiceError => "RateLimitServiceError",
            ResponseFlag::DownstreamConnectionTermination => "DownstreamConnectionTermination",
            ResponseFlag::UpstreamRetryLimitExceeded => "UpstreamRetryLimitExceeded",
            ResponseFlag::StreamIdleTimeout => "StreamIdleTimeout",
            ResponseFlag::InvalidEnvoyRequestHeaders => "InvalidEnvoyRequestHeaders",
            ResponseFlag::DownstreamProtocolError => "DownstreamProtocolError",
            ResponseFlag::UpstreamMaxStreamDurationReached => "UpstreamMaxStreamDurationReached",
            ResponseFlag::ResponseFromCacheFilter => "ResponseFromCacheFilter",
            ResponseFlag::NoFilterConfigFound => "NoFilterConfigFound",
            ResponseFlag::DurationTimeout => "DurationTimeout",
            ResponseFlag::UpstreamProtocolError => "UpstreamProtocolError",
            ResponseFlag::NoClusterFound => "NoClusterFound",
            ResponseFlag::OverloadManager => "OverloadManager",
            ResponseFlag::DnsResolutionFailed => "DnsResolutionFailed",
            ResponseFlag::DropOverload => "DropOverload",
            ResponseFlag::DownstreamRemoteReset => "DownstreamRemoteReset",
            ResponseFlag::UnconditionalDropOverload => "UnconditionalDropOverload",
        }
    }
}
