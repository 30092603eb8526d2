//! A cluster whose hosts stand in the configuration.
//!
//! Mirrors `StaticClusterImpl` of Envoy's `source/common/upstream/upstream_impl.cc`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{
    Cluster, ClusterFactory, ClusterFactoryContext, ClusterImplBase, ClusterInfoImpl, ClusterTypeConfig,
    HostImpl, HostSetOptions, HostSharedPtr, HostVectors, InitializePhase, MetadataPool,
};
use crate::config::cluster::Cluster as ClusterConfig;
use crate::config::core::Locality;
use crate::config::endpoint::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
use crate::config::error::ConfigError;
use crate::network::Address;
use crate::stats::Scope;
use crate::trace::{self, Stage};

/// Static clusters among the extensions.
pub static STATIC_CLUSTER: ClusterFactory =
    ClusterFactory::new("envoy.cluster.static", &[], |_| Ok(Arc::new(StaticClusterType)))
        .or_around(|_| Ok(Arc::new(StaticClusterType)));

/// All that is to be said of it stands in the cluster.
#[derive(Debug)]
struct StaticClusterType;

impl ClusterTypeConfig for StaticClusterType {
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        Ok(StaticClusterImpl::new(cluster, context.root, context.local_locality, context.added_via_api)?)
    }
}

/// A static cluster.
pub struct StaticClusterImpl {
    base: ClusterImplBase,
    /// By priority; handed to the priority set when the cluster is initialized.
    initial_hosts: RefCell<Vec<Vec<HostSharedPtr>>>,
    /// By priority, too.
    options: Vec<Arc<HostSetOptions>>,
}

impl StaticClusterImpl {
    /// Makes the cluster and its hosts, which it shows from [`Cluster::initialize`] on. `root` is the
    /// scope in which `cluster.<name>.` is made.
    ///
    /// # Errors
    /// The address of a host is no IP literal, which a configuration that was read never has.
    pub fn new(
        config: &Arc<ClusterConfig>,
        root: &Scope,
        local_locality: Option<&Arc<Locality>>,
        added_via_api: bool,
    ) -> Result<Rc<Self>, ConfigError> {
        let info = ClusterInfoImpl::new(config, root, added_via_api)?;
        let assignment = config.load_assignment.as_ref();
        let options = HostSetOptions::of_priorities(assignment, local_locality);
        let initial_hosts = assignment.map_or_else(|| Ok(Vec::new()), |a| create_hosts(a, &info))?;
        Ok(Rc::new(StaticClusterImpl {
            base: ClusterImplBase::new(info),
            initial_hosts: RefCell::new(initial_hosts),
            options,
        }))
    }
}

impl Cluster for StaticClusterImpl {
    fn base(&self) -> &ClusterImplBase {
        &self.base
    }

    fn initialize_phase(&self) -> InitializePhase {
        InitializePhase::Primary
    }

    fn initialize(&self, callback: Box<dyn FnOnce()>) {
        let initial_hosts = self.initial_hosts.take();
        let hosts = initial_hosts.iter().map(|hosts| hosts.len() as u64).sum();
        trace::instant(Stage::StartPreInit, None, 0, hosts, initial_hosts.len() as u64);
        for ((priority, hosts), options) in (0..).zip(initial_hosts).zip(&self.options) {
            hosts.iter().for_each(|host| self.base.init_health_flags(host, true));
            let hosts = Arc::new(hosts);
            let vectors = HostVectors::partition(hosts.clone(), options);
            self.priority_set().update_hosts(priority, vectors, &hosts, &[]);
        }
        self.base.on_pre_init_complete(callback);
    }
}

/// The hosts by priority.
fn create_hosts(
    assignment: &ClusterLoadAssignment,
    info: &Arc<ClusterInfoImpl>,
) -> Result<Vec<Vec<HostSharedPtr>>, ConfigError> {
    let mut priorities = Vec::new();
    let mut pool = MetadataPool::default();
    for (i, group) in assignment.endpoints.iter().enumerate() {
        let priority = group.priority as usize;
        if priorities.len() <= priority {
            priorities.resize_with(priority + 1, Vec::new);
        }
        for (j, endpoint) in group.lb_endpoints.iter().enumerate() {
            let host = create_host(group, endpoint, info).ok_or_else(|| {
                let path = format!("load_assignment.endpoints[{i}].lb_endpoints[{j}].endpoint.address");
                ConfigError::new(path, "malformed IP address")
            })?;
            let metadata = endpoint.metadata.as_ref().map(|metadata| pool.share(metadata));
            let config = endpoint.endpoint.health_check_config.as_deref();
            let host = HostImpl::with_health_check_config(host, config);
            let others = endpoint.endpoint.additional_addresses.iter();
            let others: Vec<Address> =
                others.filter_map(|other| Address::configured(&other.address)).collect();
            let host = HostImpl::with_additional_addresses(host, &others);
            priorities[priority].push(HostImpl::with_metadata(host, metadata));
        }
    }
    Ok(priorities)
}

