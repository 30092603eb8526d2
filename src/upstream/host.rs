//! A host of a cluster.
//!
//! Mirrors `HostImpl` of Envoy's `source/common/upstream/upstream_impl.cc` and `host_utility.cc`. Weight
//! range, the draining flag and the text of the flags are those of Envoy 1.40.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::outlier_detection::DetectorHostMonitorImpl;
use super::{ClusterInfoImpl, HostStats};
use crate::config::core::{Locality, Metadata};
use crate::config::endpoint::{HealthCheckConfig, HealthStatus};
use crate::event::{Dispatcher, Moment};
use crate::network::{
    Address, ClientConnectionImpl, SocketSettings, TransportSocket, TransportSocketFor, sort_addresses,
};
use crate::trace::{self, Stage};

/// The name in metadata under which balancers look.
pub const ENVOY_LB: &str = "envoy.lb";

/// A host as everybody holds it. Two are the same host only if the pointer is the same.
pub type HostSharedPtr = Arc<HostImpl>;

/// Whether a host gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Gets none.
    Unhealthy,
    /// Gets requests when there are not enough healthy hosts.
    Degraded,
    /// Gets requests.
    Healthy,
}

/// A reason not to be healthy; the numbers are Envoy's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthFlag {
    /// The health checker got no good answer.
    FailedActiveHc = 0x01,
    /// Ejected by outlier detection.
    FailedOutlierCheck = 0x02,
    /// The configuration says that it is unhealthy.
    FailedEdsHealth = 0x04,
    /// The health checker was told that it is degraded.
    DegradedActiveHc = 0x08,
    /// The configuration says that it is degraded.
    DegradedEdsHealth = 0x10,
    /// It is no longer named, and stays for as long as the health checker finds it healthy.
    PendingDynamicRemoval = 0x20,
    /// The health checker has not asked it yet.
    PendingActiveHc = 0x40,
    /// It asked by a header of an answer not to get requests.
    ExcludedViaImmediateHcFail = 0x80,
    /// The health checker got no answer in time.
    ActiveHcTimeout = 0x100,
    /// The configuration says that it is draining.
    EdsStatusDraining = 0x200,
    /// Outlier detection was told that it is degraded.
    DegradedOutlierDetection = 0x400,
}

/// The flags in the order in which they are printed.
const FLAG_NAMES: [(HealthFlag, &str); 11] = [
    (HealthFlag::FailedActiveHc, "/failed_active_hc"),
    (HealthFlag::FailedOutlierCheck, "/failed_outlier_check"),
    (HealthFlag::FailedEdsHealth, "/failed_eds_health"),
    (HealthFlag::DegradedActiveHc, "/degraded_active_hc"),
    (HealthFlag::DegradedEdsHealth, "/degraded_eds_health"),
    (HealthFlag::PendingDynamicRemoval, "/pending_dynamic_removal"),
    (HealthFlag::PendingActiveHc, "/pending_active_hc"),
    (HealthFlag::ExcludedViaImmediateHcFail, "/excluded_via_immediate_hc_fail"),
    (HealthFlag::ActiveHcTimeout, "/active_hc_timeout"),
    (HealthFlag::EdsStatusDraining, "/eds_status_draining"),
    (HealthFlag::DegradedOutlierDetection, "/degraded_outlier_detection"),
];

static NOWHERE: Locality = Locality { region: String::new(), zone: String::new(), sub_zone: String::new() };

const UNHEALTHY: u32 = HealthFlag::FailedActiveHc as u32
    | HealthFlag::FailedOutlierCheck as u32
    | HealthFlag::FailedEdsHealth as u32
    | HealthFlag::EdsStatusDraining as u32;

const DEGRADED: u32 = HealthFlag::DegradedActiveHc as u32
    | HealthFlag::DegradedEdsHealth as u32
    | HealthFlag::DegradedOutlierDetection as u32;

