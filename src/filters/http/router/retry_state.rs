//! Whether a request is to be tried again, and when.
//!
//! Mirrors Envoy's `source/common/router/retry_state_impl.cc`, with the conditions of 1.40. The next try is asked for by the
//! timer of who has the state, so that there is no callback to keep.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::FilterConfig;
use crate::common::Local;
use crate::common::backoff_strategy::{JitteredBackOffStrategy, jittered_lower_bound_ms};
use crate::event::{Dispatcher, Timeout, TimeoutCallbacks};
use crate::http::{HeaderId, HeaderMap, HeaderName, RETRY_FIELDS, StreamResetReason, codes};
use crate::router::{RequestCounters, RequestCounting, RetryOn, RetryPolicyImpl, RouteEntry};
use crate::stats::Counter;
use crate::trace::{self, Ids, Stage};
use crate::upstream::load_balancer::PriorityLoad;
use crate::upstream::retry::{RetryHostPredicate, RetryPriority};
use crate::upstream::{ClusterInfoImpl, HostImpl, PrioritySetImpl, ResourcePriority, WorkerHost};

/// Request headers about tries, which are for the router alone: [`RETRY_FIELDS`].
const RETRY_HEADERS: &[HeaderId] = &[
    HeaderId::EnvoyHedgeOnPerTryTimeout,
    HeaderId::EnvoyMaxRetries,
    HeaderId::EnvoyRetriableHeaderNames,
    HeaderId::EnvoyRetriableStatusCodes,
    HeaderId::EnvoyRetryGrpcOn,
    HeaderId::EnvoyRetryOn,
];

/// How long the first pause is at most, where nobody says.
const BASE_RETRY_BACKOFF_MS: u64 = 25;

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RetryStatus {
    /// It is taken.
    No,
    /// It would not be, but there are too many retries.
    NoOverflow,
    /// It would not be, but the request was tried often enough.
    NoRetryLimitExceeded,
    /// There will be another try.
    Yes,
}

/// What the policy says of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RetryDecision {
    /// It is taken.
    NoRetry,
    /// It is not, and the upstream is left alone for a while.
    RetryWithBackoff,
    /// It is not.
    RetryImmediately,
}

/// How the time until the next try was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Backoff {
    None,
    Exponential,
    RateLimited,
}

/// See the module's description.
pub(super) struct RetryStateImpl {
    config: Local<FilterConfig>,
    policy: Arc<RetryPolicyImpl>,
    cluster: Local<ClusterInfoImpl>,
    counting: Option<RequestCounting>,
    priority: ResourcePriority,
    ids: Ids,
    retry_on: RetryOn,
    retries_remaining: Cell<u32>,
    /// Beside those of the policy.
    status_codes: Box<[u32]>,
    /// Beside those of the policy.
    header_names: Box<[HeaderName]>,
    host_predicates: Box<[Box<dyn RetryHostPredicate>]>,
    retry_priority: Option<Box<dyn RetryPriority>>,
    backoff_strategy: RefCell<JitteredBackOffStrategy>,
    /// A retry is under way, or waited for, and has its place among those of the cluster.
    armed: Cell<bool>,
    backoff: Cell<Backoff>,
    dispatcher: Rc<Dispatcher>,
    retry_timer: Timeout,
}

/// The words of a header, a comma between them.
fn words(headers: &HeaderMap, id: HeaderId) -> impl Iterator<Item = &str> {
    headers.get_str(id).unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty())
}

