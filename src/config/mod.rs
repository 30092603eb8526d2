//! Configuration: Envoy's v3 API in its JSON mapping, from YAML or JSON text or protobuf's binary form into
//! typed structs.
//!
//! A document becomes one `serde_json::Value` ([`yaml`], [`json`], [`wire`]), a
//! `--config-yaml` is merged over it ([`merge`]), and [`reader::MessageReader`]
//! reads the typed structs from it. What the API has, and which values are right, its own descriptors say
//! ([`descriptor`], [`validate`]). There is one file per API package and the
//! structs say what is supported: a field that is unknown, or known and not
//! supported yet, is an error that gives the field's full path. All errors of a
//! document are found in one reading.
//!
//! Mirrors `source/common/protobuf/utility.cc` and
//! `InstanceUtil::loadBootstrapConfig` in `source/server/server.cc`.

pub mod access_log;
pub mod access_log_filter;
pub mod address;
pub mod bind;
pub mod bootstrap;
pub(crate) mod canonical;
pub mod cluster;
mod context;
pub mod core;
pub(crate) mod descriptor;
pub mod dns;
pub mod document;
pub mod endpoint;
pub mod error;
pub mod extension;
pub(crate) mod field_mask;
pub mod format;
pub mod header_matcher;
pub mod health_check;
pub mod json;
pub mod listener;
pub mod matcher;
pub mod merge;
pub mod message;
pub mod metadata_matcher;
pub mod outlier_detection;
pub mod protocol_options;
pub mod reader;
pub mod route;
pub mod runtime;
mod scalar;
mod text;
pub mod tracker;
mod validate;
pub mod watchdog;
pub(crate) mod wire;
mod wire_format;
pub mod yaml;

pub use self::core::DataSource;
pub use access_log::AccessLog;
pub use address::Address;
pub use bootstrap::Bootstrap;
pub use cluster::Cluster;
pub use error::{ConfigError, ConfigErrors};
pub use extension::{Extensions, NoExtensions, TypedConfig};
pub use listener::{Filter, FilterChain, Listener, ListenerFilter};
pub use protocol_options::{HeaderKeyFormat, HeadersWithUnderscoresAction};
pub use reader::UnknownFields;
pub use route::{Action, PathMatch, Route, RouteConfiguration, VirtualHost};

use descriptor::Api;
use document::Document;
use reader::{MessageReader, ParseContext};
use serde_json::Value;
use std::time::SystemTime;

/// Full name of the message that a document is.
pub(crate) const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// Loads the bootstrap from a file, from `--config-yaml`, or from the file with
/// the other merged over it; it may name these extensions. An empty string is the same as `None`.
///
/// # Errors
/// Neither is given, the file cannot be read, the text is no YAML or JSON, or a
/// field is wrong.
pub fn load_bootstrap(
    config_path: Option<&str>,
    config_yaml: Option<&str>,
    unknown: UnknownFields,
    extensions: &'static dyn Extensions,
) -> Result<Bootstrap, ConfigErrors> {
    let config_path = config_path.filter(|path| !path.is_empty());
    let config_yaml = config_yaml.filter(|text| !text.is_empty());
    let file = config_path.map(load_file).transpose()?;
    let over = config_yaml.map(|yaml| yaml::parse_yaml(text::without_mark(yaml))).transpose()?;
    let raw = match (file, over) {
        (Some(mut base), Some(over)) => {
            if !base.is_object() || !over.is_object() {
                return Err(ConfigError::document("the configuration must be an object").into());
            }
            merge::merge_bootstrap(&mut base, over);
            base
        }
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => {
            return Err(ConfigError::document(
                "At least one of --config-path or --config-yaml or Options::configProto() should be non-empty",
            )
            .into());
        }
    };
    let document = Document::new(&raw);
    Ok(Bootstrap { document, ..parse_bootstrap(raw, unknown, extensions)? })
}

/// A time as protobuf prints it, in milliseconds.
pub(crate) fn timestamp(time: SystemTime) -> Value {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    wire::timestamp(since.as_secs() as i64, i64::from(since.subsec_millis()) * 1_000_000)
}

/// The document that a bootstrap in protobuf's binary form is.
///
/// # Errors
/// The bytes are no such message.
pub fn parse_binary(bytes: &[u8]) -> Result<Value, ConfigError> {
    wire::decode(&Api::default(), BOOTSTRAP, bytes)
}

/// Reads a bootstrap from a document that is already loaded.
///
/// # Errors
/// All fields that are wrong.
pub fn parse_bootstrap(
    raw: Value,
    unknown: UnknownFields,
    extensions: &'static dyn Extensions,
) -> Result<Bootstrap, ConfigErrors> {
    if !raw.is_object() {
        return Err(ConfigError::document("the configuration must be an object").into());
    }
    let context = ParseContext::new(unknown, extensions);
    let bootstrap = MessageReader::new(&context, BOOTSTRAP, &raw, String::new())?.read::<Bootstrap>();
    let unknown_fields = context.into_skipped()?;
    Ok(Bootstrap { unknown_fields, ..bootstrap? })
}

/// The form of a file is told by the end of its name: `.json` and `.pb`, which is binary; everything else is YAML, of which
/// JSON is nearly a part.
fn load_file(path: &str) -> Result<Value, ConfigError> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => ConfigError::document(format!("Invalid path: {path}")),
        _ => ConfigError::document(format!("unable to read file {path}: {e}")),
    })?;
    let name = path.to_ascii_lowercase();
    if [".pb_text", ".pb_length_delimited"].iter().any(|e| name.ends_with(e)) {
        let message = format!("unable to read file {path}: only YAML, JSON and binary are supported");
        return Err(ConfigError::document(message));
    }
    if name.ends_with(".pb") {
        return parse_binary(&bytes).map_err(|error| {
            let message =
                format!("Unable to parse file \"{path}\" as a binary protobuf (type {BOOTSTRAP}): {error}");
            ConfigError::document(message)
        });
    }
    let text =
        text::decode(bytes).map_err(|e| ConfigError::document(format!("unable to read file {path}: {e}")))?;
    if name.ends_with(".json") { json::parse_json(&text) } else { yaml::parse_yaml(&text) }
}
