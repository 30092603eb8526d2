//! `envoy.config.core.v3` and `envoy.type.v3`: what several packages share (node, locality, data
//! source, routing priority, TCP keepalive, shares, token buckets).

use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::message::MemberValue;
use super::reader::{EnumTable, FromMessage, MessageReader};
use crate::common::base64;
use crate::{enum_fields, message, one_of};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

message! {
    /// Who a proxy is.
    pub struct Node = "envoy.config.core.v3.Node" {
        /// Unique name of the node; `--service-node` wins over it.
        pub id: String,
        /// Name of the node's own cluster; `--service-cluster` wins over it.
        pub cluster: String,
        /// Free-form object, `Null` when absent.
        pub metadata: Value => read_metadata,
        /// Where the node runs.
        pub locality: Locality,
        /// Free text that names the program.
        pub user_agent_name: String,
    }
}

fn read_metadata(r: &mut MessageReader<'_>, name: &str) -> Result<Value, ConfigError> {
    let metadata = r.value(name)?.cloned().unwrap_or_default();
    if !metadata.is_null() && !metadata.is_object() {
        r.refuse(name, "expected an object");
    }
    Ok(metadata)
}

message! {
    /// Where something runs; the parts are free text.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    pub struct Locality = "envoy.config.core.v3.Locality" {
        /// For example a cloud region.
        pub region: String,
        /// Part of a region.
        pub zone: String,
        /// Part of a zone.
        pub sub_zone: String,
    }
}

one_of! {
    /// Text that stands in the configuration or in a file.
    #[derive(Eq)]
    pub enum DataSource = "envoy.config.core.v3.DataSource" {
        /// The text itself.
        InlineString(String) = "inline_string",
        /// Path of the file; it is not read here.
        Filename(String) = "filename",
        /// Bytes that need not be a text.
        InlineBytes(Bytes) = "inline_bytes",
        /// Name of a variable of the environment.
        EnvironmentVariable(String) = "environment_variable",
    }
}

/// Bytes, which stand in a document as base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl MemberValue for Bytes {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Result<Self, ConfigError> {
        let text = r.string(name)?;
        base64::decode(&text).map(Bytes).ok_or_else(|| r.error(name, "expected base64"))
    }
}

impl DataSource {
    /// What it says.
    ///
    /// # Errors
    /// In a sentence: why the file cannot be read.
    pub fn contents(&self) -> Result<Vec<u8>, String> {
        match self {
            DataSource::InlineString(text) => Ok(text.clone().into()),
            DataSource::InlineBytes(bytes) => Ok(bytes.0.clone()),
            DataSource::Filename(name) => {
                std::fs::read(name).map_err(|error| format!("Invalid path: {name}: {error}"))
            }
            DataSource::EnvironmentVariable(name) => {
                let value = std::env::var_os(name).map(OsString::into_vec);
                value.ok_or_else(|| format!("Environment variable doesn't exist: {name}"))
            }
        }
    }

    /// What it says, where that has to be a text.
    ///
    /// # Errors
    /// In a sentence: why it cannot be had, or that it is no text.
    pub fn text(&self) -> Result<String, String> {
        let not_read = |error| match self {
            DataSource::Filename(name) => format!("unable to read file '{name}': {error}"),
            _ => format!("not a text: {error}"),
        };
        match self {
            DataSource::Filename(name) => {
                std::fs::read_to_string(name).map_err(|error| not_read(error.to_string()))
            }
            _ => String::from_utf8(self.contents()?).map_err(|error| not_read(error.to_string())),
        }
    }

    /// Where it comes from, as errors and `/certs` name it.
    pub fn path(&self) -> &str {
        match self {
            DataSource::Filename(name) => name,
            _ => "<inline>",
        }
    }
}

/// Which set of circuit breakers and connection pool a request uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RoutingPriority {
    /// Everything that does not ask for more.
    #[default]
    Default,
    /// Has limits and connections of its own.
    High,
}

impl RoutingPriority {
    /// API names and numbers.
    pub const TABLE: &EnumTable<Self> = &[("DEFAULT", Self::Default), ("HIGH", Self::High)];
}

message! {
    /// How the kernel finds out about dead peers; an absent value is the kernel's.
    #[derive(Eq)]
    pub struct TcpKeepalive = "envoy.config.core.v3.TcpKeepalive" {
        /// Probes without an answer before the connection is dead.
        pub keepalive_probes: Option<u32>,
        /// Seconds without traffic before the first probe.
        pub keepalive_time: Option<u32>,
        /// Seconds between probes.
        pub keepalive_interval: Option<u32>,
    }
}