impl RetryStateImpl {
    /// The state of a request that may be tried again. Takes out what the request says of it.
    #[inline]
    pub(super) fn create(
        config: &Local<FilterConfig>,
        entry: &RouteEntry,
        headers: &mut HeaderMap,
        cluster: &Local<ClusterInfoImpl>,
        dispatcher: &Rc<Dispatcher>,
        ids: Ids,
    ) -> Option<Self> {
        let policy = entry.retry_policy();
        let asks = headers.has_any(RETRY_FIELDS);
        if policy.is_none() && !asks {
            return None;
        }
        let wanted = policy.is_some_and(|policy| !policy.retry_on.is_empty())
            || headers.has(HeaderId::EnvoyRetryOn)
            || headers.has(HeaderId::EnvoyRetryGrpcOn);
        let state = wanted.then(|| {
            let policy = policy.unwrap_or_else(|| RetryPolicyImpl::of_headers_alone());
            Self::new(config, policy, entry.priority, headers, cluster, dispatcher, ids)
        });
        if asks {
            RETRY_HEADERS.iter().for_each(|&id| headers.remove(id));
        }
        state
    }

    fn new(
        config: &Local<FilterConfig>,
        policy: &Arc<RetryPolicyImpl>,
        priority: ResourcePriority,
        headers: &HeaderMap,
        cluster: &Local<ClusterInfoImpl>,
        dispatcher: &Rc<Dispatcher>,
        ids: Ids,
    ) -> Self {
        let mut retry_on = policy.retry_on;
        if policy.is_for(headers) {
            let text = |id| headers.get_str(id).unwrap_or_default();
            retry_on = (retry_on.with(RetryOn::parse_http(text(HeaderId::EnvoyRetryOn))))
                .with(RetryOn::parse_grpc(text(HeaderId::EnvoyRetryGrpcOn)));
        } else {
            retry_on = RetryOn::NONE;
        }
        let max_retries =
            headers.get_str(HeaderId::EnvoyMaxRetries).and_then(|text| text.parse::<u64>().ok());
        let max_retries = max_retries.filter(|_| !retry_on.is_empty()).map(|max| max as u32);
        let base =
            policy.base_interval.unwrap_or_else(|| config.base_retry_backoff_ms.get(BASE_RETRY_BACKOFF_MS));
        RetryStateImpl {
            config: config.clone(),
            policy: policy.clone(),
            cluster: cluster.clone(),
            counting: None,
            priority,
            ids,
            retry_on,
            retries_remaining: Cell::new(max_retries.unwrap_or(policy.num_retries)),
            status_codes: words(headers, HeaderId::EnvoyRetriableStatusCodes)
                .filter_map(|code| code.parse().ok())
                .collect(),
            header_names: words(headers, HeaderId::EnvoyRetriableHeaderNames)
                .map(|name| HeaderName::new(&name.to_ascii_lowercase()))
                .collect(),
            host_predicates: policy.host_predicates(),
            retry_priority: policy.retry_priority(),
            backoff_strategy: RefCell::new(JitteredBackOffStrategy::new(
                base,
                policy.max_interval.unwrap_or_else(|| base.saturating_mul(10)),
            )),
            armed: Cell::new(false),
            backoff: Cell::new(Backoff::None),
            dispatcher: dispatcher.clone(),
            retry_timer: Timeout::default(),
        }
    }

    /// Whether anything is tried again.
    pub(super) fn enabled(&self) -> bool {
        !self.retry_on.is_empty()
    }

    /// What the policy says of a response.
    pub(super) fn would_retry_from_headers(
        &self,
        response: &HeaderMap,
        request: Option<&HeaderMap>,
    ) -> RetryDecision {
        if response.has(HeaderId::EnvoyRateLimited) {
            return decision(self.retry_on.has(RetryOn::ENVOY_RATE_LIMITED));
        }
        let status = response.status();
        let on = |words| self.retry_on.has(words);
        if (on(RetryOn::FIVE_XX) && codes::is_5xx(status))
            || (on(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504))
            || (on(RetryOn::RETRIABLE_4XX) && status == 409)
        {
            return RetryDecision::RetryWithBackoff;
        }
        if on(RetryOn::RETRIABLE_STATUS_CODES) && self.is_retriable_status(status) {
            // Too early: not what was asked is wrong, but when.
            match status {
                425 if request.is_none_or(|request| request.get_all("early-data").next().is_none()) => {
                    return RetryDecision::RetryImmediately;
                }
                425 => {}
                _ => return RetryDecision::RetryWithBackoff,
            }
        }
        if on(RetryOn::RETRIABLE_HEADERS) && self.has_retriable_header(response) {
            return RetryDecision::RetryWithBackoff;
        }
        let grpc_status = response.get_str(HeaderId::GrpcStatus).and_then(|status| status.parse().ok());
        decision(grpc_status.is_some_and(|status| on(RetryOn::of_grpc_status(status))))
    }

