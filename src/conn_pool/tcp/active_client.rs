//! One connection of the pool, and who has it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::UpstreamCallbacks;
use super::pool::ConnPoolImpl;
use crate::buffer::Buffer;
use crate::common::linked_list::NodeKey;
use crate::conn_pool::PoolFailureReason;
use crate::event::{Moment, Timer};
use crate::network::{
    ClientConnectionImpl, ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl,
    ConnectionState, FilterStatus, ReadFilter, ReadFilterCallbacks,
};
use crate::trace::{self, Stage, stage};
use crate::upstream::{ResourcePriority, WorkerHost};

/// A connection. It lives in one of the pool's lists until it closes, and then until the end of the pass (Envoy 1.1:
/// `ActiveConn`).
pub(super) struct ActiveClient {
    weak: Weak<ActiveClient>,
    parent: Weak<ConnPoolImpl>,
    host: Rc<WorkerHost>,
    priority: ResourcePriority,
    connection: ClientConnectionImpl,
    key: OnceCell<NodeKey>,
    /// There while connecting.
    connect_timer: RefCell<Option<Timer>>,
    timed_out: Cell<bool>,
    /// Closed because nobody waits for it any more: that tells nothing of the host.
    excess: Cell<bool>,
    /// Whether it counts as a request.
    assigned: Cell<bool>,
    user: RefCell<Option<Weak<dyn UpstreamCallbacks>>>,
    start: Moment,
}

impl ActiveClient {
    /// Starts a connection for `pool`.
    pub(super) fn new(pool: &ConnPoolImpl) -> io::Result<Rc<Self>> {
        let base = &pool.base;
        let host = base.host.clone();
        let cluster = host.cluster();
        let connection = host.shared().create_connection(&base.dispatcher)?;
        let client = Rc::new_cyclic(|weak: &Weak<ActiveClient>| {
            let on_timeout = weak.clone();
            ActiveClient {
                weak: weak.clone(),
                parent: base.weak.clone(),
                priority: base.priority,
                connection,
                key: OnceCell::new(),
                connect_timer: RefCell::new(Some(base.dispatcher.create_timer(move || {
                    if let Some(client) = on_timeout.upgrade() {
                        client.on_connect_timeout();
                    }
                }))),
                timed_out: Cell::new(false),
                excess: Cell::new(false),
                assigned: Cell::new(false),
                user: RefCell::default(),
                start: Moment::exact(),
                host: host.clone(),
            }
        });
        client.connection.detect_early_close_when_read_disabled(false);
        client.connection.add_read_filter(Rc::new(ConnReadFilter { parent: client.weak.clone() }));
        let callbacks: Weak<dyn ConnectionCallbacks> = client.weak.clone();
        client.connection.add_connection_callbacks(callbacks);
        cluster.stats().upstream_cx_total().inc();
        cluster.stats().upstream_cx_active().inc();
        host.stats().cx_total().inc();
        host.stats().cx_active().inc();
        if let Some(timer) = client.connect_timer.borrow().as_ref() {
            timer.enable_timer(cluster.connect_timeout());
        }
        base.resources().connections().inc();
        client.connection.set_connection_stats(cluster.connection_stats().clone());
        let timeout = cluster.connect_timeout().as_millis() as u64;
        trace::instant(Stage::ActiveConnComes, Some(client.id()), 0, timeout, base.number());
        client.connection.connect();
        client.connection.no_delay();
        Ok(client)
    }

    pub(super) fn set_key(&self, key: NodeKey) {
        let _ = self.key.set(key);
    }

    pub(super) fn key(&self) -> NodeKey {
        *self.key.get().expect("client in a list") // invariant: set right after creation
    }

    pub(super) fn id(&self) -> u64 {
        self.connection.id()
    }

    pub(super) fn connection(&self) -> &Rc<ConnectionImpl> {
        &self.connection
    }

    /// Forgets the connect timer; true when the client was connecting.
    pub(super) fn end_connecting(&self) -> bool {
        self.connect_timer.borrow_mut().take().is_some()
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connect_timer.borrow().is_some()
    }

    /// Whether somebody has the connection.
    pub(super) fn is_assigned(&self) -> bool {
        self.assigned.get()
    }

