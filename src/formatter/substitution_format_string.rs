//! [`SubstitutionFormatString`]: a format as a configuration has it.
//!
//! Mirrors `SubstitutionFormatStringUtils` of Envoy 1.40's
//! `source/common/formatter/substitution_format_string.cc`. A format is parsed when it is read, so that what is wrong
//! with it is told with its path.

use std::sync::Arc;

use serde_json::Value;

use super::command_parser::{CommandParser, FormatterExtension};
use super::json_formatter::JsonFormatter;
use super::substitution_formatter::{Formatter, TextFormatter};
use crate::config::reader::{FromMessage, MessageReader};
use crate::config::{ConfigError, DataSource};

/// A format, and what its texts are.
#[derive(Debug, Clone)]
pub struct SubstitutionFormatString {
    /// Makes the texts.
    pub formatter: Arc<Formatter>,
    /// The type of the texts, where they are bodies; empty for that which suits the form.
    pub content_type: String,
}

impl FromMessage for SubstitutionFormatString {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let content_type = r.string("content_type")?;
        let omit_empty_values = r.bool("omit_empty_values")?;
        // Has no effect: keys are always sorted.
        r.message_with("json_format_options", |r| r.bool("sort_properties"))?;
        let extensions: Vec<FormatterExtension> = r.messages("formatters")?;
        let parsers =
            extensions.iter().map(FormatterExtension::parser).collect::<Result<Vec<_>, ConfigError>>()?;
        let text = |r: &MessageReader<'_>, place: &str, format: &str| {
            let formatter = TextFormatter::new(format, omit_empty_values, &parsers);
            formatter.map(Formatter::Text).map_err(|message| r.error(place, message))
        };
        let formatter = match r.exactly_one(&["text_format_source", "text_format", "json_format"])? {
            "text_format" => {
                let format = r.string("text_format")?;
                text(r, "text_format", &format)?
            }
            "json_format" => Formatter::Json(read_json_format(r, omit_empty_values, &parsers)?),
            _ => match r.required_message("text_format_source")? {
                DataSource::InlineString(format) => text(r, "text_format_source.inline_string", &format)?,
                DataSource::Filename(_) => {
                    r.refuse_field("text_format_source", "only inline_string is supported yet");
                    text(r, "text_format_source", "")?
                }
            },
        };
        Ok(SubstitutionFormatString { formatter: Arc::new(formatter), content_type })
    }
}

fn read_json_format(
    r: &mut MessageReader<'_>,
    omit_empty_values: bool,
    parsers: &[Arc<dyn CommandParser>],
) -> Result<JsonFormatter, ConfigError> {
    let Some(Value::Object(pattern)) = r.value("json_format")? else {
        return Err(r.error("json_format", "expected an object"));
    };
    JsonFormatter::new(pattern, omit_empty_values, parsers)
        .map_err(|error| error.within(&r.field_path("json_format")))
}
