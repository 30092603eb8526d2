//! The filter itself. Mirrors `Filter` of Envoy's `source/extensions/filters/http/ext_authz/ext_authz.cc`, as of 1.40.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::client::{CheckStatus, ClientConfig, Field, OkResponse, ShownBody};
use super::config::{FilterConfigPerRoute, OfCluster, OnWorker};
use super::message::BufferSettings;
use crate::buffer::Buffer;
use crate::common::Local;
use crate::envoy_stream_log;
use crate::event::{self, Moment};
use crate::filters::http::async_client::{AsyncClientCallbacks, AsyncStreamImpl, ResponseMessage};
use crate::filters::http::mutation_rules::CheckOperation;
use crate::filters::http::{
    FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, StreamDecoderFilter,
    StreamDecoderFilterCallbacks, StreamEncoderFilter,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, utility};
use crate::router::Route;
use crate::stream_info::{Object, ResponseFlag};
use crate::upstream::{ClusterInfoImpl, ResponseOrigin};

/// Under which the filter leaves what it was told.
const METADATA: &str = "envoy.filters.http.ext_authz";

/// The older name of `:authority`.
const HOST: &str = "host";

/// Tells the upstream that nobody has decided.
const FAILURE_MODE_ALLOWED: &str = "x-envoy-auth-failure-mode-allowed";

macro_rules! log {
    ($callbacks:expr, $level:ident, $($text:tt)+) => {
        envoy_stream_log!(
            ExtAuthz,
            $level,
            $callbacks.connection_id(),
            $callbacks.stream_id(),
            $($text)+
        )
    };
}

/// What is left of a call in the stream.
struct ExtAuthzLoggingInfo {
    latency_us: u64,
}

impl Object for ExtAuthzLoggingInfo {
    fn get_field(&self, name: &str) -> Option<u64> {
        (name == "latency_us").then_some(self.latency_us)
    }
}

/// Whether somebody is asked.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    NotStarted,
    Calling,
    Complete,
}

/// See the module's description.
pub(super) struct Filter {
    weak: Weak<Filter>,
    config: Rc<OnWorker>,
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
    request_headers: RefCell<Option<HeaderMapPtr>>,
    client: OnceCell<Arc<ClientConfig>>,
    /// How much of the body is shown, while it is waited for.
    waits_for: Cell<Option<BufferSettings>>,
    state: Cell<State>,
    initiating_call: Cell<bool>,
    /// The request does not go on, at least for now.
    stops: Cell<bool>,
    started: Cell<Option<Moment>>,
    call: RefCell<Option<Rc<AsyncStreamImpl>>>,
    cluster: RefCell<Option<Local<ClusterInfoImpl>>>,
    response_headers_to_add: RefCell<Vec<Field>>,
}

impl Filter {
    pub fn new(config: &Rc<OnWorker>) -> Rc<Self> {
        Rc::new_cyclic(|weak| Filter {
            weak: weak.clone(),
            config: config.clone(),
            callbacks: OnceCell::new(),
            request_headers: RefCell::default(),
            client: OnceCell::new(),
            waits_for: Cell::default(),
            state: Cell::default(),
            initiating_call: Cell::default(),
            stops: Cell::default(),
            started: Cell::default(),
            call: RefCell::default(),
            cluster: RefCell::default(),
            response_headers_to_add: RefCell::default(),
        })
    }

    fn refuse_on_error(&self, callbacks: &StreamDecoderFilterCallbacks) {
        let status = self.config.status_on_error;
        callbacks.stream_info().set_response_flag(ResponseFlag::UnauthorizedExternalService);
        callbacks.send_local_reply(status, "", None, "ext_authz_error".into());
    }

