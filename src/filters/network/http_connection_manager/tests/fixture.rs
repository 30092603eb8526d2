//! A stream with scripted filters between a played codec and a played upstream, and what each of them sees.
//!
//! A run is three texts: what the filters do, what happens, and what is seen.
//!
//! * Each filter is a list of `frame:doing,doing`: what it does at each frame, frame by frame of a kind.
//!   Frames are `H`, `D`, `T` on the way of the request, and `<I` (1xx), `<H`, `<D`, `<T` on that of the
//!   response. The last doing may be a status; without one the filter lets the frame pass. The filters are
//!   `a`, `b`, `c` in the order of the request; behind them is `r` in the router's place, which takes all.
//!   `L:note` and `L:reset` say what a filter does with an answer that the proxy makes.
//! * Steps: `H`, `D(text)`, `T` come from the client; `!` ends the request. `a:doing` is done by a filter
//!   between two frames; `a<doing` by it as a filter of the response.
//! * What is seen is `a.H`, `a.D(text)!`, `a<200`, `a<D(text)!` for a filter, `out.200`, `out.D(text)!`
//!   for what goes to the client, `end` when the stream is destroyed.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::{ConnectionManagerConfig, ConnectionManagerImpl, HttpConnectionManager, WorkerConfig};
use crate::access_log::AccessLogManager;
use crate::buffer::Buffer;
use crate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use crate::config::{ConfigError, UnknownFields, parse_bootstrap};
use crate::event::Dispatcher;
use crate::filters::http::{
    DownstreamWatermarkCallbacks, FilterChainFactoryCallbacks, FilterDataStatus, FilterFactory,
    FilterFactoryCb, FilterHeadersStatus, FilterTrailersStatus, HttpFilter, HttpFilterConfig,
    LocalErrorStatus, LocalReplyData, StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter,
    StreamEncoderFilterCallbacks,
};
use crate::filters::{FactoryContext, LINKED, ServerFactoryContext};
use crate::http::{
    HeaderId, HeaderMap, HeaderMapPtr, RequestDecoder, ServerConnectionCallbacks, Stream, StreamCallbacks,
    StreamEncoder, StreamResetReason,
};
use crate::init::ManagerImpl;
use crate::network::{Address, ConnectionCallbacks, ConnectionEvent, ConnectionInfoProvider, DrainDecision};
use crate::router::{ConfigImpl, RouteConfigUpdate};
use crate::runtime::LoaderImpl;
use crate::stats::{Scope, Store};
use crate::thread_local;

type Log = Rc<RefCell<Vec<String>>>;

thread_local! {
    static LOG: Log = Log::default();
    /// The scripts of the stream under test, and its filters once it has made them.
    static SCRIPTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The routes of the stream under test, where they may change.
    static ROUTES: RefCell<Option<RouteConfigUpdate>> = const { RefCell::new(None) };
    static FILTERS: RefCell<Vec<Rc<Scripted>>> = const { RefCell::new(Vec::new()) };
}

fn seen(what: String) {
    LOG.with(|log| log.borrow_mut().push(what));
}

fn text(data: &Buffer, end: bool) -> String {
    format!("D({}){}", String::from_utf8_lossy(&data.to_vec()), mark(end))
}

fn show(data: &Buffer) {
    seen(format!("keeps({})", String::from_utf8_lossy(&data.to_vec())));
}

fn mark(end: bool) -> &'static str {
    if end { "!" } else { "" }
}

/// The text between the brackets of `add(text)`.
fn argument(doing: &str) -> &str {
    doing.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(text, _)| text)
}

/// A filter that does as its script says.
pub struct Scripted {
    name: String,
    last: bool,
    script: RefCell<Vec<(String, VecDeque<String>)>>,
    /// All headers and trailers that the filter was given; it has hold of them whenever it does something.
    maps: RefCell<Vec<HeaderMapPtr>>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    encoder: OnceCell<StreamEncoderFilterCallbacks>,
    /// The end of the request, or the response, was given; then told to be complete; then destroyed.
    ends: [Cell<u32>; 2],
    completes: [Cell<u32>; 2],
    destroyed: Cell<u32>,
}

