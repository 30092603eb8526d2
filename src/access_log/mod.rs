//! Access logs: a line for every finished stream.
//!
//! Mirrors Envoy's `source/common/access_log/` and, as of 1.40, `source/common/formatter/`. The formats,
//! their errors and the statistics are 1.40's.
//!
//! ```text
//! config::AccessLog ──> FileAccessLog ── Formatter ──> line
//!                           │                           │ appended under a mutex
//!                           └── AccessLogFile <─────────┘
//!                                 └── its own thread writes to disk
//! ```
//!
//! Left out: filters, JSON formats, and the operators that need TLS, metadata or filter state.

mod access_log_file;
mod access_log_manager;
mod date_format;
mod date_spec;
mod file_access_log;
mod file_config;
#[cfg(test)]
mod file_tests;
mod format_parser;
mod formatter;
mod header_operator;
mod instance;
mod operator;
#[cfg(test)]
mod tests;

pub use access_log_manager::AccessLogManager;
pub use file_access_log::FileAccessLog;
pub use file_config::{AccessLogSink, FILE, FileAccessLogConfig, STDERR, STDOUT};
pub use formatter::{DEFAULT_FORMAT, Formatter};
pub use instance::{
    AccessLogConfig, AccessLogFactoryContext, AccessLogInstanceFactory, Instance, InstanceSharedPtr,
};
