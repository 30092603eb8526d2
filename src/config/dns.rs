//! How names of hosts are looked up, as the fields of a cluster have it. The messages that say so are extensions' own.

use super::error::ConfigError;
use super::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message};
use std::time::Duration;

/// Between two lookups where nothing else is said.
pub const DEFAULT_REFRESH_RATE: Duration = Duration::from_secs(5);

/// The older fields of a cluster that say how its hosts' names are looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsFields {
    /// Between two lookups; more than a millisecond.
    pub refresh_rate: Duration,
    /// Between two lookups of which the first has failed; `None` is as between others.
    pub failure_refresh_rate: Option<RefreshRate>,
    /// Something between nothing and this comes to each time.
    pub jitter: Duration,
    /// An answer says itself when to ask again.
    pub respect_ttl: bool,
    /// Which addresses are wanted.
    pub lookup_family: DnsLookupFamily,
    /// The cluster is ready only when it has an answer.
    pub wait_for_warm_on_init: bool,
}

impl DnsFields {
    /// Those of a cluster of any type: one that looks nothing up may have them.
    pub(super) fn of_cluster(r: &mut MessageReader<'_>, _: &str) -> Result<Self, ConfigError> {
        let fields = DnsFields {
            refresh_rate: r.duration("dns_refresh_rate")?.unwrap_or(DEFAULT_REFRESH_RATE),
            failure_refresh_rate: r.message("dns_failure_refresh_rate")?,
            jitter: r.duration("dns_jitter")?.unwrap_or_default(),
            respect_ttl: r.bool("respect_dns_ttl")?,
            lookup_family: r.enumeration("dns_lookup_family", DnsLookupFamily::TABLE)?.unwrap_or_default(),
            wait_for_warm_on_init: r.opt_bool("wait_for_warm_on_init")?.unwrap_or(true),
        };
        Ok(fields)
    }
}

message! {
    /// `Cluster.RefreshRate`.
    #[derive(Eq)]
    pub struct RefreshRate = "envoy.config.cluster.v3.Cluster.RefreshRate"
        or "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate", checked by check_refresh_rate {
        /// Where it begins; has to be there.
        pub base_interval: Duration,
        /// Where it ends, default ten times that.
        pub max_interval: Option<Duration>,
    }
}

fn check_refresh_rate(r: &mut MessageReader<'_>, rate: &RefreshRate) {
    if rate.max_interval.is_some_and(|max| max.as_millis() < rate.base_interval.as_millis()) {
        let message =
            "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval";
        r.refuse("max_interval", message);
    }
}

/// `Cluster.DnsLookupFamily`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DnsLookupFamily {
    /// IPv6 and, where there are none, IPv4.
    #[default]
    Auto,
    /// IPv4.
    V4Only,
    /// IPv6.
    V6Only,
    /// IPv4 and, where there are none, IPv6.
    V4Preferred,
    /// Both.
    All,
}

impl DnsLookupFamily {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("AUTO", Self::Auto),
        ("V4_ONLY", Self::V4Only),
        ("V6_ONLY", Self::V6Only),
        ("V4_PREFERRED", Self::V4Preferred),
        ("ALL", Self::All),
    ];
}

enum_fields! { DnsLookupFamily }
