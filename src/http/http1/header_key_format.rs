//! How the names of fields are written that are in lower case here.
//!
//! Mirrors `ProperCaseHeaderKeyFormatter` of Envoy's `source/common/http/http1/header_formatter.cc`, and of 1.40
//! `StatefulHeaderKeyFormatter` and the extension of
//! `source/extensions/http/header_formatters/preserve_case/preserve_case_formatter.cc`. Only letters change, so a head is
//! written as ever and gone over again where this is configured.

use std::rc::Rc;
use std::sync::Arc;

use super::fields::{Line, next_line};
use crate::buffer::Buffer;
use crate::config::HeaderKeyFormat;
use crate::config::extension::Factory;
use crate::config::reader::FromMessage;
use crate::http::{HeaderId, HeaderMap};

/// The way of writing names that remembers how they came.
pub static PRESERVE_CASE: Factory<HeaderKeyFormat> = Factory::new(
    "envoy.http.stateful_header_formatters.preserve_case",
    &["envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"],
    |r| Ok(Arc::new(HeaderKeyFormat::read(r)?)),
);

/// How the names in a head were written when it came, each as it was there first.
#[derive(Debug)]
pub(in crate::http) struct OriginalNames {
    names: Vec<Box<[u8]>>,
    /// Of a response, where it is passed on.
    reason_phrase: Box<[u8]>,
    /// Others are written with large first letters.
    others_in_proper_case: bool,
}

/// Notes how the names are written in `head`, which is sound, where that is wanted.
pub(super) fn remember(format: Option<HeaderKeyFormat>, head: &[u8], headers: &mut HeaderMap) {
    let Some(HeaderKeyFormat::PreserveCase { forward_reason_phrase, proper_case_on_envoy_headers }) = format
    else {
        return;
    };
    let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
    let (line, mut rest) = (head[..end].trim_ascii_end(), head.get(end + 1..).unwrap_or_default());
    let mut names: Vec<Box<[u8]>> = Vec::new();
    while let Ok(Line::Field { name, rest: behind, .. }) = next_line(rest) {
        if !names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            names.push(name.into());
        }
        rest = behind;
    }
    let is_response = headers.has(HeaderId::Status);
    let reason = line.splitn(3, |byte| *byte == b' ').nth(2).filter(|_| forward_reason_phrase && is_response);
    headers.set_original_names(Rc::new(OriginalNames {
        names,
        reason_phrase: reason.unwrap_or_default().into(),
        others_in_proper_case: proper_case_on_envoy_headers,
    }));
}

/// Writes the names in a head, which is all there is in `output`, as they are to be.
pub(super) fn apply(format: Option<HeaderKeyFormat>, headers: &HeaderMap, output: &mut Buffer) {
    let original = headers.original_names();
    let proper = match original {
        Some(original) => original.others_in_proper_case,
        None if format == Some(HeaderKeyFormat::ProperCaseWords) => true,
        None => return,
    };
    let mut head = output.to_vec();
    let mut at = memchr::memchr(b'\n', &head).map_or(head.len(), |end| end + 1);
    while let Some(colon) = memchr::memchr2(b':', b'\n', &head[at..]).filter(|end| head[at + end] == b':') {
        let name = &mut head[at..at + colon];
        let known =
            original.and_then(|original| original.names.iter().find(|n| n.eq_ignore_ascii_case(name)));
        match known {
            Some(known) => name.copy_from_slice(known),
            None if proper => to_proper_case(name),
            None => {}
        }
        at += memchr::memchr(b'\n', &head[at..]).map_or(head.len() - at, |end| end + 1);
    }
    output.clear();
    match original.map(|original| &*original.reason_phrase).filter(|reason| !reason.is_empty()) {
        // Behind the version and the code.
        Some(reason) => {
            let line_end = memchr::memchr(b'\r', &head).unwrap_or(head.len());
            output.add(&head[.."HTTP/1.1 200 ".len()]);
            output.add(reason);
            output.add(&head[line_end..]);
        }
        None => output.add(&head),
    }
}

/// The first letter becomes large, and each behind what is neither letter nor digit.
fn to_proper_case(name: &mut [u8]) {
    let mut is_first = true;
    for byte in name {
        if is_first {
            byte.make_ascii_uppercase();
        }
        is_first = !byte.is_ascii_alphanumeric();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_letters_begin_words() {
        for (name, expected) in
            [("content-length", "Content-Length"), ("x-1a--b", "X-1a--B"), ("te", "Te"), ("x_y.z", "X_Y.Z")]
        {
            let mut name = name.as_bytes().to_vec();
            to_proper_case(&mut name);
            assert_eq!(name, expected.as_bytes());
        }
    }
}
