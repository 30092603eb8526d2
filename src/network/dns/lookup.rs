//! The addresses of one kind that a name has.
//!
//! Stands where c-ares has `ares_getaddrinfo`: the machine's own names first, then the servers, for each name that a short name
//! may stand for, and by TCP what does not fit into a datagram.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::tcp_query::TcpQuery;
use super::{hosts_file, search};
use crate::envoy_log;
use crate::event::{
    Dispatcher, DnsAnswer, DnsCallback, DnsChannel, DnsError, DnsOptions, DnsQuery, DnsRecord, MAX_ADDRESSES,
    WeakDnsChannel,
};

/// How long to wait for an answer by TCP where nothing is said, as evdns waits for one by UDP.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Questions go to new channels when one is so old: where there is always something being asked, it would never close.
const CHANNEL_AGE: Duration = Duration::from_secs(30);

/// How names are looked up.
#[derive(Debug, Clone, Default)]
pub struct ResolverOptions {
    /// Whom to ask.
    pub servers: DnsOptions,
    /// A short name stands for nothing but itself.
    pub no_search: bool,
    /// Ask by TCP alone.
    pub use_tcp: bool,
}

/// Whom to ask. A channel to them is open for as long as something is being asked, so that the next question comes from another
/// port, and finds what has become of `/etc/resolv.conf`.
pub(super) struct Servers {
    dispatcher: Weak<Dispatcher>,
    options: ResolverOptions,
    channel: RefCell<WeakDnsChannel>,
    opened: Cell<Option<Instant>>,
}

impl Servers {
    pub(super) fn new(dispatcher: &Rc<Dispatcher>, options: ResolverOptions) -> Rc<Self> {
        let dispatcher = Rc::downgrade(dispatcher);
        Rc::new(Servers { dispatcher, options, channel: RefCell::default(), opened: Cell::default() })
    }

    /// The channel that others are asking on, or a new one.
    fn channel(&self) -> Option<DnsChannel> {
        let is_fresh = self.opened.get().is_some_and(|opened| opened.elapsed() < CHANNEL_AGE);
        if let Some(channel) = self.channel.borrow().upgrade().filter(|_| is_fresh) {
            return Some(channel);
        }
        let opened = self.dispatcher.upgrade()?.create_dns_channel(&self.options.servers);
        let channel = opened.inspect_err(|error| envoy_log!(Dns, warn, "cannot ask: {}", error)).ok()?;
        *self.channel.borrow_mut() = channel.downgrade();
        self.opened.set(Some(Instant::now()));
        Some(channel)
    }
}

/// See the module's description. Dropping it ends it: its callback does not run.
pub(super) struct RecordLookup {
    weak: Weak<RecordLookup>,
    servers: Rc<Servers>,
    record: DnsRecord,
    /// What is still to be tried.
    names: RefCell<VecDeque<String>>,
    /// One of them is there, without addresses of that kind.
    has_no_data: Cell<bool>,
    channel: RefCell<Option<DnsChannel>>,
    query: RefCell<Option<Query>>,
    callback: Cell<Option<DnsCallback>>,
}

/// What is being waited for.
enum Query {
    Udp { _query: DnsQuery },
    Tcp { _query: Rc<TcpQuery> },
}

impl RecordLookup {
    /// Looks `name` up. The callback may run before this returns.
    pub(super) fn start(
        servers: &Rc<Servers>,
        name: &str,
        record: DnsRecord,
        callback: DnsCallback,
    ) -> Option<Rc<Self>> {
        if let Some(known) = hosts_file::look_up(name, record) {
            callback(known.map(|addresses| DnsAnswer { addresses, ttl: Duration::ZERO }));
            return None;
        }
        let lookup = Rc::new_cyclic(|weak| RecordLookup {
            weak: weak.clone(),
            servers: servers.clone(),
            record,
            names: RefCell::new(search::candidates(name, servers.options.no_search).into()),
            has_no_data: Cell::new(false),
            channel: RefCell::default(),
            query: RefCell::default(),
            callback: Cell::new(Some(callback)),
        });
        let channel = servers.channel();
        if channel.is_none() {
            lookup.finish(Err(DnsError::NoServer));
            return None;
        }
        *lookup.channel.borrow_mut() = channel;
        lookup.try_next();
        Some(lookup)
    }

