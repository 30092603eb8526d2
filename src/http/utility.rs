//! Small rules about messages. Mirrors Envoy's `source/common/http/utility.cc`.

use super::{HeaderId, HeaderMap};

/// The tokens of a comma-separated value, trimmed, empty ones left out.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(|token| token.trim_ascii()).filter(|token| !token.is_empty())
}

/// Whether the Connection header names `token` (in any case).
pub fn connection_has_token(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get(HeaderId::Connection)
        .is_some_and(|value| tokens(value).any(|t| t.eq_ignore_ascii_case(token.as_bytes())))
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

/// Splits `http://authority/path` into authority and path; a missing path is `/`.
pub fn split_absolute_url(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let scheme_end = url.windows(3).position(|w| w == b"://")?;
    let scheme = &url[..scheme_end];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = &url[scheme_end + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || authority.contains(&b'@') {
        return None;
    }
    match path.first() {
        None => Some((authority, b"/")),
        Some(b'/') => Some((authority, path)),
        Some(_) => None,
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
        for bad in ["ftp://a/", "http:///x", "http://u@a/", "a/b", "http://a?x"] {
            assert_eq!(split(bad), None, "{bad}");
        }
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
