//! More than one try for a request.
//!
//! Mirrors `Filter::maybeRetryReset`, `Filter::setupRetry` and `Filter::doRetry` of Envoy's `source/common/router/router.cc`. As in
//! 1.40 a request may be tried again before all of it has come, and tries may be under way beside each other. A request
//! without a policy has nothing of this.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::rc::{Rc, Weak};

use super::{Filter, RETRY};
use crate::buffer::Buffer;
use crate::event::{Moment, TimeoutCallbacks};
use crate::filters::http::router::retry_state::{RetryDecision, RetryStateImpl, RetryStatus};
use crate::filters::http::router::timeout::set_timeout_headers;
use crate::filters::http::router::upstream_request::UpstreamRequest;
use crate::http::{HeaderId, HeaderMap, StreamResetReason};
use crate::router::RouteEntry;
use crate::stream_info::ResponseFlag;
use crate::trace::{Ids, Stage, log_stage};
use crate::upstream::load_balancer::{LoadBalancerContext, PriorityLoad};
use crate::upstream::{CodeStatsCategory, HostImpl, PrioritySetImpl, WorkerHost};

/// Tells the upstream whether a try follows one whose time was over.
const IS_TIMEOUT_RETRY: &str = "x-envoy-is-timeout-retry";

/// What a request has that may be tried again.
#[derive(Default)]
pub(super) struct Retries {
    /// Gone once there can be no more tries.
    state: RefCell<Option<RetryStateImpl>>,
    /// Tries under way beside the newest one, the oldest first.
    older: RefCell<Vec<Rc<UpstreamRequest>>>,
    /// How many tries are waited for.
    pending: Cell<u32>,
    is_retry: Cell<bool>,
    /// The next try follows one whose time was over.
    follows_timeout: Cell<bool>,
    /// Something of the request has been sent.
    request_started: Cell<bool>,
}

/// What becomes of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The client gets it.
    Taken,
    /// It is not what is wanted, but there is no further try.
    CouldNotRetry,
    /// It is thrown away.
    Retried,
}

impl Retries {
    fn with_state<T>(&self, f: impl FnOnce(&RetryStateImpl) -> T) -> Option<T> {
        self.state.borrow().as_ref().map(f)
    }

    pub(super) fn end(&self) {
        drop(self.state.take());
        drop(self.older.take());
    }

    pub(super) fn older(&self) -> Vec<Rc<UpstreamRequest>> {
        self.older.borrow().clone()
    }
}

impl Filter {
    /// Has the request tried again, if its route or itself says so.
    #[inline]
    pub(super) fn create_retry_state(&self, entry: &RouteEntry, headers: &mut HeaderMap) {
        let (Some(cluster), Some(callbacks)) = (self.cluster.get(), self.callbacks()) else { return };
        let ids = Ids { connection: self.connection_id.get(), stream: self.stream_id.get() };
        let state =
            RetryStateImpl::create(&self.config, entry, headers, cluster.info(), callbacks.dispatcher(), ids);
        let state = state.map(|state| state.count_for(self.counting.get().cloned()));
        if state.is_some() {
            self.retries
                .get_or_init(|| Box::new(Retries { state: RefCell::new(state), ..Retries::default() }));
        }
    }

    /// Whether more than one try may be sent.
    pub(in super::super) fn may_retry(&self) -> bool {
        self.retries.get().is_some()
    }

    /// Whether the try under way is not the first.
    pub(super) fn is_retry(&self) -> bool {
        self.retries.get().is_some_and(|retries| retries.is_retry.get())
    }

    /// There can be no more tries.
    pub(super) fn end_retries(&self) {
        if let Some(retries) = self.retries.get() {
            drop(retries.state.take());
        }
    }

    fn timeout_callbacks(&self) -> Weak<dyn TimeoutCallbacks> {
        self.weak.clone()
    }

    /// All tries under way, the oldest first.
    pub(super) fn upstream_requests(&self) -> Vec<Rc<UpstreamRequest>> {
        let mut requests = self.retries.get().map(|retries| retries.older()).unwrap_or_default();
        requests.extend(self.upstream_request());
        requests
    }