const EXCLUDED: u32 = HealthFlag::PendingActiveHc as u32
    | HealthFlag::ExcludedViaImmediateHcFail as u32
    | HealthFlag::EdsStatusDraining as u32;

/// How a host is checked, where that differs from others.
struct HealthCheckTarget {
    /// Where, unless it is the host's own address.
    address: Option<Address>,
    /// The host that is asked for, unless empty.
    hostname: Box<str>,
    is_disabled: bool,
}

/// A host. Shared by all threads; the main thread changes its health.
pub struct HostImpl {
    cluster: Arc<ClusterInfoImpl>,
    hostname: Box<str>,
    address: Address,
    /// `None` for one without parts.
    locality: Option<Box<Locality>>,
    /// Hosts that have the same share it.
    metadata: Option<Arc<Metadata>>,
    /// In the order in which they are tried behind the first one.
    other_addresses: Option<Box<[Address]>>,
    priority: AtomicU32,
    weight: AtomicU32,
    canary: AtomicBool,
    health_flags: AtomicU32,
    /// Since when it is healthy, as nanoseconds of a `Moment`; 0 where nobody has asked.
    healthy_since: AtomicU64,
    /// How it is checked, where that differs from others.
    health_check: Option<Box<HealthCheckTarget>>,
    /// There where its cluster detects outliers, once the main thread has noticed the host.
    outlier_detector: OnceLock<Arc<DetectorHostMonitorImpl>>,
    stats: HostStats,
}

impl HostImpl {
    /// A host; `hostname` may be empty, a `weight` of 0 becomes 1.
    pub fn new(
        cluster: Arc<ClusterInfoImpl>,
        hostname: &str,
        address: Address,
        locality: Locality,
        priority: u32,
        weight: u32,
        health_status: HealthStatus,
    ) -> HostSharedPtr {
        cluster.count_host();
        let host = HostImpl {
            stats: HostStats::new(cluster.scope().store().shards()),
            cluster,
            hostname: hostname.into(),
            address,
            locality: (locality != NOWHERE).then(|| Box::new(locality)),
            metadata: None,
            other_addresses: None,
            priority: AtomicU32::new(priority),
            weight: AtomicU32::new(weight.max(1)),
            canary: AtomicBool::new(false),
            health_flags: AtomicU32::new(0),
            healthy_since: AtomicU64::new(0),
            health_check: None,
            outlier_detector: OnceLock::new(),
        };
        host.set_eds_health(health_status);
        Arc::new(host)
    }

    /// The same host, of which this is said, too; whether it is a canary stands there. Nobody else has it yet.
    #[must_use]
    pub fn with_metadata(mut host: HostSharedPtr, metadata: Option<Arc<Metadata>>) -> HostSharedPtr {
        let of_host = metadata.as_ref().and_then(|metadata| metadata.value(ENVOY_LB, "canary"));
        host.set_canary(of_host.and_then(Value::as_bool).unwrap_or(false));
        if let Some(host) = Arc::get_mut(&mut host) {
            host.metadata = metadata;
        }
        host
    }

    /// The same host, which is checked as `config` says. Nobody else has it yet.
    #[must_use]
    pub fn with_health_check_config(
        mut host: HostSharedPtr,
        config: Option<&HealthCheckConfig>,
    ) -> HostSharedPtr {
        if let (Some(host), Some(config)) = (Arc::get_mut(&mut host), config) {
            let of_config = config.address.as_ref().and_then(Address::configured);
            let address = match of_config.as_ref().unwrap_or(&host.address) {
                Address::Ip(ip) if config.port_value != 0 => {
                    let mut ip = *ip;
                    ip.set_port(config.port_value);
                    Some(Address::Ip(ip))
                }
                _ => of_config,
            };
            let is_disabled = config.disable_active_health_check;
            let hostname = config.hostname.as_str().into();
            host.health_check = Some(Box::new(HealthCheckTarget { address, hostname, is_disabled }));
        }
        host
    }

