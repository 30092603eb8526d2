//! The router filter of one stream.

mod redirect;
mod response;
mod retry;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub(super) use self::response::response_flag;
use self::retry::Retries;
use super::FilterConfig;
use super::generic_conn_pool::GenericConnPool;
use super::tcp_upstream::{self, TcpConnPool};
use super::timeout::{TimeoutData, final_timeout};
use super::upstream_request::UpstreamRequest;
use crate::buffer::Buffer;
use crate::cluster_manager::ClusterEntry;
use crate::common::Local;
use crate::common::xxhash::xxh64;
use crate::config::route::HashedCookie;
use crate::envoy_stream_log;
use crate::event::{self, Moment, Timeout, TimeoutCallbacks};
use crate::filters::http::async_client::AsyncStreamImpl;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter,
    StreamDecoderFilterCallbacks,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, Protocol, ROUTER_FIELDS, codes, utility};
use crate::router::{
    DirectResponseEntry, RequestCounting, RequestStats, RouteConstSharedPtr, RouteEntry, make_set_cookie,
    update_authority,
};
use crate::stream_info::{ResponseFlag, StreamInfoImpl};
use crate::trace::{self, Stage};
use crate::upstream::load_balancer::{
    LoadBalancerContext, MetadataMatchCriterion, OverrideHostState, PriorityLoad,
};
use crate::upstream::{
    ClusterInfoImpl, ClusterName, ENVOY_LB, HostImpl, PrioritySetImpl, ResponseOrigin, WorkerHost,
};

/// What the timers are for.
const RESPONSE: u8 = 0;
const RETRY: u8 = 1;

/// See the module's description.
pub struct Filter {
    weak: Weak<Filter>,
    pub(super) config: Local<FilterConfig>,
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
    pub(super) connection_id: Cell<u64>,
    pub(super) stream_id: Cell<u64>,
    cluster: OnceCell<Rc<ClusterEntry>>,
    /// Of a request that goes to a cluster.
    route: OnceCell<RouteConstSharedPtr>,
    /// Where it is counted, beside the cluster.
    counting: OnceCell<RequestCounting>,
    /// Those that the client gets.
    set_cookies: OnceCell<RefCell<Vec<String>>>,
    /// Copies of a request whose body is still to come.
    pub(super) shadows: OnceCell<Vec<Rc<AsyncStreamImpl>>>,
    downstream_headers: RefCell<Option<HeaderMapPtr>>,
    downstream_trailers: RefCell<Option<HeaderMapPtr>>,
    /// The newest try.
    upstream_request: RefCell<Option<Rc<UpstreamRequest>>>,
    alternative_name: OnceCell<Box<str>>,
    /// Of a request that may be tried more than once.
    retries: OnceCell<Box<Retries>>,
    pub(super) timeout: Cell<TimeoutData>,
    /// Which hosts it has named, of a cluster where it may.
    override_hosts: OnceCell<Box<OverrideHostState>>,
    hedge_on_per_try_timeout: Cell<bool>,
    timeout_response_code: Cell<u16>,
    /// There was more of the body than is kept.
    request_buffer_overflowed: Cell<bool>,
    /// The request begins anew, and nothing of the answer is left to come.
    redirects_complete_stream: Cell<bool>,
    response_timeout: Timeout,
    downstream_request_complete_time: Cell<Option<Moment>>,
    pub(super) downstream_end_stream: Cell<bool>,
    /// Some of a response has come, if only an informational head.
    downstream_response_started: Cell<bool>,
    /// The client has got the head, so that no other can take its place.
    response_head_passed: Cell<bool>,
    internal_request: Cell<bool>,
    grpc_request: Cell<bool>,
    /// A gRPC response's success is known by its end alone.
    grpc_success_deferred: Cell<bool>,
    /// The response comes from a canary.
    canary: Cell<bool>,
    pub(super) buffer_limit: Cell<usize>,
}

