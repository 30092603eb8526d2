//! `ConnPoolImpl`: the lists and the moves between them.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use Clients::{Busy, Ready};

use super::active_client::{ActiveClient, StreamWrapper};
use crate::common::linked_list::Arena;
use crate::conn_pool::base::{ConnPoolImplBase, Pool, Request};
use crate::conn_pool::{
    Callbacks, Cancellable, DrainedCb, HttpInstance, IdleCb, Instance, PoolFailureReason,
};
use crate::event::{Dispatcher, Moment, Timer};
use crate::http::{Protocol, StreamDecoder};
use crate::network::ConnectionEvent;
use crate::trace::{self, Ids, Stage, log_stage};
use crate::upstream::{ResourcePriority, WorkerHost};
use crate::{envoy_conn_log, envoy_log, lists};

lists! {
    /// The lists of clients.
    pub(super) enum Clients {
        /// With a connection attempt or a request (`busy_clients_`).
        Busy,
        /// Idle; the front one was used last and is used next (`ready_clients_`).
        Ready,
    }
}

/// The HTTP/1 pool of one host on one worker.
pub struct ConnPoolImpl {
    pub(super) base: ConnPoolImplBase<ConnPoolImpl>,
    pub(super) clients: Arena<ActiveClient, Clients>,
    upstream_ready_timer: Timer,
    upstream_ready_enabled: Cell<bool>,
    /// One for the pool, as in Envoy: with several attempts under way all measure from the last start.
    pub(super) connect_start: Cell<Moment>,
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

/// A request that is given to the pool.
#[derive(Clone)]
pub(crate) struct HttpRequest {
    decoder: Weak<dyn StreamDecoder>,
    callbacks: Weak<dyn Callbacks>,
    ids: Ids,
}

impl Request for HttpRequest {
    fn ids(&self) -> Ids {
        self.ids
    }

    fn fail(&self, reason: PoolFailureReason, transport_failure_reason: &str, host: Option<&Rc<WorkerHost>>) {
        if let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.on_pool_failure(reason, transport_failure_reason, host);
        }
    }
}

impl ConnPoolImpl {
    /// An empty pool for `host`, whose circuit breakers of `priority` apply.
    pub fn new(dispatcher: &Rc<Dispatcher>, host: Rc<WorkerHost>, priority: ResourcePriority) -> Rc<Self> {
        Rc::new_cyclic(|weak: &Weak<ConnPoolImpl>| {
            let on_ready = weak.clone();
            ConnPoolImpl {
                base: ConnPoolImplBase::new(weak, dispatcher, host, priority),
                clients: Arena::default(),
                upstream_ready_timer: dispatcher.create_timer(move || {
                    if let Some(pool) = on_ready.upgrade() {
                        pool.on_upstream_ready();
                    }
                }),
                upstream_ready_enabled: Cell::new(false),
                connect_start: Cell::new(Moment::exact()),
            }
        })
    }

    fn trace_lists(&self) {
        self.base.trace_lists(self);
    }

    /// Connecting may fail at once for want of an fd; then there is no new client.
    fn create_new_connection(&self, on_behalf_of: Option<Ids>) -> bool {
        log_stage!(CreateNewConnection());
        self.base.trace_request(Stage::CreateNewConnection, on_behalf_of, on_behalf_of.is_some().into());
        let host = &self.base.host;
        match ActiveClient::new(self) {
            Ok(client) => {
                let key = self.clients.push_front(Busy, client.clone());
                client.set_key(key);
                self.trace_lists();
                true
            }
            Err(error) => {
                envoy_log!(Pool, debug, "cannot create a connection to {}: {}", host.address(), error);
                self.base.count_connect_fail();
                false
            }
        }
    }

    /// Hands a request to a client. The request is encoded before this returns.
    fn attach_request_to_client(&self, client: &Rc<ActiveClient>, request: HttpRequest) {
        let HttpRequest { decoder, callbacks, ids } = request;
        let host = &self.base.host;
        host.cluster().stats().upstream_rq_total().inc();
        host.stats().rq_total().inc();
        let (id, number) = (client.id(), self.base.number());
        trace::instant(Stage::AttachRequestToClient, Some(id), ids.stream, ids.connection, number);
        let wrapper = StreamWrapper::attach(client, decoder);
        if let Some(callbacks) = callbacks.upgrade() {
            callbacks.on_pool_ready(wrapper, host);
        }
    }