    /// Lets go of one try.
    pub(super) fn remove_upstream_request(&self, request: &UpstreamRequest) {
        let newest = self.upstream_request().filter(|newest| ptr::eq(&**newest, request));
        let retries = self.retries.get();
        let removed = match (newest, retries) {
            (Some(newest), retries) => {
                let next = retries.and_then(|retries| retries.older.borrow_mut().pop());
                *self.upstream_request.borrow_mut() = next;
                Some(newest)
            }
            (None, Some(retries)) => {
                let mut older = retries.older.borrow_mut();
                let place = older.iter().position(|older| ptr::eq(&**older, request));
                place.map(|place| older.remove(place))
            }
            (None, None) => None,
        };
        if let Some(request) = removed {
            self.let_go(&request);
        }
    }

    /// Whether a better response may still come.
    pub(super) fn others_may_answer(&self) -> bool {
        self.retries.get().is_some_and(|retries| retries.pending.get() > 0)
            || self.upstream_requests().iter().any(|request| request.awaiting_headers())
    }

    /// The client gets what this try has: gives up all others.
    pub(super) fn reset_other_upstreams(&self, taken: &UpstreamRequest) {
        let Some(retries) = self.retries.get() else { return };
        if retries.older.borrow().is_empty() {
            return;
        }
        for request in self.upstream_requests() {
            if !ptr::eq(&*request, taken) {
                request.reset_stream();
                self.remove_upstream_request(&request);
            }
        }
        taken.follow_downstream_watermarks();
    }

    /// What becomes of a response by its head. What would be another try is asked for here, and the old one is over.
    pub(super) fn retry_headers(
        &self,
        request: &UpstreamRequest,
        headers: &HeaderMap,
        end_stream: bool,
    ) -> Verdict {
        let Some(retries) = self.retries.get() else { return Verdict::Taken };
        let downstream = self.downstream_headers.borrow().clone();
        let downstream = || downstream.as_ref().map(|headers| headers.borrow());
        if request.retried() {
            let would =
                retries.with_state(|state| state.would_retry_from_headers(headers, downstream().as_deref()));
            return match would {
                None | Some(RetryDecision::NoRetry) => Verdict::Taken,
                Some(_) => Verdict::CouldNotRetry,
            };
        }
        let callbacks = self.timeout_callbacks();
        let status = retries.with_state(|state| {
            state.should_retry_headers(headers, downstream().as_deref(), callbacks, RETRY)
        });
        match status {
            Some(RetryStatus::Yes) => {
                self.setup_retry(request, false, end_stream && request.encode_complete());
                if let Some(cluster) = self.cluster() {
                    cluster.code_stats().charge_basic(CodeStatsCategory::Retry, headers.status());
                }
                Verdict::Retried
            }
            Some(status) => self.note_refusal(status),
            None => Verdict::Taken,
        }
    }

    /// Notes why there is no other try.
    fn note_refusal(&self, status: RetryStatus) -> Verdict {
        match status {
            RetryStatus::NoOverflow => self.set_response_flag(ResponseFlag::UpstreamOverflow),
            RetryStatus::NoRetryLimitExceeded => {
                self.set_response_flag(ResponseFlag::UpstreamRetryLimitExceeded)
            }
            RetryStatus::No | RetryStatus::Yes => return Verdict::Taken,
        }
        Verdict::CouldNotRetry
    }

    /// Throws a try away that another one is to follow; one that is not over is reset.
    fn setup_retry(&self, request: &UpstreamRequest, follows_timeout: bool, is_over: bool) {
        log_stage!(SetupRetry(self.connection_id.get(), self.stream_id.get()));
        self.passed(Stage::SetupRetry, is_over.into(), 0);
        if let Some(host) = request.host() {
            host.stats().rq_error().inc();
        }
        if !is_over {
            request.reset_stream();
        }
        self.await_retry(follows_timeout);
        self.remove_upstream_request(request);
    }

