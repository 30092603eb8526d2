//! A connection that legate opens. Mirrors `ClientConnectionImpl` of Envoy's
//! `source/common/network/connection_impl.cc`.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::rc::Rc;

use nix::errno::Errno;

use super::happy_eyeballs::HappyEyeballs;
use super::{
    Address, ConnectionEvent, ConnectionImpl, ConnectionSocket, ConnectionSocketOption, TransportSocket,
};
use crate::config::core::TcpKeepalive;
use crate::event::Dispatcher;
use crate::trace::stage;
use crate::{envoy_conn_log, envoy_log};

/// Gives the socket, connected already, and the transport of a connection to an address.
#[doc(hidden)]
pub type Connector = Rc<dyn Fn(&Address) -> (ConnectionSocket, Box<dyn TransportSocket>)>;

thread_local! {
    static CONNECTOR: RefCell<Option<Connector>> = const { RefCell::new(None) };
}

/// Has this thread's connections made by `connector`: for tests that play the upstream in memory. (Those
/// of Envoy mock `Dispatcher::createClientConnection`.)
#[doc(hidden)]
pub fn set_connector(connector: Option<Connector>) {
    CONNECTOR.set(connector);
}

/// What is set at a socket before it connects.
#[derive(Default)]
pub struct SocketSettings {
    /// In their order.
    pub options: Vec<ConnectionSocketOption>,
    /// This end's address.
    pub source: Option<Address>,
    /// Probes of dead peers.
    pub keepalive: Option<TcpKeepalive>,
}

/// Addresses beside the first one.
struct Others {
    addresses: Vec<Address>,
    prepare: Box<dyn Fn(&Address) -> SocketSettings>,
}

/// A connection to an upstream; made unconnected so that callbacks can be added before it starts.
pub struct ClientConnectionImpl {
    connection: Rc<ConnectionImpl>,
    /// The socket came connected, from a [`Connector`].
    connected: bool,
    others: Cell<Option<Box<Others>>>,
}

impl ClientConnectionImpl {
    /// Makes the socket, bound to `source` when given; that of a pipe never is. A bind failure is raised
    /// later, from the loop, as a local close.
    ///
    /// # Errors
    /// Those of `socket(2)` and `epoll_ctl(2)`: out of fds, for instance. (Envoy 1.1 aborts there.)
    pub fn new(
        dispatcher: &Rc<Dispatcher>,
        remote: Address,
        source: Option<&Address>,
        transport_socket: Box<dyn TransportSocket>,
    ) -> io::Result<Self> {
        if let Some(connector) = CONNECTOR.with_borrow(Clone::clone) {
            let (socket, transport_socket) = connector(&remote);
            let connection = ConnectionImpl::new(dispatcher, socket, transport_socket, false)?;
            return Ok(ClientConnectionImpl { connection, connected: true, others: Cell::default() });
        }
        let socket = ConnectionSocket::client(remote)?;
        let connection = ConnectionImpl::new(dispatcher, socket, transport_socket, false)?;
        let client = ClientConnectionImpl { connection, connected: false, others: Cell::default() };
        if let Some(source) = source {
            client.bind(source);
        }
        Ok(client)
    }

    /// Sets options of the socket and gives it an address, in this order. A failure is told by an event, as a local close.
    pub fn set_options_and_bind(&self, options: &[ConnectionSocketOption], source: Option<&Address>) {
        if self.connected {
            return;
        }
        for option in options {
            if let Some(Err(error)) = self.connection.with_socket(|socket| socket.set_option(option)) {
                envoy_log!(Connection, warn, "Setting option on socket failed: {}", error.desc());
                return self.connection.set_immediate_error(ConnectionEvent::LocalClose, false);
            }
        }
        if let Some(source) = source {
            self.bind(source);
        }
    }

    fn bind(&self, source: &Address) {
        if self.connection.remote_address().ip().is_some()
            && let Some(Err(error)) = self.connection.with_socket(|s| s.bind(source))
        {
            envoy_log!(Misc, debug, "Bind failure. Failed to bind to {}: {}", source, error.desc());
            self.connection.set_immediate_error(ConnectionEvent::LocalClose, true);
        }
    }

    /// Asks for keepalive probes. A system that refuses fails the connection, from the loop, as a local close.
    pub fn set_keepalive(&self, keepalive: &TcpKeepalive) {
        if let Some(Err(error)) =
            self.connection.with_socket(|s| s.set_keepalive(&self.connection.remote_address(), keepalive))
        {
            envoy_log!(Misc, warn, "Setting keepalive options failed: {}", error.desc());
            self.connection.set_immediate_error(ConnectionEvent::LocalClose, false);
        }
    }

    /// These are tried, too, in their order, when its own address takes long, or fails. `prepare` says what is set at a socket for
    /// an address: options, this end's address, keepalive.
    pub fn set_other_addresses(
        &self,
        addresses: Vec<Address>,
        prepare: impl Fn(&Address) -> SocketSettings + 'static,
    ) {
        self.others.set(Some(Box::new(Others { addresses, prepare: Box::new(prepare) })));
    }

    fn begin_with_others(&self) {
        let Some(others) = self.others.take() else { return };
        let Others { addresses, prepare } = *others;
        let make = move |address: &Address| {
            let (socket, _) = ConnectionSocket::client(address.clone())?.into_parts();
            let settings = prepare(address);
            for option in &settings.options {
                socket.set_option(option)?;
            }
            if let Some(source) = settings.source.filter(|_| address.ip().is_some()) {
                socket.bind(&source)?;
            }
            if let Some(keepalive) = &settings.keepalive {
                socket.set_keepalive(address, keepalive)?;
            }
            Ok(socket)
        };
        let attempts = HappyEyeballs::start(&self.connection, addresses, Box::new(make));
        self.connection.set_happy_eyeballs(attempts);
    }

    /// Starts connecting. Success and failure are both told by an event, never from inside this call.
    pub fn connect(&self) {
        let connection = &self.connection;
        stage!(Connect(connection.id()); address = connection.remote_address());
        if self.connected {
            return;
        }
        self.begin_with_others();
        match connection.with_socket(|socket| socket.connect(&connection.remote_address())) {
            None | Some(Ok(())) => {}
            Some(Err(Errno::EINPROGRESS)) => {
                envoy_conn_log!(Connection, debug, connection.id(), "connection in progress");
            }
            Some(Err(error)) => {
                envoy_conn_log!(
                    Connection,
                    debug,
                    connection.id(),
                    "immediate connection error: {}",
                    error as i32
                );
                connection.set_connect_failure("immediate", error);
                connection.set_immediate_error(ConnectionEvent::RemoteClose, false);
            }
        }
    }

    /// The connection itself.
    pub fn connection(&self) -> &Rc<ConnectionImpl> {
        &self.connection
    }
}

impl Deref for ClientConnectionImpl {
    type Target = Rc<ConnectionImpl>;
    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}
