//! The client's side of the codec: requests out, responses in.
//!
//! Mirrors `ClientConnectionImpl` of Envoy's `source/common/http/http1/codec_impl.cc`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::body::{BodyState, Framing, framing};
use super::chunk::{ChunkDecoder, ChunkStatus};
use super::encoder::MessageEncoder;
use super::head::{self, HeadError, HeadLimits, HeadScanner};
use super::server::read_trailers;
use crate::buffer::Buffer;
use crate::envoy_conn_log;
use crate::http::codec_helper::StreamCallbackHelper;
use crate::http::{
    ClientConnection, CodecError, HeaderId, HeaderMap, HeaderMapPtr, Protocol, Stream, StreamCallbacks,
    StreamDecoder, StreamEncoder, StreamResetReason,
};
use crate::network::{Address, ConnectionImpl, ConnectionState};
use crate::trace::{self, Stage};

#[derive(Clone, Copy)]
enum State {
    Head,
    Body(BodyState),
    Trailers,
}

/// The response that is awaited.
struct PendingResponse {
    decoder: Weak<dyn StreamDecoder>,
    encoder: Rc<RequestEncoder>,
}

/// The codec of one upstream connection: one request at a time, which its pool sees to.
pub struct ClientConnectionImpl {
    weak: Weak<ClientConnectionImpl>,
    connection: Weak<ConnectionImpl>,
    connection_id: u64,
    limits: HeadLimits,
    enable_trailers: bool,
    /// Of the last response.
    protocol: Cell<Protocol>,
    state: Cell<State>,
    scanner: Cell<HeadScanner>,
    /// Part of a head has come.
    in_head: Cell<bool>,
    pending_response: RefCell<Option<PendingResponse>>,
    reset_stream_called: Cell<bool>,
}

/// The request being sent.
struct RequestEncoder {
    codec: Weak<ClientConnectionImpl>,
    encoder: MessageEncoder,
    helper: StreamCallbackHelper,
    head_request: Cell<bool>,
}

impl ClientConnectionImpl {
    /// A codec for `connection`.
    pub fn new(connection: &Rc<ConnectionImpl>, limits: HeadLimits, enable_trailers: bool) -> Rc<Self> {
        Rc::new_cyclic(|weak| ClientConnectionImpl {
            weak: weak.clone(),
            connection: Rc::downgrade(connection),
            connection_id: connection.id(),
            limits,
            enable_trailers,
            protocol: Cell::new(Protocol::Http11),
            state: Cell::new(State::Head),
            scanner: Cell::default(),
            in_head: Cell::new(false),
            pending_response: RefCell::default(),
            reset_stream_called: Cell::new(false),
        })
    }

    /// The decoder of the awaited response and whether it answers a HEAD.
    fn pending(&self) -> Option<(Weak<dyn StreamDecoder>, bool)> {
        self.pending_response.borrow().as_ref().map(|p| (p.decoder.clone(), p.encoder.head_request.get()))
    }

    fn with_decoder(&self, f: impl FnOnce(&dyn StreamDecoder)) {
        if let Some(decoder) = self.pending().and_then(|(decoder, _)| decoder.upgrade()) {
            f(&*decoder);
        }
    }

    fn decode(&self, data: &mut Buffer) -> Result<(), DecodeError> {
        while !data.is_empty() {
            let before = (data.len(), std::mem::discriminant(&self.state.get()));
            let progress = match self.state.get() {
                State::Head => self.decode_head(data)?,
                State::Body(body) => self.decode_body(body, data)?,
                State::Trailers => self.decode_trailers(data)?,
            };
            if !progress {
                return Ok(());
            }
            let after = (data.len(), std::mem::discriminant(&self.state.get()));
            debug_assert!(after != before, "neither input used nor state changed");
        }
        Ok(())
    }

    /// Reads a response head when all of it is there; false to wait for more.
    fn decode_head(&self, data: &mut Buffer) -> Result<bool, DecodeError> {
        let mut scanner = self.scanner.get();
        let found = scanner.find_end(data);
        self.scanner.set(scanner);
        let Some((_, head_request)) = self.pending() else { return self.premature(data, found) };
        self.in_head.set(true);
        // What is no status line will not become one.
        if data.front().first() != Some(&b'H') {
            return Err(HeadError::bad("HPE_INVALID_CONSTANT").into());
        }
        let Some(length) = found else {
            head::check_partial_size(data.len(), &self.limits)?;
            return Ok(false);
        };
        envoy_conn_log!(Http, trace, self.connection_id, "message begin");
        trace::instant(Stage::ClientMessageBegin, Some(self.connection_id), 0, 0, 0);
        self.scanner.set(HeadScanner::default());
        self.in_head.set(false);
        head::check_size(length, &self.limits)?;
        let mut headers = HeaderMap::new();
        let head = data.linearize(length);
        let line = head::parse_response(head, &self.limits, &mut headers);
        if line.is_ok() {
            head::on_headers_complete(self.connection_id, head, headers.len(), Stage::ClientHeadersComplete);
        }
        data.drain(length);
        let line = line?;
        self.on_headers_complete(headers, line, head_request)?;
        Ok(true)
    }

