//! `envoy.config.endpoint.v3`: the hosts of a cluster.

use super::address::{Address, SocketAddress, check_ipv4_compat};
use super::core::{FractionalPercent, Locality, Metadata};
use super::error::ConfigError;
use super::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message};
use std::sync::Arc;

/// Envoy's `overprovisioning_factor` in percent.
pub const DEFAULT_OVERPROVISIONING_FACTOR: u32 = 140;

message! {
    /// The hosts of a cluster, by locality and priority.
    #[derive(Eq)]
    pub struct ClusterLoadAssignment = "envoy.config.endpoint.v3.ClusterLoadAssignment" {
        /// Never empty; it need not equal the cluster's name.
        pub cluster_name: String,
        /// Groups of hosts.
        pub endpoints: Vec<LocalityLbEndpoints>,
        /// How they are balanced.
        pub policy: Policy,
    }
}

impl ClusterLoadAssignment {
    /// The addresses of all hosts, each with its place.
    pub fn addresses(&self) -> impl Iterator<Item = (String, &Address)> {
        self.endpoints.iter().enumerate().flat_map(|(i, group)| {
            group.lb_endpoints.iter().enumerate().map(move |(j, host)| {
                (format!("endpoints[{i}].lb_endpoints[{j}].endpoint.address"), &host.endpoint.address)
            })
        })
    }
}

impl ClusterLoadAssignment {
    /// The addresses that hosts have beside the first one, each with its place.
    pub fn additional_addresses(&self) -> impl Iterator<Item = (String, &Address)> {
        self.endpoints.iter().enumerate().flat_map(|(i, group)| {
            group.lb_endpoints.iter().enumerate().flat_map(move |(j, host)| {
                host.endpoint.additional_addresses.iter().enumerate().map(move |(k, additional)| {
                    let at = format!(
                        "endpoints[{i}].lb_endpoints[{j}].endpoint.additional_addresses[{k}].address"
                    );
                    (at, &additional.address)
                })
            })
        })
    }
}

message! {
    /// `ClusterLoadAssignment.Policy`.
    #[derive(Eq)]
    pub struct Policy = "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", checked by check_drop_overloads {
        /// Percent, at least 1, default 140: how far the share of healthy hosts of a priority may fall before requests
        /// go to the next one.
        pub overprovisioning_factor: u32 = DEFAULT_OVERPROVISIONING_FACTOR,
        /// Whether that share is one of weights and not of numbers.
        pub weighted_priority_health: bool,
        /// Which share of requests is not let through; at most one.
        pub drop_overloads: Vec<DropOverload>,
    }
}

message! {
    /// `ClusterLoadAssignment.Policy.DropOverload`.
    #[derive(Eq)]
    pub struct DropOverload = "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload" {
        /// Never empty.
        pub category: String,
        /// The share.
        pub drop_percentage: FractionalPercent,
    }
}

fn check_drop_overloads(r: &mut MessageReader<'_>, policy: &Policy) {
    let drops = &policy.drop_overloads;
    if drops.len() > 1 {
        let message =
            format!("Cluster drop_overloads config has {} categories. Envoy only support one.", drops.len());
        return r.refuse("drop_overloads", message);
    }
    let Some(share) = drops.first().map(|drop| &drop.drop_percentage) else { return };
    let (numerator, denominator) = (share.numerator, share.denominator.number());
    if numerator > denominator {
        let ratio = f64::from(numerator) / f64::from(denominator);
        let message = format!(
            "Cluster drop_overloads config is invalid. drop_ratio={ratio}(Numerator {numerator} / Denominator {denominator}). \
             The valid range is 0~1."
        );
        r.refuse("drop_overloads", message);
    }
}

message! {
    /// Hosts of one locality and priority.
    #[derive(Eq)]
    pub struct LocalityLbEndpoints = "envoy.config.endpoint.v3.LocalityLbEndpoints" {
        /// Where they run; `None` when absent.
        pub locality: Option<Locality>,
        /// The hosts.
        pub lb_endpoints: Vec<LbEndpoint>,
        /// At least 1; `None` when absent.
        pub load_balancing_weight: Option<u32>,
        /// 0..=128, 0 is the first choice.
        pub priority: u32,
        /// Not looked at, as in Envoy.
        pub metadata: Option<Box<Metadata>>,
    }
}

