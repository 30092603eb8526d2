//! Clusters and their hosts, and how a host is chosen.
//!
//! Mirrors Envoy's `source/common/upstream/`, without the cluster manager, which is a floor of its own.
//!
//! ```text
//! main thread                               worker
//! StaticClusterImpl, DnsClusterImpl         (one per cluster and worker)
//!   PrioritySetImpl ──Arc<HostVectors>──>   PrioritySetImpl ──> RoundRobinLoadBalancer
//!        │                                       │
//!        └────────── HostImpl (shared) ──────────┘ (by a WorkerHost)
//!                        └── ClusterInfoImpl (shared): stats, limits, options
//! ```
//!
//! `Arc`s of [`ClusterInfoImpl`], [`HostImpl`] and [`HostVectors`] go between threads; everything else
//! belongs to one thread.

mod cluster;
mod cluster_factory;
mod cluster_info;
mod cluster_name;
mod cluster_services;
mod cluster_stats;
mod code_stats;
mod dns_cluster;
mod dynamic_hosts;
pub mod health_checker;
mod host;
mod host_set;
mod host_set_options;
mod host_stats;
mod hosts_per_locality;
pub mod load_balancer;
mod local_addresses;
mod metadata_match;
mod metadata_pool;
mod original_dst_cluster;
pub mod outlier_detection;
mod priority_set;
mod resolve_target;
mod resource_manager;
pub mod retry;
mod static_cluster;
#[cfg(test)]
pub(crate) mod test_support;
mod worker_host;

pub use cluster::{Cluster, ClusterImplBase, InitializePhase};
pub use cluster_factory::{ClusterFactory, ClusterFactoryContext, ClusterTypeConfig, create_cluster};
pub use cluster_info::ClusterInfoImpl;
pub use cluster_name::ClusterName;
pub use cluster_services::{CheckHeaders, ClusterServices, LineSink, NoServices};
pub use cluster_stats::{
    ClusterMembershipStats, ClusterRequestResponseSizeStats, ClusterStats, ClusterTimeoutBudgetStats,
    TrackedStats,
};
pub use code_stats::{CodeStats, CodeStatsCategory, ResponseOrigin};
pub use dns_cluster::{DNS_CLUSTER, DnsClusterImpl, LOGICAL_DNS_CLUSTER, STRICT_DNS_CLUSTER};
pub use host::{ENVOY_LB, Health, HealthFlag, HostImpl, HostSharedPtr};
pub use host_set::{HostSetImpl, HostVectors};
pub use host_set_options::HostSetOptions;
pub use host_stats::{HostStats, PrimitiveCounter, PrimitiveGauge};
pub use hosts_per_locality::{HostsPerLocality, LocalityHosts};
pub use load_balancer::{LoadBalancer, RoundRobinLoadBalancer};
pub use metadata_match::{metadata_equal, metadata_label_match};
pub use metadata_pool::MetadataPool;
pub use original_dst_cluster::{ORIGINAL_DST_CLUSTER, OriginalDstCluster, OriginalDstClusterHandle};
pub use priority_set::{MemberUpdateCb, PrioritySetImpl, PriorityUpdateCb};
pub use resource_manager::{Resource, ResourceManagerImpl, ResourcePriority};
pub use static_cluster::{STATIC_CLUSTER, StaticClusterImpl};
pub use worker_host::WorkerHost;
