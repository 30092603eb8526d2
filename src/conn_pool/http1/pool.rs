//! `ConnPoolImpl`: the lists and the moves between them.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::active_client::{ActiveClient, StreamWrapper};
use crate::common::linked_list::{Arena, NodeKey};
use crate::conn_pool::{Callbacks, Cancellable, DrainedCb, IdleCb, Instance, PoolFailureReason};
use crate::event::{Dispatcher, Timer};
use crate::http::{Protocol, StreamDecoder};
use crate::network::ConnectionEvent;
use crate::trace::{self, Stage};
use crate::upstream::{HostSharedPtr, ResourceManagerImpl, ResourcePriority};
use crate::{envoy_conn_log, envoy_log};

/// Clients with a connection attempt or a request.
pub(super) const BUSY: usize = 0;
/// Idle clients; the front one was used last and is used next.
pub(super) const READY: usize = 1;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// The HTTP/1 pool of one host on one worker.
pub struct ConnPoolImpl {
    /// Tells the pools apart in what is recorded.
    number: u64,
    weak: Weak<ConnPoolImpl>,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) host: HostSharedPtr,
    priority: ResourcePriority,
    /// `busy_clients_` and `ready_clients_`.
    pub(super) clients: Arena<ActiveClient, 2>,
    /// New requests at the front, the oldest at the back.
    pub(super) pending_requests: Arena<PendingRequest, 1>,
    drained_callbacks: RefCell<Vec<DrainedCb>>,
    idle_callback: OnceCell<IdleCb>,
    upstream_ready_timer: Timer,
    upstream_ready_enabled: Cell<bool>,
    /// One for the pool, as in Envoy: with several attempts under way all measure from the last start.
    pub(super) connect_start: Cell<Instant>,
}

/// What a complete response leaves of its client. The numbers are for the recorder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AfterResponse {
    /// The rest of the request would go to the next response.
    RequestIncomplete = 1,
    /// The upstream closes, or has closed.
    Close = 2,
    /// It was the last of `max_requests_per_connection`.
    LastRequest = 3,
    /// It can serve another request.
    Reuse = 4,
    /// It has become too old (Envoy 1.1 has no such limit).
    Draining = 5,
}

impl AfterResponse {
    fn of(client: &ActiveClient, wrapper: &StreamWrapper) -> Self {
        let codec_client = client.codec_client();
        if !wrapper.encode_complete() {
            Self::RequestIncomplete
        } else if wrapper.saw_close() || codec_client.remote_closed() {
            Self::Close
        } else if client.draining() {
            Self::Draining
        } else if client.use_up_request() {
            Self::LastRequest
        } else {
            Self::Reuse
        }
    }
}

/// A request that waits for a client.
pub(super) struct PendingRequest {
    parent: Weak<ConnPoolImpl>,
    key: Cell<Option<NodeKey>>,
    /// Whether it still counts as pending.
    counted: Cell<bool>,
    decoder: Weak<dyn StreamDecoder>,
    callbacks: Weak<dyn Callbacks>,
    host: HostSharedPtr,
    priority: ResourcePriority,
}

impl ConnPoolImpl {
    /// An empty pool for `host`, whose circuit breakers of `priority` apply.
    pub fn new(dispatcher: &Rc<Dispatcher>, host: HostSharedPtr, priority: ResourcePriority) -> Rc<Self> {
        Rc::new_cyclic(|weak: &Weak<ConnPoolImpl>| {
            let on_ready = weak.clone();
            ConnPoolImpl {
                number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
                weak: weak.clone(),
                dispatcher: dispatcher.clone(),
                host,
                priority,
                clients: Arena::default(),
                pending_requests: Arena::default(),
                drained_callbacks: RefCell::default(),
                idle_callback: OnceCell::new(),
                upstream_ready_timer: dispatcher.create_timer(move || {
                    if let Some(pool) = on_ready.upgrade() {
                        pool.on_upstream_ready();
                    }
                }),
                upstream_ready_enabled: Cell::new(false),
                connect_start: Cell::new(Instant::now()),
            }
        })
    }

