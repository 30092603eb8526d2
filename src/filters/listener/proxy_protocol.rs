//! The PROXY protocol: whom a proxy in front says a connection is for.
//!
//! Mirrors Envoy's `source/extensions/filters/listener/proxy_protocol/proxy_protocol.cc`, with what 1.40 lets be said of versions and of
//! connections without a header. What more a header of version 2 says (TLVs) is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::peeking::{Decide, Decision, Peeking};
use super::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
use crate::common::Local;
use crate::config::ConfigError;
use crate::config::reader::EnumTable;
use crate::config::reader::{FromMessage, MessageReader};
use crate::envoy_log;
use crate::filters::FactoryContext;
use crate::network::{Address, ConnectionSocket, ListenerFilterFactory, ListenerFilterFactoryCb};
use crate::stats::{Counter, Scope};
use crate::{message, stats_struct};

/// The PROXY protocol among the extensions.
pub static FACTORY: NamedListenerFilterConfigFactory = NamedListenerFilterConfigFactory::new(
    "envoy.filters.listener.proxy_protocol",
    &["envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"],
    |r| Ok(Arc::new(ProxyProtocol::read(r)?)),
);

message! {
    /// What is taken.
    #[derive(Eq)]
    pub struct ProxyProtocol = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" {
        /// Whether a connection that begins with something else goes on.
        pub allow_requests_without_proxy_protocol: bool,
        /// Versions that are turned away.
        pub disallowed_versions: Vec<Version> => read_versions,
        /// Part of the names of statistics.
        pub stat_prefix: String,
    }
}

/// A version of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line.
    V1,
    /// Bytes.
    V2,
}

const VERSIONS: &EnumTable<Version> = &[("V1", Version::V1), ("V2", Version::V2)];

fn read_versions(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<Version>, ConfigError> {
    r.enumerations(name, VERSIONS)
}

stats_struct! {
    /// In no scope of the listener, as in Envoy.
    pub struct LegacyStats {
        counters: [downstream_cx_proxy_proto_error],
        gauges: [],
        histograms: [],
    }
}

stats_struct! {
    /// `proxy_proto.`
    pub struct GeneralStats {
        counters: [not_found_allowed, not_found_disallowed],
        gauges: [],
        histograms: [],
    }
}

stats_struct! {
    /// `proxy_proto.versions.v1.`
    pub struct VersionStats {
        counters: [disallowed, error, found],
        gauges: [],
        histograms: [],
    }
}

/// How a header of version 2 begins.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEADER: usize = 16;
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// A line may be that long.
const V1_MOST: usize = 108;

struct Shared {
    allows_none: bool,
    disallowed: Vec<Version>,
    errors: Counter,
    general: GeneralStats,
    versions: [VersionStats; 2],
}

impl ListenerFilterConfig for ProxyProtocol {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError> {
        let root = context.server.stats.root_scope();
        let prefix =
            if self.stat_prefix.is_empty() { String::new() } else { format!("{}.", self.stat_prefix) };
        let scope = root.create_scope(&format!("proxy_proto.{prefix}"));
        Ok(Box::new(ProxyProtocolFactory(Arc::new(Shared {
            allows_none: self.allow_requests_without_proxy_protocol,
            disallowed: self.disallowed_versions.clone(),
            errors: LegacyStats::new(&root).downstream_cx_proxy_proto_error,
            general: GeneralStats::new(&scope),
            versions: ["v1", "v2"].map(|version| version_stats(&scope, version)),
        }))))
    }
}

fn version_stats(scope: &Scope, version: &str) -> VersionStats {
    VersionStats::new(&scope.create_scope(&format!("versions.{version}.")))
}

struct ProxyProtocolFactory(Arc<Shared>);

impl ListenerFilterFactory for ProxyProtocolFactory {
    fn on_worker(&self) -> ListenerFilterFactoryCb {
        let shared = Local::new(self.0.clone());
        Box::new(move || {
            envoy_log!(Filter, debug, "proxy_protocol: New connection accepted");
            Peeking::filter(Filter(shared.clone()))
        })
    }
}

/// Of one socket.
struct Filter(Local<Shared>);

/// The ends that a header tells of; `None` of the peers themselves.
pub type Ends = Option<(SocketAddr, SocketAddr)>;

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// More has to come.
    Incomplete,
    /// No header.
    None,
    /// A header of so many bytes.
    Header(Version, usize, Ends),
    /// A bad one, and what is the matter.
    Bad(Version, &'static str),
    /// A line without an end, which counts as no header.
    TooLong,
}

/// The version that the first bytes are of, once that is certain.
fn version_of(bytes: &[u8]) -> Option<Version> {
    let is_v2 = bytes.len() >= V2_HEADER && bytes.starts_with(V2_SIGNATURE);
    let v1 = || bytes.starts_with(V1_SIGNATURE).then_some(Version::V1);
    is_v2.then_some(Version::V2).or_else(v1)
}

fn parse(bytes: &[u8]) -> Parsed {
    let v2 = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..v2] == V2_SIGNATURE[..v2] {
        return if bytes.len() < V2_HEADER { Parsed::Incomplete } else { parse_v2(bytes) };
    }
    let v1 = bytes.len().min(V1_SIGNATURE.len());
    if bytes[..v1] != V1_SIGNATURE[..v1] {
        return Parsed::None;
    }
    let line = &bytes[..bytes.len().min(V1_MOST)];
    match line.windows(2).position(|end| end == b"\r\n") {
        Some(end) => match std::str::from_utf8(&bytes[..end]).ok().and_then(parse_v1) {
            Some(ends) => Parsed::Header(Version::V1, end + 2, ends),
            None => Parsed::Bad(Version::V1, "failed to read proxy protocol"),
        },
        None if bytes.len() < V1_MOST => Parsed::Incomplete,
        None => Parsed::TooLong,
    }
}

