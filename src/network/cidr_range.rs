//! A range of addresses. Mirrors Envoy's `source/common/network/cidr_range.cc`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config;

/// The addresses that share the leading bits of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CidrRange {
    address: IpAddr,
    /// At most as many as the address has bits.
    prefix_len: u32,
}

impl CidrRange {
    /// The range that begins with the first `prefix_len` bits of `address`, or with all of them.
    pub fn new(address: IpAddr, prefix_len: u32) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix_len.min(bits);
        CidrRange { address: start_of(address, prefix_len), prefix_len }
    }

    /// How many leading bits count.
    pub fn prefix_len(&self) -> u32 {
        self.prefix_len
    }

    /// The range of a configuration; `None` if its address is none.
    pub fn configured(range: &config::address::CidrRange) -> Option<Self> {
        Some(Self::new(range.address_prefix.parse().ok()?, range.prefix_len))
    }

    /// Whether an address lies in the range; one of the other family never does.
    pub fn is_in_range(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                same_start(net.to_bits().into(), ip.to_bits().into(), 32 - self.prefix_len)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                same_start(net.to_bits(), ip.to_bits(), 128 - self.prefix_len)
            }
            _ => false,
        }
    }
}

/// The first address of a range.
fn start_of(address: IpAddr, prefix_len: u32) -> IpAddr {
    let cut =
        |bits: u128, tail: u32| bits.checked_shr(tail).and_then(|bits| bits.checked_shl(tail)).unwrap_or(0);
    match address {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(cut(ip.to_bits().into(), 32 - prefix_len) as u32).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(cut(ip.to_bits(), 128 - prefix_len)).into(),
    }
}

/// Whether two addresses are equal but for their last `tail` bits.
fn same_start(a: u128, b: u128, tail: u32) -> bool {
    (a ^ b).checked_shr(tail).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leading_bits_decide() {
        let cases = [
            ("10.1.0.0", 16, "10.1.255.255", true),
            ("10.1.0.0", 16, "10.2.0.0", false),
            ("10.1.2.3", 32, "10.1.2.3", true),
            ("10.1.2.3", 32, "10.1.2.2", false),
            ("10.1.2.3", 128, "10.1.2.2", false),
            ("10.1.2.3", 0, "192.0.2.1", true),
            ("10.1.2.3", 0, "::ffff:10.1.2.3", false),
            ("fd00::", 8, "fdff::1", true),
            ("fd00::", 8, "fe00::1", false),
            ("fd00::1", 128, "fd00::1", true),
            ("fd00::1", 128, "fd00::", false),
            ("fd00::1", 0, "::", true),
        ];
        for (address, prefix_len, ip, expected) in cases {
            let range = CidrRange::new(address.parse().unwrap(), prefix_len);
            assert_eq!(range.is_in_range(ip.parse().unwrap()), expected, "{address}/{prefix_len} {ip}");
        }
    }
}
