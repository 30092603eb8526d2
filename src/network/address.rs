//! Network addresses. Mirrors Envoy's `source/common/network/address_impl.cc`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use nix::sys::socket::{SockaddrLike, SockaddrStorage, UnixAddr};

use crate::config;

/// An address of a socket. Its text form is Envoy's: `1.2.3.4:80`, `[::1]:80`, `/run/a.sock`, `@name`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// An IPv4 or IPv6 address with a port.
    Ip(SocketAddr),
    /// A Unix domain socket: the path of its file, or `@` and its name in the abstract namespace.
    Pipe(Arc<str>),
}

impl Address {
    /// The address that a configuration asks for; `None` only for one that was filled in by hand with
    /// something that is no IP literal.
    pub fn configured(config: &config::Address) -> Option<Address> {
        match config {
            config::Address::SocketAddress(socket) => socket.to_socket_addr().map(Address::Ip),
            config::Address::Pipe(pipe) => Some(Address::Pipe(pipe.path.as_str().into())),
        }
    }

    /// The address as the standard library's type, unless it is a pipe.
    pub fn ip(&self) -> Option<&SocketAddr> {
        match self {
            Address::Ip(ip) => Some(ip),
            Address::Pipe(_) => None,
        }
    }

    /// The text of the address without its port; a pipe has none.
    pub fn as_string_without_port(&self) -> String {
        match self {
            Address::Ip(ip) => ip_text(ip),
            Address::Pipe(_) => self.to_string(),
        }
    }

    /// Whether the address stands for all addresses of the machine.
    pub fn is_any(&self) -> bool {
        self.ip().is_some_and(|ip| ip.ip().is_unspecified())
    }

    /// Whether this is an address that Envoy calls internal (`Utility::isInternalAddress`): IPv4 10/8,
    /// 172.16/12, 192.168/16 and exactly 127.0.0.1; IPv6 with first byte 0xfd and ::1.
    pub fn is_internal(&self) -> bool {
        self.ip().is_some_and(|ip| match ip.ip() {
            IpAddr::V4(v4) => v4.is_private() || v4.octets() == [127, 0, 0, 1],
            IpAddr::V6(v6) => v6.octets()[0] == 0xfd || v6.is_loopback(),
        })
    }

    /// An address by which other machines know this one: that of the first interface which is not the
    /// loopback; the loopback address when there is none.
    pub fn local_machine(want_v6: bool) -> Address {
        let mut addresses = nix::ifaddrs::getifaddrs()
            .into_iter()
            .flatten()
            .filter_map(|interface| Address::from_storage(&interface.address?));
        let fits = |address: &Address| {
            address.ip().is_some_and(|ip| ip.is_ipv6() == want_v6 && !ip.ip().is_loopback())
        };
        addresses.find(fits).unwrap_or_else(|| {
            let loopback =
                if want_v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
            Address::Ip((loopback, 0).into())
        })
    }

    /// An IPv4 address that the kernel shows as a mapped one, as it does for a socket that takes both kinds.
    pub(super) fn unmapped(self) -> Address {
        match self {
            Address::Ip(SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => Address::Ip((v4, v6.port()).into()),
                None => self,
            },
            _ => self,
        }
    }

    /// `None` for what has no address: a Unix domain socket without a name, or a family that is not known.
    pub(super) fn from_storage(storage: &SockaddrStorage) -> Option<Address> {
        if let Some(v4) = storage.as_sockaddr_in() {
            return Some(Address::Ip((v4.ip(), v4.port()).into()));
        }
        if let Some(v6) = storage.as_sockaddr_in6() {
            return Some(Address::Ip(SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into()));
        }
        let unix = storage.as_unix_addr()?;
        let text = match (unix.path(), unix.as_abstract()) {
            (Some(path), _) => path.to_string_lossy().into_owned(),
            (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
            (None, None) => return None,
        };
        Some(Address::Pipe(text.into()))
    }

    /// Calls `call` with the address as system calls want it.
    ///
    /// # Errors
    /// That of `call`; a path with a NUL in it, or one that is too long: neither passes the configuration.
    pub(super) fn with_sockaddr<T>(
        &self,
        call: impl FnOnce(&dyn SockaddrLike) -> nix::Result<T>,
    ) -> nix::Result<T> {
        match self {
            Address::Ip(ip) => call(&SockaddrStorage::from(*ip)),
            Address::Pipe(path) => match path.strip_prefix('@') {
                Some(name) => call(&UnixAddr::new_abstract(name.as_bytes())?),
                None => call(&UnixAddr::new(&**path)?),
            },
        }
    }
}

/// The text of an IP address as `inet_ntop` gives it, with the number of its interface where it has one.
fn ip_text(ip: &SocketAddr) -> String {
    let SocketAddr::V6(v6) = ip else { return ip.ip().to_string() };
    let mut text = match v6.ip().segments() {
        // The standard library writes these in hexadecimal.
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            format!("::{}", Ipv4Addr::from_bits(v6_low_bits(v6.ip())))
        }
        _ => v6.ip().to_string(),
    };
    if v6.scope_id() != 0 {
        text += &format!("%{}", v6.scope_id());
    }
    text
}