    /// Gives the client the oldest request that may be active; those that may not fail. False when there
    /// was none.
    fn attach_oldest_pending(&self, client: &Rc<ActiveClient>) -> bool {
        // What fails may ask again: that is for another time.
        for _ in 0..self.base.num_pending() {
            let Some(pending) = self.base.oldest_pending() else { return false };
            envoy_conn_log!(Pool, debug, client.id(), "attaching to next request");
            if !self.base.resources().requests().can_create() {
                pending.remove(self);
                self.base.may_be_active(&pending.request);
                continue;
            }
            self.attach_request_to_client(client, pending.request.clone());
            pending.remove(self);
            return true;
        }
        false
    }

    /// A client has connected, or has answered and is reusable (`delay`).
    pub(super) fn process_idle_client(&self, client: &Rc<ActiveClient>, delay: bool) {
        client.clear_stream_wrapper();
        trace::instant(Stage::ProcessIdleClient, Some(client.id()), 0, delay.into(), self.base.number());
        if delay || !self.attach_oldest_pending(client) {
            envoy_conn_log!(Pool, debug, client.id(), "moving to ready");
            self.clients.move_to_front(client.key(), Ready);
            self.trace_lists();
        }
        if !delay {
            self.count_overflow();
            if self.base.num_pending() > 0 {
                self.base.preconnect(self, 0);
            }
        }
        if delay && self.base.num_pending() > 0 && !self.upstream_ready_enabled.replace(true) {
            self.upstream_ready_timer.enable_after_poll();
        }
        self.base.check_for_drained(self);
    }

    /// Gives ready clients to pending requests.
    fn on_upstream_ready(&self) {
        self.upstream_ready_enabled.set(false);
        let waiting = self.base.num_pending() as u64;
        let _stage = trace::scope(Stage::OnUpstreamReady, None, 0, waiting, self.base.number());
        self.attach_pending_to_ready();
        self.count_overflow();
        if self.base.num_pending() > 0 {
            self.base.preconnect(self, 0);
        }
    }

    /// Counts that the limit keeps requests waiting which connections under way are not enough for, as Envoy 1.40
    /// does when clients have been given away.
    fn count_overflow(&self) {
        if self.base.num_pending() == 0 || self.base.resources().can_create_connection(&self.base.host) {
            return;
        }
        if self.base.num_pending() > self.num_connecting() {
            self.base.host.cluster().stats().upstream_cx_overflow().inc();
        }
    }

    fn attach_pending_to_ready(&self) {
        while self.base.num_pending() > 0 {
            let Some(client) = self.clients.front(Ready) else { return };
            if !self.attach_oldest_pending(&client) {
                return;
            }
            // Attaching may have closed the client, which takes it off the list.
            if self.clients.list_of(client.key()) == Some(Ready) {
                self.clients.move_to_front(client.key(), Busy);
                self.trace_lists();
            }
        }
    }

    /// The response to a client's request is complete.
    pub(super) fn on_response_complete(&self, client: &Rc<ActiveClient>, wrapper: &StreamWrapper) {
        let id = client.id();
        log_stage!(PoolResponseComplete(id));
        let case = AfterResponse::of(client, wrapper);
        trace::instant(Stage::PoolResponseComplete, Some(id), 0, case as u64, self.base.number());
        match case {
            AfterResponse::RequestIncomplete => {
                envoy_conn_log!(Pool, debug, id, "response before request complete");
            }
            AfterResponse::Close => envoy_conn_log!(Pool, debug, id, "saw upstream connection: close"),
            AfterResponse::LastRequest => {
                envoy_conn_log!(Pool, debug, id, "maximum requests per connection");
                self.base.host.cluster().stats().upstream_cx_max_requests().inc();
            }
            AfterResponse::Draining => {}
            AfterResponse::Reuse => return self.process_idle_client(client, true),
        }
        self.on_downstream_reset(client);
    }

    /// The request was given up: on HTTP/1 the connection cannot be used any more.
    pub(super) fn on_downstream_reset(&self, client: &ActiveClient) {
        trace::instant(Stage::OnDownstreamReset, Some(client.id()), 0, 0, self.base.number());
        client.codec_client().close();
    }

