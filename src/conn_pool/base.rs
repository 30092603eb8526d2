//! What the pools of all protocols have: requests that wait for a connection, and those who wait for the pool to be drained.
//!
//! Mirrors Envoy's `source/common/http/conn_pool_base.cc`. There it is the base class of the HTTP pools, and the TCP pool has
//! the same once more; here what waits is a type of the pool's, so that one queue serves all. A pool keeps its
//! [`ConnPoolImplBase`] and tells it through [`Pool`] what its clients are about.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cancellable, DrainedCb, IdleCb, PoolFailureReason};
use crate::common::linked_list::{Arena, NodeKey, Only};
use crate::envoy_log;
use crate::event::Dispatcher;
use crate::network::ConnectionEvent;
use crate::trace::{self, Ids, Stage, log_stage};
use crate::upstream::{Health, ResourceManagerImpl, ResourcePriority, WorkerHost};

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// So many connections are begun beside those that are asked for, each time that somebody looks.
const MOST_AT_A_TIME: usize = 3;

/// Whether there are to be more connections, for so many requests that wait and are served, where so many connect or are free
/// (Envoy 1.40: `ConnPoolImplBase::shouldConnect`).
fn should_connect(pending: usize, active: usize, free: usize, ratio: f64) -> bool {
    (pending + active) as f64 * ratio > (free + active) as f64
}

/// What a pool gives a connection to.
pub(super) trait Request {
    /// Whose it is.
    fn ids(&self) -> Ids;
    /// There will be no connection; `host` is missing where none was tried.
    fn fail(&self, reason: PoolFailureReason, transport_failure_reason: &str, host: Option<&Rc<WorkerHost>>);
}

/// What the base asks of the pool that it belongs to.
pub(super) trait Pool: Sized + 'static {
    type Request: Request;

    fn base(&self) -> &ConnPoolImplBase<Self>;
    /// Clients that connect or serve.
    fn num_busy(&self) -> usize;
    /// Clients that wait for a request.
    fn num_ready(&self) -> usize;
    /// Closes the clients that wait for a request.
    fn close_ready(&self);
    /// Closes a client that connects for nobody, if there is one.
    fn close_excess(&self) {}
    /// Clients that connect.
    fn num_connecting(&self) -> usize;
    /// Begins a connection; false where that fails at once.
    fn connect(&self) -> bool;
}

/// See the module's description.
pub(super) struct ConnPoolImplBase<P: Pool> {
    /// Tells the pools apart in what is recorded.
    number: u64,
    pub(super) weak: Weak<P>,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) host: Rc<WorkerHost>,
    pub(super) priority: ResourcePriority,
    /// New requests at the front, the oldest at the back.
    pending_requests: Arena<PendingRequest<P>, Only>,
    drained_callbacks: RefCell<Vec<DrainedCb>>,
    idle_callback: OnceCell<IdleCb>,
}

/// A request that waits for a client.
pub(super) struct PendingRequest<P: Pool> {
    parent: Weak<P>,
    key: Cell<Option<NodeKey>>,
    /// Whether it still counts as pending.
    counted: Cell<bool>,
    pub(super) request: P::Request,
    host: Rc<WorkerHost>,
    priority: ResourcePriority,
}

impl<P: Pool> ConnPoolImplBase<P> {
    pub(super) fn new(
        weak: &Weak<P>,
        dispatcher: &Rc<Dispatcher>,
        host: Rc<WorkerHost>,
        priority: ResourcePriority,
    ) -> Self {
        ConnPoolImplBase {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            weak: weak.clone(),
            dispatcher: dispatcher.clone(),
            host,
            priority,
            pending_requests: Arena::default(),
            drained_callbacks: RefCell::default(),
            idle_callback: OnceCell::new(),
        }
    }

