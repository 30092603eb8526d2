//! What is counted of the requests of a virtual cluster, or of a route.
//!
//! Mirrors `VirtualClusterStats` and `RouteStats` of Envoy's `include/envoy/router/router.h`, and what
//! `source/common/http/codes.cc` adds to them.

use super::RouteConstSharedPtr;
use crate::http::HeaderMap;
use crate::stats::Scope;
use crate::stats_struct;
use crate::upstream::{CodeStats, CodeStatsCategory};

stats_struct! {
    /// `vhost.<name>.vcluster.<name>.` and `vhost.<name>.route.<name>.`
    pub struct RequestCounters {
        counters: [
            upstream_rq_retry,
            upstream_rq_retry_limit_exceeded,
            upstream_rq_retry_overflow,
            upstream_rq_retry_success,
            upstream_rq_timeout,
            upstream_rq_total,
        ],
        gauges: [],
        histograms: [],
    }
}

/// See the module's description.
pub struct RequestStats {
    counters: RequestCounters,
    codes: CodeStats,
}

impl RequestStats {
    pub(super) fn new(scope: &Scope) -> Self {
        RequestStats { counters: RequestCounters::new(scope), codes: CodeStats::new(scope) }
    }

    /// What happens to requests.
    pub fn counters(&self) -> &RequestCounters {
        &self.counters
    }

    /// Counts a response.
    pub fn charge_response(&self, status: u16) {
        self.codes.charge_basic(CodeStatsCategory::All, status);
    }

    /// Records how long a response took, in milliseconds.
    pub fn charge_timing(&self, milliseconds: u64) {
        self.codes.charge_basic_timing(milliseconds);
    }
}

/// Where one request is counted, beside its cluster.
#[derive(Clone)]
pub struct RequestCounting {
    route: RouteConstSharedPtr,
    virtual_cluster: Option<usize>,
}

impl RequestCounting {
    /// `None` where nothing is counted; `headers` are as the client has sent them.
    #[inline]
    pub fn of(route: &RouteConstSharedPtr, headers: &HeaderMap) -> Option<Self> {
        let clusters = route.virtual_host().virtual_clusters();
        let is_counted = route.stats().is_some() || !clusters.is_empty();
        is_counted.then(|| RequestCounting { route: route.clone(), virtual_cluster: clusters.find(headers) })
    }

    /// The name of the virtual cluster.
    pub fn virtual_cluster_name(&self) -> Option<&str> {
        self.route.virtual_host().virtual_clusters().name(self.virtual_cluster)
    }

    /// Calls `count` with the statistics of the route and with those of the virtual cluster.
    pub fn each(&self, count: impl Fn(&RequestStats)) {
        let clusters = self.route.virtual_host().virtual_clusters();
        self.route.stats().into_iter().chain(clusters.stats(self.virtual_cluster)).for_each(count);
    }
}

impl std::fmt::Debug for RequestStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.counters.fmt(f)
    }
}
