//! The HTTP filter that hands requests to the admin. Mirrors Envoy's
//! `source/server/http/admin_filter.cc`.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::{AdminImpl, Request};
use crate::buffer::Buffer;
use crate::filters::http::{
    FilterChainFactoryCallbacks, FilterDataStatus, FilterFactory, FilterHeadersStatus, FilterTrailersStatus,
    StreamDecoderFilter, StreamDecoderFilterCallbacks,
};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr};

/// Makes admin filters.
pub(super) struct AdminFilterFactory;

impl FilterFactory for AdminFilterFactory {
    fn create(&self, callbacks: &dyn FilterChainFactoryCallbacks) {
        callbacks.add_stream_decoder_filter(Rc::new(AdminFilter::default()));
    }
}

/// Answers once the whole request is there; its body does not matter.
#[derive(Default)]
struct AdminFilter {
    callbacks: RefCell<Option<Weak<dyn StreamDecoderFilterCallbacks>>>,
    headers: RefCell<Option<HeaderMapPtr>>,
}

impl AdminFilter {
    fn on_complete(&self) {
        let callbacks = self.callbacks.borrow().as_ref().and_then(Weak::upgrade);
        let (Some(callbacks), Some(headers)) = (callbacks, self.headers.borrow().clone()) else { return };
        let Some(admin) = AdminImpl::current() else { return };
        let (request, head) = {
            let headers = headers.borrow();
            let text = |id| String::from_utf8_lossy(headers.get(id).unwrap_or_default()).into_owned();
            let method = text(HeaderId::Method);
            let head = method == "HEAD";
            (Request::new(&method, &text(HeaderId::Path)), head)
        };
        let response = admin.run(&request);
        let mut headers = HeaderMap::new();
        headers.set_status(response.status);
        headers.set(HeaderId::ContentType, response.content_type.as_bytes());
        headers.set(HeaderId::CacheControl, b"no-cache, max-age=0");
        headers.add("x-content-type-options", b"nosniff");
        let end_stream = response.body.is_empty() || head;
        callbacks.encode_headers(headers.shared(), end_stream, "admin_filter_response");
        if !end_stream {
            callbacks.encode_data(&mut Buffer::from(response.body.as_str()), true);
        }
    }
}

impl StreamDecoderFilter for AdminFilter {
    fn set_decoder_filter_callbacks(&self, callbacks: Weak<dyn StreamDecoderFilterCallbacks>) {
        *self.callbacks.borrow_mut() = Some(callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        *self.headers.borrow_mut() = Some(headers.clone());
        if end_stream {
            self.on_complete();
        }
        FilterHeadersStatus::StopIteration
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
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
}
