//! Names to addresses.
//!
//! Mirrors Envoy's `include/envoy/network/dns.h`, with the lookups of 1.40: all five families, and an answer that says whether
//! there was one.

mod factory;
mod hosts_file;
mod lookup;
mod message;
mod resolver;
mod search;
mod tcp_query;

pub use factory::{CARES, DnsResolverConfig, DnsResolverFactory, create_dns_resolver};
pub use lookup::ResolverOptions;
#[doc(hidden)]
pub use message::parse_answer as parse_dns_answer;
pub use resolver::DnsResolverImpl;

use std::any::Any;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::config::dns::DnsLookupFamily;

/// Whether a name could be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolutionStatus {
    /// Who answers for the name has answered; maybe that it has no addresses.
    Completed,
    /// Nobody knows.
    Failure,
}

/// One address of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsResponse {
    /// The address.
    pub address: IpAddr,
    /// How long it is good; zero where nobody says.
    pub ttl: Duration,
}

/// Is told of what came of a lookup.
pub type ResolveCb = Box<dyn FnOnce(ResolutionStatus, Vec<DnsResponse>)>;

/// Looks names up.
pub trait DnsResolver {
    /// Looks `name` up and calls back, once: before this returns where nobody need be asked, and then there is no query.
    fn resolve(&self, name: &str, family: DnsLookupFamily, callback: ResolveCb) -> Option<ActiveDnsQuery>;
}

/// A lookup under way. Dropping it cancels it: nobody is called back.
pub struct ActiveDnsQuery {
    _query: Rc<dyn Any>,
}

impl ActiveDnsQuery {
    /// One that lives as long as somebody holds `query`.
    pub fn new(query: Rc<dyn Any>) -> Self {
        ActiveDnsQuery { _query: query }
    }
}
