//! A thread's listeners and their connections. Mirrors Envoy's `source/server/connection_handler_impl.cc`.
//!
//! Where a listener has no listener filters a socket goes from accept straight to its filter chain.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::active_socket::ActiveSocket;
use super::listener_config::ListenerConfig;
use super::open_connection::{Counted, OpenConnection};
use crate::common::linked_list::{Arena, NodeKey, Only};
use crate::envoy_log;
use crate::event::{Dispatcher, Moment};
use crate::network::{
    ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl, ConnectionSocket,
    ConnectionState, ListenerCallbacks, ListenerFilterCallbacks, ListenerFilterFactoryCb, ListenerImpl,
    NetworkFilterFactoryCb, TransportSocketFor,
};
use crate::trace::{self, Stage, log_stage, stage};

/// See the module's description.
pub struct ConnectionHandlerImpl {
    name: String,
    dispatcher: Rc<Dispatcher>,
    listeners: RefCell<Vec<Rc<ActiveListener>>>,
    num_connections: Rc<Cell<u64>>,
}

impl ConnectionHandlerImpl {
    /// A handler without listeners, whose share of them is counted under `name`.
    pub fn new(name: &str, dispatcher: &Rc<Dispatcher>) -> Rc<Self> {
        Rc::new(ConnectionHandlerImpl {
            name: name.to_string(),
            dispatcher: dispatcher.clone(),
            listeners: RefCell::default(),
            num_connections: Rc::default(),
        })
    }

    /// Connections of all listeners.
    pub fn num_connections(&self) -> u64 {
        self.num_connections.get()
    }

    /// Starts listening.
    ///
    /// # Errors
    /// That of `listen(2)`.
    pub fn add_listener(&self, config: Arc<ListenerConfig>) -> io::Result<()> {
        trace::instant(Stage::AddListener, None, 0, self.listeners.borrow().len() as u64, 0);
        let listener =
            ActiveListener::new(&self.name, &self.dispatcher, config, self.num_connections.clone())?;
        self.listeners.borrow_mut().push(listener);
        Ok(())
    }

    /// Stops accepting from the listener of this tag; its connections stay.
    pub fn stop_listener(&self, tag: u64) {
        trace::instant(Stage::StopListeners, None, 0, self.listeners.borrow().len() as u64, 0);
        for listener in self.listeners.borrow().iter().filter(|listener| listener.config.tag() == tag) {
            drop(listener.listener.borrow_mut().take());
        }
    }

    /// Lets the listener of this tag and its connections go.
    pub fn remove_listener(&self, tag: u64) {
        let mut listeners = self.listeners.borrow_mut();
        let index = listeners.iter().position(|listener| listener.config.tag() == tag);
        let removed = index.map(|index| listeners.remove(index));
        drop(listeners);
        drop(removed);
    }

    /// Lets all listeners and their connections go.
    pub fn clear(&self) {
        let listeners = std::mem::take(&mut *self.listeners.borrow_mut());
        drop(listeners);
    }
}

/// A listener of one thread.
pub(super) struct ActiveListener {
    weak: Weak<ActiveListener>,
    dispatcher: Rc<Dispatcher>,
    config: Arc<ListenerConfig>,
    /// Of each filter chain.
    filters: Vec<Vec<NetworkFilterFactoryCb>>,
    listener_filters: Vec<ListenerFilterFactoryCb>,
    /// Those that wait for a listener filter.
    sockets: Arena<ActiveSocket, Only>,
    counted: Rc<Counted>,
    listener: RefCell<Option<Rc<ListenerImpl>>>,
    connections: Arena<ActiveConnection, Only>,
    num_connections: Rc<Cell<u64>>,
}

impl ActiveListener {
    fn new(
        handler: &str,
        dispatcher: &Rc<Dispatcher>,
        config: Arc<ListenerConfig>,
        num_connections: Rc<Cell<u64>>,
    ) -> io::Result<Rc<Self>> {
        let this = Rc::new_cyclic(|weak| ActiveListener {
            weak: weak.clone(),
            dispatcher: dispatcher.clone(),
            counted: Rc::new(Counted {
                handler_stats: config.per_handler_stats(handler),
                config: config.clone(),
            }),
            filters: config.filter_chains().iter().map(|chain| chain.on_worker(dispatcher)).collect(),
            listener_filters: config.listener_filters_on_worker(),
            sockets: Arena::default(),
            config,
            listener: RefCell::default(),
            connections: Arena::default(),
            num_connections,
        });
        let callbacks: Weak<dyn ListenerCallbacks> = this.weak.clone();
        let socket = this.config.socket().ok_or(io::ErrorKind::NotConnected)?;
        let listener = ListenerImpl::new(dispatcher, socket, callbacks)?;
        *this.listener.borrow_mut() = Some(listener);
        Ok(this)
    }

    /// Runs a socket through the listener filters.
    fn filter(&self, socket: ConnectionSocket, open: OpenConnection) {
        let filters = self.listener_filters.iter().map(|create| create()).collect();
        let active = ActiveSocket::new(&self.weak, &self.config, &self.dispatcher, (socket, open), filters);
        active.continue_filter_chain(true);
        if active.is_waiting() {
            active.start_timer(self.config.listener_filters_timeout());
            active.key.set(Some(self.sockets.push_front(Only, active.clone())));
        }
    }

    pub(super) fn remove_socket(&self, socket: &ActiveSocket) {
        if let Some(removed) = socket.key.take().and_then(|key| self.sockets.remove(key)) {
            self.dispatcher.deferred_delete(removed);
        }
    }

