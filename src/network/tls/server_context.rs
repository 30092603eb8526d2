//! What connections that were accepted have. Mirrors `ServerContextImpl` of Envoy's
//! `source/common/tls/server_context_impl.cc` and 1.40's `default_tls_certificate_selector.cc`.
//!
//! Where BoringSSL decides in a callback, which protocol on top, which certificate, rustls has a configuration, and ends a
//! handshake that cannot agree on a protocol. So there is a configuration for each outcome, and the hello decides between them.

use std::sync::Arc;

use ring::digest;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ServerConfig, ServerSessionMemoryCache,
};
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, SignatureAlgorithm};

use super::cert_validator::{DefaultCertValidator, dns_name_match};
use super::config::{DownstreamTlsContext, OcspStaplePolicy, SanType, TlsProtocol};
use super::context::{KeyLogFile, LocalCertificate, Parameters, alpn, swapped};
use super::names;
use super::stats::ContextStats;
use super::tickets::{DEFAULT_LIFETIME, TicketKeys};
use super::verifier::ClientVerifier;
use crate::config::ConfigError;
use crate::stats::Scope;

/// Of each certificate: with and without a protocol on top, and in which order ciphers count that BoringSSL has for equal.
const VARIANTS: usize = 8;

struct ServerCertificate {
    local: Arc<LocalCertificate>,
    is_ecdsa: bool,
    names: Vec<String>,
    configs: Vec<Arc<ServerConfig>>,
}

/// See the module's description.
pub struct ServerContextImpl {
    certificates: Vec<ServerCertificate>,
    alpn: Vec<Vec<u8>>,
    full_scan: bool,
    ocsp_policy: OcspStaplePolicy,
    validator: Arc<DefaultCertValidator>,
    stats: Arc<ContextStats>,
}

/// What all configurations have.
struct Shared {
    parameters: Parameters,
    verifier: Arc<ClientVerifier>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
    sessions: Arc<dyn rustls::server::StoresServerSessions>,
    key_log: Option<Arc<dyn rustls::KeyLog>>,
    prefers_client_ciphers: bool,
    alpn: Vec<Vec<u8>>,
}

impl ServerContextImpl {
    /// Makes it, with statistics in the scope of the listener.
    ///
    /// # Errors
    /// What is missing or cannot be had, with its path below the configuration.
    pub fn new(config: &DownstreamTlsContext, scope: &Scope) -> Result<Self, ConfigError> {
        let common = &config.common_tls_context;
        let within = |error: ConfigError| error.within("common_tls_context");
        let stats = Arc::new(ContextStats::new(scope));
        let parameters = Parameters::new(&common.tls_params, TlsProtocol::V1_3)
            .map_err(|error| within(error.within("tls_params")))?;
        let validator = DefaultCertValidator::new(common.validation_context.as_ref(), stats.clone())
            .map_err(|error| within(error.within("validation_context")))?;
        let validator = Arc::new(validator);
        let locals = load_certificates(config, &parameters.provider).map_err(within)?;
        let is_mandatory =
            validator.insists() || (config.require_client_certificate && validator.has_trusted_ca());
        let provider = Arc::new(parameters.provider.clone());
        let alpn = alpn(&common.alpn_protocols).map_err(within)?;
        let key_log = common.key_log.as_ref().map(KeyLogFile::open).transpose();
        let shared = Shared {
            verifier: Arc::new(ClientVerifier::new(validator.clone(), provider, is_mandatory)),
            ticketer: ticketer(config, &locals, &validator)?,
            sessions: if config.disable_stateful_session_resumption {
                Arc::new(NoServerSessionStorage {})
            } else {
                ServerSessionMemoryCache::new(256)
            },
            key_log: key_log.map_err(|error| within(error.within("key_log")))?,
            prefers_client_ciphers: config.prefer_client_ciphers,
            alpn: alpn.clone(),
            parameters,
        };
        for local in &locals {
            local.show_expiration(&stats);
        }
        validator.show_expiration();
        let certificates = locals.into_iter().map(|local| server_certificate(local, &shared));
        Ok(ServerContextImpl {
            certificates: certificates.collect::<Result<_, _>>()?,
            alpn,
            full_scan: config.full_scan_certs_on_sni_mismatch.unwrap_or(false),
            ocsp_policy: config.ocsp_staple_policy,
            validator,
            stats,
        })
    }

