//! Clusters whose hosts are looked up by name: `STRICT_DNS` and `LOGICAL_DNS`.
//!
//! Mirrors `StrictDnsClusterImpl` of Envoy's `source/common/upstream/upstream_impl.cc` and
//! `source/common/upstream/logical_dns_cluster.cc`. As in 1.40 the two are one: the logical cluster makes one host of an answer,
//! and does without those that say that there is nothing. In 1.1 its host stays when the address is another; here, as in 1.40,
//! a new one takes its place and the connections of the old one are drained.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::resolve_target::ResolveTarget;
use super::{
    Cluster, ClusterFactory, ClusterFactoryContext, ClusterImplBase, ClusterInfoImpl, ClusterTypeConfig,
    HostSetOptions, HostSharedPtr, HostVectors, InitializePhase,
};
use crate::common::backoff_strategy::JitteredBackOffStrategy;
use crate::config::address::Address;
use crate::config::cluster::Cluster as ClusterConfig;
use crate::config::dns::{DnsFields, RefreshRate};
use crate::config::endpoint::ClusterLoadAssignment;
use crate::config::error::ConfigError;
use crate::network::{DnsResolver, create_dns_resolver};
use crate::trace::{self, Stage};

/// Clusters with a host for each address.
pub static STRICT_DNS_CLUSTER: ClusterFactory =
    ClusterFactory::new("envoy.cluster.strict_dns", &[], |_| Ok(Arc::new(OfFields { is_logical: false })))
        .or_around(|_| Ok(Arc::new(OfFields { is_logical: false })));

/// Clusters with one host, whatever its address is at the time.
pub static LOGICAL_DNS_CLUSTER: ClusterFactory =
    ClusterFactory::new("envoy.cluster.logical_dns", &[], |_| Ok(Arc::new(OfFields { is_logical: true })))
        .or_around(|_| Ok(Arc::new(OfFields { is_logical: true })));

/// Both, with a message of their own.
pub static DNS_CLUSTER: ClusterFactory =
    ClusterFactory::new("envoy.clusters.dns", &["envoy.extensions.clusters.dns.v3.DnsCluster"], |r| {
        let is_logical = r.bool("all_addresses_in_single_endpoint")?;
        Ok(Arc::new(OfMessage { fields: DnsFields::of_extension(r)?, is_logical }))
    });

/// What is to be said of it stands in the cluster's own fields.
#[derive(Debug)]
struct OfFields {
    is_logical: bool,
}

impl ClusterTypeConfig for OfFields {
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        let fields = cluster.dns.as_deref().cloned().unwrap_or_default();
        Ok(DnsClusterImpl::new(cluster, &fields, self.is_logical, context)?)
    }
}

/// What is to be said of it stands in a message.
#[derive(Debug)]
struct OfMessage {
    fields: DnsFields,
    is_logical: bool,
}