    /// Makes the connection of a socket that the listener filters have let through.
    pub(super) fn new_filtered_connection(&self, socket: ConnectionSocket, open: OpenConnection) {
        if let Err(error) = self.new_connection(socket, open) {
            self.on_accept_error(&error);
        }
    }

    fn new_connection(&self, socket: ConnectionSocket, open: OpenConnection) -> io::Result<()> {
        let Some(number) = self.config.find_filter_chain(&socket) else {
            envoy_log!(Main, debug, "closing connection: no matching filter chain found");
            trace::instant(Stage::NewConnection, None, 0, 0, 0);
            self.config.stats().no_filter_chain_match.inc();
            return Ok(());
        };
        let chain = &self.config.filter_chains()[number];
        let transport_socket =
            chain.transport_socket_factory().create_transport_socket(TransportSocketFor::default());
        let connection = ConnectionImpl::new(&self.dispatcher, socket, transport_socket, true)?;
        let _stage = trace::scope(Stage::NewConnection, Some(connection.id()), 0, 1, 0);
        trace::instant(Stage::CreateServerConnection, Some(connection.id()), 0, 0, 0);
        connection.set_buffer_limits(self.config.per_connection_buffer_limit_bytes());
        if let Some(timeout) = chain.transport_socket_connect_timeout() {
            let counter = &self.config.stats().downstream_cx_transport_socket_connect_timeout;
            connection.set_transport_socket_connect_timeout(timeout, counter);
        }
        self.filters[number].iter().for_each(|create| create(&connection));
        if !connection.initialize_read_filters() {
            crate::envoy_conn_log!(Main, debug, connection.id(), "closing connection: no filters");
            connection.close(ConnectionCloseType::NoFlush);
            return Ok(());
        }
        self.on_new_connection(connection, open);
        Ok(())
    }

    fn on_new_connection(&self, connection: Rc<ConnectionImpl>, open: OpenConnection) {
        log_stage!(NewConnection(connection.id()));
        // A filter may have closed it already.
        if connection.state() == ConnectionState::Closed {
            return;
        }
        connection.no_delay();
        trace::instant(Stage::OnNewConnection, Some(connection.id()), 0, self.num_connections.get() + 1, 0);
        let active = ActiveConnection::new(&self.weak, self, connection, open);
        let key = self.connections.push_front(Only, active.clone());
        active.key.set(Some(key));
    }

    fn remove_connection(&self, connection: &ActiveConnection) {
        let id = connection.connection.id();
        stage!(RemoveConnection(id), left = self.num_connections.get().saturating_sub(1));
        if let Some(removed) = connection.key.take().and_then(|key| self.connections.remove(key)) {
            self.num_connections.set(self.num_connections.get() - 1);
            self.dispatcher.deferred_delete(removed);
        }
    }
}

impl ListenerCallbacks for ActiveListener {
    fn on_accept(&self, socket: ConnectionSocket) -> io::Result<()> {
        trace::instant(Stage::OnAccept, None, 0, 0, 0);
        let Some(open) = OpenConnection::new(&self.counted) else {
            envoy_log!(
                Main,
                trace,
                "closing connection from {}: listener connection limit reached for {}",
                socket.connection_info().remote_address(),
                self.config.name()
            );
            self.config.stats().downstream_cx_overflow.inc();
            return Ok(());
        };
        if self.listener_filters.is_empty() {
            return self.new_connection(socket, open);
        }
        self.filter(socket, open);
        Ok(())
    }

    fn on_accept_error(&self, _error: &io::Error) {
        self.config.stats().downstream_cx_accept_failure.inc();
    }
}

impl Drop for ActiveListener {
    fn drop(&mut self) {
        while let Some(socket) = self.sockets.front(Only) {
            self.remove_socket(&socket);
        }
        while let Some(connection) = self.connections.front(Only) {
            connection.connection.close(ConnectionCloseType::NoFlush);
            // This listener is past calling back, so the list is emptied here.
            self.remove_connection(&connection);
        }
        self.dispatcher.clear_deferred_delete_list();
    }
}

/// A connection with what the listener counts of it.
struct ActiveConnection {
    listener: Weak<ActiveListener>,
    counted: OpenConnection,
    connection: Rc<ConnectionImpl>,
    key: Cell<Option<NodeKey>>,
    start: Moment,
}

impl ActiveConnection {
    fn new(
        listener: &Weak<ActiveListener>,
        parent: &ActiveListener,
        connection: Rc<ConnectionImpl>,
        counted: OpenConnection,
    ) -> Rc<Self> {
        let active = Rc::new(ActiveConnection {
            listener: listener.clone(),
            counted,
            connection,
            key: Cell::new(None),
            start: Moment::now(),
        });
        let callbacks: Weak<dyn ConnectionCallbacks> = Rc::<ActiveConnection>::downgrade(&active);
        active.connection.add_connection_callbacks(callbacks);
        parent.num_connections.set(parent.num_connections.get() + 1);
        let Counted { config, handler_stats } = &*active.counted;
        config.stats().downstream_cx_total.inc();
        config.stats().downstream_cx_active.inc();
        handler_stats.downstream_cx_total.inc();
        handler_stats.downstream_cx_active.inc();
        active
    }
}

impl ConnectionCallbacks for ActiveConnection {
    fn on_event(&self, event: ConnectionEvent) {
        if event != ConnectionEvent::Connected
            && let Some(listener) = self.listener.upgrade()
        {
            listener.remove_connection(self);
        }
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        trace::instant(Stage::ActiveConnectionGoes, Some(self.connection.id()), 0, 0, 0);
        let stats = self.counted.config.stats();
        stats.downstream_cx_active.dec();
        self.counted.handler_stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        stats.downstream_cx_length_ms.record(self.start.elapsed().as_millis() as u64);
    }
}