impl Filter {
    /// A filter for one stream.
    #[inline(always)]
    pub fn new(config: Local<FilterConfig>) -> Rc<Self> {
        Rc::new_cyclic(|weak| Filter {
            weak: weak.clone(),
            config,
            callbacks: OnceCell::new(),
            connection_id: Cell::new(0),
            stream_id: Cell::new(0),
            cluster: OnceCell::new(),
            route: OnceCell::new(),
            counting: OnceCell::new(),
            set_cookies: OnceCell::new(),
            shadows: OnceCell::new(),
            downstream_headers: RefCell::default(),
            downstream_trailers: RefCell::default(),
            upstream_request: RefCell::default(),
            alternative_name: OnceCell::new(),
            retries: OnceCell::new(),
            timeout: Cell::default(),
            override_hosts: OnceCell::new(),
            hedge_on_per_try_timeout: Cell::new(false),
            timeout_response_code: Cell::new(504),
            request_buffer_overflowed: Cell::new(false),
            redirects_complete_stream: Cell::new(false),
            response_timeout: Timeout::default(),
            downstream_request_complete_time: Cell::new(None),
            downstream_end_stream: Cell::new(false),
            downstream_response_started: Cell::new(false),
            response_head_passed: Cell::new(false),
            internal_request: Cell::new(false),
            grpc_request: Cell::new(false),
            grpc_success_deferred: Cell::new(false),
            canary: Cell::new(false),
            buffer_limit: Cell::new(0),
        })
    }

    pub(super) fn callbacks(&self) -> Option<&StreamDecoderFilterCallbacks> {
        self.callbacks.get()
    }

    /// Records a stage of this filter's stream.
    fn stage(&self, stage: Stage, a: u64, b: u64) -> trace::Scope {
        trace::scope(stage, Some(self.connection_id.get()), self.stream_id.get(), a, b)
    }

    /// Records that the stream has passed a stage.
    pub(super) fn passed(&self, stage: Stage, a: u64, b: u64) {
        trace::instant(stage, Some(self.connection_id.get()), self.stream_id.get(), a, b);
    }

    pub(super) fn stream_info(&self) -> Option<&StreamInfoImpl> {
        self.callbacks().map(|callbacks| &**callbacks.stream_info())
    }

    pub(super) fn set_response_flag(&self, flag: ResponseFlag) {
        if let Some(info) = self.stream_info() {
            info.set_response_flag(flag);
        }
    }

    /// The cluster of the request; there from the moment it was chosen.
    pub(super) fn cluster(&self) -> Option<&ClusterInfoImpl> {
        self.cluster.get().map(|cluster| &**cluster.info())
    }

    /// The request as it is sent.
    pub(super) fn request_headers(&self) -> Option<HeaderMapPtr> {
        self.downstream_headers.borrow().clone()
    }

    pub(super) fn downstream_trailers(&self) -> Option<HeaderMapPtr> {
        self.downstream_trailers.borrow().clone()
    }

    fn upstream_request(&self) -> Option<Rc<UpstreamRequest>> {
        self.upstream_request.borrow().clone()
    }

    pub(super) fn downstream_response_started(&self) -> bool {
        self.downstream_response_started.get()
    }

    pub(super) fn per_try_timeout(&self) -> Duration {
        self.timeout.get().per_try
    }

    pub(super) fn per_try_idle_timeout(&self) -> Duration {
        let entry = self.route.get().and_then(|route| route.route_entry());
        entry.and_then(RouteEntry::retry_policy).map_or(Duration::ZERO, |policy| policy.per_try_idle_timeout)
    }

    fn send_local_reply(&self, status: u16, body: &str, details: impl Into<Cow<'static, str>>) {
        if let Some(callbacks) = self.callbacks() {
            let modify = |headers: &mut HeaderMap| self.add_attempt_count(headers);
            callbacks.send_local_reply(status, body, Some(&modify), details.into());
        }
    }

    /// Tells the client how often the request was tried, where its virtual host says so.
    fn add_attempt_count(&self, headers: &mut HeaderMap) {
        let Some((route, info)) = self.route.get().zip(self.stream_info()) else { return };
        if route.virtual_host().include_attempt_count_in_response() {
            headers.set_int(HeaderId::EnvoyAttemptCount, info.attempt_count.get().into());
        }
    }

