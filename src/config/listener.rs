//! `envoy.config.listener.v3`: listeners and filter chains.

use super::access_log::AccessLog;
use super::address::{Address, CidrRange};
use super::cluster::DEFAULT_BUFFER_LIMIT_BYTES;
use super::core::read_transport_socket;
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::reader::{EnumTable, FromMessage, MessageReader};
use std::time::Duration;

/// An address to listen on and what to do with its connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// May be empty; Envoy then makes one up.
    pub name: String,
    /// Where to listen.
    pub address: Address,
    /// Instead of the address in stats, unless empty.
    pub stat_prefix: String,
    /// May be empty only if there is a default chain.
    pub filter_chains: Vec<FilterChain>,
    /// For connections that no chain matches.
    pub default_filter_chain: Option<FilterChain>,
    /// Bytes, default 1 MiB; 0 is no limit.
    pub per_connection_buffer_limit_bytes: u32,
    /// Time for listener filters, default 15 s; zero is no limit.
    pub listener_filters_timeout: Duration,
    /// Which side of a sidecar it serves.
    pub traffic_direction: TrafficDirection,
    /// When connections are drained.
    pub drain_type: DrainType,
    /// Default true; otherwise connections only come from another listener.
    pub bind_to_port: bool,
    /// `listen(2)` backlog; `None` is Envoy's default, the kernel's `somaxconn`.
    pub tcp_backlog_size: Option<u32>,
    /// One socket per worker; `None` when absent (Envoy's default is true).
    pub enable_reuse_port: Option<bool>,
    /// Logged per connection.
    pub access_log: Vec<AccessLog>,
}

impl Listener {
    /// A listener with one chain of these filters, and otherwise as one that says nothing.
    pub fn of_filters(name: &str, address: Address, filters: Vec<Filter>) -> Self {
        Listener {
            name: name.to_string(),
            address,
            stat_prefix: String::new(),
            filter_chains: vec![FilterChain { filters, ..FilterChain::default() }],
            default_filter_chain: None,
            per_connection_buffer_limit_bytes: DEFAULT_BUFFER_LIMIT_BYTES,
            listener_filters_timeout: Duration::from_secs(15),
            traffic_direction: TrafficDirection::default(),
            drain_type: DrainType::default(),
            bind_to_port: true,
            tcp_backlog_size: None,
            enable_reuse_port: None,
            access_log: Vec::new(),
        }
    }
}

/// `core.v3.TrafficDirection`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// Towards the service beside the proxy.
    Inbound,
    /// From the service beside the proxy.
    Outbound,
}

impl TrafficDirection {
    const TABLE: &EnumTable<Self> =
        &[("UNSPECIFIED", Self::Unspecified), ("INBOUND", Self::Inbound), ("OUTBOUND", Self::Outbound)];
}

/// When a listener's connections are drained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DrainType {
    /// On a failed health check, hot restart or when the listener goes.
    #[default]
    Default,
    /// Only when the listener is changed or removed.
    ModifyOnly,
}

impl DrainType {
    const TABLE: &EnumTable<Self> = &[("DEFAULT", Self::Default), ("MODIFY_ONLY", Self::ModifyOnly)];
}

impl FromMessage for Listener {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        for name in ["use_original_dst", "transparent", "freebind"] {
            r.unsupported_if_true(name)?;
        }
        let filter_chains: Vec<FilterChain> = r.messages("filter_chains")?;
        let default_filter_chain = r.message("default_filter_chain")?;
        let no_chain = filter_chains.is_empty() && r.is_all_of("filter_chains", &filter_chains);
        if no_chain && !r.has("default_filter_chain") {
            r.require("filter_chains", "no filter chains specified");
        }
        let buffer_limit = r.opt_u32("per_connection_buffer_limit_bytes")?;
        let filters_timeout = r.duration("listener_filters_timeout")?;
        Ok(Self {
            name: r.string("name")?,
            stat_prefix: r.string("stat_prefix")?,
            filter_chains,
            default_filter_chain,
            per_connection_buffer_limit_bytes: buffer_limit.unwrap_or(DEFAULT_BUFFER_LIMIT_BYTES),
            listener_filters_timeout: filters_timeout.unwrap_or(Duration::from_secs(15)),
            traffic_direction: r
                .enumeration("traffic_direction", TrafficDirection::TABLE)?
                .unwrap_or_default(),
            drain_type: r.enumeration("drain_type", DrainType::TABLE)?.unwrap_or_default(),
            bind_to_port: r.opt_bool("bind_to_port")?.unwrap_or(true),
            tcp_backlog_size: r.opt_u32("tcp_backlog_size")?,
            enable_reuse_port: r.opt_bool("enable_reuse_port")?,
            access_log: r.messages("access_log")?,
            address: r.required_message("address")?,
        })
    }
}

