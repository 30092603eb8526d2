//! The router between a stream that no connection manager owns and a played pool, and what each of them sees.
//!
//! A run is three texts: what happens, what is seen, what is counted.
//!
//! * What happens: `H/path` (with `?name=value` for a header), `D(text)`, `T` come from the client; `!` ends the
//!   request. `pool:ready` and `pool:overflow`, `:local`, `:remote`, `:timeout` are the pool's answers; before the
//!   request they are given at once, when the router asks. `up:100`, `up:200`, `up:D(text)`, `up:T`, `up:reset`,
//!   `up:high`, `up:low` come from the upstream; `high`, `low`, `gone` from the client's connection. `wait` runs the
//!   loop until something is seen.
//! * What is seen: `ask` and `cancel` for the pool, `up.` for what goes upstream, `out.` for what goes to the client,
//!   `end` when the stream has ended, with its status, flags and details.
//! * What is counted: names without `upstream_`, and differences.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{AsyncClientConfig, Filter, FilterConfig, RouterStats, base_retry_backoff_ms, use_retry};
use crate::buffer::Buffer;
use crate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use crate::common::Local;
use crate::config::{UnknownFields, parse_bootstrap};
use crate::conn_pool::{self, Callbacks, Cancellable, DrainedCb, IdleCb, PoolFailureReason};
use crate::event::{Dispatcher, RunType};
use crate::filters::LINKED;
use crate::filters::http::manager::{FilterManager, FilterManagerCallbacks};
use crate::filters::http::{
    FilterChainFactoryCallbacks, FilterHeadersStatus, StreamDecoderFilter, StreamDecoderFilterCallbacks,
    StreamEncoderFilter,
};
use crate::filters::network::http_connection_manager::HttpConnectionManager;
use crate::http::{
    HeaderId, HeaderMap, HeaderMapPtr, Protocol, Stream, StreamCallbacks, StreamDecoder, StreamEncoder,
    StreamResetReason,
};
use crate::network::ConnectionInfoProvider;
use crate::router::{ConfigImpl, RouteConstSharedPtr, RouteRequest, RouteTable};
use crate::runtime::LoaderImpl;
use crate::stats::{Scope, Store};
use crate::thread_local;
use crate::trace::Ids;
use crate::upstream::{ResourcePriority, WorkerHost};

/// What every request counts.
pub const ASKED: &str = "rq_total+1";

/// What a status counts for a cluster.
pub fn code(prefix: &str, status: u16) -> String {
    let class = status / 100;
    ["", "external."]
        .map(|from| {
            let name = format!("{prefix}{from}rq_");
            format!("{name}{status}+1 {name}{class}xx+1 {name}completed+1")
        })
        .join(" ")
}

type Numbers = BTreeMap<String, i64>;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn seen(what: impl Into<String>) {
    LOG.with_borrow_mut(|log| log.push(what.into()));
}

fn mark(end: bool) -> &'static str {
    if end { "!" } else { "" }
}

fn text(data: &Buffer, end: bool) -> String {
    format!("D({}){}", String::from_utf8_lossy(&data.to_vec()), mark(end))
}

/// The text between the brackets of `D(text)`.
fn argument(step: &str) -> &str {
    step.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(text, _)| text)
}

/// Who has asked for a connection.
type Asker = (Weak<dyn StreamDecoder>, Weak<dyn Callbacks>);

/// The pool: says what it is told to say.
struct PlayedPool {
    weak: Weak<PlayedPool>,
    host: Rc<WorkerHost>,
    /// What it says at once.
    answer: RefCell<String>,
    request: RefCell<Option<Asker>>,
    upstream: RefCell<Option<Rc<PlayedUpstream>>>,
}

impl PlayedPool {
    fn new(host: Rc<WorkerHost>) -> Rc<Self> {
        Rc::new_cyclic(|weak| PlayedPool {
            weak: weak.clone(),
            host,
            answer: RefCell::default(),
            request: RefCell::default(),
            upstream: RefCell::default(),
        })
    }

