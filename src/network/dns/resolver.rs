//! The resolver: which kinds of addresses are looked up, and what comes of it.
//!
//! Mirrors `DnsResolverImpl` of Envoy's `source/common/network/dns_impl.cc`, with the lookups of 1.40, and with evdns in the
//! place of c-ares.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::lookup::{RecordLookup, ResolverOptions, Servers};
use super::{ActiveDnsQuery, DnsResolver, DnsResponse, ResolutionStatus, ResolveCb};
use crate::config::dns::DnsLookupFamily;
use crate::envoy_log;
use crate::event::{Dispatcher, DnsAnswer, DnsError, DnsRecord};

/// See the module's description.
pub struct DnsResolverImpl {
    servers: Rc<Servers>,
}

impl DnsResolverImpl {
    /// One that asks as `options` say.
    pub fn new(dispatcher: &Rc<Dispatcher>, options: ResolverOptions) -> Rc<Self> {
        Rc::new(DnsResolverImpl { servers: Servers::new(dispatcher, options) })
    }
}

impl DnsResolver for DnsResolverImpl {
    fn resolve(&self, name: &str, family: DnsLookupFamily, callback: ResolveCb) -> Option<ActiveDnsQuery> {
        envoy_log!(Dns, debug, "dns resolution for {} started", name);
        let resolution = PendingResolution::new(&self.servers, name, family, callback);
        resolution.start();
        (!resolution.is_finished()).then(|| ActiveDnsQuery::new(resolution))
    }
}

/// A name that is being looked up.
struct PendingResolution {
    weak: Weak<PendingResolution>,
    servers: Rc<Servers>,
    name: String,
    /// What is asked for when there is nothing of the other.
    second: Cell<Option<DnsRecord>>,
    family: DnsLookupFamily,
    lookups: RefCell<Vec<Rc<RecordLookup>>>,
    /// How many answers are to come.
    waiting: Cell<usize>,
    /// Somebody who was asked does not know.
    has_failed: Cell<bool>,
    found: RefCell<Vec<DnsResponse>>,
    callback: Cell<Option<ResolveCb>>,
    is_finished: Cell<bool>,
}

impl PendingResolution {
    fn new(servers: &Rc<Servers>, name: &str, family: DnsLookupFamily, callback: ResolveCb) -> Rc<Self> {
        Rc::new_cyclic(|weak| PendingResolution {
            weak: weak.clone(),
            servers: servers.clone(),
            name: name.to_string(),
            second: Cell::new(match family {
                DnsLookupFamily::Auto => Some(DnsRecord::A),
                DnsLookupFamily::V4Preferred => Some(DnsRecord::Aaaa),
                _ => None,
            }),
            family,
            lookups: RefCell::default(),
            waiting: Cell::new(0),
            has_failed: Cell::new(false),
            found: RefCell::default(),
            callback: Cell::new(Some(callback)),
            is_finished: Cell::new(false),
        })
    }

    fn start(&self) {
        let records: &[DnsRecord] = match self.family {
            DnsLookupFamily::V4Only | DnsLookupFamily::V4Preferred => &[DnsRecord::A],
            DnsLookupFamily::V6Only | DnsLookupFamily::Auto => &[DnsRecord::Aaaa],
            DnsLookupFamily::All => &[DnsRecord::A, DnsRecord::Aaaa],
        };
        self.waiting.set(records.len());
        records.iter().for_each(|record| self.ask(*record));
    }

    fn ask(&self, record: DnsRecord) {
        let weak = self.weak.clone();
        let on_answer = Box::new(move |answer| {
            if let Some(resolution) = weak.upgrade() {
                resolution.on_answer(answer);
            }
        });
        if let Some(lookup) = RecordLookup::start(&self.servers, &self.name, record, on_answer) {
            self.lookups.borrow_mut().push(lookup);
        }
    }

    fn on_answer(&self, answer: Result<DnsAnswer, DnsError>) {
        self.waiting.set(self.waiting.get() - 1);
        match answer {
            Ok(DnsAnswer { addresses, ttl }) => {
                let of = |address| DnsResponse { address, ttl };
                self.found.borrow_mut().extend(addresses.into_iter().map(of));
            }
            // That there is nothing is an answer.
            Err(error @ (DnsError::NotExist | DnsError::NoData)) => {
                envoy_log!(Dns, debug, "dns resolution without records for {}: {:?}", self.name, error);
            }
            Err(error) => {
                envoy_log!(Dns, debug, "dns resolution for {} failed: {:?}", self.name, error);
                self.has_failed.set(true);
            }
        }
        let found_nothing = self.found.borrow().is_empty();
        if let Some(second) = self.second.take().filter(|_| found_nothing) {
            self.waiting.set(1);
            return self.ask(second);
        }
        if self.waiting.get() == 0 {
            self.finish();
        }
    }

    fn finish(&self) {
        self.is_finished.set(true);
        let found = self.found.take();
        let is_known = !found.is_empty() || !self.has_failed.get();
        let status = if is_known { ResolutionStatus::Completed } else { ResolutionStatus::Failure };
        envoy_log!(Dns, debug, "dns resolution for {} completed with status {}", self.name, status as u8);
        let lookups = self.lookups.take();
        if let Some(callback) = self.callback.take() {
            callback(status, found);
        }
        drop(lookups);
    }

    fn is_finished(&self) -> bool {
        self.is_finished.get()
    }
}
