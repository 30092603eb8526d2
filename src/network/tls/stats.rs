//! Statistics of a context. Mirrors `SslStats` of Envoy's `source/common/tls/stats.h`.
//!
//! What is named after a cipher, a group, a version or a signature is made when it is first counted, as in Envoy.

use super::connection_info::Negotiated;
use crate::stats::Scope;
use crate::stats_struct;

stats_struct! {
    /// What happened to the handshakes of a context.
    pub struct SslStats {
        counters: [
            connection_error,
            fail_verify_cert_hash,
            fail_verify_error,
            fail_verify_no_cert,
            fail_verify_san,
            handshake,
            no_certificate,
            ocsp_staple_failed,
            ocsp_staple_omitted,
            ocsp_staple_requests,
            ocsp_staple_responses,
            session_reused,
        ],
        gauges: [],
        histograms: [],
    }
}

/// The statistics of a context, and where more are made.
pub struct ContextStats {
    /// Those that are always there.
    pub ssl: SslStats,
    scope: Scope,
}

impl std::ops::Deref for ContextStats {
    type Target = SslStats;
    fn deref(&self) -> &SslStats {
        &self.ssl
    }
}

impl ContextStats {
    /// Makes them in the scope of a listener or of a cluster.
    pub fn new(scope: &Scope) -> Self {
        let scope = scope.create_scope("ssl.");
        ContextStats { ssl: SslStats::new(&scope), scope }
    }

    /// Counts a handshake that is done (Envoy: `logHandshake`).
    pub fn log_handshake(&self, negotiated: &Negotiated, has_peer_certificate: bool) {
        self.handshake.inc();
        if negotiated.resumed {
            self.session_reused.inc();
        }
        self.count("ciphers.", negotiated.cipher);
        self.count("versions.", negotiated.version);
        self.count("curves.", negotiated.group);
        if let Some(scheme) = negotiated.peer_signature.filter(|_| has_peer_certificate) {
            self.count("sigalgs.", scheme);
        }
        if !has_peer_certificate {
            self.no_certificate.inc();
        }
    }

    fn count(&self, group: &str, name: &str) {
        if !name.is_empty() {
            self.scope.counter(&format!("{group}{name}")).inc();
        }
    }

    /// Shows until when a certificate is valid.
    pub fn show_expiration(&self, name: &str, seconds: i64) {
        let gauge = self.scope.gauge(&format!("certificate.{name}.expiration_unix_time_seconds"));
        gauge.set(u64::try_from(seconds).unwrap_or(0));
    }
}

stats_struct! {
    /// What a factory of secure transports counts, which waits for secrets.
    pub struct SslSocketFactoryStats {
        counters: [
            downstream_context_secrets_not_ready,
            ssl_context_update_by_sds,
            upstream_context_secrets_not_ready,
        ],
        gauges: [],
        histograms: [],
    }
}
