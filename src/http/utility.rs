//! Small rules about messages. Mirrors Envoy's `source/common/http/utility.cc`.

use super::{HeaderId, HeaderMap, Protocol};
use crate::common::percent;

/// The tokens of a comma-separated value, trimmed, empty ones left out.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(|token| token.trim_ascii()).filter(|token| !token.is_empty())
}

/// Whether a comma-separated value has `token` (in any case).
#[inline(always)]
pub fn has_token(value: Option<&[u8]>, token: &str) -> bool {
    match value {
        None => false,
        // Most messages have it alone.
        Some(b"keep-alive") => token.eq_ignore_ascii_case("keep-alive"),
        Some(value) => names_token(value, token),
    }
}

fn names_token(value: &[u8], token: &str) -> bool {
    if value.len() < token.len() {
        return false;
    }
    let is_it = |t: &[u8]| t == token.as_bytes() || t.eq_ignore_ascii_case(token.as_bytes());
    if value.len() == token.len() {
        return is_it(value); // the only one there
    }
    tokens(value).any(is_it)
}

/// Whether the Connection header names `token` (in any case).
#[inline(always)]
pub fn connection_has_token(headers: &HeaderMap, token: &str) -> bool {
    has_token(headers.get(HeaderId::Connection), token)
}

/// The value of the first parameter of this name in the query of a path, as it stands there.
pub fn query_parameter<'a>(path: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let query = &path[memchr::memchr(b'?', path)? + 1..];
    query.split(|&b| b == b'&').find_map(|parameter| {
        let equals = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
        (&parameter[..equals] == name).then(|| parameter.get(equals + 1..).unwrap_or_default())
    })
}

/// The value of the first cookie of this name, without the quotes around it.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let mut cookies = headers.get_all("cookie").flat_map(|line| line.split(|&b| b == b';'));
    cookies.find_map(|cookie| {
        let equals = memchr::memchr(b'=', cookie)?;
        let value = &cookie[equals + 1..];
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (cookie[..equals].trim_ascii() == name).then_some(quoted.unwrap_or(value))
    })
}

/// Whether the message asks for, or grants, a change of protocol.
#[inline(always)]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.has(HeaderId::Upgrade) && connection_has_token(headers, "upgrade")
}

/// Takes the given tokens (in lower case) out of the Connection header, and the header when none is left.
pub fn remove_connection_tokens(headers: &mut HeaderMap, remove: &[&str]) {
    let Some(value) = headers.get(HeaderId::Connection) else { return };
    let mut kept: Vec<u8> = Vec::with_capacity(value.len());
    for token in tokens(value) {
        if !remove.iter().any(|r| token.eq_ignore_ascii_case(r.as_bytes())) {
            if !kept.is_empty() {
                kept.push(b',');
            }
            kept.extend_from_slice(token);
        }
    }
    if kept.is_empty() {
        headers.remove(HeaderId::Connection);
    } else {
        headers.set(HeaderId::Connection, &kept);
    }
}

/// Envoy refuses a Connection field with more tokens than this,
const MAX_CONNECTION_TOKENS: usize = 9;
/// and a TE field that it names and that is longer than this.
const MAX_NOMINATED_TE: usize = 255;

/// Removes the fields that a request's Connection names (RFC 9110 section 7.6.1), but for what stands for something else
/// there. False if it names one that must not be lost on the way, or too many.
pub fn sanitize_connection(headers: &mut HeaderMap) -> bool {
    let Some(value) = headers.get(HeaderId::Connection) else { return true };
    if value.split(|&b| b == b',').filter(|token| !token.is_empty()).count() > MAX_CONNECTION_TOKENS {
        return false;
    }
    let is_plain = |t: &[u8]| [&b"close"[..], b"keep-alive"].iter().any(|p| t.eq_ignore_ascii_case(p));
    if tokens(value).all(is_plain) {
        return true;
    }
    let nominated: Vec<Vec<u8>> = tokens(value).map(<[u8]>::to_ascii_lowercase).collect();
    for name in nominated {
        match name.as_slice() {
            b"close" | b"keep-alive" | b"upgrade" | b"http2-settings" | b"connection" => {}
            b"x-forwarded-for" | b"x-forwarded-host" | b"x-forwarded-proto" => return false,
            [b':', ..] => return false,
            b"te" => {
                if !sanitize_nominated_te(headers) {
                    return false;
                }
            }
            b"host" => headers.remove(HeaderId::Authority),
            name => headers.remove_by_name(name),
        }
    }
    true
}