impl Scripted {
    fn new(name: &str, script: &str, last: bool) -> Rc<Self> {
        let mut by_frame: Vec<(String, VecDeque<String>)> = Vec::new();
        for entry in script.split_whitespace() {
            let (frame, doings) = entry.split_once(':').expect("frame:doings");
            match by_frame.iter_mut().find(|(f, _)| f == frame) {
                Some((_, queue)) => queue.push_back(doings.to_owned()),
                None => by_frame.push((frame.to_owned(), VecDeque::from([doings.to_owned()]))),
            }
        }
        Rc::new(Scripted {
            name: name.to_owned(),
            last,
            script: RefCell::new(by_frame),
            maps: RefCell::default(),
            decoder: OnceCell::new(),
            encoder: OnceCell::new(),
            ends: Default::default(),
            completes: Default::default(),
            destroyed: Cell::new(0),
        })
    }

    fn decoder(&self) -> &StreamDecoderFilterCallbacks {
        self.decoder.get().expect("a filter of the request")
    }

    fn encoder(&self) -> &StreamEncoderFilterCallbacks {
        self.encoder.get().expect("a filter of the response")
    }

    /// What the script has next for `frame`.
    fn next_doings(&self, frame: &str) -> String {
        let mut script = self.script.borrow_mut();
        let queue = script.iter_mut().find(|(f, _)| f == frame);
        queue.and_then(|(_, queue)| queue.pop_front()).unwrap_or_default()
    }

    /// Does what the script has for `frame`, and gives the status in words.
    fn at(&self, frame: &str, mut data: Option<&mut Buffer>, end: bool) -> String {
        let way = usize::from(frame.starts_with('<'));
        self.ends[way].set(self.ends[way].get() + u32::from(end));
        let doings = self.next_doings(frame);
        let maps = self.maps.borrow().clone();
        let mut held: Vec<_> = maps.iter().filter_map(|map| map.try_borrow_mut().ok()).collect();
        let mut status = if self.last { "default" } else { "pass" };
        for doing in doings.split(',').filter(|doing| !doing.is_empty()) {
            match doing {
                "pass" | "stop" | "end" | "allbuffer" | "allwatermark" | "buffer" | "watermark"
                | "nobuffer" => {
                    status = doing;
                }
                "second" => held[0].set(HeaderId::Path, b"/second"),
                "first" => held[0].set(HeaderId::Path, b"/"),
                "let" => held.clear(),
                "holds" => seen(format!("holds={}", held.len())),
                "take" => data.as_deref_mut().expect("data").clear(),
                "readd" => {
                    let data = data.as_deref_mut().expect("data");
                    match way {
                        0 => self.decoder().add_decoded_data(data, true),
                        _ => self.encoder().add_encoded_data(data, true),
                    }
                }
                _ => self.act(doing, way == 1),
            }
        }
        status.to_owned()
    }

