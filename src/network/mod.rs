//! Connections: sockets, transport sockets, network filters, accepting.
//!
//! Mirrors Envoy's `source/common/network/`. A connection knows nothing of HTTP: bytes go up through
//! [`ReadFilter::on_data`] and come down through [`ConnectionImpl::write`].

mod address;
mod cidr_range;
mod client_connection;
mod connection;
mod connection_info;
mod connection_types;
mod dns;
mod drain_decision;
mod filter;
mod filter_manager;
mod happy_eyeballs;
mod listener;
mod listener_filter;
pub mod proxy_protocol_header;
mod raw_buffer_socket;
mod socket;
mod ssl;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport_socket;

pub use address::Address;
pub use cidr_range::CidrRange;
pub use client_connection::{ClientConnectionImpl, SocketSettings};
#[doc(hidden)]
pub use client_connection::{Connector, set_connector};
pub use connection::ConnectionImpl;
pub use connection_info::ConnectionInfoProvider;
pub use connection_types::{
    ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionState, ConnectionStats,
};
#[doc(hidden)]
pub use dns::parse_dns_answer;
pub use dns::{
    ActiveDnsQuery, CARES, DnsResolver, DnsResolverConfig, DnsResolverFactory, DnsResolverImpl, DnsResponse,
    ResolutionStatus, ResolveCb, ResolverOptions, create_dns_resolver,
};
pub use drain_decision::DrainDecision;
pub use filter::{
    FilterStatus, NetworkFilterFactory, NetworkFilterFactoryCb, ReadFilter, ReadFilterCallbacks, WriteFilter,
};
pub use filter_manager::FilterManagerImpl;
pub use happy_eyeballs::sort_addresses;
pub use listener::{ListenerCallbacks, ListenerImpl};
pub use listener_filter::{
    ListenerFilter, ListenerFilterCallbacks, ListenerFilterFactory, ListenerFilterFactoryCb,
};
pub use raw_buffer_socket::{RAW_BUFFER, RawBufferSocket, RawBufferSocketFactory};
pub use socket::{ConnectionSocket, ConnectionSocketOption, ListenOptions, ListenSocket};
pub use ssl::SslConnectionInfo;
pub use transport_socket::{
    IoResult, PostIoAction, TransportSocket, TransportSocketCallbacks, TransportSocketConfig,
    TransportSocketConfigFactory, TransportSocketFactory, TransportSocketFactoryContext, TransportSocketFor,
    TransportSocketOptions,
};
