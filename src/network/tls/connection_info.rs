//! What is known of the TLS of a connection, once the handshake is done. Mirrors `ConnectionInfoImplBase` of Envoy's
//! `source/common/tls/connection_info_impl_base.cc`: certificates are taken apart when somebody asks.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind};

use super::cert_validator::DefaultCertValidator;
use super::certificate::Certificate;
use super::context::LocalCertificate;
use super::names;
use crate::network::SslConnectionInfo;

/// What both ends have agreed upon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Negotiated {
    /// The version.
    pub version: &'static str,
    /// The cipher.
    pub cipher: &'static str,
    /// The group; empty where a session went on without one.
    pub group: &'static str,
    /// How the peer has signed, if it did.
    pub peer_signature: Option<&'static str>,
    /// Whether an earlier session goes on.
    pub resumed: bool,
}

impl Negotiated {
    /// What the state says after the handshake.
    pub fn of(state: &CommonState, peer_signature: Option<rustls::SignatureScheme>) -> Self {
        Negotiated {
            version: state.protocol_version().map_or("", names::version),
            cipher: state.negotiated_cipher_suite().map_or("", |suite| names::cipher(suite.suite())),
            group: state.negotiated_key_exchange_group().map_or("", |group| names::group(group.name())),
            peer_signature: peer_signature.map(names::scheme),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// See the module's description.
pub struct ConnectionInfoImpl {
    negotiated: Negotiated,
    sni: Box<str>,
    peer_chain: Box<[CertificateDer<'static>]>,
    local: Option<Arc<LocalCertificate>>,
    validator: Arc<DefaultCertValidator>,
    peer: OnceCell<Option<Certificate>>,
}

impl ConnectionInfoImpl {
    /// Takes what is known over.
    pub fn new(
        negotiated: Negotiated,
        sni: &str,
        peer_chain: &[CertificateDer<'_>],
        local: Option<Arc<LocalCertificate>>,
        validator: Arc<DefaultCertValidator>,
    ) -> Self {
        ConnectionInfoImpl {
            negotiated,
            sni: sni.into(),
            peer_chain: peer_chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            local,
            validator,
            peer: OnceCell::new(),
        }
    }
}

impl SslConnectionInfo for ConnectionInfoImpl {
    fn peer(&self) -> Option<&Certificate> {
        self.peer.get_or_init(|| self.peer_chain.first().and_then(Certificate::parse)).as_ref()
    }

    fn local(&self) -> Option<&Certificate> {
        self.local.as_ref().map(|local| &local.parsed)
    }

    fn peer_chain(&self) -> &[CertificateDer<'static>] {
        &self.peer_chain
    }

    fn issuer(&self) -> Option<Cow<'_, CertificateDer<'static>>> {
        let wanted = &self.peer()?.issuer;
        let shown = self.peer_chain.iter().skip(1);
        let is_issuer = |certificate: &&CertificateDer<'_>| {
            Certificate::parse(certificate).is_some_and(|parsed| parsed.subject == *wanted)
        };
        shown.chain(self.validator.trusted()).find(is_issuer).map(Cow::Borrowed)
    }

    fn tls_version(&self) -> &'static str {
        self.negotiated.version
    }

    fn ciphersuite_string(&self) -> &'static str {
        self.negotiated.cipher
    }

    fn tls_group(&self) -> &'static str {
        self.negotiated.group
    }

    fn sni(&self) -> &str {
        &self.sni
    }
}
