//! What a configuration says of localities: `LocalityLbConfig` of the policies, or `CommonLbConfig` of a cluster.

use crate::config::cluster::{CommonLbConfig, LocalityConfig};
use crate::config::core::Percent;
use crate::config::error::ConfigError;
use crate::config::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message, one_of};

/// How hosts are chosen by where they run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalityLbConfig {
    /// Localities have weights.
    pub weighted: bool,
    /// How requests stay in a zone; matters where the proxy's own cluster is named.
    pub zone_aware: ZoneAwareConfig,
}

/// As 1.40 has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneAwareConfig {
    /// Percent of the requests that it is for.
    pub routing_enabled: u32,
    /// It is for clusters that have so many healthy hosts.
    pub min_cluster_size: u64,
    /// Requests fail where there are not enough healthy hosts.
    pub fail_traffic_on_panic: bool,
    /// From so many hosts on, all requests stay in the zone.
    pub force_local_zone: Option<u32>,
    /// What counts of the hosts.
    pub locality_basis: LocalityBasis,
}

impl Default for ZoneAwareConfig {
    fn default() -> Self {
        ZoneAwareConfig {
            routing_enabled: 100,
            min_cluster_size: 6,
            fail_traffic_on_panic: false,
            force_local_zone: None,
            locality_basis: LocalityBasis::HealthyHostsNum,
        }
    }
}

/// What counts of the hosts of a locality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalityBasis {
    /// How many are healthy.
    #[default]
    HealthyHostsNum,
    /// What those weigh.
    HealthyHostsWeight,
}

impl LocalityBasis {
    /// API names.
    const TABLE: &EnumTable<Self> =
        &[("HEALTHY_HOSTS_NUM", Self::HealthyHostsNum), ("HEALTHY_HOSTS_WEIGHT", Self::HealthyHostsWeight)];
}

enum_fields! { LocalityBasis }

one_of! {
    /// The extensions' message.
    pub enum OfPolicy = "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig" {
        /// Zones.
        ZoneAware(ZoneAwareLbConfig) = "zone_aware_lb_config",
        /// Weights.
        Weighted(LocalityWeightedLbConfig) = "locality_weighted_lb_config",
    }
}

message! {
    /// `ZoneAwareLbConfig`.
    pub struct ZoneAwareLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig" {
        /// As [`ZoneAwareConfig::routing_enabled`].
        pub routing_enabled: Percent = Percent { value: 100.0 },
        /// As [`ZoneAwareConfig::min_cluster_size`].
        pub min_cluster_size: u64 = 6,
        /// As [`ZoneAwareConfig::fail_traffic_on_panic`].
        pub fail_traffic_on_panic: bool,
        /// As [`ZoneAwareConfig::force_local_zone`] from one host on.
        pub force_locality_direct_routing: bool,
        /// As [`ZoneAwareConfig::force_local_zone`].
        pub force_local_zone: Option<ForceLocalZone>,
        /// As [`ZoneAwareConfig::locality_basis`].
        pub locality_basis: LocalityBasis,
    }
}

message! {
    /// `ForceLocalZone`.
    pub struct ForceLocalZone =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig.ForceLocalZone" {
        /// Hosts, at least.
        pub min_size: u32 = 1,
    }
}

message! {
    /// `LocalityWeightedLbConfig`, which says nothing more.
    pub struct LocalityWeightedLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig" {}
}

impl From<Option<OfPolicy>> for LocalityLbConfig {
    fn from(config: Option<OfPolicy>) -> Self {
        match config {
            Some(OfPolicy::Weighted(_)) => LocalityLbConfig { weighted: true, ..Self::default() },
            Some(OfPolicy::ZoneAware(config)) => {
                let forced = config.force_locality_direct_routing.then_some(1);
                let zone_aware = ZoneAwareConfig {
                    routing_enabled: rounded(config.routing_enabled),
                    min_cluster_size: config.min_cluster_size,
                    fail_traffic_on_panic: config.fail_traffic_on_panic,
                    force_local_zone: config.force_local_zone.map(|zone| zone.min_size).or(forced),
                    locality_basis: config.locality_basis,
                };
                LocalityLbConfig { weighted: false, zone_aware }
            }
            None => Self::default(),
        }
    }
}

impl LocalityLbConfig {
    /// What the cluster that is read says.
    ///
    /// # Errors
    /// Never: what is wrong has been noted.
    pub fn of_cluster(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let common: Option<CommonLbConfig> = r.message("common_lb_config")?;
        Ok(match common.map(|common| common.locality) {
            Some(LocalityConfig::Weighted) => LocalityLbConfig { weighted: true, ..Self::default() },
            Some(LocalityConfig::ZoneAware(config)) => {
                let zone_aware = ZoneAwareConfig {
                    routing_enabled: rounded(config.routing_enabled),
                    min_cluster_size: config.min_cluster_size,
                    fail_traffic_on_panic: config.fail_traffic_on_panic,
                    ..ZoneAwareConfig::default()
                };
                LocalityLbConfig { weighted: false, zone_aware }
            }
            Some(LocalityConfig::None) | None => Self::default(),
        })
    }
}

/// Percent as a whole number.
fn rounded(percent: Percent) -> u32 {
    percent.value.round() as u32
}
