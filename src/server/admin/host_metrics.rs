//! Statistics of single hosts among those of clusters that ask for it (`per_endpoint_stats`).
//!
//! Mirrors `HostUtility::forEachHostMetric` of Envoy 1.40's `source/common/upstream/host_utility.cc`. They are in no store: what
//! a host has counted is read when somebody asks, and whether it is used makes no difference.

use std::fmt::Write as _;

use super::clusters::hosts;
use super::stats_params::StatsParams;
use crate::stats::Tag;
use crate::upstream::{Cluster, Health, HostImpl};

/// A number of a host.
pub(super) struct HostMetric {
    /// The name, in which the host is.
    pub(super) full_name: String,
    /// The name without what the tags say.
    pub(super) name: String,
    pub(super) tags: Vec<Tag>,
    pub(super) value: u64,
    pub(super) is_counter: bool,
}

/// Those of all hosts of these clusters, host by host.
pub(super) fn host_metrics(clusters: &[std::rc::Rc<dyn Cluster>], params: &StatsParams) -> Vec<HostMetric> {
    let tracked =
        clusters.iter().filter(|cluster| cluster.info().config().track_cluster_stats.per_endpoint_stats);
    let all = tracked.flat_map(hosts).flat_map(|host| of_host(&host));
    all.filter(|metric| params.shows(&metric.full_name, true)).collect()
}

fn of_host(host: &HostImpl) -> Vec<HostMetric> {
    let (cluster, address) = (host.cluster().observability_name(), host.address().to_string());
    let tag = |name, value: &str| Tag { name, value: value.to_string() };
    let mut tags = vec![tag("envoy_cluster_name", cluster), tag("envoy_endpoint_address", &address)];
    if !host.hostname().is_empty() {
        tags.push(tag("envoy_endpoint_hostname", host.hostname()));
    }
    let sanitized =
        format!("cluster.{cluster}.endpoint.{address}.").replace("://", "_").replace([':', '\0'], "_");
    let metric = |is_counter: bool, name: &str, value: u64| HostMetric {
        full_name: format!("{sanitized}{name}"),
        name: format!("cluster.endpoint.{name}"),
        tags: tags.clone(),
        value,
        is_counter,
    };
    let counters = host.stats().counters().map(|(name, value)| metric(true, name, value));
    let gauges = host.stats().gauges().map(|(name, value)| metric(false, name, value));
    let healthy = metric(false, "healthy", (host.health() == Health::Healthy).into());
    counters.into_iter().chain(gauges).chain([healthy]).collect()
}

/// For Prometheus: a group of lines for each name, counters first.
pub(super) fn as_prometheus(mut metrics: Vec<HostMetric>) -> String {
    metrics.sort_by(|a, b| {
        let key = |metric: &HostMetric| (!metric.is_counter, metric.name.clone(), metric.full_name.clone());
        key(a).cmp(&key(b))
    });
    let (mut text, mut last) = (String::new(), "");
    for metric in &metrics {
        let name = format!("envoy_{}", super::prometheus_stats::sanitized(&metric.name));
        if metric.name != last {
            let kind = if metric.is_counter { "counter" } else { "gauge" };
            let _ = writeln!(text, "# TYPE {name} {kind}"); // infallible
            last = &metric.name;
        }
        let tags = super::prometheus_stats::formatted(&metric.tags);
        text.push_str(&super::prometheus_stats::number(&name, &tags, metric.value));
    }
    text
}