    /// The pool's number in what is recorded.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn priority(&self) -> ResourcePriority {
        self.priority
    }

    pub(super) fn resources(&self) -> &ResourceManagerImpl {
        self.host.cluster().resource_manager(self.priority)
    }

    /// Records how many requests and clients there are in each list.
    fn trace_lists(&self) {
        if trace::enabled() {
            let (busy, ready) = (self.clients.len(BUSY), self.clients.len(READY));
            trace::pool_lists(self.number, self.pending_requests.len(0), busy, ready);
        }
    }

    /// Records a stage of the request behind these callbacks.
    fn trace_request(&self, stage: Stage, callbacks: Option<&Weak<dyn Callbacks>>, a: usize) {
        if trace::enabled() {
            let ids = callbacks.and_then(Weak::upgrade).map(|callbacks| callbacks.ids());
            trace::instant(stage, ids.map(|ids| ids.0), ids.map_or(0, |ids| ids.1), a as u64, self.number);
        }
    }

    /// Connecting may fail at once for want of an fd; then there is no new client.
    fn create_new_connection(&self, on_behalf_of: Option<&Weak<dyn Callbacks>>) -> bool {
        envoy_log!(Pool, debug, "creating a new connection");
        self.trace_request(Stage::CreateNewConnection, on_behalf_of, on_behalf_of.is_some().into());
        match ActiveClient::new(&self.weak, self) {
            Ok(client) => {
                let key = self.clients.push_front(BUSY, client.clone());
                client.set_key(key);
                self.trace_lists();
                true
            }
            Err(error) => {
                envoy_log!(Pool, debug, "cannot create a connection to {}: {}", self.host.address(), error);
                self.host.cluster().stats().upstream_cx_connect_fail.inc();
                self.host.stats().cx_connect_fail.inc();
                false
            }
        }
    }

    fn new_pending_request(
        &self,
        decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
    ) -> Rc<dyn Cancellable> {
        envoy_log!(Pool, debug, "queueing request due to no available connections");
        let request = Rc::new(PendingRequest::new(self, decoder, callbacks));
        request.key.set(Some(self.pending_requests.push_front(0, request.clone())));
        self.trace_request(Stage::NewPendingRequest, Some(&request.callbacks), self.pending_requests.len(0));
        self.trace_lists();
        request
    }

    /// Hands a request to a client. The request is encoded before this returns.
    fn attach_request_to_client(
        &self,
        client: &Rc<ActiveClient>,
        decoder: Weak<dyn StreamDecoder>,
        callbacks: &Weak<dyn Callbacks>,
    ) {
        self.host.cluster().stats().upstream_rq_total.inc();
        self.host.stats().rq_total.inc();
        let callbacks = callbacks.upgrade();
        if trace::enabled() {
            let (connection, stream) = callbacks.as_ref().map(|c| c.ids()).unwrap_or_default();
            trace::instant(Stage::AttachRequestToClient, Some(client.id()), stream, connection, self.number);
        }
        let wrapper = StreamWrapper::attach(client, decoder);
        if let Some(callbacks) = callbacks {
            callbacks.on_pool_ready(wrapper, &self.host);
        }
    }

    /// Whether the circuit breaker lets one more request be active; fails the request if not. (1.1 leaves
    /// requests on HTTP/1 unlimited, 1.40 does not.)
    fn may_be_active(&self, callbacks: &Weak<dyn Callbacks>) -> bool {
        if self.resources().requests().can_create() {
            return true;
        }
        envoy_log!(Pool, debug, "max streams overflow");
        if let Some(callbacks) = callbacks.upgrade() {
            callbacks.on_pool_failure(PoolFailureReason::Overflow, "", Some(&self.host));
        }
        self.host.cluster().stats().upstream_rq_active_overflow.inc();
        false
    }

    /// Gives the client the oldest request that may be active; those that may not fail. False when there
    /// was none.
    fn attach_oldest_pending(&self, client: &Rc<ActiveClient>) -> bool {
        // What fails may ask again: that is for another time.
        for _ in 0..self.pending_requests.len(0) {
            let Some(request) = self.pending_requests.back(0) else { return false };
            if !self.resources().requests().can_create() {
                request.remove(self);
                self.may_be_active(&request.callbacks);
                continue;
            }
            envoy_conn_log!(Pool, debug, client.id(), "attaching to next request");
            self.attach_request_to_client(client, request.decoder.clone(), &request.callbacks);
            request.remove(self);
            return true;
        }
        false
    }

    /// A client has connected, or has answered and is reusable (`delay`).
    pub(super) fn process_idle_client(&self, client: &Rc<ActiveClient>, delay: bool) {
        client.clear_stream_wrapper();
        trace::instant(Stage::ProcessIdleClient, Some(client.id()), 0, delay.into(), self.number);
        if delay || !self.attach_oldest_pending(client) {
            envoy_conn_log!(Pool, debug, client.id(), "moving to ready");
            self.clients.move_to_front(client.key(), READY);
            self.trace_lists();
        }
        if !delay {
            self.count_overflow();
        }
        if delay && !self.pending_requests.is_empty(0) && !self.upstream_ready_enabled.replace(true) {
            self.upstream_ready_timer.enable_after_poll();
        }
        self.check_for_drained();
    }

    /// Gives ready clients to pending requests.
    fn on_upstream_ready(&self) {
        self.upstream_ready_enabled.set(false);
        let waiting = self.pending_requests.len(0) as u64;
        let _stage = trace::scope(Stage::OnUpstreamReady, None, 0, waiting, self.number);
        self.attach_pending_to_ready();
        self.count_overflow();
    }

    /// Counts that the limit keeps requests waiting which connections under way are not enough for, as Envoy 1.40
    /// does when clients have been given away.
    fn count_overflow(&self) {
        if self.pending_requests.is_empty(0) || self.resources().connections().can_create() {
            return;
        }
        let connecting = self.clients.items(BUSY).iter().filter(|client| client.is_connecting()).count();
        if self.pending_requests.len(0) > connecting {
            self.host.cluster().stats().upstream_cx_overflow.inc();
        }
    }

    fn attach_pending_to_ready(&self) {
        while !self.pending_requests.is_empty(0) {
            let Some(client) = self.clients.front(READY) else { return };
            if !self.attach_oldest_pending(&client) {
                return;
            }
            // Attaching may have closed the client, which takes it off the list.
            if self.clients.list_of(client.key()) == Some(READY) {
                self.clients.move_to_front(client.key(), BUSY);
                self.trace_lists();
            }
        }
    }

    /// The response to a client's request is complete.
    pub(super) fn on_response_complete(&self, client: &Rc<ActiveClient>, wrapper: &StreamWrapper) {
        let id = client.id();
        envoy_conn_log!(Pool, debug, id, "response complete");
        let case = AfterResponse::of(client, wrapper);
        trace::instant(Stage::PoolResponseComplete, Some(id), 0, case as u64, self.number);
        match case {
            AfterResponse::RequestIncomplete => {
                envoy_conn_log!(Pool, debug, id, "response before request complete");
            }
            AfterResponse::Close => envoy_conn_log!(Pool, debug, id, "saw upstream connection: close"),
            AfterResponse::LastRequest => {
                envoy_conn_log!(Pool, debug, id, "maximum requests per connection");
                self.host.cluster().stats().upstream_cx_max_requests.inc();
            }
            AfterResponse::Draining => {}
            AfterResponse::Reuse => return self.process_idle_client(client, true),
        }
        self.on_downstream_reset(client);
    }

    /// The request was given up: on HTTP/1 the connection cannot be used any more.
    pub(super) fn on_downstream_reset(&self, client: &ActiveClient) {
        trace::instant(Stage::OnDownstreamReset, Some(client.id()), 0, 0, self.number);
        client.codec_client().close();
    }

    pub(super) fn on_connection_event(&self, client: &Rc<ActiveClient>, event: ConnectionEvent) {
        let _stage =
            trace::scope(Stage::PoolConnectionEvent, Some(client.id()), 0, event as u64, self.number);
        if event == ConnectionEvent::Connected {
            client.end_connecting();
            let elapsed = self.connect_start.get().elapsed();
            self.host.cluster().stats().upstream_cx_connect_ms.record(elapsed.as_millis() as u64);
            client.on_connected(&self.dispatcher);
            self.process_idle_client(client, false);
            return;
        }
        let connection = client.codec_client().connection().clone();
        let reason = connection.transport_failure_reason();
        envoy_conn_log!(Pool, debug, client.id(), "client disconnected, failure reason: {}", reason);

        self.count_destroy(event);
        let was_connecting = client.end_connecting();
        let was_serving = client.has_stream_wrapper();
        if was_serving && !client.decode_complete() {
            self.count_destroy_with_active_request(event);
        }
        let dead = self.clients.remove(client.key());
        self.trace_lists();
        if was_connecting {
            self.host.cluster().stats().upstream_cx_connect_fail.inc();
            self.host.stats().cx_connect_fail.inc();
            envoy_conn_log!(Pool, debug, client.id(), "purge pending, failure reason: {}", reason);
            self.purge_pending_requests(client.failure_reason(event), &reason);
        }
        if let Some(dead) = dead {
            self.dispatcher.deferred_delete(dead);
        }
        // The clients that are left cannot serve all that wait.
        let left = self.clients.len(READY) + self.clients.len(BUSY);
        if self.pending_requests.len(0) > left && !self.create_new_connection(None) && left == 0 {
            self.purge_pending_requests(PoolFailureReason::LocalConnectionFailure, "");
        }
        if was_connecting || was_serving {
            self.check_for_drained();
        }
        self.check_for_idle();
    }

    fn count_destroy(&self, event: ConnectionEvent) {
        let stats = self.host.cluster().stats();
        stats.upstream_cx_destroy.inc();
        if event == ConnectionEvent::LocalClose {
            stats.upstream_cx_destroy_local.inc();
        } else {
            stats.upstream_cx_destroy_remote.inc();
        }
    }

    fn count_destroy_with_active_request(&self, event: ConnectionEvent) {
        let stats = self.host.cluster().stats();
        stats.upstream_cx_destroy_with_active_rq.inc();
        if event == ConnectionEvent::LocalClose {
            stats.upstream_cx_destroy_local_with_active_rq.inc();
        } else {
            stats.upstream_cx_destroy_remote_with_active_rq.inc();
        }
    }

    /// Fails everything that waits, newest first. What fails may ask again: that is not purged.
    fn purge_pending_requests(&self, reason: PoolFailureReason, transport_failure_reason: &str) {
        let doomed = self.pending_requests.items(0);
        trace::instant(Stage::PurgePendingRequests, None, 0, doomed.len() as u64, self.number);
        for request in &doomed {
            request.unlink(self);
        }
        for request in doomed {
            if !request.counted.get() {
                continue;
            }
            self.host.cluster().stats().upstream_rq_pending_failure_eject.inc();
            if let Some(callbacks) = request.callbacks.upgrade() {
                callbacks.on_pool_failure(reason, transport_failure_reason, Some(&self.host));
            }
            request.release();
        }
    }

    fn on_pending_request_cancel(&self, request: &PendingRequest) {
        envoy_log!(Pool, debug, "cancelling pending request");
        let left = self.pending_requests.len(0).saturating_sub(1);
        self.trace_request(Stage::PendingRequestCancel, Some(&request.callbacks), left);
        request.remove(self);
        self.host.cluster().stats().upstream_rq_cancelled.inc();
        self.check_for_drained();
    }

    /// 1.40's `isIdleImpl`.
    fn check_for_idle(&self) {
        let empty =
            self.pending_requests.is_empty(0) && [BUSY, READY].iter().all(|&l| self.clients.is_empty(l));
        if let Some(callback) = self.idle_callback.get().filter(|_| empty) {
            callback();
        }
    }

    fn check_for_drained(&self) {
        if self.drained_callbacks.borrow().is_empty()
            || !self.pending_requests.is_empty(0)
            || !self.clients.is_empty(BUSY)
        {
            return;
        }
        let callbacks = self.drained_callbacks.borrow().len() as u64;
        trace::instant(Stage::CheckForDrained, None, 0, callbacks, self.number);
        while let Some(client) = self.clients.front(READY) {
            client.codec_client().close();
        }
        let callbacks = self.drained_callbacks.borrow().clone();
        for callback in callbacks {
            callback();
        }
    }
}