    fn on_headers_complete(
        &self,
        mut headers: HeaderMap,
        line: head::StatusLine,
        head_request: bool,
    ) -> Result<(), DecodeError> {
        let framing = framing(&headers, false)?;
        self.protocol.set(line.protocol);
        if line.status < 200 || line.status == 204 {
            check_without_body(&mut headers)?;
        }
        if line.status < 200 && line.status != 101 {
            if is_special_1xx(line.status) {
                self.with_decoder(|d| d.decode_1xx_headers(headers.shared()));
            } else {
                self.with_decoder(|d| d.decode_headers(headers.shared(), false));
            }
            return Ok(());
        }
        let body = if head_request || matches!(line.status, 101 | 204 | 304) {
            BodyState::None
        } else {
            match framing {
                Framing::Length(0) => BodyState::None,
                Framing::Length(length) => BodyState::Length(length),
                Framing::Chunked => BodyState::Chunked(ChunkDecoder::new()),
                Framing::Unstated => BodyState::UntilClose,
            }
        };
        self.state.set(State::Body(body));
        if matches!(body, BodyState::None) {
            self.on_message_complete(Completion::Headers(headers));
        } else {
            self.with_decoder(|d| d.decode_headers(headers.shared(), false));
        }
        Ok(())
    }

    /// Bytes came that answer no request. A complete 408 is told apart. An incomplete head
    /// does not wait, as it would in Envoy: it could become the answer to the next request.
    fn premature(&self, data: &mut Buffer, found: Option<usize>) -> Result<bool, DecodeError> {
        let mut idle_timeout = false;
        if let Some(length) = found {
            let mut headers = HeaderMap::new();
            if let Ok(line) = head::parse_response(data.linearize(length), &self.limits, &mut headers) {
                idle_timeout = line.status == 408;
            }
        }
        data.clear();
        Err(DecodeError::Premature { idle_timeout })
    }

    /// Passes on what of the body is there; false to wait for more.
    fn decode_body(&self, mut body: BodyState, data: &mut Buffer) -> Result<bool, DecodeError> {
        let mut piece = Buffer::new();
        let mut done = false;
        let mut next = None;
        let mut failed = None;
        match &mut body {
            BodyState::None => done = true,
            BodyState::UntilClose => piece.move_from(data),
            BodyState::Length(left) => {
                let n = (*left).min(data.len() as u64);
                piece.move_n_from(data, n as usize);
                *left -= n;
                done = *left == 0;
            }
            BodyState::Chunked(decoder) => match decoder.decode(data, &mut piece) {
                Ok(ChunkStatus::More) => {}
                Ok(ChunkStatus::Trailers) => next = Some(State::Trailers),
                Err(error) => failed = Some(error),
            },
        }
        let progress = done || next.is_some();
        self.state.set(next.unwrap_or(State::Body(body)));
        // Of input that turns out to be bad nothing is passed on.
        if let Some(error) = failed {
            return Err(error.into());
        }
        if !piece.is_empty() {
            trace::instant(Stage::ClientBody, Some(self.connection_id), 0, piece.len() as u64, 0);
            self.with_decoder(|d| d.decode_data(&mut piece, false));
        }
        if done {
            self.on_message_complete(Completion::Data);
        }
        Ok(progress)
    }

    fn decode_trailers(&self, data: &mut Buffer) -> Result<bool, DecodeError> {
        let Some(trailers) = read_trailers(data, &self.scanner, &self.limits)? else { return Ok(false) };
        let pass_on = self.enable_trailers && !trailers.is_empty();
        self.on_message_complete(if pass_on { Completion::Trailers(trailers) } else { Completion::Data });
        Ok(true)
    }

    /// The response is complete: it is no longer pending when its last part is handed over.
    fn on_message_complete(&self, completion: Completion) {
        envoy_conn_log!(Http, trace, self.connection_id, "message complete");
        trace::instant(Stage::ClientMessageComplete, Some(self.connection_id), 0, 0, 0);
        self.state.set(State::Head);
        let Some(pending) = self.pending_response.borrow_mut().take() else { return };
        // Once for the codec, as above, and once for the client's side of it, as in Envoy.
        envoy_conn_log!(Http, trace, self.connection_id, "message complete");
        self.resume_reading();
        let Some(decoder) = pending.decoder.upgrade() else { return };
        match completion {
            Completion::Headers(headers) => decoder.decode_headers(headers.shared(), true),
            Completion::Data => decoder.decode_data(&mut Buffer::new(), true),
            Completion::Trailers(trailers) => decoder.decode_trailers(trailers.shared()),
        }
    }