    fn try_next(&self) {
        let next = self.names.borrow_mut().pop_front();
        match next {
            Some(name) if self.servers.options.use_tcp => self.ask_by_tcp(name, 0, None),
            Some(name) => self.ask(name, true),
            None if self.has_no_data.get() => self.finish(Err(DnsError::NoData)),
            None => self.finish(Err(DnsError::NotExist)),
        }
    }

    fn ask(&self, name: String, is_first: bool) {
        let Some(channel) = self.channel.borrow().clone() else { return };
        let (weak, asked) = (self.weak.clone(), name.clone());
        let on_answer = Box::new(move |answer: Result<DnsAnswer, DnsError>| {
            let Some(lookup) = weak.upgrade() else { return };
            match answer {
                // evdns waits no longer then: who guesses the question's number must not decide it.
                Err(DnsError::Malformed) if is_first => lookup.ask(asked, false),
                Err(DnsError::Truncated | DnsError::Malformed) => lookup.ask_by_tcp(asked, 0, None),
                Ok(answer) if answer.addresses.len() >= MAX_ADDRESSES => {
                    lookup.ask_by_tcp(asked, 0, Some(answer));
                }
                answer => lookup.on_answer(answer),
            }
        });
        match channel.query(&name, self.record, on_answer) {
            Some(query) => {
                let old = self.query.replace(Some(Query::Udp { _query: query }));
                drop(old);
            }
            None => self.finish(Err(DnsError::NoName)),
        }
    }

    /// Asks the server of that number, and the next one where it does not answer. Where none does it is `cut_short` that is
    /// known: what evdns has kept of an answer that may have been longer.
    fn ask_by_tcp(&self, name: String, number: usize, cut_short: Option<DnsAnswer>) {
        let servers: Vec<SocketAddr> =
            self.channel.borrow().as_ref().map(DnsChannel::servers).unwrap_or_default();
        let (Some(server), Some(dispatcher)) = (servers.get(number), self.servers.dispatcher.upgrade())
        else {
            return self.finish(cut_short.ok_or(DnsError::Timeout));
        };
        let (weak, asked, kept) = (self.weak.clone(), name.clone(), cut_short.clone());
        let on_answer = Box::new(move |answer: Result<DnsAnswer, DnsError>| {
            let Some(lookup) = weak.upgrade() else { return };
            match answer {
                Err(error) if !matches!(error, DnsError::NotExist | DnsError::NoData) => {
                    envoy_log!(Dns, debug, "dns resolution by TCP for {} failed: {:?}", asked, error);
                    lookup.ask_by_tcp(asked, number + 1, kept);
                }
                answer => lookup.on_answer(answer),
            }
        });
        let timeout = self.servers.options.servers.timeout.unwrap_or(DEFAULT_TIMEOUT);
        match TcpQuery::new(&dispatcher, *server, &name, self.record, timeout, on_answer) {
            Some(query) => {
                let old = self.query.replace(Some(Query::Tcp { _query: query }));
                drop(old);
            }
            None => self.ask_by_tcp(name, number + 1, cut_short),
        }
    }

    fn on_answer(&self, answer: Result<DnsAnswer, DnsError>) {
        match answer {
            Err(error @ (DnsError::NotExist | DnsError::NoData)) => {
                self.has_no_data.set(self.has_no_data.get() || error == DnsError::NoData);
                self.try_next();
            }
            answer => self.finish(answer),
        }
    }

    fn finish(&self, answer: Result<DnsAnswer, DnsError>) {
        let (query, channel) = (self.query.take(), self.channel.take());
        if let Some(callback) = self.callback.take() {
            callback(answer);
        }
        drop((query, channel));
    }
}
