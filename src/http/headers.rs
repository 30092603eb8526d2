//! The header names that legate itself reads or writes, known by number.
//!
//! Mirrors Envoy's inline ("O(1)") headers of `include/envoy/http/header_map.h` and the names of
//! `source/common/http/headers.h`.

/// How values of one name given twice are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repeat {
    /// Joined into one value with a comma.
    Comma,
    /// As `Comma` in requests, as `Separate` in responses.
    CommaInRequests,
    /// As `Comma` in responses, as `Separate` in requests.
    CommaInResponses,
    /// Kept as separate fields.
    Separate,
}

macro_rules! known_headers {
    ($($id:ident $name:literal $repeat:ident,)*) => {
        /// A known header name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum HeaderId { $($id,)* }

        const KNOWN: &[(HeaderId, &str, Repeat)] = &[$((HeaderId::$id, $name, Repeat::$repeat),)*];
    };
}

known_headers! {
    Authority ":authority" Comma,
    Method ":method" Comma,
    Path ":path" Comma,
    Scheme ":scheme" Comma,
    Status ":status" Comma,
    Accept "accept" Comma,
    AcceptEncoding "accept-encoding" Comma,
    AccessControlAllowCredentials "access-control-allow-credentials" CommaInResponses,
    AccessControlAllowHeaders "access-control-allow-headers" CommaInResponses,
    AccessControlAllowMethods "access-control-allow-methods" CommaInResponses,
    AccessControlAllowOrigin "access-control-allow-origin" CommaInResponses,
    AccessControlExposeHeaders "access-control-expose-headers" CommaInResponses,
    AccessControlMaxAge "access-control-max-age" CommaInResponses,
    AccessControlRequestHeaders "access-control-request-headers" CommaInRequests,
    AccessControlRequestMethod "access-control-request-method" CommaInRequests,
    Age "age" CommaInResponses,
    Authorization "authorization" Comma,
    CacheControl "cache-control" Comma,
    Connection "connection" Comma,
    ContentEncoding "content-encoding" Comma,
    ContentLength "content-length" Comma,
    ContentType "content-type" Comma,
    Cookie "cookie" Separate,
    Date "date" Comma,
    Etag "etag" Comma,
    Expect "expect" Comma,
    Expires "expires" CommaInResponses,
    GrpcAcceptEncoding "grpc-accept-encoding" CommaInRequests,
    GrpcMessage "grpc-message" Comma,
    GrpcStatus "grpc-status" Comma,
    GrpcTimeout "grpc-timeout" Comma,
    Host "host" Separate,
    Http2Settings "http2-settings" Separate,
    IfMatch "if-match" CommaInRequests,
    IfModifiedSince "if-modified-since" CommaInRequests,
    IfNoneMatch "if-none-match" Comma,
    IfRange "if-range" CommaInRequests,
    IfUnmodifiedSince "if-unmodified-since" CommaInRequests,
    KeepAlive "keep-alive" Comma,
    LastModified "last-modified" CommaInResponses,
    Location "location" Comma,
    Origin "origin" Comma,
    Pragma "pragma" CommaInRequests,
    ProxyConnection "proxy-connection" Comma,
    ProxyStatus "proxy-status" CommaInResponses,
    Referer "referer" Comma,
    Server "server" Comma,
    SetCookie "set-cookie" Separate,
    Te "te" Comma,
    Trailer "trailer" Separate,
    TransferEncoding "transfer-encoding" Comma,
    Upgrade "upgrade" Comma,
    UserAgent "user-agent" Comma,
    Vary "vary" CommaInResponses,
    Via "via" Comma,
    ClientTraceId "x-client-trace-id" Comma,
    ForwardedClientCert "x-forwarded-client-cert" Comma,
    ForwardedFor "x-forwarded-for" Comma,
    ForwardedHost "x-forwarded-host" Comma,
    ForwardedPort "x-forwarded-port" CommaInRequests,
    ForwardedProto "x-forwarded-proto" Comma,
    RequestId "x-request-id" Comma,
    EnvoyAttemptCount "x-envoy-attempt-count" Comma,
    EnvoyDecoratorOperation "x-envoy-decorator-operation" Comma,
    EnvoyDegraded "x-envoy-degraded" Comma,
    EnvoyDownstreamServiceCluster "x-envoy-downstream-service-cluster" Comma,
    EnvoyDownstreamServiceNode "x-envoy-downstream-service-node" Comma,
    EnvoyExpectedRequestTimeoutMs "x-envoy-expected-rq-timeout-ms" Comma,
    EnvoyExternalAddress "x-envoy-external-address" Comma,
    EnvoyForceTrace "x-envoy-force-trace" Comma,
    EnvoyHedgeOnPerTryTimeout "x-envoy-hedge-on-per-try-timeout" Comma,
    EnvoyImmediateHealthCheckFail "x-envoy-immediate-health-check-fail" Comma,
    EnvoyInternalRequest "x-envoy-internal" Comma,
    EnvoyIpTags "x-envoy-ip-tags" Comma,
    EnvoyMaxRetries "x-envoy-max-retries" Comma,
    EnvoyOriginalPath "x-envoy-original-path" Comma,
    EnvoyOriginalUrl "x-envoy-original-url" Comma,
    EnvoyOverloaded "x-envoy-overloaded" Separate,
    EnvoyRateLimited "x-envoy-ratelimited" Comma,
    EnvoyRetriableHeaderNames "x-envoy-retriable-header-names" Comma,
    EnvoyRetriableStatusCodes "x-envoy-retriable-status-codes" Comma,
    EnvoyRetryGrpcOn "x-envoy-retry-grpc-on" Comma,
    EnvoyRetryOn "x-envoy-retry-on" Comma,
    EnvoyUpstreamAltStatName "x-envoy-upstream-alt-stat-name" Comma,
    EnvoyUpstreamCanary "x-envoy-upstream-canary" Comma,
    EnvoyUpstreamHealthCheckedCluster "x-envoy-upstream-healthchecked-cluster" Comma,
    EnvoyUpstreamRequestPerTryTimeoutMs "x-envoy-upstream-rq-per-try-timeout-ms" Comma,
    EnvoyUpstreamRequestTimeoutAltResponse "x-envoy-upstream-rq-timeout-alt-response" Comma,
    EnvoyUpstreamRequestTimeoutMs "x-envoy-upstream-rq-timeout-ms" Comma,
    EnvoyUpstreamServiceTime "x-envoy-upstream-service-time" Comma,
    EnvoyUpstreamStreamDurationMs "x-envoy-upstream-stream-duration-ms" Comma,
}

