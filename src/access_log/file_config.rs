//! The configurations of access logs that are lines of a file, or of a standard stream.
//!
//! Mirrors Envoy's `source/extensions/access_loggers/file/config.cc`; the standard streams are extensions of 1.40.

use std::sync::Arc;

use super::file_access_log::FileAccessLog;
use super::instance::{
    AccessLogConfig, AccessLogFactoryContext, AccessLogInstanceFactory, InstanceSharedPtr,
};
use crate::config::ConfigError;
use crate::config::reader::MessageReader;
use crate::formatter::{DEFAULT_FORMAT, Formatter, SubstitutionFormatString};

/// Lines of a file.
pub static FILE: AccessLogInstanceFactory = AccessLogInstanceFactory::new(
    "envoy.access_loggers.file",
    &["envoy.extensions.access_loggers.file.v3.FileAccessLog"],
    |r| Ok(Arc::new(read_file(r)?)),
);

/// Lines of standard output.
pub static STDOUT: AccessLogInstanceFactory = AccessLogInstanceFactory::new(
    "envoy.access_loggers.stdout",
    &["envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"],
    |r| Ok(Arc::new(FileAccessLogConfig { sink: AccessLogSink::Stdout, formatter: read_log_format(r)? })),
);

/// Lines of standard error.
pub static STDERR: AccessLogInstanceFactory = AccessLogInstanceFactory::new(
    "envoy.access_loggers.stderr",
    &["envoy.extensions.access_loggers.stream.v3.StderrAccessLog"],
    |r| Ok(Arc::new(FileAccessLogConfig { sink: AccessLogSink::Stderr, formatter: read_log_format(r)? })),
);

/// Lines, and where they go.
#[derive(Debug, Clone)]
pub struct FileAccessLogConfig {
    /// Where the lines go.
    pub sink: AccessLogSink,
    /// Makes the lines.
    pub formatter: Arc<Formatter>,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogSink {
    /// Appended to the file at this path, never empty.
    File(String),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl FileAccessLogConfig {
    /// A file with lines in the default format.
    pub fn file(path: &str) -> Self {
        FileAccessLogConfig { sink: AccessLogSink::File(path.to_owned()), formatter: default_formatter() }
    }
}

/// Envoy's `defaultSubstitutionFormatter`.
fn default_formatter() -> Arc<Formatter> {
    Arc::new(Formatter::new(DEFAULT_FORMAT).expect("the default format is well formed"))
}

/// What the field `log_format` says, or the default.
fn read_log_format(r: &mut MessageReader<'_>) -> Result<Arc<Formatter>, ConfigError> {
    let format: Option<SubstitutionFormatString> = r.message("log_format")?;
    Ok(format.map_or_else(default_formatter, |format| format.formatter))
}

fn read_file(r: &mut MessageReader<'_>) -> Result<FileAccessLogConfig, ConfigError> {
    let path = r.string("path")?;
    let formatter = match r.at_most_one(&["format", "log_format"])? {
        // The older form; empty means the default there.
        Some("format") => match r.string("format")?.as_str() {
            "" => default_formatter(),
            format => Arc::new(Formatter::new(format).map_err(|message| r.error("format", message))?),
        },
        _ => read_log_format(r)?,
    };
    Ok(FileAccessLogConfig { sink: AccessLogSink::File(path), formatter })
}

impl AccessLogConfig for FileAccessLogConfig {
    fn create_access_log_instance(
        &self,
        context: &AccessLogFactoryContext<'_>,
    ) -> Result<InstanceSharedPtr, ConfigError> {
        let log = FileAccessLog::new(self, context.access_log_manager).map_err(ConfigError::document)?;
        Ok(Arc::new(log))
    }
}
