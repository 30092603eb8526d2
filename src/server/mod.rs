//! The server: the main thread, its workers, and what they listen on.
//!
//! Mirrors Envoy's `source/server/` and `source/exe/main_common.cc`.

mod active_socket;
pub mod admin;
mod cluster_services;
mod config_dump;
#[cfg(test)]
mod config_tests;
mod config_validation;
mod connection_handler;
mod demo;
mod drain_manager;
mod filter_chain_manager;
mod guard_dog;
mod listener_config;
mod listener_manager;
mod main_common;
mod open_connection;
pub mod options;
#[allow(clippy::module_inception)]
mod server;
mod server_stats;
mod version;
mod worker;

pub use main_common::{main_common, main_with_extensions};
