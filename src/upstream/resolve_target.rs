//! A name among the hosts of a cluster, and the hosts that it stands for.
//!
//! Mirrors `StrictDnsClusterImpl::ResolveTarget` of Envoy's `source/common/upstream/upstream_impl.cc`; what becomes of failed
//! lookups, and when the next one is, is as in 1.40.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::dns_cluster::DnsClusterImpl;
use super::dynamic_hosts::update_dynamic_host_list;
use super::{Cluster, HostImpl, HostSharedPtr};
use crate::config::address;
use crate::config::core::{Locality, Metadata};
use crate::config::endpoint::{HealthCheckConfig, HealthStatus, LbEndpoint, LocalityLbEndpoints};
use crate::envoy_log;
use crate::event::{Dispatcher, Timer};
use crate::network::{ActiveDnsQuery, Address, DnsResponse, ResolutionStatus};
use crate::trace::{self, Stage};

/// See the module's description.
pub(super) struct ResolveTarget {
    weak: Weak<ResolveTarget>,
    cluster: Weak<DnsClusterImpl>,
    dns_address: String,
    port: u16,
    hostname: String,
    locality: Locality,
    priority: u32,
    weight: u32,
    health_status: HealthStatus,
    metadata: Option<Arc<Metadata>>,
    health_check_config: Option<Box<HealthCheckConfig>>,
    resolve_timer: Timer,
    active_query: RefCell<Option<ActiveDnsQuery>>,
    hosts: RefCell<Vec<HostSharedPtr>>,
    /// The addresses of a logical host: it is another one when any of them is.
    addresses: RefCell<Vec<Address>>,
}

impl ResolveTarget {
    /// For a host of the configuration whose address is no pipe.
    pub(super) fn new(
        cluster: &Weak<DnsClusterImpl>,
        dispatcher: &Rc<Dispatcher>,
        group: &LocalityLbEndpoints,
        host: &LbEndpoint,
        is_logical: bool,
    ) -> Rc<Self> {
        let (dns_address, port) = match &host.endpoint.address {
            address::Address::SocketAddress(socket) => (socket.address.clone(), socket.port_value),
            address::Address::Pipe(pipe) => (pipe.path.clone(), 0),
        };
        let hostname =
            Some(&host.endpoint.hostname).filter(|name| !name.is_empty()).unwrap_or(&dns_address).clone();
        Rc::new_cyclic(|weak: &Weak<Self>| {
            let target = weak.clone();
            ResolveTarget {
                weak: weak.clone(),
                cluster: cluster.clone(),
                hostname,
                dns_address,
                port,
                locality: group.locality.clone().unwrap_or_default(),
                // A logical host is the only one, whatever its priority.
                priority: if is_logical { 0 } else { group.priority },
                weight: host.load_balancing_weight,
                health_status: host.health_status,
                metadata: host.metadata.clone(),
                health_check_config: host.endpoint.health_check_config.clone(),
                resolve_timer: dispatcher.create_timer(move || {
                    if let Some(target) = target.upgrade() {
                        target.start_resolve();
                    }
                }),
                active_query: RefCell::default(),
                hosts: RefCell::default(),
                addresses: RefCell::default(),
            }
        })
    }

    pub(super) fn priority(&self) -> u32 {
        self.priority
    }

    pub(super) fn hosts(&self) -> Vec<HostSharedPtr> {
        self.hosts.borrow().clone()
    }

