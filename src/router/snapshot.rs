//! A route table as one worker has it, and the routes that its streams have of it.
//!
//! In Envoy each stream shares the table and the route with all threads. Here a route is shared by the streams of a worker,
//! which makes it when the first of them takes it, so that the count of who has it is the worker's own.

use std::any::Any;
use std::cell::OnceCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::cluster_specifier::WeightedCluster;
use super::per_filter_config::PerFilterConfigs;
use super::rewrite::{rewrite_path, rewritten_host, update_authority};
use super::virtual_host::Found;
use super::{ConfigImpl, RetryPolicyImpl, RouteImpl, RouteRequest, VirtualHostImpl};
use crate::common::Local;
use crate::config::route::{HostRewrite, PathRewrite};
use crate::http::{HeaderId, HeaderMap};
use crate::stream_info::{self, StreamInfoImpl};
use crate::upstream::ClusterName;
use crate::upstream::load_balancer::MetadataMatchCriterion;

/// A worker's handle to a table that all workers share.
#[derive(Clone)]
pub struct RouteTable(Rc<OnWorker>);

struct OnWorker {
    config: Arc<ConfigImpl>,
    /// By the places of virtual hosts and routes; those that were taken.
    taken: Box<[Taken]>,
}

struct Taken {
    routes: Box<[OnceCell<RouteConstSharedPtr>]>,
    ssl_redirect: OnceCell<RouteConstSharedPtr>,
}

impl RouteTable {
    /// A handle for the calling worker.
    pub fn new(config: Arc<ConfigImpl>) -> Self {
        let none = |host: &Arc<VirtualHostImpl>| Taken {
            routes: host.routes().iter().map(|_| OnceCell::new()).collect(),
            ssl_redirect: OnceCell::new(),
        };
        let taken = config.virtual_hosts().iter().map(none).collect();
        RouteTable(Rc::new(OnWorker { config, taken }))
    }

    /// Whether streams of some of its routes are made without some filters.
    pub fn disables_filters(&self) -> bool {
        self.0.config.disables_filters()
    }

    /// The table.
    #[inline]
    pub fn config(&self) -> &ConfigImpl {
        &self.0.config
    }

    /// The route that a request takes.
    pub fn route(&self, request: &RouteRequest<'_>) -> Option<RouteConstSharedPtr> {
        let config = &self.0.config;
        let (virtual_host, found) = config.find_route(request)?;
        let taken = &self.0.taken[virtual_host];
        let host = &config.virtual_hosts()[virtual_host];
        let make = |route: &Arc<RouteImpl>| {
            Rc::new(Route::new(&Local::new(host.clone()), &Local::new(route.clone())))
        };
        Some(match found {
            Found::Route(place) => {
                let route = taken.routes[place].get_or_init(|| make(&host.routes()[place]));
                route.cluster_entry(request).unwrap_or_else(|| route.clone())
            }
            Found::SslRedirect => taken.ssl_redirect.get_or_init(|| make(config.ssl_redirect())).clone(),
        })
    }
}

/// A route that a stream has, for as long as it wants.
pub type RouteConstSharedPtr = Rc<Route>;

/// A route, with the virtual host that it is of. Where it leads to one of several clusters this is the route to one of them.
pub struct Route {
    virtual_host: Local<VirtualHostImpl>,
    route: Local<RouteImpl>,
    weighted: Option<u32>,
    /// The cluster's name as the request had it.
    named: Option<ClusterName>,
    /// The routes to each of several clusters, those that were taken.
    entries: OnceCell<Box<[OnceCell<RouteConstSharedPtr>]>>,
}

impl Route {
    /// The route of a request of the proxy's own.
    pub fn to_cluster(
        name: &ClusterName,
        timeout: Duration,
        retry_policy: Option<Arc<RetryPolicyImpl>>,
    ) -> Self {
        let route = RouteImpl::to_cluster(name, timeout, retry_policy);
        let host = Arc::new(VirtualHostImpl::of_route(route));
        let route = Local::new(host.routes()[0].clone());
        Route::new(&Local::new(host), &route)
    }

    fn new(virtual_host: &Local<VirtualHostImpl>, route: &Local<RouteImpl>) -> Self {
        Route {
            virtual_host: virtual_host.clone(),
            route: route.clone(),
            weighted: None,
            named: None,
            entries: OnceCell::new(),
        }
    }

    /// The route to the cluster that is picked for, or named by, this request, if there is something to pick.
    fn cluster_entry(&self, request: &RouteRequest<'_>) -> Option<RouteConstSharedPtr> {
        let entry = self.route_entry()?;
        let cluster = &entry.cluster;
        let Some(picked) = cluster.pick(request, entry.hash_policy()) else {
            return cluster
                .cluster_name(None)
                .is_none()
                .then(|| Rc::new(self.named_by(request.headers, None)));
        };
        if cluster.cluster_name(Some(picked)).is_none() {
            return Some(Rc::new(self.named_by(request.headers, Some(picked))));
        }
        let none = || (0..cluster.num_weighted()).map(|_| OnceCell::new()).collect();
        let entry = self.entries.get_or_init(none)[picked].get_or_init(|| {
            Rc::new(Route { weighted: Some(picked as u32), ..Route::new(&self.virtual_host, &self.route) })
        });
        Some(entry.clone())
    }

