//! The HTTP inspector: whether a connection without TLS begins with HTTP, and which.
//!
//! Mirrors Envoy 1.40's `source/extensions/filters/listener/http_inspector/http_inspector.cc`; 1.1 has none.

use std::sync::Arc;

use super::peeking::{Decide, Decision, Peeking};
use super::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
use crate::common::Local;
use crate::config::ConfigError;
use crate::envoy_log;
use crate::filters::FactoryContext;
use crate::network::{ConnectionSocket, ListenerFilterFactory, ListenerFilterFactoryCb};
use crate::stats_struct;

/// The HTTP inspector among the extensions.
pub static FACTORY: NamedListenerFilterConfigFactory = NamedListenerFilterConfigFactory::new(
    "envoy.filters.listener.http_inspector",
    &["envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"],
    |_| Ok(Arc::new(HttpInspector)),
);

/// There is nothing to be said of it.
#[derive(Debug)]
struct HttpInspector;

stats_struct! {
    /// What was found, `http_inspector.`
    pub struct HttpInspectorStats {
        counters: [http10_found, http11_found, http2_found, http_not_found, read_error],
        gauges: [],
        histograms: [],
    }
}

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A first line may be that long.
const MOST: usize = 64 * 1024;

impl ListenerFilterConfig for HttpInspector {
    fn create_filter_factory(
        &self,
        context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError> {
        let scope = context.server.stats.root_scope().create_scope("http_inspector.");
        Ok(Box::new(HttpInspectorFactory(Arc::new(HttpInspectorStats::new(&scope)))))
    }
}

struct HttpInspectorFactory(Arc<HttpInspectorStats>);

impl ListenerFilterFactory for HttpInspectorFactory {
    fn on_worker(&self) -> ListenerFilterFactoryCb {
        let stats = Local::new(self.0.clone());
        Box::new(move || Peeking::filter(Inspector(stats.clone())))
    }
}

/// Of one socket.
struct Inspector(Local<HttpInspectorStats>);

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    NoHttp,
    Http10,
    Http11,
    Http2,
}

fn inspect(bytes: &[u8]) -> Found {
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] == PREFACE[..seen] {
        return if seen == PREFACE.len() { Found::Http2 } else { Found::Nothing };
    }
    // A line end may come first.
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some(start) = start else { return Found::Nothing };
    let line = &bytes[start..];
    let end = line.iter().position(|byte| *byte == b'\n');
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    match line.get(method) {
        None => return if end.is_some() { Found::NoHttp } else { Found::Nothing },
        Some(b' ') if method > 0 => {}
        Some(_) => return Found::NoHttp,
    }
    let Some(end) = end else { return Found::Nothing };
    let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
    match line.rsplitn(2, |byte| *byte == b' ').next() {
        Some(b"HTTP/1.1") => Found::Http11,
        // As Envoy's parser has it, what is not 1.1 is 1.0.
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) if is_digit(major) && is_digit(minor) => {
            Found::Http10
        }
        _ => Found::NoHttp,
    }
}

fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_digit()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Decide for Inspector {
    fn most(&self) -> usize {
        MOST
    }

    fn decide(&self, bytes: &[u8], socket: &ConnectionSocket) -> Decision {
        let info = socket.connection_info();
        let protocol = info.detected_transport_protocol();
        if !(protocol.is_empty() || protocol == "raw_buffer") {
            return Decision::Continue;
        }
        let stats = &self.0;
        let (counter, protocol) = match inspect(bytes) {
            Found::Nothing if bytes.len() < MOST => return Decision::Wait,
            Found::Nothing | Found::NoHttp => (&stats.http_not_found, None),
            Found::Http10 => (&stats.http10_found, Some("http/1.0")),
            Found::Http11 => (&stats.http11_found, Some("http/1.1")),
            Found::Http2 => (&stats.http2_found, Some("h2c")),
        };
        counter.inc();
        if let Some(protocol) = protocol {
            envoy_log!(Filter, debug, "http inspector: set application protocol to {}", protocol);
            info.set_requested_application_protocols(vec![protocol.as_bytes().to_vec()]);
        }
        Decision::Continue
    }

    fn on_end(&self) {
        self.0.read_error.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (bytes, found) in [
            (&b"GET / HTTP/1.1\r\n"[..], Found::Http11),
            (b"\r\nFOO /a%20b HTTP/1.0\n", Found::Http10),
            (b"GET / HTTP/1.1", Found::Nothing),
            (b"GE", Found::Nothing),
            (b"GET /\r\n", Found::NoHttp),
            (b"\x16\x03\x01", Found::NoHttp),
            (b"GET\r\n", Found::NoHttp),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Found::Http2),
            (b"PRI * HT", Found::Nothing),
        ] {
            assert_eq!(inspect(bytes), found, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
