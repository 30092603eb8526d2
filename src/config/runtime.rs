//! `envoy.config.bootstrap.v3` runtime layers.

use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader};
use crate::message;
use serde_json::{Map, Value};
use std::collections::HashSet;

message! {
    /// Runtime settings; a later layer wins over an earlier one.
    pub struct LayeredRuntime = "envoy.config.bootstrap.v3.LayeredRuntime", checked by check_layers {
        /// Unique names, at most one admin layer.
        pub layers: Vec<RuntimeLayer>,
    }
}

message! {
    /// One layer of settings.
    pub message RuntimeLayer = "envoy.config.bootstrap.v3.RuntimeLayer" {
        /// Never empty.
        pub name: String,
        /// Where its settings come from.
        pub specifier: LayerSpecifier => read_specifier,
    }
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

fn check_layers(r: &mut MessageReader<'_>, LayeredRuntime { layers }: &LayeredRuntime) {
    if !r.is_all_of("layers", layers) {
        return;
    }
    let mut names = HashSet::new();
    let mut admin = false;
    for (i, layer) in layers.iter().enumerate() {
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
}

fn read_specifier(r: &mut MessageReader<'_>, _: &str) -> Result<LayerSpecifier, ConfigError> {
    r.one_of(&[
        ("static_layer", |r, name| {
            let mut flat = Map::new();
            for (key, path, value) in r.map(name)? {
                flatten(key, &path, value, &mut flat)?;
            }
            Ok(LayerSpecifier::Static(flat))
        }),
        ("disk_layer", |r, name| r.required_message(name).map(LayerSpecifier::Disk)),
        ("admin_layer", |r, name| r.required_message(name).map(|Empty| LayerSpecifier::Admin)),
    ])
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
