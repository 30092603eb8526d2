//! What a filter manager asks of the owner of its stream.
//!
//! Mirrors what Envoy 1.1's filters reach of `ActiveStream` (`source/common/http/conn_manager_impl.h`) directly, and
//! through `FilterManagerCallbacks` since 1.16.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::FilterManager;
use crate::buffer::Buffer;
use crate::filters::http::FilterChainFactoryCallbacks;
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::network::ConnectionImpl;
use crate::router::RouteConstSharedPtr;

/// A stream with filters: a downstream's request, or one of the proxy's own.
pub trait FilterManagerCallbacks {
    /// The stream's filter manager, which is a part of it.
    fn filter_manager(&self) -> &FilterManager;
    /// Gives the stream its filters; called once.
    fn create_filter_chain(&self, callbacks: &dyn FilterChainFactoryCallbacks);

    /// An informational (1xx) head has passed the filters.
    fn encode_1xx_headers(&self, headers: &HeaderMapPtr);
    /// The response's headers have passed the filters.
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool);
    /// A piece of the response's body has passed the filters.
    fn encode_data(&self, data: &mut Buffer, end_stream: bool);
    /// The response's trailers have passed the filters.
    fn encode_trailers(&self, trailers: &HeaderMapPtr);
    /// The response has passed the filters completely.
    fn end_stream(&self);
    /// The stream is given up.
    fn reset_stream(&self);

    /// Whether a stream can begin anew.
    fn can_recreate_stream(&self) -> bool {
        false
    }
    /// Counts the status of a response that nobody gets.
    fn charge_stats(&self, _status: u16) {}
    /// Begins anew with the request as it is now, and what the filters have kept back of its body; only called
    /// where this can be done.
    fn recreate_stream(&self) {}

    /// The downstream connection, where there is one.
    fn connection(&self) -> Option<Rc<ConnectionImpl>> {
        None
    }
    /// The route of the request, looked up when it is first wanted, and anew when it was cleared. While a filter has
    /// hold of the headers it is that of before.
    fn route(&self) -> Option<RouteConstSharedPtr>;
    /// Changes an answer that is made here before it is sent.
    fn rewrite_local_reply(&self, _headers: &mut HeaderMap, _content: &mut LocalReplyContent<'_>) {}
    /// The route that was looked up before, if any.
    fn cached_route(&self) -> Option<RouteConstSharedPtr> {
        None
    }
    /// Forgets the route.
    fn clear_route_cache(&self);

    /// Something passes the filters.
    fn reset_idle_timer(&self) {}
    /// The request has passed the filters completely, or its response has begun.
    fn disarm_request_timeout(&self) {}
    /// The request is answered here.
    fn on_local_reply(&self, _status: u16) {}
    /// The request is answered with an error, for more of it would have to be kept back than may be.
    fn on_request_data_too_large(&self) {}
    /// As [`on_request_data_too_large`](Self::on_request_data_too_large), for the response.
    fn on_response_data_too_large(&self) {}
    /// Too much of the request waits in the filters or behind them.
    fn on_decoder_filter_above_write_buffer_high_watermark(&self) {}
    /// It has been taken.
    fn on_decoder_filter_below_write_buffer_low_watermark(&self) {}
}

/// An answer that is made here, but for its headers.
pub struct LocalReplyContent<'a> {
    /// Its status.
    pub status: u16,
    /// Its body; may be empty.
    pub body: Cow<'a, [u8]>,
    /// What the body is, in place of what its headers say.
    pub content_type: Option<Arc<str>>,
    /// It is an object of JSON, and the end of its line.
    pub is_json_line: bool,
}
