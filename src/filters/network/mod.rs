//! Network filters.

mod factory;
pub mod http_connection_manager;

pub use factory::{NamedNetworkFilterConfigFactory, NetworkFilterConfig};
