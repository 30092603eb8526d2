//! What a certificate says. Mirrors Envoy's `source/extensions/transport_sockets/tls/utility.cc`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

use super::config::SanType;
use crate::common::base64;

/// Names of subjects that OpenSSL has short names for.
const SHORT_NAMES: [(&str, &str); 17] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A certificate, taken apart.
#[derive(Debug, Default)]
pub struct Certificate {
    /// As of RFC 2253.
    pub subject: String,
    /// As of RFC 2253.
    pub issuer: String,
    /// In lower hexadecimal digits.
    pub serial_number: String,
    /// From when on it is valid.
    pub not_before: i64,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
    /// Its other names, in their order.
    pub sans: Vec<(SanType, String)>,
    /// The name in its subject.
    pub common_name: Option<String>,
}

impl Certificate {
    /// Takes one apart; `None` if it is none.
    pub fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let sans = certificate.subject_alternative_name().ok().flatten();
        let names = sans.map(|sans| sans.value.general_names.iter().filter_map(san).collect());
        Some(Certificate {
            subject: rfc_2253(certificate.subject()),
            issuer: rfc_2253(certificate.issuer()),
            serial_number: serial_number(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            sans: names.unwrap_or_default(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| Some(name.as_str().ok()?.to_owned())),
        })
    }

    /// The name in its subject.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Its names of a kind.
    pub fn sans_of(&self, wanted: SanType) -> Vec<String> {
        let of_kind = self.sans.iter().filter(|(san_type, _)| *san_type == wanted);
        of_kind.map(|(_, name)| name.clone()).collect()
    }

    /// From when on it is valid.
    pub fn valid_from(&self) -> SystemTime {
        time(self.not_before)
    }

    /// Until when it is valid.
    pub fn expiration(&self) -> SystemTime {
        time(self.not_after)
    }

    /// Whole days until it is valid no more; 0 afterwards.
    pub fn days_until_expiration(&self) -> u64 {
        let left = self.expiration().duration_since(SystemTime::now()).unwrap_or_default();
        left.as_secs() / 86_400
    }
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) }.unwrap_or(epoch)
}

fn san(name: &GeneralName<'_>) -> Option<(SanType, String)> {
    Some(match name {
        GeneralName::RFC822Name(name) => (SanType::Email, (*name).to_owned()),
        GeneralName::DNSName(name) => (SanType::Dns, (*name).to_owned()),
        GeneralName::URI(name) => (SanType::Uri, (*name).to_owned()),
        GeneralName::IPAddress(bytes) => (SanType::IpAddress, ip_address(bytes)?.to_string()),
        _ => return None,
    })
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(|_| v6()).ok()
}

/// Without the zeros in front that only say that it is not negative.
fn serial_number(raw: &[u8]) -> String {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    hexadecimal(&raw[zeros.min(raw.len().saturating_sub(1))..])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// As OpenSSL prints it: the last part first, and what is not ASCII as its bytes.
fn rfc_2253(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let text = |part: &&x509_parser::x509::RelativeDistinguishedName<'_>| {
        part.iter().map(attribute).collect::<Vec<_>>().join("+")
    };
    parts.iter().rev().map(text).collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    match SHORT_NAMES.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => match attribute.as_str() {
            Ok(value) => format!("{name}={}", escaped(value)),
            Err(_) => format!("{name}=#{}", hexadecimal(attribute.as_slice())),
        },
        None => format!("{oid}=#{}", hexadecimal(attribute.as_slice())),
    }
}

fn escaped(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    value.bytes().enumerate().fold(String::new(), |mut text, (i, byte)| {
        let is_special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';')
            || (byte == b'#' && i == 0)
            || (byte == b' ' && (i == 0 || i == last));
        if is_special {
            text.push('\\');
        }
        if byte.is_ascii_graphic() || byte == b' ' {
            text.push(char::from(byte));
        } else {
            _ = write!(text, "\\{byte:02X}");
        }
        text
    })
}

/// The SHA-256 digest of it, in lower hexadecimal digits.
pub fn fingerprint_256(der: &CertificateDer<'_>) -> String {
    hexadecimal(digest::digest(&digest::SHA256, der).as_ref())
}

/// The SHA-1 digest of it, in lower hexadecimal digits.
pub fn fingerprint_1(der: &CertificateDer<'_>) -> String {
    hexadecimal(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
}

/// As PEM, with `%` and a number for what is no letter or digit, as Envoy has it in headers.
pub fn url_encoded_pem(der: &CertificateDer<'_>) -> String {
    let digits = base64::encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in digits.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem.chars().fold(String::new(), |mut text, letter| {
        match letter {
            '\n' => text.push_str("%0A"),
            ' ' => text.push_str("%20"),
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            letter => text.push(letter),
        }
        text
    })
}

/// When a certificate is valid, for a clock that is wound back to it.
pub fn validity(der: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = |time: ASN1Time| time.timestamp();
    Some((seconds(certificate.validity().not_before), seconds(certificate.validity().not_after)))
}

/// Whether it has signed itself, as far as its names tell.
pub fn is_self_issued(der: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(der);
    parsed.is_ok_and(|(_, certificate)| certificate.issuer().as_raw() == certificate.subject().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_is_escaped() {
        assert_eq!(escaped("a, b"), "a\\, b");
        assert_eq!(escaped(" a "), "\\ a\\ ");
        assert_eq!(escaped("#1#"), "\\#1#");
        assert_eq!(escaped("é"), "\\C3\\A9");
    }

    #[test]
    fn a_serial_number_has_no_sign() {
        assert_eq!(serial_number(&[0, 0x9a, 1]), "9a01");
        assert_eq!(serial_number(&[0]), "00");
    }
}
