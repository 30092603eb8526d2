//! [`ConnectionInfoProvider`]: what is known of a connection, for those who outlive it.
//!
//! Mirrors `ConnectionInfoProvider` of Envoy 1.40's `envoy/network/socket.h`; in 1.1 each stream is given a copy of it all.
//! It begins as the socket's, and there is one for every connection that is open: addresses are kept small.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use super::{Address, SslConnectionInfo};

/// What is known of a connection; its socket and its streams share it.
pub struct ConnectionInfoProvider {
    connection_id: Cell<u64>,
    addresses: Cell<Addresses>,
    other: OnceCell<Box<Other>>,
}

/// Of a plain connection of IPv4, whose own end's address may be asked for later, this is all that there is to know.
#[derive(Clone, Copy)]
struct Addresses {
    /// `None` where the address is in [`Other`]; so is this end's then, if it is known.
    remote: Option<SocketAddrV4>,
    local: Option<SocketAddrV4>,
}

#[derive(Default)]
struct Other {
    remote: RefCell<Option<Address>>,
    local: RefCell<Option<Option<Address>>>,
    ssl_connection: OnceCell<Rc<dyn SslConnectionInfo>>,
    requested_server_name: OnceCell<Box<str>>,
    detected_transport_protocol: Cell<&'static str>,
    requested_application_protocols: OnceCell<Vec<Vec<u8>>>,
    /// That of who is connected, where another one is told of.
    direct_remote: OnceCell<Address>,
    told_remote: RefCell<Option<Address>>,
    told_local: RefCell<Option<Address>>,
    transport_failure_reason: RefCell<String>,
    attached: RefCell<Vec<(&'static str, Rc<dyn Any>)>>,
}

impl ConnectionInfoProvider {
    /// Of a socket; its own end's address may be learnt later.
    pub fn new(local_address: Option<Address>, remote_address: Address) -> Rc<Self> {
        let addresses = Addresses { remote: v4(&remote_address), local: local_address.as_ref().and_then(v4) };
        let other = OnceCell::new();
        if addresses.remote.is_none() || addresses.local.is_none() && local_address.is_some() {
            let local = RefCell::new(local_address.map(Some));
            let remote = RefCell::new(Some(remote_address));
            other.get_or_init(|| Box::new(Other { remote, local, ..Other::default() }));
        }
        Rc::new(ConnectionInfoProvider {
            connection_id: Cell::new(0),
            addresses: Cell::new(addresses),
            other,
        })
    }

    /// The connection's number, unique in the process; 0 while the socket has no connection.
    #[inline]
    pub fn connection_id(&self) -> u64 {
        self.connection_id.get()
    }

    /// Says which connection the socket has.
    pub fn set_connection_id(&self, id: u64) {
        self.connection_id.set(id);
    }

    /// The peer's address.
    pub fn remote_address(&self) -> Address {
        if let Some(told) = self.other.get().and_then(|other| other.told_remote.borrow().clone()) {
            return told;
        }
        match self.addresses.get().remote {
            Some(v4) => Address::Ip(v4.into()),
            None => self.other().remote.borrow().clone().expect("an address"), // invariant: set where it is not of IPv4
        }
    }

    /// Another address of the peer's it has become; this end's is to be learnt anew.
    pub(super) fn set_remote_address(&self, remote: Address) {
        self.addresses.set(Addresses { remote: v4(&remote), local: None });
        if let Some(other) = self.other.get() {
            other.local.take();
        }
        if v4(&remote).is_none() {
            *self.other().remote.borrow_mut() = Some(remote);
        }
    }

    /// Says for whom the connection is; who is connected stays known.
    pub fn tell_remote_address(&self, remote: Address) {
        self.other().direct_remote.get_or_init(|| self.remote_address());
        *self.other().told_remote.borrow_mut() = Some(remote);
    }

    /// Says where the connection was going.
    pub fn restore_local_address(&self, local: Address) {
        *self.other().told_local.borrow_mut() = Some(local);
    }

    /// The address that the connection has come to, wherever it was going.
    pub fn direct_local_address(&self) -> Option<Address> {
        match self.addresses.get().local {
            Some(v4) => Some(Address::Ip(v4.into())),
            None => self.other.get()?.local.borrow().clone()?,
        }
    }

    /// Where the connection was going, if that is known to be elsewhere.
    pub fn original_dst(&self) -> Option<SocketAddr> {
        self.other.get()?.told_local.borrow().as_ref()?.ip().copied()
    }

    /// This end's address, as far as it is known.
    pub fn local_address(&self) -> Option<Address> {
        if let Some(told) = self.other.get().and_then(|other| other.told_local.borrow().clone()) {
            return Some(told);
        }
        self.direct_local_address()
    }

