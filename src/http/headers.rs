//! The header names that legate itself reads or writes, known by number.
//!
//! Mirrors Envoy's inline ("O(1)") headers of `include/envoy/http/header_map.h` and the names of
//! `source/common/http/headers.h`.

use std::ops::RangeInclusive;

use crate::buffer::Writer;

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
    EnvoyImmediateHealthCheckFail "x-envoy-immediate-health-check-fail" Comma,
    EnvoyInternalRequest "x-envoy-internal" Comma,
    EnvoyIpTags "x-envoy-ip-tags" Comma,
    EnvoyOriginalHost "x-envoy-original-host" Comma,
    EnvoyOriginalPath "x-envoy-original-path" Comma,
    EnvoyOriginalUrl "x-envoy-original-url" Comma,
    EnvoyOverloaded "x-envoy-overloaded" Separate,
    EnvoyRateLimited "x-envoy-ratelimited" Comma,
    EnvoyUpstreamCanary "x-envoy-upstream-canary" Comma,
    EnvoyUpstreamHealthCheckedCluster "x-envoy-upstream-healthchecked-cluster" Comma,
    EnvoyUpstreamServiceTime "x-envoy-upstream-service-time" Comma,
    EnvoyUpstreamStreamDurationMs "x-envoy-upstream-stream-duration-ms" Comma,
    EnvoyHedgeOnPerTryTimeout "x-envoy-hedge-on-per-try-timeout" Comma,
    EnvoyMaxRetries "x-envoy-max-retries" Comma,
    EnvoyRetriableHeaderNames "x-envoy-retriable-header-names" Comma,
    EnvoyRetriableStatusCodes "x-envoy-retriable-status-codes" Comma,
    EnvoyRetryGrpcOn "x-envoy-retry-grpc-on" Comma,
    EnvoyRetryOn "x-envoy-retry-on" Comma,
    EnvoyUpstreamAltStatName "x-envoy-upstream-alt-stat-name" Comma,
    EnvoyUpstreamRequestPerTryTimeoutMs "x-envoy-upstream-rq-per-try-timeout-ms" Comma,
    EnvoyUpstreamRequestTimeoutAltResponse "x-envoy-upstream-rq-timeout-alt-response" Comma,
    EnvoyUpstreamRequestTimeoutMs "x-envoy-upstream-rq-timeout-ms" Comma,
}

/// Where all that a request tells the router, and the upstream is not to see, is among the known names.
pub const ROUTER_FIELDS: RangeInclusive<HeaderId> =
    HeaderId::EnvoyHedgeOnPerTryTimeout..=HeaderId::EnvoyUpstreamRequestTimeoutMs;

/// As much of it as is about tries.
pub const RETRY_FIELDS: RangeInclusive<HeaderId> =
    HeaderId::EnvoyHedgeOnPerTryTimeout..=HeaderId::EnvoyRetryOn;

/// All names that begin with `x-envoy-`.
pub const ENVOY_FIELDS: RangeInclusive<HeaderId> =
    HeaderId::EnvoyAttemptCount..=HeaderId::EnvoyUpstreamRequestTimeoutMs;

/// The number of known names.
pub(super) const COUNT: usize = KNOWN.len();

/// No known name is longer.
pub(super) const LONGEST: usize = 44;

/// What has room for most names, with a colon and a blank behind them.
const FIELD: usize = 32;

/// The known names as they begin a field, and how long that is; zero for one that is longer than there is room for. All have
/// the same room, so that they are copied without a look at how long they are.
static FIELDS: [([u8; FIELD], u8); COUNT] = fields();

const fn fields() -> [([u8; FIELD], u8); COUNT] {
    let mut fields = [([0; FIELD], 0); COUNT];
    let mut i = 0;
    while i < COUNT {
        let name = KNOWN[i].1.as_bytes();
        if name.len() + 2 <= FIELD {
            let mut at = 0;
            while at < name.len() {
                fields[i].0[at] = name[at];
                at += 1;
            }
            (fields[i].0[at], fields[i].0[at + 1]) = (b':', b' ');
            fields[i].1 = name.len() as u8 + 2;
        }
        i += 1;
    }
    fields
}

