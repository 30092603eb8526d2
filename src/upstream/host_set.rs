//! The hosts of one priority.
//!
//! Mirrors `HostSetImpl` of Envoy's `source/common/upstream/upstream_impl.cc`.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use super::load_balancer::SharedTable;
use super::{Health, HostSetOptions, HostSharedPtr, HostsPerLocality};

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
    /// The sum of their weights.
    pub excluded_weight: u64,
    /// What holds of them all.
    pub options: Arc<HostSetOptions>,
    /// By where they run; `None` where nobody could care: they are all in one place that nothing is said of.
    pub per_locality: Option<Box<HostsPerLocality>>,
    /// For balancers that hash: the tables of the healthy hosts, and of all, once they are made.
    pub(super) tables: [OnceLock<Arc<SharedTable>>; 2],
}

impl HostVectors {
    /// Sorts `hosts` by their health of now.
    pub fn partition(hosts: Arc<Vec<HostSharedPtr>>, options: &Arc<HostSetOptions>) -> Arc<Self> {
        let excluded = || hosts.iter().filter(|host| host.is_excluded());
        Arc::new(HostVectors {
            healthy_hosts: with_health(&hosts, Health::Healthy),
            degraded_hosts: with_health(&hosts, Health::Degraded),
            excluded_hosts: excluded().count(),
            excluded_weight: excluded().map(|host| u64::from(host.weight())).sum(),
            per_locality: HostsPerLocality::of(&hosts, options),
            hosts,
            options: options.clone(),
            tables: Default::default(),
        })
    }

    /// No hosts.
    pub fn empty() -> Arc<Self> {
        Self::partition(Arc::default(), &Arc::default())
    }
}

/// Those of them that are as healthy as that.
pub(super) fn with_health(hosts: &[HostSharedPtr], health: Health) -> Arc<Vec<HostSharedPtr>> {
    Arc::new(hosts.iter().filter(|host| host.health() == health).cloned().collect())
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

    /// What holds of all hosts.
    pub fn options(&self) -> Arc<HostSetOptions> {
        self.vectors.borrow().options.clone()
    }

    pub(super) fn set_vectors(&self, vectors: Arc<HostVectors>) {
        // The old ones are dropped after the borrow: hosts may go with them.
        let _old = self.vectors.replace(vectors);
    }
}