    pub(super) fn on_connection_event(&self, client: &Rc<ActiveClient>, event: ConnectionEvent) {
        let _stage =
            trace::scope(Stage::PoolConnectionEvent, Some(client.id()), 0, event as u64, self.base.number());
        if event == ConnectionEvent::Connected {
            client.end_connecting();
            let elapsed = self.connect_start.get().elapsed();
            self.base.host.cluster().stats().upstream_cx_connect_ms().record(elapsed.as_millis() as u64);
            client.on_connected(&self.base.dispatcher);
            self.process_idle_client(client, false);
            return;
        }
        let connection = client.codec_client().connection().clone();
        let reason = connection.transport_failure_reason();
        envoy_conn_log!(Pool, debug, client.id(), "client disconnected, failure reason: {}", reason);

        let was_connecting = client.end_connecting();
        let was_serving = client.has_stream_wrapper();
        self.base.count_destroy(event, was_serving && !client.decode_complete());
        let dead = self.clients.remove(client.key());
        self.trace_lists();
        if was_connecting {
            self.base.count_connect_fail();
            envoy_conn_log!(Pool, debug, client.id(), "purge pending, failure reason: {}", reason);
            self.base.purge_pending_requests(self, client.failure_reason(event), &reason);
        }
        if let Some(dead) = dead {
            self.base.dispatcher.deferred_delete(dead);
        }
        // The clients that are left cannot serve all that wait.
        let left = self.num_ready() + self.num_busy();
        if self.base.num_pending() > left && !self.create_new_connection(None) && left == 0 {
            self.base.purge_pending_requests(self, PoolFailureReason::LocalConnectionFailure, "");
        }
        if self.base.num_pending() > 0 {
            self.base.preconnect(self, 0);
        }
        if was_connecting || was_serving {
            self.base.check_for_drained(self);
        }
        self.base.check_for_idle(self);
    }
}

impl Pool for ConnPoolImpl {
    type Request = HttpRequest;

    fn base(&self) -> &ConnPoolImplBase<Self> {
        &self.base
    }

    fn num_busy(&self) -> usize {
        self.clients.len(Busy)
    }

    fn num_ready(&self) -> usize {
        self.clients.len(Ready)
    }

    fn num_connecting(&self) -> usize {
        self.clients.items(Busy).iter().filter(|client| client.is_connecting()).count()
    }

    fn connect(&self) -> bool {
        self.create_new_connection(None)
    }

    fn close_ready(&self) {
        while let Some(client) = self.clients.front(Ready) {
            client.codec_client().close();
        }
    }
}

impl Instance for ConnPoolImpl {
    fn host(&self) -> &Rc<WorkerHost> {
        &self.base.host
    }

    fn add_drained_callback(&self, callback: DrainedCb) {
        self.base.add_drained_callback(self, callback);
    }

    fn set_idle_callback(&self, callback: IdleCb) {
        self.base.set_idle_callback(callback);
    }

    fn drain_connections(&self) {
        let number = self.base.number();
        trace::instant(Stage::DrainConnections, None, 0, self.num_ready() as u64, number);
        self.close_ready();
        for client in self.clients.items(Busy) {
            client.make_last_request();
        }
    }

    fn has_active_connections(&self) -> bool {
        self.base.has_active_connections(self)
    }

    fn close(&self) {
        for list in [Ready, Busy] {
            while let Some(client) = self.clients.front(list) {
                client.codec_client().close();
            }
        }
        self.base.dispatcher.clear_deferred_delete_list();
    }

    fn record_lists(&self) {
        self.trace_lists();
    }
}

impl HttpInstance for ConnPoolImpl {
    fn protocol(&self) -> Protocol {
        Protocol::Http11
    }

    fn new_stream(
        &self,
        response_decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
        ids: Ids,
    ) -> Option<Rc<dyn Cancellable>> {
        let request = HttpRequest { decoder: response_decoder, callbacks, ids };
        self.base.trace_request(Stage::PoolNewStream, Some(ids), self.base.num_pending());
        if let Some(client) = self.clients.front(Ready) {
            if !self.base.may_be_active(&request) {
                return None;
            }
            self.clients.move_to_front(client.key(), Busy);
            self.trace_lists();
            envoy_conn_log!(Pool, debug, client.id(), "using existing connection");
            self.attach_request_to_client(&client, request);
            self.base.preconnect(self, 0);
            return None;
        }
        self.base.wait_for_connection(self, request, || self.create_new_connection(Some(ids)))
    }
}

impl Drop for ConnPoolImpl {
    fn drop(&mut self) {
        let clients = (self.num_ready() + self.num_busy()) as u64;
        trace::instant(Stage::PoolGoes, None, 0, clients, self.base.number());
        // The clients' way back to the pool is gone already, so they are only closed here.
        for list in [Ready, Busy] {
            for client in self.clients.items(list) {
                client.codec_client().close();
                if let Some(dead) = self.clients.remove(client.key()) {
                    self.base.dispatcher.deferred_delete(dead);
                    self.trace_lists();
                }
            }
        }
    }
}
