//! TLS, by rustls.
//!
//! Mirrors Envoy's `source/common/tls/` (in 1.1 `source/extensions/transport_sockets/tls/`). A listener's filter chain or a
//! cluster has a context, made when the configuration is read; each connection has an [`SslSocket`], which is a
//! [`super::TransportSocket`] and thus driven by the connection's events.

mod cert_validator;
pub mod certificate;
mod client_context;
pub mod client_hello;
pub mod config;
mod connection_info;
mod context;
mod errors;
mod factory;
mod names;
mod server_context;
mod ssl_socket;
mod stats;
mod tickets;
mod verifier;

pub use context::ContextCertificates;
pub use factory::{DOWNSTREAM_TLS, UPSTREAM_TLS};
pub use ssl_socket::SslSocket;
