//! The server's side of the codec: requests in, responses out.
//!
//! Mirrors `ServerConnectionImpl` of Envoy's `source/common/http/http1/codec_impl.cc`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::codec_stats::CodecStats;
use super::connection::{CodecStream, ConnectionImpl, Decoded, Head, State};
use super::encoder::MessageEncoder;
use super::head::{self, HeadError, HeadLimits, RequestLine};
use super::header_key_format;
use super::request_head::{self, RequestHead};
use crate::buffer::Buffer;
use crate::config::header_matcher::StringMatcher;
use crate::config::{HeaderKeyFormat, HeadersWithUnderscoresAction};
use crate::envoy_conn_log;
use crate::http::codec_helper::StreamCallbackHelper;
use crate::http::codes;
use crate::http::{
    CodecError, Connection, HeaderId, HeaderMap, HeaderMapPtr, Protocol, RequestDecoder, ServerConnection,
    ServerConnectionCallbacks, Stream, StreamEncoder, StreamResetReason,
};
use crate::network;
use crate::trace::{self, Stage, stage};

/// Options of the codec that the configuration sets (`Http1ProtocolOptions`).
#[derive(Clone, Debug)]
pub struct Http1Settings {
    /// Whether an absolute URL in the request line is taken apart into authority and path.
    pub allow_absolute_url: bool,
    /// Whether HTTP/1.0 requests are served.
    pub accept_http_10: bool,
    /// Whether an absolute URL of https is refused, as no connection is one of TLS.
    pub validate_scheme: bool,
    /// The authority of an HTTP/1.0 request without Host; empty for none.
    pub default_host_for_http_10: String,
    /// Whether trailers are passed on; else they are dropped.
    pub enable_trailers: bool,
    /// Whether Content-Length beside `Transfer-Encoding: chunked` is dropped instead of refused.
    pub allow_chunked_length: bool,
    /// Offers of such protocols are dropped.
    pub ignore_http_11_upgrade: Vec<StringMatcher>,
    /// How the names of fields are written.
    pub header_key_format: Option<HeaderKeyFormat>,
    /// What is done with fields whose names have underscores.
    pub headers_with_underscores_action: HeadersWithUnderscoresAction,
}

impl Default for Http1Settings {
    fn default() -> Self {
        Http1Settings {
            allow_absolute_url: true,
            validate_scheme: false,
            accept_http_10: false,
            default_host_for_http_10: String::new(),
            enable_trailers: false,
            allow_chunked_length: false,
            ignore_http_11_upgrade: Vec::new(),
            header_key_format: None,
            headers_with_underscores_action: HeadersWithUnderscoresAction::Allow,
        }
    }
}

/// Complete responses that may wait to be written when the next request comes (Envoy's default).
const MAX_QUEUED_RESPONSES: usize = 2;

/// What the codecs of a listener's connections have in common.
pub struct ServerCodecConfig {
    /// What the configuration sets.
    pub settings: Http1Settings,
    /// Where they count.
    pub stats: CodecStats,
    /// How much a request's head may have.
    pub limits: HeadLimits,
}

/// The codec of one downstream connection. Requests are decoded one at a time: `dispatch` returns
/// after each message, and its caller decides whether to go on.
pub struct ServerConnectionImpl {
    weak: Weak<ServerConnectionImpl>,
    base: ConnectionImpl,
    callbacks: Weak<dyn ServerConnectionCallbacks>,
    config: Arc<ServerCodecConfig>,
    active_request: RefCell<Option<Rc<ActiveRequest>>>,
    /// Bytes handed to the connection since the last complete response.
    written: Cell<u32>,
    /// Bytes of the last complete responses, the newest first, but for the oldest one that counts.
    responses: Cell<[u32; MAX_QUEUED_RESPONSES - 1]>,
}

enum DecodeError {
    Head(HeadError),
    ResponseFlood,
}

impl From<HeadError> for DecodeError {
    fn from(error: HeadError) -> Self {
        DecodeError::Head(error)
    }
}

/// The request being served: its response encoder and the decoder it goes to.
struct ActiveRequest {
    weak: Weak<ActiveRequest>,
    codec: Weak<ServerConnectionImpl>,
    decoder: RefCell<Option<Weak<dyn RequestDecoder>>>,
    encoder: MessageEncoder,
    helper: StreamCallbackHelper,
    remote_complete: Cell<bool>,
    started_response: Cell<bool>,
    response_to_head: Cell<bool>,
    response_to_connect: Cell<bool>,
    details: Cell<&'static str>,
}

