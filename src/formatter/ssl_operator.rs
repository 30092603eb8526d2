//! What formats print of the downstream connection's TLS.
//!
//! Mirrors `StreamInfoSslConnectionInfoFormatterProvider` of Envoy 1.40's
//! `source/common/formatter/stream_info_formatter.cc`.

use crate::network::SslConnectionInfo;

/// A text of it; empty for none.
pub(super) type SslText = fn(&dyn SslConnectionInfo) -> String;

/// The operators and what they print.
const TEXTS: [(&str, SslText); 9] = [
    ("DOWNSTREAM_PEER_URI_SAN", |ssl| ssl.uri_san_peer_certificate().join(",")),
    ("DOWNSTREAM_LOCAL_URI_SAN", |ssl| ssl.uri_san_local_certificate().join(",")),
    ("DOWNSTREAM_PEER_DNS_SAN", |ssl| ssl.dns_sans_peer_certificate().join(",")),
    ("DOWNSTREAM_LOCAL_DNS_SAN", |ssl| ssl.dns_sans_local_certificate().join(",")),
    ("DOWNSTREAM_PEER_SUBJECT", |ssl| ssl.subject_peer_certificate()),
    ("DOWNSTREAM_LOCAL_SUBJECT", |ssl| ssl.subject_local_certificate()),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", |ssl| ssl.sha256_peer_certificate_digest()),
    ("DOWNSTREAM_PEER_SERIAL", |ssl| ssl.serial_number_peer_certificate()),
    ("DOWNSTREAM_PEER_CERT", |ssl| ssl.url_encoded_pem_encoded_peer_certificate()),
];

/// What the operator of that name prints.
pub(super) fn find(operator: &str) -> Option<SslText> {
    TEXTS.iter().find(|(name, _)| *name == operator).map(|(_, text)| *text)
}
