//! Access logs: a line for every finished stream.
//!
//! Mirrors Envoy's `source/common/access_log/`; the statistics are 1.40's.
//!
//! ```text
//! config::AccessLog ──> FileAccessLog ── Formatter ──> line
//!                           │                           │ appended under a mutex
//!                           └── AccessLogFile <─────────┘
//!                                 └── its own thread writes to disk
//! ```
//!
//! Left out: the filter by metadata.

mod access_log_file;
mod access_log_manager;
mod file_access_log;
mod file_config;
#[cfg(test)]
mod file_tests;
mod filter;
#[cfg(test)]
mod filter_tests;
mod instance;

pub use access_log_manager::AccessLogManager;
pub use file_access_log::FileAccessLog;
pub use file_config::{AccessLogSink, FILE, FileAccessLogConfig, STDERR, STDOUT};
pub use filter::{ExtensionFilterConfig, ExtensionFilterFactory, Filter, FilterPtr, from_config};
pub use instance::{
    AccessLogConfig, AccessLogFactoryContext, AccessLogInstanceFactory, Instance, InstanceSharedPtr,
    LogContext,
};
