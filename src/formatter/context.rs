//! [`Context`]: what a text is made from. Mirrors `HttpFormatterContext` of Envoy 1.40's
//! `envoy/formatter/http_formatter_context.h`, and has the stream's record as well.

use crate::config::access_log::AccessLogType;
use crate::http::HeaderMap;
use crate::stream_info::StreamInfoImpl;

/// What a text is made from. Headers may be absent: a request may have been too broken to have any, and not every
/// response has trailers.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The request's headers.
    pub request_headers: Option<&'a HeaderMap>,
    /// The response's headers.
    pub response_headers: Option<&'a HeaderMap>,
    /// The response's trailers.
    pub response_trailers: Option<&'a HeaderMap>,
    /// The body of an answer that is just being made here, else empty.
    pub local_reply_body: &'a [u8],
    /// What is being logged, if anything.
    pub log_type: AccessLogType,
    /// What is known of the stream.
    pub stream_info: &'a StreamInfoImpl,
}

impl<'a> Context<'a> {
    /// Of a stream without headers.
    pub fn new(stream_info: &'a StreamInfoImpl) -> Self {
        Context {
            request_headers: None,
            response_headers: None,
            response_trailers: None,
            local_reply_body: b"",
            log_type: AccessLogType::NotSet,
            stream_info,
        }
    }
}