    /// Where it is checked.
    pub fn health_check_address(&self) -> &Address {
        self.health_check.as_ref().and_then(|check| check.address.as_ref()).unwrap_or(&self.address)
    }

    /// The host that a check asks for, if this one has a name of its own for that; or else empty.
    pub fn hostname_for_health_checks(&self) -> &str {
        self.health_check.as_ref().map_or("", |check| &check.hostname)
    }

    /// Whether it is not checked, even if others of its cluster are.
    pub fn disable_active_health_check(&self) -> bool {
        self.health_check.as_ref().is_some_and(|check| check.is_disabled)
    }

    /// The same host, which listens at these addresses, too. Nobody else has it yet.
    #[must_use]
    pub fn with_additional_addresses(mut host: HostSharedPtr, addresses: &[Address]) -> HostSharedPtr {
        if let Some(host) = Arc::get_mut(&mut host).filter(|_| !addresses.is_empty()) {
            let sorted = sort_addresses(&host.address, addresses);
            host.other_addresses = Some(sorted[1..].into());
        }
        host
    }

    /// Whether it may be that a connection goes to another address than [`address`](Self::address).
    #[inline]
    pub fn has_other_addresses(&self) -> bool {
        self.other_addresses.is_some()
    }

    /// What the configuration says of it.
    pub fn metadata(&self) -> Option<&Arc<Metadata>> {
        self.metadata.as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its name for host rewrites; may be empty.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The cluster it belongs to.
    #[inline]
    pub fn cluster(&self) -> &Arc<ClusterInfoImpl> {
        &self.cluster
    }

    /// Its share of requests, at least 1.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Changes the weight; 0 becomes 1.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Relaxed);
    }

    /// Its priority; 0 is the first choice.
    pub fn priority(&self) -> u32 {
        self.priority.load(Relaxed)
    }

    /// Moves it to another priority; the priority set is the caller's business.
    pub fn set_priority(&self, priority: u32) {
        self.priority.store(priority, Relaxed);
    }

    /// Where it runs.
    pub fn locality(&self) -> &Locality {
        self.locality.as_deref().unwrap_or(&NOWHERE)
    }

    /// Whether its answers are counted as those of a canary.
    pub fn canary(&self) -> bool {
        self.canary.load(Relaxed)
    }

    /// Makes it a canary or not.
    pub fn set_canary(&self, canary: bool) {
        self.canary.store(canary, Relaxed);
    }

    /// Who wants to know what comes of its requests, if somebody does.
    #[inline]
    pub fn outlier_detector(&self) -> Option<&Arc<DetectorHostMonitorImpl>> {
        self.outlier_detector.get()
    }

    /// Says who wants to know, if nobody does yet; who does in the end.
    pub fn set_outlier_detector(
        &self,
        monitor: Arc<DetectorHostMonitorImpl>,
    ) -> &Arc<DetectorHostMonitorImpl> {
        self.outlier_detector.get_or_init(|| monitor)
    }

    /// Its statistics.
    #[inline]
    pub fn stats(&self) -> &HostStats {
        &self.stats
    }

    /// Whether it gets requests, from its flags.
    pub fn health(&self) -> Health {
        match self.health_flags.load(Relaxed) {
            flags if flags & UNHEALTHY != 0 => Health::Unhealthy,
            flags if flags & DEGRADED != 0 => Health::Degraded,
            _ => Health::Healthy,
        }
    }

    /// Whether it does not count when availability is computed.
    pub fn is_excluded(&self) -> bool {
        self.health_flags.load(Relaxed) & EXCLUDED != 0
    }

    /// Whether a flag is set.
    pub fn health_flag_get(&self, flag: HealthFlag) -> bool {
        self.health_flags.load(Relaxed) & flag as u32 != 0
    }

