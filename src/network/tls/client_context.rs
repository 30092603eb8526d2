//! What connections to hosts have. Mirrors `ClientContextImpl` of Envoy's `source/common/tls/client_context_impl.cc`.
//!
//! Sessions are kept for a name each, where Envoy tries the newest one whatever it was for. A name that is no name of a host
//! (an address, or one with letters that DNS has not) is not asked for: rustls has no way to say it.

use std::sync::Arc;

use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::{DnsName, ServerName};
use rustls::sign::SingleCertAndKey;

use super::cert_validator::DefaultCertValidator;
use super::config::{TlsProtocol, UpstreamTlsContext};
use super::context::{KeyLogFile, LocalCertificate, Parameters, alpn};
use super::stats::ContextStats;
use super::tickets::SessionKeys;
use super::verifier::ServerVerifier;
use crate::config::ConfigError;
use crate::stats::Scope;

/// What stands for a name where none is asked for; it is not sent.
const NAMELESS: &str = "nameless.invalid";

/// See the module's description.
pub struct ClientContextImpl {
    with_name: Arc<ClientConfig>,
    nameless: Arc<ClientConfig>,
    sni: String,
    local: Option<Arc<LocalCertificate>>,
    validator: Arc<DefaultCertValidator>,
    stats: Arc<ContextStats>,
    /// Whether the host's own name is asked for.
    pub auto_host_sni: bool,
}

impl ClientContextImpl {
    /// Makes it, with statistics in the scope of the cluster.
    ///
    /// # Errors
    /// What is missing or cannot be had, with its path below the configuration.
    pub fn new(config: &UpstreamTlsContext, scope: &Scope) -> Result<Self, ConfigError> {
        let common = &config.common_tls_context;
        let within = |error: ConfigError| error.within("common_tls_context");
        let stats = Arc::new(ContextStats::new(scope));
        let parameters = Parameters::new(&common.tls_params, TlsProtocol::V1_2)
            .map_err(|error| within(error.within("tls_params")))?;
        let validator = DefaultCertValidator::new(common.validation_context.as_ref(), stats.clone())
            .map_err(|error| within(error.within("validation_context")))?;
        let validator = Arc::new(validator);
        if common.tls_certificates.len() > 1 {
            let message = "Multiple TLS certificates are not supported for client contexts";
            return Err(within(ConfigError::new("tls_certificates", message)));
        }
        let load = |certificate| LocalCertificate::load(certificate, &parameters.provider).map(Arc::new);
        let local = common.tls_certificates.first().map(load).transpose();
        let local = local.map_err(|error| within(error.within("tls_certificates[0]")))?;
        if config.sni.contains('\0') {
            return Err(ConfigError::new("sni", "SNI names containing NULL-byte are not allowed"));
        }
        let provider = Arc::new(parameters.provider);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&parameters.versions)
            .map_err(|error| within(ConfigError::new("tls_params", error.to_string())))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(
                validator.clone(),
                provider,
                config.auto_sni_san_validation,
            )));
        let mut client = match &local {
            Some(local) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*local.certified).clone()))),
            None => builder.with_no_client_auth(),
        };
        client.alpn_protocols = alpn(&common.alpn_protocols).map_err(within)?;
        client.resumption = match config.max_session_keys {
            0 => Resumption::disabled(),
            most => Resumption::store(Arc::new(SessionKeys::new(most as usize))),
        };
        if let Some(key_log) = &common.key_log {
            client.key_log = KeyLogFile::open(key_log).map_err(|error| within(error.within("key_log")))?;
        }
        if let Some(local) = &local {
            local.show_expiration(&stats);
        }
        validator.show_expiration();
        let mut nameless = client.clone();
        nameless.enable_sni = false;
        Ok(ClientContextImpl {
            with_name: Arc::new(client),
            nameless: Arc::new(nameless),
            sni: config.sni.clone(),
            local,
            validator,
            stats,
            auto_host_sni: config.auto_host_sni,
        })
    }

    /// Where it counts.
    pub fn stats(&self) -> &Arc<ContextStats> {
        &self.stats
    }

    /// How hosts' certificates are looked at.
    pub fn validator(&self) -> &Arc<DefaultCertValidator> {
        &self.validator
    }

    /// The certificate that hosts are shown.
    pub fn local(&self) -> Option<&Arc<LocalCertificate>> {
        self.local.as_ref()
    }

    /// Begins a handshake; asks for `name` instead of the configured one. Also says which name was asked for, if any.
    ///
    /// # Errors
    /// rustls finds the configuration to be of no use.
    pub fn connect(&self, name: Option<&str>) -> Result<(ClientConnection, Box<str>), rustls::Error> {
        let name = name.unwrap_or(&self.sni);
        match DnsName::try_from(name.to_owned()) {
            Ok(dns_name) => {
                let client = ClientConnection::new(self.with_name.clone(), ServerName::DnsName(dns_name))?;
                Ok((client, name.into()))
            }
            Err(_) => {
                let nobody =
                    DnsName::try_from_str(NAMELESS).map_err(|_| rustls::Error::UnsupportedNameType)?;
                let client = ClientConnection::new(self.nameless.clone(), ServerName::DnsName(nobody))?;
                Ok((client, "".into()))
            }
        }
    }
}