message! {
    /// A host.
    #[derive(Eq)]
    pub message LbEndpoint = "envoy.config.endpoint.v3.LbEndpoint" {
        /// Health as the configuration has it.
        pub health_status: HealthStatus,
        /// At least 1, default 1.
        pub load_balancing_weight: u32 = 1,
        /// What is said of it to those who look for their names in it.
        pub metadata: Option<Arc<Metadata>>,
        /// Who it is.
        pub endpoint: Endpoint => MessageReader::required_message,
    }
}

message! {
    /// Where a host is.
    #[derive(Eq)]
    pub message Endpoint = "envoy.config.endpoint.v3.Endpoint" {
        /// Name used for host rewrites; may be empty.
        pub hostname: String,
        /// Where it listens: an address or, where the cluster looks it up, a name.
        pub address: Address => read_named_address,
        /// How it is asked whether it is well, where that differs from others.
        pub health_check_config: Option<Box<HealthCheckConfig>>,
        /// It listens there, too: the first that connects is taken.
        pub additional_addresses: Vec<AdditionalAddress>,
    }
}

message! {
    /// `Endpoint.AdditionalAddress`.
    #[derive(Eq)]
    pub message AdditionalAddress = "envoy.config.endpoint.v3.Endpoint.AdditionalAddress" {
        /// The address.
        pub address: Address => MessageReader::required_message,
    }
}

message! {
    /// `Endpoint.HealthCheckConfig`.
    #[derive(Eq)]
    pub struct HealthCheckConfig = "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig" {
        /// On another port; 0 is the same.
        pub port_value: u16,
        /// The host that is asked for, instead of the one that the check has.
        pub hostname: String,
        /// At another address.
        pub address: Option<Address>,
        /// Not at all.
        pub disable_active_health_check: bool,
    }
}

fn read_named_address(r: &mut MessageReader<'_>, name: &str) -> Result<Address, ConfigError> {
    if !r.has(name) {
        return r.required_message(name);
    }
    let address = r.message_with(name, |r| {
        r.one_of(&[
            ("socket_address", |r, name| {
                let socket = r.required_message::<NamedSocketAddress>(name)?;
                Ok(Address::SocketAddress(socket.into()))
            }),
            ("pipe", |r, name| Ok(Address::Pipe(r.required_message(name)?))),
        ])
    })?;
    address.ok_or_else(|| r.noted())
}

message! {
    /// As [`SocketAddress`], but it may be a name.
    pub message NamedSocketAddress = "envoy.config.core.v3.SocketAddress", checked by check_named_address {
        /// IPv4 or IPv6 literal, or a name.
        pub address: String,
        /// Where that is.
        pub port_value: u16,
        /// Whether an IPv6 socket also takes IPv4 (only `::` and mapped addresses).
        pub ipv4_compat: bool,
    }
}

impl From<NamedSocketAddress> for SocketAddress {
    fn from(NamedSocketAddress { address, port_value, ipv4_compat }: NamedSocketAddress) -> Self {
        SocketAddress { address, port_value, ipv4_compat }
    }
}

fn check_named_address(r: &mut MessageReader<'_>, named: &NamedSocketAddress) {
    check_ipv4_compat(r, &named.clone().into());
}

/// `core.v3.HealthStatus`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HealthStatus {
    /// Not said: counts as healthy.
    #[default]
    Unknown,
    /// Gets requests.
    Healthy,
    /// Gets none.
    Unhealthy,
    /// Counts as unhealthy.
    Draining,
    /// Counts as unhealthy.
    Timeout,
    /// Gets requests when there are not enough healthy hosts.
    Degraded,
}

impl HealthStatus {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("UNKNOWN", Self::Unknown),
        ("HEALTHY", Self::Healthy),
        ("UNHEALTHY", Self::Unhealthy),
        ("DRAINING", Self::Draining),
        ("TIMEOUT", Self::Timeout),
        ("DEGRADED", Self::Degraded),
    ];
}

enum_fields! { HealthStatus }