    fn no_route(&self, path: &str) {
        self.config.stats.no_route.inc();
        envoy_stream_log!(
            Router,
            debug,
            self.connection_id.get(),
            self.stream_id.get(),
            "no cluster match for URL '{}'",
            path
        );
        self.set_response_flag(ResponseFlag::NoRouteFound);
        self.send_local_reply(404, "", "route_not_found");
    }

    fn direct_response(
        &self,
        route: &RouteConstSharedPtr,
        entry: &DirectResponseEntry,
        headers: &HeaderMapPtr,
    ) {
        self.config.stats.rq_direct_response.inc();
        let Some(callbacks) = self.callbacks() else { return };
        let (info, insert_original) = (callbacks.stream_info(), !self.config.suppress_envoy_headers);
        let location = route.location(&mut headers.borrow_mut(), info, insert_original);
        let modify = |response: &mut HeaderMap| {
            if let Some(location) = &location {
                response.set(HeaderId::Location, location);
            }
            route.finalize_response_headers(response, Some(&headers.borrow()), callbacks.stream_info());
            if let Some(content_type) = entry.content_type() {
                response.set(HeaderId::ContentType, content_type.as_bytes());
            }
        };
        let body = entry.body(&headers.borrow(), callbacks.stream_info());
        callbacks.send_local_reply(entry.status, &body, Some(&modify), "direct_response".into());
    }

    fn unknown_cluster(&self, name: &ClusterName, entry: &RouteEntry) {
        self.config.stats.no_cluster.inc();
        envoy_stream_log!(
            Router,
            debug,
            self.connection_id.get(),
            self.stream_id.get(),
            "unknown cluster '{}'",
            name
        );
        self.set_response_flag(ResponseFlag::NoClusterFound);
        self.send_local_reply(entry.cluster_not_found_response_code, "", "cluster_not_found");
    }

    fn no_healthy_upstream(&self) {
        self.set_response_flag(ResponseFlag::NoHealthyUpstream);
        self.charge_upstream_code(503, None, false);
        self.send_local_reply(503, "no healthy upstream", "no_healthy_upstream");
    }

    /// Counts a response status, the upstream's or one made here.
    #[inline(always)]
    fn charge_upstream_code(&self, status: u16, host: Option<&Rc<WorkerHost>>, canary: bool) {
        let Some(cluster) = self.cluster().filter(|_| self.emits_dynamic_stats()) else { return };
        cluster.code_stats().charge_response(status, &self.origin(host, canary));
        self.count_beside_cluster(|stats| stats.charge_response(status));
        if let Some(name) = self.alternative_name.get() {
            cluster.code_stats().alternative(name).charge_response(status, &self.origin(host, canary));
        }
        if let Some(host) = host
            && codes::is_5xx(status)
        {
            host.stats().rq_error().inc();
        }
    }

    /// Counts something of the request for its virtual cluster and its route, where they have statistics.
    #[inline]
    pub(super) fn count_beside_cluster(&self, count: impl Fn(&RequestStats)) {
        if let Some(counting) = self.counting.get() {
            counting.each(count);
        }
    }

    /// Responses are counted under a name that the request brings, too.
    #[inline(always)]
    fn note_alternative_name(&self, headers: &mut HeaderMap) {
        if let Some(name) = headers.get(HeaderId::EnvoyUpstreamAltStatName) {
            self.alternative_name.get_or_init(|| String::from_utf8_lossy(name).into());
            headers.remove(HeaderId::EnvoyUpstreamAltStatName);
        }
    }

    fn origin<'a>(&'a self, host: Option<&'a Rc<WorkerHost>>, canary: bool) -> ResponseOrigin<'a> {
        let zones = host.map(|host| (self.config.zone.as_str(), host.locality().zone.as_str()));
        let zones = zones.filter(|(from, to)| !from.is_empty() && !to.is_empty());
        ResponseOrigin { internal: self.internal_request.get(), canary, zones }
    }

    fn emits_dynamic_stats(&self) -> bool {
        self.config.emit_dynamic_stats && !self.stream_info().is_some_and(|info| info.health_check.get())
    }