    fn say(&self, answer: &str) {
        let request = self.request.borrow().clone();
        let Some(callbacks) = request.and_then(|(_, callbacks)| callbacks.upgrade()) else {
            *self.answer.borrow_mut() = answer.to_owned();
            return;
        };
        let reason = match answer {
            "ready" => {
                let upstream = Rc::new(PlayedUpstream::default());
                *self.upstream.borrow_mut() = Some(upstream.clone());
                return callbacks.on_pool_ready(upstream, &self.host);
            }
            "overflow" => PoolFailureReason::Overflow,
            "local" => PoolFailureReason::LocalConnectionFailure,
            "remote" => PoolFailureReason::RemoteConnectionFailure,
            "timeout" => PoolFailureReason::Timeout,
            other => panic!("{other} from a pool"),
        };
        let host = Some(&self.host).filter(|_| reason != PoolFailureReason::Overflow);
        callbacks.on_pool_failure(reason, if answer == "remote" { "refused it" } else { "" }, host);
    }

    fn decoder(&self) -> Option<Rc<dyn StreamDecoder>> {
        self.request.borrow().as_ref().and_then(|(decoder, _)| decoder.upgrade())
    }
}

impl conn_pool::Instance for PlayedPool {
    fn host(&self) -> &Rc<WorkerHost> {
        &self.host
    }

    fn add_drained_callback(&self, _callback: DrainedCb) {}
    fn set_idle_callback(&self, _callback: IdleCb) {}
    fn drain_connections(&self) {}

    fn has_active_connections(&self) -> bool {
        false
    }

    fn close(&self) {}
    fn record_lists(&self) {}
}

impl conn_pool::HttpInstance for PlayedPool {
    fn protocol(&self) -> Protocol {
        Protocol::Http11
    }

    fn new_stream(
        &self,
        response_decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
        _ids: Ids,
    ) -> Option<Rc<dyn Cancellable>> {
        seen("ask");
        *self.request.borrow_mut() = Some((response_decoder, callbacks));
        let answer = self.answer.take();
        if answer.is_empty() {
            return Some(self.weak.upgrade().unwrap());
        }
        self.say(&answer);
        None
    }
}

impl Cancellable for PlayedPool {
    fn cancel(&self) {
        seen("cancel");
        self.request.take();
    }
}

/// The upstream's connection: writes down what is sent.
#[derive(Default)]
struct PlayedUpstream {
    callbacks: RefCell<Vec<Weak<dyn StreamCallbacks>>>,
}

impl PlayedUpstream {
    fn tell(&self, f: impl Fn(&dyn StreamCallbacks)) {
        let callbacks = self.callbacks.borrow().clone();
        callbacks.iter().filter_map(Weak::upgrade).for_each(|callbacks| f(&*callbacks));
    }
}

impl StreamEncoder for PlayedUpstream {
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        let timeout = HeaderId::EnvoyExpectedRequestTimeoutMs;
        let timeout = headers.borrow().get_str(timeout).map_or(String::new(), |ms| format!("({ms}ms)"));
        seen(format!("up.H{timeout}{}", mark(end_stream)));
        // Such a head takes the connection with it.
        if headers.borrow().has(HeaderId::Expect) {
            self.tell(|callbacks| callbacks.on_reset_stream(StreamResetReason::ConnectionTermination));
        }
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        seen(format!("up.{}", text(data, end_stream)));
        data.clear();
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) {
        seen("up.T");
    }

    fn stream(&self) -> &dyn Stream {
        self
    }
}

impl Stream for PlayedUpstream {
    fn add_callbacks(&self, callbacks: Weak<dyn StreamCallbacks>) {
        self.callbacks.borrow_mut().push(callbacks);
    }

    fn remove_callbacks(&self, _callbacks: &Weak<dyn StreamCallbacks>) {
        self.callbacks.borrow_mut().clear();
    }

    fn reset_stream(&self, _reason: StreamResetReason) {
        seen("up.reset");
    }

    fn read_disable(&self, disable: bool) {
        seen(if disable { "up.pause" } else { "up.resume" });
    }

    fn buffer_limit(&self) -> usize {
        0
    }

    fn connection_info(&self) -> Option<Rc<ConnectionInfoProvider>> {
        None
    }
}

/// A filter in front of the router, which marks what passes.
struct Front;