impl ServerConnectionImpl {
    /// A codec for `connection`; requests go to `callbacks`.
    pub fn new(
        connection: &Rc<network::ConnectionImpl>,
        callbacks: Weak<dyn ServerConnectionCallbacks>,
        config: Arc<ServerCodecConfig>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|weak| ServerConnectionImpl {
            weak: weak.clone(),
            base: ConnectionImpl::new(connection, config.limits),
            callbacks,
            config,
            active_request: RefCell::default(),
            written: Cell::new(u32::MAX),
            responses: Cell::new([u32::MAX; MAX_QUEUED_RESPONSES - 1]),
        })
    }

    fn active(&self) -> Option<Rc<ActiveRequest>> {
        self.active_request.borrow().clone()
    }

    /// Decodes until one message is complete or the input ends.
    #[inline(always)]
    fn decode_message(&self, data: &mut Buffer) -> Result<(), DecodeError> {
        loop {
            let before = self.base.progress(data);
            if matches!(self.base.state(), State::Head) && !self.begin_message(data)? {
                return Ok(());
            }
            let complete = match self.base.read_whole_head(data, head::parse_request) {
                Some(head) => self.decode_head(data, head)?,
                None => match self.base.next(data)? {
                    None => return Ok(()),
                    Some(Decoded::Head(length)) => {
                        let head = self.base.read_head(data, length, head::parse_request)?;
                        self.decode_head(data, head)?
                    }
                    Some(Decoded::Data { piece, last }) => self.decode_data(piece, last),
                    Some(Decoded::Trailers(length)) => self.decode_trailers(data, length)?,
                },
            };
            if complete || !self.base.is_open() {
                return Ok(());
            }
            debug_assert!(self.base.progress(data) != before, "neither input used nor state changed");
        }
    }

    #[inline(never)]
    fn decode_tunnel(&self, data: &mut Buffer) -> Result<(), DecodeError> {
        self.decode_message(data)
    }

    /// At the first byte of a message a request begins; false while there is none.
    #[inline(always)]
    fn begin_message(&self, data: &mut Buffer) -> Result<bool, DecodeError> {
        if self.active_request.borrow().is_some() {
            return Ok(true);
        }
        skip_empty_lines(data);
        // A CR alone may yet become an empty line.
        if data.is_empty() || (data.len() == 1 && data.front() == b"\r") {
            return Ok(false);
        }
        self.on_message_begin();
        self.check_response_flood()?;
        if !data.front()[0].is_ascii_uppercase() {
            return Err(HeadError::bad("HPE_INVALID_METHOD").into());
        }
        Ok(true)
    }

    /// Passes a head on; true where the message is complete with it.
    fn decode_head(&self, data: &mut Buffer, head: Head<RequestLine>) -> Result<bool, HeadError> {
        self.base.take_head(
            data,
            &head,
            self.config.settings.header_key_format,
            Stage::ServerHeadersComplete,
        );
        self.base.protocol.set(head.line.protocol);
        if let Some(request) = &*self.active_request.borrow() {
            request.response_to_head.set(head.line.is_head);
        }
        self.on_headers_complete(head.headers)
    }

    fn on_message_begin(&self) {
        stage!(ServerMessageBegin(self.base.id()));
        if self.base.reset_stream_called.get() {
            return;
        }
        self.base.protocol.set(Protocol::Http11); // until the head says otherwise
        let request = Rc::new_cyclic(|weak| ActiveRequest {
            weak: weak.clone(),
            codec: self.weak.clone(),
            decoder: RefCell::default(),
            encoder: MessageEncoder::default(),
            helper: StreamCallbackHelper::default(),
            remote_complete: Cell::new(false),
            started_response: Cell::new(false),
            response_to_head: Cell::new(false),
            response_to_connect: Cell::new(false),
            details: Cell::default(),
        });
        *self.active_request.borrow_mut() = Some(request.clone());
        // What earlier responses left unsent holds this one back too; its listeners are told when they join.
        if self.base.above_high_watermark() {
            request.helper.run_high_watermark_callbacks();
        }
        if let Some(callbacks) = self.callbacks.upgrade() {
            let decoder = callbacks.new_stream(request.clone());
            *request.decoder.borrow_mut() = Some(decoder);
        }
    }

    /// Refuses a request that comes while the responses to earlier ones are not taken.
    fn check_response_flood(&self) -> Result<(), DecodeError> {
        let Some(connection) = self.base.network() else { return Ok(()) };
        let behind_oldest =
            self.responses.get().iter().fold(self.written.get(), |sum, n| sum.saturating_add(*n));
        let unsent = connection.write_buffer_length();
        if unsent > behind_oldest as usize { Err(DecodeError::ResponseFlood) } else { Ok(()) }
    }

    fn on_headers_complete(&self, headers: HeaderMapPtr) -> Result<bool, HeadError> {
        let next = {
            let mut headers = headers.borrow_mut();
            self.apply_underscore_action(&mut headers)?;
            let head = RequestHead {
                headers: &mut headers,
                protocol: self.base.protocol.get(),
                settings: &self.config.settings,
                connection_id: self.base.id(),
            };
            head.complete()?
        };
        self.base.expect(next);
        let complete = matches!(next, State::Head);
        if complete {
            // With the head alone the message is complete, and the layers above can be told so at once.
            self.base.message_complete(Stage::ServerMessageComplete);
        }
        if let Some(request) = self.active() {
            if complete {
                request.remote_complete.set(true);
            } else if matches!(next, State::Upgraded) {
                let method = headers.borrow().get(HeaderId::Method) == Some(b"CONNECT");
                request.response_to_connect.set(method);
            }
            request.with_decoder(|d| d.decode_headers(headers, complete));
        }
        if matches!(next, State::Upgraded) {
            self.base.pause_for_upgrade(Stage::ServerMessageComplete);
        }
        // What follows the head of a tunnel is for another call.
        Ok(complete || matches!(next, State::Upgraded))
    }

    fn apply_underscore_action(&self, headers: &mut HeaderMap) -> Result<(), HeadError> {
        request_head::apply_underscore_action(
            headers,
            &self.config.settings,
            &self.config.stats,
            self.base.id(),
        )
    }

    /// Passes a piece of the body on; true where it is the last.
    fn decode_data(&self, mut piece: Buffer, last: bool) -> bool {
        if !piece.is_empty() {
            let id = self.base.id();
            envoy_conn_log!(Http, trace, id, "body size={}", piece.len());
            trace::instant(Stage::ServerBody, Some(id), 0, piece.len() as u64, 0);
            if let Some(request) = self.active() {
                request.with_decoder(|d| d.decode_data(&mut piece, false));
            }
        }
        if last {
            self.on_message_complete(None);
        }
        last
    }

    fn decode_trailers(&self, data: &mut Buffer, length: usize) -> Result<bool, HeadError> {
        let mut trailers = self.base.take_trailers(data, length)?;
        self.apply_underscore_action(&mut trailers)?;
        self.on_message_complete(
            (self.config.settings.enable_trailers && !trailers.is_empty()).then_some(trailers),
        );
        Ok(true)
    }

    fn on_message_complete(&self, trailers: Option<HeaderMap>) {
        self.base.message_complete(Stage::ServerMessageComplete);
        let Some(request) = self.active() else { return };
        request.remote_complete.set(true);
        match trailers {
            Some(trailers) => request.with_decoder(|d| d.decode_trailers(trailers.shared())),
            None => request.with_decoder(|d| d.decode_data(&mut Buffer::new(), true)),
        }
    }

    /// Answers a request that could not be read, unless a response has begun.
    fn send_protocol_error(&self, error: &HeadError) {
        let Some(request) = self.active() else { return };
        request.details.set(error.details);
        if !request.started_response.get() {
            let body = crate::http::codes::status_phrase(error.status);
            request.with_decoder(|d| d.send_local_reply(error.status, body, error.details));
        }
    }

    /// Whether the present request is answered as HTTP/1.0.
    fn writes_http_10(&self) -> bool {
        self.base.protocol.get() == Protocol::Http10 && self.config.settings.accept_http_10
    }

    #[inline(always)]
    fn on_encode_complete(&self) {
        let complete = self.active_request.borrow().as_ref().is_some_and(|r| r.remote_complete.get());
        trace::instant(Stage::CodecEncodeComplete, Some(self.base.id()), 0, complete.into(), 0);
        let mut responses = self.responses.get();
        responses.rotate_right(1);
        responses[0] = self.written.replace(0);
        self.responses.set(responses);
        // Before the request is complete it stays, so that its reset callbacks can still run.
        if complete {
            drop(self.active_request.borrow_mut().take());
        }
    }

    #[inline(always)]
    fn write(&self, output: &mut Buffer) {
        if let Some(connection) = self.base.network() {
            let length = u32::try_from(output.len()).unwrap_or(u32::MAX);
            self.written.set(self.written.get().saturating_add(length));
            connection.write(output, false);
        }
    }
}

