//! [`HeaderOperator`]: `%REQ(...)%`, `%RESP(...)%`, `%TRAILER(...)%`.
//!
//! Mirrors `HeaderFormatter` of Envoy 1.40's `source/common/formatter/http_specific_formatter.cc`.

use super::command_parser::Written;
use super::context::Context;
use crate::http::HeaderName;

/// Which headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeaderSource {
    Request,
    Response,
    ResponseTrailers,
}

impl HeaderSource {
    /// The source that an operator of that name reads.
    pub(super) fn find(operator: &str) -> Option<HeaderSource> {
        match operator {
            "REQ" | "REQUEST_HEADER" => Some(HeaderSource::Request),
            "RESP" | "RESPONSE_HEADER" => Some(HeaderSource::Response),
            "TRAILER" | "RESPONSE_TRAILER" => Some(HeaderSource::ResponseTrailers),
            _ => None,
        }
    }
}

/// A header, or another when that one is absent, cut to a length.
#[derive(Debug)]
pub(super) struct HeaderOperator {
    source: HeaderSource,
    main: HeaderName,
    alternative: HeaderName,
    /// In bytes.
    max_length: Option<usize>,
}

impl HeaderOperator {
    /// Reads `MAIN` or `MAIN?ALTERNATIVE`, in any case.
    ///
    /// # Errors
    /// There is a second alternative, or a name is not that of a header.
    pub(super) fn new(
        source: HeaderSource,
        names: &str,
        max_length: Option<usize>,
    ) -> Result<HeaderOperator, String> {
        let (main, alternative) = names.split_once('?').unwrap_or((names, ""));
        if alternative.contains('?') {
            return Err(format!("More than 1 alternative header specified in token: {names}"));
        }
        Ok(HeaderOperator {
            source,
            main: header_name(main)?,
            alternative: header_name(alternative)?,
            max_length,
        })
    }

    /// Appends the value of the first header found.
    pub(super) fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        let headers = match self.source {
            HeaderSource::Request => context.request_headers,
            HeaderSource::Response => context.response_headers,
            HeaderSource::ResponseTrailers => context.response_trailers,
        };
        let find = |headers| self.main.find(headers).or_else(|| self.alternative.find(headers));
        let Some(value) = headers.and_then(find) else { return Written::Nothing };
        let length = self.max_length.map_or(value.len(), |max| value.len().min(max));
        line.extend_from_slice(&value[..length]);
        Written::Text
    }
}

/// The name of a header; the empty name names nothing.
fn header_name(name: &str) -> Result<HeaderName, String> {
    let bare = name.strip_prefix(':').unwrap_or(name);
    if !bare.bytes().all(is_token) || (bare.is_empty() && !name.is_empty()) {
        return Err("Invalid header configuration. Format string contains invalid characters.".to_string());
    }
    Ok(HeaderName::new(name))
}

/// Whether the byte may be in a header name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
