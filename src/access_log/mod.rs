//! Access logs: a line for every finished stream.
//!
//! Mirrors Envoy's `source/common/access_log/` and, as of 1.40, `source/common/formatter/`. The formats,
//! their errors and the statistics are 1.40's.
//!
//! ```text
//! config::AccessLog ──> AccessLog ── Formatter ──> line
//!                           │                       │ appended under a mutex
//!                           └── AccessLogFile <─────┘
//!                                 └── its own thread writes to disk
//! ```
//!
//! Left out: filters, JSON formats, and the operators that need TLS, metadata or filter state.

mod access_log_file;
mod access_log_impl;
mod access_log_manager;
mod date_format;
mod date_spec;
#[cfg(test)]
mod file_tests;
mod format_parser;
mod formatter;
mod header_operator;
mod operator;
#[cfg(test)]
mod tests;

pub use access_log_impl::AccessLog;
pub use access_log_manager::AccessLogManager;
pub use formatter::{DEFAULT_FORMAT, Formatter};
