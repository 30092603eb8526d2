//! `envoy.config.core.v3`: socket addresses and CIDR ranges.

use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A TCP address: an IP literal and a port. Names are not resolved here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAddress {
    /// IPv4 or IPv6 literal, checked when read.
    pub address: String,
    /// 0 lets the kernel choose.
    pub port: u16,
    /// Whether an IPv6 socket also takes IPv4 (only `::` and mapped addresses).
    pub ipv4_compat: bool,
}

impl SocketAddress {
    /// The address as the standard library has it; `None` only for a struct that
    /// was filled in by hand with something that is no IP literal.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.address.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl FromMessage for SocketAddress {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        const PROTOCOLS: [(&str, u32, Option<()>); 2] = [("TCP", 0, Some(())), ("UDP", 1, None)];
        r.enumeration("protocol", &PROTOCOLS)?;
        r.unsupported_fields(&["named_port", "resolver_name", "network_namespace_filepath"])?;
        let address = r.required_string("address")?;
        let ip = parse_ip(&address).map_err(|e| r.error("address", e))?;
        if !r.has("port_value") {
            return Err(r.missing("port_value", "is required"));
        }
        let port = r.u32("port_value")?;
        let port = u16::try_from(port).map_err(|_| {
            let message = format!("{port} is out of range, expected 0..=65535");
            r.error("port_value", message)
        })?;
        let ipv4_compat = r.bool("ipv4_compat")?;
        if ipv4_compat && !allows_ipv4_compat(ip) {
            let message = format!(
                "Only IPv6 address '::' or valid IPv4-mapped IPv6 address can set ipv4_compat: {}",
                SocketAddr::new(ip, port)
            );
            return Err(r.error("ipv4_compat", message));
        }
        Ok(Self { address, port, ipv4_compat })
    }
}

fn allows_ipv4_compat(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip == Ipv6Addr::UNSPECIFIED || ip.to_ipv4_mapped().is_some(),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("malformed IP address: {text}"))
}

/// `Address`: one of several kinds, of which only `socket_address` is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The only kind so far.
    pub socket_address: SocketAddress,
}

impl FromMessage for Address {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        r.unsupported_fields(&["pipe", "envoy_internal_address"])?;
        Ok(Self { socket_address: r.required_message("socket_address")? })
    }
}

/// A network: IP literal and the number of leading bits that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CidrRange {
    /// IPv4 or IPv6 literal, checked when read.
    pub address_prefix: String,
    /// 0..=128; more than the address has bits means all of them.
    pub prefix_len: u32,
}

impl FromMessage for CidrRange {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let address_prefix = r.required_string("address_prefix")?;
        parse_ip(&address_prefix).map_err(|e| r.error("address_prefix", e))?;
        Ok(Self { address_prefix, prefix_len: r.opt_u32_in("prefix_len", 0..=128)?.unwrap_or(0) })
    }
}
