//! Bytes as expectations: short names for what occurs in almost every one, and the few values that differ
//! from run to run taken out.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

/// Answer to a request that the upstream served with `ok`.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{S}\r\nok";
/// Answer of the route `/direct`.
pub const DIRECT: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n{DS}\r\ndirect";
/// Answer to what the codec refuses.
pub const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\n\
    content-type: text/plain\r\n{DS}connection: close\r\n\r\nBad Request";
/// Answer to what the connection manager refuses.
pub const EMPTY_BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n";
/// Answer to a head with too many bytes or fields.
pub const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 31\r\n\
    content-type: text/plain\r\n{DS}connection: close\r\n\r\nRequest Header Fields Too Large";
/// Answer to a version other than 1.1.
pub const UPGRADE_REQUIRED: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 16\r\n\
    content-type: text/plain\r\n{DS}connection: close\r\n\r\nUpgrade Required";
/// Answer to an unknown transfer encoding.
pub const NOT_IMPLEMENTED: &[u8] = b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 15\r\n\
    content-type: text/plain\r\n{DS}connection: close\r\n\r\nNot Implemented";
/// Answer when the upstream's answer is none.
pub const PROTOCOL_ERROR: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 87\r\n\
    content-type: text/plain\r\n{DS}\r\nupstream connect error or disconnect/reset before headers. \
    reset reason: protocol error";
/// Answer when the upstream closes before its answer.
pub const CONNECTION_TERMINATED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 95\r\n\
    content-type: text/plain\r\n{DS}\r\nupstream connect error or disconnect/reset before headers. \
    reset reason: connection termination";

/// What a proxy on this machine writes for itself in the place of a loopback peer.
static LOCAL_ADDRESS: LazyLock<Ipv4Addr> = LazyLock::new(|| {
    let interfaces = getifaddrs().expect("the machine's interfaces");
    interfaces
        .filter(|i| i.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|i| i.address?.as_sockaddr_in().map(|a| a.ip()))
        .find(|ip| !ip.is_loopback())
        .unwrap_or(Ipv4Addr::LOCALHOST)
});

/// Replaces the short names in an expectation:
/// `{X}` the fields that every request to an upstream gets, `{S}` those that every answer of an upstream
/// gets, `{DS}` date and server, `{LOCAL}` the machine's own address.
pub fn expand(text: &[u8]) -> Vec<u8> {
    let local = LOCAL_ADDRESS.to_string();
    let names: [(&[u8], &[u8]); 4] = [
        (
            b"{X}",
            b"x-forwarded-proto: http\r\nx-request-id: <ID>\r\nx-envoy-expected-rq-timeout-ms: 15000\r\n",
        ),
        (b"{S}", b"x-envoy-upstream-service-time: <T>\r\ndate: <D>\r\nserver: envoy\r\n"),
        (b"{DS}", b"date: <D>\r\nserver: envoy\r\n"),
        (b"{LOCAL}", local.as_bytes()),
    ];
    let mut result = Vec::with_capacity(text.len() * 2);
    let mut rest = text;
    'outer: while !rest.is_empty() {
        for (name, value) in names {
            if let Some(after) = rest.strip_prefix(name) {
                result.extend_from_slice(value);
                rest = after;
                continue 'outer;
            }
        }
        result.push(rest[0]);
        rest = &rest[1..];
    }
    result
}

/// Takes out what differs from run to run: the values of date and of the upstream's service time, request ids that are
/// UUIDs, and what is left of an hour, or of half of one.
pub fn normalize(bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let name = line.iter().position(|&b| b == b':').unwrap_or(line.len());
        // Names are told as they are written.
        let known = [&line[..name].to_ascii_lowercase(), &line[name..]].concat();
        result.extend_from_slice(&line[..name]);
        let replaced = known.strip_suffix(b"\r\n").and_then(normal_line);
        result.extend_from_slice(replaced.map_or(&line[name..], |normal| &normal[name..]));
    }
    result
}

fn normal_line(line: &[u8]) -> Option<&'static [u8]> {
    if let Some(value) = line.strip_prefix(b"date: ") {
        return (value.len() == 29 && value.ends_with(b" GMT")).then_some(b"date: <D>\r\n");
    }
    if let Some(value) = line.strip_prefix(b"x-envoy-upstream-service-time: ") {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        return digits.then_some(b"x-envoy-upstream-service-time: <T>\r\n");
    }
    for (name, hour, half) in [
        (
            &b"x-ratelimit-reset: "[..],
            &b"x-ratelimit-reset: <HOUR>\r\n"[..],
            &b"x-ratelimit-reset: <HALF>\r\n"[..],
        ),
        (b"retry-after: ", b"retry-after: <HOUR>\r\n", b"retry-after: <HALF>\r\n"),
    ] {
        if let Some(value) = line.strip_prefix(name) {
            return match std::str::from_utf8(value).ok()?.parse().ok()? {
                3500..=3600_u32 => Some(hour),
                1700..=1800 => Some(half),
                _ => None,
            };
        }
    }
    let value = line.strip_prefix(b"x-request-id: ")?;
    let groups: Vec<usize> = value.split(|&b| b == b'-').map(<[u8]>::len).collect();
    let uuid = groups == [8, 4, 4, 4, 12] && value.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    uuid.then_some(b"x-request-id: <ID>\r\n")
}

/// Bytes as one can read them in a message, long runs of one byte shortened.
pub fn printable(bytes: &[u8]) -> String {
    let mut result = String::new();
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|&&b| b == first).count();
        let (shown, note) = if run > 40 { (1, format!("*{run}")) } else { (run, String::new()) };
        for _ in 0..shown {
            result.extend(first.escape_ascii().map(char::from));
        }
        result.push_str(&note);
        rest = &rest[run..];
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{expand, normalize, printable};

    #[test]
    fn only_what_differs_from_run_to_run_is_taken_out() {
        let id = "x-request-id: 00112233-4455-6677-8899-aabbccddeeff\r\n";
        let text = format!(
            "date: Mon, 23 Nov 2026 02:43:36 GMT\r\nx-envoy-upstream-service-time: 17\r\n{id}server: envoy\r\n"
        );
        assert_eq!(
            normalize(text.as_bytes()),
            expand(
                b"date: <D>\r\nx-envoy-upstream-service-time: <T>\r\nx-request-id: <ID>\r\nserver: envoy\r\n"
            )
        );
        for kept in
            ["date: a,b\r\n", "x-request-id: abc\r\n", "x-envoy-upstream-service-time: \r\n", "date: "]
        {
            assert_eq!(normalize(kept.as_bytes()), kept.as_bytes());
        }
    }

    #[test]
    fn short_names_stand_for_fields() {
        assert_eq!(expand(b"a{DS}{x}"), b"adate: <D>\r\nserver: envoy\r\n{x}");
    }

    #[test]
    fn long_runs_are_shown_shortened() {
        assert_eq!(printable(&[b"ab".as_slice(), &[b'c'; 50], b"\r\n"].concat()), "abc*50\\r\\n");
    }
}
