//! Filters: what sits between a connection and the upstream.
//!
//! Mirrors Envoy's `source/extensions/filters/` and the connection manager of `source/common/http/`.

pub mod compression;
mod factory_context;
pub mod http;
pub mod listener;
pub mod network;
mod registry;

pub use factory_context::{FactoryContext, ServerFactoryContext};
pub use registry::{LINKED, Registry};
