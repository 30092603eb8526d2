//! A connection that legate opens. Mirrors `ClientConnectionImpl` of Envoy's
//! `source/common/network/connection_impl.cc`.

use std::io;
use std::ops::Deref;
use std::rc::Rc;

use nix::errno::Errno;

use super::{Address, ConnectionEvent, ConnectionImpl, ConnectionSocket, TransportSocket};
use crate::config::cluster::TcpKeepalive;
use crate::event::Dispatcher;
use crate::trace::{self, Stage};
use crate::{envoy_conn_log, envoy_log};

/// A connection to an upstream; made unconnected so that callbacks can be added before it starts.
pub struct ClientConnectionImpl {
    connection: Rc<ConnectionImpl>,
}

impl ClientConnectionImpl {
    /// Makes the socket, bound to `source` when given; that of a pipe never is. A bind failure is raised
    /// later, from the loop, as a local close.
    ///
    /// # Errors
    /// Those of `socket(2)`: out of fds. (Envoy 1.1 aborts there.)
    pub fn new(
        dispatcher: &Rc<Dispatcher>,
        remote: Address,
        source: Option<&Address>,
        transport_socket: Box<dyn TransportSocket>,
    ) -> io::Result<Self> {
        let socket = ConnectionSocket::client(remote)?;
        let connection = ConnectionImpl::new(dispatcher, socket, transport_socket, false);
        if let Some(source) = source.filter(|_| connection.remote_address().ip().is_some())
            && let Some(Err(error)) = connection.with_socket(|s| s.bind(source))
        {
            envoy_log!(Misc, debug, "Bind failure. Failed to bind to {}: {}", source, error.desc());
            connection.set_immediate_error(ConnectionEvent::LocalClose, true);
        }
        Ok(ClientConnectionImpl { connection })
    }

    /// Asks for keepalive probes. A system that refuses fails the connection, from the loop, as a local close.
    pub fn set_keepalive(&self, keepalive: &TcpKeepalive) {
        if let Some(Err(error)) = self.connection.with_socket(|s| s.set_keepalive(keepalive)) {
            envoy_log!(Misc, warn, "Setting keepalive options failed: {}", error.desc());
            self.connection.set_immediate_error(ConnectionEvent::LocalClose, false);
        }
    }

    /// Starts connecting. Success and failure are both told by an event, never from inside this call.
    pub fn connect(&self) {
        let connection = &self.connection;
        envoy_conn_log!(Connection, debug, connection.id(), "connecting to {}", connection.remote_address());
        trace::instant(Stage::Connect, Some(connection.id()), 0, 0, 0);
        match connection.with_socket(ConnectionSocket::connect) {
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
