//! Network filters.

pub mod connection_limit;
pub mod direct_response;
pub mod echo;
mod factory;
pub mod http_connection_manager;
pub mod local_ratelimit;
pub mod tcp_proxy;

pub use factory::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
