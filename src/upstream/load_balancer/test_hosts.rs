//! Hosts of a cluster for the tests of balancers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{LoadBalancer, LoadBalancerParams, NoContext};
use crate::config::endpoint::HealthStatus;
use crate::upstream::test_support::{cluster_info_of, host, port};
use crate::upstream::{ClusterInfoImpl, HostSharedPtr, HostVectors, PrioritySetImpl};

pub struct TestHosts {
    pub info: Arc<ClusterInfoImpl>,
    pub set: Rc<PrioritySetImpl>,
}

impl TestHosts {
    pub fn new() -> Self {
        Self::of(json!({ "name": "a" }))
    }

    /// Of a cluster of this configuration.
    pub fn of(cluster: Value) -> Self {
        TestHosts { info: cluster_info_of(cluster), set: PrioritySetImpl::new() }
    }

    pub fn params(&self) -> LoadBalancerParams<'_> {
        LoadBalancerParams { priority_set: &self.set, local_priority_set: None, info: &self.info }
    }

    /// Gives a priority hosts of (port, weight, status).
    pub fn update(&self, priority: u32, hosts: &[(u16, u32, HealthStatus)]) {
        let hosts = hosts.iter().map(|(p, w, s)| host(&self.info, *p, *w, *s)).collect();
        let hosts: Arc<Vec<HostSharedPtr>> = Arc::new(hosts);
        self.set.update_hosts(priority, HostVectors::partition(hosts.clone(), &Arc::default()), &hosts, &[]);
    }

    /// How often each port is chosen.
    pub fn counts(&self, balancer: &dyn LoadBalancer, choices: usize) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..choices {
            *counts.entry(port(balancer.choose_host(&NoContext).unwrap().shared())).or_default() += 1;
        }
        counts
    }
}
