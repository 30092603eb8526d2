//! What a configuration says of balancers by a number of the request, whichever table they have.

use std::rc::Rc;
use std::sync::Arc;

use super::hashing::{HashingTables, TableFactory, refresh};
use super::{
    HashingLoadBalancer, LoadBalancer, LoadBalancerConfig, LoadBalancerParams, ThreadAwareLoadBalancer,
};
use crate::config::cluster::{CommonLbConfig, LocalityConfig};
use crate::config::error::ConfigError;
use crate::config::reader::MessageReader;
use crate::message;
use crate::stats::Scope;
use crate::upstream::{ClusterInfoImpl, PrioritySetImpl};

message! {
    /// What the extensions say alike.
    pub struct ConsistentHashingLbConfig = "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig" {
        /// Hosts are hashed by their names and not by their addresses.
        pub use_hostname_for_hashing: bool,
        /// Percent of the average of requests that a host gets at most.
        pub hash_balance_factor: Option<u32>,
    }
}

message! {
    /// Places of hosts have weights, which the extensions say by themselves.
    pub struct LocalityWeightedLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig" {}
}

/// What all tables are made by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HashingOptions {
    /// Hosts are hashed by their names and not by their addresses.
    pub by_hostname: bool,
    /// Percent of the average of requests that a host gets at most; `None` is no limit.
    pub balance_factor: Option<u32>,
    /// Whether localities have weights.
    pub locality_weighted: bool,
}

impl HashingOptions {
    /// Of an extension.
    pub fn of_policy(
        common: &ConsistentHashingLbConfig,
        locality: Option<&LocalityWeightedLbConfig>,
    ) -> Self {
        HashingOptions {
            by_hostname: common.use_hostname_for_hashing,
            balance_factor: common.hash_balance_factor.filter(|factor| *factor > 0),
            locality_weighted: locality.is_some(),
        }
    }

    /// Of the cluster that is read.
    ///
    /// # Errors
    /// Never: what is wrong has been noted.
    pub fn of_cluster(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let common: CommonLbConfig = r.message("common_lb_config")?.unwrap_or_default();
        Ok(HashingOptions {
            by_hostname: common.consistent_hashing_lb_config.use_hostname_for_hashing,
            balance_factor: common.consistent_hashing_lb_config.hash_balance_factor.filter(|f| *f > 0),
            locality_weighted: common.locality == LocalityConfig::Weighted,
        })
    }
}

/// Shows how many entries a table has, and the fewest and the most that a host has.
pub type ShowFigures = Box<dyn Fn(u64, [u64; 2])>;

/// A kind of table among the configurations.
#[derive(Debug)]
pub struct HashingPolicy {
    tables: Arc<HashingTables>,
    show: fn(&Scope) -> ShowFigures,
}

impl HashingPolicy {
    /// `show` makes what shows figures in statistics of a cluster.
    pub fn new(
        factory: Box<dyn TableFactory>,
        options: HashingOptions,
        show: fn(&Scope) -> ShowFigures,
    ) -> Arc<Self> {
        Arc::new(HashingPolicy { tables: Arc::new(HashingTables { factory, options }), show })
    }
}

impl LoadBalancerConfig for HashingPolicy {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        Box::new(HashingLoadBalancer::new(params, self.tables.clone()))
    }

    fn thread_aware(&self, info: &Arc<ClusterInfoImpl>) -> Option<Rc<dyn ThreadAwareLoadBalancer>> {
        let show = (self.show)(info.scope());
        Some(Rc::new(OnMainThread { tables: self.tables.clone(), info: info.clone(), show }))
    }
}

/// The main thread's part.
struct OnMainThread {
    tables: Arc<HashingTables>,
    info: Arc<ClusterInfoImpl>,
    show: ShowFigures,
}

impl ThreadAwareLoadBalancer for OnMainThread {
    fn refresh(&self, priority_set: &PrioritySetImpl) {
        refresh(priority_set, &self.info, &self.tables, &self.show);
    }
}
