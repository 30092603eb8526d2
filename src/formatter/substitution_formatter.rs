//! [`Formatter`]: makes texts from a format that was parsed once.
//!
//! Mirrors `Formatter` of Envoy 1.40's `envoy/formatter/substitution_formatter_base.h` and `FormatterImpl` of
//! `source/common/formatter/substitution_formatter.cc`.

use std::sync::Arc;

use super::command_parser::{CommandParser, Written};
use super::context::Context;
use super::format_parser::{self, Piece};
use super::json_formatter::JsonFormatter;

/// The format of an access log that has none of its own.
pub const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQUEST_HEADER(:METHOD)% \
    %REQUEST_HEADER(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESPONSE_HEADER(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQUEST_HEADER(X-FORWARDED-FOR)%\" \"%REQUEST_HEADER(USER-AGENT)%\" \
    \"%REQUEST_HEADER(X-REQUEST-ID)%\" \"%REQUEST_HEADER(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Makes texts of what is known of a stream.
#[derive(Debug)]
pub enum Formatter {
    /// By a format string.
    Text(TextFormatter),
    /// A JSON object.
    Json(JsonFormatter),
}

impl Formatter {
    /// Parses a format. Nothing is added to it, so a line ends only if the format says so.
    ///
    /// # Errors
    /// Envoy's text for what is wrong.
    pub fn new(format: &str) -> Result<Formatter, String> {
        TextFormatter::new(format, false, &[]).map(Formatter::Text)
    }

    /// As [`Formatter::new`], of which nothing is left where what it asks for is absent.
    ///
    /// # Errors
    /// Envoy's text for what is wrong.
    pub fn new_omitting_empty(format: &str) -> Result<Formatter, String> {
        TextFormatter::new(format, true, &[]).map(Formatter::Text)
    }

    /// Appends the text.
    pub fn format(&self, line: &mut Vec<u8>, context: &Context<'_>) {
        match self {
            Formatter::Text(formatter) => formatter.format(line, context),
            Formatter::Json(formatter) => formatter.format(line, context),
        }
    }
}

/// A parsed format string.
#[derive(Debug)]
pub struct TextFormatter {
    pieces: Vec<Piece>,
    omit_empty_values: bool,
}

impl TextFormatter {
    /// Parses a format, whose commands are those of `parsers` and the built-in ones. What is absent is empty if it
    /// is to be omitted, else `-`.
    ///
    /// # Errors
    /// Envoy's text for what is wrong.
    pub fn new(
        format: &str,
        omit_empty_values: bool,
        parsers: &[Arc<dyn CommandParser>],
    ) -> Result<TextFormatter, String> {
        Ok(TextFormatter { pieces: format_parser::parse(format, parsers)?, omit_empty_values })
    }

    /// Appends the text.
    pub fn format(&self, line: &mut Vec<u8>, context: &Context<'_>) {
        for piece in &self.pieces {
            let start = line.len();
            match piece.write(line, context) {
                Written::Nothing if !self.omit_empty_values => line.push(b'-'),
                Written::JsonUpTo(max) => line.truncate(start + max),
                _ => {}
            }
        }
    }

    /// Appends a value that keeps its kind: that of the command which is the whole format, or a text.
    pub(super) fn format_value(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        match self.pieces.as_slice() {
            [piece] => piece.write(line, context),
            _ => {
                self.format(line, context);
                Written::Text
            }
        }
    }
}

impl Piece {
    fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        match self {
            Piece::Text(text) => {
                line.extend_from_slice(text.as_bytes());
                Written::Text
            }
            Piece::Command(command) => command.write(line, context),
        }
    }
}
