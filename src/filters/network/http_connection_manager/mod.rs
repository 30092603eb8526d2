//! The HTTP connection manager: turns a downstream connection into streams and runs their filters.
//!
//! Mirrors Envoy's `source/common/http/conn_manager_impl.cc`, `conn_manager_utility.cc` and
//! `source/extensions/filters/network/http_connection_manager/config.cc`.

mod active_stream;
mod config;
mod conn_manager;
mod header_mutation;
mod stats;
#[cfg(test)]
mod tests;

pub use active_stream::ActiveStream;
pub use config::ConnectionManagerConfig;
pub use conn_manager::ConnectionManagerImpl;
pub use stats::{ConnectionManagerListenerStats, ConnectionManagerStats};
