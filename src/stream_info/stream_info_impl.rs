//! [`StreamInfoImpl`]: the record of a stream.
//!
//! Mirrors Envoy's `source/common/stream_info/stream_info_impl.h`. Made per request: making it allocates itself and no
//! more, what few streams have is made when it is first used. It belongs to the stream's thread and is written through
//! shared references. Deliberately different: flags are kept, as in 1.40, in the order in which they were set.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{FilterState, ResponseFlag, Route};
use crate::common::Local;
use crate::event::{self, Moment};
use crate::http::Protocol;
use crate::network::{Address, ConnectionInfoProvider, SslConnectionInfo};
use crate::upstream::{ClusterInfoImpl, WorkerHost};

/// Flags that a stream can carry; one set beyond that is not recorded.
const MAX_FLAGS: usize = 8;

/// Fields by the names of those who have set them.
type Metadata = BTreeMap<String, serde_json::Map<String, Value>>;

/// What is known of one stream. Times are monotonic readings that the caller has made, so that one
/// reading may serve several of them.
pub struct StreamInfoImpl {
    start_time: SystemTime,
    start_time_monotonic: Moment,
    /// The protocol of the request.
    pub protocol: Cell<Option<Protocol>>,
    /// The status sent downstream.
    pub response_code: Cell<Option<u16>>,
    response_code_details: RefCell<Cow<'static, str>>,
    response_flags: Cell<[Option<ResponseFlag>; MAX_FLAGS]>,
    bytes_received: Cell<u64>,
    bytes_sent: Cell<u64>,
    /// The end of the request came in.
    pub last_downstream_rx_byte_received: Cell<Option<Moment>>,
    /// The head of the request went to the upstream.
    pub first_upstream_tx_byte_sent: Cell<Option<Moment>>,
    /// The end of the request went to the upstream.
    pub last_upstream_tx_byte_sent: Cell<Option<Moment>>,
    /// The head of the response came from the upstream.
    pub first_upstream_rx_byte_received: Cell<Option<Moment>>,
    /// The end of the response came from the upstream.
    pub last_upstream_rx_byte_received: Cell<Option<Moment>>,
    /// The head of the response went out.
    pub first_downstream_tx_byte_sent: Cell<Option<Moment>>,
    /// The end of the response went out.
    pub last_downstream_tx_byte_sent: Cell<Option<Moment>>,
    /// The stream ended.
    pub request_complete: Cell<Option<Moment>>,
    downstream_connection: OnceCell<Rc<ConnectionInfoProvider>>,
    downstream_remote_address: RefCell<Option<Address>>,
    upstream_host: RefCell<Option<Rc<WorkerHost>>>,
    upstream_connection: RefCell<Option<Rc<ConnectionInfoProvider>>>,
    /// How long it took until there was one, or was known to be none.
    pub upstream_pool_ready_duration: Cell<Option<Duration>>,
    virtual_cluster_name: OnceCell<Box<str>>,
    upstream_cluster_info: RefCell<Option<Local<ClusterInfoImpl>>>,
    route: RefCell<Option<Rc<dyn Route>>>,
    dynamic_metadata: OnceCell<Box<RefCell<Metadata>>>,
    filter_state: OnceCell<Box<FilterState>>,
    upstream_transport_failure_reason: RefCell<String>,
    /// Whether the request is a health check, which most statistics leave out.
    pub health_check: Cell<bool>,
    /// The upstream gets the body as it is, in no protocol.
    pub upstream_is_raw: Cell<bool>,
    /// The request has the scheme of the connection to the upstream.
    pub scheme_matches_upstream: Cell<bool>,
    /// The stream's random id.
    pub stream_id: Cell<u64>,
    /// How often the request was sent to an upstream.
    pub attempt_count: Cell<u32>,
}

impl Default for StreamInfoImpl {
    fn default() -> Self {
        StreamInfoImpl::new()
    }
}

