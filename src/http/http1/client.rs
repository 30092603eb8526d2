//! The client's side of the codec: requests out, responses in.
//!
//! Mirrors `ClientConnectionImpl` of Envoy's `source/common/http/http1/codec_impl.cc`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::body::{BodyState, Framing, framing};
use super::chunk::ChunkDecoder;
use super::connection::{CodecStream, ConnectionImpl, Decoded, Head, State};
use super::encoder::MessageEncoder;
use super::head::{self, HeadError, HeadLimits, StatusLine};
use super::header_key_format;
use crate::buffer::Buffer;
use crate::config::HeaderKeyFormat;
use crate::envoy_conn_log;
use crate::http::codec_helper::StreamCallbackHelper;
use crate::http::codes;
use crate::http::{
    ClientConnection, CodecError, Connection, HeaderId, HeaderMap, HeaderMapPtr, Protocol, Stream,
    StreamDecoder, StreamEncoder, StreamResetReason, utility,
};
use crate::network::{self, ConnectionState};
use crate::trace::{self, Stage, stage};

/// The response that is awaited.
struct PendingResponse {
    decoder: Weak<dyn StreamDecoder>,
    encoder: Rc<RequestEncoder>,
}

/// The codec of one upstream connection: one request at a time, which its pool sees to.
pub struct ClientConnectionImpl {
    weak: Weak<ClientConnectionImpl>,
    base: ConnectionImpl,
    enable_trailers: bool,
    header_key_format: Option<HeaderKeyFormat>,
    send_fully_qualified_url: bool,
    pending_response: RefCell<Option<PendingResponse>>,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AsksFor {
    Response,
    /// Another protocol on its connection.
    Upgrade,
    /// CONNECT: a tunnel to somewhere.
    Tunnel,
}

/// The request being sent.
struct RequestEncoder {
    codec: Weak<ClientConnectionImpl>,
    encoder: MessageEncoder,
    helper: StreamCallbackHelper,
    head_request: Cell<bool>,
    /// Another protocol is asked for, so that the response may be a tunnel.
    asks_for: Cell<AsksFor>,
}

impl ClientConnectionImpl {
    /// A codec for `connection`.
    pub fn new(
        connection: &Rc<network::ConnectionImpl>,
        limits: HeadLimits,
        enable_trailers: bool,
        header_key_format: Option<HeaderKeyFormat>,
        send_fully_qualified_url: bool,
    ) -> Rc<Self> {
        Rc::new_cyclic(|weak| ClientConnectionImpl {
            weak: weak.clone(),
            base: ConnectionImpl::new(connection, limits),
            enable_trailers,
            header_key_format,
            send_fully_qualified_url,
            pending_response: RefCell::default(),
        })
    }

    /// The request whose response is awaited.
    fn pending_request(&self) -> Option<Rc<RequestEncoder>> {
        self.pending_response.borrow().as_ref().map(|p| p.encoder.clone())
    }

    fn with_decoder(&self, f: impl FnOnce(&dyn StreamDecoder)) {
        let decoder = self.pending_response.borrow().as_ref().and_then(|p| p.decoder.upgrade());
        if let Some(decoder) = decoder {
            f(&*decoder);
        }
    }

    #[inline(never)]
    fn decode_tunnel(&self, data: &mut Buffer) -> Result<(), DecodeError> {
        self.decode(data)
    }

    #[inline(always)]
    fn decode(&self, data: &mut Buffer) -> Result<(), DecodeError> {
        while !data.is_empty() {
            let before = self.base.progress(data);
            if matches!(self.base.state(), State::Head) {
                self.check_beginning(data)?;
            }
            if let Some(head) = self.base.read_whole_head(data, head::parse_response) {
                self.on_message_begin();
                if self.decode_head(data, head)? {
                    return Ok(());
                }
            } else {
                match self.base.next(data)? {
                    None => return Ok(()),
                    Some(Decoded::Head(length)) => {
                        self.on_message_begin();
                        let head = self.base.read_head(data, length, head::parse_response)?;
                        if self.decode_head(data, head)? {
                            return Ok(());
                        }
                    }
                    Some(Decoded::Data { piece, last }) => self.decode_data(piece, last),
                    Some(Decoded::Trailers(length)) => self.decode_trailers(data, length)?,
                }
            }
            debug_assert!(self.base.progress(data) != before, "neither input used nor state changed");
        }
        Ok(())
    }

