//! `envoy.config.listener.v3`: listeners and filter chains.

use super::access_log::AccessLog;
use super::address::{Address, CidrRange};
use super::cluster::DEFAULT_BUFFER_LIMIT_BYTES;
use super::core;
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::message::OnlyFalse;
use super::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message};
use std::time::Duration;

message! {
    /// An address to listen on and what to do with its connections.
    pub message Listener = "envoy.config.listener.v3.Listener", checked by check_listener {
        /// May be empty; Envoy then makes one up.
        pub name: String,
        /// Instead of the address in stats, unless empty.
        pub stat_prefix: String,
        /// May be empty only if there is a default chain.
        pub filter_chains: Vec<FilterChain>,
        /// For connections that no chain matches.
        pub default_filter_chain: Option<FilterChain>,
        /// Bytes, default 1 MiB; 0 is no limit.
        pub per_connection_buffer_limit_bytes: u32 = DEFAULT_BUFFER_LIMIT_BYTES,
        /// Time for listener filters, default 15 s; zero is no limit.
        pub listener_filters_timeout: Duration = Duration::from_secs(15),
        /// In order, on each accepted socket.
        pub listener_filters: Vec<ListenerFilter>,
        /// Whether a connection is made although the listener filters have not ended in time; default false.
        pub continue_on_listener_filters_timeout: bool,
        /// Which side of a sidecar it serves.
        pub traffic_direction: TrafficDirection,
        /// When connections are drained.
        pub drain_type: DrainType,
        /// Default true; otherwise connections only come from another listener.
        pub bind_to_port: bool = true,
        /// `listen(2)` backlog; `None` is Envoy's default, the kernel's `somaxconn`.
        pub tcp_backlog_size: Option<u32>,
        /// One socket per worker; `None` when absent (Envoy's default is true).
        pub enable_reuse_port: Option<bool>,
        /// Logged per connection.
        pub access_log: Vec<AccessLog>,
        /// Whether connections go on to the listener that they were meant for.
        pub use_original_dst: OnlyFalse,
        /// Whether connections to any address are taken (`IP_TRANSPARENT`).
        pub transparent: OnlyFalse,
        /// Whether the address may be one that the host has not (`IP_FREEBIND`).
        pub freebind: OnlyFalse,
        /// Where to listen.
        pub address: Address => MessageReader::required_message,
    }
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
            listener_filters: Vec::new(),
            continue_on_listener_filters_timeout: false,
            traffic_direction: TrafficDirection::default(),
            drain_type: DrainType::default(),
            bind_to_port: true,
            tcp_backlog_size: None,
            enable_reuse_port: None,
            access_log: Vec::new(),
            use_original_dst: OnlyFalse,
            transparent: OnlyFalse,
            freebind: OnlyFalse,
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

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|(_, direction)| *direction == self).map_or("", |(name, _)| name)
    }
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

fn check_listener(r: &mut MessageReader<'_>, listener: &Listener) {
    let chains = &listener.filter_chains;
    if chains.is_empty() && r.is_all_of("filter_chains", chains) && !r.has("default_filter_chain") {
        r.require("filter_chains", "no filter chains specified");
    }
}

message! {
    /// Filters for the connections that match.
    pub struct FilterChain = "envoy.config.listener.v3.FilterChain", checked by check_chain {
        /// May be empty.
        pub name: String,
        /// `None` and the empty match take every connection.
        pub filter_chain_match: Option<FilterChainMatch>,
        /// In order; without any the connection is closed.
        pub filters: Vec<Filter>,
        /// `None` is plain TCP.
        pub transport_socket: Option<TypedConfig> => read_transport_socket,
        /// How long a transport may take until it is ready for data; absent, for ever.
        pub transport_socket_connect_timeout: Option<Duration>,
        /// Whether connections begin with a header of the PROXY protocol.
        pub use_proxy_proto: OnlyFalse,
    }
}

fn read_transport_socket(r: &mut MessageReader<'_>, _: &str) -> Result<Option<TypedConfig>, ConfigError> {
    core::read_transport_socket(r, Category::DownstreamTransportSockets)
}

fn check_chain(r: &MessageReader<'_>, chain: &FilterChain) {
    if r.is_all_of("filters", &chain.filters) {
        check_terminal(r, &chain.filters);
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

message! {
    /// Which connections a chain is for; an empty list matches all.
    #[derive(Eq)]
    pub struct FilterChainMatch = "envoy.config.listener.v3.FilterChainMatch" {
        /// 1..=65535.
        pub destination_port: Option<u16>,
        /// Destination addresses.
        pub prefix_ranges: Vec<CidrRange>,
        /// Source addresses, as the kernel has them.
        pub direct_source_prefix_ranges: Vec<CidrRange>,
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

message! {
    /// A listener filter.
    pub message ListenerFilter = "envoy.config.listener.v3.ListenerFilter" {
        /// Never empty; what counts is the type of the configuration.
        pub name: String,
        /// What it is.
        pub typed_config: TypedConfig => read_listener_filter,
    }
}

fn read_listener_filter(r: &mut MessageReader<'_>, name: &str) -> Result<TypedConfig, ConfigError> {
    r.typed_config(name, Category::ListenerFilters)
}

message! {
    /// A network filter.
    pub message Filter = "envoy.config.listener.v3.Filter" {
        /// Never empty; what counts is the type of the configuration.
        pub name: String,
        /// What it is.
        pub typed_config: TypedConfig => read_network_filter,
    }
}

fn read_network_filter(r: &mut MessageReader<'_>, name: &str) -> Result<TypedConfig, ConfigError> {
    r.typed_config(name, Category::NetworkFilters)
}

enum_fields! { TrafficDirection, DrainType, ConnectionSourceType }