impl Instance for ConnPoolImpl {
    fn protocol(&self) -> Protocol {
        Protocol::Http11
    }

    fn host(&self) -> &HostSharedPtr {
        &self.host
    }

    fn new_stream(
        &self,
        response_decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
    ) -> Option<Rc<dyn Cancellable>> {
        self.trace_request(Stage::PoolNewStream, Some(&callbacks), self.pending_requests.len(0));
        if let Some(client) = self.clients.front(READY) {
            if !self.may_be_active(&callbacks) {
                return None;
            }
            self.clients.move_to_front(client.key(), BUSY);
            self.trace_lists();
            envoy_conn_log!(Pool, debug, client.id(), "using existing connection");
            self.attach_request_to_client(&client, response_decoder, &callbacks);
            return None;
        }
        let stats = self.host.cluster().stats();
        if !self.resources().pending_requests().can_create() {
            envoy_log!(Pool, debug, "max pending requests overflow");
            self.trace_request(Stage::PoolOverflow, Some(&callbacks), self.pending_requests.len(0));
            if let Some(callbacks) = callbacks.upgrade() {
                callbacks.on_pool_failure(PoolFailureReason::Overflow, "", None);
            }
            stats.upstream_rq_pending_overflow.inc();
            return None;
        }
        let can_create_connection = self.resources().connections().can_create();
        // A pool without any connection gets one even beyond the limit, or it would starve.
        let starved = self.clients.is_empty(READY) && self.clients.is_empty(BUSY);
        if !can_create_connection {
            self.trace_request(Stage::PoolLimited, Some(&callbacks), starved.into());
            stats.upstream_cx_overflow.inc();
        }
        let created = (starved || can_create_connection) && self.create_new_connection(Some(&callbacks));
        if starved && !created {
            if let Some(callbacks) = callbacks.upgrade() {
                callbacks.on_pool_failure(PoolFailureReason::LocalConnectionFailure, "", Some(&self.host));
            }
            self.check_for_idle();
            return None;
        }
        Some(self.new_pending_request(response_decoder, callbacks))
    }