    fn is_retriable_status(&self, status: u16) -> bool {
        let mut codes = self.policy.retriable_status_codes.iter().chain(&*self.status_codes);
        codes.any(|code| *code == u32::from(status))
    }

    fn has_retriable_header(&self, response: &HeaderMap) -> bool {
        let policy = &self.policy.retriable_headers;
        policy.iter().any(|matcher| matcher.matches(Some(response)))
            || self.header_names.iter().any(|name| name.find(response).is_some())
    }

    /// What the policy says of a try that has ended without a response; whether something of the request has been sent.
    fn would_retry_from_reset(&self, reason: StreamResetReason, request_started: bool) -> RetryDecision {
        let on = |words| self.retry_on.has(words);
        let failed_to_connect = matches!(
            reason,
            StreamResetReason::LocalConnectionFailure
                | StreamResetReason::RemoteConnectionFailure
                | StreamResetReason::ConnectionTimeout
        );
        decision(
            reason != StreamResetReason::Overflow
                && (on(RetryOn::RESET.with(RetryOn::FIVE_XX).with(RetryOn::GATEWAY_ERROR))
                    || (on(RetryOn::RESET_BEFORE_REQUEST) && !request_started)
                    || (on(RetryOn::CONNECT_FAILURE) && failed_to_connect)),
        )
    }

    /// Whether a response is not taken. Where there will be another try, `callbacks` has `which` when it is time.
    pub(super) fn should_retry_headers(
        &self,
        response: &HeaderMap,
        request: Option<&HeaderMap>,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
    ) -> RetryStatus {
        let decision = self.would_retry_from_headers(response, request);
        let asked = match decision {
            RetryDecision::RetryWithBackoff => self.policy.reset_interval(response),
            _ => None,
        };
        self.should_retry(decision, asked, callbacks, which)
    }

    /// As [`RetryStateImpl::should_retry_headers`], of a try that has ended without a response.
    pub(super) fn should_retry_reset(
        &self,
        reason: StreamResetReason,
        request_started: bool,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
    ) -> RetryStatus {
        let decision = self.would_retry_from_reset(reason, request_started);
        self.should_retry(decision, None, callbacks, which)
    }

    /// As [`RetryStateImpl::should_retry_headers`], of a try whose time is over and which goes on: whatever the policy says
    /// of answers.
    pub(super) fn should_hedge_retry_per_try_timeout(
        &self,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
    ) -> RetryStatus {
        self.should_retry(RetryDecision::RetryWithBackoff, None, callbacks, which)
    }

    fn should_retry(
        &self,
        decision: RetryDecision,
        asked: Option<u64>,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
    ) -> RetryStatus {
        let status = self.retry_status(decision);
        let remaining = self.retries_remaining.get().into();
        let Ids { connection, stream } = self.ids;
        trace::instant(Stage::ShouldRetry, Some(connection), stream, status as u64, remaining);
        if status == RetryStatus::Yes {
            self.cluster.resource_manager(self.priority).retries().inc();
            self.armed.set(true);
            self.enable_backoff_timer(decision, asked, callbacks, which);
        }
        status
    }

    /// Where the request is counted, beside its cluster.
    pub(super) fn count_for(mut self, counting: Option<RequestCounting>) -> Self {
        self.counting = counting;
        self
    }

    /// Counts for the request's virtual cluster and its route, where they have statistics.
    fn count(&self, counter: impl Fn(&RequestCounters) -> &Counter) {
        if let Some(counting) = &self.counting {
            counting.each(|stats| counter(stats.counters()).inc());
        }
    }

