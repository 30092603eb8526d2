//! The filter manager itself: what it has, and what the owner of its stream calls.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};

use super::active_filter::ActiveFilter;
use super::callbacks::FilterCallbacks;
use super::direction::{Decode, Direction, Encode};
use super::host::FilterManagerCallbacks;
use super::iteration::Frame;
use super::local_reply::Asked;
use crate::access_log;
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::event::{self, Dispatcher};
use crate::filters::http::{
    DownstreamWatermarkCallbacks, FilterChainFactoryCallbacks, StreamDecoderFilter, StreamEncoderFilter,
    StreamFilter,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, utility};
use crate::stream_info::StreamInfoImpl;
use crate::trace::{self, Stage, stage};

/// The filters of a stream, and how far its request and response have come along them.
pub struct FilterManager {
    host: Weak<dyn FilterManagerCallbacks>,
    dispatcher: Rc<Dispatcher>,
    connection_id: u64,
    stream_id: u64,
    proxy_100_continue: bool,
    pub(super) logs_calls: bool,
    stream_info: Rc<StreamInfoImpl>,
    pub(super) decoding: Half<dyn StreamDecoderFilter>,
    pub(super) encoding: Half<dyn StreamEncoderFilter>,
    /// The last informational head.
    pub(super) informational_headers: RefCell<Option<HeaderMapPtr>>,
    pub(super) buffer_limit: Cell<usize>,
    pub(super) asked: RefCell<Option<Asked>>,
    access_log_handlers: OnceCell<Vec<Rc<dyn access_log::Instance>>>,
    high_watermark_count: Cell<u32>,
    watermark_callbacks: RefCell<Option<Weak<dyn DownstreamWatermarkCallbacks>>>,
    pub(super) state: State,
}

/// What the filter manager has of one of the ways.
pub struct Half<F: ?Sized> {
    filters: OnceCell<Vec<ActiveFilter<F>>>,
    pub(super) headers: RefCell<Option<HeaderMapPtr>>,
    pub(super) trailers: RefCell<Option<HeaderMapPtr>>,
    /// Data kept back.
    pub(super) buffered: RefCell<Option<Box<WatermarkBuffer>>>,
    /// Data kept back is limited by back pressure instead of an error.
    pub(super) streaming: Cell<bool>,
    /// The end has come, and has been given to the filters.
    pub(super) complete: Cell<bool>,
    /// A filter had it end with its headers.
    pub(super) headers_only: Cell<bool>,
    /// A filter is given the last data.
    pub(super) in_last_data: Cell<bool>,
    /// A filter is given the trailers.
    pub(super) in_trailers: Cell<bool>,
}

impl<F: ?Sized> Default for Half<F> {
    fn default() -> Self {
        Half {
            filters: OnceCell::new(),
            headers: RefCell::default(),
            trailers: RefCell::default(),
            buffered: RefCell::default(),
            streaming: Cell::new(false),
            complete: Cell::new(false),
            headers_only: Cell::new(false),
            in_last_data: Cell::new(false),
            in_trailers: Cell::new(false),
        }
    }
}

impl<F: ?Sized> Half<F> {
    pub(super) fn filters(&self) -> &[ActiveFilter<F>] {
        self.filters.get().map_or(&[], Vec::as_slice)
    }
}

/// Where a stream stands, as far as its filters go.
#[derive(Default)]
pub(super) struct State {
    /// The owner has got the response's headers.
    pub response_headers_encoded: Cell<bool>,
    pub created_filter_chain: Cell<bool>,
    pub destroyed: Cell<bool>,
    /// What answers made here have to know of the request, noted before the filters see it: one of them may have
    /// hold of the headers.
    pub is_head: Cell<bool>,
    pub is_grpc: Cell<bool>,
    /// The route is to be looked up before the next filter.
    pub route_cleared: Cell<bool>,
    /// How many calls to filters are under way.
    pub calls: Cell<u32>,
    pub in_encode_1xx: Cell<bool>,
}