/// Drops empty lines in front of a head (RFC 9112 section 2.2 asks servers to).
fn skip_empty_lines(data: &mut Buffer) {
    while let Some(b'\r' | b'\n') = data.front().first() {
        let n = match data.linearize(2) {
            [b'\n', ..] => 1,
            b"\r\n" => 2,
            _ => return,
        };
        data.drain(n);
    }
}

impl Connection for ServerConnectionImpl {
    fn dispatch(&self, data: &mut Buffer) -> Result<(), CodecError> {
        let result =
            self.base.dispatch(data, |data| self.decode_message(data), |data| self.decode_tunnel(data));
        result.map_err(|error| match error {
            DecodeError::ResponseFlood => CodecError::ResponseFlood,
            DecodeError::Head(error) => {
                self.send_protocol_error(&error);
                CodecError::Protocol(error.message())
            }
        })
    }

    fn protocol(&self) -> Protocol {
        self.base.protocol.get()
    }

    fn on_underlying_connection_above_write_buffer_high_watermark(&self) {
        if let Some(request) = self.active() {
            request.helper.run_high_watermark_callbacks();
        }
    }

    fn on_underlying_connection_below_write_buffer_low_watermark(&self) {
        if let Some(request) = self.active() {
            request.helper.run_low_watermark_callbacks();
        }
    }
}

