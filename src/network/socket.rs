//! Listening and connected sockets.
//!
//! Mirrors Envoy's `source/common/network/listen_socket_impl.cc`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, getsockname, setsockopt, sockopt,
};

use super::Address;
use crate::config::cluster::TcpKeepalive;

fn stream_socket(address: &Address) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Ip(ip) if ip.is_ipv4() => AddressFamily::Inet,
        Address::Ip(_) => AddressFamily::Inet6,
    };
    Ok(socket::socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?)
}

/// A bound socket, made once by the main thread and accepted on by every worker.
#[derive(Debug)]
pub struct ListenSocket {
    fd: OwnedFd,
    local_address: Address,
    backlog: Backlog,
}

impl ListenSocket {
    /// Binds with SO_REUSEADDR; port 0 lets the kernel choose. `backlog` connections (`None`: as many as
    /// the system allows) may later wait to be accepted.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    pub fn bind(address: Address, backlog: Option<u32>) -> io::Result<Self> {
        let fd = stream_socket(&address)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        socket::bind(fd.as_raw_fd(), &address.to_storage())?;
        let bound: SockaddrStorage = getsockname(fd.as_raw_fd())?;
        let backlog = backlog.and_then(|n| i32::try_from(n).ok()).and_then(|n| Backlog::new(n).ok());
        let local_address = Address::from_storage(&bound).unwrap_or(address);
        Ok(ListenSocket { fd, local_address, backlog: backlog.unwrap_or(Backlog::MAXCONN) })
    }

    /// From here on clients can connect, though nobody accepts yet. May be called again.
    ///
    /// # Errors
    /// Those of `listen(2)`.
    pub fn listen(&self) -> io::Result<()> {
        Ok(socket::listen(&self.fd, self.backlog)?)
    }

    /// The bound address, with the real port.
    pub fn local_address(&self) -> Address {
        self.local_address
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that is connected or about to be, with its addresses.
#[derive(Debug)]
pub struct ConnectionSocket {
    fd: OwnedFd,
    /// This end's address; for a client socket unset until the connection attempt began.
    pub local_address: Option<Address>,
    /// The peer's address.
    pub remote_address: Address,
}

impl ConnectionSocket {
    /// An accepted socket.
    pub fn accepted(fd: OwnedFd, local_address: Address, remote_address: Address) -> Self {
        ConnectionSocket { fd, local_address: Some(local_address), remote_address }
    }

    /// A fresh, unconnected client socket for `remote_address`.
    ///
    /// # Errors
    /// Those of `socket(2)`, out of fds among them.
    pub fn client(remote_address: Address) -> io::Result<Self> {
        Ok(ConnectionSocket { fd: stream_socket(&remote_address)?, local_address: None, remote_address })
    }

    /// Starts connecting. `EINPROGRESS` is the ordinary error of a non-blocking socket.
    pub(super) fn connect(&self) -> nix::Result<()> {
        socket::connect(self.fd.as_raw_fd(), &self.remote_address.to_storage())
    }

    pub(super) fn bind(&self, source: &Address) -> nix::Result<()> {
        socket::bind(self.fd.as_raw_fd(), &source.to_storage())
    }

    /// Asks the kernel for this end's address.
    pub fn query_local_address(fd: BorrowedFd<'_>) -> Option<Address> {
        let storage: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
        Address::from_storage(&storage)
    }

    /// The pending SO_ERROR of the socket, 0 for none.
    pub(super) fn take_error(&self) -> i32 {
        socket::getsockopt(&self.fd, sockopt::SocketError).unwrap_or_else(|e| e as i32)
    }

    /// Has the kernel find out about dead peers; what is not given stays with the system's defaults.
    pub(super) fn set_keepalive(&self, keepalive: &TcpKeepalive) -> nix::Result<()> {
        setsockopt(&self.fd, sockopt::KeepAlive, &true)?;
        if let Some(probes) = keepalive.keepalive_probes {
            setsockopt(&self.fd, sockopt::TcpKeepCount, &probes)?;
        }
        if let Some(time) = keepalive.keepalive_time {
            setsockopt(&self.fd, sockopt::TcpKeepIdle, &time)?;
        }
        if let Some(interval) = keepalive.keepalive_interval {
            setsockopt(&self.fd, sockopt::TcpKeepInterval, &interval)?;
        }
        Ok(())
    }

    /// Sets TCP_NODELAY; an error is ignored because a failing connection is about to say so itself.
    pub(super) fn set_no_delay(&self) {
        let _ = setsockopt(&self.fd, sockopt::TcpNoDelay, &true);
    }
}

impl AsFd for ConnectionSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
