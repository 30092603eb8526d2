//! Message heads: finding their end, and parsing them.

use memchr::memchr;
use memchr::memmem::Finder;

use super::body::BAD_TRANSFER_ENCODING;
use super::fields::{self, Line, check_name, is_blank, next_line};
use crate::buffer::Buffer;
use crate::envoy_conn_log;
use crate::http::{HeadFields, HeaderId, HeaderMap, Protocol, url};
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

/// No head may have more fields than this, whatever the configuration says: a [`HeaderMap`] numbers them.
const MAX_FIELDS: usize = 60_000;

/// The first line, without its line end, and what is behind it. A CR anywhere else is refused.
#[inline(always)]
fn first_line(head: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    // Nearly all have no control characters.
    let (line, behind) = head.split_at(fields::text_end(head));
    if let Some(rest) = fields::behind_line_end(behind) {
        return Ok((line, rest));
    }
    let end = memchr(b'\n', head).ok_or(HeadError::bad("HPE_LF_EXPECTED"))?;
    let line = head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]);
    if line.contains(&b'\r') {
        return Err(HeadError::bad("HPE_LF_EXPECTED"));
    }
    Ok((line, &head[end + 1..]))
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
    let (line, rest) = first_line(head)?;
    let (method, path, protocol) = usual_request_line(line).map_or_else(|| request_line(line), Ok)?;
    let mut fields = HeadFields::new(headers, head);
    // What is first fits.
    let _ = fields.add_known(HeaderId::Method, method);
    let _ = fields.add_known(HeaderId::Path, path);
    let length = read_fields(&mut fields, rest, limits)?;
    drop(fields);
    if headers.count(HeaderId::Host) > 1 {
        return Err(HeadError::bad("more than one host header"));
    }
    headers.rename(HeaderId::Host, HeaderId::Authority);
    Ok((RequestLine { protocol, is_head: method == b"HEAD" }, length))
}

/// Method, path and version of a request line as nearly all are: sound, and with single blanks.
#[inline]
fn usual_request_line(line: &[u8]) -> Option<(&[u8], &[u8], Protocol)> {
    let (method, path) =
        line.strip_suffix(b" HTTP/1.1")?.split_at_checked(line.iter().position(|b| *b == b' ')?)?;
    let path = path.get(1..)?;
    let sound = METHODS.contains(&method) && fields::is_graphic(path) && path.starts_with(b"/");
    sound.then_some((method, path, Protocol::Http11))
}

/// Method, path and version of any other one.
#[cold]
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], Protocol), HeadError> {
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
    Ok((method, path, protocol))
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
    let (line, rest) = first_line(head)?;
    let (protocol, code) = usual_status_line(line).map_or_else(|| status_line(line), Ok)?;
    let status = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let mut fields = HeadFields::new(headers, head);
    let _ = fields.add_known(HeaderId::Status, code); // what is first fits
    let length = read_fields(&mut fields, rest, limits)?;
    Ok((StatusLine { protocol, status }, length))
}

/// Version and code of a status line as nearly all are: sound, of HTTP/1.1, and with single blanks.
#[inline]
fn usual_status_line(line: &[u8]) -> Option<(Protocol, &[u8])> {
    let (code, reason) = line.strip_prefix(b"HTTP/1.1 ")?.split_at_checked(3)?;
    let sound =
        matches!(code, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']) && reason.first().is_none_or(is_blank);
    (sound && !reason.iter().any(is_control)).then_some((Protocol::Http11, code))
}

/// Version and code of any other one.
#[cold]
fn status_line(line: &[u8]) -> Result<(Protocol, &[u8]), HeadError> {
    let end = line.iter().position(is_blank).ok_or(HeadError::bad("HPE_INVALID_STATUS"))?;
    let protocol = parse_version(&line[..end])?;
    let after = line[end..].trim_ascii_start();
    let (code, reason) = after.split_at(after.iter().position(is_blank).unwrap_or(after.len()));
    let is_code = matches!(code, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']);
    if !is_code || reason.iter().any(is_control) {
        return Err(HeadError::bad("HPE_INVALID_STATUS"));
    }
    Ok((protocol, code))
}

fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

/// Reads the fields of a head that are left, up to its empty line; says how long the head is.
fn read_fields<'a>(
    fields: &mut HeadFields<'a>,
    mut rest: &'a [u8],
    limits: &HeadLimits,
) -> Result<usize, HeadError> {
    let most = limits.max_count.min(MAX_FIELDS);
    let (mut count, mut full) = (0, false);
    // What the map's joined value would not show: an empty one leaves no trace there.
    let mut empty_encoding = false;
    let end = loop {
        let (name, value, id) = match next_line(rest)? {
            Line::End(behind) => break fields.head().len() - behind.len(),
            Line::Field { name, value, rest: behind } => {
                let id = HeaderId::find_first(rest, name.len());
                rest = behind;
                (name, value, id)
            }
        };
        if id.is_none() {
            check_name(name)?;
        }
        count += 1;
        if count > most {
            // What comes behind the first one too many may yet be malformed.
            if count > most + 1 {
                return Err(TOO_MANY_HEADERS);
            }
            continue;
        }
        empty_encoding |= value.is_empty() && id == Some(HeaderId::TransferEncoding);
        let added = match id {
            _ if full => continue,
            Some(id) => fields.add_known(id, value),
            None => fields.add_unknown(name, value),
        };
        full = added.is_err();
    };
    if count > most {
        Err(TOO_MANY_HEADERS)
    } else if full {
        Err(HEADERS_TOO_LARGE)
    } else if fields.has_second_length() {
        Err(HeadError::bad("HPE_UNEXPECTED_CONTENT_LENGTH"))
    } else if empty_encoding {
        Err(BAD_TRANSFER_ENCODING)
    } else {
        Ok(end)
    }
}

/// Parses a block of trailers, its final empty line included, into `trailers`.
pub(super) fn parse_trailers(
    block: &[u8],
    limits: &HeadLimits,
    trailers: &mut HeaderMap,
) -> Result<(), HeadError> {
    let read = read_fields(&mut HeadFields::new(trailers, block), block, limits);
    read.map(|_| ()).map_err(|error| error.of(block))
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
    let log = |key: &[u8], value: &[u8]| {
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        envoy_conn_log!(Http, trace, connection_id, "completed header: key={} value={}", key, value);
    };
    let Ok((_, mut rest)) = first_line(head) else { return };
    let mut last: (&[u8], &[u8]) = Default::default();
    let mut is_first = true;
    while let Ok(Line::Field { name, value, rest: behind }) = next_line(rest) {
        if !std::mem::take(&mut is_first) {
            log(last.0, last.1);
        }
        (last, rest) = ((name, value), behind);
    }
    log_stage!(ServerHeadersComplete(connection_id)); // the client's is the same
    log(last.0, last.1);
}

/// Refuses a complete head that is longer than allowed.
pub(super) fn check_size(bytes: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    if bytes > limits.max_bytes { Err(HEADERS_TOO_LARGE) } else { Ok(()) }
}

/// Refuses the beginning of a head that can only become longer than allowed.
pub(super) fn check_partial_size(bytes: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    if bytes >= limits.max_bytes { Err(HEADERS_TOO_LARGE) } else { Ok(()) }
}
