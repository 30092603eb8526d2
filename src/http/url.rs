//! Request targets that are no paths (RFC 9112 section 3.2).
//!
//! Mirrors `Utility::Url` of Envoy's `source/common/http/utility.cc`, which decides what has a host; the rules, and those
//! for what a parser lets through at all, are those of 1.40.

use std::net::IpAddr;

/// Whether a text has only what may stand in an authority (RFC 3986 section 3.2), Envoy's word for it.
#[inline]
pub fn has_authority_bytes(text: &[u8]) -> bool {
    let is_one = |byte: &u8| AUTHORITY_BYTES[usize::from(*byte)];
    let are_all = |bytes: &[u8; 8]| bytes.iter().fold(true, |all, byte| all & is_one(byte));
    match text.last_chunk() {
        // They may have some of what is in the last of those that are eight behind eight.
        Some(last) => are_all(last) && text.as_chunks().0.iter().all(are_all),
        None => text.iter().all(is_one),
    }
}

static AUTHORITY_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=:@[]%";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

/// Where the authority of an absolute URL begins: behind its scheme.
fn authority_start(url: &[u8]) -> Option<usize> {
    let scheme = url.windows(3).position(|w| w == b"://")?;
    let (first, rest) = url[..scheme].split_first()?;
    let in_scheme = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (first.is_ascii_alphabetic() && rest.iter().all(in_scheme)).then_some(scheme + 3)
}

fn authority_end(rest: &[u8]) -> usize {
    rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len())
}

/// Whether a target of graphic characters can be one: a path, `*`, an absolute URL, or, of a CONNECT, an
/// authority.
pub fn is_valid(target: &[u8], is_connect: bool) -> bool {
    if matches!(target.first(), None | Some(b'/' | b'*')) {
        return !target.is_empty();
    }
    let Some(start) = (if is_connect { Some(0) } else { authority_start(target) }) else { return false };
    let authority = &target[start..][..authority_end(&target[start..])];
    has_authority_bytes(authority) && !authority.windows(2).any(|w| w == b"@@")
}

/// Splits an absolute URL into authority, without user information, and path; a missing path is `/`, and
/// one that starts with its query stays so.
pub fn split_absolute(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = &url[authority_start(url)?..];
    let (authority, path) = rest.split_at(authority_end(rest));
    let host_and_port = match authority.iter().position(|&b| b == b'@') {
        None => authority,
        Some(at) if is_user_information(&authority[..at]) => &authority[at + 1..],
        Some(_) => return None,
    };
    let path = if path.is_empty() { b"/" } else { path };
    split_host_and_port(host_and_port).map(|_| (host_and_port, path))
}

/// Whether this may be where a link stood: an absolute URL without user information, or a reference relative to one; nothing
/// of a page but the page (Envoy: `Utility::isValidRefererValue`).
pub fn is_valid_referer(value: &[u8]) -> bool {
    if let Some((_, path)) = split_absolute(value) {
        let start = authority_start(value).unwrap_or(0);
        let authority = &value[start..][..authority_end(&value[start..])];
        return !authority.contains(&b'@') && !path.contains(&b'#');
    }
    let first_segment = value.split(|&b| b == b'/').next().unwrap_or_default();
    let in_reference = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/?".contains(b);
    !first_segment.contains(&b':') && value.iter().all(in_reference)
}

/// The scheme of an absolute URL, if it is one that is served.
pub fn http_scheme(url: &[u8]) -> Option<&'static str> {
    let is = |scheme: &&str| {
        let rest = url.get(..scheme.len()).filter(|s| s.eq_ignore_ascii_case(scheme.as_bytes()));
        rest.is_some() && url[scheme.len()..].starts_with(b"://")
    };
    ["http", "https"].into_iter().find(is)
}

/// Whether the target of a CONNECT is `host:port`.
pub fn is_host_and_port(target: &[u8]) -> bool {
    split_host_and_port(target).is_some_and(|(_, port)| port.is_some())
}

fn is_user_information(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()%;:&=+$,".contains(b))
}

