//! The host is where the request was meant to go.
//!
//! Mirrors `OriginalDstCluster::LoadBalancer` of Envoy's `source/common/upstream/original_dst_cluster.cc`, with what 1.40 lets
//! say the place: metadata, another header, another port. Envoy's workers share one map of hosts; here each has its own, which
//! the changes that the main thread posts keep up.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerParams};
use crate::common::CallbackHandle;
use crate::config::cluster::OriginalDstLbConfig;
use crate::config::core::Locality;
use crate::config::endpoint::HealthStatus;
use crate::config::route::MetadataKey;
use crate::envoy_log;
use crate::http::HeaderName;
use crate::network::Address;
use crate::upstream::{
    ClusterInfoImpl, HostImpl, HostSharedPtr, OriginalDstClusterHandle, PriorityUpdateCb, WorkerHost,
};

/// The header that says it where no other one is named.
const ORIGINAL_DST_HOST: &str = "x-envoy-original-dst-host";

/// What a cluster says of who may say where requests go.
#[derive(Debug)]
pub struct OriginalDstLb {
    places: Arc<Places>,
    handle: Arc<OriginalDstClusterHandle>,
}

/// Where the place is said, the first that says it.
#[derive(Debug)]
struct Places {
    metadata: Option<(String, Vec<String>)>,
    header: Option<HeaderName>,
    port: Option<u16>,
}

impl OriginalDstLb {
    /// Of a cluster, whose workers' part that is.
    pub fn new(config: Option<&OriginalDstLbConfig>, handle: &Arc<OriginalDstClusterHandle>) -> Arc<Self> {
        let header = |config: &OriginalDstLbConfig| {
            let name = Some(config.http_header_name.as_str()).filter(|name| !name.is_empty());
            config.use_http_header.then(|| HeaderName::new(name.unwrap_or(ORIGINAL_DST_HOST)))
        };
        let path = |key: &MetadataKey| {
            (key.key.clone(), key.path.iter().map(|segment| segment.key.clone()).collect())
        };
        let places = Places {
            metadata: config.and_then(|config| config.metadata_key.as_ref()).map(path),
            header: config.and_then(header),
            port: config.and_then(|config| config.upstream_port_override),
        };
        Arc::new(OriginalDstLb { places: Arc::new(places), handle: handle.clone() })
    }
}

impl LoadBalancerConfig for OriginalDstLb {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        let LoadBalancerParams { priority_set, info, .. } = *params;
        let hosts = Rc::new(Hosts { handle: self.handle.clone(), by_address: RefCell::default() });
        for set in priority_set.host_sets_per_priority() {
            hosts.update(&set.hosts(), &[]);
        }
        let followed = hosts.clone();
        let update =
            priority_set.add_priority_update_cb(move |_, added, removed| followed.update(added, removed));
        Box::new(OriginalDstLoadBalancer {
            places: self.places.clone(),
            info: info.clone(),
            hosts,
            _update: update,
        })
    }
}

/// A worker's hosts by their addresses.
struct Hosts {
    handle: Arc<OriginalDstClusterHandle>,
    by_address: RefCell<HashMap<SocketAddr, KnownHost>>,
}

struct KnownHost {
    host: Rc<WorkerHost>,
    used: Arc<AtomicBool>,
}

impl Hosts {
    /// What this worker has made itself stays until it is removed, and is the host of its address.
    fn update(&self, added: &[HostSharedPtr], removed: &[HostSharedPtr]) {
        let mut gone = Vec::new();
        let mut by_address = self.by_address.borrow_mut();
        for host in removed {
            let is_it = |known: &KnownHost| Arc::ptr_eq(known.host.shared(), host);
            if let Some(address) = host.address().ip()
                && by_address.get(address).is_some_and(is_it)
            {
                envoy_log!(Upstream, debug, "Removing host {}.", address);
                gone.extend(by_address.remove(address));
            }
        }
        for host in added {
            if let Some(address) = host.address().ip() {
                by_address.entry(*address).or_insert_with(|| {
                    envoy_log!(Upstream, debug, "Adding host {}.", address);
                    self.known(*address, host)
                });
            }
        }
        drop(by_address);
        drop(gone);
    }

    fn known(&self, address: SocketAddr, host: &HostSharedPtr) -> KnownHost {
        KnownHost { host: WorkerHost::new(host.clone()), used: self.handle.use_of(address) }
    }

    fn find(&self, address: &SocketAddr) -> Option<Rc<WorkerHost>> {
        let by_address = self.by_address.borrow();
        let known = by_address.get(address)?;
        known.used.store(true, Relaxed);
        Some(known.host.clone())
    }

    fn create(&self, address: SocketAddr, info: &Arc<ClusterInfoImpl>) -> Rc<WorkerHost> {
        let host = HostImpl::new(
            info.clone(),
            &format!("{}{address}", info.name()),
            Address::Ip(address),
            Locality::default(),
            0,
            1,
            HealthStatus::Unknown,
        );
        envoy_log!(Upstream, debug, "Created host {}.", host.address());
        let known = self.known(address, &host);
        known.used.store(true, Relaxed);
        let chosen = known.host.clone();
        let old = self.by_address.borrow_mut().insert(address, known);
        drop(old);
        self.handle.post_host(&host);
        chosen
    }
}

/// See the module's description.
struct OriginalDstLoadBalancer {
    places: Arc<Places>,
    info: Arc<ClusterInfoImpl>,
    hosts: Rc<Hosts>,
    _update: CallbackHandle<PriorityUpdateCb>,
}

impl LoadBalancer for OriginalDstLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let Some(mut address) = self.destination(context) else {
            envoy_log!(
                Upstream,
                warn,
                "original_dst_load_balancer: No downstream connection or no original_dst."
            );
            return None;
        };
        if let Some(port) = self.places.port {
            address.set_port(port);
        }
        let known = self.hosts.find(&address).inspect(|host| {
            envoy_log!(Upstream, debug, "Using existing host {}.", host.address());
        });
        Some(known.unwrap_or_else(|| self.hosts.create(address, &self.info)))
    }

    /// There is no other host for the same place.
    fn choose_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.choose_host_once(context)
    }
}

impl OriginalDstLoadBalancer {
    fn destination(&self, context: &dyn LoadBalancerContext) -> Option<SocketAddr> {
        let said = self.of_metadata(context).or_else(|| self.of_header(context));
        said.or_else(|| context.downstream_original_dst())
    }

    fn of_metadata(&self, context: &dyn LoadBalancerContext) -> Option<SocketAddr> {
        let (filter, path) = self.places.metadata.as_ref()?;
        let value = context.request_metadata(filter, path)?;
        let text = value.as_str().filter(|text| !text.is_empty())?;
        let address = self.parse(text)?;
        envoy_log!(Upstream, debug, "Using request override host {}.", text);
        Some(address)
    }

    /// Whoever says it: only the first value counts.
    fn of_header(&self, context: &dyn LoadBalancerContext) -> Option<SocketAddr> {
        let header = self.places.header.as_ref()?;
        let headers = context.downstream_headers()?;
        let headers = headers.try_borrow().ok()?;
        let text = String::from_utf8_lossy(header.values(&headers).next()?);
        let address = self.parse(&text)?;
        envoy_log!(Upstream, debug, "Using request override host {}.", text);
        Some(address)
    }

    fn parse(&self, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            envoy_log!(
                Upstream,
                debug,
                "original_dst_load_balancer: invalid override header value. {}",
                text
            );
            self.info.stats().original_dst_host_invalid().inc();
        }
        address
    }
}