/// `PROXY TCP4 1.2.3.4 5.6.7.8 9 10`, or `PROXY UNKNOWN` and anything.
fn parse_v1(line: &str) -> Option<Ends> {
    let parts: Vec<&str> = line.split(' ').collect();
    if parts.get(1) == Some(&"UNKNOWN") {
        return Some(None);
    }
    let [_, family, source, destination, source_port, destination_port] = parts[..] else { return None };
    let address = |ip: &str, port: &str| -> Option<SocketAddr> {
        let ip: IpAddr = match family {
            "TCP4" => ip.parse::<Ipv4Addr>().ok()?.into(),
            "TCP6" => ip.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port.parse().ok()?))
    };
    Some(Some((address(source, source_port)?, address(destination, destination_port)?)))
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let bad = |text| Parsed::Bad(Version::V2, text);
    let length = usize::from(bytes[14]) << 8 | usize::from(bytes[15]);
    if bytes[12] >> 4 != 2 {
        return bad("Unsupported V2 proxy protocol version");
    }
    let Some(content) = bytes.get(V2_HEADER..V2_HEADER + length) else {
        return if bytes.len() < V2_HEADER + length { Parsed::Incomplete } else { bad("too long") };
    };
    let header = |ends| Parsed::Header(Version::V2, V2_HEADER + length, ends);
    match bytes[12] & 0xf {
        0 => return header(None),
        1 => {}
        _ => return bad("Unsupported command or address family or transport"),
    }
    if !matches!(bytes[13] & 0xf, 1 | 2) {
        return bad("Unsupported command or address family or transport");
    }
    let port = |at: usize| u16::from(content[at]) << 8 | u16::from(content[at + 1]);
    match bytes[13] >> 4 {
        1 if content.len() >= 12 => {
            let ip =
                |at: usize| Ipv4Addr::new(content[at], content[at + 1], content[at + 2], content[at + 3]);
            header(Some(((ip(0), port(8)).into(), (ip(4), port(10)).into())))
        }
        2 if content.len() >= 36 => {
            let ip = |at: usize| {
                let octets: [u8; 16] = content[at..at + 16].try_into().unwrap_or_default();
                Ipv6Addr::from(octets)
            };
            header(Some(((ip(0), port(32)).into(), (ip(16), port(34)).into())))
        }
        1 | 2 => bad("incorrect address length"),
        _ => bad("Unsupported V2 proxy protocol address family"),
    }
}

/// As Envoy has it: no address of many, and none of nobody.
fn is_unicast(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_multicast() || ip.is_unspecified() || is_broadcast)
}

/// What a header says, for tests of parsing: how long it is and whom it tells of; `None` while more has to come.
#[doc(hidden)]
pub fn parse_header(bytes: &[u8]) -> Option<Result<(usize, Ends), &'static str>> {
    match parse(bytes) {
        Parsed::Incomplete => None,
        Parsed::Header(_, length, ends) => Some(Ok((length, ends))),
        Parsed::None => Some(Err("none")),
        Parsed::TooLong => Some(Err("too long")),
        Parsed::Bad(_, text) => Some(Err(text)),
    }
}

