//! `envoy.extensions.transport_sockets.tls.v3`: what is said of secure transports.
//!
//! Stands where Envoy has `source/common/tls/context_config_impl.cc`. What rustls cannot do is refused here or where the
//! context is made: TLS below 1.2, ciphers without forward secrecy, keys with a password.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use crate::config::ConfigError;
use crate::config::core::DataSource;
use crate::config::header_matcher::StringMatcher;
use crate::config::reader::{EnumTable, FromMessage, MessageReader};
use crate::{enum_fields, message};

message! {
    /// The secure transport of connections that were accepted.
    pub struct DownstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" {
        /// What both sides have.
        pub common_tls_context: CommonTlsContext,
        /// Whether who shows no certificate is turned away. Acts, as in Envoy, where there is a `trusted_ca`.
        pub require_client_certificate: bool,
        /// Is not enforced, as in Envoy.
        pub require_sni: bool,
        /// Keys of tickets of 80 bytes each; the first is used for new ones.
        pub session_ticket_keys: Option<TlsSessionTicketKeys>,
        /// Whether there are no tickets.
        pub disable_stateless_session_resumption: bool,
        /// Whether no sessions are kept for clients without tickets.
        pub disable_stateful_session_resumption: bool,
        /// How long a ticket may be used.
        pub session_timeout: Option<Duration>,
        /// What becomes of a client that asks for an OCSP answer.
        pub ocsp_staple_policy: OcspStaplePolicy,
        /// Whether all certificates are looked at if none is for the name that is asked for.
        pub full_scan_certs_on_sni_mismatch: Option<bool>,
        /// Whether the client's order of ciphers counts.
        pub prefer_client_ciphers: bool,
    }
}

message! {
    /// The secure transport of connections to hosts.
    pub struct UpstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" {
        /// What both sides have.
        pub common_tls_context: CommonTlsContext,
        /// The name that is asked for; empty for none.
        pub sni: String,
        /// Whether the name of the host is asked for, where it has one.
        pub auto_host_sni: bool,
        /// Whether the certificate has to be for the name that was asked for.
        pub auto_sni_san_validation: bool,
        /// Has no effect: rustls never negotiates again.
        pub allow_renegotiation: bool,
        /// How many sessions are kept.
        pub max_session_keys: u32 = 1,
        /// Has no effect: it is what rustls does.
        pub enforce_rsa_key_usage: bool,
    }
}

message! {
    /// What the secure transports of both sides have.
    pub struct CommonTlsContext = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext" {
        /// Versions and ciphers.
        pub tls_params: TlsParameters,
        /// Certificates of this end.
        pub tls_certificates: Vec<TlsCertificate>,
        /// How the other end's certificate is looked at; absent, it is not.
        pub validation_context: Option<CertificateValidationContext>,
        /// Protocols on top, the best first.
        pub alpn_protocols: Vec<String>,
        /// Where secrets are written for who records packets.
        pub key_log: Option<TlsKeyLog>,
    }
}

message! {
    /// Versions and ciphers; what is absent is Envoy's default.
    #[derive(Eq)]
    pub struct TlsParameters = "envoy.extensions.transport_sockets.tls.v3.TlsParameters" {
        /// The least version.
        pub tls_minimum_protocol_version: TlsProtocol,
        /// The highest version.
        pub tls_maximum_protocol_version: TlsProtocol,
        /// Ciphers of TLS 1.2 in OpenSSL's names.
        pub cipher_suites: Vec<String>,
        /// Groups in OpenSSL's names.
        pub ecdh_curves: Vec<String>,
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsProtocol {
    /// The default of the side.
    #[default]
    Auto,
    /// 1.0.
    V1_0,
    /// 1.1.
    V1_1,
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

impl TlsProtocol {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("TLS_AUTO", Self::Auto),
        ("TLSv1_0", Self::V1_0),
        ("TLSv1_1", Self::V1_1),
        ("TLSv1_2", Self::V1_2),
        ("TLSv1_3", Self::V1_3),
    ];
}

/// What nobody is to see. Two print the same if they are the same, or nearly never.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub DataSource);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(format!("{:?}", self.0));
        write!(f, "Secret({hash:x})")
    }
}

impl FromMessage for Secret {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        DataSource::read(r).map(Secret)
    }
}

