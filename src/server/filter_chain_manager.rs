//! Which filter chain a connection gets.
//!
//! Mirrors `FilterChainManagerImpl` of Envoy 1.40's `source/common/listener_manager/filter_chain_manager_impl.cc` (in 1.1 a part of
//! `ListenerImpl` in `source/server/listener_manager_impl.cc`). Envoy goes down through maps in maps, one for each thing that a
//! chain may be told by; what it finds in one is where it stays, even if that leads nowhere further down. Here all chains
//! are in one list, and each thing that they are told by leaves those of it that are meant most exactly, which is the same.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::config::ConfigError;
use crate::config::listener::{ConnectionSourceType, FilterChainMatch};
use crate::network::{Address, CidrRange, ConnectionInfoProvider};

/// What a chain is told by.
#[derive(Debug)]
struct ChainMatch {
    destination_port: Option<u16>,
    destination_ips: Vec<CidrRange>,
    /// In lower case; one that stands for all below it begins with a point.
    server_names: Vec<String>,
    transport_protocol: String,
    application_protocols: Vec<Vec<u8>>,
    direct_source_ips: Vec<CidrRange>,
    source_type: ConnectionSourceType,
    source_ips: Vec<CidrRange>,
    source_ports: Vec<u16>,
}

/// The chains of a listener; the first numbers are those of the configuration, behind them is the default one.
#[derive(Debug)]
pub struct FilterChainManager {
    /// Nothing where there is one chain that takes all.
    matches: Vec<ChainMatch>,
    default: Option<usize>,
}

impl FilterChainManager {
    /// Of chains with these matches, in their order.
    ///
    /// # Errors
    /// Two are for the same connections, or one cannot be understood; with its path in the listener.
    pub fn new(chains: &[(&str, Option<&FilterChainMatch>)], has_default: bool) -> Result<Self, ConfigError> {
        let nothing = FilterChainMatch::default();
        let matches: Vec<&FilterChainMatch> =
            chains.iter().map(|(_, chain_match)| chain_match.unwrap_or(&nothing)).collect();
        let default = has_default.then_some(chains.len());
        if let [only] = matches[..]
            && *only == nothing
        {
            return Ok(FilterChainManager { matches: Vec::new(), default: Some(0) });
        }
        let mut seen = HashSet::new();
        let mut parsed = Vec::with_capacity(matches.len());
        for (i, chain_match) in matches.iter().enumerate() {
            let place = format!("filter_chains[{i}].filter_chain_match");
            if let Some(same) = matches[..i].iter().position(|other| other == chain_match) {
                let message = format!(
                    "filter chain '{}' has the same matching rules defined as '{}'",
                    chains[i].0, chains[same].0
                );
                return Err(ConfigError::new(place, message));
            }
            let chain = parse(chain_match).map_err(|error| error.within(&place))?;
            if !chain.keys().all(|key| seen.insert(key)) {
                let message = "multiple filter chains with overlapping matching rules are defined";
                return Err(ConfigError::new(place, message));
            }
            parsed.push(chain);
        }
        Ok(FilterChainManager { matches: parsed, default })
    }

    /// The number of the chain for a connection; `None` for none.
    pub fn find(&self, info: &ConnectionInfoProvider) -> Option<usize> {
        if self.matches.is_empty() {
            return self.default;
        }
        let local = info.local_address();
        let remote = info.remote_address();
        let is_local = is_same_ip_or_loopback(&remote, local.as_ref());
        let transport_protocol = match info.detected_transport_protocol() {
            "" => "raw_buffer",
            detected => detected,
        };
        let (local_ip, remote_ip) = (local.as_ref().and_then(Address::ip), remote.ip());
        let steps: [Step<'_>; 9] = [
            &|chain| exactly_or_any(chain.destination_port.as_slice(), local_ip.map(|ip| ip.port())),
            &|chain| longest_prefix(&chain.destination_ips, local_ip.map(|ip| ip.ip())),
            &|chain| longest_name(&chain.server_names, info.requested_server_name()),
            &|chain| match &*chain.transport_protocol {
                "" => Some(0),
                protocol => (protocol == transport_protocol).then_some(1),
            },
            &|chain| first_protocol(&chain.application_protocols, info.requested_application_protocols()),
            &|chain| {
                longest_prefix(&chain.direct_source_ips, info.direct_remote_address().ip().map(|ip| ip.ip()))
            },
            &|chain| match chain.source_type {
                ConnectionSourceType::Any => Some(0),
                ConnectionSourceType::SameIpOrLoopback => is_local.then_some(1),
                ConnectionSourceType::External => (!is_local).then_some(1),
            },
            &|chain| longest_prefix(&chain.source_ips, remote_ip.map(|ip| ip.ip())),
            &|chain| exactly_or_any(&chain.source_ports, remote_ip.map(|ip| ip.port())),
        ];
        let mut left: Vec<usize> = (0..self.matches.len()).collect();
        for step in steps {
            let best = left.iter().filter_map(|chain| step(&self.matches[*chain])).max();
            let Some(best) = best else { return self.default };
            left.retain(|chain| step(&self.matches[*chain]) == Some(best));
        }
        left.first().copied().or(self.default)
    }
}

