//! How long a response may take. Mirrors `FilterUtility::finalTimeout` of Envoy's
//! `source/common/router/router.cc`.

use std::time::Duration;

use crate::http::{HeaderId, HeaderMap, grpc_timeout, utility};
use crate::router::RouteEntry;

/// The timeouts of a request; zero is none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct TimeoutData {
    /// For the whole response, from the end of the request.
    pub global: Duration,
    /// For each try, from the moment it has a connection.
    pub per_try: Duration,
    /// The upstream is told in the way of gRPC, too.
    pub is_told_grpc: bool,
}

/// The route's timeouts, overridden by the request's headers, which are taken out: with `respect_expected`
/// first of all by what a proxy in front expects, and where the request has
/// `told` the router something. Tells the upstream what it has left unless
/// `insert_expected` is off.
pub(super) fn final_timeout(
    entry: &RouteEntry,
    headers: &mut HeaderMap,
    told: bool,
    hedges: bool,
    insert_expected: bool,
    respect_expected: bool,
) -> TimeoutData {
    let grpc = entry.grpc_timeout.as_deref().filter(|_| utility::has_grpc_content_type(headers));
    let route_timeout = match (entry.max_stream_duration.is_some(), grpc) {
        // The connection manager sees to it.
        (true, _) => Duration::ZERO,
        (_, Some(grpc)) => {
            grpc_timeout::limited(grpc_timeout::get(headers).unwrap_or_default(), grpc.max, grpc.offset)
        }
        _ => entry.timeout,
    };
    let is_told_grpc = grpc.is_some() && entry.max_stream_duration.is_none();
    let per_try = entry.retry_policy().map_or(Duration::ZERO, |policy| policy.per_try_timeout);
    let mut timeout = TimeoutData { global: route_timeout, per_try, is_told_grpc };
    if respect_expected && headers.has(HeaderId::EnvoyExpectedRequestTimeoutMs) {
        timeout.global =
            milliseconds(headers, HeaderId::EnvoyExpectedRequestTimeoutMs).unwrap_or(route_timeout);
    } else if told && let Some(global) = take_milliseconds(headers, HeaderId::EnvoyUpstreamRequestTimeoutMs) {
        timeout.global = global;
    }
    if told && let Some(per_try) = take_milliseconds(headers, HeaderId::EnvoyUpstreamRequestPerTryTimeoutMs) {
        timeout.per_try = per_try;
    }
    if timeout.per_try >= timeout.global && !timeout.global.is_zero() {
        timeout.per_try = Duration::ZERO;
    }
    let is_usual = timeout.global == entry.timeout && timeout.per_try.is_zero() && !timeout.is_told_grpc;
    match &entry.expected_timeout {
        Some(text) if is_usual && insert_expected => {
            headers.set(HeaderId::EnvoyExpectedRequestTimeoutMs, text.as_bytes());
        }
        _ => set_timeout_headers(Duration::ZERO, &timeout, hedges, headers, insert_expected),
    }
    timeout
}

/// Tells the upstream how much time it has, of which some has gone: that of a try, unless that goes on when its time is
/// over.
pub(super) fn set_timeout_headers(
    elapsed: Duration,
    timeout: &TimeoutData,
    hedges: bool,
    headers: &mut HeaderMap,
    insert_expected: bool,
) {
    let mut expected = if hedges || timeout.per_try.is_zero() { timeout.global } else { timeout.per_try };
    if expected.is_zero() {
        return;
    }
    if !timeout.global.is_zero() {
        expected = expected.min(timeout.global.saturating_sub(elapsed));
    }
    // 0 would say that there is no limit.
    let expected = (expected.as_millis() as u64).max(1);
    if insert_expected {
        headers.set_int(HeaderId::EnvoyExpectedRequestTimeoutMs, expected);
    }
    if timeout.is_told_grpc {
        grpc_timeout::set(headers, Duration::from_millis(expected));
    }
}

fn take_milliseconds(headers: &mut HeaderMap, id: HeaderId) -> Option<Duration> {
    if !headers.has(id) {
        return None;
    }
    let value = milliseconds(headers, id);
    headers.remove(id);
    value
}

fn milliseconds(headers: &HeaderMap, id: HeaderId) -> Option<Duration> {
    headers.get_str(id).and_then(|text| text.parse().ok()).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::ClusterName;

    fn entry(timeout: Duration) -> RouteEntry {
        RouteEntry::to_cluster(&ClusterName::of("c"), timeout)
    }

    fn timeouts(fields: &[(&str, &str)]) -> (u64, u64, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.add(name, value.as_bytes());
        }
        let data = final_timeout(&entry(Duration::from_secs(15)), &mut headers, true, false, true, false);
        assert!(!headers.has(HeaderId::EnvoyUpstreamRequestTimeoutMs));
        let expected = headers.get_str(HeaderId::EnvoyExpectedRequestTimeoutMs).map(str::to_string);
        (data.global.as_millis() as u64, data.per_try.as_millis() as u64, expected)
    }

    #[test]
    fn what_a_proxy_in_front_expects_counts_where_it_is_respected() {
        let timeouts = |fields: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            fields.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
            let data = final_timeout(&entry(Duration::from_secs(15)), &mut headers, true, false, true, true);
            data.global.as_millis()
        };
        let (global, expected) = ("x-envoy-upstream-rq-timeout-ms", "x-envoy-expected-rq-timeout-ms");
        assert_eq!(timeouts(&[(global, "7"), (expected, "5")]), 5);
        assert_eq!(timeouts(&[(global, "7")]), 7);
        assert_eq!(timeouts(&[(expected, "x")]), 15_000);
    }

    #[test]
    fn less_than_a_millisecond_is_not_told_as_no_limit() {
        let mut headers = HeaderMap::new();
        let timeout =
            final_timeout(&entry(Duration::from_micros(900)), &mut headers, true, false, true, false);
        assert_eq!(timeout.global, Duration::from_micros(900));
        assert_eq!(headers.get_str(HeaderId::EnvoyExpectedRequestTimeoutMs), Some("1"));
    }

    #[test]
    fn headers_override_the_route() {
        let (global, per_try) = ("x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms");
        assert_eq!(timeouts(&[]), (15000, 0, Some("15000".into())));
        assert_eq!(timeouts(&[(global, "7")]), (7, 0, Some("7".into())));
        assert_eq!(timeouts(&[(global, "7"), (per_try, "5")]), (7, 5, Some("5".into())));
        assert_eq!(timeouts(&[(global, "7"), (per_try, "7")]), (7, 0, Some("7".into())));
        assert_eq!(timeouts(&[(global, "bad")]), (15000, 0, Some("15000".into())));
        assert_eq!(timeouts(&[(global, "0"), (per_try, "5")]), (0, 5, Some("5".into())));
        assert_eq!(timeouts(&[(global, "0")]), (0, 0, None));
    }
}