    /// How much of the body is shown; `None` where none is.
    fn body_settings(
        &self,
        of_route: Option<&FilterConfigPerRoute>,
        headers: &HeaderMap,
    ) -> Option<BufferSettings> {
        let settings = of_route.and_then(|of_route| of_route.with_request_body);
        let settings = settings.or(self.config.message.with_request_body)?;
        let is_unwanted = of_route.is_some_and(|of_route| of_route.disable_request_body_buffering);
        (!is_unwanted && !utility::is_upgrade(headers)).then_some(settings)
    }

    /// Asks about the request. What is kept of its body by now is shown with it.
    fn initiate_call(&self, callbacks: &StreamDecoderFilterCallbacks) {
        let Some(headers) = self.request_headers.borrow().clone().filter(|_| !self.stops.get()) else {
            return;
        };
        let client = self.client.get().unwrap_or(&self.config.client);
        log!(callbacks, trace, "ext_authz filter calling authorization server");
        self.started.set(Some(event::now()));
        self.state.set(State::Calling);
        self.stops.set(true);
        let manager = &self.config.cluster_manager;
        let route = callbacks.route();
        let cluster = route.as_deref().and_then(Route::cluster_name).and_then(|name| manager.get(name));
        *self.cluster.borrow_mut() = cluster.map(|cluster| cluster.info().clone());
        self.initiating_call.set(true);
        match manager.get(&client.cluster) {
            Some(_) => {
                let body = self.shown_body(callbacks);
                let info = callbacks.stream_info();
                let request =
                    client.check_request(&headers.borrow(), &self.config.shown_fields, body.as_ref(), info);
                self.send(callbacks, client, request, body);
            }
            None => {
                log!(callbacks, debug, "ext_authz cluster '{}' does not exist", client.cluster);
                self.on_complete(CheckStatus::Error, Map::new());
            }
        }
        self.initiating_call.set(false);
    }

    fn send(
        &self,
        callbacks: &StreamDecoderFilterCallbacks,
        client: &ClientConfig,
        request: HeaderMap,
        body: Option<ShownBody>,
    ) {
        let mut data = Buffer::default();
        if let Some(body) = body {
            data.add(&body.bytes);
        }
        let heard: Weak<dyn AsyncClientCallbacks> = self.weak.clone();
        let router = self.config.router.clone();
        let route = self.config.route(client);
        let call = AsyncStreamImpl::send(callbacks.dispatcher(), router, &route, (request, data), heard);
        if self.state.get() == State::Calling {
            *self.call.borrow_mut() = Some(call);
        }
    }

    fn shown_body(&self, callbacks: &StreamDecoderFilterCallbacks) -> Option<ShownBody> {
        let settings = self.waits_for.get()?;
        let mut shown = None;
        callbacks.decoding_buffer(&mut |buffer| {
            let length = buffer.len().min(settings.max_request_bytes as usize);
            let mut bytes = buffer.to_vec();
            bytes.truncate(length);
            if !settings.pack_as_bytes {
                bytes = sanitized(bytes);
            }
            shown = Some(ShownBody { bytes, is_partial: length < buffer.len() });
        });
        shown
    }

    fn on_complete(&self, status: CheckStatus, mut metadata: Map<String, Value>) {
        let Some(callbacks) = self.callbacks.get() else { return };
        self.state.set(State::Complete);
        self.call.take();
        self.leave_latency(callbacks);
        if !metadata.is_empty() && !self.config.message.enable_dynamic_metadata_ingestion {
            self.config.stats.ignored_dynamic_metadata.inc();
        } else if !metadata.is_empty() {
            if let (CheckStatus::Ok(_), Some(started)) = (&status, self.started.get()) {
                let elapsed = event::now().milliseconds_since(started);
                metadata.insert("ext_authz_duration".into(), elapsed.into());
            }
            callbacks.stream_info().set_dynamic_metadata(METADATA, metadata);
        }
        match status {
            CheckStatus::Ok(response) => self.on_ok(callbacks, response),
            CheckStatus::Denied { status, .. } if self.config.message.shadow_mode => {
                log!(callbacks, debug, "ext_authz filter in shadow mode: denied request is let through");
                self.count_denied(status);
                self.config.stats.shadow_denied.inc();
                self.continue_decoding(callbacks);
            }
            CheckStatus::Denied { status, headers, body } => {
                self.on_denied(callbacks, status, &headers, &body);
            }
            CheckStatus::Error => self.on_error(callbacks),
        }
    }