impl Filter {
    fn on_header(&self, version: Version, length: usize, ends: Ends, socket: &ConnectionSocket) -> Decision {
        let shared = &self.0;
        let stats = &shared.versions[version as usize];
        if let Some((source, destination)) = ends {
            if !is_unicast(source) || !is_unicast(destination) {
                stats.error.inc();
                return self.refuse();
            }
            let info = socket.connection_info();
            let destination = Address::Ip(destination);
            if info.local_address().as_ref() != Some(&destination) {
                info.restore_local_address(destination);
            }
            info.tell_remote_address(Address::Ip(source));
        }
        stats.found.inc();
        Decision::Take(length)
    }

    fn refuse(&self) -> Decision {
        self.0.errors.inc();
        Decision::Close
    }
}

impl Decide for Filter {
    fn most(&self) -> usize {
        V2_HEADER + usize::from(u16::MAX)
    }

    fn decide(&self, bytes: &[u8], socket: &ConnectionSocket) -> Decision {
        let shared = &self.0;
        if let Some(version) = version_of(bytes)
            && shared.disallowed.contains(&version)
        {
            let stats = &shared.versions[version as usize];
            stats.found.inc();
            stats.disallowed.inc();
            return Decision::Close;
        }
        match parse(bytes) {
            Parsed::Incomplete => Decision::Wait,
            Parsed::Header(version, length, ends) => self.on_header(version, length, ends, socket),
            Parsed::None if shared.allows_none => {
                shared.general.not_found_allowed.inc();
                Decision::Continue
            }
            Parsed::None | Parsed::TooLong => {
                shared.general.not_found_disallowed.inc();
                self.refuse()
            }
            Parsed::Bad(version, text) => {
                envoy_log!(Filter, debug, "{}", text);
                shared.versions[version as usize].error.inc();
                self.refuse()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Some((source.parse().unwrap(), destination.parse().unwrap()))
    }

    #[test]
    fn lines() {
        let header = |line: &str, ends| {
            let whole = format!("{line}\r\n");
            let data = format!("{whole}data");
            assert_eq!(parse(data.as_bytes()), Parsed::Header(Version::V1, whole.len(), ends), "{line}");
            for length in 0..whole.len() {
                assert_eq!(parse(&data.as_bytes()[..length]), Parsed::Incomplete, "{line} {length}");
            }
        };
        header("PROXY TCP4 1.2.3.4 5.6.7.8 9 10", ends("1.2.3.4:9", "5.6.7.8:10"));
        header("PROXY TCP6 ::1 ::2 65535 1", ends("[::1]:65535", "[::2]:1"));
        header("PROXY UNKNOWN", None);
        header("PROXY UNKNOWN a b c", None);
        for bad in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 9",
            "PROXY TCP4 ::1 ::2 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 65536",
            "PROXY ",
        ] {
            assert!(matches!(parse(format!("{bad}\r\n").as_bytes()), Parsed::Bad(Version::V1, _)), "{bad}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Parsed::None);
        assert_eq!(parse(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()), Parsed::TooLong);
    }

    fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let head = [command, family, 0, content.len() as u8];
        [V2_SIGNATURE.as_slice(), &head, content].concat()
    }

    #[test]
    fn bytes() {
        let v4 = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10];
        let whole = v2(0x21, 0x11, &v4);
        assert_eq!(parse(&whole), Parsed::Header(Version::V2, 28, ends("1.2.3.4:9", "5.6.7.8:10")));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), Parsed::Incomplete, "{length}");
        }
        let with_more = v2(0x21, 0x12, &[v4.as_slice(), &[4, 0, 1, 0]].concat());
        assert_eq!(parse(&with_more), Parsed::Header(Version::V2, 32, ends("1.2.3.4:9", "5.6.7.8:10")));
        let v6 = [[0; 15].as_slice(), &[1], &[0; 15], &[2], &[0, 3, 0, 4]].concat();
        assert_eq!(parse(&v2(0x21, 0x21, &v6)), Parsed::Header(Version::V2, 52, ends("[::1]:3", "[::2]:4")));
        assert_eq!(parse(&v2(0x20, 0, &[])), Parsed::Header(Version::V2, 16, None));
        for (command, family, content) in [
            (0x11, 0x11, &v4[..]),
            (0x22, 0x11, &v4),
            (0x21, 0x13, &v4),
            (0x21, 0x31, &v4),
            (0x21, 0x11, &v4[..11]),
        ] {
            assert!(
                matches!(parse(&v2(command, family, content)), Parsed::Bad(Version::V2, _)),
                "{command} {family}"
            );
        }
    }
}