    fn retry_status(&self, decision: RetryDecision) -> RetryStatus {
        let stats = self.cluster.stats();
        let retried = self.reset_retry();
        if decision == RetryDecision::NoRetry {
            if retried {
                stats.upstream_rq_retry_success().inc();
                self.count(|counters| &counters.upstream_rq_retry_success);
            }
            return RetryStatus::No;
        }
        let Some(left) = self.retries_remaining.get().checked_sub(1) else {
            stats.upstream_rq_retry_limit_exceeded().inc();
            self.count(|counters| &counters.upstream_rq_retry_limit_exceeded);
            return RetryStatus::NoRetryLimitExceeded;
        };
        // Also one that is refused now is used up.
        self.retries_remaining.set(left);
        if !self.cluster.resource_manager(self.priority).retries().can_create() {
            stats.upstream_rq_retry_overflow().inc();
            self.count(|counters| &counters.upstream_rq_retry_overflow);
            return RetryStatus::NoOverflow;
        }
        match self.config.use_retry.is_in(fastrand::u64(..)) {
            true => RetryStatus::Yes,
            false => RetryStatus::No,
        }
    }

    fn enable_backoff_timer(
        &self,
        decision: RetryDecision,
        asked: Option<u64>,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
    ) {
        let random = fastrand::u64(..);
        let (kind, ms) = match (decision, asked) {
            (RetryDecision::RetryImmediately, _) => (Backoff::None, 0),
            (_, Some(asked)) => (Backoff::RateLimited, jittered_lower_bound_ms(asked, random)),
            (_, None) => (Backoff::Exponential, self.backoff_strategy.borrow_mut().next_back_off_ms(random)),
        };
        self.backoff.set(kind);
        trace::instant(Stage::EnableBackoffTimer, Some(self.ids.connection), self.ids.stream, ms, 0);
        self.retry_timer.enable_alone(&self.dispatcher, callbacks, which, Duration::from_millis(ms));
    }

    /// It is time for the next try, which is counted from here: the request may have been given up before.
    pub(super) fn on_retry_timer(&self) {
        let stats = self.cluster.stats();
        stats.upstream_rq_retry().inc();
        self.count(|counters| &counters.upstream_rq_retry);
        match self.backoff.get() {
            Backoff::None => {}
            Backoff::Exponential => stats.upstream_rq_retry_backoff_exponential().inc(),
            Backoff::RateLimited => stats.upstream_rq_retry_backoff_ratelimited().inc(),
        }
    }

    /// Gives back the place of a retry; whether there was one.
    fn reset_retry(&self) -> bool {
        let armed = self.armed.replace(false);
        if armed {
            self.cluster.resource_manager(self.priority).retries().dec();
        }
        armed
    }

    /// A host was chosen for a try.
    pub(super) fn on_host_attempted(&self, host: &Rc<WorkerHost>) {
        self.host_predicates.iter().for_each(|predicate| predicate.on_host_attempted(host));
        if let Some(priority) = &self.retry_priority {
            priority.on_host_attempted(host);
        }
    }

    /// Where the next try may go, if the policy says it.
    pub(super) fn priority_load_for_retry(
        &self,
        priority_set: &PrioritySetImpl,
        original: &PriorityLoad,
    ) -> Option<Rc<PriorityLoad>> {
        self.retry_priority.as_ref()?.determine_priority_load(priority_set, original)
    }

    /// Whether another host than this one is wanted.
    pub(super) fn should_select_another_host(&self, host: &HostImpl) -> bool {
        self.host_predicates.iter().any(|predicate| predicate.should_select_another_host(host))
    }

    /// How often another host is asked for.
    pub(super) fn host_selection_max_attempts(&self) -> u32 {
        self.policy.host_selection_max_attempts
    }
}

fn decision(retry: bool) -> RetryDecision {
    if retry { RetryDecision::RetryWithBackoff } else { RetryDecision::NoRetry }
}

impl Drop for RetryStateImpl {
    fn drop(&mut self) {
        self.reset_retry();
    }
}
