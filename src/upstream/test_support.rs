//! Clusters and hosts for the tests of this floor.

use std::sync::Arc;

use serde_json::{Value, json};

use super::load_balancer::{
    CLUSTER_PROVIDED, LEAST_REQUEST, MAGLEV, OVERRIDE_HOST, RANDOM, RING_HASH, ROUND_ROBIN, SUBSET,
};
use super::{
    ClusterInfoImpl, HostImpl, HostSharedPtr, LOGICAL_DNS_CLUSTER, ORIGINAL_DST_CLUSTER, STATIC_CLUSTER,
    STRICT_DNS_CLUSTER,
};
use crate::config::cluster::Cluster as ClusterConfig;
use crate::config::core::Locality;
use crate::config::endpoint::HealthStatus;
use crate::config::extension::{Category, Extensions, TypedFactory};
use crate::config::{UnknownFields, parse_bootstrap};
use crate::network::Address;
use crate::stats::{Scope, Store};

/// The extensions without which there is no cluster.
pub struct OfThisFloor;

impl Extensions for OfThisFloor {
    fn factories(&self, category: Category) -> Vec<&'static dyn TypedFactory> {
        match category {
            Category::Clusters => {
                vec![&STATIC_CLUSTER, &STRICT_DNS_CLUSTER, &LOGICAL_DNS_CLUSTER, &ORIGINAL_DST_CLUSTER]
            }
            Category::LoadBalancingPolicies => {
                vec![
                    &CLUSTER_PROVIDED,
                    &LEAST_REQUEST,
                    &MAGLEV,
                    &OVERRIDE_HOST,
                    &RANDOM,
                    &RING_HASH,
                    &ROUND_ROBIN,
                    &SUBSET,
                ]
            }
            _ => Vec::new(),
        }
    }
}

/// The configuration of a cluster, read as from a bootstrap.
pub fn cluster_config(cluster: Value) -> Arc<ClusterConfig> {
    let raw = json!({ "static_resources": { "clusters": [cluster] } });
    let mut bootstrap = parse_bootstrap(raw, UnknownFields::default(), &OfThisFloor).unwrap();
    bootstrap.static_resources.clusters.remove(0)
}

pub fn root_scope() -> Scope {
    Store::new(1).root_scope()
}

/// A cluster named `a` with default options.
pub fn cluster_info() -> Arc<ClusterInfoImpl> {
    cluster_info_of(json!({ "name": "a" }))
}

/// What is known of a cluster of this configuration.
pub fn cluster_info_of(cluster: Value) -> Arc<ClusterInfoImpl> {
    ClusterInfoImpl::new(&cluster_config(cluster), &root_scope(), false).unwrap()
}

/// A host on 127.0.0.1.
pub fn host(info: &Arc<ClusterInfoImpl>, port: u16, weight: u32, status: HealthStatus) -> HostSharedPtr {
    let address = Address::Ip(([127, 0, 0, 1], port).into());
    HostImpl::new(info.clone(), "", address, Locality::default(), 0, weight, status)
}

pub fn port(host: &HostSharedPtr) -> u16 {
    host.address().ip().unwrap().port()
}
