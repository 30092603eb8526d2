//! The hosts of one priority.
//!
//! Mirrors `HostSetImpl` of Envoy's `source/common/upstream/upstream_impl.cc`, without localities.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use super::load_balancer::HashingTable;
use super::{Health, HostSharedPtr};
use crate::config::endpoint::DEFAULT_OVERPROVISIONING_FACTOR;

/// The hosts of a priority as they were at one moment. What threads send each other.
pub struct HostVectors {
    /// All hosts.
    pub hosts: Arc<Vec<HostSharedPtr>>,
    /// Those that are healthy.
    pub healthy_hosts: Arc<Vec<HostSharedPtr>>,
    /// Those that are degraded.
    pub degraded_hosts: Arc<Vec<HostSharedPtr>>,
    /// How many of `hosts` do not count when availability is computed.
    pub excluded_hosts: usize,
    /// Percent: how far the share of healthy hosts may fall before requests go to the next priority.
    pub overprovisioning_factor: u32,
    /// For balancers that hash: the tables of the healthy hosts, and of all, once they are made.
    pub(super) tables: [OnceLock<Arc<dyn HashingTable>>; 2],
}

impl HostVectors {
    /// Sorts `hosts` by their health of now.
    pub fn partition(hosts: Arc<Vec<HostSharedPtr>>, overprovisioning_factor: u32) -> Arc<Self> {
        let with = |health| Arc::new(hosts.iter().filter(|h| h.health() == health).cloned().collect());
        Arc::new(HostVectors {
            healthy_hosts: with(Health::Healthy),
            degraded_hosts: with(Health::Degraded),
            excluded_hosts: hosts.iter().filter(|host| host.is_excluded()).count(),
            hosts,
            overprovisioning_factor,
            tables: Default::default(),
        })
    }

    /// No hosts.
    pub fn empty() -> Arc<Self> {
        Self::partition(Arc::default(), DEFAULT_OVERPROVISIONING_FACTOR)
    }
}

/// The hosts of one priority on one thread.
pub struct HostSetImpl {
    priority: u32,
    vectors: RefCell<Arc<HostVectors>>,
}

impl HostSetImpl {
    pub(super) fn new(priority: u32) -> Self {
        HostSetImpl { priority, vectors: RefCell::new(HostVectors::empty()) }
    }

    /// Which priority this is; 0 is the first choice.
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// The hosts of now.
    pub fn vectors(&self) -> Arc<HostVectors> {
        self.vectors.borrow().clone()
    }

    /// All hosts.
    pub fn hosts(&self) -> Arc<Vec<HostSharedPtr>> {
        self.vectors.borrow().hosts.clone()
    }

    /// Those that are healthy.
    pub fn healthy_hosts(&self) -> Arc<Vec<HostSharedPtr>> {
        self.vectors.borrow().healthy_hosts.clone()
    }

    /// Those that are degraded.
    pub fn degraded_hosts(&self) -> Arc<Vec<HostSharedPtr>> {
        self.vectors.borrow().degraded_hosts.clone()
    }

    /// Percent, default 140.
    pub fn overprovisioning_factor(&self) -> u32 {
        self.vectors.borrow().overprovisioning_factor
    }

    pub(super) fn set_vectors(&self, vectors: Arc<HostVectors>) {
        // The old ones are dropped after the borrow: hosts may go with them.
        let _old = self.vectors.replace(vectors);
    }
}