    fn conn_pool(&self, cluster: &ClusterEntry, entry: &RouteEntry) -> Option<GenericConnPool> {
        if let Some(config) = entry.connect_config()
            && let Some(headers) = self.downstream_headers()
            && tcp_upstream::should_tcp_proxy(config, &headers.borrow())
        {
            let preamble = tcp_upstream::preamble(config, self.stream_info()?);
            let pool = cluster.tcp_conn_pool(entry.priority, self)?;
            return Some(GenericConnPool::Tcp(Box::new(TcpConnPool::new(pool, preamble))));
        }
        let downstream = || self.stream_info().and_then(|info| info.protocol.get());
        let protocol = cluster.info().use_downstream_protocol().then(downstream).flatten();
        let protocol = protocol.unwrap_or(Protocol::Http11);
        self.passed(Stage::GetConnPool, protocol as u64, 0);
        cluster.http_conn_pool(entry.priority, protocol, self).map(GenericConnPool::Http)
    }

    /// Sends the request to a cluster.
    fn route_to(
        &self,
        route: &RouteConstSharedPtr,
        entry: &RouteEntry,
        headers: &HeaderMapPtr,
        end_stream: bool,
    ) {
        let Some(name) = route.cluster_name() else { return };
        let Some(cluster) = self.config.cluster_manager.get(name) else {
            return self.unknown_cluster(name, entry);
        };
        let cluster = self.cluster.get_or_init(|| cluster);
        if let Some(counting) = RequestCounting::of(route, &headers.borrow()) {
            if let Some((info, name)) = self.stream_info().zip(counting.virtual_cluster_name()) {
                info.set_virtual_cluster_name(name);
            }
            self.counting.get_or_init(|| counting);
        }
        envoy_stream_log!(
            Router,
            debug,
            self.connection_id.get(),
            self.stream_id.get(),
            "cluster '{}' match for URL '{}'",
            name,
            String::from_utf8_lossy(headers.borrow().get(HeaderId::Path).unwrap_or_default())
        );
        if let Some(info) = self.stream_info() {
            info.set_upstream_cluster_info(Some(cluster.info()));
        }
        if !self.config.strict_check_headers.is_empty() && !self.strict_headers_are_right(headers) {
            return;
        }
        self.note_alternative_name(&mut headers.borrow_mut());
        if cluster.info().maintenance_mode() {
            return self.maintenance_mode(cluster.info());
        }
        if let Some(share) = cluster.info().drop_overload()
            && share.evaluate(fastrand::u64(..))
        {
            return self.drop_overload(share.numerator == share.denominator as u32);
        }
        if let Some(info) = self.stream_info() {
            info.attempt_count.set(1);
        }
        self.route.get_or_init(|| route.clone());
        self.prepare_headers(&mut headers.borrow_mut(), route, entry);
        let Some(pool) = self.conn_pool(cluster, entry) else { return self.no_healthy_upstream() };
        envoy_stream_log!(
            Router,
            debug,
            self.connection_id.get(),
            self.stream_id.get(),
            "router decoding headers:\n{}",
            headers.borrow()
        );
        let request = UpstreamRequest::new(&self.weak, self);
        *self.upstream_request.borrow_mut() = Some(request.clone());
        request.encode_headers(&pool, end_stream);
        if !entry.shadow_policies().is_empty() {
            self.start_shadows(entry, &headers.borrow(), end_stream);
        }
        if end_stream {
            self.on_request_complete();
        }
    }

    /// Whether the request says right what it says of how it is to be sent; answers it otherwise.
    fn strict_headers_are_right(&self, headers: &HeaderMapPtr) -> bool {
        let check = |headers: &HeaderMap| {
            let wrong =
                self.config.strict_check_headers.iter().find_map(|header| header.check(headers).err());
            wrong.map(|(name, value)| (name, value.to_string()))
        };
        let Some((name, value)) = check(&headers.borrow()) else { return true };
        self.set_response_flag(ResponseFlag::InvalidEnvoyRequestHeaders);
        let details = format!("request_headers_failed_strict_check{{{name}}}");
        self.send_local_reply(400, &format!("invalid header '{name}' with value '{value}'"), details);
        false
    }

