//! Requests of the proxy's own: a stream that has a router, and no downstream.
//!
//! Mirrors `AsyncStreamImpl` of Envoy's `source/common/http/async_client_impl.cc`, which is the router's host there as well. A
//! stream keeps itself until it has ended; in Envoy its client has it in a list.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::FilterChainFactoryCallbacks;
use super::manager::{FilterManager, FilterManagerCallbacks};
use super::router::{Filter, FilterConfig};
use crate::buffer::Buffer;
use crate::common::Local;
use crate::envoy_log;
use crate::event::Dispatcher;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};
use crate::router::{Route, RouteConstSharedPtr};
use crate::trace::{self, Stage, log_stage};
use crate::upstream::ClusterName;

/// An answer, when all of it has come; trailers are left out.
#[derive(Default)]
pub struct ResponseMessage {
    /// Its head.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Buffer,
}

/// Hears what becomes of a request, once (Envoy: `AsyncClient::Callbacks`).
pub trait AsyncClientCallbacks {
    /// It was answered, by an upstream or in its place.
    fn on_success(&self, response: ResponseMessage);
    /// It was not, and will not be.
    fn on_failure(&self);
}

/// See the module's description.
pub struct AsyncStreamImpl {
    weak: Weak<AsyncStreamImpl>,
    filter_manager: FilterManager,
    router: Local<FilterConfig>,
    route: RouteConstSharedPtr,
    /// Who hears what it is answered, if anybody does.
    callbacks: RefCell<Option<Weak<dyn AsyncClientCallbacks>>>,
    response: RefCell<ResponseMessage>,
    /// Itself, until it has ended.
    keep: RefCell<Option<Rc<AsyncStreamImpl>>>,
}

impl AsyncStreamImpl {
    /// Sends a request along `route`, which says to which cluster, and how (Envoy: `AsyncClient::RequestOptions`), and has
    /// `callbacks` hear of its response (Envoy: `AsyncClientImpl::send`). They may have heard of it when this returns.
    pub fn send(
        dispatcher: &Rc<Dispatcher>,
        router: Local<FilterConfig>,
        route: &RouteConstSharedPtr,
        (headers, mut body): (HeaderMap, Buffer),
        callbacks: Weak<dyn AsyncClientCallbacks>,
    ) -> Rc<Self> {
        let end_stream = body.is_empty();
        let stream = Self::new(dispatcher, router, route.clone());
        *stream.callbacks.borrow_mut() = Some(callbacks);
        stream.send_headers(headers, end_stream, false);
        if !end_stream {
            stream.send_data(&mut body, true);
        }
        stream
    }

    /// Sends the head of a request to a cluster, which has `timeout` for its response once the request is complete. Nobody
    /// hears of it. The upstream is told that it comes by this machine, too.
    pub fn start(
        dispatcher: &Rc<Dispatcher>,
        router: Local<FilterConfig>,
        cluster: &ClusterName,
        timeout: Duration,
        headers: HeaderMap,
        end_stream: bool,
    ) -> Rc<Self> {
        let stream = Self::new(dispatcher, router, Rc::new(Route::to_cluster(cluster, timeout, None)));
        stream.send_headers(headers, end_stream, true);
        stream
    }

    fn new(dispatcher: &Rc<Dispatcher>, router: Local<FilterConfig>, route: RouteConstSharedPtr) -> Rc<Self> {
        let buffer_limit = 0;
        let stream = Rc::new_cyclic(|weak: &Weak<AsyncStreamImpl>| {
            let host: Weak<dyn FilterManagerCallbacks> = weak.clone();
            AsyncStreamImpl {
                weak: weak.clone(),
                filter_manager: FilterManager::new(
                    host,
                    dispatcher,
                    (0, fastrand::u64(..)),
                    false,
                    buffer_limit,
                )
                .without_logs_of_calls(),
                router,
                route,
                callbacks: RefCell::default(),
                response: RefCell::default(),
                keep: RefCell::default(),
            }
        });
        *stream.keep.borrow_mut() = stream.weak.upgrade();
        stream
    }

