//! [`SubstitutionFormatString`]: a format as a configuration has it.
//!
//! Mirrors `SubstitutionFormatStringUtils` of Envoy 1.40's
//! `source/common/formatter/substitution_format_string.cc`. A format is parsed when it is read, so that what is wrong
//! with it is told with its path.

use std::sync::Arc;

use super::command_parser::CommandParser;
use super::json_formatter::JsonFormatter;
use super::substitution_formatter::{Formatter, TextFormatter};
use crate::config::ConfigError;
use crate::config::format::{FormatPattern, FormatSource};
use crate::config::reader::{FromMessage, MessageReader};

/// A format, and what its texts are.
#[derive(Debug, Clone)]
pub struct SubstitutionFormatString {
    /// Makes the texts.
    pub formatter: Arc<Formatter>,
    /// The type of the texts, where they are bodies; empty for that which suits the form.
    pub content_type: String,
}

impl SubstitutionFormatString {
    /// Parses a format.
    ///
    /// # Errors
    /// What is wrong with it, with its path in the configuration's message.
    pub fn new(source: &FormatSource) -> Result<Self, ConfigError> {
        let parsers = source.formatters.iter().map(|config| config.get::<dyn CommandParser>().cloned());
        let parsers = parsers.collect::<Result<Vec<_>, ConfigError>>()?;
        let formatter = match &source.pattern {
            FormatPattern::Text(place, text) => TextFormatter::new(text, source.omit_empty_values, &parsers)
                .map(Formatter::Text)
                .map_err(|message| ConfigError::new(*place, message))?,
            FormatPattern::Json(pattern) => Formatter::Json(
                JsonFormatter::new(pattern, source.omit_empty_values, &parsers)
                    .map_err(|error| error.within("json_format"))?,
            ),
        };
        Ok(SubstitutionFormatString {
            formatter: Arc::new(formatter),
            content_type: source.content_type.clone(),
        })
    }
}

impl FromMessage for SubstitutionFormatString {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let source = FormatSource::read(r)?;
        Self::new(&source).map_err(|error| r.error(error.path(), error.message()))
    }
}
