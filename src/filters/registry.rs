//! The extensions that are linked in, each named once.
//!
//! Mirrors Envoy's `include/envoy/registry/registry.h`, whose map is filled by a static object in each library that
//! its build has linked. Here the list is all there is: documents are read with it, and the start-up log and
//! `/server_info` are made from it.

use super::http::{self, NamedHttpFilterConfigFactory};
use super::network::{self, NamedNetworkFilterConfigFactory};
use crate::config::extension::{Category, Extensions, TypedFactory};

/// All that legate has.
pub static LINKED: Registry = Registry {
    http_filters: &[&http::router::FACTORY],
    network_filters: &[&network::http_connection_manager::FACTORY],
};

/// Extensions by what they are for.
#[derive(Clone, Copy)]
pub struct Registry {
    /// Filters on the streams of a connection manager.
    pub http_filters: &'static [&'static NamedHttpFilterConfigFactory],
    /// Filters on connections.
    pub network_filters: &'static [&'static NamedNetworkFilterConfigFactory],
}

impl Extensions for Registry {
    fn factories(&self, category: Category) -> Vec<&'static dyn TypedFactory> {
        match category {
            Category::HttpFilters => upcast(self.http_filters),
            Category::NetworkFilters => upcast(self.network_filters),
        }
    }
}

fn upcast<F: TypedFactory>(factories: &'static [&'static F]) -> Vec<&'static dyn TypedFactory> {
    factories.iter().map(|factory| *factory as &dyn TypedFactory).collect()
}
