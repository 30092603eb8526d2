//! Listener filters.

mod factory;
pub mod http_inspector;
pub mod original_dst;
mod peeking;
pub mod proxy_protocol;
pub mod tls_inspector;

pub use factory::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
