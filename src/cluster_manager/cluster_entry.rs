//! A cluster as one worker sees it. Mirrors `ClusterEntry` of Envoy's
//! `source/common/upstream/cluster_manager_impl.cc`.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::thread_local_cluster_manager::ThreadLocalClusterManagerImpl;
use crate::common::Local;
use crate::conn_pool::HttpInstance;
use crate::conn_pool::tcp::TcpInstance;
use crate::envoy_log;
use crate::http::Protocol;
use crate::trace::{self, Stage};
use crate::upstream::load_balancer::{LoadBalancerContext, LoadBalancerParams};
use crate::upstream::{
    ClusterInfoImpl, HostSharedPtr, LoadBalancer, PrioritySetImpl, ResourcePriority, WorkerHost,
};

/// Those who choose hosts, by the ends of their names, as the page of recordings knows them.
const POLICIES: [&str; 7] =
    [".round_robin", ".least_request", ".random", ".ring_hash", ".maglev", ".subset", ".cluster_provided"];

/// A worker's hosts and load balancer of one cluster.
pub struct ClusterEntry {
    parent: Weak<ThreadLocalClusterManagerImpl>,
    info: Local<ClusterInfoImpl>,
    priority_set: Rc<PrioritySetImpl>,
    lb: Box<dyn LoadBalancer>,
}

impl ClusterEntry {
    /// `local_priority_set` has the hosts of the cluster that the proxy belongs to, if it is named.
    pub(super) fn new(
        parent: &Weak<ThreadLocalClusterManagerImpl>,
        info: Arc<ClusterInfoImpl>,
        local_priority_set: Option<&Rc<PrioritySetImpl>>,
    ) -> Rc<Self> {
        let priority_set = PrioritySetImpl::new();
        let params = LoadBalancerParams { priority_set: &priority_set, local_priority_set, info: &info };
        let lb = info.load_balancer().create(&params);
        Rc::new(ClusterEntry { parent: parent.clone(), info: Local::new(info), priority_set, lb })
    }

    /// What every thread knows of the cluster.
    pub fn info(&self) -> &Local<ClusterInfoImpl> {
        &self.info
    }

    /// This worker's hosts.
    pub fn priority_set(&self) -> &Rc<PrioritySetImpl> {
        &self.priority_set
    }

    /// Chooses a host and finds its pool. `None` when there is no host, or no room for another pool.
    #[inline(always)]
    pub fn http_conn_pool(
        &self,
        priority: ResourcePriority,
        protocol: Protocol,
        context: &dyn LoadBalancerContext,
    ) -> Option<Rc<dyn HttpInstance>> {
        trace::instant(Stage::HttpConnPool, None, 0, priority as u64, 0);
        let host = self.lb.choose_host(context);
        let choice = trace::detail(|| host.as_ref().map_or(0, |host| self.choice(host)));
        trace::instant(Stage::ChooseHost, None, 0, host.is_some().into(), choice);
        let Some(host) = host else {
            envoy_log!(Upstream, debug, "no healthy host for HTTP connection pool");
            self.info.stats().upstream_cx_none_healthy().inc();
            return None;
        };
        let for_one = self.info.config().connection_pool_per_downstream_connection;
        let connection = if for_one { context.downstream_connection_id() } else { None };
        self.parent.upgrade()?.http_conn_pool(&host, priority, (connection, protocol))
    }

    /// Chooses a host and finds its pool of raw connections. `None` as for [`ClusterEntry::http_conn_pool`].
    pub fn tcp_conn_pool(
        &self,
        priority: ResourcePriority,
        context: &dyn LoadBalancerContext,
    ) -> Option<Rc<dyn TcpInstance>> {
        let host = self.lb.choose_host(context);
        let choice = trace::detail(|| host.as_ref().map_or(0, |host| self.choice(host)));
        trace::instant(Stage::ChooseHost, None, 0, host.is_some().into(), choice);
        let Some(host) = host else {
            envoy_log!(Upstream, debug, "no healthy host for TCP connection pool");
            self.info.stats().upstream_cx_none_healthy().inc();
            return None;
        };
        self.parent.upgrade()?.tcp_conn_pool(&host, priority)
    }

    /// Which host it is of how many that could be, of which priority, and who has chosen it; for those who look at a recording.
    fn choice(&self, host: &WorkerHost) -> u64 {
        const MANY: usize = 0xfff;
        let policy = self.info.config().load_balancing_policy.extension();
        let policy = POLICIES.iter().position(|name| policy.ends_with(name)).map_or(0, |at| at as u64 + 1);
        let priority = u64::from(host.priority()).min(0xf);
        let sets = self.priority_set.host_sets_per_priority();
        let Some(set) = sets.get(host.priority() as usize) else { return policy << 28 };
        let healthy = set.healthy_hosts();
        let place = |hosts: &[HostSharedPtr]| {
            let at = hosts.iter().take(MANY).position(|other| std::ptr::eq(&**other, &**host.shared()));
            at.map(|at| (at + 1) as u64)
        };
        let (place, candidates) = match place(&healthy) {
            Some(place) => (place, healthy.len()),
            None => (place(&set.hosts()).unwrap_or(0), set.hosts().len()),
        };
        policy << 28 | priority << 24 | place << 12 | candidates.min(MANY) as u64
    }

    /// The cluster is gone, or another has its name: its pools finish what they have, whoever still holds this.
    pub(super) fn drain_conn_pools(&self) {
        if let Some(parent) = self.parent.upgrade() {
            let hosts = self.all_hosts();
            trace::instant(Stage::ClusterEntryGoes, None, 0, hosts.len() as u64, 0);
            parent.drain_conn_pools(&hosts);
        }
    }

    fn all_hosts(&self) -> Vec<HostSharedPtr> {
        self.priority_set.host_sets_per_priority().iter().flat_map(|set| set.hosts().to_vec()).collect()
    }
}
