//! `envoy.config.core.v3`: socket addresses, pipes and CIDR ranges.

use super::reader::MessageReader;
use crate::{message, one_of};
use nix::net::if_::if_nametoindex;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

message! {
    /// A TCP address: an IP literal and a port. Names are not resolved here.
    #[derive(Eq)]
    pub message SocketAddress = "envoy.config.core.v3.SocketAddress", checked by check_socket_address {
        /// IPv4 or IPv6 literal, checked when read.
        pub address: String,
        /// 0 lets the kernel choose.
        pub port_value: u16,
        /// Whether an IPv6 socket also takes IPv4 (only `::` and mapped addresses).
        pub ipv4_compat: bool,
    }
}

impl SocketAddress {
    /// The address as the standard library has it; `None` only for a struct that
    /// was filled in by hand with something that is no IP literal.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        parse_internet_address(&self.address, self.port_value)
    }
}

fn check_socket_address(r: &mut MessageReader<'_>, socket: &SocketAddress) {
    if socket.to_socket_addr().is_none() && !socket.address.is_empty() {
        r.refuse("address", malformed(&socket.address));
    }
    check_ipv4_compat(r, socket);
}

pub(super) fn check_ipv4_compat(r: &mut MessageReader<'_>, socket: &SocketAddress) {
    let ip = socket.to_socket_addr();
    if let Some(ip) = ip.filter(|ip| socket.ipv4_compat && !allows_ipv4_compat(ip.ip())) {
        let message =
            format!("Only IPv6 address '::' or valid IPv4-mapped IPv6 address can set ipv4_compat: {ip}");
        r.refuse("ipv4_compat", message);
    }
}

fn allows_ipv4_compat(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip == Ipv6Addr::UNSPECIFIED || ip.to_ipv4_mapped().is_some(),
    }
}

/// An IP literal with a port; an IPv6 literal may name its interface behind a `%`, as `getaddrinfo` has it:
/// by its name where the address is link-local, by its number everywhere.
pub fn parse_internet_address(text: &str, port: u16) -> Option<SocketAddr> {
    let Some((ip, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, port));
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    let link_local = ip.is_unicast_link_local() || (ip.segments()[0] & 0xff0f) == 0xff02;
    let index = link_local.then(|| if_nametoindex(zone).ok()).flatten();
    let number = || zone.bytes().all(|b| b.is_ascii_digit()).then(|| zone.parse().ok()).flatten();
    Some(SocketAddrV6::new(ip, port, 0, index.or_else(number)?).into())
}

fn malformed(text: &str) -> String {
    format!("malformed IP address: {text}")
}

/// How long `sockaddr_un` lets a path be, with the byte that ends it.
const MAX_PIPE_PATH: usize = 108;

message! {
    /// A Unix domain socket.
    #[derive(Eq)]
    pub message Pipe = "envoy.config.core.v3.Pipe", checked by check_pipe {
        /// The path of its file, or `@` and its name in the abstract namespace.
        pub path: String,
        /// The permissions of the file; 0 leaves them as they come.
        pub mode: u32,
    }
}

fn check_pipe(r: &mut MessageReader<'_>, Pipe { path, mode }: &Pipe) {
    if path.len() >= MAX_PIPE_PATH {
        let message =
            format!("Path \"{path}\" exceeds maximum UNIX domain socket path size of {MAX_PIPE_PATH}.");
        r.refuse("path", message);
    }
    let is_abstract = path.starts_with('@');
    if is_abstract && *mode != 0 {
        r.refuse("mode", "Cannot set mode for Abstract AF_UNIX sockets");
    }
    if !is_abstract && path.contains('\0') {
        r.refuse("path", "UNIX domain socket pathname contains embedded null characters");
    }
}

one_of! {
    /// One of several kinds.
    #[derive(Eq)]
    pub enum Address = "envoy.config.core.v3.Address" {
        /// TCP.
        SocketAddress(SocketAddress) = "socket_address",
        /// A Unix domain socket.
        Pipe(Pipe) = "pipe",
    }
}

impl Address {
    /// Whether a listener on this address also takes IPv4 where it is one of IPv6.
    pub fn ipv4_compat(&self) -> bool {
        matches!(self, Address::SocketAddress(socket) if socket.ipv4_compat)
    }

    /// The permissions of a pipe's file, where they are given.
    pub fn mode(&self) -> Option<u32> {
        match self {
            Address::Pipe(Pipe { mode, .. }) if *mode != 0 => Some(*mode),
            _ => None,
        }
    }
}

message! {
    /// A network: IP literal and the number of leading bits that count.
    #[derive(Eq)]
    pub message CidrRange = "envoy.config.core.v3.CidrRange" or "xds.core.v3.CidrRange", checked by check_cidr_range {
        /// IPv4 or IPv6 literal, checked when read.
        pub address_prefix: String,
        /// 0..=128; more than the address has bits means all of them.
        pub prefix_len: u32,
    }
}

fn check_cidr_range(r: &mut MessageReader<'_>, range: &CidrRange) {
    let prefix = &range.address_prefix;
    if !prefix.is_empty() && prefix.parse::<IpAddr>().is_err() {
        r.refuse("address_prefix", malformed(prefix));
    }
}
