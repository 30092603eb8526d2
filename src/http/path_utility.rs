//! Paths in their normal form.
//!
//! Mirrors Envoy's `source/common/http/path_utility.cc`; the rules are those of 1.40, with Chromium's
//! canonicalizer behind it (RFC 3986 section 6).

/// The normal form of a path without its query; `None` where there is none.
///
/// Parameters of dot segments (`..;x`) go, backslashes become slashes, percent-encoded unreserved characters
/// are decoded, characters that may not stand in a path are encoded, and dot segments are removed.
pub fn canonical_path(path: &[u8]) -> Option<Vec<u8>> {
    let mut plain = without_dot_parameters(path);
    plain.iter_mut().filter(|b| **b == b'\\').for_each(|b| *b = b'/');
    recode(&plain).map(|plain| remove_dot_segments(&plain))
}

/// Decodes percent-encoded slashes and backslashes; whether there were some.
pub fn unescape_slashes(path: &mut Vec<u8>) -> bool {
    let (mut from, mut to) = (0, 0);
    while from < path.len() {
        let slash = match path[from..] {
            [b'%', b'2', b'f' | b'F', ..] => Some(b'/'),
            [b'%', b'5', b'c' | b'C', ..] => Some(b'\\'),
            _ => None,
        };
        path[to] = slash.unwrap_or(path[from]);
        from += if slash.is_some() { 3 } else { 1 };
        to += 1;
    }
    path.truncate(to);
    from != to
}

/// Makes one slash of several.
pub fn merge_slashes(path: &mut Vec<u8>) {
    path.dedup_by(|b, a| *a == b'/' && *b == b'/');
}

fn without_dot_parameters(path: &[u8]) -> Vec<u8> {
    fn strip(segment: &[u8]) -> &[u8] {
        match segment {
            [b'.', b';', ..] => b".",
            [b'.', b'.', b';', ..] => b"..",
            other => other,
        }
    }
    path.split(|&b| b == b'/').map(strip).collect::<Vec<_>>().join(&b'/')
}

/// Decodes percent-encoded unreserved characters (RFC 3986 section 2.3) and encodes what may not stand plain; all
/// else stays as it is. An encoded NUL is refused.
fn recode(path: &[u8]) -> Option<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let digit = |i: usize| path.get(at + i).and_then(|&d| (d as char).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(0), Some(0)) => return None,
            (b'%', Some(high), Some(low)) if is_unreserved((high * 16 + low) as u8) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}', ..) => {
                out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
        at += 1;
    }
    Some(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Removes `.` and `..` segments from an absolute path (RFC 3986 section 5.2.4).
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
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
    fn paths_have_a_normal_form() {
        let canonical = |path: &str| canonical_path(path.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a//b/", "/a//b/"),
            ("/%41%2f%7E%", "/A%2f~%"),
            ("/%4/%zz", "/%4/%zz"),
            ("/a/%2E%2e/b", "/b"),
            ("/a\\..\\b", "/b"),
            ("/a\"<>^`{|}'[]b", "/a%22%3C%3E%5E%60%7B%7C%7D'[]b"),
            ("/a/..;/b", "/b"),
            ("/a/b/..;x=1%2f;/.;/c", "/a/c"),
            ("/a/..;x\\b", "/"),
            ("/a/..;", "/"),
            ("/a/...;/b;/;../%2e%2e;/..%3b", "/a/...;/b;/;../..;/..%3b"),
        ] {
            assert_eq!(canonical(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["/%00", "/a%00/..", "/.%00"] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }

    #[test]
    fn slashes_are_merged() {
        let mut path = b"//a///b/".to_vec();
        merge_slashes(&mut path);
        assert_eq!(path, b"/a/b/");
    }
}
