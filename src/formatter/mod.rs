//! Substitution formats: texts with `%COMMAND%`s in them, which are replaced by what is known of a stream.
//!
//! Mirrors, as of 1.40, Envoy's `source/common/formatter/`; in 1.1 they are a part of the access log
//! (`source/common/access_log/access_log_formatter.cc`). The formats and their errors are 1.40's.
//!
//! ```text
//! SubstitutionFormatString ──> Formatter ── TextFormatter ── format_parser ── CommandParser
//!                                  └─────── JsonFormatter ─────────┘               │ makes
//!                                                                          FormatterProvider
//! ```
//!
//! Left out: operators that need what no part of legate knows, and those named in `docs/differences.md`.

mod command_parser;
mod context;
mod date_format;
mod date_spec;
mod format_parser;
mod header_operator;
mod json_formatter;
mod json_text;
mod operator;
mod req_without_query;
mod request_operator;
mod ssl_operator;
mod state_operator;
mod substitution_format_string;
mod substitution_formatter;
#[cfg(test)]
mod tests;
mod upstream_operator;

pub use command_parser::{Command, CommandParser, CommandParserFactory, FormatterProvider, Written};
pub use context::Context;
pub use json_formatter::JsonFormatter;
pub use req_without_query::REQ_WITHOUT_QUERY;
pub use substitution_format_string::SubstitutionFormatString;
pub use substitution_formatter::{DEFAULT_FORMAT, Formatter, TextFormatter};