    /// Sets a flag. The host vectors are the caller's business.
    pub fn health_flag_set(&self, flag: HealthFlag) {
        self.health_flags.fetch_or(flag as u32, Relaxed);
    }

    /// Clears a flag. The host vectors are the caller's business.
    pub fn health_flag_clear(&self, flag: HealthFlag) {
        self.health_flags.fetch_and(!(flag as u32), Relaxed);
    }

    /// Since when it is healthy, as far as that has been noted (Envoy: `lastHcPassTime`).
    pub fn healthy_since(&self) -> Option<Moment> {
        Moment::from_nanoseconds(self.healthy_since.load(Relaxed))
    }

    /// Notes since when it is healthy: a check was passed, or nobody checks and it is seen first.
    pub fn note_healthy_since(&self, now: Moment) -> Moment {
        self.healthy_since.store(now.nanoseconds(), Relaxed);
        now
    }

    /// The flags as `/clusters` prints them: `healthy`, or for example `/failed_eds_health`.
    pub fn health_flags_text(&self) -> String {
        let set = FLAG_NAMES.iter().filter(|(flag, _)| self.health_flag_get(*flag));
        let text: String = set.map(|(_, name)| *name).collect();
        if text.is_empty() { "healthy".to_owned() } else { text }
    }

    fn create_transport_socket(&self) -> Box<dyn TransportSocket> {
        let connection = TransportSocketFor { options: None, hostname: self.hostname() };
        self.cluster.transport_socket_factory().create_transport_socket(connection)
    }

    /// Makes a connection to the host, not yet connecting.
    ///
    /// # Errors
    /// Those of `socket(2)` and `epoll_ctl(2)`: out of fds, for instance.
    pub fn create_connection(
        self: &Arc<Self>,
        dispatcher: &Rc<Dispatcher>,
    ) -> io::Result<ClientConnectionImpl> {
        let connection = self.connection_to(&self.address, dispatcher)?;
        if let Some(others) = &self.other_addresses {
            let host = self.clone();
            connection.set_other_addresses(others.to_vec(), move |address| {
                let cluster = &host.cluster;
                // Each attempt counts, as in Envoy.
                cluster.stats().upstream_cx_total().inc();
                host.stats.cx_total().inc();
                let local = cluster.local_address(address);
                SocketSettings {
                    options: local.map(|local| local.socket_options(address).to_vec()).unwrap_or_default(),
                    source: local.and_then(|local| local.address.clone()),
                    keepalive: cluster.tcp_keepalive().cloned(),
                }
            });
        }
        Ok(connection)
    }

    /// The same to where it is checked.
    ///
    /// # Errors
    /// As there.
    pub fn create_health_check_connection(
        &self,
        dispatcher: &Rc<Dispatcher>,
    ) -> io::Result<ClientConnectionImpl> {
        self.connection_to(self.health_check_address(), dispatcher)
    }

    fn connection_to(
        &self,
        address: &Address,
        dispatcher: &Rc<Dispatcher>,
    ) -> io::Result<ClientConnectionImpl> {
        let connection =
            ClientConnectionImpl::new(dispatcher, address.clone(), None, self.create_transport_socket())?;
        if let Some(local) = self.cluster.local_address(address) {
            connection.set_options_and_bind(local.socket_options(address), local.address.as_ref());
        }
        if let Some(keepalive) = self.cluster.tcp_keepalive() {
            connection.set_keepalive(keepalive);
        }
        let limit = self.cluster.per_connection_buffer_limit_bytes();
        trace::instant(Stage::CreateConnection, Some(connection.id()), 0, limit as u64, 0);
        connection.set_buffer_limits(limit);
        Ok(connection)
    }