    fn maintenance_mode(&self, cluster: &ClusterInfoImpl) {
        self.set_response_flag(ResponseFlag::UpstreamOverflow);
        self.charge_upstream_code(503, None, false);
        cluster.stats().upstream_rq_maintenance_mode().inc();
        self.send_overloaded_reply(503, "maintenance mode", "maintenance_mode".into());
    }

    fn drop_overload(&self, drops_all: bool) {
        let (flag, header, body, details) = match drops_all {
            true => (
                ResponseFlag::UnconditionalDropOverload,
                "x-envoy-unconditional-drop-overload",
                "unconditional drop overload",
                "unconditional_drop_overload",
            ),
            false => (ResponseFlag::DropOverload, "x-envoy-drop-overload", "drop overload", "drop_overload"),
        };
        self.set_response_flag(flag);
        self.charge_upstream_code(503, None, false);
        let Some(callbacks) = self.callbacks() else { return };
        let suppress = self.config.suppress_envoy_headers;
        let modify = |headers: &mut HeaderMap| {
            if !suppress {
                headers.add(header, b"true");
            }
        };
        callbacks.send_local_reply(503, body, Some(&modify), details.into());
    }

    fn send_overloaded_reply(&self, status: u16, body: &str, details: Cow<'static, str>) {
        let Some(callbacks) = self.callbacks() else { return };
        let suppress = self.config.suppress_envoy_headers;
        let modify = |headers: &mut HeaderMap| {
            self.add_attempt_count(headers);
            if !suppress {
                headers.set(HeaderId::EnvoyOverloaded, b"true");
            }
        };
        callbacks.send_local_reply(status, body, Some(&modify), details);
    }

    fn prepare_headers(&self, headers: &mut HeaderMap, route: &RouteConstSharedPtr, entry: &RouteEntry) {
        // Most requests tell the router nothing, which is looked at once.
        let told = headers.has_any(ROUTER_FIELDS);
        let hedges = match told {
            true => hedges_on_per_try_timeout(entry, headers),
            false => entry.hedge_on_per_try_timeout(),
        };
        self.hedge_on_per_try_timeout.set(hedges);
        self.timeout.set(final_timeout(
            entry,
            headers,
            told,
            hedges,
            !self.config.suppress_envoy_headers,
            self.config.respect_expected_rq_timeout,
        ));
        if told && headers.has(HeaderId::EnvoyUpstreamRequestTimeoutAltResponse) {
            self.timeout_response_code.set(204);
            headers.remove(HeaderId::EnvoyUpstreamRequestTimeoutAltResponse);
        }
        if route.virtual_host().include_attempt_count_in_request() {
            headers.set(HeaderId::EnvoyAttemptCount, b"1");
        }
        if let Some(info) = self.stream_info() {
            if info.scheme_matches_upstream.get() {
                let secure = self
                    .cluster()
                    .is_some_and(|c| c.transport_socket_factory().implements_secure_transport());
                headers.set(HeaderId::Scheme, if secure { b"https" } else { b"http" });
            }
            route.finalize_request_headers(headers, info, !self.config.suppress_envoy_headers);
        }
        self.create_retry_state(entry, headers);
        if let Some(limit) = entry.request_body_buffer_limit() {
            self.keep_up_to(usize::try_from(limit).unwrap_or(usize::MAX));
        }
    }

    /// More of the request may be kept than the connection keeps.
    #[cold]
    fn keep_up_to(&self, limit: usize) {
        let Some(callbacks) = self.callbacks() else { return };
        let usual = self.buffer_limit.get();
        if usual != 0 && limit > usual {
            callbacks.set_decoder_buffer_limit(limit);
        }
    }

    /// The request as `host` gets it: with its name, where the route says so.
    pub(super) fn headers_for(&self, headers: HeaderMapPtr, host: &WorkerHost) -> HeaderMapPtr {
        let Some(entry) = self.route.get().and_then(|route| route.route_entry()) else { return headers };
        if !entry.auto_host_rewrite() || host.hostname().is_empty() {
            return headers;
        }
        // The next try has another name.
        let headers = if self.may_retry() { headers.borrow().clone().shared() } else { headers };
        update_authority(
            &mut headers.borrow_mut(),
            host.hostname().as_bytes(),
            entry.append_x_forwarded_host(),
            !self.config.suppress_envoy_headers,
        );
        headers
    }