fn v6_low_bits(ip: &Ipv6Addr) -> u32 {
    ip.to_bits() as u32
}

impl From<SocketAddr> for Address {
    fn from(ip: SocketAddr) -> Self {
        Address::Ip(ip)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(SocketAddr::V4(v4)) => v4.fmt(f),
            Address::Ip(ip) => write!(f, "[{}]:{}", ip_text(ip), ip.port()),
            Address::Pipe(path) => {
                let shown =
                    if path.contains('\0') { path.replace('\0', "@").into() } else { Cow::from(&**path) };
                f.write_str(&shown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, getsockname, socket};
    use std::os::fd::AsRawFd;

    fn address(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    fn pipe(text: &str) -> Address {
        Address::Pipe(text.into())
    }

    #[test]
    fn text_forms() {
        for text in
            ["1.2.3.4:80", "[::1]:80", "[fe80::1%3]:80", "[::ffff:1.2.3.4]:5", "[::]:0", "[1::2:0:0:3]:1"]
        {
            assert_eq!(address(text).to_string(), text);
        }
        assert_eq!(address("[::102:304]:80").to_string(), "[::1.2.3.4]:80");
        assert_eq!(address("[::1:0]:80").to_string(), "[::0.1.0.0]:80");
        assert_eq!(address("[::1]:80").as_string_without_port(), "::1");
        assert_eq!(address("[fe80::1%3]:80").as_string_without_port(), "fe80::1%3");
        for text in ["/run/a.sock", "@name", "@"] {
            assert_eq!(
                (pipe(text).to_string(), pipe(text).as_string_without_port()),
                (text.into(), text.into())
            );
        }
        assert_eq!(pipe("@a\0b").to_string(), "@a@b");
    }

    #[test]
    fn internal_ranges() {
        for yes in ["10.0.0.1:1", "172.31.0.1:1", "192.168.1.1:1", "127.0.0.1:1", "[::1]:1", "[fd00::1]:1"] {
            assert!(address(yes).is_internal(), "{yes}");
        }
        for no in ["127.0.0.2:1", "172.32.0.1:1", "8.8.8.8:1", "[fe80::1]:1"] {
            assert!(!address(no).is_internal(), "{no}");
        }
        assert!(!pipe("@name").is_internal());
    }

    #[test]
    fn storage_round_trip() {
        for text in ["1.2.3.4:80", "[2001:db8::1]:443", "[fe80::1%3]:80"] {
            let a = address(text);
            assert_eq!(Address::from_storage(&SockaddrStorage::from(*a.ip().unwrap())), Some(a));
        }
    }

    #[test]
    fn pipes_as_the_kernel_has_them() {
        let directory = std::env::temp_dir();
        let file = format!("{}/legate-address-{}", directory.display(), std::process::id());
        let name = format!("@legate-address-{}", std::process::id());
        for text in [file.clone(), name.clone(), format!("{name}\0b")] {
            let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            let unbound: SockaddrStorage = getsockname(fd.as_raw_fd()).unwrap();
            assert_eq!(Address::from_storage(&unbound), None);
            pipe(&text).with_sockaddr(|address| bind(fd.as_raw_fd(), address)).unwrap();
            let bound: SockaddrStorage = getsockname(fd.as_raw_fd()).unwrap();
            assert_eq!(Address::from_storage(&bound), Some(pipe(&text)));
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_no_socket_can_have() {
        let fits = |text: &str| pipe(text).with_sockaddr(|_| Ok(())).is_ok();
        assert!(fits(&"/".repeat(107)) && fits("@"));
        assert!(!fits(&"/".repeat(108)) && !fits(&format!("@{}", "a".repeat(108))) && !fits("/a\0b"));
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        assert_eq!(address("[::ffff:1.2.3.4]:80").unmapped(), address("1.2.3.4:80"));
        for same in ["[::1.2.3.4]:80", "1.2.3.4:80", "[::1]:80"] {
            assert_eq!(address(same).unmapped(), address(same));
        }
    }
}
