//! What `/stats` and `/stats/prometheus` may be asked for. Mirrors Envoy's `source/server/admin/stats_params.cc`.

use regex::Regex;

use super::{Request, Response};
use crate::common::re2;

/// In which form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Text,
    Json,
    Prometheus,
}

/// Which metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    All,
    Counters,
    Histograms,
    Gauges,
    TextReadouts,
}

impl Type {
    /// Whether a counter, or else a gauge, is wanted.
    pub(super) fn takes(self, is_counter: bool) -> bool {
        self == Type::All || self == if is_counter { Type::Counters } else { Type::Gauges }
    }
}

/// How histograms are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HistogramBuckets {
    /// Not given: quantiles, but cumulative buckets for Prometheus.
    Unset,
    /// Quantiles.
    Summary,
    Cumulative,
    Disjoint,
    Detailed,
    PrometheusNative,
}

/// The parameters taken apart.
#[derive(Debug)]
pub(super) struct StatsParams {
    pub format: Format,
    pub kind: Type,
    pub buckets: HistogramBuckets,
    used_only: bool,
    /// Only hidden ones, of which legate has none.
    hidden_only: bool,
    filter: Option<Regex>,
    invert_filter: bool,
}

impl StatsParams {
    /// Takes them apart; what Envoy refuses is an answer. What it does not know it ignores, and so does this.
    pub(super) fn parse(request: &Request) -> Result<Self, Response> {
        let refuse = |text: &str| Err(Response::text(400, text));
        let filter = match given(request, "filter").map(re2::compile) {
            Some(Err(error)) => return Err(Response::text(400, format!("Invalid re2 regex: {error}"))),
            filter => filter.and_then(Result::ok),
        };
        let buckets = match given(request, "histogram_buckets") {
            None => HistogramBuckets::Unset,
            Some("none" | "summary") => HistogramBuckets::Summary,
            Some("cumulative") => HistogramBuckets::Cumulative,
            Some("disjoint") => HistogramBuckets::Disjoint,
            Some("detailed") => HistogramBuckets::Detailed,
            Some("prometheusnative") => HistogramBuckets::PrometheusNative,
            Some(_) => {
                let all = "cumulative|disjoint|detailed|summary|prometheusnative";
                return refuse(&format!("usage: /stats?histogram_buckets=({all})\n"));
            }
        };
        let kind = match given(request, "type") {
            None | Some("All") => Type::All,
            Some("Counters") => Type::Counters,
            Some("Histograms") => Type::Histograms,
            Some("Gauges") => Type::Gauges,
            Some("TextReadouts") => Type::TextReadouts,
            Some(_) => return refuse("invalid &type= param"),
        };
        let hidden_only = match given(request, "hidden") {
            None | Some("include" | "exclude") => false,
            Some("only") => true,
            Some(_) => return refuse("usage: /stats?hidden=(include|only|exclude)\n\n"),
        };
        let format = match given(request, "format") {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some("prometheus") => Format::Prometheus,
            Some(_) => return refuse("usage: /stats?format=(json|prometheus|text)\n\n"),
        };
        let (used_only, invert_filter) =
            (request.param("usedonly").is_some(), request.param("invert_filter").is_some());
        Ok(StatsParams { format, kind, buckets, used_only, hidden_only, filter, invert_filter })
    }

    pub(super) fn with_format(self, format: Format) -> Self {
        StatsParams { format, ..self }
    }

    /// Whether a metric is to be shown.
    pub(super) fn shows(&self, name: &str, used: bool) -> bool {
        let matches = |filter: &Regex| filter.is_match(name) != self.invert_filter;
        !self.hidden_only && (used || !self.used_only) && self.filter.as_ref().is_none_or(matches)
    }
}

/// A parameter that is not empty.
fn given<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.param(name).filter(|value| !value.is_empty())
}