    /// The whole request has been seen: from here the response is timed.
    #[inline(always)]
    fn on_request_complete(&self) {
        let timeout = self.timeout.get().global;
        self.passed(Stage::OnRequestComplete, timeout.as_millis() as u64, 0);
        self.downstream_end_stream.set(true);
        self.downstream_request_complete_time.set(Some(event::now()));
        // The request may have failed at once.
        let (Some(request), Some(callbacks)) = (self.upstream_request(), self.callbacks()) else { return };
        request.on_request_complete(self);
        if timeout.is_zero() {
            return;
        }
        self.response_timeout.enable(callbacks.dispatcher(), self.weak.clone(), RESPONSE, timeout);
    }

    /// Lets go of the upstream request and the timers.
    fn cleanup(&self) {
        let request = self.upstream_request.borrow_mut().take();
        if let Some(request) = request {
            self.let_go(&request);
        }
        if let Some(retries) = self.retries.get() {
            retries.end();
        }
        self.response_timeout.disable();
    }

    fn let_go(&self, request: &UpstreamRequest) {
        if let Some(info) = self.stream_info() {
            request.copy_timing(info);
        }
        request.clear_request_encoder();
        request.log_end(self);
    }
}

impl TimeoutCallbacks for Filter {
    fn on_timeout(&self, which: u8) {
        match which {
            RETRY => self.do_retry(),
            _ => self.on_response_timeout(),
        }
    }
}

impl LoadBalancerContext for Filter {
    fn compute_hash_key(&self) -> Option<u64> {
        let policy = self.hashed_route()?;
        let headers = self.downstream_headers.borrow().clone()?;
        let headers = headers.try_borrow().ok()?;
        let add_cookie = |cookie: &HashedCookie| self.add_downstream_cookie(cookie);
        policy.route_entry()?.hash_policy()?.generate_hash(&headers, self.stream_info(), Some(&add_cookie))
    }

    /// What filters have said of the request wins over what its route says.
    fn metadata_match_criteria(&self) -> Option<Arc<[MetadataMatchCriterion]>> {
        let of_route = self.route.get()?.metadata_match_criteria();
        let said = self.stream_info().and_then(|info| info.dynamic_metadata(ENVOY_LB, &[] as &[&str]));
        match said.as_ref().and_then(Value::as_object) {
            Some(said) => {
                let of_route = of_route.map(|criteria| &**criteria).unwrap_or_default();
                Some(MetadataMatchCriterion::merged(of_route, Some(said)).into())
            }
            None => of_route.cloned(),
        }
    }

    fn downstream_connection_id(&self) -> Option<u64> {
        Some(self.callbacks()?.connection()?.id())
    }

    fn downstream_original_dst(&self) -> Option<SocketAddr> {
        self.stream_info()?.downstream_connection()?.original_dst()
    }

    fn downstream_headers(&self) -> Option<HeaderMapPtr> {
        self.downstream_headers.borrow().clone()
    }

    fn override_host_state(&self, make: &dyn Fn() -> OverrideHostState) -> Option<&OverrideHostState> {
        Some(self.override_hosts.get_or_init(|| Box::new(make())))
    }

    fn request_metadata(&self, filter: &str, path: &[String]) -> Option<serde_json::Value> {
        self.stream_info()?.dynamic_metadata(filter, path)
    }

    fn determine_priority_load(
        &self,
        priority_set: &PrioritySetImpl,
        original: &PriorityLoad,
    ) -> Option<Rc<PriorityLoad>> {
        self.retry_priority_load(priority_set, original)
    }

    fn should_select_another_host(&self, host: &HostImpl) -> bool {
        self.wants_other_host(host)
    }

    fn host_selection_retry_count(&self) -> u32 {
        self.host_selections()
    }
}

impl Filter {
    fn hashed_route(&self) -> Option<&RouteConstSharedPtr> {
        self.route
            .get()
            .filter(|route| route.route_entry().is_some_and(|entry| entry.hash_policy().is_some()))
    }

