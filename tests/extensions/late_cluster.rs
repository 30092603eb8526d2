//! A kind of cluster: one host, which is found a moment after the cluster has been asked to begin.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use legate::config::ConfigError;
use legate::config::cluster::Cluster as ClusterConfig;
use legate::config::core::Locality;
use legate::config::endpoint::HealthStatus;
use legate::config::reader::{FromMessage, MessageReader};
use legate::event::Timer;
use legate::network::Address;
use legate::upstream::{
    Cluster, ClusterFactory, ClusterFactoryContext, ClusterImplBase, ClusterInfoImpl, ClusterTypeConfig,
    HostImpl, HostVectors, InitializePhase,
};

pub static FACTORY: ClusterFactory =
    ClusterFactory::new("legate.test.late_cluster", &["legate.test.LateCluster"], |r| {
        Ok(Arc::new(LateClusterConfig::read(r)?))
    });

#[derive(Debug)]
struct LateClusterConfig {
    /// Of 127.0.0.1.
    port: u16,
}

impl FromMessage for LateClusterConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(LateClusterConfig { port: r.u32("port")? as u16 })
    }
}

impl ClusterTypeConfig for LateClusterConfig {
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        let base = ClusterImplBase::new(ClusterInfoImpl::new(cluster, context.root, context.added_via_api)?);
        let address = Address::Ip(([127, 0, 0, 1], self.port).into());
        Ok(Rc::new_cyclic(|weak: &Weak<LateCluster>| {
            let weak = weak.clone();
            let timer = context.dispatcher.create_timer(move || {
                if let Some(cluster) = weak.upgrade() {
                    cluster.on_found();
                }
            });
            LateCluster { base, address, timer, callback: RefCell::default() }
        }))
    }
}

struct LateCluster {
    base: ClusterImplBase,
    address: Address,
    timer: Timer,
    callback: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl LateCluster {
    fn on_found(&self) {
        let (info, address) = (self.base.info().clone(), self.address.clone());
        let host = HostImpl::new(info, "", address, Locality::default(), 0, 1, HealthStatus::Unknown);
        let hosts = Arc::new(vec![host]);
        let vectors = HostVectors::partition(hosts.clone(), &Arc::default());
        self.base.priority_set().update_hosts(0, vectors, &hosts, &[]);
        if let Some(callback) = self.callback.take() {
            self.base.on_pre_init_complete(callback);
        }
    }
}

impl Cluster for LateCluster {
    fn base(&self) -> &ClusterImplBase {
        &self.base
    }

    fn initialize_phase(&self) -> InitializePhase {
        InitializePhase::Primary
    }

    fn initialize(&self, callback: Box<dyn FnOnce()>) {
        *self.callback.borrow_mut() = Some(callback);
        self.timer.enable_timer(Duration::from_millis(20));
    }
}
