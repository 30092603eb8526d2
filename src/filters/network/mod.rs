//! Network filters.

mod factory;
pub mod http_connection_manager;
pub mod tcp_proxy;

pub use factory::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