impl StreamInfoImpl {
    /// A stream that starts now.
    pub fn new() -> Self {
        StreamInfoImpl {
            start_time: SystemTime::now(),
            start_time_monotonic: event::now(),
            protocol: Cell::default(),
            response_code: Cell::default(),
            response_code_details: RefCell::default(),
            response_flags: Cell::default(),
            bytes_received: Cell::default(),
            bytes_sent: Cell::default(),
            last_downstream_rx_byte_received: Cell::default(),
            first_upstream_tx_byte_sent: Cell::default(),
            last_upstream_tx_byte_sent: Cell::default(),
            first_upstream_rx_byte_received: Cell::default(),
            last_upstream_rx_byte_received: Cell::default(),
            first_downstream_tx_byte_sent: Cell::default(),
            last_downstream_tx_byte_sent: Cell::default(),
            request_complete: Cell::default(),
            downstream_connection: OnceCell::new(),
            downstream_remote_address: RefCell::default(),
            upstream_host: RefCell::default(),
            upstream_connection: RefCell::default(),
            upstream_pool_ready_duration: Cell::default(),
            virtual_cluster_name: OnceCell::new(),
            upstream_cluster_info: RefCell::default(),
            route: RefCell::default(),
            dynamic_metadata: OnceCell::new(),
            filter_state: OnceCell::new(),
            upstream_transport_failure_reason: RefCell::default(),
            upstream_is_raw: Cell::default(),
            scheme_matches_upstream: Cell::default(),
            health_check: Cell::default(),
            stream_id: Cell::default(),
            attempt_count: Cell::default(),
        }
    }

    /// When the stream started, by the wall clock.
    pub fn start_time(&self) -> SystemTime {
        self.start_time
    }

    /// When the stream started, by the monotonic clock.
    pub fn start_time_monotonic(&self) -> Moment {
        self.start_time_monotonic
    }

    /// How long the stream took; for one that has not ended, how long it has been going on.
    pub fn duration(&self) -> Duration {
        let end = self.request_complete.get().unwrap_or_else(Moment::exact);
        end.since(self.start_time_monotonic)
    }

    /// Sets a flag; flags add up.
    pub fn set_response_flag(&self, flag: ResponseFlag) {
        let mut flags = self.response_flags.get();
        for slot in &mut flags {
            match slot {
                Some(set) if *set == flag => return,
                Some(_) => {}
                None => {
                    *slot = Some(flag);
                    break;
                }
            }
        }
        self.response_flags.set(flags);
    }

    /// Whether a flag is set.
    pub fn has_response_flag(&self, flag: ResponseFlag) -> bool {
        self.response_flags.get().contains(&Some(flag))
    }

    /// Whether any flag is set.
    pub fn has_any_response_flag(&self) -> bool {
        self.response_flags.get()[0].is_some()
    }

    /// The flags in the order in which they were set.
    pub fn response_flags(&self) -> impl Iterator<Item = ResponseFlag> {
        self.response_flags.get().into_iter().flatten()
    }

