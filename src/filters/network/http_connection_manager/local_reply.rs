//! Answers made by legate itself.
//!
//! Mirrors `Utility::sendLocalReply` of Envoy's `source/common/http/utility.cc`.

use std::borrow::Cow;

use super::active_stream::ActiveStream;
use crate::buffer::Buffer;
use crate::http::{HeaderId, HeaderMap, utility};
use crate::trace::Stage;

impl ActiveStream {
    /// Answers the request, past the encoder filters. In place of a response that these have got, it goes straight
    /// to the codec; one that the codec has got is reset instead.
    pub(super) fn send_local_reply_with(
        &self,
        status: u16,
        body: &str,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        details: Cow<'static, str>,
    ) {
        if self.state.destroyed.get() {
            return;
        }
        self.stream_info.set_response_code_details(details);
        if self.state.response_headers_encoded.get() {
            self.config.stats.downstream_rq_tx_reset.inc();
            self.end_stream();
            return;
        }
        if self.response_headers.borrow().is_some() || self.state.in_encode_1xx.get() {
            self.send_direct_local_reply(status, body, modify_headers);
            return;
        }
        let _stage = self.stage(Stage::SendLocalReply, status.into(), 0);
        // So that filters which log see this request too.
        self.create_filter_chain();
        let (headers, with_body) = self.local_reply_headers(status, body, modify_headers);
        let headers = headers.shared();
        *self.response_headers.borrow_mut() = Some(headers.clone());
        self.encode_headers_from(0, &headers, !with_body);
        if with_body && !self.state.destroyed.get() {
            self.encode_data_from(0, &mut Buffer::from(body), true);
        }
    }

    /// As [`ActiveStream::send_local_reply_with`], but straight to the codec: neither date nor server.
    fn send_direct_local_reply(
        &self,
        status: u16,
        body: &str,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
    ) {
        self.stream_info.response_code.set(Some(status));
        let _stage = self.stage(Stage::SendLocalReply, status.into(), 0);
        let (headers, with_body) = self.local_reply_headers(status, body, modify_headers);
        let headers = headers.shared();
        *self.response_headers.borrow_mut() = Some(headers.clone());
        self.state.local_complete.set(true);
        self.state.response_headers_encoded.set(true);
        self.state.response_has_length.set(headers.borrow().has(HeaderId::ContentLength));
        if let Some(encoder) = self.response_encoder() {
            encoder.encode_headers(&headers, !with_body);
            if with_body {
                encoder.encode_data(&mut Buffer::from(body), true);
            }
        }
        self.maybe_end_encode(true);
    }

    /// The head of a local reply and whether a body follows. gRPC gets a status in the head.
    fn local_reply_headers(
        &self,
        status: u16,
        body: &str,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
    ) -> (HeaderMap, bool) {
        let mut headers = HeaderMap::new();
        let grpc = self.request_traits.is_grpc.get();
        headers.set_status(if grpc { 200 } else { status });
        if let Some(modify) = modify_headers {
            modify(&mut headers);
        }
        if grpc {
            headers.set(HeaderId::ContentType, b"application/grpc");
            headers.set_int(HeaderId::GrpcStatus, utility::http_to_grpc_status(status) as u64);
            if !body.is_empty() && !self.request_traits.is_head.get() {
                headers.set(HeaderId::GrpcMessage, utility::percent_encode(body).as_bytes());
            }
            return (headers, false);
        }
        if !body.is_empty() {
            headers.set_int(HeaderId::ContentLength, body.len() as u64);
            headers.set(HeaderId::ContentType, b"text/plain");
        }
        (headers, !body.is_empty() && !self.request_traits.is_head.get())
    }
}
