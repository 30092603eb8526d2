//! Answers made here, and what else a filter asks for that waits until the call to it has returned.
//!
//! Mirrors `ActiveStream::sendLocalReply` of Envoy's `source/common/http/conn_manager_impl.cc` and
//! `Utility::sendLocalReply` of `source/common/http/utility.cc`; when an answer is sent, and which way, is as in 1.40.

use std::borrow::Cow;

use super::FilterManager;
use super::direction::{Direction, Encode};
use super::host::LocalReplyContent;
use crate::buffer::Buffer;
use crate::filters::http::{LocalErrorStatus, LocalReplyData};
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, utility};
use crate::trace::Stage;

/// An answer made here.
pub(super) struct LocalReply {
    status: u16,
    grpc_status: Option<u32>,
    headers: HeaderMap,
    body: Option<Buffer>,
}

/// What a filter has asked for while it, or another one, was called.
pub(super) enum Asked {
    Reply(Box<LocalReply>),
    RecreateStream,
}

impl FilterManager {
    /// Answers the request. The answer passes the encoder filters, once no filter is being called. In place of a
    /// response that these have got, it goes past them; one that the client has got is reset instead.
    pub fn send_local_reply(
        &self,
        status: u16,
        body: impl AsRef<[u8]>,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        details: Cow<'static, str>,
    ) {
        self.send_local_reply_with_grpc_status(status, body, modify_headers, None, details);
    }

    /// As [`send_local_reply`](Self::send_local_reply), where a gRPC client gets this status instead of the one that
    /// stands for `status`.
    pub fn send_local_reply_with_grpc_status(
        &self,
        status: u16,
        body: impl AsRef<[u8]>,
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        grpc_status: Option<u32>,
        details: Cow<'static, str>,
    ) {
        if Encode::is_over(self) {
            return;
        }
        self.stream_info().set_response_code_details(details);
        let reply = self.make_local_reply(status, body.as_ref(), modify_headers, grpc_status);
        let direct = self.encoding.headers.borrow().is_some() || self.state.in_encode_1xx.get();
        if !direct && self.state.calls.get() > 0 {
            *self.asked.borrow_mut() = Some(Asked::Reply(Box::new(reply)));
        } else {
            self.send(reply, direct);
        }
    }

