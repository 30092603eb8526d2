//! What is known of the TLS of a connection. Mirrors Envoy's `include/envoy/ssl/connection.h`, with what 1.40 has besides.

use std::borrow::Cow;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::tls::certificate::{self, Certificate};
use super::tls::config::SanType;

/// The certificates of a connection, and what was agreed upon. Of a missing certificate everything is empty.
pub trait SslConnectionInfo {
    /// The peer's certificate, taken apart.
    fn peer(&self) -> Option<&Certificate>;
    /// This end's certificate, taken apart.
    fn local(&self) -> Option<&Certificate>;
    /// What the peer has shown: its certificate and those that vouch for it.
    fn peer_chain(&self) -> &[CertificateDer<'static>];
    /// Who vouches for the peer's certificate.
    fn issuer(&self) -> Option<Cow<'_, CertificateDer<'static>>>;
    /// For example `TLSv1.3`.
    fn tls_version(&self) -> &'static str;
    /// In OpenSSL's name.
    fn ciphersuite_string(&self) -> &'static str;
    /// In OpenSSL's name; empty for none.
    fn tls_group(&self) -> &'static str;
    /// The name that was asked for; empty for none.
    fn sni(&self) -> &str;

    /// Whether the peer has shown a certificate.
    fn peer_certificate_presented(&self) -> bool {
        !self.peer_chain().is_empty()
    }
    /// Names of a kind in this end's certificate.
    fn local_sans(&self, kind: SanType) -> Vec<String> {
        self.local().map(|certificate| certificate.sans_of(kind)).unwrap_or_default()
    }
    /// Names of a kind in the peer's certificate.
    fn peer_sans(&self, kind: SanType) -> Vec<String> {
        self.peer().map(|certificate| certificate.sans_of(kind)).unwrap_or_default()
    }
    /// This end's subject, as of RFC 2253.
    fn subject_local_certificate(&self) -> String {
        self.local().map(|certificate| certificate.subject.clone()).unwrap_or_default()
    }
    /// The peer's subject, as of RFC 2253.
    fn subject_peer_certificate(&self) -> String {
        self.peer().map(|certificate| certificate.subject.clone()).unwrap_or_default()
    }
    /// The subject of who vouches for the peer, as of RFC 2253.
    fn issuer_peer_certificate(&self) -> String {
        self.peer().map(|certificate| certificate.issuer.clone()).unwrap_or_default()
    }
    /// The serial number of the peer's certificate, in hexadecimal.
    fn serial_number_peer_certificate(&self) -> String {
        self.peer().map(|certificate| certificate.serial_number.clone()).unwrap_or_default()
    }
    /// Those of all that the peer has shown.
    fn serial_numbers_peer_certificates(&self) -> Vec<String> {
        let parsed = self.peer_chain().iter().filter_map(Certificate::parse);
        parsed.map(|certificate| certificate.serial_number).collect()
    }
    /// The SHA-256 digest of the peer's certificate, in hexadecimal.
    fn sha256_peer_certificate_digest(&self) -> String {
        self.peer_chain().first().map(certificate::fingerprint_256).unwrap_or_default()
    }
    /// Those of all that the peer has shown.
    fn sha256_peer_certificate_chain_digests(&self) -> Vec<String> {
        self.peer_chain().iter().map(certificate::fingerprint_256).collect()
    }
    /// The SHA-1 digest of the peer's certificate, in hexadecimal.
    fn sha1_peer_certificate_digest(&self) -> String {
        self.peer_chain().first().map(certificate::fingerprint_1).unwrap_or_default()
    }
    /// Those of all that the peer has shown.
    fn sha1_peer_certificate_chain_digests(&self) -> Vec<String> {
        self.peer_chain().iter().map(certificate::fingerprint_1).collect()
    }
    /// The SHA-256 digest of who vouches for the peer, in hexadecimal.
    fn sha256_peer_issuer_digest(&self) -> String {
        self.issuer().map(|issuer| certificate::fingerprint_256(&issuer)).unwrap_or_default()
    }
    /// The serial number of who vouches for the peer, in hexadecimal.
    fn serial_number_peer_issuer(&self) -> String {
        let parsed = self.issuer().and_then(|issuer| Certificate::parse(&issuer));
        parsed.map(|certificate| certificate.serial_number).unwrap_or_default()
    }
    /// The peer's certificate as PEM, percent-encoded.
    fn url_encoded_pem_encoded_peer_certificate(&self) -> String {
        self.peer_chain().first().map(certificate::url_encoded_pem).unwrap_or_default()
    }
    /// The peer's certificate and those that vouch for it as PEM, percent-encoded.
    fn url_encoded_pem_encoded_peer_certificate_chain(&self) -> String {
        self.peer_chain().iter().map(certificate::url_encoded_pem).collect()
    }
    /// When the peer's certificate begins to be valid.
    fn valid_from_peer_certificate(&self) -> Option<SystemTime> {
        self.peer().map(Certificate::valid_from)
    }
    /// When the peer's certificate ends to be valid.
    fn expiration_peer_certificate(&self) -> Option<SystemTime> {
        self.peer().map(Certificate::expiration)
    }
}