impl FilterManager {
    /// A filter manager for the stream `host`, of which it is a part; the limit is that on data kept back, 0 is none.
    #[inline(always)]
    pub fn new(
        host: Weak<dyn FilterManagerCallbacks>,
        dispatcher: &Rc<Dispatcher>,
        (connection_id, stream_id): (u64, u64),
        proxy_100_continue: bool,
        buffer_limit: usize,
    ) -> Self {
        FilterManager {
            host,
            dispatcher: dispatcher.clone(),
            connection_id,
            stream_id,
            proxy_100_continue,
            logs_calls: true,
            stream_info: Rc::new(StreamInfoImpl::new()),
            decoding: Half::default(),
            encoding: Half::default(),
            informational_headers: RefCell::default(),
            buffer_limit: Cell::new(buffer_limit),
            asked: RefCell::default(),
            access_log_handlers: OnceCell::new(),
            high_watermark_count: Cell::new(0),
            watermark_callbacks: RefCell::default(),
            state: State::default(),
        }
    }

    /// Without a line in the log for each call to a filter: in Envoy a stream of the proxy's own has no filter manager, but calls its
    /// router itself.
    pub fn without_logs_of_calls(mut self) -> Self {
        self.logs_calls = false;
        self
    }

    pub(super) fn host(&self) -> Option<Rc<dyn FilterManagerCallbacks>> {
        self.host.upgrade()
    }

    pub(super) fn with_host(&self, f: impl FnOnce(&dyn FilterManagerCallbacks)) {
        if let Some(host) = self.host.upgrade() {
            f(&*host);
        }
    }

    /// The worker's dispatcher.
    pub fn dispatcher(&self) -> &Rc<Dispatcher> {
        &self.dispatcher
    }

    /// The downstream connection's id, for logs.
    pub fn connection_id(&self) -> u64 {
        self.connection_id
    }

    /// The stream's random id, for logs.
    pub fn stream_id(&self) -> u64 {
        self.stream_id
    }

    /// What is known of the stream.
    pub fn stream_info(&self) -> &Rc<StreamInfoImpl> {
        &self.stream_info
    }

    /// The request's headers.
    pub fn request_headers(&self) -> Option<HeaderMapPtr> {
        self.decoding.headers.borrow().clone()
    }

    /// The response's headers.
    pub fn response_headers(&self) -> Option<HeaderMapPtr> {
        self.encoding.headers.borrow().clone()
    }

    /// The response's trailers.
    pub fn response_trailers(&self) -> Option<HeaderMapPtr> {
        self.encoding.trailers.borrow().clone()
    }

    /// Whether the whole request has come.
    pub fn remote_complete(&self) -> bool {
        self.decoding.complete.get()
    }

    /// The response is given up.
    pub fn set_local_complete(&self) {
        self.encoding.complete.set(true);
    }

    /// Whether the stream has ended.
    pub fn is_destroyed(&self) -> bool {
        self.state.destroyed.get()
    }

    /// Records a stage of this stream.
    pub(super) fn stage(&self, stage: Stage, a: u64, b: u64) -> trace::Scope {
        trace::scope(stage, Some(self.connection_id), self.stream_id, a, b)
    }

    /// Records that the stream has passed a stage.
    pub(super) fn passed(&self, stage: Stage, a: u64) {
        trace::instant(stage, Some(self.connection_id), self.stream_id, a, 0);
    }
}

/// The way of the request.
impl FilterManager {
    /// The request's headers, before anything is done with them.
    pub fn set_request_headers(&self, headers: HeaderMapPtr) {
        *self.decoding.headers.borrow_mut() = Some(headers);
    }

    /// The request's headers are as the filters are to see them, or as they are when it is refused before.
    #[inline(always)]
    pub fn request_headers_initialized(&self, headers: &HeaderMap) {
        self.state.is_head.set(headers.get(HeaderId::Method) == Some(b"HEAD"));
        self.state.is_grpc.set(utility::has_grpc_content_type(headers));
    }

    /// Notes whether what has come is the end of the request, and says so.
    #[inline(always)]
    pub fn maybe_end_decode(&self, end_stream: bool) {
        if end_stream {
            stage!(MaybeEndDecode(self.connection_id, self.stream_id));
        }
        self.set_remote_complete(end_stream);
    }

