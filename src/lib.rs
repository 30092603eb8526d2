//! legate: a service proxy on libevent, built the way Envoy (istio 1.1) is built inside.
//!
//! One floor per layer; imports point down only. `docs/map.md` leads from Envoy's classes to the rooms.
#![deny(unsafe_code)]
#![warn(missing_docs)]

// The ground: nothing here knows that a proxy exists.
pub mod buffer;
pub mod common;
pub mod config;
pub mod event;
#[macro_use]
pub mod logger;
pub mod stats;
pub mod thread_local;
pub mod trace;

pub mod init;
pub mod runtime;

pub mod network;

pub mod http;

pub mod upstream;

pub mod conn_pool;

pub mod cluster_manager;

pub mod router;

pub mod stream_info;

pub mod formatter;

pub mod access_log;
pub mod filters;

pub mod server;
