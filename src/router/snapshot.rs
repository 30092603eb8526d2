//! A route table as one worker has it, and the routes that its streams have of it.
//!
//! In Envoy each stream shares the table and the route with all threads. Here the count of who has them is the worker's own,
//! and a stream that has a route has the table, too.

use std::ops::Deref;
use std::sync::Arc;

use super::{ConfigImpl, RouteImpl};
use crate::common::Local;
use crate::http::HeaderMap;

/// A worker's handle to a table that all workers share.
#[derive(Clone)]
pub struct RouteTable(Local<ConfigImpl>);

impl RouteTable {
    /// A handle for the calling worker.
    pub fn new(table: Arc<ConfigImpl>) -> Self {
        RouteTable(Local::new(table))
    }

    /// The route that a request takes.
    pub fn route(&self, headers: &HeaderMap) -> Option<RouteConstSharedPtr> {
        let (virtual_host, route) = self.0.find_route(headers)?;
        Some(RouteConstSharedPtr {
            table: self.clone(),
            virtual_host: virtual_host as u32,
            route: route as u32,
        })
    }
}

/// A route that a stream has, for as long as it wants.
#[derive(Clone)]
pub struct RouteConstSharedPtr {
    table: RouteTable,
    virtual_host: u32,
    route: u32,
}

impl Deref for RouteConstSharedPtr {
    type Target = RouteImpl;

    #[inline]
    fn deref(&self) -> &RouteImpl {
        &self.table.0.virtual_hosts()[self.virtual_host as usize].routes()[self.route as usize]
    }
}
