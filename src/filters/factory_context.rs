//! What a filter's configuration is built with. Mirrors `FactoryContext` of Envoy's
//! `include/envoy/server/filter_config.h`.

use std::sync::Arc;

use crate::access_log::AccessLogManager;
use crate::cluster_manager::ClusterManager;
use crate::http::DateProvider;
use crate::network::Address;
use crate::stats::Store;
use crate::thread_local::SlotImpl;

/// What the server gives to those it configures.
#[derive(Clone)]
pub struct FactoryContext {
    /// All statistics.
    pub stats: Arc<Store>,
    /// The clusters.
    pub cluster_manager: ClusterManager,
    /// Files that access logs go to.
    pub access_log_manager: Arc<AccessLogManager>,
    /// Each worker's date.
    pub date_provider: SlotImpl<DateProvider>,
    /// The machine's own address, where a peer on it would show a loopback one.
    pub local_address: Address,
    /// The local cluster's name, for add_user_agent.
    pub service_cluster: String,
    /// The zone of this node; may be empty.
    pub service_zone: String,
    /// The node's name, for x-envoy-downstream-service-node.
    pub service_node: String,
}
