//! What is known of a stream, for its access log.
//!
//! Mirrors Envoy's `source/common/stream_info/stream_info_impl.h`. Made per request: it allocates
//! nothing until something unusual is recorded. It knows addresses and names, not hosts.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Protocol;
use crate::network::Address;

macro_rules! response_flags {
    ($($(#[$doc:meta])* $flag:ident = $bit:literal $text:literal,)*) => {
        /// Why a response is not simply the upstream's. The names are Envoy 1.40's.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum ResponseFlag { $($(#[$doc])* $flag,)* }

        /// All flags in the order in which they are printed.
        const FLAGS: &[(ResponseFlag, u64, &str)] = &[$((ResponseFlag::$flag, 1 << $bit, $text),)*];
    };
}

response_flags! {
    /// The local health check failed.
    FailedLocalHealthCheck = 0 "LH",
    /// No healthy host in the cluster.
    NoHealthyUpstream = 1 "UH",
    /// The route's or the try's timeout.
    UpstreamRequestTimeout = 2 "UT",
    /// Reset from this side.
    LocalReset = 3 "LR",
    /// Reset by the upstream.
    UpstreamRemoteReset = 4 "UR",
    /// The connection to the upstream failed.
    UpstreamConnectionFailure = 5 "UF",
    /// The connection to the upstream ended.
    UpstreamConnectionTermination = 6 "UC",
    /// A circuit breaker's limit.
    UpstreamOverflow = 7 "UO",
    /// No route for the request.
    NoRouteFound = 8 "NR",
    /// The fault filter delayed the request.
    DelayInjected = 9 "DI",
    /// The fault filter aborted the request.
    FaultInjected = 10 "FI",
    /// Rate limited.
    RateLimited = 11 "RL",
    /// Denied by the external authorization service.
    UnauthorizedExternalService = 12 "UAEX",
    /// The rate limit service failed.
    RateLimitServiceError = 13 "RLSE",
    /// The downstream went away.
    DownstreamConnectionTermination = 14 "DC",
    /// All retries were used up.
    UpstreamRetryLimitExceeded = 15 "URX",
    /// The stream's idle timeout.
    StreamIdleTimeout = 16 "SI",
    /// The downstream broke the protocol.
    DownstreamProtocolError = 18 "DPE",
    /// The upstream broke the protocol.
    UpstreamProtocolError = 21 "UPE",
    /// The longest duration of the stream, or of its upstream half.
    DurationTimeout = 20 "DT",
    /// The route's cluster does not exist.
    NoClusterFound = 25 "NC",
    /// The overload manager ended the stream.
    OverloadManager = 26 "OM",
}

impl ResponseFlag {
    fn bit(self) -> u64 {
        FLAGS[self as usize].1
    }
}

/// See the module's description. Times are monotonic readings that the caller has made.
pub struct StreamInfoImpl {
    start_time: SystemTime,
    start_time_monotonic: Instant,
    /// The protocol of the request.
    pub protocol: Cell<Option<Protocol>>,
    /// The status sent downstream.
    pub response_code: Cell<Option<u16>>,
    response_code_details: Cell<&'static str>,
    response_flags: Cell<u64>,
    bytes_received: Cell<u64>,
    bytes_sent: Cell<u64>,
    /// The end of the request came in.
    pub last_downstream_rx_byte_received: Cell<Option<Instant>>,
    /// The head of the request went to the upstream.
    pub first_upstream_tx_byte_sent: Cell<Option<Instant>>,
    /// The end of the request went to the upstream.
    pub last_upstream_tx_byte_sent: Cell<Option<Instant>>,
    /// The head of the response came from the upstream.
    pub first_upstream_rx_byte_received: Cell<Option<Instant>>,
    /// The end of the response came from the upstream.
    pub last_upstream_rx_byte_received: Cell<Option<Instant>>,
    /// The head of the response went out.
    pub first_downstream_tx_byte_sent: Cell<Option<Instant>>,
    /// The end of the response went out.
    pub last_downstream_tx_byte_sent: Cell<Option<Instant>>,
    /// The stream ended.
    pub request_complete: Cell<Option<Instant>>,
    /// This end of the downstream connection.
    pub downstream_local_address: Cell<Option<Address>>,
    /// The address that the request counts as coming from.
    pub downstream_remote_address: Cell<Option<Address>>,
    /// The other end of the downstream connection.
    pub downstream_direct_remote_address: Cell<Option<Address>>,
    /// The host that served the request.
    pub upstream_host: Cell<Option<Address>>,
    upstream_cluster: RefCell<Option<Arc<str>>>,
    route_name: RefCell<String>,
    upstream_transport_failure_reason: RefCell<String>,
    /// Whether the request is a health check, which most statistics leave out.
    pub health_check: Cell<bool>,
    /// The downstream connection's id.
    pub connection_id: Cell<u64>,
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
            start_time_monotonic: Instant::now(),
            protocol: Cell::default(),
            response_code: Cell::default(),
            response_code_details: Cell::new(""),
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
            downstream_local_address: Cell::default(),
            downstream_remote_address: Cell::default(),
            downstream_direct_remote_address: Cell::default(),
            upstream_host: Cell::default(),
            upstream_cluster: RefCell::default(),
            route_name: RefCell::default(),
            upstream_transport_failure_reason: RefCell::default(),
            health_check: Cell::default(),
            connection_id: Cell::default(),
            stream_id: Cell::default(),
            attempt_count: Cell::default(),
        }
    }

    /// When the stream started, by the wall clock.
    pub fn start_time(&self) -> SystemTime {
        self.start_time
    }

    /// When the stream started, by the monotonic clock.
    pub fn start_time_monotonic(&self) -> Instant {
        self.start_time_monotonic
    }

    /// Sets a flag; flags add up.
    pub fn set_response_flag(&self, flag: ResponseFlag) {
        self.response_flags.set(self.response_flags.get() | flag.bit());
    }

    /// Whether a flag is set.
    pub fn has_response_flag(&self, flag: ResponseFlag) -> bool {
        self.response_flags.get() & flag.bit() != 0
    }

    /// Whether any flag is set.
    pub fn has_any_response_flag(&self) -> bool {
        self.response_flags.get() != 0
    }

    /// The flags set, comma separated; `-` for none.
    pub fn flags_text(&self) -> String {
        let set = self.response_flags.get();
        if set == 0 {
            return "-".to_string();
        }
        let names: Vec<&str> =
            FLAGS.iter().filter(|(_, bit, _)| set & bit != 0).map(|(_, _, text)| *text).collect();
        names.join(",")
    }

    /// How the response came to be; empty when nobody said.
    pub fn response_code_details(&self) -> &'static str {
        self.response_code_details.get()
    }

    /// Says how the response came to be.
    pub fn set_response_code_details(&self, details: &'static str) {
        self.response_code_details.set(details);
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

    /// The cluster of the request.
    pub fn upstream_cluster(&self) -> Option<Arc<str>> {
        self.upstream_cluster.borrow().clone()
    }

    /// Sets the cluster of the request.
    pub fn set_upstream_cluster(&self, name: &Arc<str>) {
        *self.upstream_cluster.borrow_mut() = Some(name.clone());
    }

    /// The name of the route; may be empty.
    pub fn route_name(&self) -> String {
        self.route_name.borrow().clone()
    }

    /// Sets the name of the route.
    pub fn set_route_name(&self, name: &str) {
        *self.route_name.borrow_mut() = name.to_string();
    }

    /// Why the upstream's transport failed; empty for no reason.
    pub fn upstream_transport_failure_reason(&self) -> String {
        self.upstream_transport_failure_reason.borrow().clone()
    }

    /// Says why the upstream's transport failed.
    pub fn set_upstream_transport_failure_reason(&self, reason: &str) {
        *self.upstream_transport_failure_reason.borrow_mut() = reason.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_add_up_in_their_order() {
        let info = StreamInfoImpl::new();
        assert_eq!(info.flags_text(), "-");
        info.set_response_flag(ResponseFlag::UpstreamRetryLimitExceeded);
        info.set_response_flag(ResponseFlag::UpstreamConnectionFailure);
        assert_eq!(info.flags_text(), "UF,URX");
        assert!(info.has_response_flag(ResponseFlag::UpstreamConnectionFailure));
        assert!(!info.has_response_flag(ResponseFlag::NoRouteFound));
    }

    #[test]
    fn every_flag_has_its_own_bit() {
        let all = FLAGS.iter().fold(0, |all, (flag, bit, _)| {
            assert_eq!(all & bit, 0);
            assert_eq!(flag.bit(), *bit);
            all | bit
        });
        assert_eq!(all.count_ones() as usize, FLAGS.len());
    }
}
