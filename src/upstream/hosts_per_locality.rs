//! The hosts of one priority by where they run.
//!
//! Mirrors `HostsPerLocalityImpl` and `PriorityStateManager::updateClusterPrioritySet` of Envoy's
//! `source/common/upstream/upstream_impl.cc`, with the hosts of one place and their weight side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::host_set::with_health;
use super::{Health, HostSetOptions, HostSharedPtr};
use crate::config::core::Locality;

/// See the module's description.
pub struct HostsPerLocality {
    /// Whether the first place is that of the proxy.
    pub has_local_locality: bool,
    /// The proxy's own, if there are hosts, then by their names.
    pub localities: Vec<LocalityHosts>,
}

/// The hosts of one place.
pub struct LocalityHosts {
    /// The place.
    pub locality: Locality,
    /// Its share of requests beside the others; 0 where none is given.
    pub weight: u32,
    /// All hosts; at least one.
    pub hosts: Arc<Vec<HostSharedPtr>>,
    /// Those that are healthy.
    pub healthy_hosts: Arc<Vec<HostSharedPtr>>,
    /// Those that are degraded.
    pub degraded_hosts: Arc<Vec<HostSharedPtr>>,
    /// How many of `hosts` do not count when availability is computed.
    pub excluded_hosts: usize,
}

impl HostsPerLocality {
    /// `None` if they are all in one place which nothing is said of and which is not the proxy's own.
    pub(super) fn of(hosts: &[HostSharedPtr], options: &HostSetOptions) -> Option<Box<Self>> {
        let HostSetOptions { locality_weights, local_locality, .. } = options;
        let local = local_locality.as_deref();
        let first = hosts.first()?.locality();
        let is_one_place = hosts.iter().all(|host| host.locality() == first);
        if is_one_place && local != Some(first) && locality_weights.is_empty() {
            return None;
        }
        let mut by_locality: BTreeMap<&Locality, Vec<HostSharedPtr>> = BTreeMap::new();
        for host in hosts {
            by_locality.entry(host.locality()).or_default().push(host.clone());
        }
        let of_proxy = local.and_then(|local| by_locality.remove_entry(local));
        let has_local_locality = of_proxy.is_some();
        let weight = |locality| locality_weights.get(locality).copied().unwrap_or(0);
        let localities = of_proxy.into_iter().chain(by_locality);
        let localities =
            localities.map(|(locality, hosts)| LocalityHosts::new(locality, weight(locality), hosts));
        Some(Box::new(HostsPerLocality { has_local_locality, localities: localities.collect() }))
    }
}

impl LocalityHosts {
    fn new(locality: &Locality, weight: u32, hosts: Vec<HostSharedPtr>) -> Self {
        LocalityHosts {
            locality: locality.clone(),
            weight,
            healthy_hosts: with_health(&hosts, Health::Healthy),
            degraded_hosts: with_health(&hosts, Health::Degraded),
            excluded_hosts: hosts.iter().filter(|host| host.is_excluded()).count(),
            hosts: Arc::new(hosts),
        }
    }
}
