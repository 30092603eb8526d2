//! What a level of a route table says to HTTP filters, by their names.

use crate::config::error::ConfigError;
use crate::config::extension::{Category, TypedConfig};
use crate::config::message::FieldValue;
use crate::config::reader::MessageReader;
use serde_json::Value;

/// Of one level, each name once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerFilterConfig(pub Vec<(String, FilterConfig)>);

/// What is said to one filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilterConfig {
    /// Streams are made without it.
    pub disabled: bool,
    /// What only the filter understands.
    pub config: Option<TypedConfig>,
    /// The type of a message that nobody reads, and that may be left out.
    pub left_out: Option<String>,
}

/// The type of the message that says whether there is such a filter; all others are for the filter.
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

impl FieldValue for PerFilterConfig {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        let mut all = Vec::new();
        for (filter, path, value) in r.map(name).ok()? {
            let Ok((type_name, reader)) = r.any_at(value, path) else { continue };
            let config = match type_name {
                FILTER_CONFIG => reader.read_with(|r| FilterConfig::read(r, filter)),
                _ => reader.read_any(type_name, Category::RouteFilterConfigs).map(FilterConfig::of),
            };
            all.extend(config.map(|config| (filter.to_string(), config)));
        }
        Some(Self(all))
    }
}

impl FilterConfig {
    fn of(config: TypedConfig) -> Self {
        FilterConfig { config: Some(config), ..FilterConfig::default() }
    }

    fn read(r: &mut MessageReader<'_>, filter: &str) -> Result<Self, ConfigError> {
        let (disabled, is_optional) = (r.bool("disabled")?, r.bool("is_optional")?);
        let value = r.value("config")?;
        if disabled {
            return Ok(FilterConfig { disabled, ..FilterConfig::default() });
        }
        match value {
            None => {
                let message =
                    format!("Empty route/virtual host per filter configuration for {filter} filter");
                Err(r.error("config", message))
            }
            Some(Value::Object(fields)) if fields.is_empty() => Ok(FilterConfig::default()),
            Some(value) => {
                let (type_name, reader) = r.any_at(value, r.field_path("config"))?;
                if is_optional && reader.is_left_out(type_name, Category::RouteFilterConfigs) {
                    let left_out = Some(type_name.to_string());
                    return Ok(FilterConfig { left_out, ..FilterConfig::default() });
                }
                reader.read_any(type_name, Category::RouteFilterConfigs).map(FilterConfig::of)
            }
        }
    }
}
