//! Whether headers are as a configuration wants them.
//!
//! Mirrors Envoy's `source/common/http/header_utility.cc`, with what 1.40 says of headers that are absent.

use super::{HeaderMap, HeaderName};
use crate::config::header_matcher::{self, HeaderMatch, StringMatcher};

/// What a header has to be, its name looked up (Envoy: `HeaderUtility::HeaderData`).
#[derive(Debug)]
pub struct HeaderMatcher {
    name: HeaderName,
    config: header_matcher::HeaderMatcher,
}

impl HeaderMatcher {
    /// As the configuration has it.
    pub fn new(config: &header_matcher::HeaderMatcher) -> Self {
        HeaderMatcher { name: HeaderName::new(&config.name), config: config.clone() }
    }

    /// Whether the headers are so; without any, all are absent. Of a header that comes several times one value has to be.
    pub fn matches(&self, headers: Option<&HeaderMap>) -> bool {
        let mut values = headers.into_iter().flat_map(|headers| self.name.values(headers)).peekable();
        let is_absent = values.peek().is_none();
        let is_there = !is_absent || self.config.treat_missing_as_empty;
        let is_match = match &self.config.matches {
            HeaderMatch::Present(wanted) => *wanted == is_there,
            // What is not there is nothing else either.
            _ if !is_there => return false,
            matches if is_absent => match_value(b"", matches),
            matches => values.any(|value| match_value(value, matches)),
        };
        is_match != self.config.invert
    }
}

fn match_value(value: &[u8], matches: &HeaderMatch) -> bool {
    match matches {
        HeaderMatch::Present(wanted) => *wanted,
        HeaderMatch::Range { start, end } => {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
            number.is_some_and(|number| (*start..*end).contains(&number))
        }
        HeaderMatch::String(string) => string.matches(value),
    }
}

/// Whether a text is as a configuration wants it.
pub fn match_string(value: &[u8], matcher: &StringMatcher) -> bool {
    matcher.matches(value)
}
/// Takes CR, LF and NUL out of `value` from `start` on: no field may have them, and what is made of what somebody has sent may.
pub fn drop_line_breaks(value: &mut Vec<u8>, start: usize) {
    let is_bad = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
    if memchr::memchr3(b'\r', b'\n', 0, &value[start..]).is_some() {
        let mut index = 0;
        value.retain(|byte| {
            index += 1;
            index <= start || !is_bad(*byte)
        });
    }
}