impl StreamDecoderFilter for Front {
    fn set_decoder_filter_callbacks(&self, _callbacks: StreamDecoderFilterCallbacks) {}

    fn decode_headers(&self, _headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        FilterHeadersStatus::Continue
    }
}

impl StreamEncoderFilter for Front {
    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        headers.borrow_mut().set(HeaderId::Via, b"front");
        FilterHeadersStatus::Continue
    }
}

/// A stream without a downstream connection: what the async client will be.
struct Host {
    weak: Weak<Host>,
    manager: FilterManager,
    routes: RouteTable,
    router: Local<FilterConfig>,
}

impl Host {
    fn end(&self, how: &str) {
        if self.manager.is_destroyed() {
            return;
        }
        let info = self.manager.stream_info();
        let status = info.response_code.get().map_or_else(|| "-".to_owned(), |status| status.to_string());
        let details = info.response_code_details();
        let details = if details.is_empty() { "-" } else { &details };
        let flags: Vec<&str> = info.response_flags().map(|flag| flag.as_str()).collect();
        let flags = if flags.is_empty() { "-".to_string() } else { flags.join(",") };
        seen(format!("{how} {status} {flags} {details}"));
        self.manager.destroy_filters();
    }
}

impl FilterManagerCallbacks for Host {
    fn filter_manager(&self) -> &FilterManager {
        &self.manager
    }

    fn create_filter_chain(&self, callbacks: &dyn FilterChainFactoryCallbacks) {
        callbacks.add_stream_filter(Rc::new(Front));
        callbacks.add_stream_decoder_filter(Filter::new(self.router.clone()));
    }

    fn encode_1xx_headers(&self, headers: &HeaderMapPtr) {
        seen(format!("out.{}", headers.borrow().status()));
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        let headers = headers.borrow();
        assert!(headers.get_str(HeaderId::Via) == Some("front"), "all responses pass the filter in front");
        self.manager.stream_info().response_code.set(Some(headers.status()));
        let overloaded = if headers.has(HeaderId::EnvoyOverloaded) { "+overloaded" } else { "" };
        let location = headers.get_str(HeaderId::Location).map_or(String::new(), |to| format!("+{to}"));
        seen(format!("out.{}{overloaded}{location}{}", headers.status(), mark(end_stream)));
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        seen(format!("out.{}", text(data, end_stream)));
        data.clear();
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) {
        seen("out.T");
    }

    fn end_stream(&self) {
        self.end("end");
    }

    fn reset_stream(&self) {
        self.end("out.reset");
    }

    fn route(&self) -> Option<RouteConstSharedPtr> {
        let headers = self.manager.request_headers()?;
        let headers = headers.borrow();
        self.routes.route(&RouteRequest { headers: &headers, random: 0, info: None })
    }

    fn clear_route_cache(&self) {}

    fn on_decoder_filter_above_write_buffer_high_watermark(&self) {
        seen("out.pause");
    }

    fn on_decoder_filter_below_write_buffer_low_watermark(&self) {
        seen("out.resume");
    }
}

/// What all runs of a test share.
pub struct Fixture {
    dispatcher: Rc<Dispatcher>,
    clusters: Rc<ClusterManagerImpl>,
    pool: Rc<PlayedPool>,
    routes: RouteTable,
    router: Local<FilterConfig>,
    scope: Scope,
    failed: RefCell<Vec<String>>,
}