    /// How long it took to get here.
    pub(super) fn age(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Closes a connection that connects for nobody.
    pub(super) fn close_excess(&self) {
        self.excess.set(true);
        self.close();
    }

    /// Whether it was closed so.
    pub(super) fn is_excess(&self) -> bool {
        self.excess.get()
    }

    pub(super) fn close(&self) {
        self.connection.close(ConnectionCloseType::NoFlush);
    }

    /// Gives the connection away.
    pub(super) fn assign(&self) -> ConnectionData {
        self.assigned.set(true);
        let cluster = self.host.cluster();
        cluster.stats().upstream_rq_total().inc();
        self.host.stats().rq_total().inc();
        cluster.stats().upstream_rq_active().inc();
        self.host.stats().rq_active().inc();
        cluster.resource_manager(self.priority).requests().inc();
        ConnectionData { client: self.weak.clone(), connection: self.connection.connection().clone() }
    }

    /// Stops counting as a request.
    pub(super) fn release(&self) {
        if self.assigned.replace(false) {
            let cluster = self.host.cluster();
            cluster.stats().upstream_rq_active().dec();
            self.host.stats().rq_active().dec();
            cluster.resource_manager(self.priority).requests().dec();
        }
    }

    pub(super) fn failure_reason(&self, event: ConnectionEvent) -> PoolFailureReason {
        if self.timed_out.get() {
            PoolFailureReason::Timeout
        } else if event == ConnectionEvent::LocalClose {
            PoolFailureReason::LocalConnectionFailure
        } else {
            PoolFailureReason::RemoteConnectionFailure
        }
    }

    fn on_connect_timeout(&self) {
        stage!(ConnectTimeout(self.id()));
        self.host.cluster().stats().upstream_cx_connect_timeout().inc();
        self.timed_out.set(true);
        self.close();
    }

    fn user(&self) -> Option<Rc<dyn UpstreamCallbacks>> {
        self.user.borrow().as_ref().and_then(Weak::upgrade)
    }
}

impl ConnectionCallbacks for ActiveClient {
    /// The pool is in order before the user is told.
    fn on_event(&self, event: ConnectionEvent) {
        let user = self.user();
        if let (Some(parent), Some(this)) = (self.parent.upgrade(), self.weak.upgrade()) {
            parent.on_connection_event(&this, event);
        }
        if let Some(user) = user {
            user.on_event(event);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        if let Some(user) = self.user() {
            user.on_above_write_buffer_high_watermark();
        }
    }

    fn on_below_write_buffer_low_watermark(&self) {
        if let Some(user) = self.user() {
            user.on_below_write_buffer_low_watermark();
        }
    }
}

impl Drop for ActiveClient {
    fn drop(&mut self) {
        trace::instant(Stage::ActiveConnGoes, Some(self.id()), 0, 0, 0);
        self.release();
        let cluster = self.host.cluster();
        cluster.stats().upstream_cx_active().dec();
        self.host.stats().cx_active().dec();
        cluster.stats().upstream_cx_length_ms().record(self.age());
        cluster.resource_manager(self.priority).connections().dec();
    }
}

/// Passes what is read on to the user.
struct ConnReadFilter {
    parent: Weak<ActiveClient>,
}

impl ReadFilter for ConnReadFilter {
    fn on_data(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus {
        if let Some(parent) = self.parent.upgrade() {
            match parent.user() {
                Some(user) => user.on_upstream_data(data, end_stream),
                // Nobody could say whose it is.
                None => {
                    data.clear();
                    parent.close();
                }
            }
        }
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, _callbacks: ReadFilterCallbacks) {}
}

/// So long a connection that has lost its user may take for what is left to be written, from one write to the next.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection and its only user; when it is dropped the connection is closed once all is written, if it does not end by
/// itself.
pub struct ConnectionData {
    client: Weak<ActiveClient>,
    connection: Rc<ConnectionImpl>,
}

impl ConnectionData {
    /// The connection.
    pub fn connection(&self) -> &Rc<ConnectionImpl> {
        &self.connection
    }

    /// Who is told of what befalls it.
    pub fn add_upstream_callbacks(&self, callbacks: Weak<dyn UpstreamCallbacks>) {
        if let Some(client) = self.client.upgrade() {
            *client.user.borrow_mut() = Some(callbacks);
        }
    }
}

impl Drop for ConnectionData {
    fn drop(&mut self) {
        if let Some(client) = self.client.upgrade().filter(|_| self.connection.ends_by_itself()) {
            drop(client.user.take());
            return client.release();
        }
        if self.connection.state() == ConnectionState::Open {
            self.connection.set_delayed_close_timeout(FLUSH_TIMEOUT);
            self.connection.close(ConnectionCloseType::FlushWrite);
        }
    }
}