message! {
    /// A certificate of this end.
    #[derive(Eq)]
    pub struct TlsCertificate = "envoy.extensions.transport_sockets.tls.v3.TlsCertificate" {
        /// The certificate and those that vouch for it, as PEM.
        pub certificate_chain: Option<DataSource>,
        /// Its key, as PEM.
        pub private_key: Option<Secret>,
        /// An answer of OCSP, as DER, that is passed on to clients.
        pub ocsp_staple: Option<DataSource>,
    }
}

message! {
    /// Keys of tickets.
    #[derive(Eq)]
    pub struct TlsSessionTicketKeys = "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys" {
        /// 80 bytes each.
        pub keys: Vec<Secret>,
    }
}

/// What becomes of a client that asks for an OCSP answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OcspStaplePolicy {
    /// It gets one if there is one.
    #[default]
    LenientStapling,
    /// As that, but an expired one is not passed on.
    StrictStapling,
    /// There has to be one.
    MustStaple,
}

impl OcspStaplePolicy {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("LENIENT_STAPLING", Self::LenientStapling),
        ("STRICT_STAPLING", Self::StrictStapling),
        ("MUST_STAPLE", Self::MustStaple),
    ];
}

message! {
    /// How the other end's certificate is looked at.
    pub struct CertificateValidationContext =
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext" {
        /// Who may vouch for it, as PEM.
        pub trusted_ca: Option<DataSource>,
        /// Digests of public keys, in base64, one of which it has to have.
        pub verify_certificate_spki: Vec<String>,
        /// Digests of certificates, in hexadecimal, one of which it has to have.
        pub verify_certificate_hash: Vec<String>,
        /// Names, one of which it has to have.
        pub match_typed_subject_alt_names: Vec<SubjectAltNameMatcher>,
        /// The same, of any kind.
        pub match_subject_alt_names: Vec<StringMatcher>,
        /// Lists of certificates that are valid no more, as PEM.
        pub crl: Option<DataSource>,
        /// Whether it may be out of date.
        pub allow_expired_certificate: bool,
        /// What becomes of one that nobody vouches for.
        pub trust_chain_verification: TrustChainVerification,
        /// Whether the lists are asked for the certificate itself alone.
        pub only_verify_leaf_cert_crl: bool,
        /// How many certificates may stand between it and the one that is trusted.
        pub max_verify_depth: Option<u32>,
        /// Whether clients are not told who may vouch for them.
        pub suppress_client_ca_list: bool,
    }
}

/// A name in a certificate, and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectAltNameMatcher {
    /// Which names are looked at.
    pub san_type: SanType,
    /// What they have to be.
    pub matcher: StringMatcher,
}

impl FromMessage for SubjectAltNameMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let san_type = r.enumeration("san_type", SanType::TABLE)?.unwrap_or(SanType::Email);
        let matcher = r.required_message("matcher")?;
        Ok(SubjectAltNameMatcher { san_type, matcher })
    }
}

/// A kind of name in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanType {
    /// An address of mail.
    Email,
    /// A name of a host.
    Dns,
    /// A URI.
    Uri,
    /// An address of a host.
    IpAddress,
}

impl SanType {
    /// API names; `OTHER_NAME` is not supported.
    pub const TABLE: &EnumTable<Self> =
        &[("EMAIL", Self::Email), ("DNS", Self::Dns), ("URI", Self::Uri), ("IP_ADDRESS", Self::IpAddress)];
}

/// What becomes of a certificate that nobody vouches for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrustChainVerification {
    /// It is refused.
    #[default]
    VerifyTrustChain,
    /// It is counted, and accepted.
    AcceptUntrusted,
}

impl TrustChainVerification {
    /// API names.
    pub const TABLE: &EnumTable<Self> =
        &[("VERIFY_TRUST_CHAIN", Self::VerifyTrustChain), ("ACCEPT_UNTRUSTED", Self::AcceptUntrusted)];
}

message! {
    /// Where secrets are written for who records packets.
    #[derive(Eq)]
    pub struct TlsKeyLog = "envoy.extensions.transport_sockets.tls.v3.TlsKeyLog" {
        /// The file, which is added to.
        pub path: String,
    }
}

enum_fields! { TlsProtocol, OcspStaplePolicy, TrustChainVerification }