impl Fixture {
    pub fn new() -> Self {
        let dispatcher = Dispatcher::new("test");
        thread_local::enter_thread(&dispatcher);
        let stats = Store::new(1);
        let config = parse_bootstrap(bootstrap(), UnknownFields::default(), &LINKED).unwrap();
        let resources = &config.static_resources;
        let tls = thread_local::InstanceImpl::new();
        let clusters = ClusterManagerImpl::new(
            &resources.clusters,
            None,
            LocalInfo::default(),
            &stats,
            &tls,
            &LoaderImpl::empty(&stats),
        )
        .unwrap();
        let hcm = HttpConnectionManager::of(&resources.listeners[0].filter_chains[0].filters[0]).unwrap();
        let first = clusters.clusters()[0].priority_set().host_sets_per_priority()[0].hosts()[0].clone();
        let pool = PlayedPool::new(WorkerHost::new(first.clone()));
        clusters.handle().set_pool(&first, pool.clone());
        let router = Local::new(Arc::new(FilterConfig {
            stats: RouterStats::new(&stats.root_scope()),
            cluster_manager: clusters.handle(),
            zone: String::new(),
            emit_dynamic_stats: true,
            suppress_envoy_headers: false,
            strict_check_headers: Box::default(),
            upstream_logs: None,
            respect_expected_rq_timeout: false,
            use_retry: use_retry(None),
            base_retry_backoff_ms: base_retry_backoff_ms(None),
            async_client: AsyncClientConfig::new(&stats.root_scope(), String::new(), None),
        }));
        let routes = RouteTable::new(Arc::new(ConfigImpl::new(&hcm.route_config, None).unwrap()));
        let scope = stats.root_scope();
        Fixture { dispatcher, clusters, pool, routes, router, scope, failed: RefCell::default() }
    }

    /// A run. What is not as expected is told at the end of the test.
    pub fn check(&self, steps: &str, expected: &str, counted: &[&str]) {
        let before = self.numbers();
        let found = self.run(steps);
        let mut failed = self.failed.borrow_mut();
        if found != expected {
            failed.push(format!("{steps}\n  expected {expected}\n     found {found}"));
        }
        let mut differences = self.numbers();
        before.into_iter().for_each(|(name, value)| *differences.entry(name).or_default() -= value);
        differences.retain(|_, value| *value != 0);
        let mut wanted = Numbers::new();
        for change in counted.iter().flat_map(|changes| changes.split_whitespace()) {
            let sign = change.rfind(['+', '-']).unwrap();
            *wanted.entry(change[..sign].to_string()).or_default() += change[sign..].parse::<i64>().unwrap();
        }
        if differences != wanted {
            let list = |numbers: &Numbers| {
                let all = numbers.iter().map(|(name, value)| format!("{name}{value:+}"));
                all.collect::<Vec<_>>().join(" ")
            };
            failed.push(format!("{steps}\n  to count {}\n   counted {}", list(&wanted), list(&differences)));
        }
    }

    fn run(&self, steps: &str) -> String {
        self.pool.answer.take();
        self.pool.request.take();
        self.pool.upstream.take();
        let host = Rc::new_cyclic(|weak: &Weak<Host>| Host {
            weak: weak.clone(),
            manager: FilterManager::new(weak.clone(), &self.dispatcher, (1, 2), true, 4),
            routes: self.routes.clone(),
            router: self.router.clone(),
        });
        steps.split_whitespace().for_each(|step| self.step(&host, step));
        let log = LOG.take();
        host.end("left");
        LOG.take();
        assert_eq!(host.weak.strong_count(), 1, "somebody else has the stream");
        log.join(" ")
    }

    fn step(&self, host: &Host, step: &str) {
        let manager = &host.manager;
        let end = step.ends_with('!');
        let step = step.trim_end_matches('!');
        if let Some(what) = step.strip_prefix("up:") {
            return self.upstream_step(what, end);
        }
        if let Some(answer) = step.strip_prefix("pool:") {
            return self.pool.say(answer);
        }
        match step.split(['(', '/']).next().unwrap() {
            "H" => {
                let headers = request(&step[1..]).shared();
                manager.set_request_headers(headers.clone());
                manager.maybe_end_decode(end);
                manager.request_headers_initialized(&headers.borrow());
                manager.create_filter_chain();
                manager.decode_headers(&headers, end);
            }
            "D" => {
                manager.maybe_end_decode(end);
                manager.decode_data(&mut Buffer::from(argument(step)), end);
            }
            "T" => {
                manager.maybe_end_decode(true);
                manager.decode_trailers(HeaderMap::new().shared());
            }
            "high" => manager.call_high_watermark_callbacks(),
            "low" => manager.call_low_watermark_callbacks(),
            "gone" => host.end("gone"),
            "wait" => self.wait(),
            other => panic!("unknown step {other}"),
        }
    }

