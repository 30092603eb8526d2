//! Counters and times of responses, by status code.
//!
//! Mirrors Envoy's `source/common/http/codes.cc` (`CodeStatsImpl`), where every name is put together
//! per response. Here the counters of a status are looked up when it is first seen in a cluster, and
//! kept: per hundred statuses a short list that only grows, read without a lock.
//!
//! Those of virtual clusters and of routes are of the same make.

use std::sync::OnceLock;

use crate::stats::{Counter, Histogram, Scope, Unit};

/// Which set of counters is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeStatsCategory {
    /// Of all responses.
    All,
    /// Answers to requests from inside (`x-envoy-internal`).
    Internal,
    /// Answers to requests from outside.
    External,
    /// Answers of canary hosts.
    Canary,
    /// Answers that were thrown away for a retry.
    Retry,
}

use CodeStatsCategory::{All, Canary, External, Internal, Retry};

const CATEGORIES: usize = 5;

impl CodeStatsCategory {
    fn prefix(self) -> &'static str {
        match self {
            All => "",
            Internal => "internal.",
            External => "external.",
            Canary => "canary.",
            Retry => "retry.",
        }
    }
}

/// Whose a response is.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResponseOrigin<'a> {
    /// The request came from inside.
    pub internal: bool,
    /// The host is a canary.
    pub canary: bool,
    /// The zones of this proxy and of the host, if both have one.
    pub zones: Option<(&'a str, &'a str)>,
}

/// The response statistics of a cluster.
pub struct CodeStats {
    scope: Scope,
    /// By `status / 100 - 1`; the last is for statuses outside of 100..=599.
    lists: [Link; 6],
    times: [OnceLock<Histogram>; CATEGORIES],
    zones: OnceLock<Box<ZoneEntry>>,
    alternatives: OnceLock<Box<AlternativeEntry>>,
}

type Link = OnceLock<Box<StatusEntry>>;

/// The responses from one zone to another.
struct ZoneEntry {
    from: String,
    to: String,
    stats: CodeStats,
    next: OnceLock<Box<ZoneEntry>>,
}

/// The responses under another name.
struct AlternativeEntry {
    name: String,
    stats: CodeStats,
    next: OnceLock<Box<AlternativeEntry>>,
}

/// The counters of one status.
struct StatusEntry {
    status: u16,
    categories: [OnceLock<StatusCounters>; CATEGORIES],
    next: Link,
}

struct StatusCounters {
    completed: Counter,
    /// `None` for a status outside of 100..=599.
    group: Option<Counter>,
    status: Counter,
}

impl CodeStats {
    /// With metrics in `scope`, made when first needed.
    pub fn new(scope: &Scope) -> Self {
        CodeStats {
            scope: scope.clone(),
            lists: Default::default(),
            times: Default::default(),
            zones: OnceLock::new(),
            alternatives: OnceLock::new(),
        }
    }

    /// Those of the same cluster under a name of its own, which requests from inside may ask for.
    pub fn alternative(&self, name: &str) -> &CodeStats {
        let mut link = &self.alternatives;
        loop {
            let entry = link.get_or_init(|| {
                let stats = CodeStats::new(&self.scope.create_scope(&format!("{name}.")));
                Box::new(AlternativeEntry { name: name.into(), stats, next: OnceLock::new() })
            });
            if entry.name == name {
                return &entry.stats;
            }
            link = &entry.next;
        }
    }

    /// Counts a response.
    pub fn charge_response(&self, status: u16, origin: &ResponseOrigin<'_>) {
        let entry = self.entry(status);
        self.count(entry, All);
        if origin.canary {
            self.count(entry, Canary);
        }
        self.count(entry, if origin.internal { Internal } else { External });
        if let Some((from, to)) = origin.zones {
            self.zone(from, to).charge_basic(All, status);
        }
    }

    /// Counts a response in one category only.
    pub fn charge_basic(&self, category: CodeStatsCategory, status: u16) {
        self.count(self.entry(status), category);
    }

    /// Records how long a response took in one category only, that of all.
    pub fn charge_basic_timing(&self, milliseconds: u64) {
        self.time(All).record(milliseconds);
    }

