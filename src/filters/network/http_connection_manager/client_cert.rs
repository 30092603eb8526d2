//! `x-forwarded-client-cert`: what the upstream is told of the client's certificate.
//!
//! Mirrors `ConnectionManagerUtility::mutateXfccRequestHeader` of Envoy's `source/common/http/conn_manager_utility.cc`; as
//! in 1.40 every URI of a certificate is told, not only the first.

use super::message::{ClientCertDetails, ForwardClientCertDetails};
use crate::http::{HeaderId, HeaderMap};
use crate::network::SslConnectionInfo;
use crate::network::tls::config::SanType;

/// What is done with the header, and what is told.
#[derive(Debug, Default)]
pub(super) struct ClientCert {
    /// What becomes of it.
    pub(super) forward: ForwardClientCertDetails,
    /// What is told.
    pub(super) details: ClientCertDetails,
}

impl ClientCert {
    /// Does it, for a request of a connection that has this TLS.
    pub(super) fn mutate(&self, headers: &mut HeaderMap, ssl: Option<&dyn SslConnectionInfo>) {
        use ForwardClientCertDetails as Forward;
        if self.forward == Forward::AlwaysForwardOnly {
            return;
        }
        // What a client without a certificate says is not to be believed.
        let Some(ssl) = ssl.filter(|ssl| ssl.peer_certificate_presented()) else {
            return headers.remove(HeaderId::ForwardedClientCert);
        };
        match self.forward {
            Forward::Sanitize => headers.remove(HeaderId::ForwardedClientCert),
            Forward::ForwardOnly | Forward::AlwaysForwardOnly => {}
            Forward::SanitizeSet => {
                headers.set(HeaderId::ForwardedClientCert, self.element(ssl).as_bytes());
            }
            Forward::AppendForward => {
                let before = headers.get(HeaderId::ForwardedClientCert).unwrap_or_default();
                let mut all = before.to_vec();
                if !all.is_empty() {
                    all.push(b',');
                }
                all.extend_from_slice(self.element(ssl).as_bytes());
                headers.set(HeaderId::ForwardedClientCert, &all);
            }
        }
    }

    fn element(&self, ssl: &dyn SslConnectionInfo) -> String {
        let mut parts: Vec<String> =
            ssl.local_sans(SanType::Uri).iter().map(|uri| format!("By={uri}")).collect();
        let digest = ssl.sha256_peer_certificate_digest();
        if !digest.is_empty() {
            parts.push(format!("Hash={digest}"));
        }
        if self.details.cert {
            parts.push(format!("Cert=\"{}\"", ssl.url_encoded_pem_encoded_peer_certificate()));
        }
        if self.details.chain {
            parts.push(format!("Chain=\"{}\"", ssl.url_encoded_pem_encoded_peer_certificate_chain()));
        }
        if self.details.subject == Some(true) {
            // The quotes are always there, as a subject may have commas.
            parts.push(format!("Subject=\"{}\"", ssl.subject_peer_certificate()));
        }
        if self.details.issuer {
            parts.push(format!("Issuer=\"{}\"", ssl.issuer_peer_certificate()));
        }
        if self.details.uri {
            parts.extend(ssl.peer_sans(SanType::Uri).iter().map(|uri| format!("URI={uri}")));
        }
        if self.details.dns {
            parts.extend(ssl.peer_sans(SanType::Dns).iter().map(|name| format!("DNS={name}")));
        }
        parts.join(";")
    }
}