    /// Whether there is something that waits for a call to return; until then nothing else passes the filters.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.borrow().is_some()
    }

    /// Does what filters have asked for, once none is being called.
    pub(super) fn do_asked(&self) {
        if self.state.calls.get() > 0 || !self.is_asked() {
            return;
        }
        let asked = self.asked.borrow_mut().take();
        if self.state.destroyed.get() {
            return;
        }
        match asked {
            Some(Asked::Reply(reply)) => self.send(*reply, false),
            Some(Asked::RecreateStream) => self.with_host(|host| host.recreate_stream()),
            None => {}
        }
    }

    /// Begins anew, once no filter is being called; false where this cannot be done.
    pub(super) fn recreate_stream(&self, response: Option<&HeaderMapPtr>) -> bool {
        let complete = self.decoding.complete.get() && !self.state.response_headers_encoded.get();
        let can = complete && !Encode::is_over(self) && self.host().is_some_and(|h| h.can_recreate_stream());
        if can {
            self.stream_info().set_response_code_details("internal_redirect");
            if let Some(response) = response {
                *self.encoding.headers.borrow_mut() = Some(response.clone());
                self.with_host(|host| host.charge_stats(response.borrow().status()));
            }
            *self.asked.borrow_mut() = Some(Asked::RecreateStream);
            self.do_asked();
        }
        can
    }

    fn send(&self, reply: LocalReply, direct: bool) {
        let reset = self.on_local_reply(reply.status, reply.grpc_status);
        if self.state.destroyed.get() {
            return;
        }
        if reset || self.state.response_headers_encoded.get() {
            return self.with_host(|host| host.reset_stream());
        }
        let _stage = self.stage(Stage::SendLocalReply, reply.status.into(), 0);
        if direct { self.send_direct(reply) } else { self.send_via_filter_chain(reply) }
    }

    fn send_via_filter_chain(&self, reply: LocalReply) {
        // So that filters which log see this request too.
        self.create_filter_chain();
        let headers = reply.headers.shared();
        self.encode_headers(headers, reply.body.is_none());
        if let Some(mut body) = reply.body {
            self.encode_data(&mut body, true);
        }
    }

    /// Goes past the filters, whose states are those of the response that it takes the place of.
    fn send_direct(&self, reply: LocalReply) {
        let headers = reply.headers.shared();
        *self.encoding.headers.borrow_mut() = Some(headers.clone());
        self.encoding.complete.set(true);
        Encode::headers_out(self, &headers, reply.body.is_none());
        if let Some(mut body) = reply.body.filter(|_| !self.state.destroyed.get()) {
            Encode::data_out(self, &mut body, true);
        }
    }

    /// Tells of the answer all who may want to know; true when a filter has the stream reset instead.
    fn on_local_reply(&self, status: u16, grpc_status: Option<u32>) -> bool {
        self.with_host(|host| host.on_local_reply(status));
        let details = self.stream_info().response_code_details().to_owned();
        let mut data = LocalReplyData { code: status, grpc_status, details: &details, reset_imminent: false };
        for filter in self.decoding.filters() {
            let status = filter.handle.on_local_reply(&data);
            data.reset_imminent |= status == LocalErrorStatus::ContinueAndResetStream;
        }
        for filter in self.encoding.filters().iter().filter(|filter| !filter.dual) {
            let status = filter.handle.on_local_reply(&data);
            data.reset_imminent |= status == LocalErrorStatus::ContinueAndResetStream;
        }
        data.reset_imminent
    }

    /// Does what the rules of a route to a cluster say (Envoy: `FilterManager::sendLocalReplyViaFilterChain`).
    fn finalize_reply_headers(&self, headers: &mut HeaderMap) {
        let mut route = None;
        self.with_host(|host| route = host.cached_route());
        let Some(route) = route.filter(|route| route.route_entry().is_some()) else { return };
        let request = self.request_headers();
        let request = request.as_ref().and_then(|headers| headers.try_borrow().ok());
        route.finalize_response_headers(headers, request.as_deref(), self.stream_info());
    }

    /// gRPC gets a status in the head.
    fn make_local_reply(
        &self,
        status: u16,
        body: &[u8],
        modify_headers: Option<&dyn Fn(&mut HeaderMap)>,
        grpc_status: Option<u32>,
    ) -> LocalReply {
        let mut headers = HeaderMap::new();
        let (grpc, is_head) = (self.state.is_grpc.get(), self.state.is_head.get());
        headers.set_status(status);
        self.finalize_reply_headers(&mut headers);
        if let Some(modify) = modify_headers {
            modify(&mut headers);
        }
        let mut content =
            LocalReplyContent { status, body: body.into(), content_type: None, is_json_line: false };
        self.with_host(|host| host.rewrite_local_reply(&mut headers, &mut content));
        let LocalReplyContent { status, body, content_type, is_json_line } = content;
        let grpc_status = grpc.then(|| grpc_status.unwrap_or_else(|| utility::http_to_grpc_status(status)));
        if let Some(grpc_status) = grpc_status {
            headers.set_status(200);
            headers.set(HeaderId::ContentType, b"application/grpc");
            headers.set_int(HeaderId::GrpcStatus, grpc_status.into());
            headers.remove(HeaderId::ContentLength);
            if !body.is_empty() && !is_head {
                let line = body.strip_suffix(b"\n").filter(|_| is_json_line);
                let message = line.unwrap_or(&body);
                headers.set(HeaderId::GrpcMessage, &utility::percent_encode(message));
            }
        } else if !body.is_empty() {
            headers.set_int(HeaderId::ContentLength, body.len() as u64);
            if content_type.is_some() || !headers.has(HeaderId::ContentType) {
                let content_type = content_type.as_deref().unwrap_or("text/plain");
                headers.set(HeaderId::ContentType, content_type.as_bytes());
            }
        } else {
            // Whoever modified the headers may have meant another body.
            headers.remove(HeaderId::ContentLength);
            headers.remove(HeaderId::ContentType);
        }
        let body = (!body.is_empty() && !is_head && !grpc).then(|| Buffer::from(&*body));
        LocalReply { status, grpc_status, headers, body }
    }
}
