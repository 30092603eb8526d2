//! Listening and connected sockets.
//!
//! Mirrors Envoy's `source/common/network/listen_socket_impl.cc`.

use std::cell::Cell;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use nix::sys::socket::{
    self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, getsockname, setsockopt,
    sockopt,
};

use super::{Address, ConnectionInfoProvider};
use crate::config::core::TcpKeepalive;
use crate::event::set_socket_option;

fn stream_socket(address: &Address) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Ip(ip) if ip.is_ipv4() => AddressFamily::Inet,
        Address::Ip(_) => AddressFamily::Inet6,
        Address::Pipe(_) => AddressFamily::Unix,
    };
    Ok(socket::socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?)
}

/// How a socket listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// How many connections may wait to be accepted; `None`: as many as the system allows.
    pub backlog: Option<u32>,
    /// Whether others who say so, too, may listen on the same port.
    pub reuse_port: bool,
    /// Whether a socket of IPv6 also takes IPv4.
    pub ipv4_compat: bool,
    /// The permissions of a pipe's file; `None` leaves them as they come.
    pub mode: Option<u32>,
}

/// A bound socket, made once by the main thread and accepted on by every worker.
#[derive(Debug)]
pub struct ListenSocket {
    fd: OwnedFd,
    local_address: Address,
    backlog: Backlog,
}

impl ListenSocket {
    /// Binds with SO_REUSEADDR; port 0 lets the kernel choose. The file of a pipe replaces what was there,
    /// most often what an earlier process left.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn bind(address: Address, options: &ListenOptions) -> io::Result<Self> {
        let fd = stream_socket(&address)?;
        match &address {
            Address::Ip(ip) => {
                setsockopt(&fd, sockopt::ReuseAddr, &true)?;
                if options.reuse_port {
                    setsockopt(&fd, sockopt::ReusePort, &true)?;
                }
                if ip.is_ipv6() {
                    setsockopt(&fd, sockopt::Ipv6V6Only, &!options.ipv4_compat)?;
                }
            }
            Address::Pipe(path) if !path.starts_with('@') => {
                // What keeps the file from going keeps the new one from coming, and bind says so.
                let _ = std::fs::remove_file(&**path);
            }
            Address::Pipe(_) => {}
        }
        address.with_sockaddr(|address| socket::bind(fd.as_raw_fd(), address))?;
        if let (Address::Pipe(path), Some(mode)) = (&address, options.mode) {
            std::fs::set_permissions(&**path, Permissions::from_mode(mode))?;
        }
        // Only a port that the kernel chose has to be asked for: a mapped address stays as it was given.
        let local_address = match address.ip() {
            Some(ip) if ip.port() == 0 => query_local_address(fd.as_fd())?,
            _ => address,
        };
        let backlog = options.backlog.and_then(|n| i32::try_from(n).ok()).and_then(|n| Backlog::new(n).ok());
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
    pub fn local_address(&self) -> &Address {
        &self.local_address
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that is connected or about to be, and what is known of its connection.
pub struct ConnectionSocket {
    socket: StreamSocket,
    info: Rc<ConnectionInfoProvider>,
}

impl ConnectionSocket {
    /// An accepted socket.
    pub fn accepted(fd: OwnedFd, local_address: Address, remote_address: Address) -> Self {
        ConnectionSocket::new(fd, Some(local_address), remote_address)
    }

    /// A fresh, unconnected client socket for `remote_address`.
    ///
    /// # Errors
    /// Those of `socket(2)`, out of fds among them.
    pub fn client(remote_address: Address) -> io::Result<Self> {
        Ok(ConnectionSocket::new(stream_socket(&remote_address)?, None, remote_address))
    }

    fn new(fd: OwnedFd, local_address: Option<Address>, remote_address: Address) -> Self {
        let info = ConnectionInfoProvider::new(local_address, remote_address);
        ConnectionSocket { socket: StreamSocket { fd, write_shut_down: Cell::new(false) }, info }
    }

    /// What is known of it and of its connection, to keep.
    pub fn connection_info(&self) -> &Rc<ConnectionInfoProvider> {
        &self.info
    }

    pub(super) fn into_parts(self) -> (StreamSocket, Rc<ConnectionInfoProvider>) {
        (self.socket, self.info)
    }
}

impl AsFd for ConnectionSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks the kernel for this end's address.
///
/// # Errors
/// Those of `getsockname(2)`.
pub(super) fn query_local_address(fd: BorrowedFd<'_>) -> io::Result<Address> {
    let storage: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let address = Address::from_storage(&storage);
    address.map(Address::unmapped).ok_or_else(|| io::Error::other("a socket of an unknown family"))
}

/// An option of a socket by its numbers (Envoy: `SocketOptionImpl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSocketOption {
    /// As `SOL_SOCKET`.
    pub level: i32,
    /// As `SO_KEEPALIVE`.
    pub name: i32,
    /// What it is set to.
    pub value: i32,
}

/// The socket alone. What is said of the peer of a pipe concerns TCP, and is left out for it.
pub(super) struct StreamSocket {
    fd: OwnedFd,
    write_shut_down: Cell<bool>,
}

impl StreamSocket {
    /// Starts connecting. `EINPROGRESS` is the ordinary error of a non-blocking socket.
    pub(super) fn connect(&self, remote: &Address) -> nix::Result<()> {
        remote.with_sockaddr(|address| socket::connect(self.fd.as_raw_fd(), address))
    }

    /// The same socket under another number.
    pub(super) fn again(&self) -> io::Result<StreamSocket> {
        Ok(StreamSocket { fd: self.fd.try_clone()?, write_shut_down: Cell::new(false) })
    }

    pub(super) fn bind(&self, source: &Address) -> nix::Result<()> {
        source.with_sockaddr(|address| socket::bind(self.fd.as_raw_fd(), address))
    }

    pub(super) fn set_option(&self, option: &ConnectionSocketOption) -> nix::Result<()> {
        let ConnectionSocketOption { level, name, value } = *option;
        set_socket_option(self.fd.as_fd(), level, name, &value.to_ne_bytes())
    }

    /// Tells the peer, once, that no more comes.
    pub(super) fn shut_down_write(&self) {
        if !self.write_shut_down.replace(true) {
            let _ = socket::shutdown(self.fd.as_raw_fd(), Shutdown::Write);
        }
    }

    /// Has closing it be a reset, also where there is nothing unread.
    pub(super) fn reset_when_closed(&self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&self.fd, sockopt::Linger, &at_once);
    }

    /// The pending SO_ERROR of the socket, 0 for none.
    pub(super) fn take_error(&self) -> i32 {
        socket::getsockopt(&self.fd, sockopt::SocketError).unwrap_or_else(|e| e as i32)
    }

    /// Has the kernel find out about dead peers; what is not given stays with the system's defaults.
    pub(super) fn set_keepalive(&self, remote: &Address, keepalive: &TcpKeepalive) -> nix::Result<()> {
        if remote.ip().is_none() {
            return Ok(());
        }
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
    pub(super) fn set_no_delay(&self, remote: &Address) {
        if remote.ip().is_some() {
            let _ = setsockopt(&self.fd, sockopt::TcpNoDelay, &true);
        }
    }
}

impl AsFd for StreamSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