/// `TransportSocket`, read by an extension of `category`; `None` is plain TCP.
pub(super) fn read_transport_socket(
    r: &mut MessageReader<'_>,
    category: Category,
) -> Result<Option<TypedConfig>, ConfigError> {
    let read = |r: &mut MessageReader<'_>| {
        r.string("name")?;
        r.typed_config("typed_config", category)
    };
    r.message_with("transport_socket", read)
}

message! {
    /// `envoy.type.v3.Percent`.
    pub struct Percent = "envoy.type.v3.Percent" {
        /// 0..=100.
        pub value: f64,
    }
}

/// What is said of something, to those who look for their names in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// By names of filters.
    pub filter_metadata: Map<String, Value>,
}

impl Metadata {
    /// What is said under `key` to those who look for `filter`.
    pub fn value(&self, filter: &str, key: &str) -> Option<&Value> {
        self.filter_metadata.get(filter)?.get(key)
    }
}

impl FromMessage for Metadata {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let mut filter_metadata = Map::new();
        for (name, path, value) in r.map("filter_metadata")? {
            match value {
                Value::Object(_) => _ = filter_metadata.insert(name.to_string(), value.clone()),
                Value::Null => {}
                _ => r.refuse_at(path, "expected an object"),
            }
        }
        // Nobody looks for messages there.
        for (_, path, value) in r.map("typed_filter_metadata")? {
            r.any_at(value, path)?;
        }
        Ok(Metadata { filter_metadata })
    }
}

message! {
    /// `envoy.type.v3.TokenBucket`.
    #[derive(Eq, Copy)]
    pub struct TokenBucket = "envoy.type.v3.TokenBucket" {
        /// It is full with so many; at least 1.
        pub max_tokens: u32,
        /// So many come with each interval; at least 1, default 1.
        pub tokens_per_fill: u32 = 1,
        /// Above zero.
        pub fill_interval: Duration,
    }
}

impl TokenBucket {
    /// So many come in a second.
    pub fn fill_rate(&self) -> f64 {
        f64::from(self.tokens_per_fill) / self.fill_interval.as_secs_f64()
    }
}

message! {
    /// A number that the runtime may have another one for.
    #[derive(Eq)]
    pub struct RuntimeUInt32 = "envoy.config.core.v3.RuntimeUInt32" {
        /// Where it has none.
        pub default_value: u32,
        /// Its name there.
        pub runtime_key: String,
    }
}

message! {
    /// A number that the runtime may have another one for.
    pub struct RuntimeDouble = "envoy.config.core.v3.RuntimeDouble" {
        /// Where it has none.
        pub default_value: f64,
        /// Its name there.
        pub runtime_key: String,
    }
}

message! {
    /// A share.
    #[derive(Eq, Copy)]
    pub struct FractionalPercent = "envoy.type.v3.FractionalPercent" {
        /// So many.
        pub numerator: u32,
        /// Of so many.
        pub denominator: Denominator,
    }
}

/// What a share is a share of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Denominator {
    /// 100.
    #[default]
    Hundred,
    /// 10 000.
    TenThousand,
    /// 1 000 000.
    Million,
}

impl Denominator {
    /// API names.
    pub const TABLE: &EnumTable<Self> =
        &[("HUNDRED", Self::Hundred), ("TEN_THOUSAND", Self::TenThousand), ("MILLION", Self::Million)];

    /// The number.
    pub fn number(self) -> u32 {
        match self {
            Denominator::Hundred => 100,
            Denominator::TenThousand => 10_000,
            Denominator::Million => 1_000_000,
        }
    }
}

message! {
    /// A share that the runtime may have another one for.
    #[derive(Eq)]
    pub struct RuntimeFractionalPercent = "envoy.config.core.v3.RuntimeFractionalPercent" {
        /// Where it has none.
        pub default_value: FractionalPercent,
        /// Its name there.
        pub runtime_key: String,
    }
}

message! {
    /// A yes or no that the runtime may have another one for.
    #[derive(Eq)]
    pub struct RuntimeFeatureFlag = "envoy.config.core.v3.RuntimeFeatureFlag" {
        /// Where it has none; has to be there.
        pub default_value: Option<bool>,
        /// Its name there.
        pub runtime_key: String,
    }
}

enum_fields! { RoutingPriority, Denominator }
