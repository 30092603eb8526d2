//! `Tcp::ConnPoolImpl`: the lists and the moves between them.

use std::rc::{Rc, Weak};

use Clients::{Busy, Ready};

use super::active_client::ActiveClient;
use super::{Callbacks, TcpInstance};
use crate::common::linked_list::Arena;
use crate::conn_pool::base::{ConnPoolImplBase, Pool, Request};
use crate::conn_pool::{Cancellable, DrainedCb, IdleCb, Instance, PoolFailureReason};
use crate::event::Dispatcher;
use crate::network::ConnectionEvent;
use crate::trace::{self, Ids, Stage, log_stage};
use crate::upstream::{ResourcePriority, WorkerHost};
use crate::{envoy_conn_log, envoy_log, lists};

lists! {
    /// The lists of connections.
    pub(super) enum Clients {
        /// Connecting, or somebody's (`pending_conns_` and `busy_conns_`).
        Busy,
        /// Connected for somebody who has gone meanwhile (`ready_conns_`).
        Ready,
    }
}

/// The pool of raw connections of one host on one worker.
pub struct ConnPoolImpl {
    pub(super) base: ConnPoolImplBase<ConnPoolImpl>,
    clients: Arena<ActiveClient, Clients>,
}

/// Who waits for a connection.
#[derive(Clone)]
pub(crate) struct TcpRequest {
    callbacks: Weak<dyn Callbacks>,
    ids: Ids,
}

impl Request for TcpRequest {
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
        Rc::new_cyclic(|weak: &Weak<ConnPoolImpl>| ConnPoolImpl {
            base: ConnPoolImplBase::new(weak, dispatcher, host, priority),
            clients: Arena::default(),
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

    /// Gives a connection away. Its user may use it before this returns.
    fn assign_connection(&self, client: &Rc<ActiveClient>, request: &TcpRequest) {
        let (id, number) = (client.id(), self.base.number());
        trace::instant(Stage::AssignConnection, Some(id), request.ids.stream, request.ids.connection, number);
        let data = client.assign();
        if let Some(callbacks) = request.callbacks.upgrade() {
            callbacks.on_pool_ready(data, &self.base.host);
        }
    }

    /// A connection is there: the oldest that waits gets it.
    fn process_idle_connection(&self, client: &Rc<ActiveClient>) {
        // What fails may ask again: that is for another time.
        for _ in 0..self.base.num_pending() {
            let Some(pending) = self.base.oldest_pending() else { break };
            pending.remove(self);
            if self.base.may_be_active(&pending.request) {
                envoy_conn_log!(Pool, debug, client.id(), "assigning connection");
                return self.assign_connection(client, &pending.request);
            }
        }
        envoy_conn_log!(Pool, debug, client.id(), "moving to ready");
        self.clients.move_to_front(client.key(), Ready);
        self.trace_lists();
        self.base.check_for_drained(self);
    }

    pub(super) fn on_connection_event(&self, client: &Rc<ActiveClient>, event: ConnectionEvent) {
        let number = self.base.number();
        let _stage = trace::scope(Stage::TcpPoolEvent, Some(client.id()), 0, event as u64, number);
        let was_connecting = client.end_connecting();
        let cluster = self.base.host.cluster();
        if event == ConnectionEvent::Connected {
            cluster.stats().upstream_cx_connect_ms().record(client.age());
            return self.process_idle_connection(client);
        }
        let reason = client.connection().transport_failure_reason();
        envoy_conn_log!(Pool, debug, client.id(), "client disconnected, failure reason: {}", reason);
        self.base.count_destroy(event, client.is_assigned());
        client.release();
        let dead = self.clients.remove(client.key());
        self.trace_lists();
        if was_connecting {
            self.base.count_connect_fail();
            // In 1.1 those who still wait fail with it.
            if !client.is_excess() {
                envoy_conn_log!(Pool, debug, client.id(), "purge pending, failure reason: {}", reason);
                self.base.purge_pending_requests(self, client.failure_reason(event), &reason);
            }
        }
        if let Some(dead) = dead {
            self.base.dispatcher.deferred_delete(dead);
        }
        let left = self.num_ready() + self.num_busy();
        if self.base.num_pending() > left && !self.create_new_connection(None) && left == 0 {
            self.base.purge_pending_requests(self, PoolFailureReason::LocalConnectionFailure, "");
        }
        if self.base.num_pending() > 0 {
            self.base.preconnect(self, 0);
        }
        self.base.check_for_drained(self);
        self.base.check_for_idle(self);
    }
}

impl Pool for ConnPoolImpl {
    type Request = TcpRequest;

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

    /// The one that has been connecting for longest (Envoy 1.1: the last of `pending_conns_`).
    fn close_excess(&self) {
        let busy = self.clients.items(Busy);
        let mut connecting = busy.iter().filter(|client| client.is_connecting());
        if let Some(oldest) = connecting.next_back()
            && self.base.num_pending() < connecting.count() + 1
        {
            oldest.close_excess();
        }
    }

    fn close_ready(&self) {
        while let Some(client) = self.clients.front(Ready) {
            client.close();
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
    }

    fn close_connections(&self) {
        let number = self.base.number();
        trace::instant(Stage::DrainConnections, None, 0, self.num_ready() as u64, number);
        // What comes in their place meanwhile stays.
        let clients: Vec<_> = [Ready, Busy].into_iter().flat_map(|list| self.clients.items(list)).collect();
        clients.iter().for_each(|client| client.close());
    }

    fn has_active_connections(&self) -> bool {
        self.base.has_active_connections(self)
    }

    fn close(&self) {
        for list in [Ready, Busy] {
            while let Some(client) = self.clients.front(list) {
                client.close();
            }
        }
        self.base.dispatcher.clear_deferred_delete_list();
    }

    fn record_lists(&self) {
        self.trace_lists();
    }
}

impl TcpInstance for ConnPoolImpl {
    fn new_connection(&self, callbacks: Weak<dyn Callbacks>, ids: Ids) -> Option<Rc<dyn Cancellable>> {
        let request = TcpRequest { callbacks, ids };
        self.base.trace_request(Stage::TcpNewConnection, Some(ids), self.base.num_pending());
        if let Some(client) = self.clients.front(Ready) {
            if self.base.may_be_active(&request) {
                self.clients.move_to_front(client.key(), Busy);
                self.trace_lists();
                envoy_conn_log!(Pool, debug, client.id(), "using existing connection");
                self.assign_connection(&client, &request);
                self.base.preconnect(self, 0);
            }
            return None;
        }
        let ids = request.ids;
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
                client.close();
                if let Some(dead) = self.clients.remove(client.key()) {
                    self.base.dispatcher.deferred_delete(dead);
                }
            }
        }
    }
}