    /// Looks the name up. The answer may be there at once.
    pub(super) fn start_resolve(&self) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        envoy_log!(Upstream, trace, "starting async DNS resolution for {}", self.dns_address);
        trace::instant(Stage::StartResolve, None, 0, 0, 0);
        cluster.info().stats().update_attempt().inc();
        let weak = self.weak.clone();
        let query = cluster.resolver().resolve(
            &self.dns_address,
            cluster.fields().lookup_family,
            Box::new(move |status, responses| {
                if let Some(target) = weak.upgrade() {
                    target.on_resolved(status, &responses);
                }
            }),
        );
        *self.active_query.borrow_mut() = query;
    }

    fn on_resolved(&self, status: ResolutionStatus, responses: &[DnsResponse]) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        drop(self.active_query.take());
        envoy_log!(Upstream, trace, "async DNS resolution complete for {}", self.dns_address);
        trace::instant(Stage::DnsResolved, None, 0, responses.len() as u64, 0);
        let is_of_use = !cluster.is_logical() || !responses.is_empty();
        let pause = if status == ResolutionStatus::Completed && is_of_use {
            cluster.info().stats().update_success().inc();
            self.update_hosts(&cluster, responses);
            let pause = cluster.refresh_rate(self.ttl(&cluster, responses));
            envoy_log!(
                Upstream,
                debug,
                "DNS refresh rate reset for {}, refresh rate {} ms",
                self.dns_address,
                pause.as_millis()
            );
            pause
        } else {
            cluster.info().stats().update_failure().inc();
            let pause = cluster.failure_refresh_rate();
            envoy_log!(
                Upstream,
                debug,
                "DNS refresh rate reset for {}, (failure) refresh rate {} ms",
                self.dns_address,
                pause.as_millis()
            );
            pause
        };
        cluster.on_pre_init_complete();
        // In the next pass at the earliest, or a server at hand would be asked without an end.
        if pause.is_zero() {
            self.resolve_timer.enable_after_poll();
        } else {
            self.resolve_timer.enable_timer(pause);
        }
    }

    /// How long the answer is good: as long as each of its addresses, of a logical host the first.
    fn ttl(&self, cluster: &DnsClusterImpl, responses: &[DnsResponse]) -> Option<Duration> {
        let counted = if cluster.is_logical() { &responses[..1] } else { responses };
        counted.iter().map(|response| response.ttl).min()
    }

    fn update_hosts(&self, cluster: &DnsClusterImpl, responses: &[DnsResponse]) {
        let mut addresses: Vec<Address> = Vec::with_capacity(responses.len());
        for response in responses {
            let address = Address::Ip(SocketAddr::new(response.address, self.port));
            if cluster.is_logical() || !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let changed = if cluster.is_logical() {
            self.update_logical_host(cluster, addresses)
        } else {
            self.update_strict_hosts(cluster, &addresses)
        };
        match changed {
            Some((added, removed)) => {
                envoy_log!(Upstream, debug, "DNS hosts have changed for {}", self.dns_address);
                trace::instant(Stage::DnsHostsChanged, None, 0, added.len() as u64, removed.len() as u64);
                cluster.update_all_hosts(&added, &removed, self.priority);
            }
            None => cluster.info().stats().update_no_rebuild().inc(),
        }
    }

    /// What has come and what has gone; `None` where it is nothing.
    fn update_logical_host(&self, cluster: &DnsClusterImpl, addresses: Vec<Address>) -> Option<Changes> {
        if *self.addresses.borrow() == addresses {
            return None;
        }
        // As in 1.40 the others are tried, too, when the first one fails.
        let host = self.create_host(cluster, &addresses[0]);
        let host = HostImpl::with_additional_addresses(host, &addresses[1..]);
        *self.addresses.borrow_mut() = addresses;
        Some((vec![host.clone()], self.hosts.replace(vec![host])))
    }

    fn update_strict_hosts(&self, cluster: &DnsClusterImpl, addresses: &[Address]) -> Option<Changes> {
        let update = update_dynamic_host_list(
            &self.hosts.borrow(),
            addresses,
            |address| self.create_host(cluster, address),
            |host| cluster.base().outlives_its_name(host),
        );
        let heaviest = update.hosts.iter().map(|host| host.weight()).max();
        cluster.info().stats().max_host_weight().set(heaviest.unwrap_or(1).into());
        *self.hosts.borrow_mut() = update.hosts;
        let is_same = update.added.is_empty() && update.removed.is_empty();
        (!is_same).then_some((update.added, update.removed))
    }

    fn create_host(&self, cluster: &DnsClusterImpl, address: &Address) -> HostSharedPtr {
        let host = HostImpl::new(
            cluster.info().clone(),
            &self.hostname,
            address.clone(),
            self.locality.clone(),
            self.priority,
            self.weight,
            self.health_status,
        );
        let host = HostImpl::with_health_check_config(host, self.health_check_config.as_deref());
        let host = HostImpl::with_metadata(host, self.metadata.clone());
        // A logical host is taken to be well, wherever it is.
        if !cluster.is_logical() {
            cluster.base().init_health_flags(&host, false);
        }
        host
    }
}

/// Hosts that have come, and such that have gone.
type Changes = (Vec<HostSharedPtr>, Vec<HostSharedPtr>);