    fn wait(&self) {
        let (count, deadline) = (LOG.with_borrow(Vec::len), Instant::now() + Duration::from_secs(10));
        while LOG.with_borrow(Vec::len) == count {
            assert!(Instant::now() < deadline, "nothing happens");
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    fn upstream_step(&self, what: &str, end: bool) {
        let upstream = self.pool.upstream.borrow().clone().expect("an upstream");
        match what {
            "high" => return upstream.tell(|c| c.on_above_write_buffer_high_watermark()),
            "low" => return upstream.tell(|c| c.on_below_write_buffer_low_watermark()),
            "reset" => return upstream.tell(|c| c.on_reset_stream(StreamResetReason::RemoteReset)),
            "broken" => return upstream.tell(|c| c.on_reset_stream(StreamResetReason::ProtocolError)),
            _ => {}
        }
        let Some(decoder) = self.pool.decoder() else { return };
        match what.split('(').next().unwrap() {
            "D" => decoder.decode_data(&mut Buffer::from(argument(what)), end),
            "T" => decoder.decode_trailers(HeaderMap::new().shared()),
            status => {
                let mut headers = HeaderMap::new();
                headers.set_status(status.parse().expect("a status"));
                let headers = headers.shared();
                if status == "100" {
                    decoder.decode_1xx_headers(headers);
                } else {
                    decoder.decode_headers(headers, end);
                }
            }
        }
    }

    /// All counters and gauges that requests change, and the host's.
    fn numbers(&self) -> Numbers {
        let store = self.scope.store();
        let counters = store.counters().into_iter().map(|c| (c.name().to_string(), c.value()));
        let short = |name: String| name.replace("cluster.a.", "").replace("upstream_", "");
        let mut numbers: Numbers = counters
            .map(|(name, value)| (short(name), value as i64))
            .filter(|(_, value)| *value != 0)
            .collect();
        for (name, value) in self.pool.host.stats().all() {
            numbers.insert(format!("host.{name}"), value as i64);
        }
        let pending = self.pool.host.cluster().resource_manager(ResourcePriority::Default).pending_requests();
        numbers.insert("pending_requests".into(), pending.count() as i64);
        numbers
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.clusters.shutdown();
        thread_local::shutdown_thread();
        let failed = self.failed.borrow();
        if !failed.is_empty() && !std::thread::panicking() {
            panic!("{} runs are not as expected:\n{}", failed.len(), failed.join("\n"));
        }
    }
}

/// The head of a request for `/path?name=value&name=value`, whose query is headers.
fn request(target: &str) -> HeaderMap {
    let (path, fields) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    headers.set(HeaderId::Method, b"GET");
    headers.set(HeaderId::Authority, b"host");
    headers.set(HeaderId::ForwardedProto, b"http");
    headers.set(HeaderId::Scheme, b"http");
    headers.set(HeaderId::Path, path.as_bytes());
    for (name, value) in fields.split('&').filter_map(|field| field.split_once('=')) {
        headers.add(name, value.as_bytes());
    }
    headers
}

fn bootstrap() -> Value {
    let to = |path: &str, route: Value| json!({ "match": { "path": path }, "route": route });
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": { "validate_clusters": false, "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            to("/", json!({ "cluster": "a", "timeout": "0s" })),
            to("/timed", json!({ "cluster": "a", "timeout": "0.001s" })),
            to("/default", json!({ "cluster": "a" })),
            to("/nobody", json!({ "cluster": "nobody" })),
            to("/nocluster", json!({ "cluster": "none" })),
            { "match": { "path": "/direct" }, "direct_response": { "status": 200, "body": { "inline_string": "hi" } } },
            { "match": { "path": "/moved" }, "direct_response": { "status": 301 } },
        ]}]},
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    let endpoint = json!({ "address": { "socket_address": { "address": "127.0.0.1", "port_value": 1 } } });
    let hosts = |name: &str| json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": endpoint }] }] });
    json!({ "static_resources": {
        "clusters": [
            { "name": "a", "load_assignment": hosts("a") },
            { "name": "nobody", "load_assignment": { "cluster_name": "nobody" } },
        ],
        "listeners": [{
            "name": "test",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 1 } },
            "filter_chains": [{ "filters": [
                { "name": "envoy.filters.network.http_connection_manager", "typed_config": hcm },
            ]}],
        }],
    }})
}
