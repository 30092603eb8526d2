//! Where connections to the hosts of a cluster come from.
//!
//! Stands where Envoy 1.40 has `DefaultUpstreamLocalAddressSelector`; in 1.1 there is one address.

use crate::config::address::SocketAddress;
use crate::config::bind::{BindConfig, SocketOption, SocketState};
use crate::network::{Address, ConnectionSocketOption};

/// `IP_FREEBIND`, which is its number at the levels of both versions.
const FREEBIND: [ConnectionSocketOption; 2] = [
    ConnectionSocketOption { level: libc::SOL_IP, name: libc::IP_FREEBIND, value: 1 },
    ConnectionSocketOption { level: libc::SOL_IPV6, name: libc::IPV6_FREEBIND, value: 1 },
];

/// An address to come from, and what is set at the socket before.
pub struct UpstreamLocalAddress {
    /// `None` is the kernel's choice.
    pub address: Option<Address>,
    v4_options: Vec<ConnectionSocketOption>,
    v6_options: Vec<ConnectionSocketOption>,
}

impl UpstreamLocalAddress {
    fn new(address: Option<&SocketAddress>, options: &[SocketOption], freebind: bool) -> Self {
        let options = |freebind_option: ConnectionSocketOption| {
            let at_once = options.iter().filter(|option| option.state == SocketState::Prebind);
            let given = at_once.map(|option| ConnectionSocketOption {
                level: option.level,
                name: option.name,
                value: option.value,
            });
            freebind.then_some(freebind_option).into_iter().chain(given).collect()
        };
        UpstreamLocalAddress {
            address: address.and_then(SocketAddress::to_socket_addr).map(Address::from),
            v4_options: options(FREEBIND[0]),
            v6_options: options(FREEBIND[1]),
        }
    }

    /// Of a connection to that address.
    pub fn socket_options(&self, remote: &Address) -> &[ConnectionSocketOption] {
        match remote.ip() {
            Some(ip) if ip.is_ipv6() => &self.v6_options,
            Some(_) => &self.v4_options,
            None => &[],
        }
    }
}

/// What a configuration says, the default first; nothing where it says nothing.
pub(super) fn local_addresses(config: Option<&BindConfig>) -> Box<[UpstreamLocalAddress]> {
    let Some(config) = config.filter(|config| **config != BindConfig::default()) else {
        return Box::default();
    };
    let of = |address, options| UpstreamLocalAddress::new(address, options, config.freebind);
    let first = of(config.source_address.as_ref(), &config.socket_options);
    let extra = config.extra().map(|(address, options)| of(Some(address), options));
    std::iter::once(first).chain(extra).collect()
}

/// The one for connections to `remote`: that of its version of IP, or else the first.
pub(super) fn choose<'a>(
    addresses: &'a [UpstreamLocalAddress],
    remote: &Address,
) -> Option<&'a UpstreamLocalAddress> {
    let version = |address: &Address| address.ip().map(|ip| ip.is_ipv4());
    let is_same =
        |local: &&UpstreamLocalAddress| local.address.as_ref().is_some_and(|a| version(a) == version(remote));
    addresses.iter().find(is_same).or_else(|| addresses.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::test_support::cluster_config;
    use serde_json::json;

    #[test]
    fn the_address_of_the_same_version_is_chosen() {
        let config = cluster_config(json!({ "name": "a", "upstream_bind_config": {
            "source_address": { "address": "127.0.0.9", "port_value": 0 }, "freebind": true,
            "socket_options": [
                { "level": 1, "name": 2, "int_value": 3 },
                { "level": 4, "name": 5, "int_value": 6, "state": "STATE_BOUND", "description": "x" },
            ],
            "extra_source_addresses": [{ "address": { "address": "::1", "port_value": 7 }, "socket_options": {} }],
        } }));
        let all = local_addresses(config.upstream_bind_config.as_deref());
        let chosen = |remote: &str| {
            let remote: std::net::SocketAddr = remote.parse().unwrap();
            let remote = Address::Ip(remote);
            let local = choose(&all, &remote).unwrap();
            let options = local.socket_options(&remote).iter().map(|o| (o.level, o.name, o.value));
            (local.address.as_ref().unwrap().to_string(), options.collect::<Vec<_>>())
        };
        assert_eq!(chosen("1.1.1.1:1"), ("127.0.0.9:0".to_string(), vec![(0, 15, 1), (1, 2, 3)]));
        assert_eq!(chosen("[::2]:1"), ("[::1]:7".to_string(), vec![(41, 78, 1)]));
        assert!(local_addresses(Some(&BindConfig::default())).is_empty());
        let pipe = Address::Pipe("/p".into());
        assert!(choose(&all, &pipe).unwrap().socket_options(&pipe).is_empty());
    }

    #[test]
    fn what_does_not_go_together() {
        let address = |text: &str| json!({ "address": text, "port_value": 0 });
        let read = |bind: serde_json::Value| {
            let raw = json!({ "static_resources": { "clusters": [{ "name": "c", "upstream_bind_config": bind }] } });
            let extensions = &crate::upstream::test_support::OfThisFloor;
            let read =
                crate::config::parse_bootstrap(raw, crate::config::UnknownFields::default(), extensions);
            read.map(drop).map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        let v4 = address("127.0.0.9");
        let extra = |text: &str| json!([{ "address": address(text) }]);
        let cases = [
            (json!({ "source_address": address("localhost") }), "malformed IP address: localhost"),
            (
                json!({ "socket_options": [{ "level": 1_u64 << 32, "name": 2, "int_value": 3 }] }),
                "4294967296 is no number that a socket option has",
            ),
            (json!({ "extra_source_addresses": extra("::1") }), "but no source_address"),
            (
                json!({ "source_address": v4, "extra_source_addresses": extra("127.0.0.8") }),
                "two same IP version",
            ),
            (
                json!({ "source_address": v4, "additional_source_addresses": [address("::1"), address("::2")] }),
                "more than one extra/additional",
            ),
            (
                json!({ "source_address": v4, "extra_source_addresses": extra("::1"),
                        "additional_source_addresses": [address("::1")] }),
                "Can't specify both",
            ),
        ];
        for (bind, said) in cases {
            let error = read(bind.clone());
            assert!(error.contains(said), "{bind}: {error}");
        }
        assert_eq!(
            read(json!({ "source_address": v4, "additional_source_addresses": [address("::1")] })),
            ""
        );
    }
}
