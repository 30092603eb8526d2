//! Which of a cluster's hosts stay when there is a new list of them.
//!
//! Mirrors `BaseDynamicClusterImpl::updateDynamicHostList` of Envoy's `source/common/upstream/upstream_impl.cc`, for hosts of
//! which nothing but the address can change.

use std::collections::HashMap;

use super::{HealthFlag, HostSharedPtr};
use crate::network::Address;

/// A new list of hosts beside the old one.
pub(super) struct HostListUpdate {
    /// In the order of their addresses.
    pub(super) hosts: Vec<HostSharedPtr>,
    /// Those that were not there before.
    pub(super) added: Vec<HostSharedPtr>,
    /// Those that are not there any more.
    pub(super) removed: Vec<HostSharedPtr>,
}

/// Keeps the host of each address that is known and makes the others. The addresses differ from each other. Behind them stay
/// hosts that are no longer named, if `outlives` says so.
pub(super) fn update_dynamic_host_list(
    known: &[HostSharedPtr],
    addresses: &[Address],
    create: impl Fn(&Address) -> HostSharedPtr,
    outlives: impl Fn(&HostSharedPtr) -> bool,
) -> HostListUpdate {
    let mut gone: HashMap<&Address, &HostSharedPtr> =
        known.iter().map(|host| (host.address(), host)).collect();
    let mut added = Vec::new();
    let mut host_of = |address: &Address| match gone.remove(address) {
        Some(host) => {
            host.health_flag_clear(HealthFlag::PendingDynamicRemoval);
            host.clone()
        }
        None => {
            let host = create(address);
            added.push(host.clone());
            host
        }
    };
    let mut hosts: Vec<_> = addresses.iter().map(&mut host_of).collect();
    let mut removed = Vec::new();
    for host in known.iter().filter(|host| gone.contains_key(host.address())) {
        if outlives(host) {
            host.health_flag_set(HealthFlag::PendingDynamicRemoval);
            hosts.push(host.clone());
        } else {
            removed.push(host.clone());
        }
    }
    HostListUpdate { hosts, added, removed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus;
    use crate::upstream::test_support::{cluster_info, host, port};
    use std::sync::Arc;

    fn ports(hosts: &[HostSharedPtr]) -> Vec<u16> {
        hosts.iter().map(port).collect()
    }

    #[test]
    fn hosts_stay_as_long_as_their_addresses() {
        let info = cluster_info();
        let create = |address: &Address| host(&info, address.ip().unwrap().port(), 1, HealthStatus::Unknown);
        let at = |ports: &[u16]| {
            ports.iter().map(|p| Address::Ip(([127, 0, 0, 1], *p).into())).collect::<Vec<_>>()
        };
        let first = update_dynamic_host_list(&[], &at(&[1, 2, 3]), create, |_| false);
        assert_eq!(
            (ports(&first.hosts), ports(&first.added), ports(&first.removed)),
            (vec![1, 2, 3], vec![1, 2, 3], vec![])
        );
        let second = update_dynamic_host_list(&first.hosts, &at(&[4, 3, 1]), create, |_| false);
        assert_eq!(
            (ports(&second.hosts), ports(&second.added), ports(&second.removed)),
            (vec![4, 3, 1], vec![4], vec![2])
        );
        assert!(
            Arc::ptr_eq(&second.hosts[1], &first.hosts[2])
                && Arc::ptr_eq(&second.removed[0], &first.hosts[1])
        );
        let turned = update_dynamic_host_list(&second.hosts, &at(&[1, 3, 4]), create, |_| false);
        assert_eq!((turned.added.len(), turned.removed.len(), ports(&turned.hosts)), (0, 0, vec![1, 3, 4]));
        let none = update_dynamic_host_list(&turned.hosts, &[], create, |_| false);
        assert_eq!((ports(&none.hosts), ports(&none.removed)), (vec![], vec![1, 3, 4]));
        let kept = update_dynamic_host_list(&turned.hosts, &at(&[3]), create, |host| port(host) == 4);
        assert_eq!((ports(&kept.hosts), ports(&kept.removed)), (vec![3, 4], vec![1]));
        assert_eq!(kept.hosts[1].health_flags_text(), "/pending_dynamic_removal");
        let back = update_dynamic_host_list(&kept.hosts, &at(&[4, 3]), create, |_| true);
        assert_eq!((back.added.len(), back.hosts[0].health_flags_text().as_str()), (0, "healthy"));
    }
}