    fn send_headers(&self, mut headers: HeaderMap, end_stream: bool, sends_xff: bool) {
        headers.set(HeaderId::EnvoyInternalRequest, b"true");
        if sends_xff {
            headers.append(HeaderId::ForwardedFor, self.router.local_address().as_bytes(), ",");
        }
        self.passed(Stage::AsyncStreamSendHeaders, 0, end_stream);
        let manager = &self.filter_manager;
        manager.request_headers_initialized(&headers);
        manager.set_remote_complete(end_stream);
        manager.create_filter_chain();
        manager.decode_headers(&headers.shared(), end_stream);
    }

    /// Sends a piece of the body.
    pub fn send_data(&self, data: &mut Buffer, end_stream: bool) {
        if !self.filter_manager.is_destroyed() {
            self.filter_manager.set_remote_complete(end_stream);
            self.filter_manager.decode_data(data, end_stream);
        }
    }

    /// Sends trailers, which end the request.
    pub fn send_trailers(&self, trailers: HeaderMap) {
        if !self.filter_manager.is_destroyed() {
            self.filter_manager.set_remote_complete(true);
            self.filter_manager.decode_trailers(trailers.shared());
        }
    }

    /// Gives the request up, of which nothing is heard any more.
    pub fn reset(&self) {
        self.callbacks.take();
        self.finish();
    }

    /// Records that the stream has passed a stage.
    fn passed(&self, stage: Stage, a: u64, end_stream: bool) {
        let manager = &self.filter_manager;
        trace::instant(stage, Some(manager.connection_id()), manager.stream_id(), a, end_stream.into());
    }

    fn heard_by(&self) -> Option<Rc<dyn AsyncClientCallbacks>> {
        self.callbacks.take()?.upgrade()
    }

    fn finish(&self) {
        if self.filter_manager.is_destroyed() {
            return;
        }
        self.passed(Stage::AsyncStreamCleanup, 0, false);
        self.filter_manager.destroy_filters();
        if let Some(this) = self.keep.borrow_mut().take() {
            self.filter_manager.dispatcher().deferred_delete(this);
        }
    }
}

impl FilterManagerCallbacks for AsyncStreamImpl {
    fn filter_manager(&self) -> &FilterManager {
        &self.filter_manager
    }

    fn create_filter_chain(&self, callbacks: &dyn FilterChainFactoryCallbacks) {
        callbacks.add_stream_decoder_filter(Filter::new(self.router.clone()));
    }

    fn encode_1xx_headers(&self, _headers: &HeaderMapPtr) {}

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        let headers_to_log = headers.borrow();
        log_stage!(AsyncStreamEncodeHeaders(), end = end_stream, headers = headers_to_log);
        self.passed(Stage::AsyncStreamEncodeHeaders, headers_to_log.status().into(), end_stream);
        self.filter_manager.stream_info().response_code.set(Some(headers_to_log.status()));
        if self.callbacks.borrow().is_some() {
            self.response.borrow_mut().headers = headers_to_log.clone();
        }
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        log_stage!(AsyncStreamEncodeData(), bytes = data.len(), end = end_stream);
        self.passed(Stage::AsyncStreamEncodeData, data.len() as u64, end_stream);
        if self.callbacks.borrow().is_none() {
            return data.clear();
        }
        if self.response.borrow().body.len() + data.len() > self.router.async_response_buffer_limit() {
            envoy_log!(
                Http,
                warn,
                "the buffer size limit for async client response body has been exceeded, draining data"
            );
            data.clear();
            return self.reset_stream();
        }
        self.response.borrow_mut().body.move_from(data);
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) {
        envoy_log!(Http, debug, "async http request response trailers:\n{}", trailers.borrow());
        self.passed(Stage::AsyncStreamEncodeTrailers, 0, true);
    }

    fn end_stream(&self) {
        let callbacks = self.heard_by();
        self.finish();
        if let Some(callbacks) = callbacks {
            callbacks.on_success(self.response.take());
        }
    }

    fn reset_stream(&self) {
        let callbacks = self.heard_by();
        self.finish();
        if let Some(callbacks) = callbacks {
            callbacks.on_failure();
        }
    }

    fn route(&self) -> Option<RouteConstSharedPtr> {
        Some(self.route.clone())
    }

    fn clear_route_cache(&self) {}
}
