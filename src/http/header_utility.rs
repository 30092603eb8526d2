//! Whether headers are as a configuration wants them.
//!
//! Mirrors Envoy's `source/common/http/header_utility.cc`, with what 1.40 says of headers that are absent.

use std::borrow::Cow;

use super::HeaderMap;
use crate::config::header_matcher::{HeaderMatch, HeaderMatcher, Place, StringMatcher};

/// Whether the headers are as `matcher` wants them. Of a header that comes several times one value has to be.
pub fn match_header(headers: &HeaderMap, matcher: &HeaderMatcher) -> bool {
    let values = || headers.get_all(&matcher.name);
    let is_there = matcher.treat_missing_as_empty || values().next().is_some();
    let is_match = match &matcher.matches {
        HeaderMatch::Present(wanted) => *wanted == is_there,
        // What is not there is nothing else either.
        _ if !is_there => return false,
        matches if values().next().is_none() => match_value(b"", matches),
        matches => values().any(|value| match_value(value, matches)),
    };
    is_match != matcher.invert
}

fn match_value(value: &[u8], matches: &HeaderMatch) -> bool {
    match matches {
        HeaderMatch::Present(wanted) => *wanted,
        HeaderMatch::Range { start, end } => {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
            number.is_some_and(|number| (*start..*end).contains(&number))
        }
        HeaderMatch::String(string) => match_string(value, string),
    }
}

fn match_string(value: &[u8], matcher: &StringMatcher) -> bool {
    let value = if matcher.ignore_case { value.to_ascii_lowercase().into() } else { Cow::Borrowed(value) };
    let text = matcher.text.as_bytes();
    match matcher.place {
        Place::Whole => *value == *text,
        Place::Start => value.starts_with(text),
        Place::End => value.ends_with(text),
        Place::Anywhere => memchr::memmem::find(&value, text).is_some(),
    }
}
