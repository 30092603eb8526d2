//! Statistics for Prometheus: a group of lines for each name without its tags. Mirrors Envoy's
//! `source/server/admin/prometheus_stats.cc`; the protobuf form is left out.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

use super::Response;
use super::host_metrics::{HostMetric, as_prometheus};
use super::stats_params::{HistogramBuckets, StatsParams};
use crate::stats::{
    Counter, Gauge, Histogram, SUPPORTED_BUCKETS, SUPPORTED_QUANTILES, Store, Tag, extract_tags,
    format_double, format_g,
};

/// All metrics, whatever their type that was asked for: counters, gauges, histograms, and behind them those of hosts.
pub(super) fn stats_as_prometheus(
    store: Arc<Store>,
    params: StatsParams,
    extracts_tags: bool,
    of_hosts: Vec<HostMetric>,
) -> Response {
    let (kind, lines): (_, fn(&Histogram, &str, &str) -> String) = match params.buckets {
        HistogramBuckets::Unset | HistogramBuckets::Cumulative => ("histogram", histogram),
        HistogramBuckets::Summary => ("summary", summary),
        HistogramBuckets::Disjoint | HistogramBuckets::Detailed => {
            return Response::text(400, "unsupported prometheus histogram bucket mode");
        }
        HistogramBuckets::PrometheusNative => {
            let text =
                "unsupported prometheusnative histogram type when not using protobuf exposition format";
            return Response::text(400, text);
        }
    };
    Response::pieces(super::TEXT, move || {
        let counters = store.counters().into_iter().filter(|c| params.shows(&c.name(), c.used()));
        let gauges = store.gauges().into_iter().filter(|g| params.shows(&g.name(), g.used()));
        let histograms = store.histograms().into_iter().filter(|h| params.shows(h.name(), h.used()));
        let counters = grouped(counters.collect(), Counter::name, "counter", extracts_tags)
            .map(|metric| metric.line(|counter, name, tags| number(name, tags, counter.value())));
        let gauges = grouped(gauges.collect(), Gauge::name, "gauge", extracts_tags)
            .map(|metric| metric.line(|gauge, name, tags| number(name, tags, gauge.value())));
        let histograms =
            grouped(histograms.collect(), |h: &Histogram| h.name().to_string(), kind, extracts_tags);
        let all = counters.chain(gauges).chain(histograms.map(move |metric| metric.line(lines)));
        all.chain([as_prometheus(of_hosts)])
    })
}

/// A metric in its place in the answer.
struct Metric<M> {
    metric: M,
    /// With Envoy's prefix, in the characters that Prometheus allows.
    name: String,
    tags: String,
    /// What stands before the first of a group.
    head: String,
}

impl<M> Metric<M> {
    fn line(self, render: impl Fn(&M, &str, &str) -> String) -> String {
        self.head + &render(&self.metric, &self.name, &self.tags)
    }
}

/// Sorted by the names without tags, and those of one such name by their full names; both part by part.
fn grouped<M>(
    metrics: Vec<M>,
    name: impl Fn(&M) -> String,
    kind: &'static str,
    extracts_tags: bool,
) -> impl Iterator<Item = Metric<M>> {
    let parts = move |full: &str| -> (String, Vec<Tag>) {
        if extracts_tags { extract_tags(full) } else { (full.to_string(), Vec::new()) }
    };
    let key = |metric: M| {
        let full = name(&metric);
        (parts(&full).0, full, metric)
    };
    let mut keyed: Vec<(String, String, M)> = metrics.into_iter().map(key).collect();
    keyed.sort_by(|a, b| by_parts(&a.0, &b.0).then_with(|| by_parts(&a.1, &b.1)));
    // A client may take its time for the answer: no more than the handles are kept for it.
    let sorted: Vec<M> = keyed.into_iter().map(|(_, _, metric)| metric).collect();
    let mut last = String::new();
    sorted.into_iter().map(move |metric| {
        let (rest, tags) = parts(&name(&metric));
        let name = format!("envoy_{}", sanitized(&rest));
        let head = if rest == last { String::new() } else { format!("# TYPE {name} {kind}\n") };
        last = rest;
        Metric { metric, name, tags: formatted(&tags), head }
    })
}

fn by_parts(a: &str, b: &str) -> Ordering {
    a.split('.').cmp(b.split('.'))
}

pub(super) fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

pub(super) fn formatted(tags: &[Tag]) -> String {
    let mut text = String::new();
    for (i, tag) in tags.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let value = tag.value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        let _ = write!(text, "{comma}{}=\"{value}\"", tag.name); // infallible
    }
    text
}

pub(super) fn number(name: &str, tags: &str, value: u64) -> String {
    format!("{name}{{{tags}}} {value}\n")
}

/// Buckets of all samples.
fn histogram(histogram: &Histogram, name: &str, tags: &str) -> String {
    let statistics = histogram.cumulative();
    let comma = if tags.is_empty() { "" } else { "," };
    let mut text = String::new();
    let mut bucket = |bound: &str, count: u64| {
        let _ = writeln!(text, "{name}_bucket{{{tags}{comma}le=\"{bound}\"}} {count}"); // infallible
    };
    for (bound, count) in SUPPORTED_BUCKETS.iter().zip(statistics.buckets) {
        bucket(&format_g(*bound, 32), count);
    }
    bucket("+Inf", statistics.count);
    text + &sum_and_count(name, tags, statistics.sum, statistics.count)
}

/// Quantiles of the samples between the last two merges.
fn summary(histogram: &Histogram, name: &str, tags: &str) -> String {
    let statistics = histogram.interval();
    let comma = if tags.is_empty() { "" } else { "," };
    let mut text = String::new();
    for (quantile, value) in SUPPORTED_QUANTILES.iter().zip(statistics.quantiles) {
        let (quantile, value) = (format_double(*quantile), format_g(value, 32));
        let _ = writeln!(text, "{name}{{{tags}{comma}quantile=\"{quantile}\"}} {value}"); // infallible
    }
    text + &sum_and_count(name, tags, statistics.sum, statistics.count)
}

fn sum_and_count(name: &str, tags: &str, sum: f64, count: u64) -> String {
    format!("{name}_sum{{{tags}}} {}\n{name}_count{{{tags}}} {count}\n", format_g(sum, 32))
}