    /// The same; who does not know it asks `query`, once.
    pub(super) fn local_address_or(&self, query: impl FnOnce() -> Option<Address>) -> Option<Address> {
        if let Some(known) = self.local_address() {
            return Some(known);
        }
        if self.other.get().is_some_and(|other| other.local.borrow().is_some()) {
            return None;
        }
        let address = query();
        match address.as_ref().and_then(v4) {
            Some(v4) => self.addresses.set(Addresses { local: Some(v4), ..self.addresses.get() }),
            None => *self.other().local.borrow_mut() = Some(address.clone()),
        }
        address
    }

    /// The connection's TLS; `None` where it has none, or is not ready for data.
    pub fn ssl_connection(&self) -> Option<&Rc<dyn SslConnectionInfo>> {
        self.other.get()?.ssl_connection.get()
    }

    /// Says what TLS the connection has, once.
    pub fn set_ssl_connection(&self, ssl: Rc<dyn SslConnectionInfo>) {
        self.other().ssl_connection.get_or_init(|| ssl);
    }

    /// The name that the client has asked for, as a listener filter has seen it; empty for none.
    pub fn requested_server_name(&self) -> &str {
        self.other.get().and_then(|other| other.requested_server_name.get()).map_or("", |name| name)
    }

    /// Says which name the client has asked for, once.
    pub fn set_requested_server_name(&self, name: &str) {
        self.other().requested_server_name.get_or_init(|| name.into());
    }

    /// What a listener filter has found the bytes to be, `tls` or `raw_buffer`; empty for nothing.
    pub fn detected_transport_protocol(&self) -> &'static str {
        self.other.get().map_or("", |other| other.detected_transport_protocol.get())
    }

    /// Says what the bytes are.
    pub fn set_detected_transport_protocol(&self, protocol: &'static str) {
        self.other().detected_transport_protocol.set(protocol);
    }

    /// The protocols that the client has offered, as a listener filter has seen them.
    pub fn requested_application_protocols(&self) -> &[Vec<u8>] {
        self.other.get().and_then(|other| other.requested_application_protocols.get()).map_or(&[], |all| all)
    }

    /// Says which protocols the client has offered, once.
    pub fn set_requested_application_protocols(&self, protocols: Vec<Vec<u8>>) {
        self.other().requested_application_protocols.get_or_init(|| protocols);
    }

    /// The address of who is connected, whatever is told of whom that is for.
    pub fn direct_remote_address(&self) -> Address {
        let direct = self.other.get().and_then(|other| other.direct_remote.get());
        direct.cloned().unwrap_or_else(|| self.remote_address())
    }

    /// Why the connection's transport failed; empty for no reason.
    pub fn transport_failure_reason(&self) -> String {
        self.other.get().map(|other| other.transport_failure_reason.borrow().clone()).unwrap_or_default()
    }

    /// Says why the connection's transport failed.
    pub fn set_transport_failure_reason(&self, reason: &str) {
        reason.clone_into(&mut self.other().transport_failure_reason.borrow_mut());
    }

    /// What was attached to the connection under this name; otherwise what `make` makes is, for as long as there is the
    /// connection. (Envoy: `FilterState` with `LifeSpan::Connection`.)
    pub fn attached<T: Any>(&self, name: &'static str, make: impl FnOnce() -> Rc<T>) -> Rc<T> {
        let of_name = |attached: &&(&'static str, Rc<dyn Any>)| attached.0 == name;
        let found = self.other().attached.borrow().iter().find(of_name).map(|(_, object)| object.clone());
        if let Some(object) = found.and_then(|object| object.downcast().ok()) {
            return object;
        }
        let object = make();
        self.other().attached.borrow_mut().push((name, object.clone()));
        object
    }

    fn other(&self) -> &Other {
        self.other.get_or_init(Box::default)
    }
}

fn v4(address: &Address) -> Option<SocketAddrV4> {
    match address {
        Address::Ip(SocketAddr::V4(v4)) => Some(*v4),
        _ => None,
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
            let other = Address::Ip("5.6.7.8:9".parse().unwrap());
            for (local, remote) in [(&address, &other), (&other, &address)] {
                let both = ConnectionInfoProvider::new(Some(local.clone()), remote.clone());
                assert_eq!((both.local_address().as_ref(), &both.remote_address()), (Some(local), remote));
            }
            let info = ConnectionInfoProvider::new(None, address.clone());
            assert_eq!(info.local_address_or(|| None), None);
            assert_eq!(info.local_address_or(|| unreachable!("asked twice")), None);
            let info = ConnectionInfoProvider::new(None, address.clone());
            assert_eq!((info.remote_address(), info.local_address()), (address.clone(), None));
            assert_eq!(info.local_address_or(|| Some(address.clone())), Some(address.clone()));
            assert_eq!(info.local_address(), Some(address));
        }
        assert_eq!(size_of::<ConnectionInfoProvider>(), 32);
    }
}