    fn add_drained_callback(&self, callback: DrainedCb) {
        self.drained_callbacks.borrow_mut().push(callback);
        let callbacks = self.drained_callbacks.borrow().len() as u64;
        trace::instant(Stage::AddDrainedCallback, None, 0, callbacks, self.number);
        self.check_for_drained();
    }

    fn set_idle_callback(&self, callback: IdleCb) {
        let _ = self.idle_callback.set(callback);
    }

    fn drain_connections(&self) {
        trace::instant(Stage::DrainConnections, None, 0, self.clients.len(READY) as u64, self.number);
        while let Some(client) = self.clients.front(READY) {
            client.codec_client().close();
        }
        for client in self.clients.items(BUSY) {
            client.make_last_request();
        }
    }

    fn has_active_connections(&self) -> bool {
        !self.pending_requests.is_empty(0) || !self.clients.is_empty(BUSY)
    }

    fn close(&self) {
        for list in [READY, BUSY] {
            while let Some(client) = self.clients.front(list) {
                client.codec_client().close();
            }
        }
        self.dispatcher.clear_deferred_delete_list();
    }

    fn record_lists(&self) {
        self.trace_lists();
    }
}

impl Drop for ConnPoolImpl {
    fn drop(&mut self) {
        let clients = (self.clients.len(READY) + self.clients.len(BUSY)) as u64;
        trace::instant(Stage::PoolGoes, None, 0, clients, self.number);
        // The clients' way back to the pool is gone already, so they are only closed here.
        for list in [READY, BUSY] {
            for client in self.clients.items(list) {
                client.codec_client().close();
                if let Some(dead) = self.clients.remove(client.key()) {
                    self.dispatcher.deferred_delete(dead);
                    self.trace_lists();
                }
            }
        }
    }
}