/// Places of known names by their hash; a name whose place is taken has the next free one.
static PLACES: [u8; 512] = places();
const EMPTY: u8 = u8::MAX;

/// Names of up to this length are compared in one piece.
const SHORT: usize = 16;

/// The known names that are short, with zeros behind them; zero for one that is not.
static SHORT_NAMES: [u128; COUNT] = short_names();

const fn short_names() -> [u128; COUNT] {
    let mut names = [0; COUNT];
    let mut i = 0;
    while i < COUNT {
        let name = KNOWN[i].1.as_bytes();
        let mut at = 0;
        while name.len() <= SHORT && at < name.len() {
            names[i] |= (name[at] as u128) << (8 * at);
            at += 1;
        }
        i += 1;
    }
    names
}

/// By a number of bytes, a mask for so many.
static FIRST_BYTES: [u128; SHORT + 1] = {
    let mut masks = [0; SHORT + 1];
    let mut length = 1;
    while length <= SHORT {
        masks[length] = masks[length - 1] << 8 | 0xff;
        length += 1;
    }
    masks
};

/// In every letter the bit that upper case lacks. All other characters of known names have it.
const CASE: u8 = 0x20;

/// Of a name that is not empty, in any case.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let (first, middle, last) = (name[0], name[name.len() / 2], name[name.len() - 1]);
    let letters = (first | CASE) as usize * 7 + (middle | CASE) as usize * 61 + (last | CASE) as usize * 3;
    name.len() * 37 + letters
}

const fn places() -> [u8; 512] {
    let mut table = [EMPTY; 512];
    let mut i = 0;
    while i < KNOWN.len() {
        let mut place = hash(KNOWN[i].1.as_bytes()) % table.len();
        while table[place] != EMPTY {
            place = (place + 1) % table.len();
        }
        table[place] = i as u8;
        i += 1;
    }
    table
}

/// Whether a token is the known name `lower`, in any case. A character of a token that is not a letter of upper case, and
/// becomes another one by setting the bit, becomes none that known names have.
#[inline]
fn is_spelled(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    // The last word may have some of what is in the one before.
    let is_word = |(name, lower): (&[u8; 8], &[u8; 8])| {
        u64::from_ne_bytes(*name) | u64::from_ne_bytes([CASE; 8]) == u64::from_ne_bytes(*lower)
    };
    let is_half = |(name, lower): (&[u8; 4], &[u8; 4])| {
        u32::from_ne_bytes(*name) | u32::from_ne_bytes([CASE; 4]) == u32::from_ne_bytes(*lower)
    };
    if let Some(last) = name.last_chunk().zip(lower.last_chunk()) {
        is_word(last) && name.as_chunks().0.iter().zip(lower.as_chunks().0).all(is_word)
    } else if let Some(last) = name.last_chunk().zip(lower.last_chunk()) {
        is_half(last) && name.first_chunk().zip(lower.first_chunk()).is_some_and(is_half)
    } else {
        name.iter().zip(lower).all(|(name, lower)| name | CASE == *lower)
    }
}

