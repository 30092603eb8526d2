//! What the contexts of both sides have. Mirrors `ContextImpl` of Envoy's `source/common/tls/context_impl.cc`.
//!
//! BoringSSL's defaults are kept as far as rustls has them: the ciphers with forward secrecy and an authenticated mode, the
//! groups X25519 and P-256. rustls runs on ring, which is a third of the size of aws-lc-rs, needs no cmake, and has all that
//! Envoy's defaults name; what it lacks is P-521.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, Error, InconsistentKeys, KeyLog, SupportedCipherSuite, SupportedProtocolVersion};

use super::cert_validator::DefaultCertValidator;
use super::certificate::Certificate;
use super::config::{TlsCertificate, TlsKeyLog, TlsParameters, TlsProtocol};
use super::names;
use super::stats::ContextStats;
use crate::config::ConfigError;
use crate::envoy_log;

/// In Envoy's order; that of TLS 1.2 is what it calls `ECDHE-ECDSA-AES128-GCM-SHA256 = ECDHE-ECDSA-CHACHA20-POLY1305` and so on.
const CIPHERS: [CipherSuite; 9] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// What OpenSSL has and rustls has not; a list that names one cannot be had.
const UNSUPPORTED: [&str; 9] = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Versions, ciphers and groups of a context.
#[derive(Clone)]
pub struct Parameters {
    /// Ciphers and groups, in their order.
    pub provider: CryptoProvider,
    /// The versions.
    pub versions: Vec<&'static SupportedProtocolVersion>,
}

impl Parameters {
    /// Those of a configuration, with the highest version of a side.
    ///
    /// # Errors
    /// What cannot be had, with its path below the parameters.
    pub fn new(config: &TlsParameters, default_max: TlsProtocol) -> Result<Self, ConfigError> {
        let provider = ring::default_provider();
        let suites = cipher_suites(&config.cipher_suites)?;
        let find = |suite: &CipherSuite| provider.cipher_suites.iter().find(|known| known.suite() == *suite);
        let cipher_suites = suites.iter().filter_map(find).copied().collect();
        let kx_groups = groups(&config.ecdh_curves)?;
        Ok(Parameters {
            versions: versions(config, default_max)?,
            provider: CryptoProvider { cipher_suites, kx_groups, ..provider },
        })
    }
}

fn versions(
    config: &TlsParameters,
    default_max: TlsProtocol,
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let or = |version: TlsProtocol, default| if version == TlsProtocol::Auto { default } else { version };
    let max = or(config.tls_maximum_protocol_version, default_max);
    let min = or(config.tls_minimum_protocol_version, TlsProtocol::V1_2);
    if matches!(max, TlsProtocol::V1_0 | TlsProtocol::V1_1) {
        let message = "TLS below 1.2: not supported";
        return Err(ConfigError::new("tls_maximum_protocol_version", message));
    }
    if matches!(min, TlsProtocol::V1_0 | TlsProtocol::V1_1) {
        envoy_log!(Config, warn, "tls_minimum_protocol_version: TLS below 1.2 is not supported, 1.2 it is");
    }
    let mut versions = Vec::new();
    if max == TlsProtocol::V1_3 {
        versions.push(&rustls::version::TLS13);
    }
    if min != TlsProtocol::V1_3 {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        let message = "above tls_maximum_protocol_version";
        return Err(ConfigError::new("tls_minimum_protocol_version", message));
    }
    Ok(versions)
}

/// Those of TLS 1.3 are always there, as in Envoy.
fn cipher_suites(config: &[String]) -> Result<Vec<CipherSuite>, ConfigError> {
    if config.is_empty() {
        return Ok(CIPHERS.into());
    }
    let mut suites: Vec<_> = CIPHERS[..3].into();
    let mut rejected = Vec::new();
    let mut unsupported = Vec::new();
    for entry in config {
        // A group of which the client may choose.
        let group = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
        for name in group.split('|') {
            match names::find_cipher(name).filter(|_| !name.starts_with("TLS_")) {
                Some(suite) => suites.push(suite),
                None if UNSUPPORTED.contains(&name) => unsupported.push(name),
                None => rejected.push(name),
            }
        }
    }
    if !rejected.is_empty() {
        let message = format!(
            "Failed to initialize cipher suites {}. The following ciphers were rejected when tried individually: {}",
            config.join(":"),
            rejected.join(", ")
        );
        return Err(ConfigError::new("cipher_suites", message));
    }
    if !unsupported.is_empty() {
        return Err(ConfigError::new("cipher_suites", format!("not supported: {}", unsupported.join(", "))));
    }
    Ok(suites)
}

fn groups(config: &[String]) -> Result<Vec<&'static dyn rustls::crypto::SupportedKxGroup>, ConfigError> {
    if config.is_empty() {
        return Ok(vec![ring::kx_group::X25519, ring::kx_group::SECP256R1]);
    }
    let find = |name: &String| {
        let wanted = names::find_group(name)?;
        ring::ALL_KX_GROUPS.iter().find(|group| group.name() == wanted).copied()
    };
    let found: Option<Vec<_>> = config.iter().map(find).collect();
    let failed = || format!("Failed to initialize ECDH curves {}", config.join(":"));
    found.ok_or_else(|| ConfigError::new("ecdh_curves", failed()))
}

