//! `envoy.config.bootstrap.v3` runtime layers.

use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader};
use crate::message;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Runtime settings; a later layer wins over an earlier one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayeredRuntime {
    /// Unique names, at most one admin layer.
    pub layers: Vec<RuntimeLayer>,
}

/// One layer of settings.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeLayer {
    /// Never empty.
    pub name: String,
    /// Where its settings come from.
    pub specifier: LayerSpecifier,
}

/// Where a layer's settings come from.
#[derive(Debug, Clone, PartialEq)]
pub enum LayerSpecifier {
    /// From the configuration, flat: `{a: {b: 1}}` has become `a.b`. A fractional
    /// percent (an object with `numerator` or `denominator`) stays whole.
    Static(Map<String, Value>),
    /// From files.
    Disk(DiskLayer),
    /// From the admin endpoint `/runtime_modify`.
    Admin,
}

message! {
    /// A tree of files, each of which holds the value of a key.
    pub struct DiskLayer = "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer" {
        /// A folder, or a link to one.
        pub symlink_root: String,
        /// The tree's place below it; empty for itself.
        pub subdirectory: String,
        /// Whether the tree of this node is below that, under the name of its cluster.
        pub append_service_cluster: bool,
    }
}

impl LayeredRuntime {
    /// What a bootstrap says of it: nothing is no layer, and no layers are one for the admin.
    pub fn of_bootstrap(given: Option<&Self>) -> Self {
        match given {
            Some(given) if given.layers.is_empty() => {
                let layer = RuntimeLayer { name: String::new(), specifier: LayerSpecifier::Admin };
                Self { layers: vec![layer] }
            }
            given => given.cloned().unwrap_or_default(),
        }
    }
}

impl FromMessage for LayeredRuntime {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let layers: Vec<RuntimeLayer> = r.messages("layers")?;
        let mut names = HashSet::new();
        let mut admin = false;
        let numbered = layers.iter().enumerate().filter(|_| r.is_all_of("layers", &layers));
        for (i, layer) in numbered {
            if !names.insert(layer.name.as_str()) {
                let message = format!("Duplicate layer name: {}", layer.name);
                r.refuse(&format!("layers[{i}].name"), message);
            }
            if layer.specifier == LayerSpecifier::Admin && std::mem::replace(&mut admin, true) {
                let message = "Too many admin layers specified in LayeredRuntime, at most one may \
                               be specified";
                r.refuse(&format!("layers[{i}].admin_layer"), message);
            }
        }
        Ok(Self { layers })
    }
}

impl FromMessage for RuntimeLayer {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?;
        let specifier = match r.exactly_one(&["static_layer", "disk_layer", "admin_layer"])? {
            "static_layer" => {
                let mut flat = Map::new();
                for (key, path, value) in r.map("static_layer")? {
                    flatten(key, &path, value, &mut flat)?;
                }
                LayerSpecifier::Static(flat)
            }
            "disk_layer" => LayerSpecifier::Disk(r.required_message("disk_layer")?),
            _ => {
                let Empty = r.required_message("admin_layer")?;
                LayerSpecifier::Admin
            }
        };
        Ok(Self { name, specifier })
    }
}

struct Empty;

impl FromMessage for Empty {
    fn read(_: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

fn flatten(key: &str, path: &str, value: &Value, flat: &mut Map<String, Value>) -> Result<(), ConfigError> {
    match value {
        Value::Null | Value::Array(_) => {
            let message = format!("Invalid runtime entry value for {key}");
            Err(ConfigError::new(path, message))
        }
        Value::Object(fields) if !is_leaf(fields) => fields.iter().try_for_each(|(name, value)| {
            let path = format!("{path}[{name:?}]");
            flatten(&format!("{key}.{name}"), &path, value, flat)
        }),
        _ => {
            flat.insert(key.to_string(), value.clone());
            Ok(())
        }
    }
}

fn is_leaf(fields: &Map<String, Value>) -> bool {
    fields.is_empty() || fields.contains_key("numerator") || fields.contains_key("denominator")
}