impl ServerConnection for ServerConnectionImpl {}

impl ActiveRequest {
    fn with_decoder(&self, f: impl FnOnce(&dyn RequestDecoder)) {
        let decoder = self.decoder.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(decoder) = decoder {
            f(&*decoder);
        }
    }

    /// Builds output with `f` and writes it; after `end` the request is done.
    fn send(&self, end: bool, f: impl FnOnce(&ServerConnectionImpl, &mut Buffer)) {
        let Some(codec) = self.codec.upgrade() else { return };
        let mut output = Buffer::new();
        f(&codec, &mut output);
        codec.write(&mut output);
        if end {
            codec.on_encode_complete();
        }
    }

    /// Writes what needs no framing; after `end` the request is done.
    fn send_plain(&self, data: &mut Buffer, end: bool) {
        let Some(codec) = self.codec.upgrade() else { return };
        if !data.is_empty() {
            codec.write(data);
            data.clear(); // where the connection takes no more
        }
        if end {
            codec.on_encode_complete();
        }
    }
}

impl StreamEncoder for ActiveRequest {
    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) {
        self.started_response.set(true);
        self.send(end_stream, |codec, output| {
            let protocol = codec.base.protocol.get();
            let as_http_10 = codec.writes_http_10();
            let response_to_head = self.response_to_head.get();
            let headers = headers.borrow();
            let tunnel = self.response_to_connect.get() && codes::is_2xx(headers.status());
            self.encoder.encode_response_head(
                output,
                &headers,
                end_stream,
                response_to_head,
                tunnel,
                (protocol, as_http_10),
            );
            header_key_format::apply(codec.config.settings.header_key_format, &headers, output);
            let (conn, length) = (Some(codec.base.id()), output.len() as u64);
            trace::instant(Stage::EncodeResponseHead, conn, 0, length, end_stream.into());
            if end_stream {
                self.encoder.encode_end(output, None);
            }
        });
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) {
        if self.encoder.is_plain() {
            return self.send_plain(data, end_stream);
        }
        self.send(end_stream, |_, output| {
            self.encoder.encode_data(output, data);
            if end_stream {
                self.encoder.encode_end(output, None);
            }
        });
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) {
        self.send(true, |codec, output| {
            let trailers = trailers.borrow();
            self.encoder.encode_end(output, codec.config.settings.enable_trailers.then_some(&*trailers));
        });
    }

    fn encode_1xx_headers(&self, headers: &HeaderMapPtr) {
        self.send(false, |codec, output| {
            let status = trace::detail(|| headers.borrow().status().into());
            trace::instant(Stage::EncodeInterimHead, Some(codec.base.id()), 0, status, 0);
            let headers = headers.borrow();
            self.encoder.encode_1xx_head(output, &headers, codec.writes_http_10());
            header_key_format::apply(codec.config.settings.header_key_format, &headers, output);
        });
    }

    fn stream(&self) -> &dyn Stream {
        self
    }
}

impl CodecStream for ActiveRequest {
    fn helper(&self) -> &StreamCallbackHelper {
        &self.helper
    }

    fn connection(&self) -> Option<Rc<network::ConnectionImpl>> {
        self.codec.upgrade()?.base.network()
    }

    fn reset(&self, reason: StreamResetReason) {
        let keep = self.weak.upgrade();
        if let Some(codec) = self.codec.upgrade() {
            codec.base.reset_stream_called.set(true);
            drop(codec.active_request.borrow_mut().take());
        }
        self.helper.run_reset_callbacks(reason);
        drop(keep);
    }

    fn details(&self) -> &'static str {
        self.details.get()
    }
}