    /// Notes whether what has come is the end of the request.
    #[inline(always)]
    pub fn set_remote_complete(&self, end_stream: bool) {
        self.decoding.complete.set(end_stream);
        if end_stream {
            self.stream_info.last_downstream_rx_byte_received.set(Some(event::now()));
        }
    }

    /// Passes the request's headers to the filters.
    pub fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        self.pass::<Decode>(0, Frame::Headers(headers, end_stream));
    }

    /// Passes a piece of the request's body to the filters.
    pub fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.iterate::<Decode>(0, Frame::Data(data, end_stream));
    }

    /// Passes the request's trailers to the filters.
    pub fn decode_trailers(&self, trailers: HeaderMapPtr) {
        *self.decoding.trailers.borrow_mut() = Some(trailers.clone());
        self.iterate::<Decode>(0, Frame::Trailers(&trailers));
    }

    pub(super) fn request_passed(&self, end_stream: bool) {
        if end_stream {
            self.with_host(|host| host.disarm_request_timeout());
        }
    }

    pub(super) fn clear_route_cache(&self) {
        self.state.route_cleared.set(true);
        self.with_host(|host| host.clear_route_cache());
    }

    /// Has the route looked up anew between two filters, where nobody has hold of the headers.
    pub(super) fn refresh_cleared_route(&self) {
        if self.state.route_cleared.take() {
            self.with_host(|host| drop(host.route()));
        }
    }
}

/// The way of the response.
impl FilterManager {
    /// Passes an informational head to all filters, where such are passed on.
    pub(super) fn encode_1xx_headers(&self, headers: HeaderMapPtr) {
        if !self.proxy_100_continue || Encode::is_over(self) {
            return;
        }
        *self.informational_headers.borrow_mut() = Some(headers.clone());
        let status = headers.borrow().status();
        self.passed(Stage::Encode100Continue, status.into());
        self.iterate::<Encode>(0, Frame::Informational(&headers));
    }

    /// Passes the headers of a response to all filters.
    pub(super) fn encode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        if Encode::is_over(self) {
            return;
        }
        *self.encoding.headers.borrow_mut() = Some(headers.clone());
        self.encoding.complete.set(end_stream);
        self.with_host(|host| host.disarm_request_timeout());
        self.pass::<Encode>(0, Frame::Headers(&headers, end_stream));
    }

    /// Passes a piece of a response's body to all filters.
    pub(super) fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        if Encode::is_over(self) {
            return;
        }
        if !self.encoding.headers_only.get() {
            self.encoding.complete.set(end_stream);
        }
        self.pass::<Encode>(0, Frame::Data(data, end_stream));
    }

    /// Passes the trailers of a response to all filters.
    pub(super) fn encode_trailers(&self, trailers: HeaderMapPtr) {
        if Encode::is_over(self) {
            return;
        }
        *self.encoding.trailers.borrow_mut() = Some(trailers.clone());
        self.encoding.complete.set(true);
        self.iterate::<Encode>(0, Frame::Trailers(&trailers));
    }

    pub(super) fn maybe_end_encode(&self, end_stream: bool) {
        if end_stream {
            self.with_host(|host| host.end_stream());
        }
    }

    /// What waits to be written downstream, or in a filter of the response, is too much.
    pub fn call_high_watermark_callbacks(&self) {
        self.passed(Stage::CallHighWatermark, 0);
        self.high_watermark_count.set(self.high_watermark_count.get() + 1);
        let callbacks = self.watermark_callbacks.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(callbacks) = callbacks {
            callbacks.on_above_write_buffer_high_watermark();
        }
    }

    /// What was too much has gone.
    pub fn call_low_watermark_callbacks(&self) {
        self.passed(Stage::CallLowWatermark, 0);
        self.high_watermark_count.set(self.high_watermark_count.get().saturating_sub(1));
        let callbacks = self.watermark_callbacks.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(callbacks) = callbacks {
            callbacks.on_below_write_buffer_low_watermark();
        }
    }

    #[inline(always)]
    pub(super) fn set_watermark_callbacks(&self, callbacks: Option<Weak<dyn DownstreamWatermarkCallbacks>>) {
        let to_tell = if self.high_watermark_count.get() > 0 { callbacks.clone() } else { None };
        *self.watermark_callbacks.borrow_mut() = callbacks;
        if let Some(callbacks) = to_tell.and_then(|c| c.upgrade()) {
            for _ in 0..self.high_watermark_count.get() {
                callbacks.on_above_write_buffer_high_watermark();
            }
        }
    }
}