/// Of a TE that Connection names only `trailers` is kept; false if it is too long.
fn sanitize_nominated_te(headers: &mut HeaderMap) -> bool {
    let te = headers.get(HeaderId::Te).unwrap_or_default();
    if te.len() > MAX_NOMINATED_TE {
        return false;
    }
    if tokens(te).any(|token| token.eq_ignore_ascii_case(b"trailers")) {
        headers.set(HeaderId::Te, b"trailers");
    } else {
        headers.remove(HeaderId::Te);
    }
    true
}

/// Whether the connection is to close behind the response: HTTP/1.0 closes unless it is asked not to, and always where
/// Transfer-Encoding leaves the framing of its request in doubt (RFC 9112 section 6.1).
pub fn should_close_connection(protocol: Protocol, headers: &HeaderMap) -> bool {
    let names = |id, token| has_token(headers.get(id), token);
    let by_connection = match protocol {
        Protocol::Http10 => {
            !names(HeaderId::Connection, "keep-alive") || headers.has(HeaderId::TransferEncoding)
        }
        _ => names(HeaderId::Connection, "close"),
    };
    by_connection || names(HeaderId::ProxyConnection, "close")
}

/// Whether a gRPC response that ends with these headers, or trailers, was served: its status stands
/// for no HTTP server error.
pub fn is_grpc_success(end: &HeaderMap) -> bool {
    grpc_status(end).is_some_and(|status| grpc_to_http_status(status) < 500)
}

/// The gRPC status that a response has, if any; what is no number is none that is known.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    Some(headers.get_str(HeaderId::GrpcStatus)?.parse().unwrap_or(u32::MAX))
}

/// The HTTP status that stands for a gRPC status.
pub fn grpc_to_http_status(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Whether the request's content type is gRPC's.
pub fn has_grpc_content_type(headers: &HeaderMap) -> bool {
    headers
        .get(HeaderId::ContentType)
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'+')
}

