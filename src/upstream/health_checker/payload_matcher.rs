//! What has to be in an answer.
//!
//! Mirrors `PayloadMatcher` of Envoy's `source/common/upstream/health_checker_impl.cc` (1.1: `TcpHealthCheckMatcher`).

use crate::config::health_check::Payload;

/// Whether all segments are in `data`, one behind the other, whatever is between them.
pub(super) fn matches(segments: &[Payload], mut data: &[u8]) -> bool {
    segments.iter().all(|Payload(segment)| match memchr::memmem::find(data, segment) {
        Some(at) => {
            data = &data[at + segment.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_found_in_their_order() {
        let segments = |parts: &[&str]| -> Vec<Payload> {
            parts.iter().map(|part| Payload(part.as_bytes().into())).collect()
        };
        for (parts, data, found) in [
            (&["ab", "c"][..], "xabxxcx", true),
            (&["ab", "c"], "abc", true),
            (&["ab", "c"], "cab", false),
            (&["ab", "b"], "ab", false),
            (&["ab", "ab"], "abab", true),
            (&["ab", "ab"], "aab", false),
            (&["ab"], "a", false),
            (&[""], "", true),
            (&[], "a", true),
        ] {
            assert_eq!(matches(&segments(parts), data.as_bytes()), found, "{parts:?} in {data}");
        }
    }
}
