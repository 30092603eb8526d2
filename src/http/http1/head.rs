//! Message heads: finding their end, and parsing them.

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};

use super::body::BAD_TRANSFER_ENCODING;
use crate::buffer::Buffer;
use crate::envoy_conn_log;
use crate::http::{HeaderId, HeaderMap, HeaderMapFull, Protocol, url};
use crate::logger::{self, Level};
use crate::trace::{self, Stage, log_stage};

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

    /// What the log says of it.
    pub(super) fn message(&self) -> String {
        match self.details {
            "low_version" | "http1.connection_header_rejected" => self.text.to_string(),
            _ => format!("http/1.1 protocol error: {}", self.text),
        }
    }

    /// Names the cause as Envoy does where `block`, which was refused, has characters that no block
    /// may have.
    fn of(self, block: &[u8]) -> Self {
        let odd = |b: &u8| b.is_ascii_control() && !matches!(b, b'\t' | b'\r' | b'\n');
        if self.status == 400 && block.iter().any(odd) {
            return HeadError { details: "http1.invalid_characters", ..self };
        }
        self
    }
}

const HEADERS_TOO_LARGE: HeadError =
    HeadError { status: 431, details: "http1.headers_too_large", text: "headers size exceeds limit" };
const TOO_MANY_HEADERS: HeadError =
    HeadError { status: 431, details: "http1.too_many_headers", text: "headers count exceeds limit" };

/// Looks for the empty line that ends a head, over each byte once.
#[derive(Clone, Copy, Default)]
pub(super) struct HeadScanner {
    /// A head has no 4 GiB.
    scanned: u32,
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
    /// Whether some bytes have been looked at in vain.
    pub(super) fn has_begun(self) -> bool {
        self.scanned > 0
    }

