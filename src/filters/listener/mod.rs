//! Listener filters.

mod factory;

pub use factory::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
