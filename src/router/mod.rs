//! The route table: which route a request takes.
//!
//! Mirrors Envoy's `source/common/router/config_impl.cc`. A configuration is immutable once it is
//! built, is shared by all workers, and is taken once per stream as a snapshot.

mod config;
mod per_filter_config;
mod route;
mod route_config_provider;
mod snapshot;
mod virtual_host;

pub use config::ConfigImpl;
pub use per_filter_config::{RouteSpecificFilterConfig, RouteSpecificFilterConfigFactory};
pub use route::{DirectResponseEntry, RouteEntry, RouteImpl};
pub use route_config_provider::{
    RouteConfigProvider, RouteConfigProviderFactory, RouteConfigUpdate, static_provider,
};
pub use snapshot::{Route, RouteConstSharedPtr, RouteTable};
pub use virtual_host::VirtualHostImpl;
