//! The TLS inspector: whether a connection begins with TLS, which name it asks for and which protocols it offers.
//!
//! Mirrors Envoy's `source/extensions/filters/listener/tls_inspector/tls_inspector.cc`. Where Envoy has BoringSSL read the hello,
//! it is read here; fingerprints (JA3, JA4) are not made.

use std::sync::Arc;

use super::peeking::{Decide, Decision, Peeking};
use super::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
use crate::common::Local;
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::envoy_log;
use crate::filters::FactoryContext;
use crate::network::tls::client_hello::{ClientHello, Parsed, parse};
use crate::network::{ConnectionSocket, ListenerFilterFactory, ListenerFilterFactoryCb};
use crate::{message, stats_struct};

/// The TLS inspector among the extensions.
pub static FACTORY: NamedListenerFilterConfigFactory = NamedListenerFilterConfigFactory::new(
    "envoy.filters.listener.tls_inspector",
    &["envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"],
    |r| Ok(Arc::new(TlsInspector::read(r)?)),
);

message! {
    /// How a hello is looked at.
    #[derive(Eq)]
    pub struct TlsInspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" {
        /// Bytes that are looked at, at first; it makes no difference here.
        pub initial_read_buffer_size: Option<u32>,
        /// Bytes that a hello may have, default 16 KiB.
        pub max_client_hello_size: Option<u32>,
        /// Whether a connection is closed whose hello cannot be understood.
        pub close_connection_on_client_hello_parsing_errors: bool,
    }
}

stats_struct! {
    /// What was found, `tls_inspector.`
    pub struct TlsInspectorStats {
        counters: [
            alpn_found,
            alpn_not_found,
            client_hello_too_large,
            sni_found,
            sni_not_found,
            tls_found,
            tls_not_found,
        ],
        gauges: [],
        histograms: [bytes_processed: Unspecified],
    }
}

/// The header of a record: by that many bytes is decided whether it is TLS.
const RECORD_HEADER: usize = 5;
const DEFAULT_MAX_HELLO: u32 = 16 * 1024;

impl ListenerFilterConfig for TlsInspector {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError> {
        let scope = context.server.stats.root_scope().create_scope("tls_inspector.");
        Ok(Box::new(TlsInspectorFactory(Arc::new(Shared {
            stats: TlsInspectorStats::new(&scope),
            max_client_hello_size: self.max_client_hello_size.unwrap_or(DEFAULT_MAX_HELLO) as usize,
            closes_on_errors: self.close_connection_on_client_hello_parsing_errors,
        }))))
    }
}

struct Shared {
    stats: TlsInspectorStats,
    max_client_hello_size: usize,
    closes_on_errors: bool,
}

struct TlsInspectorFactory(Arc<Shared>);

impl ListenerFilterFactory for TlsInspectorFactory {
    fn on_worker(&self) -> ListenerFilterFactoryCb {
        let shared = Local::new(self.0.clone());
        Box::new(move || Peeking::filter(Inspector(shared.clone())))
    }
}

/// Of one socket.
struct Inspector(Local<Shared>);

impl Inspector {
    fn found(&self, hello: ClientHello, socket: &ConnectionSocket) {
        let stats = &self.0.stats;
        let info = socket.connection_info();
        stats.tls_found.inc();
        info.set_detected_transport_protocol("tls");
        if hello.alpn.is_empty() {
            stats.alpn_not_found.inc();
        } else {
            stats.alpn_found.inc();
            info.set_requested_application_protocols(hello.alpn);
        }
        if hello.server_name.is_empty() {
            stats.sni_not_found.inc();
        } else {
            stats.sni_found.inc();
            envoy_log!(Filter, debug, "tls:onServerName(), requestedServerName: {}", hello.server_name);
            info.set_requested_server_name(&hello.server_name);
        }
    }
}

impl Decide for Inspector {
    fn most(&self) -> usize {
        self.0.max_client_hello_size
    }

    fn decide(&self, bytes: &[u8], socket: &ConnectionSocket) -> Decision {
        let stats = &self.0.stats;
        if bytes.len() < RECORD_HEADER {
            return Decision::Wait;
        }
        envoy_log!(Filter, trace, "tls inspector: recv: {}", bytes.len());
        let decision = match parse(bytes) {
            Parsed::Incomplete if bytes.len() < self.most() => return Decision::Wait,
            Parsed::Incomplete => {
                stats.client_hello_too_large.inc();
                Decision::Close
            }
            Parsed::Hello(hello) => {
                self.found(hello, socket);
                Decision::Continue
            }
            Parsed::Invalid => {
                stats.tls_not_found.inc();
                let is_tls = bytes.starts_with(&[22, 3]);
                if is_tls && self.0.closes_on_errors { Decision::Close } else { Decision::Continue }
            }
        };
        stats.bytes_processed.record(bytes.len() as u64);
        envoy_log!(Filter, trace, "tls inspector: done: {}", decision == Decision::Continue);
        decision
    }
}
