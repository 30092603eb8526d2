//! What is known of the TLS of a connection. Mirrors Envoy's `include/envoy/ssl/connection.h`.
//!
//! No transport socket is secure yet, so nobody implements it.

use std::time::SystemTime;

/// The certificates of a connection. Of a missing certificate everything is empty.
pub trait SslConnectionInfo {
    /// Whether the peer has shown a certificate.
    fn peer_certificate_presented(&self) -> bool;
    /// The URIs among this end's alternative names.
    fn uri_san_local_certificate(&self) -> Vec<String>;
    /// This end's subject, as of RFC 2253.
    fn subject_local_certificate(&self) -> String;
    /// The SHA-256 digest of the peer's certificate.
    fn sha256_peer_certificate_digest(&self) -> String;
    /// The serial number of the peer's certificate.
    fn serial_number_peer_certificate(&self) -> String;
    /// The peer's subject, as of RFC 2253.
    fn subject_peer_certificate(&self) -> String;
    /// The URIs among the peer's alternative names.
    fn uri_san_peer_certificate(&self) -> Vec<String>;
    /// The peer's certificate as PEM, percent-encoded.
    fn url_encoded_pem_encoded_peer_certificate(&self) -> String;
    /// The peer's certificate and those that vouch for it as PEM, percent-encoded.
    fn url_encoded_pem_encoded_peer_certificate_chain(&self) -> String;
    /// The DNS names among the peer's alternative names.
    fn dns_sans_peer_certificate(&self) -> Vec<String>;
    /// The DNS names among this end's alternative names.
    fn dns_sans_local_certificate(&self) -> Vec<String>;
    /// When the peer's certificate begins to be valid.
    fn valid_from_peer_certificate(&self) -> Option<SystemTime>;
    /// When the peer's certificate ends to be valid.
    fn expiration_peer_certificate(&self) -> Option<SystemTime>;
}
