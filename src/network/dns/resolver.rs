//! The resolver: looks on the machine, and then asks DNS servers.
//!
//! Mirrors `DnsResolverImpl` of Envoy's `source/common/network/dns_impl.cc`, with evdns in the place of c-ares, and its
//! lookups as in 1.40. A channel to the servers is open for as long as something is being asked, so that the next question
//! comes from another port, and finds what has become of `/etc/resolv.conf`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::hosts_file;
use super::{ActiveDnsQuery, DnsResolver, DnsResponse, ResolutionStatus, ResolveCb};
use crate::config::dns::DnsLookupFamily;
use crate::envoy_log;
use crate::event::{
    Dispatcher, DnsAnswer, DnsChannel, DnsError, DnsOptions, DnsQuery, DnsRecord, WeakDnsChannel,
};

/// See the module's description.
pub struct DnsResolverImpl {
    servers: Rc<Servers>,
}

impl DnsResolverImpl {
    /// One that asks as `options` say.
    pub fn new(dispatcher: &Rc<Dispatcher>, options: DnsOptions) -> Rc<Self> {
        let servers = Servers { dispatcher: Rc::downgrade(dispatcher), options, channel: RefCell::default() };
        Rc::new(DnsResolverImpl { servers: Rc::new(servers) })
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

/// Whom to ask.
struct Servers {
    dispatcher: Weak<Dispatcher>,
    options: DnsOptions,
    channel: RefCell<WeakDnsChannel>,
}

impl Servers {
    /// The channel that others are asking on, or a new one.
    fn channel(&self) -> Option<DnsChannel> {
        if let Some(channel) = self.channel.borrow().upgrade() {
            return Some(channel);
        }
        let opened = self.dispatcher.upgrade()?.create_dns_channel(&self.options);
        let channel = opened.inspect_err(|error| envoy_log!(Dns, warn, "cannot ask: {}", error)).ok()?;
        *self.channel.borrow_mut() = channel.downgrade();
        Some(channel)
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
    queries: RefCell<Vec<DnsQuery>>,
    /// How many answers are to come.
    waiting: Cell<usize>,
    /// Somebody has answered.
    is_answered: Cell<bool>,
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
            queries: RefCell::default(),
            waiting: Cell::new(0),
            is_answered: Cell::new(false),
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
        if let Some(known) = hosts_file::look_up(&self.name, record) {
            return self.on_answer(known.map(|addresses| DnsAnswer { addresses, ttl: Duration::ZERO }));
        }
        let weak = self.weak.clone();
        let on_answer = Box::new(move |answer| {
            if let Some(resolution) = weak.upgrade() {
                resolution.on_answer(answer);
            }
        });
        let query = self.servers.channel().and_then(|channel| channel.query(&self.name, record, on_answer));
        match query {
            Some(query) => self.queries.borrow_mut().push(query),
            None => self.on_answer(Err(DnsError::NoName)),
        }
    }

    fn on_answer(&self, answer: Result<DnsAnswer, DnsError>) {
        self.waiting.set(self.waiting.get() - 1);
        match answer {
            Ok(DnsAnswer { addresses, ttl }) => {
                self.is_answered.set(true);
                self.found
                    .borrow_mut()
                    .extend(addresses.into_iter().map(|address| DnsResponse { address, ttl }));
            }
            // That there is nothing is an answer.
            Err(error @ (DnsError::NotExist | DnsError::NoData)) => {
                envoy_log!(Dns, debug, "dns resolution without records for {}: {:?}", self.name, error);
                self.is_answered.set(true);
            }
            Err(error) => envoy_log!(Dns, debug, "dns resolution for {} failed: {:?}", self.name, error),
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
        let status =
            if self.is_answered.get() { ResolutionStatus::Completed } else { ResolutionStatus::Failure };
        envoy_log!(Dns, debug, "dns resolution for {} completed with status {}", self.name, status as u8);
        let queries = self.queries.take();
        if let Some(callback) = self.callback.take() {
            callback(status, self.found.take());
        }
        drop(queries);
    }

    fn is_finished(&self) -> bool {
        self.is_finished.get()
    }
}