/// The number of known names.
pub(super) const COUNT: usize = KNOWN.len();

const MAX_LENGTH: usize = 48;
const MAX_SAME_LENGTH: usize = 8;

/// Known names by their length: a parsed name is compared with a handful of candidates at most.
static BY_LENGTH: [[u8; MAX_SAME_LENGTH]; MAX_LENGTH] = by_length();

const fn by_length() -> [[u8; MAX_SAME_LENGTH]; MAX_LENGTH] {
    let mut table = [[u8::MAX; MAX_SAME_LENGTH]; MAX_LENGTH];
    let mut i = 0;
    while i < KNOWN.len() {
        let length = KNOWN[i].1.len();
        let mut slot = 0;
        while table[length][slot] != u8::MAX {
            slot += 1;
        }
        table[length][slot] = i as u8;
        i += 1;
    }
    table
}

impl HeaderId {
    /// The name, in lower case.
    #[inline]
    pub fn name(self) -> &'static str {
        KNOWN[self as usize].1
    }

    #[inline]
    pub(super) fn repeat(self) -> Repeat {
        KNOWN[self as usize].2
    }

    /// Finds a lower-case name.
    #[inline]
    pub fn find(name: &[u8]) -> Option<HeaderId> {
        for &candidate in BY_LENGTH.get(name.len())? {
            let (id, text, _) = KNOWN.get(candidate as usize)?;
            if text.as_bytes() == name {
                return Some(*id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found() {
        for (id, name, _) in KNOWN {
            assert_eq!(HeaderId::find(name.as_bytes()), Some(*id), "{name}");
            assert_eq!(id.name(), *name);
        }
        assert_eq!(HeaderId::find(b"x-unknown"), None);
        assert_eq!(HeaderId::find(b""), None);
        assert_eq!(HeaderId::find(&[b'a'; 500]), None);
    }
}