    /// Where it counts.
    pub fn stats(&self) -> &Arc<ContextStats> {
        &self.stats
    }

    /// How clients' certificates are looked at.
    pub fn validator(&self) -> &Arc<DefaultCertValidator> {
        &self.validator
    }

    /// The certificates, in the order of the configuration.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<LocalCertificate>> {
        self.certificates.iter().map(|certificate| &certificate.local)
    }

    /// What a client that says this gets.
    pub fn select(
        &self,
        hello: &ClientHello<'_>,
        asks_ocsp: bool,
    ) -> (Arc<ServerConfig>, Arc<LocalCertificate>) {
        let certificate = self.select_certificate(hello);
        let offered = hello.alpn().into_iter().flatten();
        let agrees = offered.into_iter().any(|protocol| self.alpn.iter().any(|ours| ours == protocol));
        let position = |suite| hello.cipher_suites().iter().position(|offered| *offered == suite);
        let prefers = |second, first| match (position(second), position(first)) {
            (Some(second), Some(first)) => second < first,
            _ => false,
        };
        let variant = usize::from(agrees) << 2
            | usize::from(prefers(
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_AES_128_GCM_SHA256,
            )) << 1
            | usize::from(
                prefers(
                    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                ) || prefers(
                    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                ),
            );
        if asks_ocsp {
            self.count_ocsp(certificate);
        }
        (certificate.configs[variant].clone(), certificate.local.clone())
    }

    /// By name, then by what the client can read; the first one if that leads nowhere.
    fn select_certificate(&self, hello: &ClientHello<'_>) -> &ServerCertificate {
        let has_suite = |meant: &dyn Fn(&str) -> bool| {
            hello.cipher_suites().iter().any(|suite| meant(names::cipher(*suite)))
        };
        // Up to 1.2 a cipher says which keys go with it.
        let takes_ecdsa = has_suite(&|name| name.starts_with("TLS_") || name.starts_with("ECDHE-ECDSA"));
        let reads_ecdsa = |certificate: &ServerCertificate| {
            takes_ecdsa && certificate.local.certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let best = |is_meant: &dyn Fn(&ServerCertificate) -> bool| {
            let ecdsa = self.certificates.iter().find(|c| c.is_ecdsa && is_meant(c) && reads_ecdsa(c));
            ecdsa.or_else(|| self.certificates.iter().find(|c| !c.is_ecdsa && is_meant(c)))
        };
        let found = match hello.server_name() {
            Some(name) => {
                let exact = best(&|c| c.names.iter().any(|known| known.eq_ignore_ascii_case(name)));
                let wildcard = || best(&|c| c.names.iter().any(|known| dns_name_match(name, known)));
                exact.or_else(wildcard).or_else(|| self.full_scan.then(|| best(&|_| true)).flatten())
            }
            None => best(&|_| true),
        };
        found.unwrap_or(&self.certificates[0])
    }

    /// rustls passes the answer on to who asks for one.
    fn count_ocsp(&self, certificate: &ServerCertificate) {
        self.stats.ocsp_staple_requests.inc();
        if certificate.local.certified.ocsp.is_some() {
            self.stats.ocsp_staple_responses.inc();
        } else if self.ocsp_policy == OcspStaplePolicy::MustStaple {
            self.stats.ocsp_staple_failed.inc();
        } else {
            self.stats.ocsp_staple_omitted.inc();
        }
    }
}

