//! What the PROXY protocol puts in front of a connection.
//!
//! Mirrors Envoy 1.40's `source/extensions/common/proxy_protocol/proxy_protocol_header.cc`; 1.1 only reads it. Where an end has
//! no IP address nothing is said of either.

use std::net::SocketAddr;

use super::Address;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, on behalf of another, and by itself.
const V2_PROXY: u8 = 0x21;
const V2_LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

fn both<'a>(source: &'a Address, destination: &'a Address) -> Option<(&'a SocketAddr, &'a SocketAddr)> {
    source
        .ip()
        .zip(destination.ip())
        .filter(|(source, destination)| source.is_ipv4() == destination.is_ipv4())
}

/// As text.
pub fn generate_v1_header(source: &Address, destination: &Address) -> Vec<u8> {
    let Some((source, destination)) = both(source, destination) else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// As bytes.
pub fn generate_v2_header(source: &Address, destination: &Address) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    match both(source, destination) {
        None => header.extend([V2_LOCAL, 0, 0, 0]),
        Some((SocketAddr::V4(source), SocketAddr::V4(destination))) => {
            header.extend([V2_PROXY, TCP4, 0, 12]);
            header.extend(source.ip().octets());
            header.extend(destination.ip().octets());
        }
        Some((source, destination)) => {
            header.extend([V2_PROXY, TCP6, 0, 36]);
            for end in [source, destination] {
                if let SocketAddr::V6(end) = end {
                    header.extend(end.ip().octets());
                }
            }
        }
    }
    if let Some((source, destination)) = both(source, destination) {
        header.extend(source.port().to_be_bytes());
        header.extend(destination.port().to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().expect("an address"))
    }

    #[test]
    fn both_versions() {
        let (four, other) = (ip("1.2.3.4:258"), ip("5.6.7.8:80"));
        let (six, pipe) = (ip("[::1]:1"), Address::Pipe("/x".into()));
        assert_eq!(generate_v1_header(&four, &other), b"PROXY TCP4 1.2.3.4 5.6.7.8 258 80\r\n");
        assert_eq!(generate_v1_header(&six, &six), b"PROXY TCP6 ::1 ::1 1 1\r\n");
        assert_eq!(generate_v1_header(&four, &pipe), b"PROXY UNKNOWN\r\n");
        let v2 = generate_v2_header(&four, &other);
        assert_eq!(v2[12..], [0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0, 80]);
        let v2 = generate_v2_header(&six, &six);
        assert_eq!((v2.len(), &v2[12..16], &v2[48..]), (52, &[0x21, 0x21, 0, 36][..], &[0, 1, 0, 1][..]));
        assert_eq!(generate_v2_header(&four, &six)[12..], [0x20, 0, 0, 0]);
    }
}