    fn on_ok(&self, callbacks: &StreamDecoderFilterCallbacks, response: OkResponse) {
        let OkResponse { headers_to_set, headers_to_add, headers_to_remove, response_headers_to_add } =
            response;
        self.clear_route_cache(callbacks, &headers_to_set, &headers_to_remove);
        let may = |operation, name: &str| self.may_change(operation, name);
        let changed =
            (headers_to_set.iter().chain(&headers_to_add).map(|(name, _)| (CheckOperation::Set, name)))
                .chain(headers_to_remove.iter().map(|name| (CheckOperation::Remove, name)));
        let rules = self.config.message.decoder_header_mutation_rules.as_ref();
        if rules.is_some_and(|rules| rules.disallow_is_error)
            && changed.into_iter().any(|(operation, name)| !may(operation, name))
        {
            return self.on_invalid(callbacks);
        }
        self.change_request(&headers_to_set, &headers_to_add, &headers_to_remove);
        *self.response_headers_to_add.borrow_mut() = response_headers_to_add;
        self.count(OfCluster::Ok);
        self.config.stats.ok.inc();
        log!(callbacks, debug, "ext_authz filter accepted the request");
        self.continue_decoding(callbacks);
    }

    /// Changes what may be changed.
    fn change_request(&self, set: &[Field], add: &[Field], remove: &[String]) {
        let may = |operation, name: &str| self.may_change(operation, name);
        if let Some(headers) = &*self.request_headers.borrow() {
            let mut headers = headers.borrow_mut();
            for (name, value) in set.iter().filter(|(name, _)| may(CheckOperation::Set, name)) {
                match name.as_str() {
                    HOST => headers.set(HeaderId::Authority, value),
                    _ => {
                        headers.remove_by_name(name.as_bytes());
                        headers.add(name, value);
                    }
                }
            }
            for (name, value) in add.iter().filter(|(name, _)| may(CheckOperation::Set, name)) {
                match name.as_str() {
                    HOST => headers.append(HeaderId::Authority, value, ","),
                    _ => headers.add(name, value),
                }
            }
            let to_remove = remove.iter().filter(|name| may(CheckOperation::Remove, name));
            to_remove.for_each(|name| headers.remove_by_name(name.as_bytes()));
        }
    }

    /// Whether an answer may change this header of the request.
    fn may_change(&self, operation: CheckOperation, name: &str) -> bool {
        match &self.config.message.decoder_header_mutation_rules {
            Some(rules) => rules.allows(operation, name),
            None => operation == CheckOperation::Set || !name.starts_with(':') && name != HOST,
        }
    }

    /// A request that has changed may take another route.
    fn clear_route_cache(&self, callbacks: &StreamDecoderFilterCallbacks, set: &[Field], removed: &[String]) {
        let message = &self.config.message;
        let only = &message.clear_route_cache_headers;
        let mut changed = set.iter().map(|(name, _)| name).chain(removed);
        let counts =
            |name: &String| only.is_empty() || only.iter().any(|other| other.eq_ignore_ascii_case(name));
        if message.clear_route_cache && changed.any(counts) {
            log!(callbacks, debug, "ext_authz is clearing route cache");
            callbacks.clear_route_cache();
        }
    }

    /// Who is asked has no right to change what it changes.
    fn on_invalid(&self, callbacks: &StreamDecoderFilterCallbacks) {
        log!(callbacks, trace, "Rejected invalid header from authorization server.");
        self.count(OfCluster::Invalid);
        self.config.stats.invalid.inc();
        callbacks.stream_info().set_response_flag(ResponseFlag::UnauthorizedExternalService);
        callbacks.send_local_reply(500, "", None, "ext_authz_invalid".into());
    }