    /// Refuses what nobody waits for, and what is no status line: it will not become one.
    #[inline(always)]
    fn check_beginning(&self, data: &mut Buffer) -> Result<(), DecodeError> {
        if self.pending_response.borrow().is_none() {
            return Err(self.premature(data));
        }
        if data.front().first() != Some(&b'H') {
            return Err(HeadError::bad("HPE_INVALID_CONSTANT").into());
        }
        Ok(())
    }

    fn on_message_begin(&self) {
        stage!(ClientMessageBegin(self.base.id()));
    }

    /// Passes a head on; true where a tunnel begins with it.
    fn decode_head(&self, data: &mut Buffer, head: Head<StatusLine>) -> Result<bool, DecodeError> {
        self.base.take_head(data, &head, self.header_key_format, Stage::ClientHeadersComplete);
        self.on_headers_complete(head.headers, head.line)
    }

    fn on_headers_complete(&self, headers: HeaderMapPtr, line: StatusLine) -> Result<bool, DecodeError> {
        let framing = framing(&headers.borrow(), false)?;
        self.base.protocol.set(line.protocol);
        if line.status < 200 || line.status == 204 {
            check_without_body(&mut headers.borrow_mut())?;
        }
        if line.status < 200 && line.status != 101 {
            if is_special_1xx(line.status) {
                self.with_decoder(|d| d.decode_1xx_headers(headers));
            } else {
                self.with_decoder(|d| d.decode_headers(headers, false));
            }
            return Ok(false);
        }
        let next = self.what_follows(line.status, framing, &headers.borrow());
        self.base.expect(next);
        if matches!(next, State::Head) {
            self.on_message_complete(Completion::Headers(headers));
        } else {
            self.with_decoder(|d| d.decode_headers(headers, false));
            if matches!(next, State::Upgraded) {
                self.base.pause_for_upgrade(Stage::ClientMessageComplete);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn what_follows(&self, status: u16, framing: Framing, headers: &HeaderMap) -> State {
        let request = self.pending_response.borrow();
        let Some(PendingResponse { encoder: request, .. }) = &*request else { return State::Head };
        let becomes_tunnel = match request.asks_for.get() {
            AsksFor::Response => false,
            AsksFor::Upgrade => status == 101 && utility::is_upgrade(headers),
            AsksFor::Tunnel => codes::is_2xx(status),
        };
        if becomes_tunnel {
            envoy_conn_log!(Http, trace, self.base.id(), "codec entering upgrade mode.");
            return State::Upgraded;
        }
        if request.head_request.get() || matches!(status, 101 | 204 | 304) {
            return State::Head;
        }
        match framing {
            Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(BodyState::Length(length)),
            Framing::Chunked => State::Body(BodyState::Chunked(ChunkDecoder::new())),
            Framing::Unstated => State::Body(BodyState::UntilClose),
        }
    }

    /// Bytes came that answer no request. A complete 408 is told apart. An incomplete head
    /// does not wait, as it would in Envoy: it could become the answer to the next request.
    fn premature(&self, data: &mut Buffer) -> DecodeError {
        let mut idle_timeout = false;
        if let Some(length) = self.base.find_head(data) {
            let (head, mut headers) = (data.linearize(length), HeaderMap::new());
            let line = head::parse_response(head, &self.base.limits(), &mut headers);
            idle_timeout = line.is_ok_and(|(line, _)| line.status == 408);
        }
        data.clear();
        DecodeError::Premature { idle_timeout }
    }

    #[inline(always)]
    fn decode_data(&self, mut piece: Buffer, last: bool) {
        if !piece.is_empty() {
            trace::instant(Stage::ClientBody, Some(self.base.id()), 0, piece.len() as u64, 0);
            self.with_decoder(|d| d.decode_data(&mut piece, false));
        }
        if last {
            self.on_message_complete(Completion::Data);
        }
    }

    fn decode_trailers(&self, data: &mut Buffer, length: usize) -> Result<(), HeadError> {
        let trailers = self.base.take_trailers(data, length)?;
        let pass_on = self.enable_trailers && !trailers.is_empty();
        self.on_message_complete(if pass_on {
            Completion::Trailers(trailers.shared())
        } else {
            Completion::Data
        });
        Ok(())
    }

    /// The response is complete: it is no longer pending when its last part is handed over.
    fn on_message_complete(&self, completion: Completion) {
        self.base.message_complete(Stage::ClientMessageComplete);
        self.base.expect(State::Head);
        // Once for the codec, as above, and once for the client's side of it, as in Envoy.
        envoy_conn_log!(Http, trace, self.base.id(), "message complete");
        let Some(pending) = self.pending_response.borrow_mut().take() else { return };
        self.resume_reading();
        let Some(decoder) = pending.decoder.upgrade() else { return };
        match completion {
            Completion::Headers(headers) => decoder.decode_headers(headers, true),
            Completion::Data => decoder.decode_data(&mut Buffer::new(), true),
            Completion::Trailers(trailers) => decoder.decode_trailers(trailers),
        }
    }

    /// Undoes what pauses the ending stream left behind: an idle connection has to see its end.
    fn resume_reading(&self) {
        let Some(connection) = self.base.network() else { return };
        while connection.state() == ConnectionState::Open && !connection.read_enabled() {
            connection.read_disable(false);
        }
    }

    /// The upstream has closed its side.
    fn on_end_of_stream(&self) -> Result<(), DecodeError> {
        match self.base.state() {
            State::Head if !self.base.in_head() => Ok(()),
            // What follows a head that was agreed upon is no message: its end is that of the connection.
            State::Upgraded => Ok(()),
            State::Body(BodyState::UntilClose) => {
                self.on_message_complete(Completion::Data);
                Ok(())
            }
            _ => Err(HeadError::bad("HPE_INVALID_EOF_STATE").into()),
        }
    }
}

/// Refuses framing fields in the head of a 1xx or 204, which has no body; only `Content-Length: 0` is
/// taken out instead.
fn check_without_body(headers: &mut HeaderMap) -> Result<(), HeadError> {
    if headers.has(HeaderId::TransferEncoding) {
        return Err(HeadError::bad("transfer encoding not allowed in 1xx or 204"));
    }
    match headers.get(HeaderId::ContentLength) {
        None => {}
        Some(b"0") => headers.remove(HeaderId::ContentLength),
        Some(_) => return Err(HeadError::bad("content length not allowed in 1xx or 204")),
    }
    Ok(())
}

/// The informational heads that have a way of their own to the client, as in Envoy 1.40 (1.1 knows 100 alone).
fn is_special_1xx(status: u16) -> bool {
    matches!(status, 100 | 102 | 103 | 104)
}

/// Puts scheme and host before the path of a request, whose head is all there is in `output`.
fn fully_qualify(headers: &HeaderMap, output: &mut Buffer) {
    let head = output.to_vec();
    let path = memchr::memchr(b' ', &head).map_or(head.len(), |end| end + 1);
    output.clear();
    output.add(&head[..path]);
    output.add(headers.get(HeaderId::Scheme).unwrap_or_default());
    output.add(b"://");
    output.add(headers.get(HeaderId::Authority).unwrap_or_default());
    output.add(&head[path..]);
}

/// How a response ends.
enum Completion {
    Headers(HeaderMapPtr),
    Data,
    Trailers(HeaderMapPtr),
}

enum DecodeError {
    Head(HeadError),
    Premature { idle_timeout: bool },
}

impl From<HeadError> for DecodeError {
    fn from(error: HeadError) -> Self {
        DecodeError::Head(error)
    }
}

impl Connection for ClientConnectionImpl {
    fn dispatch(&self, data: &mut Buffer) -> Result<(), CodecError> {
        let ended = data.is_empty();
        let result = self.base.dispatch(
            data,
            |data| if ended { self.on_end_of_stream() } else { self.decode(data) },
            |data| if ended { self.on_end_of_stream() } else { self.decode_tunnel(data) },
        );
        result.map_err(|error| match error {
            DecodeError::Head(error) => {
                CodecError::Protocol(format!("http/1.1 protocol error: {}", error.text))
            }
            DecodeError::Premature { idle_timeout } => CodecError::PrematureResponse { idle_timeout },
        })
    }

    fn protocol(&self) -> Protocol {
        self.base.protocol.get()
    }

    fn on_underlying_connection_above_write_buffer_high_watermark(&self) {
        if let Some(encoder) = self.pending_request() {
            encoder.helper.run_high_watermark_callbacks();
        }
    }

    fn on_underlying_connection_below_write_buffer_low_watermark(&self) {
        if let Some(encoder) = self.pending_request() {
            encoder.helper.run_low_watermark_callbacks();
        }
    }
}

impl ClientConnection for ClientConnectionImpl {
    fn new_stream(&self, response_decoder: Weak<dyn StreamDecoder>) -> Rc<dyn StreamEncoder> {
        let encoder = Rc::new(RequestEncoder {
            codec: self.weak.clone(),
            encoder: MessageEncoder::default(),
            helper: StreamCallbackHelper::default(),
            head_request: Cell::new(false),
            asks_for: Cell::new(AsksFor::Response),
        });
        trace::instant(Stage::ClientNewStream, Some(self.base.id()), 0, 0, 0);
        // What an earlier request left unsent holds this one back too; its listeners are told when they join.
        if self.base.above_high_watermark() {
            encoder.helper.run_high_watermark_callbacks();
        }
        *self.pending_response.borrow_mut() =
            Some(PendingResponse { decoder: response_decoder, encoder: encoder.clone() });
        encoder
    }
}

impl RequestEncoder {
    fn send(&self, f: impl FnOnce(&ClientConnectionImpl, &mut Buffer)) {
        let Some(codec) = self.codec.upgrade() else { return };
        let mut output = Buffer::new();
        f(&codec, &mut output);
        if let Some(connection) = codec.base.network() {
            connection.write(&mut output, false);
        }
    }
}

impl StreamEncoder for RequestEncoder {
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        self.send(|codec, output| {
            let headers = headers.borrow();
            self.head_request.set(headers.get(HeaderId::Method) == Some(b"HEAD"));
            let asks_for = match headers.get(HeaderId::Method) {
                Some(b"CONNECT") => AsksFor::Tunnel,
                _ if utility::is_upgrade(&headers) => AsksFor::Upgrade,
                _ => AsksFor::Response,
            };
            self.asks_for.set(asks_for);
            self.encoder.encode_request_head(output, &headers, end_stream, asks_for != AsksFor::Response);
            if codec.send_fully_qualified_url && asks_for != AsksFor::Tunnel {
                fully_qualify(&headers, output);
            }
            header_key_format::apply(codec.header_key_format, &headers, output);
            let conn = Some(codec.base.id());
            trace::instant(Stage::EncodeRequestHead, conn, 0, output.len() as u64, end_stream.into());
        });
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.send(|_, output| {
            self.encoder.encode_data(output, data);
            if end_stream {
                self.encoder.encode_end(output, None);
            }
        });
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) {
        self.send(|codec, output| {
            let trailers = trailers.borrow();
            self.encoder.encode_end(output, codec.enable_trailers.then_some(&*trailers));
        });
    }

    fn stream(&self) -> &dyn Stream {
        self
    }
}

impl CodecStream for RequestEncoder {
    fn helper(&self) -> &StreamCallbackHelper {
        &self.helper
    }

    fn connection(&self) -> Option<Rc<network::ConnectionImpl>> {
        self.codec.upgrade()?.base.network()
    }

    fn reset(&self, reason: StreamResetReason) {
        let Some(codec) = self.codec.upgrade() else { return };
        // Once the whole response has been handed over there is nothing left to reset.
        let pending = codec.pending_response.borrow_mut().take();
        if let Some(pending) = pending {
            pending.encoder.helper.run_reset_callbacks(reason);
        }
    }
}