    /// Records how long a response took, in milliseconds.
    #[inline]
    pub fn charge_timing(&self, milliseconds: u64, origin: &ResponseOrigin<'_>) {
        self.time(All).record(milliseconds);
        if origin.canary {
            self.time(Canary).record(milliseconds);
        }
        self.time(if origin.internal { Internal } else { External }).record(milliseconds);
        if let Some((from, to)) = origin.zones {
            self.zone(from, to).time(All).record(milliseconds);
        }
    }

    fn zone(&self, from: &str, to: &str) -> &CodeStats {
        let mut link = &self.zones;
        loop {
            let entry = link.get_or_init(|| {
                let stats = CodeStats::new(&self.scope.create_scope(&format!("zone.{from}.{to}.")));
                Box::new(ZoneEntry { from: from.into(), to: to.into(), stats, next: OnceLock::new() })
            });
            if entry.from == from && entry.to == to {
                return &entry.stats;
            }
            link = &entry.next;
        }
    }

    fn entry(&self, status: u16) -> &StatusEntry {
        let (list, status) = match status {
            100..=599 => (&self.lists[usize::from(status / 100) - 1], status),
            _ => (&self.lists[5], 0),
        };
        let mut link = list;
        loop {
            let entry = link.get_or_init(|| Box::new(StatusEntry::new(status)));
            if entry.status == status {
                return entry;
            }
            link = &entry.next;
        }
    }

    #[inline(always)]
    fn count(&self, entry: &StatusEntry, category: CodeStatsCategory) {
        let counters = entry.categories[category as usize]
            .get_or_init(|| StatusCounters::new(&self.scope, category.prefix(), entry.status));
        counters.completed.inc();
        if let Some(group) = &counters.group {
            group.inc();
        }
        counters.status.inc();
    }

    fn time(&self, category: CodeStatsCategory) -> &Histogram {
        self.times[category as usize].get_or_init(|| {
            let name = format!("{}upstream_rq_time", category.prefix());
            self.scope.histogram(&name, Unit::Milliseconds)
        })
    }
}

impl StatusEntry {
    fn new(status: u16) -> Self {
        StatusEntry { status, categories: Default::default(), next: Link::new() }
    }
}

