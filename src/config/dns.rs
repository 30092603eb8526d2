//! How names of hosts are looked up: fields that a cluster and an extension have in common, and those of resolvers.

use super::address::Address;
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::message::OnlyFalse;
use super::reader::{EnumTable, MessageReader};
use crate::{enum_fields, message};
use std::time::Duration;

/// Between two lookups where nothing else is said.
pub const DEFAULT_REFRESH_RATE: Duration = Duration::from_secs(5);

/// The resolver that the older fields stand for.
const CARES: &str = "envoy.network.dns_resolver.cares";

/// How the names of a cluster's hosts are looked up.
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
    /// Who looks them up; `None` is whoever does for all clusters.
    pub resolver: Option<TypedConfig>,
}

impl Default for DnsFields {
    fn default() -> Self {
        DnsFields {
            refresh_rate: DEFAULT_REFRESH_RATE,
            failure_refresh_rate: None,
            jitter: Duration::ZERO,
            respect_ttl: false,
            lookup_family: DnsLookupFamily::Auto,
            resolver: None,
        }
    }
}

impl DnsFields {
    /// Those of a cluster of any type: one that looks nothing up may have them. `None` where nothing is said.
    pub(super) fn of_cluster(r: &mut MessageReader<'_>, _: &str) -> Result<Option<Box<Self>>, ConfigError> {
        let resolver =
            read_resolver(r, &["dns_resolvers", "dns_resolution_config", "use_tcp_for_dns_lookups"])?;
        let fields = DnsFields { resolver, ..Self::read(r)? };
        Ok((fields != Self::default()).then(|| Box::new(fields)))
    }

    /// Those of the extension's message.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_extension(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let resolver = read_resolver(r, &[])?;
        Ok(DnsFields { resolver, ..Self::read(r)? })
    }

    /// What both have under the same names.
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(DnsFields {
            refresh_rate: r.duration("dns_refresh_rate")?.unwrap_or(DEFAULT_REFRESH_RATE),
            failure_refresh_rate: r.message("dns_failure_refresh_rate")?,
            jitter: r.duration("dns_jitter")?.unwrap_or_default(),
            respect_ttl: r.bool("respect_dns_ttl")?,
            lookup_family: r.enumeration("dns_lookup_family", DnsLookupFamily::TABLE)?.unwrap_or_default(),
            resolver: None,
        })
    }
}

/// Who looks up what nobody else is named for.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_default_resolver(
    r: &mut MessageReader<'_>,
    _: &str,
) -> Result<Option<TypedConfig>, ConfigError> {
    read_resolver(r, &["dns_resolution_config", "use_tcp_for_dns_lookups"])
}

/// The extension, or what the older fields say of it.
fn read_resolver(
    r: &mut MessageReader<'_>,
    older: &[&'static str],
) -> Result<Option<TypedConfig>, ConfigError> {
    let resolver = r.extension("typed_dns_resolver_config", Category::DnsResolvers)?;
    let has_older = older.iter().any(|name| r.has(name));
    let of_older = has_older.then(|| r.named_config(CARES, Category::DnsResolvers)).flatten().transpose()?;
    Ok(resolver.or(of_older))
}

message! {
    /// `envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig`.
    #[derive(Eq)]
    pub struct CaresDnsResolverConfig = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        checked by check_resolvers
    {
        /// Whom to ask; without any, those of `/etc/resolv.conf`.
        pub resolvers: Vec<Address>,
        /// They are asked only where `/etc/resolv.conf` has none.
        pub use_resolvers_as_fallback: bool,
        /// Whether to ask for no addresses of a kind that no interface has.
        pub filter_unroutable_families: OnlyFalse,
        /// How to ask.
        pub dns_resolver_options: DnsResolverOptions,
        /// How long to wait for an answer.
        pub query_timeout_seconds: Option<u32>,
        /// How often to ask.
        pub query_tries: Option<u32>,
        /// Not looked at: they always take turns.
        pub rotate_nameservers: bool,
        /// Not looked at: a channel lives only as long as something is being asked.
        pub reinit_channel_on_timeout: bool,
    }
}

impl CaresDnsResolverConfig {
    /// What the older fields of a cluster or a bootstrap say.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_older_fields(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let resolution: DnsResolutionConfig = r.message("dns_resolution_config")?.unwrap_or_default();
        let mut resolvers = resolution.resolvers;
        if resolvers.is_empty() && r.is_of("envoy.config.cluster.v3.Cluster") {
            resolvers = r.messages("dns_resolvers")?;
        }
        let mut dns_resolver_options = resolution.dns_resolver_options;
        dns_resolver_options.use_tcp_for_dns_lookups |= r.bool("use_tcp_for_dns_lookups")?;
        let config = CaresDnsResolverConfig { resolvers, dns_resolver_options, ..Default::default() };
        check_resolvers(r, &config);
        Ok(config)
    }
}

fn check_resolvers(r: &mut MessageReader<'_>, config: &CaresDnsResolverConfig) {
    for resolver in &config.resolvers {
        if let Address::Pipe(pipe) = resolver {
            r.refuse("resolvers", format!("DNS resolver '{}' is not an IP address", pipe.path));
        }
    }
}

message! {
    /// `envoy.config.core.v3.DnsResolverOptions`.
    #[derive(Eq)]
    pub struct DnsResolverOptions = "envoy.config.core.v3.DnsResolverOptions" {
        /// Ask by TCP alone.
        pub use_tcp_for_dns_lookups: bool,
        /// A name is not looked for in the domains of `/etc/resolv.conf`.
        pub no_default_search_domain: bool,
    }
}

message! {
    /// `envoy.config.core.v3.DnsResolutionConfig`.
    #[derive(Eq)]
    pub struct DnsResolutionConfig = "envoy.config.core.v3.DnsResolutionConfig" {
        /// Whom to ask.
        pub resolvers: Vec<Address>,
        /// How to ask.
        pub dns_resolver_options: DnsResolverOptions,
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
        ("UNSPECIFIED", Self::Auto),
        ("V4_ONLY", Self::V4Only),
        ("V6_ONLY", Self::V6Only),
        ("V4_PREFERRED", Self::V4Preferred),
        ("ALL", Self::All),
    ];
}

enum_fields! { DnsLookupFamily }
