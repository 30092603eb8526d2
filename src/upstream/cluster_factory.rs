//! How a cluster comes from its configuration. Mirrors Envoy's `include/envoy/upstream/cluster_factory.h`.

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use super::health_checker::HealthCheckerImplBase;
use super::outlier_detection::DetectorImpl;
use super::{Cluster, ClusterServices};
use crate::config::cluster::Cluster as ClusterConfig;
use crate::config::core::Locality;
use crate::config::error::ConfigError;
use crate::config::extension::Factory;
use crate::event::Dispatcher;
use crate::network::DnsResolver;
use crate::runtime::LoaderImpl;
use crate::stats::Scope;

/// What the cluster manager gives to its clusters.
pub struct ClusterFactoryContext<'a> {
    /// The scope in which `cluster.<name>.` is made.
    pub root: &'a Scope,
    /// The main thread's loop.
    pub dispatcher: &'a Rc<Dispatcher>,
    /// Who looks names up, unless a cluster has its own.
    pub dns_resolver: &'a Rc<dyn DnsResolver>,
    /// Where the proxy runs, if that is known.
    pub local_locality: Option<&'a Arc<Locality>>,
    /// Settings that may change.
    pub runtime: &'a Rc<LoaderImpl>,
    /// What the server does for clusters.
    pub services: &'a dyn ClusterServices,
    /// Whether the cluster came from a discovery service and not from the bootstrap.
    pub added_via_api: bool,
}

/// What a configuration says of where the hosts of a cluster come from.
pub trait ClusterTypeConfig: Any + Debug + Send + Sync {
    /// Makes a cluster without hosts yet; `cluster` is all that its configuration says.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the cluster.
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError>;
}

/// Reads the configuration of a kind of cluster.
pub type ClusterFactory = Factory<dyn ClusterTypeConfig>;

/// The cluster that its configuration asks for.
///
/// # Errors
/// As [`ClusterTypeConfig::create`].
pub fn create_cluster(
    config: &Arc<ClusterConfig>,
    context: &ClusterFactoryContext<'_>,
) -> Result<Rc<dyn Cluster>, ConfigError> {
    let cluster = config.cluster_type.get::<dyn ClusterTypeConfig>()?.create(config, context)?;
    if !config.health_checks.is_empty() {
        let checkers = HealthCheckerImplBase::create_all(cluster.info(), context)?;
        cluster.base().set_health_checkers(checkers);
    }
    if let Some(outlier_detection) = &config.outlier_detection {
        cluster.base().set_outlier_detector(DetectorImpl::create(
            cluster.info(),
            cluster.priority_set(),
            outlier_detection,
            context.dispatcher,
            context.runtime,
            context.services.outlier_event_logger(),
        ));
    }
    Ok(cluster)
}
