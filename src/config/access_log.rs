//! `envoy.config.accesslog.v3` and the file and stream access loggers.

use super::core::DataSource;
use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader, unknown_type};

const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const STDERR: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

/// One access logger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Any text; what counts is the type of the configuration.
    pub name: String,
    /// Where the lines go.
    pub sink: AccessLogSink,
    /// Format string of a line; `None` is Envoy's default format.
    pub format: Option<String>,
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

impl AccessLog {
    /// A log in the default format.
    pub fn file(path: &str) -> Self {
        AccessLog { name: String::new(), sink: AccessLogSink::File(path.to_owned()), format: None }
    }
}

impl FromMessage for AccessLog {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?;
        let (type_name, config) = r.any("typed_config")?;
        let (sink, format) = config.read_with(|config| match type_name {
            FILE => read_file(config),
            STDOUT => Ok((AccessLogSink::Stdout, read_log_format(config)?)),
            STDERR => Ok((AccessLogSink::Stderr, read_log_format(config)?)),
            other => Err(unknown_type(config, other, &[FILE, STDOUT, STDERR])),
        })?;
        Ok(Self { name, sink, format })
    }
}

fn read_file(r: &mut MessageReader<'_>) -> Result<(AccessLogSink, Option<String>), ConfigError> {
    let path = r.string("path")?;
    let format = match r.at_most_one(&["format", "log_format"])? {
        // The older form; empty means the default there.
        Some("format") => Some(r.string("format")?).filter(|f| !f.is_empty()),
        _ => read_log_format(r)?,
    };
    Ok((AccessLogSink::File(path), format))
}

fn read_log_format(r: &mut MessageReader<'_>) -> Result<Option<String>, ConfigError> {
    let format: Option<SubstitutionFormatString> = r.message("log_format")?;
    Ok(format.map(|f| f.text))
}

/// `SubstitutionFormatString`, as far as it is plain text.
struct SubstitutionFormatString {
    text: String,
}

impl FromMessage for SubstitutionFormatString {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let text = match r.exactly_one(&["text_format_source", "text_format"])? {
            "text_format" => r.string("text_format")?,
            _ => match r.required_message("text_format_source")? {
                DataSource::InlineString(text) => text,
                DataSource::Filename(_) => {
                    r.refuse_field("text_format_source", "only inline_string is supported yet");
                    String::new()
                }
            },
        };
        Ok(Self { text })
    }
}