    /// Does something that is not a status.
    fn act(&self, doing: &str, encode: bool) {
        let mut data = Buffer::from(argument(doing));
        let end = doing.ends_with('!');
        match doing.split('(').next().unwrap().trim_end_matches('!') {
            "go" if encode => self.encoder().continue_encoding(),
            "go" => self.decoder().continue_decoding(),
            "add" if encode => self.encoder().add_encoded_data(&mut data, false),
            "add" => self.decoder().add_decoded_data(&mut data, false),
            "adds" if encode => self.encoder().add_encoded_data(&mut data, true),
            "adds" => self.decoder().add_decoded_data(&mut data, true),
            "inject" if encode => self.encoder().inject_encoded_data_to_filter_chain(&mut data, end),
            "inject" => self.decoder().inject_decoded_data_to_filter_chain(&mut data, end),
            "trailers" => {
                let added = if encode {
                    self.encoder().add_encoded_trailers()
                } else {
                    self.decoder().add_decoded_trailers()
                };
                seen(if added.is_some() { "added" } else { "refused" }.into());
            }
            "show" if encode => self.encoder().encoding_buffer(&mut show),
            "show" => self.decoder().decoding_buffer(&mut show),
            "change" => {
                let mut change = |kept: &mut Buffer| *kept = Buffer::from(argument(doing));
                if encode {
                    self.encoder().modify_encoding_buffer(&mut change);
                } else {
                    self.decoder().modify_decoding_buffer(&mut change);
                }
            }
            "limit" if encode => self.encoder().set_encoder_buffer_limit(argument(doing).parse().unwrap()),
            "limit" => self.decoder().set_decoder_buffer_limit(argument(doing).parse().unwrap()),
            "limits" => {
                let limits = (self.decoder().decoder_buffer_limit(), self.encoder().encoder_buffer_limit());
                seen(format!("limits={},{}", limits.0, limits.1));
            }
            // A stream made anew has the same filters, with the same scripts.
            "again" if FILTERS.with_borrow(|f| f.iter().filter(|f| f.name == self.name).count()) > 1 => {}
            "again" => seen(format!("recreated={}", self.decoder().recreate_stream(None))),
            "recreate" => seen(format!("recreated={}", self.decoder().recreate_stream(None))),
            "kept" => seen(format!("kept={}", self.decoder().decoding_buffer_length())),
            "reply" if encode => self.encoder().send_local_reply(403, "no", None, "denied".into()),
            "reply" => self.decoder().send_local_reply(403, "no", None, "denied".into()),
            "reset" if encode => self.encoder().reset_stream(),
            "reset" => self.decoder().reset_stream(),
            "update" => update_routes(),
            "clear" if encode => self.encoder().clear_route_cache(),
            "clear" => self.decoder().clear_route_cache(),
            "route" => seen(format!(
                "route={}",
                self.decoder().route().map_or_else(|| "none".into(), |r| r.name().to_owned())
            )),
            "watch" => {
                let this = FILTERS.with_borrow(|f| f.iter().find(|f| f.name == self.name).cloned());
                let this: Rc<dyn DownstreamWatermarkCallbacks> = this.unwrap();
                self.decoder().add_downstream_watermark_callbacks(Rc::downgrade(&this));
            }
            "100" => self.decoder().encode_1xx_headers(head(100)),
            "200" => self.decoder().encode_headers(head(200), end, "via_upstream"),
            "D" => self.decoder().encode_data(&mut data, end),
            "T" => self.decoder().encode_trailers(HeaderMap::new().shared()),
            other => panic!("unknown doing {other}"),
        }
    }

    fn complete(&self, way: usize) {
        self.completes[way].set(self.completes[way].get() + 1);
    }
}

fn head(status: u16) -> HeaderMapPtr {
    let mut headers = HeaderMap::new();
    headers.set_status(status);
    headers.shared()
}

fn headers_status(status: &str) -> FilterHeadersStatus {
    match status {
        "pass" => FilterHeadersStatus::Continue,
        "stop" | "default" => FilterHeadersStatus::StopIteration,
        "end" => FilterHeadersStatus::ContinueAndEndStream,
        "allbuffer" => FilterHeadersStatus::StopAllIterationAndBuffer,
        "allwatermark" => FilterHeadersStatus::StopAllIterationAndWatermark,
        other => panic!("{other} for headers"),
    }
}

fn data_status(status: &str) -> FilterDataStatus {
    match status {
        "pass" => FilterDataStatus::Continue,
        "buffer" => FilterDataStatus::StopIterationAndBuffer,
        "watermark" => FilterDataStatus::StopIterationAndWatermark,
        "nobuffer" | "default" => FilterDataStatus::StopIterationNoBuffer,
        other => panic!("{other} for data"),
    }
}

fn trailers_status(status: &str) -> FilterTrailersStatus {
    match status {
        "pass" => FilterTrailersStatus::Continue,
        "stop" | "default" => FilterTrailersStatus::StopIteration,
        other => panic!("{other} for trailers"),
    }
}