fn create_host(
    group: &LocalityLbEndpoints,
    endpoint: &LbEndpoint,
    info: &Arc<ClusterInfoImpl>,
) -> Option<HostSharedPtr> {
    Some(HostImpl::new(
        info.clone(),
        &endpoint.endpoint.hostname,
        Address::configured(&endpoint.endpoint.address)?,
        group.locality.clone().unwrap_or_default(),
        group.priority,
        endpoint.load_balancing_weight,
        endpoint.health_status,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address::{Address, SocketAddress};
    use crate::upstream::HealthFlag;
    use crate::upstream::test_support::{cluster_config, port, root_scope};
    use serde_json::{Value, json};
    use std::cell::Cell;

    fn endpoint(port: u16, status: &str) -> Value {
        let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
        json!({ "endpoint": { "address": address, "hostname": "h" }, "health_status": status,
                "load_balancing_weight": 1000 })
    }

    fn config() -> Arc<ClusterConfig> {
        cluster_config(json!({
            "name": "a",
            "load_assignment": {
                "cluster_name": "a",
                "policy": { "overprovisioning_factor": 120 },
                "endpoints": [
                    { "priority": 2, "lb_endpoints": [endpoint(5, "HEALTHY")] },
                    { "locality": { "zone": "z" }, "lb_endpoints": [
                        endpoint(1, "UNKNOWN"), endpoint(2, "UNHEALTHY"), endpoint(3, "DEGRADED"),
                    ] },
                    { "lb_endpoints": [endpoint(4, "DRAINING")] },
                ],
            },
        }))
    }

    fn gauges(cluster: &StaticClusterImpl) -> [u64; 5] {
        let stats = cluster.info().membership_stats();
        let gauges = [
            stats.membership_total(),
            stats.membership_healthy(),
            stats.membership_degraded(),
            stats.membership_excluded(),
        ];
        let [total, healthy, degraded, excluded] = gauges.map(|g| g.value());
        [total, healthy, degraded, excluded, stats.membership_change().value()]
    }

    #[test]
    fn hosts_appear_in_their_priorities_when_initialized() {
        let cluster = StaticClusterImpl::new(&config(), &root_scope(), None, false).unwrap();
        assert_eq!(gauges(&cluster), [0; 5]);
        let done = Rc::new(Cell::new(0));
        let callback = done.clone();
        cluster.initialize(Box::new(move || callback.set(callback.get() + 1)));
        assert_eq!(done.get(), 1);
        let sets = cluster.priority_set().host_sets_per_priority();
        let ports = |p: usize| sets[p].hosts().iter().map(port).collect::<Vec<_>>();
        assert_eq!((sets.len(), ports(0), ports(1), ports(2)), (3, vec![1, 2, 3, 4], vec![], vec![5]));
        assert!(sets.iter().all(|s| s.options().overprovisioning_factor == 120));
        let host = &sets[0].hosts()[0];
        assert_eq!((host.weight(), host.hostname(), host.locality().zone.as_str()), (1000, "h", "z"));
        assert_eq!(sets[2].hosts()[0].priority(), 2);
        assert_eq!(gauges(&cluster), [5, 2, 1, 1, 2]);
    }

    #[test]
    fn a_change_of_health_moves_the_gauges_only() {
        let cluster = StaticClusterImpl::new(&config(), &root_scope(), None, false).unwrap();
        cluster.initialize(Box::new(|| ()));
        let host_set = &cluster.priority_set().host_sets_per_priority()[0];
        host_set.hosts()[0].health_flag_set(HealthFlag::FailedActiveHc);
        assert_eq!(host_set.healthy_hosts().len(), 1);
        cluster.base().reload_healthy_hosts();
        assert!(host_set.healthy_hosts().is_empty());
        assert_eq!(host_set.options().overprovisioning_factor, 120);
        assert_eq!(gauges(&cluster), [5, 1, 1, 1, 2]);
    }

    #[test]
    fn a_cluster_without_hosts_initializes() {
        let config = cluster_config(json!({ "name": "a" }));
        let cluster = StaticClusterImpl::new(&config, &root_scope(), None, true).unwrap();
        let done = Rc::new(Cell::new(false));
        let callback = done.clone();
        cluster.initialize(Box::new(move || callback.set(true)));
        assert!(done.get() && cluster.info().added_via_api());
        assert_eq!(gauges(&cluster), [0; 5]);
    }

    #[test]
    fn a_bad_address_names_its_field() {
        let mut config = config();
        Arc::make_mut(&mut config).load_assignment.as_mut().unwrap().endpoints[1].lb_endpoints[2]
            .endpoint
            .address =
            Address::SocketAddress(SocketAddress { address: "x".into(), port_value: 1, ipv4_compat: false });
        let error = StaticClusterImpl::new(&config, &root_scope(), None, false).err().unwrap();
        assert_eq!(error.path(), "load_assignment.endpoints[1].lb_endpoints[2].endpoint.address");
        assert_eq!(error.message(), "malformed IP address");
    }
}
