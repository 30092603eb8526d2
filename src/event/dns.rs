//! Questions to DNS servers, by libevent's evdns.
//!
//! Stands where Envoy has c-ares. A [`DnsChannel`] is an `evdns_base`: a UDP socket for each server, and what has been asked.
//! Answers come to a callback on the loop. Of an answer evdns keeps at most 32 addresses, and it asks by UDP alone; who wants
//! more asks the same servers in another way.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ptr::NonNull;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::ffi;
use super::libevent::{Base, CallbackKind, guarded};

/// How many addresses of an answer evdns keeps.
pub const MAX_ADDRESSES: usize = 32;

/// Where servers listen that come without a port.
const DNS_PORT: u16 = 53;

/// The file that names the servers.
const RESOLV_CONF: &CStr = c"/etc/resolv.conf";

/// So many questions are asked at a time, and others wait: without it, 64 names about which a server is silent hold up all
/// others.
const MAX_INFLIGHT: &CStr = c"1024";

/// evdns sends a question of its own to a server that has not answered, to see whether it is back. This is the longest that
/// it can be told to wait with that, and no channel lives as long.
const PROBE_TIMEOUT: &CStr = c"3600";

/// Whom to ask, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsOptions {
    /// Without any, those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// `servers` are asked only where `/etc/resolv.conf` has none.
    pub servers_are_fallback: bool,
    /// How long to wait for an answer; `None` is as `/etc/resolv.conf` says, or evdns' 5 s.
    pub timeout: Option<Duration>,
    /// How often to ask; `None` is as `/etc/resolv.conf` says, or 3 times.
    pub attempts: Option<u32>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecord {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// Why there are no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsError {
    /// There is no such name.
    NotExist,
    /// There is the name, without an address of that kind.
    NoData,
    /// There is more than fits into a datagram, or what came ends too early.
    Truncated,
    /// What came is no answer to the question.
    Malformed,
    /// None of the servers has answered with anything of use in time.
    Timeout,
    /// The servers do not want to.
    Refused,
    /// What was asked for can be no name.
    NoName,
    /// There is nobody to ask.
    NoServer,
    /// Everything else, as evdns numbers it.
    Other(i32),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAnswer {
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// How long all of them are good.
    pub ttl: Duration,
}

/// Is told of an answer.
pub type DnsCallback = Box<dyn FnOnce(Result<DnsAnswer, DnsError>)>;

/// Sockets to DNS servers, closed when it and the last of its questions have gone.
#[derive(Clone)]
pub struct DnsChannel {
    inner: Rc<Channel>,
}

struct Channel {
    raw: NonNull<ffi::evdns_base>,
    /// Behind the channel's events.
    base: Rc<Base>,
}

impl DnsChannel {
    pub(super) fn new(base: &Rc<Base>, options: &DnsOptions) -> io::Result<Self> {
        // SAFETY: the base is alive, and lives longer than what is made here.
        let raw = unsafe { ffi::evdns_base_new(base.raw(), 0) };
        let Some(raw) = NonNull::new(raw) else { return Err(io::Error::other("no DNS client")) };
        let inner = Rc::new(Channel { raw, base: base.clone() });
        inner.configure(options)?;
        Ok(DnsChannel { inner })
    }

    /// Asks for the addresses of `name`, as it is. `None` for what can be no name: too long, or with a part
    /// that is. `callback` is never called before this returns.
    pub fn query(&self, name: &str, record: DnsRecord, callback: DnsCallback) -> Option<DnsQuery> {
        let name = CString::new(name).ok()?;
        let cell = Rc::new(QueryCell {
            base: Rc::downgrade(&self.inner.base),
            callback: Cell::new(Some(callback)),
            is_over: Cell::new(false),
        });
        let arg = Rc::into_raw(cell.clone()) as *mut c_void;
        let ask = match record {
            DnsRecord::A => ffi::evdns_base_resolve_ipv4,
            DnsRecord::Aaaa => ffi::evdns_base_resolve_ipv6,
        };
        let (channel, flags) = (self.inner.raw.as_ptr(), ffi::DNS_QUERY_NO_SEARCH as c_int);
        // SAFETY: the channel is alive, the name is copied, and `arg` is the cell's count that `answer_cb` gives back.
        let raw = unsafe { ask(channel, name.as_ptr(), flags, Some(answer_cb), arg) };
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: evdns has not taken the count.
            drop(unsafe { Rc::from_raw(arg as *const QueryCell) });
            return None;
        };
        Some(DnsQuery { raw, channel: self.inner.clone(), cell })
    }

    /// The servers, in the order in which they are known.
    pub fn servers(&self) -> Vec<SocketAddr> {
        (0..self.inner.servers()).filter_map(|i| self.inner.server(i)).collect()
    }

    /// A handle that does not keep it open.
    pub fn downgrade(&self) -> WeakDnsChannel {
        WeakDnsChannel { inner: Rc::downgrade(&self.inner) }
    }
}