impl StreamDecoderFilter for Scripted {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        seen(format!("{}.H{}", self.name, mark(end_stream)));
        self.maps.borrow_mut().push(headers.clone());
        headers_status(&self.at("H", None, end_stream))
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        seen(format!("{}.{}", self.name, text(data, end_stream)));
        data_status(&self.at("D", Some(data), end_stream))
    }

    fn decode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        seen(format!("{}.T", self.name));
        self.maps.borrow_mut().push(trailers.clone());
        trailers_status(&self.at("T", None, true))
    }

    fn decode_complete(&self) {
        self.complete(0);
    }

    fn on_local_reply(&self, data: &LocalReplyData<'_>) -> LocalErrorStatus {
        match self.next_doings("L").as_str() {
            "reset" => return LocalErrorStatus::ContinueAndResetStream,
            "note" => {
                let reset = if data.reset_imminent { " reset" } else { "" };
                seen(format!("{}.L({} {}{reset})", self.name, data.code, data.details));
            }
            _ => {}
        }
        LocalErrorStatus::Continue
    }

    fn on_destroy(&self) {
        self.destroyed.set(self.destroyed.get() + 1);
        if self.last {
            seen("end".into());
        }
    }
}

impl StreamEncoderFilter for Scripted {
    fn set_encoder_filter_callbacks(&self, callbacks: StreamEncoderFilterCallbacks) {
        self.encoder.get_or_init(|| callbacks);
    }

    fn encode_1xx_headers(&self, headers: &HeaderMapPtr) -> FilterHeadersStatus {
        seen(format!("{}<{}", self.name, headers.borrow().status()));
        self.maps.borrow_mut().push(headers.clone());
        headers_status(&self.at("<I", None, false))
    }

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        seen(format!("{}<{}{}", self.name, headers.borrow().status(), mark(end_stream)));
        self.maps.borrow_mut().push(headers.clone());
        headers_status(&self.at("<H", None, end_stream))
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        seen(format!("{}<{}", self.name, text(data, end_stream)));
        data_status(&self.at("<D", Some(data), end_stream))
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        seen(format!("{}<T", self.name));
        self.maps.borrow_mut().push(trailers.clone());
        trailers_status(&self.at("<T", None, true))
    }

    fn encode_complete(&self) {
        self.complete(1);
    }

    fn on_destroy(&self) {
        seen("destroyed as a filter of the response".into());
    }
}

impl DownstreamWatermarkCallbacks for Scripted {
    fn on_above_write_buffer_high_watermark(&self) {
        seen(format!("{}.pause", self.name));
    }

    fn on_below_write_buffer_low_watermark(&self) {
        seen(format!("{}.resume", self.name));
    }
}

/// Makes the filters of [`SCRIPTS`], and the one in the router's place.
#[derive(Debug)]
struct ScriptedFactory;

impl HttpFilterConfig for ScriptedFactory {
    fn create_filter_factory(
        &self,
        _name: &str,
        _scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        Ok(Arc::new(ScriptedFactory))
    }
}

impl FilterFactory for ScriptedFactory {
    fn on_worker(&self) -> FilterFactoryCb {
        Box::new(create_scripted)
    }
}

fn create_scripted(callbacks: &dyn FilterChainFactoryCallbacks) {
    let scripts = SCRIPTS.with_borrow(Clone::clone);
    let count = scripts.len();
    for (i, script) in scripts.into_iter().enumerate() {
        let last = i + 1 == count;
        let name = if last { "r" } else { ["a", "b", "c", "d"][i] };
        let filter = Scripted::new(name, &script, last);
        FILTERS.with_borrow_mut(|filters| filters.push(filter.clone()));
        if last {
            callbacks.add_stream_decoder_filter(filter);
        } else {
            callbacks.add_stream_filter(filter);
        }
    }
}

/// Writes down what goes to the client.
pub struct PlayedEncoder {
    limit: usize,
    callbacks: RefCell<Vec<Weak<dyn StreamCallbacks>>>,
}

impl PlayedEncoder {
    pub fn new(limit: usize) -> Self {
        PlayedEncoder { limit, callbacks: RefCell::default() }
    }
}

impl StreamEncoder for PlayedEncoder {
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        seen(format!("out.{}{}", headers.borrow().status(), mark(end_stream)));
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        seen(format!("out.{}", text(data, end_stream)));
        data.clear();
    }

    fn encode_trailers(&self, _trailers: &HeaderMapPtr) {
        seen("out.T".into());
    }

    fn encode_1xx_headers(&self, headers: &HeaderMapPtr) {
        seen(format!("out.{}", headers.borrow().status()));
    }

    fn stream(&self) -> &dyn Stream {
        self
    }
}

