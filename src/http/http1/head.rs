//! Message heads: finding their end, and parsing them.

use std::mem::MaybeUninit;

use memchr::memchr;

use crate::buffer::Buffer;
use crate::http::{HeaderId, HeaderMap, Protocol};

/// Limits on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the head, request line and line ends included.
    pub max_bytes: usize,
    /// Number of header fields.
    pub max_count: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeadError {
    /// The status for a request that has it.
    pub status: u16,
    /// Envoy's response code details.
    pub details: &'static str,
    /// The codec's error text.
    pub text: &'static str,
}

impl HeadError {
    pub(super) const fn bad(text: &'static str) -> Self {
        HeadError { status: 400, details: "http1.codec_error", text }
    }
}

const HEADERS_TOO_LARGE: HeadError =
    HeadError { status: 431, details: "http1.headers_too_large", text: "headers size exceeds limit" };
const TOO_MANY_HEADERS: HeadError =
    HeadError { status: 431, details: "http1.too_many_headers", text: "headers count exceeds limit" };

/// Looks for the empty line that ends a head, over each byte once.
#[derive(Clone, Copy, Default)]
pub(super) struct HeadScanner {
    scanned: usize,
    state: ScanState,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum ScanState {
    #[default]
    InLine,
    AfterLf,
    AfterLfCr,
}

impl HeadScanner {
    /// The length of the head with its empty line, once `data` holds all of it.
    pub(super) fn find_end(&mut self, data: &Buffer) -> Option<usize> {
        let mut skip = self.scanned;
        let mut base = 0;
        for chunk in data.chunks() {
            if skip >= chunk.len() {
                skip -= chunk.len();
                base += chunk.len();
                continue;
            }
            if let Some(end) = self.scan(&chunk[skip..]) {
                return Some(base + skip + end);
            }
            base += chunk.len();
            skip = 0;
        }
        self.scanned = base;
        None
    }

    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == ScanState::InLine {
                at += memchr(b'\n', &bytes[at..])? + 1;
                self.state = ScanState::AfterLf;
                continue;
            }
            match (bytes[at], self.state) {
                (b'\n', _) => return Some(at + 1),
                (b'\r', ScanState::AfterLf) => self.state = ScanState::AfterLfCr,
                _ => self.state = ScanState::InLine,
            }
            at += 1;
        }
        None
    }
}

/// A parsed request line; the headers are in the map given to [`parse_request`].
pub(super) struct RequestLine {
    pub protocol: Protocol,
    pub is_head: bool,
}

/// The methods that Envoy's parser accepts.
const METHODS: &[&str] = &[
    "GET",
    "POST",
    "PUT",
    "HEAD",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Header slots on the stack; a larger configured limit uses the heap.
const STACK_HEADERS: usize = 128;

type Slots<'s, 'b> = &'s mut [MaybeUninit<httparse::Header<'b>>];

fn with_slots<'b, R>(max_count: usize, f: impl FnOnce(Slots<'_, 'b>) -> R) -> R {
    // One more than allowed, so that the limit itself can still be told from one beyond it.
    if max_count < STACK_HEADERS {
        f(&mut [const { MaybeUninit::uninit() }; STACK_HEADERS][..max_count + 1])
    } else {
        f(&mut vec![MaybeUninit::uninit(); max_count + 1])
    }
}

/// Parses a request head into `headers`: `:method`, `:path` and the fields; `host` becomes `:authority`.
pub(super) fn parse_request(
    head: &[u8],
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<RequestLine, HeadError> {
    with_slots(limits.max_count, |slots| {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, slots) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_HEADERS),
            Ok(httparse::Status::Partial) => return Err(HeadError::bad("HPE_INVALID_CONSTANT")),
            Err(error) => return Err(HeadError::bad(error_name(error))),
        }
        let method = request.method.unwrap_or_default();
        if !METHODS.contains(&method) {
            return Err(HeadError::bad("HPE_INVALID_METHOD"));
        }
        headers.set(HeaderId::Method, method.as_bytes());
        headers.set(HeaderId::Path, request.path.unwrap_or_default().as_bytes());
        let protocol = if request.version == Some(1) { Protocol::Http11 } else { Protocol::Http10 };
        add_fields(request.headers, limits, headers)?;
        if headers.count(HeaderId::Host) > 1 {
            return Err(HeadError::bad("more than one host header"));
        }
        headers.rename(HeaderId::Host, HeaderId::Authority);
        Ok(RequestLine { protocol, is_head: method == "HEAD" })
    })
}

/// A parsed status line; the headers are in the map given to [`parse_response`].
pub(super) struct StatusLine {
    pub protocol: Protocol,
    pub status: u16,
}

/// Parses a response head into `headers`: `:status` and the fields.
pub(super) fn parse_response(
    head: &[u8],
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<StatusLine, HeadError> {
    with_slots(limits.max_count, |slots| {
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, head, slots) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_HEADERS),
            Ok(httparse::Status::Partial) => return Err(HeadError::bad("HPE_INVALID_CONSTANT")),
            Err(error) => return Err(HeadError::bad(error_name(error))),
        }
        let status = response.code.unwrap_or_default();
        headers.set_status(status);
        let protocol = if response.version == Some(1) { Protocol::Http11 } else { Protocol::Http10 };
        add_fields(response.headers, limits, headers)?;
        Ok(StatusLine { protocol, status })
    })
}

/// Parses a block of trailers, its final empty line included, into `trailers`.
pub(super) fn parse_trailers(
    block: &[u8],
    limits: &HeadLimits,
    trailers: &mut HeaderMap,
) -> Result<(), HeadError> {
    let mut slots = vec![httparse::EMPTY_HEADER; limits.max_count + 1];
    match httparse::parse_headers(block, &mut slots) {
        Ok(httparse::Status::Complete((_, fields))) => add_fields(fields, limits, trailers),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_MANY_HEADERS),
        Ok(httparse::Status::Partial) => Err(HeadError::bad("HPE_INVALID_HEADER_TOKEN")),
        Err(error) => Err(HeadError::bad(error_name(error))),
    }
}

fn add_fields(
    fields: &[httparse::Header<'_>],
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<(), HeadError> {
    if fields.len() > limits.max_count {
        return Err(TOO_MANY_HEADERS);
    }
    for field in fields {
        headers.add_parsed(field.name.as_bytes(), field.value);
    }
    Ok(())
}

/// Refuses a head that is longer than allowed, complete or not.
pub(super) fn check_size(bytes: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    if bytes > limits.max_bytes { Err(HEADERS_TOO_LARGE) } else { Ok(()) }
}

/// http-parser's names for what httparse found, as Envoy prints them.
fn error_name(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => "HPE_INVALID_HEADER_TOKEN",
        httparse::Error::NewLine => "HPE_LF_EXPECTED",
        httparse::Error::Status => "HPE_INVALID_STATUS",
        httparse::Error::Token => "HPE_INVALID_CONSTANT",
        httparse::Error::TooManyHeaders => "HPE_HEADER_OVERFLOW",
        httparse::Error::Version => "HPE_INVALID_VERSION",
    }
}