/// Splits `host:port`, `[v6]:port` and the same without a port; the host must be one.
fn split_host_and_port(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = match authority.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|&b| b == b']')?;
            if !is_address(&rest[..end]) {
                return None;
            }
            end + 2
        }
        None => authority.iter().position(|&b| b == b':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if host.is_empty() || !(host.starts_with(b"[") || host.iter().all(is_name)) {
        return None;
    }
    match rest.split_first() {
        None => Some((host, None)),
        Some((b':', port)) if !port.is_empty() && port.iter().all(u8::is_ascii_digit) => {
            let port = std::str::from_utf8(port).ok()?.parse().ok()?;
            Some((host, Some(port)))
        }
        Some(_) => None,
    }
}

/// Whether an address stands between brackets; Envoy takes either kind there.
fn is_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_no_parser_takes() {
        for good in
            ["/", "*", "/a\"b<c>", "*x", "http://a", "ftp+x-.1://a/", "http://a,b_c~[d]@e%f/\"#<>", "a://"]
        {
            assert!(is_valid(good.as_bytes(), false), "{good}");
        }
        for bad in ["", "a", "a/b", "://a", "1a://b", "a_b://c", "http:/a/b", "http://a@@b/"] {
            assert!(!is_valid(bad.as_bytes(), false), "{bad}");
        }
        for odd in b"\"<>\\^`{|}#" {
            let url = [b"http://a", &[*odd][..], b"b/x"].concat();
            assert!(!is_valid(&url, false), "{}", url.escape_ascii());
            let target = [b"a", &[*odd][..], b"b:80"].concat();
            assert!(!is_valid(&target, true), "{}", target.escape_ascii());
        }
        assert!(is_valid(b"a:80", true));
    }

    #[test]
    fn absolute_urls() {
        let split = |url: &'static str| {
            split_absolute(url.as_bytes())
                .map(|(a, p)| (std::str::from_utf8(a).unwrap(), std::str::from_utf8(p).unwrap()))
        };
        assert_eq!(split("http://a/b?c"), Some(("a", "/b?c")));
        assert_eq!(split("HTTPS://a:1"), Some(("a:1", "/")));
        assert_eq!(split("http://u:p@a:81/y"), Some(("a:81", "/y")));
        assert_eq!(split("http://a?x"), Some(("a", "?x")));
        assert_eq!(split("http://@A-b.C/x#y"), Some(("A-b.C", "/x#y")));
        assert_eq!(split("http://[::1]/z"), Some(("[::1]", "/z")));
        assert_eq!(split("http://[::ffff:1.2.3.4]:8/z"), Some(("[::ffff:1.2.3.4]:8", "/z")));
        for bad in [
            "http:///x",
            "a/b",
            "http://a:99999/",
            "http://a:x/",
            "http://a:/",
            "http://:80/",
            "http://a:8:9/",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
        for bad in [
            "a_b",
            "a~b",
            "a%20b",
            "a,b",
            "a]b",
            "a[b",
            "[::1",
            "[]",
            "[zz]",
            "[::1]a",
            "[fe80::1%25a]",
            "[1:2]",
            "u@v@a",
        ] {
            assert_eq!(split_absolute(format!("http://{bad}/").as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn schemes() {
        for (url, scheme) in [
            ("HTTP://a/", Some("http")),
            ("https://a", Some("https")),
            ("httpx://a/", None),
            ("ftp://a/", None),
            ("http", None),
        ] {
            assert_eq!(http_scheme(url.as_bytes()), scheme, "{url}");
        }
    }

    #[test]
    fn connect_targets() {
        for good in ["a:80", "[::1]:80", "a.b-c:0"] {
            assert!(is_host_and_port(good.as_bytes()), "{good}");
        }
        for bad in
            ["a", "/x", "*", "http://b/", "a:443/x", "a:x", "[::1", "[::1]", "u@a:80", ":80", "a_b:80", ""]
        {
            assert!(!is_host_and_port(bad.as_bytes()), "{bad}");
        }
    }
}