/// The gRPC status that stands for an HTTP status in a local reply.
pub fn http_to_grpc_status(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encodes what may not stand in a gRPC message: everything but printable ASCII without `%`.
pub fn percent_encode(text: &[u8]) -> Vec<u8> {
    percent::encode(text, |byte| (0x20..0x7f).contains(&byte) && byte != b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_tokens() {
        let mut h = HeaderMap::new();
        h.add("connection", b"Keep-Alive, Upgrade ,, HTTP2-Settings");
        h.add("upgrade", b"h2c");
        assert!(is_upgrade(&h));
        remove_connection_tokens(&mut h, &["upgrade", "http2-settings"]);
        assert_eq!(h.get(HeaderId::Connection), Some(&b"Keep-Alive"[..]));
        remove_connection_tokens(&mut h, &["keep-alive"]);
        assert!(!h.has(HeaderId::Connection));
        assert!(!is_upgrade(&h));
    }

    /// What is left of a request with these fields; `None` where Connection is refused.
    fn sanitized(fields: &[(&str, &str)]) -> Option<String> {
        let mut h = HeaderMap::new();
        fields.iter().for_each(|(name, value)| h.add(name, value.as_bytes()));
        if !sanitize_connection(&mut h) {
            return None;
        }
        h.remove(HeaderId::Connection);
        Some(h.iter().map(|(n, v)| format!("{}={} ", n.escape_ascii(), v.escape_ascii())).collect())
    }

    #[test]
    fn what_connection_names_is_removed() {
        let with = |connection: &str| sanitized(&[("connection", connection), ("foo", "1"), ("bar", "2")]);
        for (connection, left) in [
            ("close", "foo=1 bar=2 "),
            ("FOO\t,, close", "bar=2 "),
            ("foo,bar", ""),
            ("connection, close", "foo=1 bar=2 "),
            ("a,,,,,,,,,,,foo", "bar=2 "),
            ("a,b,c,d,e,f,g,h,foo", "bar=2 "),
            ("foo;x", "foo=1 bar=2 "),
        ] {
            assert_eq!(with(connection).as_deref(), Some(left), "{connection}");
        }
        let ten = "close,close,close,close,close,close,close,close,close,close";
        for refused in
            ["a,b,c,d,e,f,g,h,i,j", ten, "X-Forwarded-For", "x-forwarded-host", "x-forwarded-proto", ":a"]
        {
            assert_eq!(with(refused), None, "{refused}");
        }
    }

    #[test]
    fn of_a_te_that_connection_names_trailers_is_kept() {
        let with = |te: &str| sanitized(&[("connection", "te"), ("te", te)]);
        for te in ["trailers", "TRAILERS", "gzip,\tTrailers ,x", ", trailers"] {
            assert_eq!(with(te).as_deref(), Some("te=trailers "), "{te}");
        }
        for te in ["gzip", "trailers;q=1", "", &"a".repeat(255)] {
            assert_eq!(with(te).as_deref(), Some(""), "{te}");
        }
        assert_eq!(with(&format!("trailers,{}", "a".repeat(247))), None);
        assert_eq!(
            sanitized(&[("connection", "close"), ("te", "TRAILERS")]).as_deref(),
            Some("te=TRAILERS ")
        );
    }

    #[test]
    fn who_asks_for_a_close() {
        let closes = |protocol, name: &str, value: &str| {
            let mut h = HeaderMap::new();
            h.add(name, value.as_bytes());
            should_close_connection(protocol, &h)
        };
        let (new, old) = (Protocol::Http11, Protocol::Http10);
        assert!(closes(new, "connection", "x, Close"));
        assert!(closes(new, "proxy-connection", "keep-alive,,close"));
        assert!(!closes(new, "connection", "close;x"));
        assert!(closes(old, "connection", "x"));
        assert!(!closes(old, "connection", "close, Keep-Alive"));
        let mut h = HeaderMap::new();
        h.add("connection", b"keep-alive");
        h.add("proxy-connection", b"close");
        assert!(should_close_connection(old, &h));
        h.remove(HeaderId::ProxyConnection);
        h.add("transfer-encoding", b"chunked");
        assert!(should_close_connection(old, &h));
    }

    #[test]
    fn grpc() {
        let mut h = HeaderMap::new();
        assert!(!has_grpc_content_type(&h));
        for (value, is) in
            [("application/grpc", true), ("application/grpc+proto", true), ("application/grpc-web", false)]
        {
            h.set(HeaderId::ContentType, value.as_bytes());
            assert_eq!(has_grpc_content_type(&h), is, "{value}");
        }
        assert_eq!((grpc_status(&h), is_grpc_success(&h)), (None, false));
        for (value, status, http) in [("0", 0, 200), ("14", 14, 503), ("12", 12, 501), ("x", u32::MAX, 500)] {
            h.set(HeaderId::GrpcStatus, value.as_bytes());
            assert_eq!((grpc_status(&h), grpc_to_http_status(status)), (Some(status), http));
            assert_eq!(is_grpc_success(&h), http < 500, "{value}");
        }
        assert_eq!(http_to_grpc_status(503), 14);
        assert_eq!(http_to_grpc_status(418), 2);
        assert_eq!(percent_encode("a%\n é".as_bytes()), b"a%25%0A %C3%A9");
    }
}
