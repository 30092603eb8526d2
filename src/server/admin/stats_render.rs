//! Statistics as text and as JSON, piece by piece. Mirrors Envoy's `source/server/admin/stats_render.cc`.

use std::fmt::Write as _;

use super::stats::Value;
use super::stats_params::HistogramBuckets;
use crate::stats::{Histogram, HistogramBucket, SUPPORTED_BUCKETS, SUPPORTED_QUANTILES, format_shortest};

/// A histogram's line, or lines.
pub(super) fn text_of_histogram(histogram: &Histogram, buckets: HistogramBuckets) -> String {
    let name = histogram.name();
    match buckets {
        HistogramBuckets::Cumulative => format!("{name}: {}\n", histogram.bucket_summary()),
        HistogramBuckets::Disjoint => format!("{name}: {}\n", histogram.disjoint_bucket_summary()),
        HistogramBuckets::Detailed => format!("{name}:{}\n", histogram.detail()),
        _ => format!("{name}: {}\n", histogram.summary()),
    }
}

/// The pieces of the one object: its beginning, a piece for each metric, its end.
pub(super) struct JsonRender {
    values: std::vec::IntoIter<Value>,
    histograms: std::vec::IntoIter<Histogram>,
    buckets: HistogramBuckets,
    state: State,
    /// Metrics so far, of the kind that is under way.
    count: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    Values,
    Histograms,
    End,
}

impl JsonRender {
    pub(super) fn new(values: Vec<Value>, histograms: Vec<Histogram>, buckets: HistogramBuckets) -> Self {
        let (values, histograms) = (values.into_iter(), histograms.into_iter());
        JsonRender { values, histograms, buckets, state: State::Start, count: 0 }
    }

    fn comma(&mut self) -> &'static str {
        self.count += 1;
        if self.count == 1 { "" } else { "," }
    }

    /// What stands before the histograms and behind them.
    fn around_histograms(&self) -> (String, &'static str) {
        let with_percentiles = |name: &str| {
            let percentiles = joined(SUPPORTED_QUANTILES.iter().map(|q| format_shortest(q * 100.0)));
            let names = if name == "details" { "percentiles" } else { "quantiles" };
            (format!("{{\"histograms\":{{\"supported_{names}\":[{percentiles}],\"{name}\":["), "]}}")
        };
        match self.buckets {
            HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => {
                ("{\"histograms\":[".to_string(), "]}")
            }
            HistogramBuckets::Detailed => with_percentiles("details"),
            _ => with_percentiles("computed_quantiles"),
        }
    }
}

impl Iterator for JsonRender {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        match self.state {
            State::Start => {
                self.state = State::Values;
                Some("{\"stats\":[".to_string())
            }
            State::Values => {
                if let Some(value) = self.values.next() {
                    let comma = self.comma();
                    return Some(format!(
                        "{comma}{{\"name\":{},\"value\":{}}}",
                        quoted(&value.name()),
                        value.value()
                    ));
                }
                if self.histograms.len() == 0 {
                    self.state = State::End;
                    return Some("]}".to_string());
                }
                self.state = State::Histograms;
                let comma = self.comma();
                self.count = 0;
                Some(format!("{comma}{}", self.around_histograms().0))
            }
            State::Histograms => {
                if let Some(histogram) = self.histograms.next() {
                    let comma = self.comma();
                    return Some(format!("{comma}{}", json_of_histogram(&histogram, self.buckets)));
                }
                self.state = State::End;
                Some(format!("{}]}}", self.around_histograms().1))
            }
            State::End => None,
        }
    }
}

fn json_of_histogram(histogram: &Histogram, buckets: HistogramBuckets) -> String {
    let name = quoted(histogram.name());
    let (interval, cumulative) = (histogram.interval(), histogram.cumulative());
    match buckets {
        HistogramBuckets::Cumulative => {
            format!("{{\"name\":{name},\"buckets\":[{}]}}", bounds(&interval.buckets, &cumulative.buckets))
        }
        HistogramBuckets::Disjoint => {
            let bounds = bounds(&interval.disjoint_buckets(), &cumulative.disjoint_buckets());
            format!("{{\"name\":{name},\"buckets\":[{bounds}]}}")
        }
        HistogramBuckets::Detailed => {
            let (totals, intervals) =
                (bins(histogram.cumulative_buckets()), bins(histogram.interval_buckets()));
            let percentiles = quantiles(&cumulative.quantiles, &interval.quantiles);
            format!(
                "{{\"name\":{name},\"totals\":[{totals}],\"intervals\":[{intervals}],\"percentiles\":[{percentiles}]}}"
            )
        }
        _ => {
            let values = quantiles(&cumulative.quantiles, &interval.quantiles);
            format!("{{\"name\":{name},\"values\":[{values}]}}")
        }
    }
}

fn quantiles(cumulative: &[f64], interval: &[f64]) -> String {
    joined(cumulative.iter().zip(interval).map(|(cumulative, interval)| {
        let (cumulative, interval) = (format_shortest(*cumulative), format_shortest(*interval));
        format!("{{\"cumulative\":{cumulative},\"interval\":{interval}}}")
    }))
}

fn bounds(interval: &[u64], cumulative: &[u64]) -> String {
    joined(SUPPORTED_BUCKETS.iter().zip(interval.iter().zip(cumulative)).map(|(bound, counts)| {
        let (interval, cumulative) = counts;
        let bound = format_shortest(*bound);
        format!("{{\"upper_bound\":{bound},\"interval\":{interval},\"cumulative\":{cumulative}}}")
    }))
}

fn bins(buckets: Vec<HistogramBucket>) -> String {
    joined(buckets.into_iter().map(|bucket| {
        let (bound, width) = (format_shortest(bucket.lower_bound), format_shortest(bucket.width));
        format!("{{\"lower_bound\":{bound},\"width\":{width},\"count\":{}}}", bucket.count)
    }))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (i, part) in parts.enumerate() {
        let _ = write!(text, "{}{part}", if i == 0 { "" } else { "," }); // infallible
    }
    text
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}
