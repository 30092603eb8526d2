//! [`TrackedTry`]: what a cluster counts of one try where it is asked to, by `track_cluster_stats`.
//!
//! Mirrors what `UpstreamRequest::cleanUp` of Envoy 1.40's `source/common/router/upstream_request.cc` does about it. Of other
//! clusters a try has nothing of this.

use std::cell::Cell;
use std::time::Duration;

use super::filter::Filter;
use crate::event::Moment;
use crate::http::HeaderMap;

/// What is known of a try until it is over.
pub(super) struct TrackedTry {
    request_body: Cell<u64>,
    response_body: Cell<u64>,
    /// Bytes of the response's head, and its fields.
    response_headers: Cell<Option<(u64, u64)>>,
}

impl TrackedTry {
    /// Of a try that begins; `None` where its cluster counts nothing of it.
    pub(super) fn create(parent: &Filter) -> Option<Box<Self>> {
        parent.cluster()?.tracked_stats()?;
        Some(Box::new(TrackedTry {
            request_body: Cell::new(0),
            response_body: Cell::new(0),
            response_headers: Cell::new(None),
        }))
    }

    /// So much of the request's body is there.
    pub(super) fn add_request_body(&self, bytes: usize) {
        self.request_body.set(self.request_body.get() + bytes as u64);
    }

    /// So much of the response's body is there.
    pub(super) fn add_response_body(&self, bytes: usize) {
        self.response_body.set(self.response_body.get() + bytes as u64);
    }

    /// The head of the response is there.
    pub(super) fn on_headers(&self, headers: &HeaderMap) {
        self.response_headers.set(Some((headers.byte_size() as u64, headers.len() as u64)));
    }

    /// The try is over, which began at `start`.
    pub(super) fn end(&self, parent: &Filter, start: Moment) {
        let Some(stats) = parent.cluster().and_then(|cluster| cluster.tracked_stats()) else { return };
        if let Some(budgets) = &stats.timeout_budgets {
            let used = percent_of(start.elapsed(), parent.per_try_timeout());
            budgets.upstream_rq_timeout_budget_per_try_percent_used().record(used);
        }
        let Some(sizes) = &stats.request_response_sizes else { return };
        let Some(request) = parent.request_headers() else { return };
        let Ok(request) = request.try_borrow() else { return };
        sizes.upstream_rq_headers_size().record(request.byte_size() as u64);
        sizes.upstream_rq_headers_count().record(request.len() as u64);
        if let Some((bytes, fields)) = self.response_headers.get() {
            sizes.upstream_rs_headers_size().record(bytes);
            sizes.upstream_rs_headers_count().record(fields);
        }
        sizes.upstream_rq_body_size().record(self.request_body.get());
        sizes.upstream_rs_body_size().record(self.response_body.get());
    }
}

/// How much of a timeout is used, in whole percent; of none nothing is (Envoy: `FilterUtility::percentageOfTimeout`).
pub(super) fn percent_of(time: Duration, timeout: Duration) -> u64 {
    let percent = time.as_millis().saturating_mul(100).checked_div(timeout.as_millis());
    percent.map_or(0, |percent| u64::try_from(percent).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_used_of_what_has_no_end() {
        let of = |time, timeout| percent_of(Duration::from_millis(time), Duration::from_millis(timeout));
        assert_eq!([of(5, 0), of(5, 10), of(5, 1000), of(3000, 1000)], [0, 50, 0, 300]);
        assert_eq!(percent_of(Duration::MAX, Duration::from_millis(1)), u64::MAX);
    }
}
