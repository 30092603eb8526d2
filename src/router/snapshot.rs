//! A route table as one worker has it, and the routes that its streams have of it.
//!
//! In Envoy each stream shares the table and the route with all threads. Here a route is shared by the streams of a worker,
//! which makes it when the first of them takes it, so that the count of who has it is the worker's own.

use std::cell::OnceCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::{ConfigImpl, RouteImpl, VirtualHostImpl};
use crate::http::HeaderMap;
use crate::stream_info;

/// A worker's handle to a table that all workers share.
#[derive(Clone)]
pub struct RouteTable(Rc<OnWorker>);

struct OnWorker {
    config: Arc<ConfigImpl>,
    /// By the places of virtual hosts and routes; those that were taken.
    taken: Box<[Box<[OnceCell<RouteConstSharedPtr>]>]>,
}

impl RouteTable {
    /// A handle for the calling worker.
    pub fn new(config: Arc<ConfigImpl>) -> Self {
        let none = |host: &VirtualHostImpl| host.routes().iter().map(|_| OnceCell::new()).collect();
        let taken = config.virtual_hosts().iter().map(none).collect();
        RouteTable(Rc::new(OnWorker { config, taken }))
    }

    /// The route that a request takes.
    pub fn route(&self, headers: &HeaderMap) -> Option<RouteConstSharedPtr> {
        let config = &self.0.config;
        let (virtual_host, route) = config.find_route(headers)?;
        let taken = self.0.taken[virtual_host][route].get_or_init(|| {
            let config = config.clone();
            Rc::new(Route { config, virtual_host: virtual_host as u32, route: route as u32 })
        });
        Some(taken.clone())
    }
}

/// A route that a stream has, for as long as it wants.
pub type RouteConstSharedPtr = Rc<Route>;

/// A route, with the table that it is in.
pub struct Route {
    config: Arc<ConfigImpl>,
    virtual_host: u32,
    route: u32,
}

impl Route {
    /// The virtual host that the route is of.
    #[inline]
    pub fn virtual_host(&self) -> &VirtualHostImpl {
        &self.config.virtual_hosts()[self.virtual_host as usize]
    }
}

impl Deref for Route {
    type Target = RouteImpl;

    #[inline]
    fn deref(&self) -> &RouteImpl {
        &self.virtual_host().routes()[self.route as usize]
    }
}

impl stream_info::Route for Route {
    fn route_name(&self) -> &str {
        self.name()
    }

    fn virtual_host_name(&self) -> &str {
        self.virtual_host().name()
    }
}