    /// Gives the client a cookie, the same for all requests of its connection; what its value is.
    fn add_downstream_cookie(&self, cookie: &HashedCookie) -> Option<String> {
        let connection = self.callbacks()?.connection()?;
        let local = connection.local_address().map(|address| address.to_string()).unwrap_or_default();
        let value =
            format!("{:016x}", xxh64(format!("{}{local}", connection.remote_address()).as_bytes(), 0));
        let cookies = self.set_cookies.get_or_init(RefCell::default);
        cookies.borrow_mut().push(make_set_cookie(cookie, &value));
        Some(value)
    }

    /// Tells the client the cookies that it gets.
    pub(super) fn set_downstream_cookies(&self, headers: &mut HeaderMap) {
        let Some(cookies) = self.set_cookies.get() else { return };
        cookies.borrow().iter().for_each(|cookie| headers.add("set-cookie", cookie.as_bytes()));
    }
}

/// Envoy 1.40: `FilterUtility::finalHedgingParams`.
fn hedges_on_per_try_timeout(entry: &RouteEntry, headers: &HeaderMap) -> bool {
    match headers.get(HeaderId::EnvoyHedgeOnPerTryTimeout) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => entry.hedge_on_per_try_timeout(),
    }
}

impl StreamDecoderFilter for Filter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.buffer_limit.set(callbacks.decoder_buffer_limit());
        self.connection_id.set(callbacks.connection_id());
        self.stream_id.set(callbacks.stream_id());
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let _stage = self.stage(Stage::RouterDecodeHeaders, end_stream.into(), 0);
        *self.downstream_headers.borrow_mut() = Some(headers.clone());
        {
            let headers = headers.borrow();
            self.grpc_request.set(utility::has_grpc_content_type(&headers));
            self.internal_request.set(headers.get(HeaderId::EnvoyInternalRequest) == Some(b"true"));
        }
        self.config.stats.rq_total.inc();
        let route = self.callbacks().and_then(|callbacks| callbacks.route());
        match &route {
            None => {
                let path = headers.borrow().get(HeaderId::Path).unwrap_or_default().to_vec();
                self.no_route(&String::from_utf8_lossy(&path));
            }
            Some(route) => {
                if let Some(direct) = route.direct_response_entry() {
                    self.direct_response(route, direct, headers);
                } else if let Some(entry) = route.route_entry() {
                    self.route_to(route, entry, headers, end_stream);
                }
            }
        }
        FilterHeadersStatus::StopIteration
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        let _stage = self.stage(Stage::RouterDecodeData, data.len() as u64, end_stream.into());
        self.shadow_data(data, end_stream);
        let kept = self.keeps_request_data(data);
        match self.upstream_request() {
            Some(request) if kept => request.encode_data(&mut data.duplicate(), end_stream),
            Some(request) => request.encode_data(data, end_stream),
            None if kept => {}
            None => data.clear(),
        }
        if let Some(callbacks) = self.callbacks().filter(|_| kept) {
            callbacks.add_decoded_data(data, true);
        }
        if end_stream {
            self.on_request_complete();
        }
        FilterDataStatus::StopIterationNoBuffer
    }

    fn decode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        envoy_stream_log!(
            Router,
            debug,
            self.connection_id.get(),
            self.stream_id.get(),
            "router decoding trailers:\n{}",
            trailers.borrow()
        );
        let _stage = self.stage(Stage::RouterDecodeTrailers, 0, 0);
        *self.downstream_trailers.borrow_mut() = Some(trailers.clone());
        self.shadow_trailers(trailers);
        if let Some(request) = self.upstream_request() {
            request.encode_trailers(trailers);
        }
        self.on_request_complete();
        FilterTrailersStatus::StopIteration
    }

    fn on_destroy(&self) {
        self.passed(Stage::RouterDestroy, 0, 0);
        self.reset_shadows();
        if let Some(request) = self.upstream_request().filter(|_| !self.redirects_complete_stream.get()) {
            request.reset_stream();
        }
        if let Some(retries) = self.retries.get() {
            for request in retries.older() {
                request.reset_stream();
                self.let_go(&request);
            }
        }
        self.cleanup();
    }
}
