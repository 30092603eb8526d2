//! Certificates that a test makes, and both ends of TLS that know them.

use super::board::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
    /// The certificate's number.
    pub serial: Vec<u8>,
}

impl Identity {
    /// As a proxy's configuration has it.
    pub fn json(&self) -> Value {
        json!({"certificate_chain": {"inline_string": self.certificate}, "private_key": {"inline_string": self.key}})
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .map(|c| c.expect("a certificate"))
            .collect()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as PEM.
    pub certificate: String,
}

/// A key of RSA: making one takes long.
const RSA_KEY: &str = include_str!("../keys/rsa.pem");

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate with these names: `spiffe://...` is a URI, what has an `@` an address of mail.
    pub fn sign(&self, name: &str, sans: &[&str]) -> Identity {
        self.sign_key(name, sans, KeyPair::generate().expect("a key"), false)
    }

    /// The same, with a key of RSA.
    pub fn sign_rsa(&self, name: &str, sans: &[&str]) -> Identity {
        self.sign_key(name, sans, KeyPair::from_pem(RSA_KEY).expect("a key"), false)
    }

    /// The same, out of date.
    pub fn sign_expired(&self, name: &str, sans: &[&str]) -> Identity {
        self.sign_key(name, sans, KeyPair::generate().expect("a key"), true)
    }

    fn sign_key(&self, name: &str, sans: &[&str], key: KeyPair, is_expired: bool) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::OrganizationName, "Test, Inc");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = sans.iter().map(|san| alternative_name(san)).collect();
        let serial: Vec<u8> = (0..16).map(|i| fastrand::u8(1..=127) | u8::from(i == 0)).collect();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = if is_expired { date_time_ymd(2021, 1, 1) } else { date_time_ymd(2040, 1, 1) };
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity { certificate, key: key.serialize_pem(), serial }
    }

    /// A list on which these certificates are no longer valid.
    pub fn revoke(&self, identities: &[&Identity]) -> String {
        let revoked = |identity: &&Identity| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&identity.serial),
            revocation_time: date_time_ymd(2022, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2022, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: identities.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("as PEM")
    }

    /// As a proxy's configuration has it.
    pub fn json(&self) -> Value {
        json!({"inline_string": self.certificate})
    }
}

fn alternative_name(text: &str) -> SanType {
    let ascii = || text.try_into().expect("ASCII");
    match text {
        text if text.contains("://") => SanType::URI(ascii()),
        text if text.contains('@') => SanType::Rfc822Name(ascii()),
        text => match text.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(ascii()),
        },
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: Option<String>,
}

impl TlsClient {
    /// One that trusts everybody and shows `identity`, of TLS 1.3 or else 1.2.
    pub fn new(identity: Option<&Identity>, tls13: bool) -> TlsClient {
        TlsClient::with_provider(identity, tls13, ring::default_provider())
    }

    /// The same with other ciphers.
    pub fn with_provider(identity: Option<&Identity>, tls13: bool, provider: CryptoProvider) -> TlsClient {
        let version = if tls13 { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[version]).expect("a version");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting));
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain(), identity.private_key()).expect("an identity")
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = false;
        TlsClient { config: Arc::new(config), name: None }
    }

    /// Asks for this name.
    pub fn named(mut self, name: &str) -> TlsClient {
        Arc::make_mut(&mut self.config).enable_sni = true;
        self.name = Some(name.to_string());
        self
    }

    /// Offers these protocols.
    pub fn alpn(mut self, protocols: &[&str]) -> TlsClient {
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec());
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.collect();
        self
    }

    /// What it says first.
    pub fn hello(&self, bytes: &mut Vec<u8>) {
        let name = self.name.clone().unwrap_or_else(|| "nobody.test".to_string());
        let name = ServerName::try_from(name).expect("a name");
        let mut client = ClientConnection::new(self.config.clone(), name).expect("a client");
        client.write_tls(bytes).expect("a hello");
    }

    /// Connects; the handshake is made by the first read or write.
    pub fn connect(&self, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit on reading");
        let name = self.name.clone().unwrap_or_else(|| "nobody.test".to_string());
        let name = ServerName::try_from(name).expect("a name");
        let client = ClientConnection::new(self.config.clone(), name).expect("a client");
        StreamOwned::new(client, stream)
    }
}

/// Trusts every server.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A server of TLS that gives each connection to `serve`; `trusted` has to have signed its clients' certificates.
pub fn serve_tls(
    identity: &Identity,
    trusted: Option<&Authority>,
    alpn: &[&str],
    serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> u16 {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).expect("versions");
    let builder = match trusted {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root =
                CertificateDer::from_pem_slice(authority.certificate.as_bytes()).expect("a certificate");
            roots.add(root).expect("a root");
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(identity.chain(), identity.private_key()).expect("an identity");
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let (config, serve) = (Arc::new(config), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (config, serve) = (config.clone(), serve.clone());
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let server = ServerConnection::new(config).expect("a server");
                serve(StreamOwned::new(server, stream));
            });
        }
    });
    port
}