impl Stream for PlayedEncoder {
    fn add_callbacks(&self, callbacks: Weak<dyn StreamCallbacks>) {
        self.callbacks.borrow_mut().push(callbacks);
    }

    fn remove_callbacks(&self, _callbacks: &Weak<dyn StreamCallbacks>) {
        self.callbacks.borrow_mut().clear();
    }

    fn reset_stream(&self, reason: StreamResetReason) {
        seen("out.reset".into());
        for callbacks in self.callbacks.take() {
            if let Some(callbacks) = callbacks.upgrade() {
                callbacks.on_reset_stream(reason);
            }
        }
    }

    fn read_disable(&self, disable: bool) {
        seen(if disable { "out.disable" } else { "out.enable" }.into());
    }

    fn buffer_limit(&self) -> usize {
        self.limit
    }

    fn connection_info(&self) -> Option<Rc<ConnectionInfoProvider>> {
        None
    }
}

struct NeverDrains;

impl DrainDecision for NeverDrains {
    fn drain_close(&self) -> bool {
        false
    }
}

/// What all runs of a test share.
pub struct Fixture {
    dispatcher: Rc<Dispatcher>,
    config: Rc<WorkerConfig>,
    failed: RefCell<Vec<String>>,
    _clusters: Rc<ClusterManagerImpl>,
}

impl Fixture {
    pub fn new() -> Self {
        Fixture::with_routes(None)
    }

    /// With routes that `update` replaces by those of the configuration.
    pub fn updated() -> Self {
        Fixture::with_routes(Some(Arc::new(ConfigImpl::default())))
    }

    fn with_routes(routes: Option<Arc<ConfigImpl>>) -> Self {
        let dispatcher = Dispatcher::new("test");
        thread_local::enter_thread(&dispatcher);
        let stats = Store::new(1);
        let tls = thread_local::InstanceImpl::new();
        let runtime = LoaderImpl::empty(&stats);
        let clusters =
            ClusterManagerImpl::new(&[], None, LocalInfo::default(), &stats, &tls, &runtime).unwrap();
        let server = ServerFactoryContext {
            cluster_manager: clusters.handle(),
            runtime,
            access_log_manager: AccessLogManager::new(&stats, Duration::from_secs(3600)),
            date_provider: tls.allocate_slot(),
            local_address: Address::local_machine(false),
            service_cluster: String::new(),
            service_zone: String::new(),
            service_node: String::new(),
            health_check_failed: Arc::default(),
            stats: stats.clone(),
        };
        let config = parse_bootstrap(bootstrap(), UnknownFields::default(), &LINKED).unwrap();
        let filter = &config.static_resources.listeners[0].filter_chains[0].filters[0];
        let hcm = HttpConnectionManager {
            http_filters: vec![HttpFilter::of("scripted", ScriptedFactory)],
            ..HttpConnectionManager::of(filter).unwrap().clone()
        };
        let context = FactoryContext {
            server: &server,
            init_manager: &ManagerImpl::new("test"),
            listener_scope: &stats.root_scope(),
            is_logged: true,
            drain_decision: Arc::new(NeverDrains),
        };
        let config = ConnectionManagerConfig::new(&hcm, &context);
        let mut config = config.unwrap_or_else(|error| panic!("{error}"));
        if let Some(routes) = routes {
            let update = RouteConfigUpdate::new(&tls, routes);
            config.route_config_provider = update.provider();
            ROUTES.set(Some(update));
        }
        let config = WorkerConfig::new(Arc::new(config), &dispatcher);
        Fixture { dispatcher, config, failed: RefCell::default(), _clusters: clusters }
    }

    /// A manager whose connection is gone.
    pub fn manager(&self) -> Rc<ConnectionManagerImpl> {
        self.config.stats.downstream_cx_active.inc();
        ConnectionManagerImpl::new(self.config.clone())
    }

    /// What the filters of the next stream do.
    pub fn script(filters: &[&str]) {
        SCRIPTS.set(filters.iter().map(|f| (*f).to_owned()).collect());
    }

