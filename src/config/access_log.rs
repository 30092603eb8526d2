//! `envoy.config.accesslog.v3`, and the formats that several access loggers have.

use super::core::DataSource;
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::reader::{FromMessage, MessageReader};

/// One access logger.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Any text; what counts is the type of the configuration.
    pub name: String,
    /// What it is.
    pub typed_config: TypedConfig,
}

impl FromMessage for AccessLog {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?;
        Ok(Self { name, typed_config: r.typed_config("typed_config", Category::AccessLoggers)? })
    }
}

/// The format string in the field `log_format`; `None` is the default.
///
/// # Errors
/// What is wrong with it.
pub fn read_log_format(r: &mut MessageReader<'_>) -> Result<Option<String>, ConfigError> {
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