    /// Undoes what pauses the ending stream left behind: an idle connection has to see its end.
    fn resume_reading(&self) {
        let Some(connection) = self.connection.upgrade() else { return };
        while connection.state() == ConnectionState::Open && !connection.read_enabled() {
            connection.read_disable(false);
        }
    }

    /// The upstream has closed its side.
    fn on_end_of_stream(&self) -> Result<(), DecodeError> {
        match self.state.get() {
            State::Head if !self.in_head.get() => Ok(()),
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

/// How a response ends.
enum Completion {
    Headers(HeaderMap),
    Data,
    Trailers(HeaderMap),
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

impl ClientConnection for ClientConnectionImpl {
    fn dispatch(&self, data: &mut Buffer) -> Result<(), CodecError> {
        let before = data.len();
        envoy_conn_log!(Http, trace, self.connection_id, "parsing {} bytes", before);
        let _stage = trace::scope(Stage::Dispatch, Some(self.connection_id), 0, before as u64, 0);
        let result = if before == 0 { self.on_end_of_stream() } else { self.decode(data) };
        if result.is_ok() {
            envoy_conn_log!(Http, trace, self.connection_id, "parsed {} bytes", before - data.len());
        }
        result.map_err(|error| match error {
            DecodeError::Head(error) => {
                CodecError::Protocol(format!("http/1.1 protocol error: {}", error.text))
            }
            DecodeError::Premature { idle_timeout } => CodecError::PrematureResponse { idle_timeout },
        })
    }

    fn new_stream(&self, response_decoder: Weak<dyn StreamDecoder>) -> Rc<dyn StreamEncoder> {
        let encoder = Rc::new(RequestEncoder {
            codec: self.weak.clone(),
            encoder: MessageEncoder::default(),
            helper: StreamCallbackHelper::default(),
            head_request: Cell::new(false),
        });
        trace::instant(Stage::ClientNewStream, Some(self.connection_id), 0, 0, 0);
        // What an earlier request left unsent holds this one back too; its listeners are told when they join.
        if self.connection.upgrade().is_some_and(|c| c.above_high_watermark()) {
            encoder.helper.run_high_watermark_callbacks();
        }
        *self.pending_response.borrow_mut() =
            Some(PendingResponse { decoder: response_decoder, encoder: encoder.clone() });
        encoder
    }

    fn protocol(&self) -> Protocol {
        self.protocol.get()
    }

    fn on_underlying_connection_above_write_buffer_high_watermark(&self) {
        let encoder = self.pending_response.borrow().as_ref().map(|p| p.encoder.clone());
        if let Some(encoder) = encoder {
            encoder.helper.run_high_watermark_callbacks();
        }
    }

    fn on_underlying_connection_below_write_buffer_low_watermark(&self) {
        let encoder = self.pending_response.borrow().as_ref().map(|p| p.encoder.clone());
        if let Some(encoder) = encoder {
            encoder.helper.run_low_watermark_callbacks();
        }
    }
}

impl RequestEncoder {
    fn send(&self, f: impl FnOnce(&ClientConnectionImpl, &mut Buffer)) {
        let Some(codec) = self.codec.upgrade() else { return };
        let mut output = Buffer::new();
        f(&codec, &mut output);
        if let Some(connection) = codec.connection.upgrade() {
            connection.write(&mut output, false);
        }
    }
}

impl StreamEncoder for RequestEncoder {
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        self.send(|codec, output| {
            let headers = headers.borrow();
            self.head_request.set(headers.get(HeaderId::Method) == Some(b"HEAD"));
            self.encoder.encode_request_head(output, &headers, end_stream);
            let conn = Some(codec.connection_id);
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

impl Stream for RequestEncoder {
    fn add_callbacks(&self, callbacks: Weak<dyn StreamCallbacks>) {
        self.helper.add(callbacks);
    }

    fn remove_callbacks(&self, callbacks: &Weak<dyn StreamCallbacks>) {
        self.helper.remove(callbacks);
    }

    fn reset_stream(&self, reason: StreamResetReason) {
        let Some(codec) = self.codec.upgrade() else { return };
        codec.reset_stream_called.set(true);
        // Once the whole response has been handed over there is nothing left to reset.
        let pending = codec.pending_response.borrow_mut().take();
        if let Some(pending) = pending {
            pending.encoder.helper.run_reset_callbacks(reason);
        }
    }

    fn read_disable(&self, disable: bool) {
        if let Some(connection) = self.codec.upgrade().and_then(|c| c.connection.upgrade()) {
            connection.read_disable(disable);
        }
    }

    fn buffer_limit(&self) -> usize {
        self.codec.upgrade().and_then(|c| c.connection.upgrade()).map_or(0, |c| c.buffer_limit())
    }

    fn connection_local_address(&self) -> Option<Address> {
        self.codec.upgrade().and_then(|c| c.connection.upgrade()).and_then(|c| c.local_address())
    }
}
