//! [`Formatter`]: makes lines from a format that was parsed once.
//!
//! Mirrors `FormatterImpl` of Envoy 1.40's `source/common/formatter/substitution_formatter.cc`.

use super::format_parser::{self, Piece};
use super::operator::Context;
use crate::http::HeaderMap;
use crate::stream_info::StreamInfoImpl;

/// The format of an access log that has none of its own.
pub const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQUEST_HEADER(:METHOD)% \
    %REQUEST_HEADER(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESPONSE_HEADER(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQUEST_HEADER(X-FORWARDED-FOR)%\" \"%REQUEST_HEADER(USER-AGENT)%\" \
    \"%REQUEST_HEADER(X-REQUEST-ID)%\" \"%REQUEST_HEADER(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A parsed format string.
#[derive(Debug)]
pub struct Formatter {
    pieces: Vec<Piece>,
}

impl Formatter {
    /// Parses a format. Nothing is added to it, so a line ends only if the format says so.
    ///
    /// # Errors
    /// Envoy's text for what is wrong.
    pub fn new(format: &str) -> Result<Formatter, String> {
        Ok(Formatter { pieces: format_parser::parse(format)? })
    }

    /// Appends the line of a stream; `-` stands for what is absent.
    pub fn format(
        &self,
        line: &mut Vec<u8>,
        request_headers: Option<&HeaderMap>,
        response_headers: Option<&HeaderMap>,
        response_trailers: Option<&HeaderMap>,
        info: &StreamInfoImpl,
    ) {
        let context = Context { request_headers, response_headers, response_trailers, info };
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
                Piece::Operator(operator) => {
                    if !operator.write(line, &context) {
                        line.push(b'-');
                    }
                }
            }
        }
    }
}