/// Takes the filters of a stream.
#[derive(Default)]
struct ChainBuilder {
    access_log_handlers: RefCell<Vec<Rc<dyn access_log::Instance>>>,
    decoders: RefCell<Vec<ActiveFilter<dyn StreamDecoderFilter>>>,
    encoders: RefCell<Vec<ActiveFilter<dyn StreamEncoderFilter>>>,
}

/// What a list of filters has room for from its first one on.
const FEW_FILTERS: usize = 4;

/// Adds to a list that has no room for anything at first.
#[inline]
fn add<T>(list: &RefCell<Vec<T>>, item: T) {
    let mut list = list.borrow_mut();
    if list.capacity() == 0 {
        *list = Vec::with_capacity(FEW_FILTERS);
    }
    list.push(item);
}

impl FilterChainFactoryCallbacks for ChainBuilder {
    fn add_stream_decoder_filter(&self, filter: Rc<dyn StreamDecoderFilter>) {
        add(&self.decoders, ActiveFilter::new(filter, false));
    }

    fn add_stream_encoder_filter(&self, filter: Rc<dyn StreamEncoderFilter>) {
        add(&self.encoders, ActiveFilter::new(filter, false));
    }

    fn add_stream_filter(&self, filter: Rc<dyn StreamFilter>) {
        add(&self.decoders, ActiveFilter::new(filter.clone(), true));
        add(&self.encoders, ActiveFilter::new(filter, true));
    }

    fn add_access_log_handler(&self, handler: Rc<dyn access_log::Instance>) {
        self.access_log_handlers.borrow_mut().push(handler);
    }
}

/// The chain's begin and end.
impl FilterManager {
    /// Makes the filters of this stream; at most once.
    pub fn create_filter_chain(&self) {
        if self.state.created_filter_chain.replace(true) {
            return;
        }
        let builder = ChainBuilder::default();
        self.with_host(|host| host.create_filter_chain(&builder));
        let (decoders, mut encoders) = (builder.decoders.into_inner(), builder.encoders.into_inner());
        self.access_log_handlers.get_or_init(|| builder.access_log_handlers.into_inner());
        // The last filter of the request is the first of the response.
        encoders.reverse();
        let decoders = self.decoding.filters.get_or_init(|| decoders);
        let encoders = self.encoding.filters.get_or_init(|| encoders);
        for (index, filter) in decoders.iter().enumerate() {
            filter.handle.set_decoder_filter_callbacks(self.callbacks::<Decode>(index));
        }
        for (index, filter) in encoders.iter().enumerate() {
            filter.handle.set_encoder_filter_callbacks(self.callbacks::<Encode>(index));
        }
    }

    /// Those of the filters who are to be told that the stream has ended.
    pub fn access_log_handlers(&self) -> &[Rc<dyn access_log::Instance>] {
        self.access_log_handlers.get().map_or(&[], |handlers| handlers)
    }

    fn callbacks<D: Direction>(&self, index: usize) -> FilterCallbacks<D> {
        FilterCallbacks::new(self, self.host.clone(), index)
    }

    /// The stream ends: nothing passes the filters any more.
    pub fn destroy_filters(&self) {
        self.state.destroyed.set(true);
        for filter in self.decoding.filters() {
            filter.handle.on_destroy();
        }
        for filter in self.encoding.filters().iter().filter(|filter| !filter.dual) {
            filter.handle.on_destroy();
        }
    }
}
