//! What a filter's configuration is built with. Mirrors `FactoryContext` of Envoy's
//! `include/envoy/server/filter_config.h` and, as of 1.40, `ServerFactoryContext`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::access_log::AccessLogManager;
use crate::cluster_manager::ClusterManager;
use crate::http::DateProvider;
use crate::init::ManagerImpl;
use crate::network::{Address, DrainDecision};
use crate::runtime::LoaderImpl;
use crate::stats::{Scope, Store};
use crate::thread_local::SlotImpl;

/// What the server gives to those it configures.
#[derive(Clone)]
pub struct ServerFactoryContext {
    /// All statistics.
    pub stats: Arc<Store>,
    /// The clusters.
    pub cluster_manager: ClusterManager,
    /// Settings that may change.
    pub runtime: Rc<LoaderImpl>,
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
    /// Whether the admin has the server fail its health checks.
    pub health_check_failed: Arc<AtomicBool>,
}

/// What a listener gives to its filters.
pub struct FactoryContext<'a> {
    /// What the server gives.
    pub server: &'a ServerFactoryContext,
    /// What the listener waits for before it serves.
    pub init_manager: &'a ManagerImpl,
    /// Where the listener's statistics are made.
    pub listener_scope: &'a Scope,
    /// Whether the log names its filters: not those of the main thread's own listeners, which Envoy makes without a factory.
    pub is_logged: bool,
    /// Whether the listener's connections are to go.
    pub drain_decision: Arc<dyn DrainDecision>,
}