/// See [`DnsChannel::downgrade`].
#[derive(Default)]
pub struct WeakDnsChannel {
    inner: Weak<Channel>,
}

impl WeakDnsChannel {
    /// The channel, if it is still open.
    pub fn upgrade(&self) -> Option<DnsChannel> {
        Some(DnsChannel { inner: self.inner.upgrade()? })
    }
}

impl Channel {
    fn configure(&self, options: &DnsOptions) -> io::Result<()> {
        let mut flags = ffi::DNS_OPTION_MISC;
        if options.servers.is_empty() {
            flags |= ffi::DNS_OPTION_NAMESERVERS;
        } else if options.servers_are_fallback {
            flags |= ffi::DNS_OPTION_NAMESERVERS | ffi::DNS_OPTION_NAMESERVERS_NO_DEFAULT;
        }
        // What is wrong with the file is as if it were not there.
        // SAFETY: the channel is alive, and the name ends in NUL.
        unsafe { ffi::evdns_base_resolv_conf_parse(self.raw.as_ptr(), flags as c_int, RESOLV_CONF.as_ptr()) };
        if self.servers() == 0 {
            options.servers.iter().for_each(|server| self.add_server(*server));
        }
        if self.servers() == 0 {
            return Err(io::Error::other("no DNS server that can be asked"));
        }
        self.set(c"initial-probe-timeout:", PROBE_TIMEOUT);
        self.set(c"max-inflight:", MAX_INFLIGHT);
        if let Some(timeout) = options.timeout {
            self.set_number(c"timeout:", timeout.as_secs_f64());
        }
        if let Some(attempts) = options.attempts {
            self.set_number(c"attempts:", f64::from(attempts));
        }
        Ok(())
    }

    fn servers(&self) -> c_int {
        // SAFETY: the channel is alive.
        unsafe { ffi::evdns_base_count_nameservers(self.raw.as_ptr()) }
    }

    fn server(&self, number: c_int) -> Option<SocketAddr> {
        let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let raw = address.as_mut_ptr().cast();
        // SAFETY: the channel is alive, and there are `size` bytes to write to.
        let length = unsafe { ffi::evdns_base_get_nameserver_addr(self.raw.as_ptr(), number, raw, size) };
        let length = libc::socklen_t::try_from(length).ok()?;
        // SAFETY: evdns has written an address of that length.
        let address = unsafe { SockaddrStorage::from_raw(address.as_ptr().cast(), Some(length)) }?;
        let v4 = || address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        let v6 = || address.as_sockaddr_in6().map(|v6| SocketAddr::from(SocketAddrV6::from(*v6)));
        v4().or_else(v6)
    }

    fn add_server(&self, server: SocketAddr) {
        let port = if server.port() == 0 { DNS_PORT } else { server.port() };
        let address = SockaddrStorage::from(SocketAddr::new(server.ip(), port));
        // SAFETY: the channel is alive, and the address, of that length, is copied.
        unsafe {
            ffi::evdns_base_nameserver_sockaddr_add(
                self.raw.as_ptr(),
                address.as_ptr().cast(),
                address.len(),
                0,
            )
        };
    }

