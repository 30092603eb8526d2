//! Whether the other end's certificate will do.
//!
//! Mirrors `DefaultCertValidator` of Envoy's `source/common/tls/cert_validator/default_validator.cc`: first who vouches for
//! it, then its names, then its digests, all of them only as far as they are configured. No name of a host is asked for
//! beyond that, so that rustls' own verifiers, which insist on one, are not used. The path to a trusted certificate is webpki's.

use std::fmt;
use std::sync::Arc;

use ring::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use rustls::{CertificateError, DistinguishedName, OtherError};
use std::time::Duration;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

use super::certificate::{self, Certificate};
use super::config::{CertificateValidationContext, SanType, TrustChainVerification};
use super::stats::ContextStats;
use crate::common::base64;
use crate::config::ConfigError;
use crate::config::header_matcher::{Place, StringMatcher};

/// Why a certificate will not do: what a log says of it. Travels through rustls inside its error.
#[derive(Debug)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// What is asked of the other end's certificate.
pub struct DefaultCertValidator {
    trusted: Vec<CertificateDer<'static>>,
    trusted_path: String,
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<DistinguishedName>,
    crls: Vec<CertRevocationList<'static>>,
    asks_crls: bool,
    sans: Vec<(Option<SanType>, StringMatcher)>,
    hashes: Vec<[u8; 32]>,
    spkis: Vec<[u8; 32]>,
    allow_expired: bool,
    only_leaf_crl: bool,
    accepts_untrusted: bool,
    max_depth: Option<u32>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    stats: Arc<ContextStats>,
}

impl fmt::Debug for DefaultCertValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultCertValidator").finish_non_exhaustive()
    }
}

