//! Filters: what sits between a connection and the upstream.
//!
//! Mirrors Envoy's `source/extensions/filters/` and the connection manager of `source/common/http/`.

pub mod http;
pub mod network;
