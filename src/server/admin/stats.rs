//! `/stats`: all statistics as text, JSON or for Prometheus. Mirrors Envoy's `source/server/admin/stats_handler.cc`
//! and `stats_request.cc`; its pages in HTML are left out.

use super::host_metrics::{HostMetric, host_metrics};
use super::prometheus_stats::stats_as_prometheus;
use super::stats_params::{Format, HistogramBuckets, StatsParams, Type};
use super::stats_render::{JsonRender, text_of_histogram};
use super::{Request, Response};
use crate::server::server::InstanceImpl;
use crate::stats::{Counter, Gauge, Histogram, Store};

/// Counters and gauges sorted together by name, then histograms.
pub(super) fn stats(server: &InstanceImpl, request: &Request) -> Response {
    match StatsParams::parse(request) {
        Err(refusal) => refusal,
        Ok(params) => answer(server, params),
    }
}

/// `/stats/prometheus`: the format need not be said, but must not be a wrong one.
pub(super) fn prometheus(server: &InstanceImpl, request: &Request) -> Response {
    match StatsParams::parse(request) {
        Err(refusal) => refusal,
        Ok(params) => answer(server, params.with_format(Format::Prometheus)),
    }
}

fn answer(server: &InstanceImpl, params: StatsParams) -> Response {
    let store = server.stats_store.clone();
    if params.format == Format::Prometheus {
        let extracts_tags = server.bootstrap.stats_config.use_all_default_tags;
        let of_hosts = host_metrics(&server.cluster_manager.clusters(), &params);
        return stats_as_prometheus(store, params, extracts_tags, of_hosts);
    }
    if params.buckets == HistogramBuckets::PrometheusNative {
        return Response::text(400, "Invalid histogram_buckets type for non prometheus stats type");
    }
    let buckets = params.buckets;
    let mut of_hosts = host_metrics(&server.cluster_manager.clusters(), &params);
    of_hosts.retain(|metric| params.kind.takes(metric.is_counter));
    let of_hosts = of_hosts.into_iter().map(Value::Host);
    if params.format == Format::Json {
        return Response::pieces("application/json", move || {
            let mut values = values(&store, &params);
            values.extend(of_hosts);
            JsonRender::new(values, histograms(&store, &params), buckets)
        });
    }
    Response::pieces(super::TEXT, move || {
        let values = values(&store, &params).into_iter().chain(of_hosts);
        let histograms = histograms(&store, &params).into_iter();
        let values = values.map(|value| format!("{}: {}\n", value.name(), value.value()));
        values.chain(histograms.map(move |histogram| text_of_histogram(&histogram, buckets)))
    })
}

/// A counter or a gauge.
pub(super) enum Value {
    Counter(Counter),
    Gauge(Gauge),
    Host(HostMetric),
}

impl Value {
    pub(super) fn name(&self) -> String {
        match self {
            Value::Counter(counter) => counter.name(),
            Value::Gauge(gauge) => gauge.name(),
            Value::Host(metric) => metric.full_name.clone(),
        }
    }

    pub(super) fn value(&self) -> u64 {
        match self {
            Value::Counter(counter) => counter.value(),
            Value::Gauge(gauge) => gauge.value(),
            Value::Host(metric) => metric.value,
        }
    }
}

/// What changes by itself is brought up to date by the flush timer; the rest is always current.
fn values(store: &Store, params: &StatsParams) -> Vec<Value> {
    let mut values = Vec::new();
    if matches!(params.kind, Type::All | Type::Counters) {
        let counters = store.counters().into_iter().filter(|c| params.shows(&c.name(), c.used()));
        values.extend(counters.map(Value::Counter));
    }
    if matches!(params.kind, Type::All | Type::Gauges) {
        let gauges = store.gauges().into_iter().filter(|g| params.shows(&g.name(), g.used()));
        values.extend(gauges.map(Value::Gauge));
    }
    values.sort_by_cached_key(Value::name);
    values
}

fn histograms(store: &Store, params: &StatsParams) -> Vec<Histogram> {
    if !matches!(params.kind, Type::All | Type::Histograms) {
        return Vec::new();
    }
    store.histograms().into_iter().filter(|h| params.shows(h.name(), h.used())).collect()
}

/// Sets all counters to zero.
pub(super) fn reset_counters(server: &InstanceImpl, _request: &Request) -> Response {
    server.stats_store.reset_counters();
    Response::text(200, "OK\n")
}