impl DefaultCertValidator {
    /// What a configuration asks for; without one, nothing.
    ///
    /// # Errors
    /// What cannot be read, with its path below the validation context.
    pub fn new(
        config: Option<&CertificateValidationContext>,
        stats: Arc<ContextStats>,
    ) -> Result<Self, ConfigError> {
        let default = CertificateValidationContext::default();
        let config = config.unwrap_or(&default);
        let (trusted, crls) = load_trusted(config)?;
        let anchors: Vec<_> = trusted
            .iter()
            .filter_map(|certificate| Some(anchor_from_trusted_cert(certificate).ok()?.to_owned()))
            .collect();
        if config.trusted_ca.is_none() {
            refuse_without_ca(config)?;
        }
        let typed = config.match_typed_subject_alt_names.iter();
        let typed = typed.map(|san| (Some(san.san_type), san.matcher.clone()));
        let untyped = config.match_subject_alt_names.iter().map(|matcher| (None, matcher.clone()));
        Ok(DefaultCertValidator {
            subjects: if config.suppress_client_ca_list { Vec::new() } else { subjects(&anchors) },
            asks_crls: config.crl.is_some() || !crls.is_empty(),
            trusted,
            trusted_path: config.trusted_ca.as_ref().map_or("", |source| source.path()).to_owned(),
            anchors,
            crls,
            sans: typed.chain(untyped).collect(),
            hashes: parse_all(
                &config.verify_certificate_hash,
                "verify_certificate_hash",
                "hex-encoded",
                from_hex,
            )?,
            spkis: parse_all(
                &config.verify_certificate_spki,
                "verify_certificate_spki",
                "base64-encoded",
                base64::decode,
            )?,
            allow_expired: config.allow_expired_certificate,
            only_leaf_crl: config.only_verify_leaf_cert_crl,
            accepts_untrusted: config.trust_chain_verification == TrustChainVerification::AcceptUntrusted,
            max_depth: config.max_verify_depth,
            algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms.all,
            stats,
        })
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificate(&self) -> bool {
        !self.trusted.is_empty() || self.insists()
    }

    /// Whether a certificate has to be there whatever the side says of it.
    pub fn insists(&self) -> bool {
        !(self.sans.is_empty() && self.hashes.is_empty() && self.spkis.is_empty())
    }

    /// Whether there is a trusted certificate.
    pub fn has_trusted_ca(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// The trusted certificates.
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }

    /// Shows until when the first of them is valid.
    pub fn show_expiration(&self) {
        let ends = self.trusted.iter().filter_map(certificate::validity).map(|(_, to)| to);
        if let Some(first) = ends.min() {
            self.stats.show_expiration("unnamed_ca_cert_e3b0c442", first);
        }
    }

    /// Where they come from.
    pub fn trusted_path(&self) -> &str {
        &self.trusted_path
    }

    /// Their subjects, for clients to choose by.
    pub fn subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    /// Where it counts.
    pub fn stats(&self) -> &Arc<ContextStats> {
        &self.stats
    }

    /// Looks at the certificate of the other end (Envoy: `doVerifyCertChain`); `name` is one that it has to have besides.
    ///
    /// # Errors
    /// Why it will not do; it has been counted.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        name: Option<&str>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if !self.trusted.is_empty()
            && let Err(error) = self.verify_chain(leaf, intermediates, usage, now)
        {
            self.stats.fail_verify_error.inc();
            if !self.accepts_untrusted {
                return Err(error.into());
            }
        }
        let parsed = (!self.sans.is_empty() || name.is_some()).then(|| Certificate::parse(leaf)).flatten();
        let parsed = parsed.unwrap_or_default();
        let named =
            |name: &str| parsed.sans.iter().any(|san| san.0 == SanType::Dns && dns_name_match(name, &san.1));
        if !(self.sans.is_empty() || self.has_san(&parsed)) || !name.is_none_or(named) {
            self.stats.fail_verify_san.inc();
            let sans: Vec<_> = parsed.sans.iter().map(|(_, name)| name.as_str()).collect();
            return Err(refusal(&format!("SAN matcher, certificate SANs are [{}]", sans.join(", "))));
        }
        if !self.has_digest(leaf) {
            self.stats.fail_verify_cert_hash.inc();
            return Err(refusal("cert hash and spki"));
        }
        Ok(())
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let depth = u32::try_from(intermediates.len()).unwrap_or(u32::MAX);
        if self.max_depth.is_some_and(|most| depth > most) {
            return Err(other("certificate chain too long"));
        }
        let mut times = vec![now];
        if self.allow_expired
            && let Some((from, to)) = certificate::validity(leaf)
        {
            // As if it were looked at while it is, or was, valid.
            let seconds = now.as_secs().clamp(from.max(0).unsigned_abs(), to.max(0).unsigned_abs());
            times.push(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        }
        if self.trusted.iter().any(|trusted| trusted == leaf) {
            return times.iter().map(|now| is_in_time(leaf, *now)).reduce(Result::or).unwrap_or(Ok(()));
        }
        let mut last = Err(CertificateError::UnknownIssuer);
        for now in times {
            last = self.verify_path(leaf, intermediates, usage, now);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        if self.asks_crls && self.crls.is_empty() {
            return Err(CertificateError::UnknownRevocationStatus);
        }
        let crls: Vec<_> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|builder| {
            let depth = if self.only_leaf_crl {
                RevocationCheckDepth::EndEntity
            } else {
                RevocationCheckDepth::Chain
            };
            builder
                .with_depth(depth)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let end = EndEntityCert::try_from(leaf).map_err(pki_error)?;
        end.verify_for_usage(self.algorithms, &self.anchors, intermediates, now, usage, revocation, None)
            .map(|_| ())
            .map_err(pki_error)
    }

    fn has_san(&self, certificate: &Certificate) -> bool {
        let is_match = |(wanted, matcher): &(Option<SanType>, StringMatcher)| {
            let of_kind =
                certificate.sans.iter().filter(|(kind, _)| wanted.is_none_or(|wanted| wanted == *kind));
            of_kind.into_iter().any(|(kind, name)| san_matches(*kind, name, matcher))
        };
        self.sans.iter().any(is_match)
    }

    fn has_digest(&self, leaf: &CertificateDer<'_>) -> bool {
        if self.hashes.is_empty() && self.spkis.is_empty() {
            return true;
        }
        let is_in = |list: &[[u8; 32]], bytes: &[u8]| {
            let digest = digest::digest(&digest::SHA256, bytes);
            list.iter().any(|wanted| wanted == digest.as_ref())
        };
        let spki = || EndEntityCert::try_from(leaf).map(|end| end.subject_public_key_info());
        is_in(&self.hashes, leaf)
            || (!self.spkis.is_empty() && spki().is_ok_and(|spki| is_in(&self.spkis, spki.as_ref())))
    }
}

/// What 1.40 says of a name: one of a host that has to be exactly this may stand for more in the certificate.
fn san_matches(kind: SanType, name: &str, matcher: &StringMatcher) -> bool {
    if kind == SanType::Dns && matcher.place == Place::Whole {
        return dns_name_match(&matcher.text, name);
    }
    matcher.matches(name.as_bytes())
}

/// Whether a name is covered by one of a certificate, whose `*` stands for one part (Envoy: `Utility::dnsNameMatch`).
pub fn dns_name_match(name: &str, pattern: &str) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let Some(suffix) = pattern.strip_prefix('*').filter(|suffix| suffix.len() > 1 && suffix.starts_with('.'))
    else {
        return false;
    };
    let Some(first) = name.find('.').filter(|first| *first > 0) else { return false };
    name[first..].eq_ignore_ascii_case(suffix)
}

fn is_in_time(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let (from, to) = certificate::validity(leaf).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match now {
        now if now < from => Err(CertificateError::NotValidYet),
        now if now > to => Err(CertificateError::Expired),
        _ => Ok(()),
    }
}

fn pki_error(error: webpki::Error) -> CertificateError {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } | Error::InvalidCertValidity => CertificateError::Expired,
        Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Error::UnknownIssuer => CertificateError::UnknownIssuer,
        Error::CertRevoked => CertificateError::Revoked,
        Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => CertificateError::BadEncoding,
        Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        error => other(&error.to_string()),
    }
}