/// With these two ciphers in another order, if both are there.
pub fn swapped(
    provider: &CryptoProvider,
    first: CipherSuite,
    second: CipherSuite,
) -> Vec<SupportedCipherSuite> {
    let mut suites = provider.cipher_suites.clone();
    let place = |suite| suites.iter().position(|known| known.suite() == suite);
    if let (Some(first), Some(second)) = (place(first), place(second)) {
        suites.swap(first, second);
    }
    suites
}

/// A certificate of this end.
#[derive(Debug)]
pub struct LocalCertificate {
    /// With its key.
    pub certified: Arc<CertifiedKey>,
    /// What it says.
    pub parsed: Certificate,
    /// Where it comes from.
    pub path: String,
}

impl LocalCertificate {
    /// Reads one.
    ///
    /// # Errors
    /// What is missing or wrong, with its path below the certificate.
    pub fn load(config: &TlsCertificate, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        let (Some(chain), Some(key)) = (&config.certificate_chain, &config.private_key) else {
            let path = if config.certificate_chain.is_some() { "private_key" } else { "certificate_chain" };
            return Err(ConfigError::new(path, format!("{path} is missing")));
        };
        let of_chain = |message: String| ConfigError::new("certificate_chain", message);
        let failed = || of_chain(format!("Failed to load certificate chain from {}", chain.path()));
        let pem = chain.contents().map_err(of_chain)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|_| failed())?;
        let parsed = certificates.first().and_then(Certificate::parse).ok_or_else(failed)?;
        let key = &key.0;
        let of_key = |message: String| ConfigError::new("private_key", message);
        let failed =
            |cause: &str| of_key(format!("Failed to load private key from {}, Cause: {cause}", key.path()));
        let pem = key.contents().map_err(of_key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| failed("error:0900006e:PEM routines:OPENSSL_internal:NO_START_LINE"))?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| failed(&error.to_string()))?;
        let ocsp = config.ocsp_staple.as_ref().map(|staple| staple.contents()).transpose();
        let ocsp = ocsp.map_err(|message| ConfigError::new("ocsp_staple", message))?;
        let certified = CertifiedKey { ocsp, ..CertifiedKey::new(certificates, key) };
        if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = certified.keys_match() {
            return Err(failed(
                "error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH",
            ));
        }
        Ok(LocalCertificate { certified: Arc::new(certified), parsed, path: chain.path().to_owned() })
    }

    /// Shows until when it is valid.
    pub fn show_expiration(&self, stats: &ContextStats) {
        stats.show_expiration("unnamed_cert_e3b0c442", self.parsed.not_after);
    }
}

/// The certificates of a context, to be shown.
pub struct ContextCertificates {
    validator: Arc<DefaultCertValidator>,
    trusted: Vec<Certificate>,
    locals: Vec<Arc<LocalCertificate>>,
}

impl ContextCertificates {
    /// Those of a context.
    pub fn new(validator: &Arc<DefaultCertValidator>, locals: Vec<Arc<LocalCertificate>>) -> Self {
        let trusted = validator.trusted().iter().filter_map(Certificate::parse).collect();
        ContextCertificates { validator: validator.clone(), trusted, locals }
    }

    /// Those that are trusted, and where they come from.
    pub fn trusted(&self) -> Vec<(String, &Certificate)> {
        // As in Envoy: of a file the one that is valid for the shortest time.
        let first = self.trusted.iter().min_by_key(|certificate| certificate.not_after);
        first.map(|certificate| (self.validator.trusted_path().to_owned(), certificate)).into_iter().collect()
    }

    /// Those of this end, and where they come from.
    pub fn local(&self) -> Vec<(String, &Certificate)> {
        self.locals.iter().map(|local| (local.path.clone(), &local.parsed)).collect()
    }
}

/// Protocols as TLS has them.
///
/// # Errors
/// One is too long for TLS.
pub fn alpn(protocols: &[String]) -> Result<Vec<Vec<u8>>, ConfigError> {
    if protocols.iter().any(|protocol| protocol.len() > 255) {
        return Err(ConfigError::new("alpn_protocols", "Invalid ALPN protocol string"));
    }
    let has_text = protocols.iter().filter(|protocol| !protocol.is_empty());
    Ok(has_text.map(|protocol| protocol.clone().into_bytes()).collect())
}

/// Writes secrets for who records packets, in the lines that Wireshark reads.
#[derive(Debug)]
pub struct KeyLogFile {
    file: Mutex<File>,
}

impl KeyLogFile {
    /// Opens the file, which is added to.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(config: &TlsKeyLog) -> Result<Arc<dyn KeyLog>, ConfigError> {
        let file = OpenOptions::new().append(true).create(true).open(&config.path);
        let file = file
            .map_err(|e| ConfigError::new("path", format!("unable to open file '{}': {e}", config.path)))?;
        Ok(Arc::new(KeyLogFile { file: Mutex::new(file) }))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hexadecimal(client_random), hexadecimal(secret));
        if let Ok(mut file) = self.file.lock() {
            _ = file.write_all(line.as_bytes());
        }
    }
}