/// Filters for the connections that match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilterChain {
    /// May be empty.
    pub name: String,
    /// `None` and the empty match take every connection.
    pub filter_chain_match: Option<FilterChainMatch>,
    /// In order; without any the connection is closed.
    pub filters: Vec<Filter>,
    /// `None` is plain TCP.
    pub transport_socket: Option<TypedConfig>,
}

impl FromMessage for FilterChain {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        r.unsupported_if_true("use_proxy_proto")?;
        let filters: Vec<Filter> = r.messages("filters")?;
        if r.is_all_of("filters", &filters) {
            check_terminal(r, &filters);
        }
        Ok(Self {
            name: r.string("name")?,
            filter_chain_match: r.message("filter_chain_match")?,
            filters,
            transport_socket: read_transport_socket(r, Category::DownstreamTransportSockets)?,
        })
    }
}

/// A terminal filter takes all that a connection brings, so nothing can come after it.
fn check_terminal(r: &MessageReader<'_>, filters: &[Filter]) {
    let early = filters.iter().rev().skip(1).rev().enumerate();
    for (i, filter) in early.filter(|(_, filter)| filter.typed_config.is_terminal()) {
        let message = format!(
            "terminal filter named {} of type {} must be the last filter in a network filter chain.",
            filter.name,
            filter.typed_config.extension(),
        );
        r.refuse(&format!("filters[{i}]"), message);
    }
}

/// Which connections a chain is for; an empty list matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterChainMatch {
    /// 1..=65535.
    pub destination_port: Option<u16>,
    /// Destination addresses.
    pub prefix_ranges: Vec<CidrRange>,
    /// Source addresses.
    pub source_prefix_ranges: Vec<CidrRange>,
    /// 1..=65535 each.
    pub source_ports: Vec<u16>,
    /// Where the peer is.
    pub source_type: ConnectionSourceType,
    /// TLS server names.
    pub server_names: Vec<String>,
    /// `raw_buffer`, `tls` or empty for any.
    pub transport_protocol: String,
    /// ALPN names.
    pub application_protocols: Vec<String>,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConnectionSourceType {
    /// Anywhere.
    #[default]
    Any,
    /// This host.
    SameIpOrLoopback,
    /// Another host.
    External,
}

impl ConnectionSourceType {
    const TABLE: &EnumTable<Self> =
        &[("ANY", Self::Any), ("SAME_IP_OR_LOOPBACK", Self::SameIpOrLoopback), ("EXTERNAL", Self::External)];
}

impl FromMessage for FilterChainMatch {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let port = r.opt_u32("destination_port")?;
        let source_ports = r.u32s("source_ports")?;
        Ok(Self {
            destination_port: port.map(|p| p as u16),
            prefix_ranges: r.messages("prefix_ranges")?,
            source_prefix_ranges: r.messages("source_prefix_ranges")?,
            source_ports: source_ports.into_iter().map(|p| p as u16).collect(),
            source_type: r.enumeration("source_type", ConnectionSourceType::TABLE)?.unwrap_or_default(),
            server_names: r.strings("server_names")?,
            transport_protocol: r.string("transport_protocol")?,
            application_protocols: r.strings("application_protocols")?,
        })
    }
}

/// A network filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Never empty; what counts is the type of the configuration.
    pub name: String,
    /// What it is.
    pub typed_config: TypedConfig,
}

impl FromMessage for Filter {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?;
        Ok(Self { name, typed_config: r.typed_config("typed_config", Category::NetworkFilters)? })
    }
}