/// How exactly a number is meant: 1 where it is named, 0 where none is.
fn exactly_or_any(ports: &[u16], port: Option<u16>) -> Option<usize> {
    match ports {
        [] => Some(0),
        ports => port.filter(|port| ports.contains(port)).map(|_| 1),
    }
}

/// How long the longest range is that an address is in. None of them is all of them.
fn longest_prefix(ranges: &[CidrRange], ip: Option<IpAddr>) -> Option<usize> {
    if ranges.is_empty() {
        return Some(0);
    }
    let ip = ip?;
    ranges.iter().filter(|range| range.is_in_range(ip)).map(|range| range.prefix_len() as usize).max()
}

fn longest_name(names: &[String], name: &str) -> Option<usize> {
    if names.is_empty() {
        return Some(0);
    }
    let exactness = |known: &String| match known.strip_prefix('.') {
        // One part at least has to stand in front.
        Some(_) => (name.len() > known.len() && name.ends_with(&**known)).then_some(known.len()),
        None => (known == name).then_some(usize::MAX),
    };
    names.iter().filter_map(exactness).max()
}

/// The client's order counts.
fn first_protocol(protocols: &[Vec<u8>], requested: &[Vec<u8>]) -> Option<usize> {
    if protocols.is_empty() {
        return Some(0);
    }
    let place = requested.iter().position(|protocol| protocols.contains(protocol));
    place.map(|place| requested.len() - place)
}

fn is_same_ip_or_loopback(remote: &Address, local: Option<&Address>) -> bool {
    let Some(ip) = remote.ip() else { return true };
    ip.ip().is_loopback() || local.and_then(Address::ip).is_some_and(|local| local.ip() == ip.ip())
}

/// How exactly a chain is meant by one thing; `None` if it is not.
type Step<'a> = &'a dyn Fn(&ChainMatch) -> Option<usize>;

type Key =
    (Option<u16>, Option<CidrRange>, String, String, Vec<u8>, Option<CidrRange>, u8, Option<CidrRange>, u16);

impl ChainMatch {
    /// Each single thing that the chain is for. A range of all addresses is as none.
    fn keys(&self) -> impl Iterator<Item = Key> {
        fn or_none<T: Clone, U>(list: &[T], none: U, of: impl Fn(&T) -> U) -> Vec<U> {
            if list.is_empty() { vec![none] } else { list.iter().map(of).collect() }
        }
        let ranges = |list: &[CidrRange]| {
            or_none(list, None, |range| Some(*range).filter(|range| range.prefix_len() > 0))
        };
        let mut keys = Vec::new();
        for destination in ranges(&self.destination_ips) {
            for name in or_none(&self.server_names, String::new(), Clone::clone) {
                for protocol in or_none(&self.application_protocols, Vec::new(), Clone::clone) {
                    for direct in ranges(&self.direct_source_ips) {
                        for source in ranges(&self.source_ips) {
                            for port in or_none(&self.source_ports, 0, |port| *port) {
                                let transport = self.transport_protocol.clone();
                                let source_type = self.source_type as u8;
                                let (name, protocol) = (name.clone(), protocol.clone());
                                keys.push((
                                    self.destination_port,
                                    destination,
                                    name,
                                    transport,
                                    protocol,
                                    direct,
                                    source_type,
                                    source,
                                    port,
                                ));
                            }
                        }
                    }
                }
            }
        }
        keys.into_iter()
    }
}

