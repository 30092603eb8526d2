//! Small rules about messages. Mirrors Envoy's `source/common/http/utility.cc`.

use super::{HeaderId, HeaderMap};

/// The tokens of a comma-separated value, trimmed, empty ones left out.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(|token| token.trim_ascii()).filter(|token| !token.is_empty())
}

/// Whether a comma-separated value has `token` (in any case).
pub fn has_token(value: Option<&[u8]>, token: &str) -> bool {
    value.is_some_and(|value| tokens(value).any(|t| t.eq_ignore_ascii_case(token.as_bytes())))
}

/// Whether the Connection header names `token` (in any case).
pub fn connection_has_token(headers: &HeaderMap, token: &str) -> bool {
    has_token(headers.get(HeaderId::Connection), token)
}

/// Whether the message asks for, or grants, a change of protocol.
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

/// Whether a request target is an absolute URL of some scheme.
pub fn has_scheme(url: &[u8]) -> bool {
    url.windows(3)
        .position(|w| w == b"://")
        .is_some_and(|at| at > 0 && url[..at].iter().all(u8::is_ascii_alphabetic))
}

/// Whether a gRPC response that ends with these headers, or trailers, was served: its status stands
/// for no HTTP server error.
pub fn is_grpc_success(end: &HeaderMap) -> bool {
    let status = end.get_str(HeaderId::GrpcStatus).and_then(|s| s.parse::<u32>().ok());
    matches!(status, Some(0 | 1 | 3 | 5..=11 | 16))
}

/// Whether an absolute URL is one of http or https.
pub fn is_http_url(url: &[u8]) -> bool {
    let is = |scheme: &[u8]| url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    is(b"http://") || is(b"https://")
}

/// Splits `http://authority/path` into authority, without user information, and path; a missing
/// path is `/`, and one that starts with its query stays so.
pub fn split_absolute_url(url: &[u8]) -> Option<(&[u8], &[u8])> {
    if !is_http_url(url) {
        return None;
    }
    let scheme_end = url.windows(3).position(|w| w == b"://")?;
    let rest = &url[scheme_end + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.iter().rposition(|&b| b == b'@').map_or(authority, |at| &authority[at + 1..]);
    if authority.is_empty() || !port_is_valid(authority) {
        return None;
    }
    match path.first() {
        None => Some((authority, b"/")),
        Some(b'#') => None,
        Some(_) => Some((authority, path)),
    }
}

fn port_is_valid(authority: &[u8]) -> bool {
    let host_end = authority.iter().rposition(|&b| b == b']').unwrap_or(0);
    match authority[host_end..].iter().rposition(|&b| b == b':') {
        None => true,
        Some(colon) => {
            let port = &authority[host_end + colon + 1..];
            std::str::from_utf8(port).is_ok_and(|p| p.parse::<u16>().is_ok())
        }
    }
}

/// Whether the target of a CONNECT is `host:port`.
pub fn is_host_and_port(target: &[u8]) -> bool {
    let host_end = target.iter().rposition(|&b| b == b']').unwrap_or(0);
    let Some(colon) = target[host_end..].iter().position(|&b| b == b':').map(|c| c + host_end) else {
        return false;
    };
    colon > 0
        && !target.contains(&b'@')
        && (!target.starts_with(b"[") || host_end > 0)
        && std::str::from_utf8(&target[colon + 1..]).is_ok_and(|port| port.parse::<u16>().is_ok())
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
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Decodes percent-encoded unreserved characters (RFC 3986 section 2.3); all else stays as it is.
pub fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let digit = |i: usize| path.get(at + i).and_then(|&d| (d as char).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) if is_unreserved((high * 16 + low) as u8) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Removes `.` and `..` segments from an absolute path (RFC 3986 section 5.2.4).
pub fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&b| b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    out.pop();
                }
                if last {
                    out.push(b"");
                }
            }
            other => out.push(other),
        }
    }
    let mut joined = Vec::with_capacity(path.len());
    for segment in &out {
        joined.push(b'/');
        joined.extend_from_slice(segment);
    }
    if joined.is_empty() {
        joined.push(b'/');
    }
    joined
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

    #[test]
    fn absolute_urls() {
        let split = |url: &'static str| {
            split_absolute_url(url.as_bytes())
                .map(|(a, p)| (std::str::from_utf8(a).unwrap(), std::str::from_utf8(p).unwrap()))
        };
        assert_eq!(split("http://a/b?c"), Some(("a", "/b?c")));
        assert_eq!(split("HTTPS://a:1"), Some(("a:1", "/")));
        assert_eq!(split("http://u:p@a:81/y"), Some(("a:81", "/y")));
        assert_eq!(split("http://a?x"), Some(("a", "?x")));
        assert_eq!(split("http://[::1]/z"), Some(("[::1]", "/z")));
        for bad in ["ftp://a/", "http:///x", "a/b", "http://a#x", "http://a:99999/", "http://a:x/"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn connect_targets() {
        for good in ["a:80", "[::1]:80"] {
            assert!(is_host_and_port(good.as_bytes()), "{good}");
        }
        for bad in ["a", "/x", "*", "http://b/", "a:443/x", "a:x", "[::1", "u@a:80", ":80", ""] {
            assert!(!is_host_and_port(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn paths_are_normalized() {
        let dots = |p: &str| String::from_utf8(remove_dot_segments(p.as_bytes())).unwrap();
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a//b/", "/a//b/"),
        ] {
            assert_eq!(dots(path), expected, "{path}");
        }
        let decode = |p: &str| String::from_utf8(decode_unreserved(p.as_bytes())).unwrap();
        assert_eq!(decode("/%41%2f%7E%"), "/A%2f~%");
        assert_eq!(decode("/%4/%zz%00"), "/%4/%zz%00");
        assert_eq!(percent_encode("a%\n é"), "a%25%0A %C3%A9");
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
        assert_eq!(http_to_grpc_status(503), 14);
        assert_eq!(http_to_grpc_status(418), 2);
    }
}
