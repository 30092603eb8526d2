//! Names that need no server: addresses, those of `/etc/hosts`, and `localhost`.
//!
//! Stands where c-ares looks before it asks anybody.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::event::{DnsError, DnsRecord};

const HOSTS: &str = "/etc/hosts";

/// The addresses of `name` as the machine itself knows them; `None` where somebody has to be asked. As with c-ares, an IPv4
/// address is the answer to both questions, and an IPv6 address no name to ask for IPv4 addresses of.
pub(super) fn look_up(name: &str, record: DnsRecord) -> Option<Result<Vec<IpAddr>, DnsError>> {
    if let Ok(literal) = name.parse::<IpAddr>() {
        let is_right = literal.is_ipv4() || record == DnsRecord::Aaaa;
        return Some(if is_right { Ok(vec![literal]) } else { Err(DnsError::NoName) });
    }
    // Read each time: it is short, and it may change.
    let file = fs::read_to_string(HOSTS).unwrap_or_default();
    let addresses = find(&file, name, record);
    if !addresses.is_empty() {
        return Some(Ok(addresses));
    }
    is_localhost(name).then(|| {
        Ok(vec![match record {
            DnsRecord::A => Ipv4Addr::LOCALHOST.into(),
            DnsRecord::Aaaa => Ipv6Addr::LOCALHOST.into(),
        }])
    })
}

/// The addresses that the text of a hosts file has for `name`.
fn find(file: &str, name: &str, record: DnsRecord) -> Vec<IpAddr> {
    let wanted = without_dot(name);
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        let names_it = words.any(|word| without_dot(word).eq_ignore_ascii_case(wanted));
        (names_it && is_of(record, &address)).then_some(address)
    };
    file.lines().filter_map(of_line).collect()
}

fn is_of(record: DnsRecord, address: &IpAddr) -> bool {
    address.is_ipv4() == (record == DnsRecord::A)
}

/// Names that stay on the machine whatever the servers say (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = without_dot(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_hosts_file() {
        let file =
            "# 9.9.9.9 a\n127.0.0.1 localhost\n1.2.3.4\ta b.test # c\n::1 b.test\nx a\n5.6.7.8 A.\n\n1.1.1.1";
        let found = |name, record| {
            find(file, name, record).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("a", DnsRecord::A), "1.2.3.4 5.6.7.8");
        assert_eq!(found("B.TEST.", DnsRecord::A), "1.2.3.4");
        assert_eq!(found("b.test", DnsRecord::Aaaa), "::1");
        assert_eq!(found("c", DnsRecord::A), "");
    }

    #[test]
    fn nobody_is_asked_for_addresses_and_localhost() {
        let found = |name, record| look_up(name, record).map(|found| format!("{found:?}"));
        assert_eq!(found("1.2.3.4", DnsRecord::A).as_deref(), Some("Ok([1.2.3.4])"));
        assert_eq!(found("1.2.3.4", DnsRecord::Aaaa).as_deref(), Some("Ok([1.2.3.4])"));
        assert_eq!(found("::2", DnsRecord::Aaaa).as_deref(), Some("Ok([::2])"));
        assert_eq!(found("::2", DnsRecord::A).as_deref(), Some("Err(NoName)"));
        assert_eq!(found("a.LocalHost.", DnsRecord::Aaaa).as_deref(), Some("Ok([::1])"));
        assert_eq!(found("no-localhost.test", DnsRecord::A), None);
    }
}