impl ClusterTypeConfig for OfMessage {
    fn create(
        &self,
        cluster: &Arc<ClusterConfig>,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<dyn Cluster>, ConfigError> {
        Ok(DnsClusterImpl::new(cluster, &self.fields, self.is_logical, context)?)
    }
}

/// See the module's description.
pub struct DnsClusterImpl {
    base: ClusterImplBase,
    resolver: Rc<dyn DnsResolver>,
    fields: DnsFields,
    is_logical: bool,
    targets: Vec<Rc<ResolveTarget>>,
    failure_backoff: Cell<Option<JitteredBackOffStrategy>>,
    /// By priority.
    options: Vec<Arc<HostSetOptions>>,
    initialize_callback: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl DnsClusterImpl {
    /// Without hosts yet.
    ///
    /// # Errors
    /// An address that is a pipe; a logical cluster with more than one host, or none.
    pub fn new(
        config: &Arc<ClusterConfig>,
        fields: &DnsFields,
        is_logical: bool,
        context: &ClusterFactoryContext<'_>,
    ) -> Result<Rc<Self>, ConfigError> {
        let assignment = config.load_assignment.as_ref();
        check_endpoints(assignment, is_logical)?;
        let info = ClusterInfoImpl::new(config, context.root, context.added_via_api)?;
        let resolver = match &fields.resolver {
            Some(_) => create_dns_resolver(fields.resolver.as_ref(), context.dispatcher)?,
            None => context.dns_resolver.clone(),
        };
        Ok(Rc::new_cyclic(|weak: &Weak<Self>| {
            let groups = assignment.into_iter().flat_map(|assignment| &assignment.endpoints);
            let targets = groups.flat_map(|group| group.lb_endpoints.iter().map(move |host| (group, host)));
            let target =
                |(group, host)| ResolveTarget::new(weak, context.dispatcher, group, host, is_logical);
            DnsClusterImpl {
                base: ClusterImplBase::new(info),
                resolver,
                fields: fields.clone(),
                is_logical,
                targets: targets.map(target).collect(),
                failure_backoff: Cell::new(fields.failure_refresh_rate.as_ref().map(backoff)),
                options: HostSetOptions::of_priorities(assignment, context.local_locality),
                initialize_callback: RefCell::default(),
            }
        }))
    }

    pub(super) fn resolver(&self) -> &dyn DnsResolver {
        &*self.resolver
    }

    pub(super) fn fields(&self) -> &DnsFields {
        &self.fields
    }

    pub(super) fn is_logical(&self) -> bool {
        self.is_logical
    }

    /// The pause behind an answer that is good for `ttl`, if it says so. The next failure is the first again.
    pub(super) fn refresh_rate(&self, ttl: Option<Duration>) -> Duration {
        self.failure_backoff.set(self.fields.failure_refresh_rate.as_ref().map(backoff));
        let respected = ttl.filter(|ttl| self.fields.respect_ttl && !ttl.is_zero());
        let jitter = self.fields.jitter.as_millis() as u64;
        let more = if jitter > 0 { fastrand::u64(..jitter) } else { 0 };
        respected.unwrap_or(self.fields.refresh_rate) + Duration::from_millis(more)
    }

    /// The pause behind a failure.
    pub(super) fn failure_refresh_rate(&self) -> Duration {
        let Some(mut backoff) = self.failure_backoff.get() else { return self.fields.refresh_rate };
        let pause = backoff.next_back_off_ms(fastrand::u64(..));
        self.failure_backoff.set(Some(backoff));
        Duration::from_millis(pause)
    }

    /// Makes the hosts that all targets of a priority have the hosts of the priority.
    pub(super) fn update_all_hosts(&self, added: &[HostSharedPtr], removed: &[HostSharedPtr], priority: u32) {
        let of_priority = self.targets.iter().filter(|target| target.priority() == priority);
        let hosts: Vec<HostSharedPtr> = of_priority.flat_map(|target| target.hosts()).collect();
        trace::instant(Stage::UpdateAllHosts, None, 0, added.len() as u64, removed.len() as u64);
        let vectors = HostVectors::partition(Arc::new(hosts), &self.options[priority as usize]);
        self.priority_set().update_hosts(priority, vectors, added, removed);
    }

    /// There are hosts, or it is clear that there are none yet: the first time, initialization goes on.
    pub(super) fn on_pre_init_complete(&self) {
        if let Some(callback) = self.initialize_callback.take() {
            self.base.on_pre_init_complete(callback);
        }
    }
}

impl Cluster for DnsClusterImpl {
    fn base(&self) -> &ClusterImplBase {
        &self.base
    }

    fn initialize_phase(&self) -> InitializePhase {
        InitializePhase::Primary
    }

    fn initialize(&self, callback: Box<dyn FnOnce()>) {
        *self.initialize_callback.borrow_mut() = Some(callback);
        trace::instant(Stage::StartPreInitDns, None, 0, self.targets.len() as u64, 0);
        self.targets.iter().for_each(|target| target.start_resolve());
        if self.targets.is_empty() || !self.info().config().wait_for_warm_on_init {
            self.on_pre_init_complete();
        }
    }
}

/// Never zero, as Envoy has it.
fn backoff(rate: &RefreshRate) -> JitteredBackOffStrategy {
    let base = (rate.base_interval.as_millis() as u64).max(1);
    let max =
        rate.max_interval.map_or_else(|| base.saturating_mul(10), |max| (max.as_millis() as u64).max(1));
    JitteredBackOffStrategy::new(base, max)
}

fn check_endpoints(assignment: Option<&ClusterLoadAssignment>, is_logical: bool) -> Result<(), ConfigError> {
    if is_logical {
        let Some(assignment) = assignment else {
            return Err(ConfigError::document("LOGICAL_DNS clusters must have a single host"));
        };
        let single = matches!(&assignment.endpoints[..], [group] if group.lb_endpoints.len() == 1);
        if !single {
            let message =
                "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";
            return Err(ConfigError::new("load_assignment", message));
        }
    }
    let mut addresses = assignment.into_iter().flat_map(ClusterLoadAssignment::addresses);
    match addresses.find(|(_, address)| matches!(address, Address::Pipe(_))) {
        Some((at, _)) => Err(ConfigError::new(
            format!("load_assignment.{at}.pipe"),
            "a pipe has no name that could be looked up",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