impl PendingRequest {
    fn new(pool: &ConnPoolImpl, decoder: Weak<dyn StreamDecoder>, callbacks: Weak<dyn Callbacks>) -> Self {
        pool.host.cluster().stats().upstream_rq_pending_total.inc();
        pool.host.cluster().stats().upstream_rq_pending_active.inc();
        pool.resources().pending_requests().inc();
        PendingRequest {
            parent: pool.weak.clone(),
            key: Cell::new(None),
            counted: Cell::new(true),
            decoder,
            callbacks,
            host: pool.host.clone(),
            priority: pool.priority,
        }
    }

    fn unlink(&self, pool: &ConnPoolImpl) {
        if let Some(key) = self.key.take() {
            pool.pending_requests.remove(key);
            pool.trace_lists();
        }
    }

    /// Stops counting as pending.
    fn release(&self) {
        if self.counted.replace(false) {
            self.host.cluster().stats().upstream_rq_pending_active.dec();
            self.host.cluster().resource_manager(self.priority).pending_requests().dec();
        }
    }

    fn remove(&self, pool: &ConnPoolImpl) {
        self.unlink(pool);
        self.release();
    }
}

impl Cancellable for PendingRequest {
    fn cancel(&self) {
        if !self.counted.get() {
            return;
        }
        match self.parent.upgrade() {
            Some(pool) => pool.on_pending_request_cancel(self),
            None => self.release(),
        }
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.release();
    }
}