    fn set_eds_health(&self, status: HealthStatus) {
        match status {
            HealthStatus::Unhealthy | HealthStatus::Timeout => {
                self.health_flag_set(HealthFlag::FailedEdsHealth);
            }
            HealthStatus::Draining => self.health_flag_set(HealthFlag::EdsStatusDraining),
            HealthStatus::Degraded => self.health_flag_set(HealthFlag::DegradedEdsHealth),
            HealthStatus::Unknown | HealthStatus::Healthy => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::test_support::{cluster_info, host};

    #[test]
    fn the_configured_status_becomes_flags() {
        let info = cluster_info();
        let cases = [
            (HealthStatus::Unknown, Health::Healthy, "healthy"),
            (HealthStatus::Healthy, Health::Healthy, "healthy"),
            (HealthStatus::Unhealthy, Health::Unhealthy, "/failed_eds_health"),
            (HealthStatus::Timeout, Health::Unhealthy, "/failed_eds_health"),
            (HealthStatus::Draining, Health::Unhealthy, "/eds_status_draining"),
            (HealthStatus::Degraded, Health::Degraded, "/degraded_eds_health"),
        ];
        for (status, health, text) in cases {
            let host = host(&info, 1, 1, status);
            assert_eq!((host.health(), host.health_flags_text().as_str()), (health, text), "{status:?}");
        }
    }

    #[test]
    fn flags_add_up_and_the_worst_counts() {
        let host = host(&cluster_info(), 1, 1, HealthStatus::Degraded);
        host.health_flag_set(HealthFlag::FailedOutlierCheck);
        host.health_flag_set(HealthFlag::FailedActiveHc);
        assert_eq!(host.health_flags_text(), "/failed_active_hc/failed_outlier_check/degraded_eds_health");
        assert_eq!(host.health(), Health::Unhealthy);
        host.health_flag_clear(HealthFlag::FailedOutlierCheck);
        host.health_flag_clear(HealthFlag::FailedActiveHc);
        assert!(host.health_flag_get(HealthFlag::DegradedEdsHealth));
        assert_eq!(host.health(), Health::Degraded);
    }

    #[test]
    fn some_flags_say_how_a_host_counts_and_not_whether_it_is_healthy() {
        use HealthFlag::*;
        let cases = [
            (DegradedActiveHc, Health::Degraded, false, "/degraded_active_hc"),
            (PendingDynamicRemoval, Health::Healthy, false, "/pending_dynamic_removal"),
            (PendingActiveHc, Health::Healthy, true, "/pending_active_hc"),
            (ExcludedViaImmediateHcFail, Health::Healthy, true, "/excluded_via_immediate_hc_fail"),
            (ActiveHcTimeout, Health::Healthy, false, "/active_hc_timeout"),
            (EdsStatusDraining, Health::Unhealthy, true, "/eds_status_draining"),
            (DegradedOutlierDetection, Health::Degraded, false, "/degraded_outlier_detection"),
        ];
        for (flag, health, is_excluded, text) in cases {
            let host = host(&cluster_info(), 1, 1, HealthStatus::Unknown);
            host.health_flag_set(flag);
            assert_eq!((host.health(), host.is_excluded()), (health, is_excluded), "{flag:?}");
            assert_eq!(host.health_flags_text(), text);
        }
    }

    #[test]
    fn weights_are_at_least_one() {
        let host = host(&cluster_info(), 1, 0, HealthStatus::Unknown);
        assert_eq!(host.weight(), 1);
        host.set_weight(u32::MAX);
        assert_eq!(host.weight(), u32::MAX);
        host.set_weight(0);
        assert_eq!(host.weight(), 1);
    }

    #[test]
    fn connections_have_the_limits_of_the_cluster() {
        let dispatcher = Dispatcher::new("test");
        let host = host(&cluster_info(), 1, 1, HealthStatus::Unknown);
        let connection = host.create_connection(&dispatcher).unwrap();
        assert_eq!(connection.buffer_limit(), 1024 * 1024);
        assert_eq!(connection.remote_address(), *host.address());
        connection.close(crate::network::ConnectionCloseType::NoFlush);
    }
}