    fn await_retry(&self, follows_timeout: bool) {
        if let Some(retries) = self.retries.get() {
            retries.pending.set(retries.pending.get() + 1);
            retries.follows_timeout.set(follows_timeout);
        }
    }

    /// Whether another try follows one that has ended without a response.
    pub(super) fn maybe_retry_reset(
        &self,
        reason: StreamResetReason,
        request: &UpstreamRequest,
        is_timeout: bool,
    ) -> bool {
        let Some(retries) = self.retries.get() else { return false };
        if self.downstream_response_started.get() || request.retried() {
            return false;
        }
        if request.has_sent() {
            retries.request_started.set(true);
        }
        let started = retries.request_started.get();
        let status = retries
            .with_state(|state| state.should_retry_reset(reason, started, self.timeout_callbacks(), RETRY));
        let Some(status) = status else { return false };
        self.passed(Stage::MaybeRetryReset, reason as u64, status as u64);
        if status == RetryStatus::Yes {
            self.setup_retry(request, is_timeout, true);
            return true;
        }
        self.note_refusal(status);
        false
    }

    /// The time of a try is over, and it goes on beside the next one (Envoy 1.40: `Filter::onSoftPerTryTimeout`).
    pub(super) fn on_soft_per_try_timeout(&self, request: &UpstreamRequest) {
        request.record_timeout_for_outlier_detection(self.timeout_response_code.get());
        let Some(retries) = self.retries.get().filter(|_| !self.downstream_response_started.get()) else {
            return;
        };
        let callbacks = self.timeout_callbacks();
        let status = retries.with_state(|state| state.should_hedge_retry_per_try_timeout(callbacks, RETRY));
        match status {
            Some(RetryStatus::Yes) => {
                self.await_retry(true);
                request.set_retried();
            }
            Some(status) => {
                self.note_refusal(status);
            }
            None => {}
        }
    }

    /// It is time for the next try.
    pub(super) fn do_retry(&self) {
        let (Some(retries), Some(route), Some(callbacks)) =
            (self.retries.get(), self.route.get().cloned(), self.callbacks())
        else {
            return;
        };
        let (Some(entry), Some(headers)) = (route.route_entry(), self.downstream_headers()) else { return };
        retries.is_retry.set(true);
        retries.pending.set(retries.pending.get().saturating_sub(1));
        retries.with_state(RetryStateImpl::on_retry_timer);
        let attempts = callbacks.stream_info().attempt_count.get() + 1;
        callbacks.stream_info().attempt_count.set(attempts);
        let _stage = self.stage(Stage::DoRetry, attempts.into(), 0);
        // The cluster may have gone, or changed.
        let cluster = route.cluster_name().and_then(|name| self.config.cluster_manager.get(name));
        let Some(pool) = cluster.and_then(|cluster| self.conn_pool(&cluster, entry)) else {
            self.no_healthy_upstream();
            return self.cleanup();
        };
        self.prepare_retry_headers(retries, &mut headers.borrow_mut());
        callbacks.stream_info().forget_upstream();
        let request = UpstreamRequest::new(&self.weak, self);
        let before = self.upstream_request.borrow_mut().replace(request.clone());
        retries.older.borrow_mut().extend(before);
        let mut body = None;
        callbacks.decoding_buffer(&mut |kept| body = Some(kept.duplicate()));
        let (complete, trailers) = (self.downstream_end_stream.get(), self.downstream_trailers());
        request.encode_headers(&pool, complete && body.is_none() && trailers.is_none());
        // It may have been reset at once.
        let is_there = || self.upstream_request().is_some_and(|newest| Rc::ptr_eq(&newest, &request));
        if let Some(mut body) = body.filter(|_| is_there()) {
            request.encode_data(&mut body, complete && trailers.is_none());
        }
        if let Some(trailers) = trailers.filter(|_| is_there()) {
            request.encode_trailers(&trailers);
        }
    }

