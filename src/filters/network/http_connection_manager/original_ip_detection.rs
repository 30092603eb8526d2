//! Where a client's address comes from, for who does not take that of its connection.
//!
//! Mirrors `OriginalIPDetection` of Envoy 1.40's `envoy/http/original_ip_detection.h` and the extensions of
//! `source/extensions/http/original_ip_detection/xff/xff.cc` and `custom_header/custom_header.cc`.

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::config::address::{self, parse_internet_address};
use crate::config::extension::Factory;
use crate::config::reader::MessageReader;
use crate::http::{HeaderId, HeaderMap, HeaderName};
use crate::network::{Address, CidrRange};

/// What was found out.
#[derive(Default)]
pub struct Detected {
    /// The address, if there is one.
    pub address: Option<Address>,
    /// It may count as internal.
    pub allow_trusted_address_checks: bool,
    /// The status of the answer that the request gets instead of an address.
    pub reject_with: Option<u16>,
    /// `x-forwarded-for` stays as it is.
    pub skip_xff_append: bool,
}

/// Finds the client's address in a request.
pub trait OriginalIpDetection: Debug + Send + Sync {
    /// `peer` is who sent the request.
    fn detect(&self, headers: &HeaderMap, peer: &Address) -> Detected;
}

/// Makes an [`OriginalIpDetection`] of its configuration.
pub type OriginalIpDetectionFactory = Factory<dyn OriginalIpDetection>;

/// The address is in `x-forwarded-for`.
pub static XFF: OriginalIpDetectionFactory = Factory::new(
    "envoy.http.original_ip_detection.xff",
    &["envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"],
    read_xff,
);

/// The address is in some header.
pub static CUSTOM_HEADER: OriginalIpDetectionFactory = Factory::new(
    "envoy.http.original_ip_detection.custom_header",
    &["envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"],
    read_custom_header,
);

#[derive(Debug)]
struct Xff {
    num_trusted_hops: u32,
    trusted: Vec<CidrRange>,
    skip_xff_append: bool,
}

fn read_xff(r: &mut MessageReader<'_>) -> Result<Arc<dyn OriginalIpDetection>, ConfigError> {
    let num_trusted_hops = r.u32("xff_num_trusted_hops")?;
    let skip_xff_append = r.opt_bool("skip_xff_append")?.unwrap_or(true);
    let trusted = r.message_with("xff_trusted_cidrs", |r| r.messages::<address::CidrRange>("cidrs"))?;
    if trusted.is_some() && num_trusted_hops > 0 {
        r.refuse("xff_trusted_cidrs", "Cannot set both xff_num_trusted_hops and xff_trusted_cidrs");
    }
    // As in Envoy, what is no range is none.
    let trusted = trusted.iter().flatten().filter_map(CidrRange::configured).collect();
    Ok(Arc::new(Xff { num_trusted_hops, trusted, skip_xff_append }))
}

impl Xff {
    fn trusts(&self, address: &Address) -> bool {
        address.ip().is_some_and(|ip| self.trusted.iter().any(|range| range.is_in_range(ip.ip())))
    }

    /// The last address that is not trusted, or the first of all; and whether it is the only one.
    fn last_not_trusted(&self, headers: &HeaderMap) -> (Option<Address>, bool) {
        let Some(value) = headers.get_str(HeaderId::ForwardedFor) else { return (None, false) };
        let entries: Vec<&str> = value.split(',').map(str::trim).collect();
        let mut last = None;
        for entry in entries.iter().rev() {
            let Some(address) = parse_internet_address(entry, 0).map(Address::Ip) else {
                return (None, false);
            };
            let is_trusted = self.trusts(&address);
            last = Some(address);
            if !is_trusted {
                break;
            }
        }
        (last, entries.len() == 1)
    }
}

impl OriginalIpDetection for Xff {
    fn detect(&self, headers: &HeaderMap, peer: &Address) -> Detected {
        let (address, single) = match self.trusted.is_empty() {
            true => last_address_from_xff(headers, self.num_trusted_hops),
            false if !self.trusts(peer) => return Detected::default(),
            false => self.last_not_trusted(headers),
        };
        Detected {
            address,
            allow_trusted_address_checks: single,
            reject_with: None,
            skip_xff_append: self.skip_xff_append,
        }
    }
}

/// The address in `x-forwarded-for` with `skip` entries behind it, and whether there is none but it.
pub(super) fn last_address_from_xff(headers: &HeaderMap, skip: u32) -> (Option<Address>, bool) {
    let Some(value) = headers.get_str(HeaderId::ForwardedFor) else { return (None, false) };
    let single = !value.contains(',') && skip == 0;
    let entry = value.rsplit(',').nth(skip as usize);
    (entry.and_then(|entry| parse_internet_address(entry.trim(), 0)).map(Address::Ip), single)
}

#[derive(Debug)]
struct CustomHeader {
    name: HeaderName,
    allow_trusted_address_checks: bool,
    reject_with: Option<u16>,
}

fn read_custom_header(r: &mut MessageReader<'_>) -> Result<Arc<dyn OriginalIpDetection>, ConfigError> {
    let status = r.message_with("reject_with_status", |r| r.enum_number("code"))?;
    let error = |code: Option<i32>| {
        let code = code.and_then(|code| u16::try_from(code).ok());
        code.filter(|code| (400..=599).contains(code)).unwrap_or(403)
    };
    Ok(Arc::new(CustomHeader {
        name: HeaderName::new(&r.string("header_name")?),
        allow_trusted_address_checks: r.bool("allow_extension_to_set_address_as_trusted")?,
        reject_with: status.map(error),
    }))
}

impl OriginalIpDetection for CustomHeader {
    fn detect(&self, headers: &HeaderMap, _peer: &Address) -> Detected {
        let value = self.name.find(headers).and_then(|value| std::str::from_utf8(value).ok());
        match value.and_then(|value| parse_internet_address(value, 0)) {
            Some(address) => Detected {
                address: Some(Address::Ip(address)),
                allow_trusted_address_checks: self.allow_trusted_address_checks,
                skip_xff_append: true,
                ..Detected::default()
            },
            None => Detected { reject_with: self.reject_with, skip_xff_append: true, ..Detected::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xff_entries_are_counted_from_the_right() {
        let mut h = HeaderMap::new();
        let ip = |h: &HeaderMap, skip| last_address_from_xff(h, skip).0.map(|a| a.as_string_without_port());
        assert_eq!(ip(&h, 0), None);
        h.set(HeaderId::ForwardedFor, b"1.1.1.1, 2.2.2.2,bad");
        assert_eq!(ip(&h, 0), None);
        assert_eq!(ip(&h, 1).as_deref(), Some("2.2.2.2"));
        assert_eq!(ip(&h, 2).as_deref(), Some("1.1.1.1"));
        assert_eq!(ip(&h, 3), None);
    }
}