    fn set_number(&self, option: &CStr, value: f64) {
        let value = CString::new(value.to_string()).expect("digits"); // invariant: no NUL in it
        self.set(option, &value);
    }

    fn set(&self, option: &CStr, value: &CStr) {
        // SAFETY: the channel is alive, and both texts end in NUL.
        unsafe { ffi::evdns_base_set_option(self.raw.as_ptr(), option.as_ptr(), value.as_ptr()) };
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: its questions hold it, so that none is left but those that have been cancelled, whose callbacks do not
        // look at it.
        unsafe { ffi::evdns_base_free(self.raw.as_ptr(), 0) };
    }
}

struct QueryCell {
    base: Weak<Base>,
    callback: Cell<Option<DnsCallback>>,
    is_over: Cell<bool>,
}

/// A question. Dropping it cancels it: its callback does not run.
pub struct DnsQuery {
    raw: NonNull<ffi::evdns_request>,
    channel: Rc<Channel>,
    cell: Rc<QueryCell>,
}

impl Drop for DnsQuery {
    fn drop(&mut self) {
        if self.cell.is_over.get() {
            return;
        }
        drop(self.cell.callback.take());
        // SAFETY: evdns frees the question behind its callback, which has not run yet, and the channel is alive.
        unsafe { ffi::evdns_cancel_request(self.channel.raw.as_ptr(), self.raw.as_ptr()) };
    }
}

unsafe extern "C" fn answer_cb(
    result: c_int,
    kind: c_char,
    count: c_int,
    ttl: c_int,
    addresses: *mut c_void,
    arg: *mut c_void,
) {
    // SAFETY: `arg` is the count that `query` has given away; evdns calls back once.
    let cell = unsafe { Rc::from_raw(arg as *const QueryCell) };
    cell.is_over.set(true);
    let (Some(callback), Some(base)) = (cell.callback.take(), cell.base.upgrade()) else { return };
    let answer = match result as u32 {
        ffi::DNS_ERR_NONE => Ok(DnsAnswer {
            // SAFETY: evdns hands over `count` addresses of that kind, which live for the call.
            addresses: unsafe { read_addresses(kind, count, addresses) },
            // One whose top bit is set counts as 0 (RFC 2181, 8).
            ttl: Duration::from_secs(u64::try_from(ttl).unwrap_or(0)),
        }),
        ffi::DNS_ERR_NOTEXIST => Err(DnsError::NotExist),
        ffi::DNS_ERR_NODATA => Err(DnsError::NoData),
        ffi::DNS_ERR_TRUNCATED => Err(DnsError::Truncated),
        ffi::DNS_ERR_UNKNOWN => Err(DnsError::Malformed),
        ffi::DNS_ERR_TIMEOUT => Err(DnsError::Timeout),
        ffi::DNS_ERR_REFUSED => Err(DnsError::Refused),
        _ => Err(DnsError::Other(result)),
    };
    guarded(&base, CallbackKind::Dns, 0, false, || callback(answer));
}

/// # Safety
/// There have to be `count` addresses of that kind.
unsafe fn read_addresses(kind: c_char, count: c_int, addresses: *const c_void) -> Vec<IpAddr> {
    let at = |i: usize| match kind as u32 {
        ffi::DNS_IPv4_A => {
            // SAFETY: as the caller says.
            Some(IpAddr::from(unsafe { addresses.cast::<[u8; 4]>().add(i).read() }))
        }
        ffi::DNS_IPv6_AAAA => {
            // SAFETY: as the caller says.
            Some(IpAddr::from(unsafe { addresses.cast::<[u8; 16]>().add(i).read() }))
        }
        _ => None,
    };
    (0..count as usize).filter_map(at).collect()
}
