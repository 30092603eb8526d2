//! `envoy.config.core.v3.SubstitutionFormatString`, as it stands in the configuration: whose formats they are knows what
//! they mean.

use serde_json::{Map, Value};

use super::core::DataSource;
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::reader::{FromMessage, MessageReader};

/// A format.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatSource {
    /// What it is made of.
    pub pattern: FormatPattern,
    /// The type of its texts; empty for that which suits the form.
    pub content_type: String,
    /// What there is not stands for nothing.
    pub omit_empty_values: bool,
    /// Whose commands it may have, too.
    pub formatters: Vec<TypedConfig>,
}

/// What a format is made of, and for a text the field that it stands in.
#[derive(Debug, Clone, PartialEq)]
pub enum FormatPattern {
    /// A text.
    Text(&'static str, String),
    /// An object.
    Json(Map<String, Value>),
}

impl FromMessage for FormatSource {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let content_type = r.string("content_type")?;
        let omit_empty_values = r.bool("omit_empty_values")?;
        // Has no effect: keys are always sorted.
        r.message_with("json_format_options", |r| r.bool("sort_properties"))?;
        let formatters = r.extensions_of("formatters", Category::Formatters)?;
        let pattern = match r.exactly_one(&["text_format_source", "text_format", "json_format"])? {
            "text_format" => FormatPattern::Text("text_format", r.string("text_format")?),
            "json_format" => match r.value("json_format")? {
                Some(Value::Object(pattern)) => FormatPattern::Json(pattern.clone()),
                _ => return Err(r.error("json_format", "expected an object")),
            },
            _ => {
                let source: DataSource = r.required_message("text_format_source")?;
                let text = source.text().map_err(|message| r.error("text_format_source", message))?;
                FormatPattern::Text(
                    match source {
                        DataSource::InlineString(_) => "text_format_source.inline_string",
                        DataSource::InlineBytes(_) => "text_format_source.inline_bytes",
                        DataSource::Filename(_) => "text_format_source.filename",
                        DataSource::EnvironmentVariable(_) => "text_format_source.environment_variable",
                    },
                    text,
                )
            }
        };
        Ok(FormatSource { pattern, content_type, omit_empty_values, formatters })
    }
}
