//! Resolvers among the extensions.
//!
//! Mirrors Envoy's `source/common/network/dns_resolver/dns_factory_util.h` of 1.40; 1.1 has one resolver.

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{DnsResolver, DnsResolverImpl, ResolverOptions};
use crate::config::dns::CaresDnsResolverConfig;
use crate::config::error::ConfigError;
use crate::config::extension::{Factory, TypedConfig};
use crate::config::reader::FromMessage;
use crate::event::{Dispatcher, DnsOptions};
use crate::network::Address;

/// What a configuration says of who looks names up.
pub trait DnsResolverConfig: Any + Debug + Send + Sync {
    /// Makes one for the loop of a thread.
    fn create(&self, dispatcher: &Rc<Dispatcher>) -> Rc<dyn DnsResolver>;
}

/// Reads the configuration of a resolver.
pub type DnsResolverFactory = Factory<dyn DnsResolverConfig>;

/// The resolver under the name that it has in Envoy, where c-ares does the work.
pub static CARES: DnsResolverFactory = DnsResolverFactory::new(
    "envoy.network.dns_resolver.cares",
    &["envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"],
    |r| Ok(Arc::new(CaresDnsResolverConfig::read(r)?)),
)
.or_around(|r| Ok(Arc::new(CaresDnsResolverConfig::of_older_fields(r)?)));

impl DnsResolverConfig for CaresDnsResolverConfig {
    fn create(&self, dispatcher: &Rc<Dispatcher>) -> Rc<dyn DnsResolver> {
        let server = |address| Address::configured(address)?.ip().copied();
        let servers = DnsOptions {
            servers: self.resolvers.iter().filter_map(server).collect(),
            servers_are_fallback: self.use_resolvers_as_fallback,
            timeout: self.query_timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            attempts: self.query_tries,
        };
        let options = ResolverOptions {
            servers,
            no_search: self.dns_resolver_options.no_default_search_domain,
            use_tcp: self.dns_resolver_options.use_tcp_for_dns_lookups,
        };
        DnsResolverImpl::new(dispatcher, options)
    }
}

/// The resolver that is asked for, or one with the machine's own settings.
///
/// # Errors
/// It is the configuration of something else, which one that was read never is.
pub fn create_dns_resolver(
    config: Option<&TypedConfig>,
    dispatcher: &Rc<Dispatcher>,
) -> Result<Rc<dyn DnsResolver>, ConfigError> {
    match config {
        Some(config) => Ok(config.get::<dyn DnsResolverConfig>()?.create(dispatcher)),
        None => Ok(DnsResolverImpl::new(dispatcher, ResolverOptions::default())),
    }
}
