//! TLS among the extensions. Mirrors `ServerSslSocketFactory` of Envoy's
//! `source/common/tls/server_ssl_socket.cc` and `ClientSslSocketFactory` of its `source/common/tls/client_ssl_socket.cc`.

use std::sync::Arc;

use super::client_context::ClientContextImpl;
use super::config::{DownstreamTlsContext, UpstreamTlsContext};
use super::context::ContextCertificates;
use super::server_context::ServerContextImpl;
use super::ssl_socket::SslSocket;
use super::stats::SslSocketFactoryStats;
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::network::{
    TransportSocket, TransportSocketConfig, TransportSocketConfigFactory, TransportSocketFactory,
    TransportSocketFactoryContext, TransportSocketFor,
};

/// TLS of connections that were accepted.
pub static DOWNSTREAM_TLS: TransportSocketConfigFactory = TransportSocketConfigFactory::new(
    "envoy.transport_sockets.tls",
    &["envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"],
    |r| Ok(Arc::new(DownstreamTlsContext::read(r)?)),
);

/// TLS of connections to hosts.
pub static UPSTREAM_TLS: TransportSocketConfigFactory = TransportSocketConfigFactory::new(
    "envoy.transport_sockets.tls",
    &["envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"],
    |r| Ok(Arc::new(UpstreamTlsContext::read(r)?)),
);

impl TransportSocketConfig for DownstreamTlsContext {
    fn create_transport_socket_factory(
        &self,
        context: &TransportSocketFactoryContext<'_>,
    ) -> Result<Box<dyn TransportSocketFactory>, ConfigError> {
        let stats = SslSocketFactoryStats::new(&context.scope.create_scope("server_ssl_socket_factory."));
        let context = Arc::new(ServerContextImpl::new(self, context.scope)?);
        Ok(Box::new(ServerSslSocketFactory { context, _stats: stats }))
    }
}

impl TransportSocketConfig for UpstreamTlsContext {
    fn create_transport_socket_factory(
        &self,
        context: &TransportSocketFactoryContext<'_>,
    ) -> Result<Box<dyn TransportSocketFactory>, ConfigError> {
        let stats = SslSocketFactoryStats::new(&context.scope.create_scope("client_ssl_socket_factory."));
        let context = Arc::new(ClientContextImpl::new(self, context.scope)?);
        Ok(Box::new(ClientSslSocketFactory { context, _stats: stats }))
    }
}

struct ServerSslSocketFactory {
    context: Arc<ServerContextImpl>,
    _stats: SslSocketFactoryStats,
}

impl TransportSocketFactory for ServerSslSocketFactory {
    fn implements_secure_transport(&self) -> bool {
        true
    }

    fn certificates(&self) -> Option<ContextCertificates> {
        let locals = self.context.certificates().cloned().collect();
        Some(ContextCertificates::new(self.context.validator(), locals))
    }

    fn create_transport_socket(&self, _connection: TransportSocketFor<'_>) -> Box<dyn TransportSocket> {
        Box::new(SslSocket::server(self.context.clone()))
    }
}

struct ClientSslSocketFactory {
    context: Arc<ClientContextImpl>,
    _stats: SslSocketFactoryStats,
}

impl TransportSocketFactory for ClientSslSocketFactory {
    fn implements_secure_transport(&self) -> bool {
        true
    }

    fn certificates(&self) -> Option<ContextCertificates> {
        let locals = self.context.local().cloned().into_iter().collect();
        Some(ContextCertificates::new(self.context.validator(), locals))
    }

    fn create_transport_socket(&self, connection: TransportSocketFor<'_>) -> Box<dyn TransportSocket> {
        let wanted = connection.options.and_then(|options| options.server_name_override.as_deref());
        let of_host = Some(connection.hostname).filter(|name| self.context.auto_host_sni && !name.is_empty());
        let name = wanted.or(of_host);
        Box::new(SslSocket::client(self.context.clone(), name))
    }
}