    /// What a request says of its tries.
    fn prepare_retry_headers(&self, retries: &Retries, headers: &mut HeaderMap) {
        let (Some(route), Some(info)) = (self.route.get(), self.stream_info()) else { return };
        if route.virtual_host().include_attempt_count_in_request() {
            headers.set_int(HeaderId::EnvoyAttemptCount, info.attempt_count.get().into());
        }
        if route.virtual_host().include_is_timeout_retry_header() {
            let follows_timeout: &[u8] = if retries.follows_timeout.get() { b"true" } else { b"false" };
            headers.remove_by_name(IS_TIMEOUT_RETRY.as_bytes());
            headers.add(IS_TIMEOUT_RETRY, follows_timeout);
        }
        let complete = self.downstream_request_complete_time.get();
        let elapsed = complete.map(Moment::elapsed).unwrap_or_default();
        let (timeout, hedge) = (self.timeout.get(), self.hedge_on_per_try_timeout.get());
        set_timeout_headers(elapsed, &timeout, hedge, headers, !self.config.suppress_envoy_headers);
    }

    /// Whether a piece of the request is to be kept for another try. If too much has been kept there will be none; the
    /// request is then answered if no try is under way, too.
    pub(super) fn keeps_request_data(&self, data: &Buffer) -> bool {
        let state = self.retries.get().and_then(|retries| retries.with_state(RetryStateImpl::enabled));
        let Some(callbacks) = self.callbacks().filter(|_| state == Some(true) || self.may_redirect()) else {
            return false;
        };
        let limit = self.retry_buffer_limit();
        if callbacks.decoding_buffer_length() + data.len() <= limit {
            return true;
        }
        if let Some(cluster) = self.cluster() {
            cluster.stats().retry_or_shadow_abandoned().inc();
        }
        self.end_retries();
        self.request_buffer_overflowed.set(true);
        if self.upstream_request.borrow().is_none() {
            self.cleanup();
            let body = "exceeded request buffer limit while retrying upstream";
            self.send_local_reply(507, body, "request_payload_exceeded_retry_buffer_limit");
        }
        false
    }

    fn retry_buffer_limit(&self) -> usize {
        let of_connection = match self.buffer_limit.get() {
            0 => usize::MAX,
            limit => limit,
        };
        let entry = self.route.get().and_then(|route| route.route_entry());
        if let Some(limit) = entry.and_then(RouteEntry::request_body_buffer_limit) {
            return usize::try_from(limit).unwrap_or(usize::MAX);
        }
        let of_route = entry.and_then(RouteEntry::retry_buffer_limit);
        of_route.map_or(of_connection, |limit| of_connection.min(limit as usize))
    }

    /// A try has a host.
    pub(in super::super) fn on_upstream_host_selected(&self, host: &Rc<WorkerHost>) {
        if let Some(retries) = self.retries.get() {
            retries.with_state(|state| state.on_host_attempted(host));
        }
    }

    /// Whether a host is not wanted for this try.
    pub(super) fn wants_other_host(&self, host: &HostImpl) -> bool {
        let retries = self.retries.get().filter(|retries| retries.is_retry.get());
        retries
            .and_then(|retries| retries.with_state(|state| state.should_select_another_host(host)))
            .unwrap_or(false)
    }

    /// Where this try may go, if it is not the first one and the policy says it.
    pub(super) fn retry_priority_load(
        &self,
        priority_set: &PrioritySetImpl,
        original: &PriorityLoad,
    ) -> Option<Rc<PriorityLoad>> {
        let retries = self.retries.get().filter(|retries| retries.is_retry.get())?;
        retries.with_state(|state| state.priority_load_for_retry(priority_set, original))?
    }

    /// How often another host is asked for.
    pub(super) fn host_selections(&self) -> u32 {
        let retries = self.retries.get().filter(|retries| retries.is_retry.get());
        retries
            .and_then(|retries| retries.with_state(RetryStateImpl::host_selection_max_attempts))
            .unwrap_or(1)
    }
}