    /// A run without a buffer limit. What is not as expected is told at the end of the test.
    pub fn check(&self, filters: &[&str], steps: &str, expected: &str) {
        self.check_with_limit(0, filters, steps, expected);
    }

    pub fn check_with_limit(&self, limit: usize, filters: &[&str], steps: &str, expected: &str) {
        let found = self.run(limit, filters, steps);
        if found != expected {
            let mut failed = self.failed.borrow_mut();
            failed.push(format!("{filters:?} {steps:?}\n  expected {expected}\n     found {found}"));
        }
    }

    fn run(&self, limit: usize, filters: &[&str], steps: &str) -> String {
        Self::script(filters);
        FILTERS.take();
        let manager = self.manager();
        let encoder = Rc::new(PlayedEncoder::new(limit));
        let decoder = manager.new_stream(encoder.clone());
        for step in steps.split_whitespace() {
            Self::step(&decoder, step);
        }
        let mut log = LOG.with(|log| log.take());
        manager.on_event(ConnectionEvent::RemoteClose);
        LOG.with(|log| log.take());
        self.dispatcher.clear_deferred_delete_list();
        assert_eq!(decoder.strong_count(), 0, "the stream is still there");
        for filter in FILTERS.take() {
            for way in [0, 1] {
                let (ends, completes) = (filter.ends[way].get(), filter.completes[way].get());
                if ends > 1 || ends != completes {
                    log.push(format!("{}: {ends} ends and {completes} completes", filter.name));
                }
            }
            if filter.destroyed.get() != 1 {
                log.push(format!("{} destroyed {} times", filter.name, filter.destroyed.get()));
            }
        }
        log.join(" ")
    }

    pub fn step(decoder: &Weak<dyn RequestDecoder>, step: &str) {
        if let Some((name, doing)) = step.split_once(':').or_else(|| step.split_once('<')) {
            let filter =
                FILTERS.with_borrow(|filters| filters.iter().rev().find(|f| f.name == name).cloned());
            return filter.expect("a filter of that name").act(doing, !step.contains(':'));
        }
        let decoder = decoder.upgrade().expect("the stream is there");
        let end = step.ends_with('!');
        match step.split('(').next().unwrap().trim_end_matches('!') {
            "H" | "G" | "P" => {
                let mut headers = HeaderMap::new();
                headers.set(HeaderId::Method, if step.starts_with('P') { b"HEAD" } else { b"GET" });
                headers.set(HeaderId::Authority, b"host");
                headers.set(HeaderId::ForwardedProto, b"http");
                headers.set(HeaderId::Path, b"/");
                if step.starts_with('G') {
                    headers.set(HeaderId::ContentType, b"application/grpc");
                }
                decoder.decode_headers(headers.shared(), end);
            }
            "D" => decoder.decode_data(&mut Buffer::from(argument(step)), end),
            "T" => decoder.decode_trailers(HeaderMap::new().shared()),
            other => panic!("unknown step {other}"),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let failed = self.failed.borrow();
        if !failed.is_empty() && !std::thread::panicking() {
            panic!("{} runs are not as expected:\n{}", failed.len(), failed.join("\n"));
        }
    }
}

/// Has new streams go by the routes of the configuration.
pub fn update_routes() {
    let config = parse_bootstrap(bootstrap(), UnknownFields::default(), &LINKED).unwrap();
    let hcm =
        HttpConnectionManager::of(&config.static_resources.listeners[0].filter_chains[0].filters[0]).unwrap();
    let routes = Arc::new(ConfigImpl::new(&hcm.route_config, None).unwrap());
    ROUTES.with_borrow(|update| update.as_ref().expect("routes to update").on_config_update(routes));
}

fn bootstrap() -> serde_json::Value {
    let direct = |path: &str, name: &str| json!({ "name": name, "match": { "path": path }, "direct_response": { "status": 200 } });
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": "test",
        "proxy_100_continue": true,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            direct("/", "first"), direct("/second", "second"),
        ]}]},
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    json!({ "static_resources": { "listeners": [{
        "name": "test",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 1 } },
        "filter_chains": [{ "filters": [
            { "name": "envoy.filters.network.http_connection_manager", "typed_config": hcm },
        ]}],
    }]}})
}
