//! What rustls asks about certificates, answered by [`DefaultCertValidator`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::KeyUsage;

use super::cert_validator::DefaultCertValidator;

thread_local! {
    /// How the peer of the handshake that goes on here has signed: a verifier is not told whose it is.
    static PEER_SIGNATURE: std::cell::Cell<Option<SignatureScheme>> = const { std::cell::Cell::new(None) };
}

/// How the peer has signed whose bytes were worked off since this was last asked.
pub fn take_peer_signature() -> Option<SignatureScheme> {
    PEER_SIGNATURE.take()
}

/// How peers may sign, in BoringSSL's order.
const SCHEMES: [SignatureScheme; 8] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA512,
];

fn verify_schemes(provider: &CryptoProvider) -> Vec<SignatureScheme> {
    let supported = provider.signature_verification_algorithms.supported_schemes();
    SCHEMES.into_iter().filter(|scheme| supported.contains(scheme)).collect()
}

/// What rustls asks of both sides alike: how the peer has signed.
macro_rules! verifies_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            PEER_SIGNATURE.set(Some(signed.scheme));
            verify_tls12_signature(
                message,
                certificate,
                signed,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            PEER_SIGNATURE.set(Some(signed.scheme));
            verify_tls13_signature(
                message,
                certificate,
                signed,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            verify_schemes(&self.provider)
        }
    };
}

/// Looks at the certificates of clients.
pub struct ClientVerifier {
    validator: Arc<DefaultCertValidator>,
    provider: Arc<CryptoProvider>,
    is_mandatory: bool,
}

impl ClientVerifier {
    /// One that turns clients without a certificate away, or not.
    pub fn new(
        validator: Arc<DefaultCertValidator>,
        provider: Arc<CryptoProvider>,
        is_mandatory: bool,
    ) -> Self {
        ClientVerifier { validator, provider, is_mandatory }
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.validator.fmt(f)
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.validator.asks_for_certificate()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.validator.subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.validator.verify(end_entity, intermediates, KeyUsage::client_auth(), None, now)?;
        Ok(ClientCertVerified::assertion())
    }

    verifies_signatures! {}
}

/// Looks at the certificates of hosts.
pub struct ServerVerifier {
    validator: Arc<DefaultCertValidator>,
    provider: Arc<CryptoProvider>,
    checks_name: bool,
}

impl ServerVerifier {
    /// One that also wants the name that was asked for in the certificate, or not.
    pub fn new(
        validator: Arc<DefaultCertValidator>,
        provider: Arc<CryptoProvider>,
        checks_name: bool,
    ) -> Self {
        ServerVerifier { validator, provider, checks_name }
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.validator.fmt(f)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = match server_name {
            ServerName::DnsName(name) if self.checks_name => Some(name.as_ref()),
            _ => None,
        };
        self.validator.verify(end_entity, intermediates, KeyUsage::server_auth(), name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    verifies_signatures! {}
}