    /// Leaves in the stream how long the call took.
    fn leave_latency(&self, callbacks: &StreamDecoderFilterCallbacks) {
        if !self.config.message.emit_filter_state_stats {
            return;
        }
        let elapsed = self.started.get().map(|started| Moment::exact().since(started)).unwrap_or_default();
        let info = ExtAuthzLoggingInfo { latency_us: elapsed.as_micros() as u64 };
        let state = callbacks.stream_info().make_filter_state();
        if !state.set_data(&self.config.name, Rc::new(info)) {
            self.config.stats.filter_state_name_collision.inc();
        }
    }

    fn count_denied(&self, status: u16) {
        self.config.stats.denied.inc();
        self.count(OfCluster::Denied);
        let cluster = self.cluster.borrow().clone();
        if let Some(cluster) = cluster.filter(|_| self.config.message.charge_cluster_response_stats) {
            let origin = ResponseOrigin { internal: true, canary: false, zones: None };
            cluster.code_stats().charge_response(status, &origin);
        }
    }

    fn on_denied(
        &self,
        callbacks: &StreamDecoderFilterCallbacks,
        status: u16,
        headers: &[Field],
        body: &[u8],
    ) {
        log!(callbacks, debug, "ext_authz filter rejected the request");
        self.count_denied(status);
        callbacks.stream_info().set_response_flag(ResponseFlag::UnauthorizedExternalService);
        let most = match self.config.message.max_denied_response_body_bytes {
            0 => body.len(),
            most => body.len().min(most as usize),
        };
        let modify = |reply: &mut HeaderMap| {
            // Those of one name all come in the place of what is there.
            headers.iter().for_each(|(name, _)| reply.remove_by_name(name.as_bytes()));
            headers.iter().for_each(|(name, value)| reply.add(name, value));
        };
        callbacks.send_local_reply(status, &body[..most], Some(&modify), "ext_authz_denied".into());
    }

    fn on_error(&self, callbacks: &StreamDecoderFilterCallbacks) {
        self.count(OfCluster::Error);
        self.config.stats.error.inc();
        if self.config.message.shadow_mode {
            log!(callbacks, debug, "ext_authz filter in shadow mode: request is let through with an error");
            self.config.stats.shadow_error.inc();
            return self.continue_decoding(callbacks);
        }
        if !self.config.message.failure_mode_allow {
            log!(callbacks, debug, "ext_authz filter rejected the request with an error");
            return self.refuse_on_error(callbacks);
        }
        log!(callbacks, debug, "ext_authz filter allowed the request with error");
        self.config.stats.failure_mode_allowed.inc();
        self.count(OfCluster::FailureModeAllowed);
        if self.config.message.failure_mode_allow_header_add
            && let Some(headers) = &*self.request_headers.borrow()
        {
            headers.borrow_mut().add(FAILURE_MODE_ALLOWED, b"true");
        }
        self.continue_decoding(callbacks);
    }

    fn count(&self, what: OfCluster) {
        if let Some(cluster) = &*self.cluster.borrow() {
            self.config.count(cluster, what);
        }
    }

    /// The request goes on: now, or when the call that has asked returns.
    fn continue_decoding(&self, callbacks: &StreamDecoderFilterCallbacks) {
        self.waits_for.set(None);
        self.stops.set(false);
        if !self.initiating_call.get() {
            callbacks.continue_decoding();
        }
    }
}

/// A body as a text: a byte that is none becomes an exclamation mark, as in Envoy.
fn sanitized(bytes: Vec<u8>) -> Vec<u8> {
    if std::str::from_utf8(&bytes).is_ok() {
        return bytes;
    }
    let mut text = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.resize(text.len() + chunk.invalid().len(), b'!');
    }
    text
}

