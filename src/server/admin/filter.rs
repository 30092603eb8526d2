//! The HTTP filter that hands requests to the admin. Mirrors Envoy's `source/server/admin/admin_filter.cc`.
//!
//! Deliberately different: Envoy writes the whole answer at once, however large it is and whether or not the client takes
//! it. Here a piece is made when the one before it has been written, and the loop polls between any two pieces, whoever
//! they are for: the main thread serves others meanwhile, and what a client who has left will not read is not made.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::request::{Body, MAX_FORM, Progress};
use super::{AdminImpl, Request};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::event::{Dispatcher, Timer};
use crate::filters::FactoryContext;
use crate::filters::http::{
    DownstreamWatermarkCallbacks, FilterDataStatus, FilterFactory, FilterFactoryCb, FilterHeadersStatus,
    FilterTrailersStatus, HttpFilterConfig, StreamDecoderFilter, StreamDecoderFilterCallbacks,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};
use crate::stats::Scope;

/// A piece of an answer has as many bytes, or a few more.
const PIECE: usize = 64 * 1024;

/// Nothing to be said: the filter is no extension, and only the admin's listener has it.
#[derive(Debug)]
pub(super) struct AdminFilterConfig;

impl HttpFilterConfig for AdminFilterConfig {
    fn create_filter_factory(
        &self,
        _name: &str,
        _scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        Ok(Arc::new(AdminFilterFactory))
    }
}

/// Makes admin filters.
struct AdminFilterFactory;

impl FilterFactory for AdminFilterFactory {
    fn on_worker(&self) -> FilterFactoryCb {
        Box::new(|callbacks| callbacks.add_stream_decoder_filter(AdminFilter::new()))
    }
}

/// Answers once the whole request is there.
struct AdminFilter {
    callbacks: OnceCell<StreamDecoderFilterCallbacks>,
    headers: RefCell<Option<HeaderMapPtr>>,
    /// The request's body, if it is a form.
    form: RefCell<Vec<u8>>,
    /// What is left of the answer's.
    body: RefCell<Option<Box<dyn Body>>>,
    /// It stands in the queue for the next piece.
    has_turn: Cell<bool>,
    /// How often the connection has said that too much waits to be written.
    backed_up: Cell<u32>,
    weak: Weak<AdminFilter>,
}

impl AdminFilter {
    fn new() -> Rc<Self> {
        Rc::new_cyclic(|weak| AdminFilter {
            callbacks: OnceCell::new(),
            headers: RefCell::default(),
            form: RefCell::default(),
            body: RefCell::default(),
            has_turn: Cell::new(false),
            backed_up: Cell::new(0),
            weak: weak.clone(),
        })
    }

    fn callbacks(&self) -> Option<&StreamDecoderFilterCallbacks> {
        self.callbacks.get()
    }

    fn on_complete(&self) {
        let (Some(callbacks), Some(headers)) = (self.callbacks(), self.headers.borrow().clone()) else {
            return;
        };
        let Some(admin) = AdminImpl::current() else { return };
        let (request, head) = self.request(&headers.borrow());
        let response = admin.run(&request);
        let mut headers = HeaderMap::new();
        headers.set_status(response.status);
        headers.set(HeaderId::ContentType, response.content_type.as_bytes());
        headers.set(HeaderId::CacheControl, b"no-cache, max-age=0");
        headers.add("x-content-type-options", b"nosniff");
        if !head {
            *self.body.borrow_mut() = Some(response.body);
            callbacks.add_downstream_watermark_callbacks(self.weak.clone());
        }
        callbacks.encode_headers(headers.shared(), head, "admin_filter_response");
        if response.is_large { self.go_on() } else { self.write_piece() }
    }

    /// The request, and whether only the head of its answer is wanted.
    fn request(&self, headers: &HeaderMap) -> (Request, bool) {
        let text = |id| String::from_utf8_lossy(headers.get(id).unwrap_or_default()).into_owned();
        let method = text(HeaderId::Method);
        let mut request = Request::new(&method, &text(HeaderId::Path));
        let form = self.form.take();
        if text(HeaderId::ContentType) == "application/x-www-form-urlencoded" {
            request.add_form(&String::from_utf8_lossy(&form));
        }
        (request, method == "HEAD")
    }

    fn write_piece(&self) {
        let (Some(callbacks), Some(mut body)) = (self.callbacks(), self.body.take()) else { return };
        let mut piece = String::new();
        let mut progress = Progress::More;
        while progress == Progress::More && piece.len() < PIECE {
            progress = body.append(&mut piece);
        }
        match progress {
            Progress::Lost => return callbacks.reset_stream(),
            Progress::End => drop(body),
            Progress::More => *self.body.borrow_mut() = Some(body),
        }
        callbacks.encode_data(&mut Buffer::from(piece.as_str()), progress == Progress::End);
        self.go_on();
    }

    /// Writes the next piece when its turn comes, if there is one and it has room.
    fn go_on(&self) {
        let waits = self.body.borrow().is_none() || self.backed_up.get() > 0 || self.has_turn.get();
        let (false, Some(admin)) = (waits, AdminImpl::current()) else { return };
        self.has_turn.set(true);
        admin.turns.add(self.weak.clone());
    }

    fn take_turn(&self) {
        self.has_turn.set(false);
        if self.backed_up.get() == 0 {
            self.write_piece();
        }
    }
}

/// Whose pieces are to be written: one each time that the loop has polled.
pub(super) struct Turns {
    waiting: RefCell<VecDeque<Weak<AdminFilter>>>,
    timer: Timer,
}

impl Turns {
    pub(super) fn new(dispatcher: &Dispatcher) -> Self {
        let timer = dispatcher.create_timer(|| {
            if let Some(admin) = AdminImpl::current() {
                admin.turns.give_next();
            }
        });
        Turns { waiting: RefCell::default(), timer }
    }

    fn add(&self, filter: Weak<AdminFilter>) {
        self.waiting.borrow_mut().push_back(filter);
        self.timer.enable_after_poll();
    }

    fn give_next(&self) {
        let pop = || self.waiting.borrow_mut().pop_front();
        let next = std::iter::from_fn(pop).find_map(|filter| filter.upgrade());
        if !self.waiting.borrow().is_empty() {
            self.timer.enable_after_poll();
        }
        if let Some(filter) = next {
            filter.take_turn();
        }
    }
}

impl StreamDecoderFilter for AdminFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.callbacks.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        *self.headers.borrow_mut() = Some(headers.clone());
        if end_stream {
            self.on_complete();
        }
        FilterHeadersStatus::StopIteration
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        let mut form = self.form.borrow_mut();
        if form.len() + data.len() <= MAX_FORM {
            form.extend_from_slice(&data.to_vec());
        }
        drop(form);
        data.clear();
        if end_stream {
            self.on_complete();
        }
        FilterDataStatus::StopIterationNoBuffer
    }

    fn decode_trailers(&self, _trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        self.on_complete();
        FilterTrailersStatus::StopIteration
    }

    fn on_destroy(&self) {
        drop(self.body.take());
        if let Some(callbacks) = self.callbacks() {
            callbacks.remove_downstream_watermark_callbacks();
        }
    }
}

impl DownstreamWatermarkCallbacks for AdminFilter {
    fn on_above_write_buffer_high_watermark(&self) {
        self.backed_up.set(self.backed_up.get() + 1);
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.backed_up.set(self.backed_up.get().saturating_sub(1));
        self.go_on();
    }
}
