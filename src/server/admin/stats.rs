//! `/stats`: all statistics as text.

use std::fmt::Write as _;

use regex::Regex;

use super::{Request, Response};
use crate::server::server::InstanceImpl;

/// Counters and gauges sorted together by name, then histograms. `?usedonly` leaves out what was never
/// written, `?filter=<regex>` what does not match.
pub(super) fn stats(server: &InstanceImpl, request: &Request) -> Response {
    let filter = match request.param("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(error) => return Response::text(400, format!("Invalid re2 regex: {error}\n")),
    };
    match request.param("format") {
        None | Some("text") => {}
        Some(other) => {
            return Response::text(400, format!("usage: /stats?format={other}: only text is supported\n\n"));
        }
    }
    let used_only = request.param("usedonly").is_some();
    let wanted = |name: &str, used: bool| {
        (used || !used_only) && filter.as_ref().is_none_or(|filter| filter.is_match(name))
    };
    // What changes by itself is brought up to date by the flush timer; the rest is always current.
    let store = &server.stats_store;
    let counters = store.counters();
    let gauges = store.gauges();
    let mut values: Vec<(&str, u64)> = counters
        .iter()
        .filter(|c| wanted(c.name(), c.used()))
        .map(|c| (c.name(), c.value()))
        .chain(gauges.iter().filter(|g| wanted(g.name(), g.used())).map(|g| (g.name(), g.value())))
        .collect();
    values.sort_unstable();
    let mut out = String::with_capacity(values.len() * 64);
    for (name, value) in values {
        let _ = writeln!(out, "{name}: {value}"); // infallible
    }
    for histogram in store.histograms() {
        if wanted(histogram.name(), histogram.used()) {
            let _ = writeln!(out, "{}: {}", histogram.name(), histogram.summary()); // infallible
        }
    }
    Response::text(200, out)
}

/// Sets all counters to zero.
pub(super) fn reset_counters(server: &InstanceImpl, _request: &Request) -> Response {
    server.stats_store.reset_counters();
    Response::text(200, "OK\n")
}