    /// The pool's number in what is recorded.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn resources(&self) -> &ResourceManagerImpl {
        self.host.cluster().resource_manager(self.priority)
    }

    pub(super) fn num_pending(&self) -> usize {
        self.pending_requests.len(Only)
    }

    pub(super) fn oldest_pending(&self) -> Option<Rc<PendingRequest<P>>> {
        self.pending_requests.back(Only)
    }

    /// Records how many requests and clients there are in each list.
    pub(super) fn trace_lists(&self, pool: &P) {
        if trace::enabled() {
            trace::pool_lists(self.number, self.num_pending(), pool.num_busy(), pool.num_ready());
        }
    }

    /// Records a stage of a request.
    pub(super) fn trace_request(&self, stage: Stage, ids: Option<Ids>, a: usize) {
        let stream = ids.map_or(0, |ids| ids.stream);
        trace::instant(stage, ids.map(|ids| ids.connection), stream, a as u64, self.number);
    }

    /// Whether the circuit breaker lets one more request be active; fails the request if not. (1.1 leaves
    /// requests on HTTP/1 unlimited, 1.40 does not.)
    #[inline]
    pub(super) fn may_be_active(&self, request: &P::Request) -> bool {
        if self.resources().requests().can_create() {
            return true;
        }
        envoy_log!(Pool, debug, "max streams overflow");
        request.fail(PoolFailureReason::Overflow, "", Some(&self.host));
        self.host.cluster().stats().upstream_rq_active_overflow().inc();
        false
    }

    /// Has a request for which nothing is ready wait, for a connection that is made now if there may be one more.
    pub(super) fn wait_for_connection(
        &self,
        pool: &P,
        request: P::Request,
        create_new_connection: impl FnOnce() -> bool,
    ) -> Option<Rc<dyn Cancellable>> {
        let stats = self.host.cluster().stats();
        let ids = Some(request.ids());
        if !self.resources().pending_requests().can_create() {
            log_stage!(PoolOverflow());
            self.trace_request(Stage::PoolOverflow, ids, self.num_pending());
            request.fail(PoolFailureReason::Overflow, "", None);
            stats.upstream_rq_pending_overflow().inc();
            return None;
        }
        let can_create_connection = self.resources().can_create_connection(&self.host);
        // A pool without any connection gets one even beyond the limit, or it would starve.
        let starved = pool.num_ready() + pool.num_busy() == 0;
        if !can_create_connection {
            self.trace_request(Stage::PoolLimited, ids, starved.into());
            stats.upstream_cx_overflow().inc();
        }
        let created = (starved || can_create_connection) && create_new_connection();
        if starved && !created {
            request.fail(PoolFailureReason::LocalConnectionFailure, "", Some(&self.host));
            self.check_for_idle(pool);
            return None;
        }
        let pending = self.new_pending_request(pool, request);
        self.preconnect(pool, created.into());
        Some(pending)
    }

    /// Makes connections beside those that are asked for, where the cluster wants some (Envoy 1.40: `tryCreateNewConnections`).
    /// `made` were made just now: there are three at a time at most.
    #[inline]
    pub(super) fn preconnect(&self, pool: &P, made: usize) {
        if let Some(ratio) = self.host.cluster().per_upstream_preconnect_ratio() {
            (made..MOST_AT_A_TIME).take_while(|_| self.preconnect_one(pool, ratio)).count();
        }
    }

    /// A host that is not well is not made work.
    fn preconnect_one(&self, pool: &P, ratio: f64) -> bool {
        let connecting = pool.num_connecting();
        let is_well = self.host.health() == Health::Healthy;
        if !is_well
            || !should_connect(
                self.num_pending(),
                pool.num_busy() - connecting,
                connecting + pool.num_ready(),
                ratio,
            )
        {
            return false;
        }
        if !self.resources().can_create_connection(&self.host) {
            self.host.cluster().stats().upstream_cx_overflow().inc();
            return false;
        }
        pool.connect()
    }

    /// Counts that connecting has failed, at once or later.
    pub(super) fn count_connect_fail(&self) {
        self.host.cluster().stats().upstream_cx_connect_fail().inc();
        self.host.stats().cx_connect_fail().inc();
    }

    /// Counts a connection that is gone, by the side that has closed it.
    pub(super) fn count_destroy(&self, event: ConnectionEvent, with_active_request: bool) {
        let stats = self.host.cluster().stats();
        let is_local = event == ConnectionEvent::LocalClose;
        stats.upstream_cx_destroy().inc();
        match is_local {
            true => stats.upstream_cx_destroy_local().inc(),
            false => stats.upstream_cx_destroy_remote().inc(),
        }
        if with_active_request {
            stats.upstream_cx_destroy_with_active_rq().inc();
            match is_local {
                true => stats.upstream_cx_destroy_local_with_active_rq().inc(),
                false => stats.upstream_cx_destroy_remote_with_active_rq().inc(),
            }
        }
    }

    fn new_pending_request(&self, pool: &P, request: P::Request) -> Rc<dyn Cancellable> {
        log_stage!(NewPendingRequest());
        let ids = request.ids();
        let pending = Rc::new(PendingRequest::new(self, request));
        pending.key.set(Some(self.pending_requests.push_front(Only, pending.clone())));
        self.trace_request(Stage::NewPendingRequest, Some(ids), self.num_pending());
        self.trace_lists(pool);
        pending
    }

    /// Fails everything that waits, newest first. What fails may ask again: that is not purged.
    pub(super) fn purge_pending_requests(
        &self,
        pool: &P,
        reason: PoolFailureReason,
        transport_failure_reason: &str,
    ) {
        let doomed = self.pending_requests.items(Only);
        trace::instant(Stage::PurgePendingRequests, None, 0, doomed.len() as u64, self.number);
        for pending in &doomed {
            pending.unlink(pool);
        }
        for pending in doomed {
            if !pending.counted.get() {
                continue;
            }
            self.host.cluster().stats().upstream_rq_pending_failure_eject().inc();
            pending.request.fail(reason, transport_failure_reason, Some(&self.host));
            pending.release();
        }
    }

    fn on_pending_request_cancel(&self, pool: &P, pending: &PendingRequest<P>, close_excess: bool) {
        log_stage!(PendingRequestCancel());
        let left = self.num_pending().saturating_sub(1);
        self.trace_request(Stage::PendingRequestCancel, Some(pending.request.ids()), left);
        pending.remove(pool);
        self.host.cluster().stats().upstream_rq_cancelled().inc();
        if close_excess {
            pool.close_excess();
        }
        self.check_for_drained(pool);
    }

    pub(super) fn add_drained_callback(&self, pool: &P, callback: DrainedCb) {
        self.drained_callbacks.borrow_mut().push(callback);
        let callbacks = self.drained_callbacks.borrow().len() as u64;
        trace::instant(Stage::AddDrainedCallback, None, 0, callbacks, self.number);
        self.check_for_drained(pool);
    }

    pub(super) fn set_idle_callback(&self, callback: IdleCb) {
        let _ = self.idle_callback.set(callback);
    }

    /// Whether a request waits or is served.
    pub(super) fn has_active_connections(&self, pool: &P) -> bool {
        self.num_pending() > 0 || pool.num_busy() > 0
    }

    /// Tells those who wait for it that no request is left, whose connections are then closed.
    pub(super) fn check_for_drained(&self, pool: &P) {
        if self.drained_callbacks.borrow().is_empty() || self.has_active_connections(pool) {
            return;
        }
        let callbacks = self.drained_callbacks.borrow().len() as u64;
        trace::instant(Stage::CheckForDrained, None, 0, callbacks, self.number);
        pool.close_ready();
        let callbacks = self.drained_callbacks.borrow().clone();
        for callback in callbacks {
            callback();
        }
    }

    /// 1.40's `isIdleImpl`.
    pub(super) fn check_for_idle(&self, pool: &P) {
        let empty = !self.has_active_connections(pool) && pool.num_ready() == 0;
        if let Some(callback) = self.idle_callback.get().filter(|_| empty) {
            callback();
        }
    }
}