    /// The route of this one request, which names its cluster.
    fn named_by(&self, headers: &HeaderMap, weighted: Option<usize>) -> Self {
        let named = self.route_entry().map(|entry| entry.cluster.named_by(weighted, headers));
        Route {
            weighted: weighted.map(|index| index as u32),
            named,
            ..Route::new(&self.virtual_host, &self.route)
        }
    }

    /// The virtual host that the route is of.
    #[inline]
    pub fn virtual_host(&self) -> &VirtualHostImpl {
        &self.virtual_host
    }

    fn weighted(&self) -> Option<&WeightedCluster> {
        self.route_entry()?.cluster.weighted(self.weighted? as usize)
    }

    /// What the host of its requests has to be; for balancers that choose by metadata.
    pub fn metadata_match_criteria(&self) -> Option<&Arc<[MetadataMatchCriterion]>> {
        match self.weighted() {
            Some(cluster) => cluster.metadata_match.as_ref(),
            None => self.route_entry()?.metadata_match.as_ref(),
        }
    }

    /// The cluster that the route leads to; `None` for one that answers by itself.
    #[inline]
    pub fn cluster_name(&self) -> Option<&ClusterName> {
        let cluster = &self.route_entry()?.cluster;
        self.named.as_ref().or_else(|| cluster.cluster_name(self.weighted.map(|index| index as usize)))
    }

    /// Makes of a request what its upstream is to get: what rules say of headers, then another host, then another path. What
    /// host and path were is told to the upstream if `insert_original` says so.
    #[inline(always)]
    pub fn finalize_request_headers(
        &self,
        headers: &mut HeaderMap,
        info: &StreamInfoImpl,
        insert_original: bool,
    ) {
        if let Some(weighted) = self.weighted() {
            weighted.request_headers.iter().for_each(|parser| parser.evaluate_request(headers, info));
            if !weighted.host_rewrite.is_empty() {
                headers.set(HeaderId::Authority, weighted.host_rewrite.as_bytes());
            }
        }
        self.headers.request.iter().for_each(|parser| parser.evaluate_request(headers, info));
        let Some(entry) = self.route_entry() else { return };
        let host = match (&entry.host_rewrite, &entry.formatted_rewrites) {
            (HostRewrite::Format(_), Some(formats)) => formats.host(headers, info),
            (rewrite, _) => rewritten_host(rewrite, headers),
        };
        if let Some(host) = host {
            update_authority(headers, &host, entry.append_x_forwarded_host, insert_original);
        }
        match (&entry.path_rewrite, &entry.formatted_rewrites) {
            (PathRewrite::Format(_), Some(formats)) => formats.rewrite_path(headers, info, insert_original),
            (rewrite, _) => rewrite_path(rewrite, self.route_match(), headers, insert_original),
        }
    }

    /// Does what rules say to the headers of a response to `request`.
    #[inline(always)]
    pub fn finalize_response_headers(
        &self,
        headers: &mut HeaderMap,
        request: Option<&HeaderMap>,
        info: &StreamInfoImpl,
    ) {
        let weighted = self.weighted().and_then(|weighted| weighted.response_headers.as_deref());
        let parsers = weighted.into_iter().chain(self.headers.response.iter());
        parsers.for_each(|parser| parser.evaluate_response(headers, request, info));
    }

    /// What the cluster that was picked, the route, its virtual host or its table says to the filter of this name: the first
    /// of them that says something.
    pub fn most_specific_filter_config<T: Any>(&self, name: &str) -> Option<&T> {
        self.filter_configs(name).next_back()
    }

    /// What each of them says to the filter of this name, the most specific last, for one that adds it up.
    pub fn filter_configs<T: Any>(&self, name: &str) -> impl DoubleEndedIterator<Item = &T> {
        self.per_filter_configs().all(name)
    }

    /// Whether its streams are made without the filter of this name; `None` where the connection manager decides.
    pub fn filter_disabled(&self, name: &str) -> Option<bool> {
        self.per_filter_configs().disabled(name)
    }

    fn per_filter_configs(&self) -> &PerFilterConfigs {
        self.weighted().map_or(&self.per_filter_configs, |weighted| &weighted.per_filter_configs)
    }
}

impl Deref for Route {
    type Target = RouteImpl;

    #[inline]
    fn deref(&self) -> &RouteImpl {
        &self.route
    }
}

impl stream_info::Route for Route {
    fn route_name(&self) -> &str {
        self.name()
    }

    fn virtual_host_name(&self) -> &str {
        self.virtual_host().name()
    }

    fn metadata(&self) -> Option<&Map<String, Value>> {
        Some(RouteImpl::metadata(self))
    }

    fn virtual_host_metadata(&self) -> Option<&Map<String, Value>> {
        Some(self.virtual_host().metadata())
    }
}
