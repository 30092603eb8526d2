//! [`ConnectionInfoProvider`]: what is known of a connection, for those who outlive it.
//!
//! Mirrors `ConnectionInfoProvider` of Envoy 1.40's `envoy/network/socket.h`; in 1.1 each stream is given a copy of it all.

use std::cell::OnceCell;
use std::rc::Rc;

use super::{Address, SslConnectionInfo};

/// What is known of a connection; its streams share it.
pub struct ConnectionInfoProvider {
    connection_id: u64,
    remote_address: Address,
    local_address: OnceCell<Option<Address>>,
    ssl_connection: OnceCell<Rc<dyn SslConnectionInfo>>,
}

impl ConnectionInfoProvider {
    /// Of a new connection; its own end's address may be learnt later.
    pub fn new(connection_id: u64, local_address: Option<Address>, remote_address: Address) -> Rc<Self> {
        let local_address = local_address.map_or_else(OnceCell::new, |address| Some(address).into());
        Rc::new(ConnectionInfoProvider {
            connection_id,
            remote_address,
            local_address,
            ssl_connection: OnceCell::new(),
        })
    }

    /// The connection's number, unique in the process.
    pub fn connection_id(&self) -> u64 {
        self.connection_id
    }

    /// The peer's address.
    pub fn remote_address(&self) -> &Address {
        &self.remote_address
    }

    /// This end's address, as far as it is known.
    pub fn local_address(&self) -> Option<&Address> {
        self.local_address.get()?.as_ref()
    }

    /// The same; who does not know it asks `query`, once.
    pub(super) fn local_address_or(&self, query: impl FnOnce() -> Option<Address>) -> Option<&Address> {
        self.local_address.get_or_init(query).as_ref()
    }

    /// The connection's TLS; `None` where it has none, or is not ready for data.
    pub fn ssl_connection(&self) -> Option<&Rc<dyn SslConnectionInfo>> {
        self.ssl_connection.get()
    }

    /// Says what TLS the connection has, once.
    pub fn set_ssl_connection(&self, ssl: Rc<dyn SslConnectionInfo>) {
        self.ssl_connection.get_or_init(|| ssl);
    }
}