    /// The length of the head with its empty line, once `data` holds all of it.
    pub(super) fn find_end(&mut self, data: &Buffer) -> Option<usize> {
        let mut skip = self.scanned as usize;
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
        self.scanned = base as u32;
        None
    }

    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.state == ScanState::InLine
            && let Some(end) = find_empty_line(bytes)
        {
            return Some(end);
        }
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

/// Where the first empty line ends that follows another line in `bytes`. Most heads come whole, and end in CR LF.
fn find_empty_line(bytes: &[u8]) -> Option<usize> {
    thread_local! {
        static WITH_CR: Finder<'static> = Finder::new(b"\n\r\n");
        static WITHOUT: Finder<'static> = Finder::new(b"\n\n");
    }
    let end = WITH_CR.with(|finder| finder.find(bytes))? + 3;
    let other = WITHOUT.with(|finder| finder.find(&bytes[..end - 1]));
    Some(other.map_or(end, |at| at + 2))
}

/// A parsed request line; the headers are in the map given to [`parse_request`].
pub(super) struct RequestLine {
    pub protocol: Protocol,
    pub is_head: bool,
}

/// The methods that Envoy's parser accepts.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"COPY",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"NOTIFY",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// Header slots on the stack; a head with more lines uses the heap.
const STACK_HEADERS: usize = 32;

/// No head may have more fields than this, whatever the configuration says: a [`HeaderMap`] numbers them.
const MAX_FIELDS: usize = 60_000;

/// Splits off the first line, without its line end. A CR anywhere else is refused.
fn split_line(head: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let end = memchr(b'\n', head).ok_or(HeadError::bad("HPE_LF_EXPECTED"))?;
    let (line, rest) = (&head[..end], &head[end + 1..]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&b'\r') {
        return Err(HeadError::bad("HPE_LF_EXPECTED"));
    }
    Ok((line, rest))
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The version of `HTTP/d.d`. Like Envoy: anything but 1.1 counts as 1.0.
fn parse_version(word: &[u8]) -> Result<Protocol, HeadError> {
    match word {
        b"HTTP/1.1" => Ok(Protocol::Http11),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Ok(Protocol::Http10)
        }
        _ => Err(HeadError::bad("HPE_INVALID_VERSION")),
    }
}

/// Parses the request head that `bytes` begin with into `headers`: `:method`, `:path` and the fields; `host` becomes
/// `:authority`. Says how long the head is, too.
pub(super) fn parse_request(
    bytes: &[u8],
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<(RequestLine, usize), HeadError> {
    read_request(bytes, limits, headers).map_err(|error| error.of(bytes))
}

fn read_request(
    head: &[u8],
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<(RequestLine, usize), HeadError> {
    let (line, rest) = split_line(head)?;
    let mut words = line.split(is_blank).filter(|word| !word.is_empty());
    let method = words.next().unwrap_or_default();
    if !METHODS.contains(&method) {
        return Err(HeadError::bad("HPE_INVALID_METHOD"));
    }
    let path = words.next().ok_or(HeadError::bad("HPE_INVALID_URL"))?;
    if !path.iter().all(u8::is_ascii_graphic) || !url::is_valid(path, method == b"CONNECT") {
        return Err(HeadError::bad("HPE_INVALID_URL"));
    }
    // HTTP/0.9 has no version.
    let protocol = words.next().map_or(Ok(Protocol::Http10), parse_version)?;
    if words.next().is_some() {
        return Err(HeadError::bad("HPE_INVALID_CONSTANT"));
    }
    headers.set(HeaderId::Method, method);
    headers.set(HeaderId::Path, path);
    let fields = parse_fields(rest, limits, headers)?;
    if headers.count(HeaderId::Host) > 1 {
        return Err(HeadError::bad("more than one host header"));
    }
    headers.rename(HeaderId::Host, HeaderId::Authority);
    Ok((RequestLine { protocol, is_head: method == b"HEAD" }, head.len() - rest.len() + fields))
}

/// A parsed status line; the headers are in the map given to [`parse_response`].
pub(super) struct StatusLine {
    pub protocol: Protocol,
    pub status: u16,
}

/// Parses the response head that `head` begins with into `headers`: `:status` and the fields. Says how long it is, too.
pub(super) fn parse_response(
    head: &[u8],
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<(StatusLine, usize), HeadError> {
    let (line, rest) = split_line(head)?;
    let end = line.iter().position(is_blank).ok_or(HeadError::bad("HPE_INVALID_STATUS"))?;
    let protocol = parse_version(&line[..end])?;
    let after = line[end..].trim_ascii_start();
    let (code, reason) = after.split_at(after.iter().position(is_blank).unwrap_or(after.len()));
    let status = match code {
        [a, b, c] if code.iter().all(u8::is_ascii_digit) => {
            [a, b, c].iter().fold(0, |n, &&digit| n * 10 + (digit - b'0') as u16)
        }
        _ => return Err(HeadError::bad("HPE_INVALID_STATUS")),
    };
    if status < 100 || reason.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(HeadError::bad("HPE_INVALID_STATUS"));
    }
    headers.set_status(status);
    let fields = parse_fields(rest, limits, headers)?;
    Ok((StatusLine { protocol, status }, head.len() - rest.len() + fields))
}

/// Parses the fields of a head, up to its empty line, in place; says how many bytes they are.
fn parse_fields(block: &[u8], limits: &HeadLimits, headers: &mut HeaderMap) -> Result<usize, HeadError> {
    // One slot more than allowed, so that the limit can be told from what is beyond it.
    let slots = limits.max_count.min(MAX_FIELDS) + 1;
    let mut few = [httparse::EMPTY_HEADER; STACK_HEADERS];
    let few = &mut few[..slots.min(STACK_HEADERS)];
    match httparse::parse_headers(block, few) {
        Err(httparse::Error::TooManyHeaders) if slots > STACK_HEADERS => {
            // A field takes a line.
            let slots = memchr_iter(b'\n', block).count().min(slots);
            let mut many = vec![httparse::EMPTY_HEADER; slots];
            add_fields(httparse::parse_headers(block, &mut many), limits, headers)
        }
        parsed => add_fields(parsed, limits, headers),
    }
}

/// Parses a block of trailers, its final empty line included, into `trailers`.
pub(super) fn parse_trailers(
    block: &[u8],
    limits: &HeadLimits,
    trailers: &mut HeaderMap,
) -> Result<(), HeadError> {
    parse_fields(block, limits, trailers).map(|_| ()).map_err(|error| error.of(block))
}

fn add_fields(
    parsed: httparse::Result<(usize, &[httparse::Header<'_>])>,
    limits: &HeadLimits,
    headers: &mut HeaderMap,
) -> Result<usize, HeadError> {
    let (length, fields) = match parsed {
        Ok(httparse::Status::Complete(complete)) => complete,
        Ok(httparse::Status::Partial) => return Err(HeadError::bad("HPE_INVALID_HEADER_TOKEN")),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_HEADERS),
        Err(error) => return Err(HeadError::bad(error_name(error))),
    };
    if fields.len() > limits.max_count.min(MAX_FIELDS) {
        return Err(TOO_MANY_HEADERS);
    }
    let mut framing = Ok(());
    for field in fields {
        let (name, value) = (field.name.as_bytes(), field.value);
        let added = match HeaderId::find(name) {
            None => headers.add_unknown(name, value),
            Some(id) => {
                // Where the map's joined value would not show it: an empty one leaves no trace there.
                if id == HeaderId::ContentLength && headers.has(id) {
                    framing = Err(HeadError::bad("HPE_UNEXPECTED_CONTENT_LENGTH"));
                } else if id == HeaderId::TransferEncoding && value.is_empty() && framing.is_ok() {
                    framing = Err(BAD_TRANSFER_ENCODING);
                }
                headers.add_known(id, value)
            }
        };
        added.map_err(|HeaderMapFull| HEADERS_TOO_LARGE)?;
    }
    framing.map(|()| length)
}

/// Records and logs that a sound head is complete, and its fields. The log has them as they stand in it; in the map, which
/// has `entries` of them and of what was in the first line, their names are in lower case. A field ends where the next one
/// begins, so the last one is found complete behind the head.
pub(super) fn on_headers_complete(connection_id: u64, head: &[u8], entries: usize, stage: Stage) {
    trace::instant(stage, Some(connection_id), 0, 0, 0);
    trace::instant(Stage::CompleteLastHeader, Some(connection_id), 0, entries as u64, head.len() as u64);
    if !logger::enabled(logger::Id::Http, Level::Trace) {
        return;
    }
    let Ok((_, block)) = split_line(head) else { return };
    let mut slots = vec![httparse::EMPTY_HEADER; memchr_iter(b'\n', block).count()];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(block, &mut slots) else {
        return;
    };
    let log = |key: &str, value: &[u8]| {
        let value = String::from_utf8_lossy(value);
        envoy_conn_log!(Http, trace, connection_id, "completed header: key={} value={}", key, value);
    };
    let (last, others) = fields.split_last().unwrap_or((&httparse::EMPTY_HEADER, &[]));
    others.iter().for_each(|field| log(field.name, field.value));
    log_stage!(ServerHeadersComplete(connection_id)); // the client's is the same
    log(last.name, last.value);
}

/// Refuses a complete head that is longer than allowed.
pub(super) fn check_size(bytes: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    if bytes > limits.max_bytes { Err(HEADERS_TOO_LARGE) } else { Ok(()) }
}

/// Refuses the beginning of a head that can only become longer than allowed.
pub(super) fn check_partial_size(bytes: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    if bytes >= limits.max_bytes { Err(HEADERS_TOO_LARGE) } else { Ok(()) }
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