impl StatusCounters {
    /// `status` 0 stands for all without a counter of their own.
    fn new(scope: &Scope, prefix: &str, status: u16) -> Self {
        let counter = |name: &str| scope.counter(&format!("{prefix}upstream_rq_{name}"));
        let known = status != 0;
        StatusCounters {
            completed: counter("completed"),
            group: known.then(|| counter(&format!("{}xx", status / 100))),
            status: if known { counter(&status.to_string()) } else { counter("unknown") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Store;

    fn code_stats() -> (CodeStats, Scope) {
        let scope = Store::new(1).root_scope().create_scope("cluster.a.");
        (CodeStats::new(&scope), scope)
    }

    /// Names, without the prefix, and values of all counters.
    fn counters(scope: &Scope) -> Vec<(String, u64)> {
        let name = |counter: &Counter| counter.name().trim_start_matches(scope.prefix()).to_owned();
        scope.store().counters().iter().map(|c| (name(c), c.value())).collect()
    }

    fn expected(counters: &[(&str, u64)]) -> Vec<(String, u64)> {
        counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn responses_are_counted_by_status_group_and_origin() {
        let (stats, scope) = code_stats();
        let internal = ResponseOrigin { internal: true, ..ResponseOrigin::default() };
        stats.charge_response(200, &ResponseOrigin::default());
        stats.charge_response(204, &ResponseOrigin::default());
        stats.charge_response(200, &internal);
        let names = [
            ("external.upstream_rq_200", 1),
            ("external.upstream_rq_204", 1),
            ("external.upstream_rq_2xx", 2),
            ("external.upstream_rq_completed", 2),
            ("internal.upstream_rq_200", 1),
            ("internal.upstream_rq_2xx", 1),
            ("internal.upstream_rq_completed", 1),
            ("upstream_rq_200", 2),
            ("upstream_rq_204", 1),
            ("upstream_rq_2xx", 3),
            ("upstream_rq_completed", 3),
        ];
        assert_eq!(counters(&scope), expected(&names));
    }

    #[test]
    fn canaries_and_retries_are_counted_apart() {
        let (stats, scope) = code_stats();
        stats.charge_response(503, &ResponseOrigin { internal: true, canary: true, zones: None });
        stats.charge_basic(CodeStatsCategory::Retry, 503);
        let names = [
            ("canary.upstream_rq_503", 1),
            ("canary.upstream_rq_5xx", 1),
            ("canary.upstream_rq_completed", 1),
            ("internal.upstream_rq_503", 1),
            ("internal.upstream_rq_5xx", 1),
            ("internal.upstream_rq_completed", 1),
            ("retry.upstream_rq_503", 1),
            ("retry.upstream_rq_5xx", 1),
            ("retry.upstream_rq_completed", 1),
            ("upstream_rq_503", 1),
            ("upstream_rq_5xx", 1),
            ("upstream_rq_completed", 1),
        ];
        assert_eq!(counters(&scope), expected(&names));
    }

    #[test]
    fn zones_are_counted_in_pairs() {
        let (stats, scope) = code_stats();
        for (status, to) in [(200, "b"), (404, "b"), (200, "c")] {
            let zones = Some(("a", to));
            stats.charge_response(status, &ResponseOrigin { zones, ..ResponseOrigin::default() });
        }
        let names = [
            ("zone.a.b.upstream_rq_200", 1),
            ("zone.a.b.upstream_rq_2xx", 1),
            ("zone.a.b.upstream_rq_404", 1),
            ("zone.a.b.upstream_rq_4xx", 1),
            ("zone.a.b.upstream_rq_completed", 2),
            ("zone.a.c.upstream_rq_200", 1),
            ("zone.a.c.upstream_rq_2xx", 1),
            ("zone.a.c.upstream_rq_completed", 1),
        ];
        let counters = counters(&scope).into_iter().filter(|(name, _)| name.starts_with("zone."));
        assert_eq!(counters.collect::<Vec<_>>(), expected(&names));
    }

    #[test]
    fn odd_statuses_share_one_counter_and_have_no_group() {
        let (stats, scope) = code_stats();
        for status in [0, 99, 600, 999] {
            stats.charge_basic(CodeStatsCategory::All, status);
        }
        stats.charge_basic(CodeStatsCategory::All, 100);
        stats.charge_basic(CodeStatsCategory::All, 599);
        let names = [
            ("upstream_rq_100", 1),
            ("upstream_rq_1xx", 1),
            ("upstream_rq_599", 1),
            ("upstream_rq_5xx", 1),
            ("upstream_rq_completed", 6),
            ("upstream_rq_unknown", 4),
        ];
        assert_eq!(counters(&scope), expected(&names));
    }

    #[test]
    fn times_go_to_the_same_categories() {
        let (stats, scope) = code_stats();
        let zones = Some(("here", "there"));
        stats.charge_timing(5, &ResponseOrigin { internal: false, canary: true, zones });
        stats.charge_timing(7, &ResponseOrigin { internal: true, canary: false, zones: None });
        scope.store().merge_histograms();
        let histograms = scope.store().histograms();
        let counts: Vec<_> = histograms.iter().map(|h| (h.name(), h.cumulative().count)).collect();
        let expected = [
            ("cluster.a.canary.upstream_rq_time", 1),
            ("cluster.a.external.upstream_rq_time", 1),
            ("cluster.a.internal.upstream_rq_time", 1),
            ("cluster.a.upstream_rq_time", 2),
            ("cluster.a.zone.here.there.upstream_rq_time", 1),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn threads_that_meet_at_a_new_status_share_its_counter() {
        let (stats, scope) = code_stats();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| (100..600).for_each(|s| stats.charge_basic(CodeStatsCategory::All, s)));
            }
        });
        assert_eq!(scope.counter("upstream_rq_404").value(), 4);
        assert_eq!(scope.counter("upstream_rq_completed").value(), 2000);
    }
}