fn load_certificates(
    config: &DownstreamTlsContext,
    provider: &CryptoProvider,
) -> Result<Vec<Arc<LocalCertificate>>, ConfigError> {
    let certificates = &config.common_tls_context.tls_certificates;
    if certificates.is_empty() {
        return Err(ConfigError::new("tls_certificates", "No TLS certificates found for server context"));
    }
    let load = |(i, certificate): (usize, &super::config::TlsCertificate)| {
        let within = |error: ConfigError| error.within(&format!("tls_certificates[{i}]"));
        if certificate.certificate_chain.is_none() {
            let message = "Server TlsCertificates must have a certificate specified";
            return Err(within(ConfigError::new("certificate_chain", message)));
        }
        let local = LocalCertificate::load(certificate, provider).map_err(within)?;
        if config.ocsp_staple_policy == OcspStaplePolicy::MustStaple && local.certified.ocsp.is_none() {
            return Err(within(ConfigError::new(
                "ocsp_staple",
                "Required OCSP response is missing from TLS context",
            )));
        }
        Ok(Arc::new(local))
    };
    certificates.iter().enumerate().map(load).collect()
}

fn ticketer(
    config: &DownstreamTlsContext,
    locals: &[Arc<LocalCertificate>],
    validator: &DefaultCertValidator,
) -> Result<Option<Arc<dyn ProducesTickets>>, ConfigError> {
    if config.disable_stateless_session_resumption {
        return Ok(None);
    }
    let lifetime = config.session_timeout.map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
    let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME);
    let context = session_context_id(config, locals, validator);
    match &config.session_ticket_keys {
        Some(keys) => TicketKeys::configured(keys, context, lifetime)
            .map_err(|error| error.within("session_ticket_keys"))
            .map(Some),
        None => TicketKeys::random(context, lifetime).map(Some),
    }
}

/// What a session belongs to (Envoy: `generateHashForSessionContextId`): its certificates and who is trusted.
fn session_context_id(
    config: &DownstreamTlsContext,
    locals: &[Arc<LocalCertificate>],
    validator: &DefaultCertValidator,
) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for local in locals {
        hash.update(local.parsed.subject.as_bytes());
        local.parsed.sans.iter().for_each(|(_, name)| hash.update(name.as_bytes()));
    }
    validator.trusted().iter().for_each(|certificate| hash.update(certificate));
    hash.update(format!("{:?}", config.common_tls_context.validation_context).as_bytes());
    hash.update(&[config.require_client_certificate.into()]);
    hash.finish().as_ref().to_vec()
}

fn server_certificate(
    local: Arc<LocalCertificate>,
    shared: &Shared,
) -> Result<ServerCertificate, ConfigError> {
    let configs = (0..VARIANTS).map(|variant| server_config(&local, shared, variant));
    let mut names = local.parsed.sans_of(SanType::Dns);
    if names.is_empty() {
        names.extend(local.parsed.common_name().map(str::to_owned));
    }
    Ok(ServerCertificate {
        is_ecdsa: local.certified.key.algorithm() == SignatureAlgorithm::ECDSA,
        names,
        configs: configs.collect::<Result<_, _>>()?,
        local,
    })
}

fn server_config(
    local: &LocalCertificate,
    shared: &Shared,
    variant: usize,
) -> Result<Arc<ServerConfig>, ConfigError> {
    use CipherSuite as S;
    let mut provider = shared.parameters.provider.clone();
    if variant & 2 != 0 {
        provider.cipher_suites = swapped(&provider, S::TLS13_AES_128_GCM_SHA256, S::TLS13_AES_256_GCM_SHA384);
    }
    if variant & 1 != 0 {
        for (first, second) in [
            (S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
            (S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
        ] {
            provider.cipher_suites = swapped(&provider, first, second);
        }
    }
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&shared.parameters.versions)
        .map_err(|error| ConfigError::new("common_tls_context.tls_params", error.to_string()))?;
    let resolver = Arc::new(SingleCertAndKey::from((*local.certified).clone()));
    let mut config = builder.with_client_cert_verifier(shared.verifier.clone()).with_cert_resolver(resolver);
    config.ignore_client_order = !shared.prefers_client_ciphers;
    config.session_storage = shared.sessions.clone();
    match &shared.ticketer {
        Some(ticketer) => config.ticketer = ticketer.clone(),
        None => config.send_tls13_tickets = 0,
    }
    if let Some(key_log) = &shared.key_log {
        config.key_log = key_log.clone();
    }
    if variant & 4 != 0 {
        config.alpn_protocols = shared.alpn.clone();
    }
    Ok(Arc::new(config))
}
