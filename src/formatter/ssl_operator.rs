//! What formats print of the TLS of both connections.
//!
//! Mirrors `StreamInfoSslConnectionInfoFormatterProvider` and `StreamInfoUpstreamSslConnectionInfoFormatterProvider` of
//! Envoy 1.40's `source/common/formatter/stream_info_formatter.cc`.

use std::time::SystemTime;

use crate::network::SslConnectionInfo;
use crate::network::tls::config::SanType;
use crate::stream_info::StreamInfoImpl;

/// A text of it; empty for none.
type SslText = fn(&dyn SslConnectionInfo) -> String;

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Downstream,
    Upstream,
}

/// An operator: whose text, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct SslOperator(Side, SslText);

/// A time of the peer's certificate: whose, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct SslTime(Side, fn(&dyn SslConnectionInfo) -> Option<SystemTime>);

/// Of both connections.
const TEXTS: [(&str, SslText); 21] = [
    ("TLS_GROUP", |ssl| ssl.tls_group().to_owned()),
    ("TLS_VERSION", |ssl| ssl.tls_version().to_owned()),
    ("TLS_CIPHER", |ssl| ssl.ciphersuite_string().to_owned()),
    // rustls tells nobody.
    ("TLS_SESSION_ID", |_| String::new()),
    ("PEER_SUBJECT", |ssl| ssl.subject_peer_certificate()),
    ("PEER_ISSUER", |ssl| ssl.issuer_peer_certificate()),
    ("PEER_CERT", |ssl| ssl.url_encoded_pem_encoded_peer_certificate()),
    ("PEER_URI_SAN", |ssl| ssl.peer_sans(SanType::Uri).join(",")),
    ("PEER_DNS_SAN", |ssl| ssl.peer_sans(SanType::Dns).join(",")),
    ("PEER_IP_SAN", |ssl| ssl.peer_sans(SanType::IpAddress).join(",")),
    ("PEER_EMAIL_SAN", |ssl| ssl.peer_sans(SanType::Email).join(",")),
    ("PEER_OTHERNAME_SAN", |_| String::new()),
    ("LOCAL_SUBJECT", |ssl| ssl.subject_local_certificate()),
    ("LOCAL_URI_SAN", |ssl| ssl.local_sans(SanType::Uri).join(",")),
    ("LOCAL_DNS_SAN", |ssl| ssl.local_sans(SanType::Dns).join(",")),
    ("LOCAL_IP_SAN", |ssl| ssl.local_sans(SanType::IpAddress).join(",")),
    ("LOCAL_EMAIL_SAN", |ssl| ssl.local_sans(SanType::Email).join(",")),
    ("LOCAL_OTHERNAME_SAN", |_| String::new()),
    ("PEER_FINGERPRINT_256", |ssl| ssl.sha256_peer_certificate_digest()),
    ("PEER_FINGERPRINT_1", |ssl| ssl.sha1_peer_certificate_digest()),
    ("PEER_SERIAL", |ssl| ssl.serial_number_peer_certificate()),
];

/// Of the downstream connection alone.
const DOWNSTREAM_TEXTS: [(&str, SslText); 5] = [
    ("PEER_CHAIN_FINGERPRINTS_256", |ssl| ssl.sha256_peer_certificate_chain_digests().join(",")),
    ("PEER_CHAIN_FINGERPRINTS_1", |ssl| ssl.sha1_peer_certificate_chain_digests().join(",")),
    ("PEER_CHAIN_SERIALS", |ssl| ssl.serial_numbers_peer_certificates().join(",")),
    ("PEER_ISSUER_FINGERPRINT_256", |ssl| ssl.sha256_peer_issuer_digest()),
    ("PEER_ISSUER_SERIAL", |ssl| ssl.serial_number_peer_issuer()),
];

/// Of the upstream connection alone.
const UPSTREAM_TEXTS: [(&str, SslText); 1] = [("SERVER_NAME", |ssl| ssl.sni().to_owned())];

impl Side {
    fn of(name: &str) -> Option<(Side, &str)> {
        let downstream = name.strip_prefix("DOWNSTREAM_").map(|rest| (Side::Downstream, rest));
        downstream.or_else(|| Some((Side::Upstream, name.strip_prefix("UPSTREAM_")?)))
    }

    fn with<R>(self, info: &StreamInfoImpl, f: impl FnOnce(&dyn SslConnectionInfo) -> R) -> Option<R> {
        match self {
            Side::Downstream => info.downstream_ssl_connection().map(|ssl| f(&**ssl)),
            Side::Upstream => info.upstream_ssl_connection().map(|ssl| f(&*ssl)),
        }
    }
}

impl SslOperator {
    /// The operator of that name.
    pub(super) fn find(name: &str) -> Option<Self> {
        let (side, name) = Side::of(name)?;
        let own: &[(&str, SslText)] =
            if side == Side::Downstream { &DOWNSTREAM_TEXTS } else { &UPSTREAM_TEXTS };
        let found = TEXTS.iter().chain(own).find(|(known, _)| *known == name);
        found.map(|(_, text)| SslOperator(side, *text))
    }

    /// What it prints; `None` without TLS.
    pub(super) fn text(self, info: &StreamInfoImpl) -> Option<String> {
        self.0.with(info, self.1)
    }
}

impl SslTime {
    /// The operator of that name.
    pub(super) fn find(name: &str) -> Option<Self> {
        let (side, name) = Side::of(name)?;
        match name {
            "PEER_CERT_V_START" => Some(SslTime(side, |ssl| ssl.valid_from_peer_certificate())),
            "PEER_CERT_V_END" => Some(SslTime(side, |ssl| ssl.expiration_peer_certificate())),
            _ => None,
        }
    }

    /// The time; `None` without TLS, or without a certificate of the peer.
    pub(super) fn time(self, info: &StreamInfoImpl) -> Option<SystemTime> {
        self.0.with(info, self.1).flatten()
    }
}
