//! [`ConnectionInfoProvider`]: what is known of a connection, for those who outlive it.
//!
//! Mirrors `ConnectionInfoProvider` of Envoy 1.40's `envoy/network/socket.h`; in 1.1 each stream is given a copy of it all.
//! It begins as the socket's, and there is one for every connection that is open: addresses are kept small.

use std::cell::{Cell, OnceCell};
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use super::{Address, SslConnectionInfo};

/// What is known of a connection; its socket and its streams share it.
pub struct ConnectionInfoProvider {
    connection_id: Cell<u64>,
    remote_address: SmallAddress,
    local_address: OnceCell<Option<SmallAddress>>,
    ssl_connection: OnceCell<Rc<dyn SslConnectionInfo>>,
}

impl ConnectionInfoProvider {
    /// Of a socket; its own end's address may be learnt later.
    pub fn new(local_address: Option<Address>, remote_address: Address) -> Rc<Self> {
        let local_address = local_address.map_or_else(OnceCell::new, |address| Some(address.into()).into());
        Rc::new(ConnectionInfoProvider {
            connection_id: Cell::new(0),
            remote_address: remote_address.into(),
            local_address,
            ssl_connection: OnceCell::new(),
        })
    }

    /// The connection's number, unique in the process; 0 while the socket has no connection.
    pub fn connection_id(&self) -> u64 {
        self.connection_id.get()
    }

    /// Says which connection the socket has.
    pub fn set_connection_id(&self, id: u64) {
        self.connection_id.set(id);
    }

    /// The peer's address.
    pub fn remote_address(&self) -> Address {
        self.remote_address.get()
    }

    /// This end's address, as far as it is known.
    pub fn local_address(&self) -> Option<Address> {
        self.local_address.get()?.as_ref().map(SmallAddress::get)
    }

    /// The same; who does not know it asks `query`, once.
    pub(super) fn local_address_or(&self, query: impl FnOnce() -> Option<Address>) -> Option<Address> {
        self.local_address.get_or_init(|| query().map(Into::into)).as_ref().map(SmallAddress::get)
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

/// An [`Address`] in half of its size where it is one of IPv4.
enum SmallAddress {
    V4(SocketAddrV4),
    Other(Box<Address>),
}

impl SmallAddress {
    fn get(&self) -> Address {
        match self {
            SmallAddress::V4(v4) => Address::Ip(SocketAddr::V4(*v4)),
            SmallAddress::Other(address) => (**address).clone(),
        }
    }
}

impl From<Address> for SmallAddress {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(SocketAddr::V4(v4)) => SmallAddress::V4(v4),
            other => SmallAddress::Other(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for address in [
            Address::Ip("1.2.3.4:5".parse().unwrap()),
            Address::Ip("[::1]:5".parse().unwrap()),
            Address::Pipe("@a".into()),
        ] {
            let info = ConnectionInfoProvider::new(None, address.clone());
            assert_eq!((info.remote_address(), info.local_address()), (address.clone(), None));
            assert_eq!(info.local_address_or(|| Some(address.clone())), Some(address.clone()));
            assert_eq!(info.local_address(), Some(address));
        }
        assert_eq!(size_of::<Option<SmallAddress>>(), 16);
    }
}
