//! Virtual clusters: requests of a virtual host that are counted by themselves.
//!
//! Mirrors `VirtualHostImpl::virtualClusterFromEntries`, `VirtualClusterEntry` and `CatchAllVirtualCluster` of Envoy's
//! `source/common/router/config_impl.cc`; by headers, as in 1.40.

use super::request_stats::RequestStats;
use crate::config::route;
use crate::http::HeaderMap;
use crate::http::header_utility::HeaderMatcher;
use crate::stats::Scope;

/// Those of a virtual host.
#[derive(Debug, Default)]
pub(super) struct VirtualClusters {
    clusters: Box<[VirtualCluster]>,
    /// Of requests that none of them is for.
    other: Option<RequestStats>,
}

#[derive(Debug)]
struct VirtualCluster {
    name: String,
    headers: Box<[HeaderMatcher]>,
    stats: RequestStats,
}

impl VirtualClusters {
    /// `host` is the scope of the virtual host.
    pub(super) fn new(config: &[route::VirtualCluster], host: Option<&Scope>) -> Self {
        let Some(host) = host.filter(|_| !config.is_empty()) else { return VirtualClusters::default() };
        let stats = |name: &str| RequestStats::new(&host.create_scope(&format!("vcluster.{name}.")));
        let cluster = |config: &route::VirtualCluster| VirtualCluster {
            name: config.name.clone(),
            headers: config.headers.iter().map(HeaderMatcher::new).collect(),
            stats: stats(&config.name),
        };
        VirtualClusters { clusters: config.iter().map(cluster).collect(), other: Some(stats("other")) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// The place of the first that a request is one of.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<usize> {
        let is_it =
            |cluster: &VirtualCluster| cluster.headers.iter().all(|matcher| matcher.matches(Some(headers)));
        self.clusters.iter().position(is_it)
    }

    /// What that place is called; `None` for no place, and where there are none.
    pub(super) fn name(&self, place: Option<usize>) -> Option<&str> {
        Some(&self.clusters.get(place?)?.name)
    }

    /// What is counted of requests for that place, or for none.
    pub(super) fn stats(&self, place: Option<usize>) -> Option<&RequestStats> {
        place.map_or(self.other.as_ref(), |place| self.clusters.get(place).map(|cluster| &cluster.stats))
    }
}
