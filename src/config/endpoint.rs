//! `envoy.config.endpoint.v3`: the hosts of a cluster.

use super::address::Address;
use super::core::Locality;
use super::error::ConfigError;
use super::reader::{EnumTable, FromMessage, MessageReader};
use crate::message;

/// Envoy's `overprovisioning_factor` in percent.
pub const DEFAULT_OVERPROVISIONING_FACTOR: u32 = 140;

/// The hosts of a cluster, by locality and priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLoadAssignment {
    /// Never empty; it need not equal the cluster's name.
    pub cluster_name: String,
    /// Groups of hosts.
    pub endpoints: Vec<LocalityLbEndpoints>,
    /// Percent, at least 1, default 140: how far the share of healthy hosts of a
    /// priority may fall before requests go to the next one.
    pub overprovisioning_factor: u32,
}

impl FromMessage for ClusterLoadAssignment {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let policy: Policy = r.message("policy")?.unwrap_or_default();
        Ok(Self {
            cluster_name: r.string("cluster_name")?,
            endpoints: r.messages("endpoints")?,
            overprovisioning_factor: policy
                .overprovisioning_factor
                .unwrap_or(DEFAULT_OVERPROVISIONING_FACTOR),
        })
    }
}

#[derive(Default)]
struct Policy {
    overprovisioning_factor: Option<u32>,
}

impl FromMessage for Policy {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self { overprovisioning_factor: r.opt_u32("overprovisioning_factor")? })
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
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LbEndpoint {
    /// Where it listens.
    pub address: Address,
    /// Name used for host rewrites; may be empty.
    pub hostname: String,
    /// Health as the configuration has it.
    pub health_status: HealthStatus,
    /// At least 1, default 1.
    pub load_balancing_weight: u32,
}

impl FromMessage for LbEndpoint {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let weight = r.opt_u32("load_balancing_weight")?;
        let health_status = r.enumeration("health_status", HealthStatus::TABLE)?.unwrap_or_default();
        let endpoint: Endpoint = r.required_message("endpoint")?;
        Ok(Self {
            address: endpoint.address,
            hostname: endpoint.hostname,
            health_status,
            load_balancing_weight: weight.unwrap_or(1),
        })
    }
}

struct Endpoint {
    address: Address,
    hostname: String,
}

impl FromMessage for Endpoint {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let hostname = r.string("hostname")?;
        Ok(Self { address: r.required_message("address")?, hostname })
    }
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
    const TABLE: &EnumTable<Self> = &[
        ("UNKNOWN", Self::Unknown),
        ("HEALTHY", Self::Healthy),
        ("UNHEALTHY", Self::Unhealthy),
        ("DRAINING", Self::Draining),
        ("TIMEOUT", Self::Timeout),
        ("DEGRADED", Self::Degraded),
    ];
}
