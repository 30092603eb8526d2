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

/// Decodes percent-encoded unreserved characters (RFC 3986 section 2.3); other escapes stay, with
/// upper-case digits.
///
/// # Errors
/// A `%` without two hexadecimal digits, or an escaped NUL.
pub fn decode_unreserved(path: &[u8]) -> Result<Vec<u8>, ()> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|&d| (d as char).to_digit(16)).ok_or(());
        let decoded = (digit()? * 16 + digit()?) as u8;
        match decoded {
            0 => return Err(()),
            b'-' | b'.' | b'_' | b'~' => out.push(decoded),
            d if d.is_ascii_alphanumeric() => out.push(d),
            d => out.extend_from_slice(format!("%{d:02X}").as_bytes()),
        }
    }
    Ok(out)
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
        for bad in ["ftp://a/", "http:///x", "http://u@a/", "a/b", "http://a?x"] {
            assert_eq!(split(bad), None, "{bad}");
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
        let decode = |p: &str| decode_unreserved(p.as_bytes()).map(|v| String::from_utf8(v).unwrap());
        assert_eq!(decode("/%41%2f%7E"), Ok("/A%2F~".to_string()));
        for bad in ["/%", "/%4", "/%zz", "/%00"] {
            assert_eq!(decode(bad), Err(()), "{bad}");
        }
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
