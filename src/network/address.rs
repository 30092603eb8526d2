//! Network addresses. Mirrors Envoy's `source/common/network/address_impl.cc`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::SockaddrStorage;

/// An address of a socket. Its text form is Envoy's: `1.2.3.4:80`, `[::1]:80`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// An IPv4 or IPv6 address with a port.
    Ip(SocketAddr),
}

impl Address {
    /// The address as the standard library's type.
    pub fn ip(&self) -> Option<&SocketAddr> {
        match self {
            Address::Ip(ip) => Some(ip),
        }
    }

    /// The text of the address without its port.
    pub fn as_string_without_port(&self) -> String {
        match self {
            Address::Ip(ip) => ip.ip().to_string(),
        }
    }

    /// Whether the address stands for all addresses of the machine.
    pub fn is_any(&self) -> bool {
        match self {
            Address::Ip(ip) => ip.ip().is_unspecified(),
        }
    }

    /// Whether this is an address that Envoy calls internal (`Utility::isInternalAddress`): IPv4 10/8,
    /// 172.16/12, 192.168/16 and exactly 127.0.0.1; IPv6 with first byte 0xfd and ::1.
    pub fn is_internal(&self) -> bool {
        match self {
            Address::Ip(ip) => match ip.ip() {
                IpAddr::V4(v4) => v4.is_private() || v4.octets() == [127, 0, 0, 1],
                IpAddr::V6(v6) => v6.octets()[0] == 0xfd || v6.is_loopback(),
            },
        }
    }

    /// An address by which other machines know this one: that of the first interface which is not the
    /// loopback; the loopback address when there is none.
    pub fn local_machine(want_v6: bool) -> Address {
        let mut addresses = nix::ifaddrs::getifaddrs()
            .into_iter()
            .flatten()
            .filter_map(|interface| Address::from_storage(&interface.address?));
        let fits = |address: &Address| {
            let Address::Ip(ip) = address;
            ip.is_ipv6() == want_v6 && !ip.ip().is_loopback()
        };
        addresses.find(fits).unwrap_or_else(|| {
            let loopback =
                if want_v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
            Address::Ip((loopback, 0).into())
        })
    }

    pub(super) fn from_storage(storage: &SockaddrStorage) -> Option<Address> {
        if let Some(v4) = storage.as_sockaddr_in() {
            return Some(Address::Ip(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port())));
        }
        storage.as_sockaddr_in6().map(|v6| Address::Ip(SocketAddr::new(IpAddr::V6(v6.ip()), v6.port())))
    }

    pub(super) fn to_storage(self) -> SockaddrStorage {
        match self {
            Address::Ip(ip) => SockaddrStorage::from(ip),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(ip: SocketAddr) -> Self {
        Address::Ip(ip)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    #[test]
    fn text_forms() {
        assert_eq!(address("1.2.3.4:80").to_string(), "1.2.3.4:80");
        assert_eq!(address("[::1]:80").to_string(), "[::1]:80");
        assert_eq!(address("[::1]:80").as_string_without_port(), "::1");
    }

    #[test]
    fn internal_ranges() {
        for yes in ["10.0.0.1:1", "172.31.0.1:1", "192.168.1.1:1", "127.0.0.1:1", "[::1]:1", "[fd00::1]:1"] {
            assert!(address(yes).is_internal(), "{yes}");
        }
        for no in ["127.0.0.2:1", "172.32.0.1:1", "8.8.8.8:1", "[fe80::1]:1"] {
            assert!(!address(no).is_internal(), "{no}");
        }
    }

    #[test]
    fn storage_round_trip() {
        for text in ["1.2.3.4:80", "[2001:db8::1]:443"] {
            let a = address(text);
            assert_eq!(Address::from_storage(&a.to_storage()), Some(a));
        }
    }
}