impl<P: Pool> PendingRequest<P> {
    fn new(base: &ConnPoolImplBase<P>, request: P::Request) -> Self {
        base.host.cluster().stats().upstream_rq_pending_total().inc();
        base.host.cluster().stats().upstream_rq_pending_active().inc();
        base.resources().pending_requests().inc();
        PendingRequest {
            parent: base.weak.clone(),
            key: Cell::new(None),
            counted: Cell::new(true),
            request,
            host: base.host.clone(),
            priority: base.priority,
        }
    }

    fn give_up(&self, close_excess: bool) {
        if !self.counted.get() {
            return;
        }
        match self.parent.upgrade() {
            Some(pool) => pool.base().on_pending_request_cancel(&pool, self, close_excess),
            None => self.release(),
        }
    }

    fn unlink(&self, pool: &P) {
        if let Some(key) = self.key.take() {
            pool.base().pending_requests.remove(key);
            pool.base().trace_lists(pool);
        }
    }

    /// Stops counting as pending.
    fn release(&self) {
        if self.counted.replace(false) {
            self.host.cluster().stats().upstream_rq_pending_active().dec();
            self.host.cluster().resource_manager(self.priority).pending_requests().dec();
        }
    }

    pub(super) fn remove(&self, pool: &P) {
        self.unlink(pool);
        self.release();
    }
}

impl<P: Pool> Cancellable for PendingRequest<P> {
    fn cancel(&self) {
        self.give_up(false);
    }

    fn cancel_and_close_excess(&self) {
        self.give_up(true);
    }
}

impl<P: Pool> Drop for PendingRequest<P> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::should_connect;

    #[test]
    fn connections_are_to_be_so_many_times_the_requests() {
        let until_enough = |pending: usize, active: usize, ratio: f64| {
            (0..).find(|free| !should_connect(pending, active, *free, ratio)).unwrap()
        };
        assert_eq!([until_enough(1, 0, 1.0), until_enough(1, 0, 1.5), until_enough(0, 1, 1.5)], [1, 2, 1]);
        assert_eq!([until_enough(0, 4, 1.25), until_enough(2, 4, 3.0), until_enough(0, 0, 3.0)], [1, 14, 0]);
    }
}