fn parse(config: &FilterChainMatch) -> Result<ChainMatch, ConfigError> {
    let ranges = |list: &[crate::config::address::CidrRange]| -> Vec<CidrRange> {
        list.iter().filter_map(CidrRange::configured).collect()
    };
    let server_names = config.server_names.iter().filter(|name| !name.is_empty()).enumerate();
    let server_names = server_names.map(|(i, name)| {
        let name = name.to_ascii_lowercase();
        let rest = name.strip_prefix("*.").unwrap_or(&name);
        if rest.contains('*') {
            let message = "partial wildcards are not supported in \"server_names\"";
            return Err(ConfigError::new(format!("server_names[{i}]"), message));
        }
        Ok(if rest.len() < name.len() { format!(".{rest}") } else { name })
    });
    Ok(ChainMatch {
        destination_port: config.destination_port,
        destination_ips: ranges(&config.prefix_ranges),
        server_names: server_names.collect::<Result<_, _>>()?,
        transport_protocol: config.transport_protocol.clone(),
        application_protocols: config.application_protocols.iter().map(|p| p.clone().into_bytes()).collect(),
        direct_source_ips: ranges(&config.direct_source_prefix_ranges),
        source_type: config.source_type,
        source_ips: ranges(&config.source_prefix_ranges),
        source_ports: config.source_ports.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address;

    fn info(local: &str, remote: &str) -> std::rc::Rc<ConnectionInfoProvider> {
        let address = |text: &str| Address::Ip(text.parse().unwrap());
        ConnectionInfoProvider::new(Some(address(local)), address(remote))
    }

    fn range(text: &str) -> address::CidrRange {
        let (address_prefix, length) = text.split_once('/').unwrap();
        address::CidrRange { address_prefix: address_prefix.into(), prefix_len: length.parse().unwrap() }
    }

    fn manager(matches: &[FilterChainMatch]) -> FilterChainManager {
        let chains: Vec<_> = matches.iter().map(|chain_match| ("", Some(chain_match))).collect();
        FilterChainManager::new(&chains, false).unwrap()
    }

    fn named(names: &[&str]) -> FilterChainMatch {
        let server_names = names.iter().map(|name| (*name).to_string()).collect();
        FilterChainMatch { server_names, ..FilterChainMatch::default() }
    }

    #[test]
    fn one_chain_takes_all() {
        let manager = FilterChainManager::new(&[("", None)], false).unwrap();
        assert_eq!(manager.find(&info("1.1.1.1:1", "2.2.2.2:2")), Some(0));
    }

    #[test]
    fn the_longest_name_wins() {
        let all = FilterChainMatch::default();
        let manager = manager(&[all, named(&["*.test"]), named(&["*.b.test"]), named(&["a.b.test"])]);
        for (name, chain) in [
            ("", 0),
            ("x", 0),
            ("test", 0),
            ("a.test", 1),
            ("b.test", 1),
            ("c.b.test", 2),
            ("a.b.test", 3),
            ("x.a.b.test", 2),
        ] {
            let info = info("1.1.1.1:1", "2.2.2.2:2");
            info.set_requested_server_name(name);
            assert_eq!(manager.find(&info), Some(chain), "{name}");
        }
    }

    #[test]
    fn what_was_found_is_not_left_again() {
        let port = FilterChainMatch {
            destination_port: Some(80),
            transport_protocol: "tls".into(),
            ..Default::default()
        };
        let manager = manager(&[port, FilterChainMatch::default()]);
        assert_eq!(manager.find(&info("1.1.1.1:80", "2.2.2.2:2")), None);
        assert_eq!(manager.find(&info("1.1.1.1:81", "2.2.2.2:2")), Some(1));
    }

    #[test]
    fn ranges_sources_and_protocols() {
        let of = |prefix: &str, source: &str| FilterChainMatch {
            prefix_ranges: vec![range(prefix)],
            source_prefix_ranges: vec![range(source)],
            ..Default::default()
        };
        let manager_of_ranges = manager(&[
            of("10.0.0.0/8", "0.0.0.0/0"),
            of("10.1.0.0/16", "9.0.0.0/8"),
            of("10.1.0.0/16", "9.9.0.0/16"),
        ]);
        for (local, remote, chain) in [
            ("10.2.0.1:1", "1.1.1.1:1", Some(0)),
            ("10.1.0.1:1", "1.1.1.1:1", None),
            ("10.1.0.1:1", "9.1.1.1:1", Some(1)),
            ("10.1.0.1:1", "9.9.1.1:1", Some(2)),
            ("11.1.0.1:1", "9.9.1.1:1", None),
        ] {
            assert_eq!(manager_of_ranges.find(&info(local, remote)), chain, "{local} {remote}");
        }
        let of_type = |source_type| FilterChainMatch { source_type, ..Default::default() };
        let by_type = manager(&[
            of_type(ConnectionSourceType::External),
            of_type(ConnectionSourceType::SameIpOrLoopback),
        ]);
        assert_eq!(by_type.find(&info("1.1.1.1:1", "2.2.2.2:2")), Some(0));
        assert_eq!(by_type.find(&info("1.1.1.1:1", "1.1.1.1:2")), Some(1));
        assert_eq!(by_type.find(&info("1.1.1.1:1", "127.0.0.5:2")), Some(1));
        let alpn = |protocol: &str| FilterChainMatch {
            application_protocols: vec![protocol.into()],
            ..Default::default()
        };
        let by_alpn = manager(&[alpn("h2"), alpn("http/1.1"), FilterChainMatch::default()]);
        let info = info("1.1.1.1:1", "2.2.2.2:2");
        assert_eq!(by_alpn.find(&info), Some(2));
        info.set_requested_application_protocols(vec![b"x".to_vec(), b"http/1.1".to_vec(), b"h2".to_vec()]);
        assert_eq!(by_alpn.find(&info), Some(1));
    }

    #[test]
    fn two_for_the_same_are_refused() {
        let refused = |matches: &[FilterChainMatch]| {
            let chains: Vec<_> = matches.iter().map(|chain_match| ("a", Some(chain_match))).collect();
            FilterChainManager::new(&chains, false).unwrap_err().to_string()
        };
        let same = "filter_chains[1].filter_chain_match: filter chain 'a' has the same matching rules defined as 'a'";
        assert_eq!(refused(&[named(&["a"]), named(&["a"])]), same);
        let overlapping = "multiple filter chains with overlapping matching rules are defined";
        assert!(refused(&[named(&["a", "b"]), named(&["B"])]).ends_with(overlapping));
        assert!(refused(&[named(&["*.a"]), named(&[".a"])]).ends_with(overlapping));
        assert!(refused(&[named(&["*a"])]).contains("partial wildcards are not supported"));
    }
}