impl HeaderId {
    /// The name, in lower case.
    #[inline]
    pub fn name(self) -> &'static str {
        KNOWN[self as usize].1
    }

    /// Whether the name begins with a colon: such are the first ones.
    #[inline]
    pub(super) fn is_pseudo(self) -> bool {
        self as u8 <= HeaderId::Status as u8
    }

    /// Writes the name, a colon and a blank.
    #[inline(always)]
    pub(super) fn begin_field(self, out: &mut Writer<'_>) {
        let (field, length) = &FIELDS[self as usize];
        if *length == 0 {
            out.put(self.name().as_bytes());
            out.put(b": ");
        } else {
            out.put_first(field, *length as usize);
        }
    }

    #[inline]
    pub(super) fn repeat(self) -> Repeat {
        KNOWN[self as usize].2
    }

    /// Finds a name (a token, or one with a colon in front) in any case.
    #[inline]
    pub fn find(name: &[u8]) -> Option<HeaderId> {
        Self::find_by(name, |known| is_spelled(name, KNOWN[known].1.as_bytes()))
    }

    /// Finds the name of `length` bytes that `text` begins with. Where there is enough behind it, it is compared in one piece.
    #[inline(always)]
    pub(super) fn find_first(text: &[u8], length: usize) -> Option<HeaderId> {
        let name = &text[..length];
        match text.first_chunk() {
            Some(begin) if length <= SHORT => {
                let name_and_more = u128::from_le_bytes(*begin) | u128::from_ne_bytes([CASE; SHORT]);
                let lower = name_and_more & FIRST_BYTES[length];
                Self::find_by(name, |known| SHORT_NAMES[known] == lower)
            }
            _ => Self::find(name),
        }
    }

    #[inline(always)]
    fn find_by(name: &[u8], is_it: impl Fn(usize) -> bool) -> Option<HeaderId> {
        if name.is_empty() {
            return None;
        }
        let mut place = hash(name) % PLACES.len();
        loop {
            let candidate = PLACES[place];
            if candidate == EMPTY {
                return None;
            }
            if is_it(candidate as usize) {
                return Some(KNOWN[candidate as usize].0);
            }
            place = (place + 1) % PLACES.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (id, name, _) in KNOWN {
            assert_eq!(HeaderId::find(name.as_bytes()), Some(*id), "{name}");
            assert_eq!(HeaderId::find(name.to_ascii_uppercase().as_bytes()), Some(*id), "{name}");
            assert!(name.bytes().all(|byte| byte & CASE != 0), "{name}");
            for (at, byte) in name.bytes().enumerate() {
                let mut other = name.as_bytes().to_vec();
                other[at] = if byte == b'q' { b'z' } else { b'q' };
                assert_eq!(HeaderId::find(&other), None, "{name} but for one letter");
            }
            assert_eq!(id.name(), *name);
            assert_eq!(id.is_pseudo(), name.starts_with(':'));
            assert!(name.len() <= LONGEST);
            let mut field = Buffer::new();
            field.write_with(name.len() + 2, |out| id.begin_field(out));
            assert_eq!(field.to_vec(), format!("{name}: ").into_bytes());
        }
        let ranges = [
            ("x-envoy-", ENVOY_FIELDS),
            ("x-envoy-retr", RETRY_FIELDS),
            ("x-envoy-upstream-rq-", ROUTER_FIELDS),
        ];
        for (begin, range) in ranges {
            let is_in = |id: HeaderId| (*range.start() as u8..=*range.end() as u8).contains(&(id as u8));
            assert!(KNOWN.iter().all(|(id, name, _)| !name.starts_with(begin) || is_in(*id)), "{begin}");
        }
        for (id, name, _) in KNOWN {
            for behind in ["", ": a", ": ABCDEFGHIJKLMNOPQRSTUVWXYZ"] {
                let text = [name.as_bytes(), behind.as_bytes()].concat();
                assert_eq!(HeaderId::find_first(&text, name.len()), Some(*id), "{name}{behind}");
                assert_eq!(HeaderId::find_first(&text.to_ascii_uppercase(), name.len()), Some(*id), "{name}");
                let shorter = name.len() - 1;
                assert_eq!(HeaderId::find_first(&text, shorter), HeaderId::find(&text[..shorter]), "{name}");
            }
        }
        assert_eq!(HeaderId::find_first(b"", 0), None);
        assert_eq!(HeaderId::find_first(b"abcdefghijklmnopqrstuvwxyz", 0), None);
        assert_eq!(HeaderId::find(b"x-unknown"), None);
        assert_eq!(HeaderId::find(b""), None);
        assert_eq!(HeaderId::find(&[b'a'; 500]), None);
    }
}