fn other(text: &str) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(Refusal(format!(
        "X509_verify_cert: certificate verification error at depth 0: {text}"
    )))))
}

fn refusal(text: &str) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(Refusal(text.to_owned())))).into()
}

/// As Envoy: what only a chain can be asked for needs somebody who is trusted.
fn refuse_without_ca(config: &CertificateValidationContext) -> Result<(), ConfigError> {
    let without = |path: &str, message: String| Err(ConfigError::new(path, message));
    if let Some(crl) = &config.crl {
        return without("crl", format!("Failed to load CRL from {} without trusted CA", crl.path()));
    }
    let has_sans =
        !config.match_typed_subject_alt_names.is_empty() || !config.match_subject_alt_names.is_empty();
    if has_sans {
        let insecure =
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed";
        return without("match_typed_subject_alt_names", insecure.to_owned());
    }
    if config.allow_expired_certificate {
        let ignored = "Certificate validity period is always ignored without trusted CA";
        return without("allow_expired_certificate", ignored.to_owned());
    }
    Ok(())
}

type Trusted = (Vec<CertificateDer<'static>>, Vec<CertRevocationList<'static>>);

fn load_trusted(config: &CertificateValidationContext) -> Result<Trusted, ConfigError> {
    let mut trusted = Vec::new();
    let mut crls = Vec::new();
    if let Some(source) = &config.trusted_ca {
        let failed = || {
            ConfigError::new(
                "trusted_ca",
                format!("Failed to load trusted CA certificates from {}", source.path()),
            )
        };
        let pem = source.contents().map_err(|message| ConfigError::new("trusted_ca", message))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        trusted = found.map_err(|_| failed())?;
        if trusted.is_empty()
            || trusted.iter().any(|certificate| anchor_from_trusted_cert(certificate).is_err())
        {
            return Err(failed());
        }
        crls.extend(load_crls(&pem).map_err(|()| failed())?);
    }
    if let Some(source) = &config.crl {
        let failed = || ConfigError::new("crl", format!("Failed to load CRL from {}", source.path()));
        let pem = source.contents().map_err(|message| ConfigError::new("crl", message))?;
        crls.extend(load_crls(&pem).map_err(|()| failed())?);
    }
    Ok((trusted, crls))
}

fn load_crls(pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, ()> {
    let found = CertificateRevocationListDer::pem_slice_iter(pem);
    let parsed = found.map(|crl| OwnedCertRevocationList::from_der(&crl.map_err(|_| ())?).map_err(|_| ()));
    parsed.map(|crl| crl.map(Into::into)).collect()
}

fn subjects(anchors: &[TrustAnchor<'static>]) -> Vec<DistinguishedName> {
    anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect()
}

fn parse_all(
    texts: &[String],
    field: &str,
    encoding: &str,
    decode: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<[u8; 32]>, ConfigError> {
    let parse = |(i, text): (usize, &String)| {
        let digest = decode(text).and_then(|bytes| bytes.try_into().ok());
        let failed =
            || ConfigError::new(format!("{field}[{i}]"), format!("Invalid {encoding} SHA-256 {text}"));
        digest.ok_or_else(failed)
    };
    texts.iter().enumerate().map(parse).collect()
}

/// 64 digits, or with a colon behind each two.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let has_colons = text.len() == 95 && text.bytes().skip(2).step_by(3).all(|byte| byte == b':');
    let digits = if has_colons { text.replace(':', "") } else { text.to_owned() };
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    (0..32).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_part() {
        for (name, pattern, is_match) in [
            ("a.example.com", "*.example.com", true),
            ("A.example.com", "*.EXAMPLE.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            (".example.com", "*.example.com", false),
            ("a.example.com", "a.example.com", true),
            ("a.com", "*", false),
            ("a.com", "*.", false),
        ] {
            assert_eq!(dns_name_match(name, pattern), is_match, "{name} {pattern}");
        }
    }

    #[test]
    fn digests_have_colons_or_not() {
        let plain = "0f".repeat(32);
        let colons = vec!["0f"; 32].join(":");
        assert_eq!(from_hex(&plain), Some(vec![15; 32]));
        assert_eq!(from_hex(&colons), Some(vec![15; 32]));
        for wrong in ["", "0f", &plain[1..], &format!("{}zz", &plain[2..]), &colons.replace(':', ";")] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