impl AsyncClientCallbacks for Filter {
    fn on_success(&self, response: ResponseMessage) {
        let client = self.client.get().unwrap_or(&self.config.client);
        let (status, metadata) = client.to_response(&response);
        self.on_complete(status, metadata);
    }

    fn on_failure(&self) {
        self.on_complete(CheckStatus::Error, Map::new());
    }
}

impl StreamDecoderFilter for Filter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.callbacks.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        let Some(route) = &route else { return FilterHeadersStatus::Continue };
        let of_route = route.most_specific_filter_config::<FilterConfigPerRoute>(&self.config.name);
        if of_route.is_some_and(|of_route| of_route.disabled) {
            return FilterHeadersStatus::Continue;
        }
        if !self.config.enabled(callbacks.stream_info()) {
            self.config.stats.disabled.inc();
            if !self.config.denies_at_disable() {
                return FilterHeadersStatus::Continue;
            }
            log!(callbacks, debug, "ext_authz filter is disabled. Deny the request.");
            self.refuse_on_error(callbacks);
            return FilterHeadersStatus::StopIteration;
        }
        if let Some(client) = of_route.and_then(|of_route| of_route.client.clone()) {
            self.client.get_or_init(|| client);
        }
        *self.request_headers.borrow_mut() = Some(headers.clone());
        let settings = self.body_settings(of_route, &headers.borrow());
        if let Some(settings) = settings.filter(|_| !end_stream) {
            log!(callbacks, debug, "ext_authz filter is buffering the request");
            self.waits_for.set(Some(settings));
            if !settings.allow_partial_message {
                callbacks.set_decoder_buffer_limit(settings.max_request_bytes as usize);
            }
            return FilterHeadersStatus::StopIteration;
        }
        self.initiate_call(callbacks);
        match self.stops.get() {
            true => FilterHeadersStatus::StopAllIterationAndWatermark,
            false => FilterHeadersStatus::Continue,
        }
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        let (Some(callbacks), Some(settings)) = (self.callbacks.get(), self.waits_for.get()) else {
            return FilterDataStatus::Continue;
        };
        let kept = callbacks.decoding_buffer_length() + data.len();
        let is_full = settings.allow_partial_message && kept >= settings.max_request_bytes as usize;
        if !end_stream && !is_full {
            return FilterDataStatus::StopIterationAndBuffer;
        }
        if !self.stops.get() {
            log!(callbacks, debug, "ext_authz filter finished buffering the request");
            // What is asked with is what is kept.
            callbacks.add_decoded_data(data, true);
            self.initiate_call(callbacks);
        }
        match self.stops.get() {
            true => FilterDataStatus::StopIterationAndWatermark,
            false => FilterDataStatus::Continue,
        }
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        let Some(callbacks) = self.callbacks.get().filter(|_| self.waits_for.get().is_some()) else {
            return FilterTrailersStatus::Continue;
        };
        if !self.stops.get() {
            log!(callbacks, debug, "ext_authz filter finished buffering the request");
            self.initiate_call(callbacks);
        }
        match self.stops.get() {
            true => FilterTrailersStatus::StopIteration,
            false => FilterTrailersStatus::Continue,
        }
    }

    fn on_destroy(&self) {
        self.state.set(State::Complete);
        if let Some(call) = self.call.take() {
            call.reset();
        }
    }
}

impl StreamEncoderFilter for Filter {
    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let to_add = self.response_headers_to_add.take();
        if !to_add.is_empty() {
            let mut headers = headers.borrow_mut();
            to_add.iter().for_each(|(name, value)| headers.add(name, value));
        }
        FilterHeadersStatus::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::sanitized;

    #[test]
    fn what_is_no_text_becomes_exclamation_marks() {
        assert_eq!(sanitized(b"a\xff\xfeb\xc3".to_vec()), b"a!!b!");
        assert_eq!(sanitized("\u{e4}".into()), "\u{e4}".as_bytes());
    }
}