    /// How the response came to be; empty when nobody said.
    pub fn response_code_details(&self) -> Ref<'_, str> {
        Ref::map(self.response_code_details.borrow(), |details| details.as_ref())
    }

    /// Says how the response came to be. A text that is not static costs an allocation.
    pub fn set_response_code_details(&self, details: impl Into<Cow<'static, str>>) {
        *self.response_code_details.borrow_mut() = details.into();
    }

    /// Bytes of the request's body so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received.get()
    }

    /// Counts bytes of the request's body.
    pub fn add_bytes_received(&self, bytes: u64) {
        self.bytes_received.set(self.bytes_received.get() + bytes);
    }

    /// Bytes of the response's body so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.get()
    }

    /// Counts bytes of the response's body.
    pub fn add_bytes_sent(&self, bytes: u64) {
        self.bytes_sent.set(self.bytes_sent.get() + bytes);
    }

    /// The host that the request was last sent to, or waits for.
    pub fn upstream_host(&self) -> Option<Rc<WorkerHost>> {
        self.upstream_host.borrow().clone()
    }

    /// Says which host was chosen for the request.
    #[inline(always)]
    pub fn set_upstream_host(&self, host: &Rc<WorkerHost>) {
        *self.upstream_host.borrow_mut() = Some(host.clone());
    }

    /// Another try begins, of which nothing is known yet.
    pub fn forget_upstream(&self) {
        self.upstream_connection.take();
        self.upstream_pool_ready_duration.set(None);
    }

    /// The name of the virtual cluster of the request; empty for none.
    pub fn virtual_cluster_name(&self) -> &str {
        self.virtual_cluster_name.get().map_or("", |name| name)
    }

    /// Says, once, which one it is.
    pub fn set_virtual_cluster_name(&self, name: &str) {
        self.virtual_cluster_name.get_or_init(|| name.into());
    }

    /// The cluster of the request.
    pub fn upstream_cluster_info(&self) -> Option<Local<ClusterInfoImpl>> {
        self.upstream_cluster_info.borrow().clone()
    }

    /// Sets the cluster of the request.
    #[inline(always)]
    pub fn set_upstream_cluster_info(&self, cluster: Option<&Local<ClusterInfoImpl>>) {
        *self.upstream_cluster_info.borrow_mut() = cluster.cloned();
    }

    /// The route of the request, once it was looked up; `None` also when there is none.
    pub fn route(&self) -> Option<Rc<dyn Route>> {
        self.route.borrow().clone()
    }

    /// Sets the route of the request.
    pub fn set_route(&self, route: Option<Rc<dyn Route>>) {
        *self.route.borrow_mut() = route;
    }

    /// The downstream connection, if the stream has one.
    pub fn downstream_connection(&self) -> Option<&Rc<ConnectionInfoProvider>> {
        self.downstream_connection.get()
    }

    /// Says, once, which connection the stream is on.
    pub fn set_downstream_connection(&self, connection: &Rc<ConnectionInfoProvider>) {
        self.downstream_connection.get_or_init(|| connection.clone());
    }

    /// The TLS of the downstream connection; `None` where it has none.
    pub fn downstream_ssl_connection(&self) -> Option<&Rc<dyn SslConnectionInfo>> {
        self.downstream_connection()?.ssl_connection()
    }

    /// The address that the request counts as coming from: that of the connection's other end, unless a header has
    /// told another one.
    pub fn downstream_remote_address(&self) -> Option<Address> {
        let told = self.downstream_remote_address.borrow().clone();
        told.or_else(|| self.downstream_connection().map(|connection| connection.remote_address()))
    }

    /// Says which address the request counts as coming from.
    pub fn set_downstream_remote_address(&self, address: Option<Address>) {
        *self.downstream_remote_address.borrow_mut() = address;
    }

    /// What filters have said of the stream under the name `filter`, and there under `path`.
    pub fn dynamic_metadata(&self, filter: &str, path: &[impl AsRef<str>]) -> Option<Value> {
        let metadata = self.dynamic_metadata.get()?.borrow();
        let (first, rest) = match path.split_first() {
            Some((first, rest)) => (metadata.get(filter)?.get(first.as_ref())?, rest),
            None => return metadata.get(filter).cloned().map(Value::Object),
        };
        rest.iter().try_fold(first, |value, key| value.get(key.as_ref())).cloned()
    }

    /// Says something of the stream under the name `filter`: the fields of `value` are added to those said before.
    pub fn set_dynamic_metadata(&self, filter: &str, value: serde_json::Map<String, Value>) {
        let mut metadata = self.dynamic_metadata.get_or_init(Box::default).borrow_mut();
        metadata.entry(filter.to_string()).or_default().extend(value);
    }

    /// What filters have left in the stream for others, if one has left something.
    pub fn filter_state(&self) -> Option<&FilterState> {
        self.filter_state.get().map(|state| &**state)
    }

    /// The same, to leave something in it.
    pub fn make_filter_state(&self) -> &FilterState {
        self.filter_state.get_or_init(Box::default)
    }

    /// The connection that the request was last sent on.
    pub fn upstream_connection(&self) -> Option<Rc<ConnectionInfoProvider>> {
        self.upstream_connection.borrow().clone()
    }

    /// Says which connection the request is sent on.
    #[inline]
    pub fn set_upstream_connection(&self, connection: Option<Rc<ConnectionInfoProvider>>) {
        *self.upstream_connection.borrow_mut() = connection;
    }

    /// The TLS of that connection; `None` where it has none.
    pub fn upstream_ssl_connection(&self) -> Option<Rc<dyn SslConnectionInfo>> {
        self.upstream_connection.borrow().as_ref()?.ssl_connection().cloned()
    }

    /// Why the upstream's transport failed; empty for no reason.
    pub fn upstream_transport_failure_reason(&self) -> Ref<'_, str> {
        Ref::map(self.upstream_transport_failure_reason.borrow(), |reason| reason.as_str())
    }

    /// Says why the upstream's transport failed.
    pub fn set_upstream_transport_failure_reason(&self, reason: &str) {
        *self.upstream_transport_failure_reason.borrow_mut() = reason.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_are_listed_in_the_order_of_setting() {
        let info = StreamInfoImpl::new();
        assert!(!info.has_any_response_flag());
        let flags = || info.response_flags().map(ResponseFlag::as_str).collect::<Vec<_>>();
        assert!(flags().is_empty());
        info.set_response_flag(ResponseFlag::UpstreamRetryLimitExceeded);
        info.set_response_flag(ResponseFlag::UpstreamConnectionFailure);
        info.set_response_flag(ResponseFlag::UpstreamRetryLimitExceeded);
        assert!(info.has_any_response_flag());
        assert_eq!(flags(), ["URX", "UF"]);
        assert!(info.has_response_flag(ResponseFlag::UpstreamConnectionFailure));
        assert!(!info.has_response_flag(ResponseFlag::NoRouteFound));
    }

    #[test]
    fn flags_beyond_the_room_for_them_are_left_out() {
        let info = StreamInfoImpl::new();
        let many = [
            ResponseFlag::FailedLocalHealthCheck,
            ResponseFlag::NoHealthyUpstream,
            ResponseFlag::UpstreamRequestTimeout,
            ResponseFlag::LocalReset,
            ResponseFlag::UpstreamRemoteReset,
            ResponseFlag::UpstreamConnectionFailure,
            ResponseFlag::UpstreamConnectionTermination,
            ResponseFlag::UpstreamOverflow,
            ResponseFlag::NoRouteFound,
        ];
        many.iter().for_each(|flag| info.set_response_flag(*flag));
        assert_eq!(info.response_flags().collect::<Vec<_>>(), many[..8]);
    }

    #[test]
    fn texts_may_be_static_or_made() {
        let info = StreamInfoImpl::new();
        assert_eq!(&*info.response_code_details(), "");
        info.set_response_code_details("via_upstream");
        assert_eq!(&*info.response_code_details(), "via_upstream");
        info.set_response_code_details(format!("reset{{{}}}", "overflow"));
        assert_eq!(&*info.response_code_details(), "reset{overflow}");
    }

    #[test]
    fn metadata_adds_up_and_is_found_by_its_path() {
        let info = StreamInfoImpl::new();
        let set = |value: Value| info.set_dynamic_metadata("f", value.as_object().unwrap().clone());
        let none: [&str; 0] = [];
        assert_eq!(info.dynamic_metadata("f", &none), None);
        set(json!({"a": {"b": 1}, "c": "old"}));
        set(json!({"c": "new"}));
        assert_eq!(info.dynamic_metadata("f", &none), Some(json!({"a": {"b": 1}, "c": "new"})));
        assert_eq!(info.dynamic_metadata("f", &["a", "b"]), Some(json!(1)));
        assert_eq!(info.dynamic_metadata("f", &["a", "x"]), None);
        assert_eq!(info.dynamic_metadata("g", &["a"]), None);
    }

    #[test]
    fn the_duration_ends_with_the_request() {
        let info = StreamInfoImpl::new();
        let end = info.start_time_monotonic().after(Duration::from_millis(7));
        info.request_complete.set(Some(end));
        assert_eq!(info.duration(), Duration::from_millis(7));
    }

    #[test]
    fn bytes_add_up() {
        let info = StreamInfoImpl::new();
        info.add_bytes_received(2);
        info.add_bytes_received(3);
        info.add_bytes_sent(7);
        assert_eq!((info.bytes_received(), info.bytes_sent()), (5, 7));
    }

    #[test]
    fn the_struct_stays_small() {
        assert!(size_of::<StreamInfoImpl>() <= 512, "{}", size_of::<StreamInfoImpl>());
    }
}
