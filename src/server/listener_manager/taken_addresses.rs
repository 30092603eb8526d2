//! The names and addresses of the listeners of a configuration.

use std::collections::HashSet;

use crate::config;
use crate::envoy_log;
use crate::network::Address;

/// The names and addresses of listeners, of which no two may be equal.
#[derive(Default)]
pub struct TakenAddresses {
    names: HashSet<String>,
    addresses: HashSet<Address>,
}

impl TakenAddresses {
    /// Takes those of a listener; returns its name, which is made up where it has none.
    ///
    /// # Errors
    /// One of them is taken.
    pub fn add(
        &mut self,
        name: &str,
        address: &config::Address,
        bind_to_port: bool,
    ) -> Result<String, String> {
        let name = if name.is_empty() { uuid_name() } else { name.to_string() };
        if self.names.contains(&name) {
            return Err(format!("error adding listener: duplicate listener name '{name}'"));
        }
        let Some(address) = Address::configured(address) else { return Ok(name) };
        if self.addresses.contains(&address) && !is_chosen_by_the_kernel(&address, bind_to_port) {
            return Err(duplicate_address(&name, &address));
        }
        self.names.insert(name.clone());
        self.addresses.insert(address);
        Ok(name)
    }
}

/// Whether listeners that are given that address get one each.
pub(super) fn is_chosen_by_the_kernel(address: &Address, bind_to_port: bool) -> bool {
    bind_to_port && address.ip().is_some_and(|ip| ip.port() == 0)
}

/// What is wrong with a listener whose address another one has; in the log, too.
pub(super) fn duplicate_address(name: &str, address: &Address) -> String {
    let message = format!(
        "error adding listener: '{name}' has duplicate address '{address}' as existing listener, to check if the \
         listener has duplicated addresses with other listeners or 'enable_reuse_port' is set to 'false' for the \
         listener"
    );
    envoy_log!(Config, warn, "{}", message);
    message
}

/// A name for a listener that has none.
pub(super) fn uuid_name() -> String {
    let [high, low] = [fastrand::u64(..), fastrand::u64(..)];
    let (time, mid, variant) = (high >> 32, (high >> 16) & 0xffff, (low >> 48) & 0x3fff | 0x8000);
    format!("{time:08x}-{mid:04x}-4{:03x}-{variant:04x}-{:012x}", high & 0xfff, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address::{Pipe, SocketAddress};

    fn ip(address: &str, port: u16) -> config::Address {
        config::Address::SocketAddress(SocketAddress {
            address: address.into(),
            port_value: port,
            ipv4_compat: false,
        })
    }

    #[test]
    fn no_two_listeners_have_one_address() {
        let pipe = |path: &str| config::Address::Pipe(Pipe { path: path.into(), mode: 0 });
        let mut taken = TakenAddresses::default();
        for (name, address) in [
            ("a", ip("127.0.0.1", 80)),
            ("b", ip("127.0.0.1", 81)),
            ("c", ip("0.0.0.0", 80)),
            ("d", ip("::1", 80)),
            ("e", ip("127.0.0.1", 0)),
            ("f", ip("127.0.0.1", 0)),
            ("g", pipe("@a")),
            ("h", pipe("/a")),
        ] {
            assert_eq!(taken.add(name, &address, true), Ok(name.to_string()));
        }
        let rest = "as existing listener, to check if the listener has duplicated addresses with other \
                    listeners or 'enable_reuse_port' is set to 'false' for the listener";
        for (address, text) in [
            (ip("127.0.0.1", 80), "127.0.0.1:80"),
            (ip("0:0:0:0:0:0:0:1", 80), "[::1]:80"),
            (pipe("@a"), "@a"),
        ] {
            let expected = format!("error adding listener: 'z' has duplicate address '{text}' {rest}");
            assert_eq!(taken.add("z", &address, true), Err(expected));
        }
        let unbound = taken.add("z", &ip("127.0.0.1", 0), false);
        assert!(unbound.is_err_and(|error| error.contains("duplicate address")));
        let expected = "error adding listener: duplicate listener name 'a'";
        assert_eq!(taken.add("a", &ip("127.0.0.1", 82), true), Err(expected.to_string()));
    }

    #[test]
    fn names_that_are_made_up() {
        let mut taken = TakenAddresses::default();
        let names = [1, 2].map(|port| taken.add("", &ip("::1", port), true).unwrap());
        assert_ne!(names[0], names[1]);
        for name in names {
            let lengths: Vec<usize> = name.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{name}");
        }
    }
}
