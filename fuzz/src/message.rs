//! A second opinion on HTTP/1 messages: reads what legate has written, as strictly as RFC 9112 allows.

use std::fmt;

use super::recorder::{Fields, text};

/// What a message is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Request,
    /// `to_head` for the response to a HEAD request, `closed` when nothing comes after the bytes.
    Response {
        to_head: bool,
        closed: bool,
    },
}

/// A message; of one that is cut short, what is there.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub start: Vec<u8>,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub complete: bool,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} b\"{}\"", self.start.escape_ascii(), text(&self.headers), self.body.escape_ascii())?;
        write!(f, " {} complete={}", text(&self.trailers), self.complete)
    }
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| &value[..])
    }

    /// Of a response.
    pub fn status(&self) -> u16 {
        self.start.get(9..12).and_then(|s| std::str::from_utf8(s).ok()?.parse().ok()).unwrap_or(0)
    }

    /// Of a request.
    pub fn is_head(&self) -> bool {
        self.start.starts_with(b"HEAD ")
    }
}

/// Reads the first message in `bytes`; returns it and its length.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8], kind: Kind) -> Result<(Message, usize), String> {
    let mut message = Message::default();
    let Some(head) = block(bytes) else { return Ok((message, bytes.len())) };
    let mut lines = lines(&bytes[..head])?.into_iter();
    message.start = lines.next().unwrap_or_default().to_vec();
    check_start(&message.start, kind)?;
    message.headers = lines.map(field).collect::<Result<_, _>>()?;
    let used = match framing(&message, kind)? {
        Framing::None => {
            message.complete = true;
            0
        }
        Framing::Length(length) => {
            let left = &bytes[head..];
            let n = length.min(left.len());
            message.body = left[..n].to_vec();
            message.complete = n == length;
            n
        }
        Framing::Chunked => chunked(&bytes[head..], &mut message)?,
        Framing::UntilClose { closed } => {
            message.body = bytes[head..].to_vec();
            message.complete = closed;
            message.body.len()
        }
    };
    Ok((message, head + used))
}

/// Bytes up to and with the empty line.
fn block(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn lines(block: &[u8]) -> Result<Vec<&[u8]>, String> {
    let text = &block[..block.len() - 4];
    let lines: Vec<&[u8]> =
        text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let ends = text.windows(2).filter(|w| w == b"\r\n").count();
    if ends + 1 != lines.len() || lines.iter().any(|line| line.contains(&b'\r') || line.contains(&0)) {
        return Err(format!("a bare CR or LF, or a NUL: {:?}", String::from_utf8_lossy(text)));
    }
    Ok(lines)
}

fn check_start(start: &[u8], kind: Kind) -> Result<(), String> {
    let well_formed = match kind {
        Kind::Request => {
            let words: Vec<&[u8]> = start.split(|&b| b == b' ').collect();
            words.len() == 3
                && words.iter().all(|w| !w.is_empty() && w.iter().all(|b| *b > b' ' && *b != 0x7f))
                && words[2] == b"HTTP/1.1"
        }
        Kind::Response { .. } => {
            (start.starts_with(b"HTTP/1.1 ") || start.starts_with(b"HTTP/1.0 "))
                && start.len() >= 13
                && start[9..12].iter().all(u8::is_ascii_digit)
                && start[12] == b' '
        }
    };
    well_formed.then_some(()).ok_or_else(|| format!("start line {:?}", String::from_utf8_lossy(start)))
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let wrong = || format!("field {:?}", String::from_utf8_lossy(line));
    let colon = line.iter().position(|&b| b == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || !name.iter().all(token) {
        return Err(wrong());
    }
    Ok((name.to_ascii_lowercase(), value.trim_ascii().to_vec()))
}

enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose { closed: bool },
}

fn framing(message: &Message, kind: Kind) -> Result<Framing, String> {
    let of = |name: &str| message.headers.iter().filter(|(n, _)| n == name.as_bytes()).count();
    if of("content-length") > 1 || of("transfer-encoding") > 1 {
        return Err("framed twice".to_string());
    }
    let length = message.header("content-length");
    let coding = message.header("transfer-encoding");
    if let Kind::Response { to_head, .. } = kind {
        let status = message.status();
        if to_head || status < 200 || status == 204 || status == 304 {
            return Ok(Framing::None);
        }
    }
    match (length, coding, kind) {
        (Some(_), Some(_), _) => Err("framed by length and by chunks".to_string()),
        (Some(length), None, _) => {
            let digits = length.iter().all(u8::is_ascii_digit) && !length.is_empty();
            let length =
                std::str::from_utf8(length).ok().filter(|_| digits).and_then(|l| l.parse::<u64>().ok());
            let length = length.ok_or("content-length")?;
            Ok(Framing::Length(usize::try_from(length).unwrap_or(usize::MAX)))
        }
        (None, Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, Some(coding), _) => Err(format!("transfer-encoding {:?}", String::from_utf8_lossy(coding))),
        (None, None, Kind::Request) => Ok(Framing::None),
        (None, None, Kind::Response { closed, .. }) => Ok(Framing::UntilClose { closed }),
    }
}

/// Reads a chunked body; returns the bytes used.
fn chunked(bytes: &[u8], message: &mut Message) -> Result<usize, String> {
    let mut at = 0;
    loop {
        let Some(end) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(bytes.len()) };
        let line = &bytes[at..at + end];
        let size = std::str::from_utf8(line).ok().filter(|_| line.iter().all(u8::is_ascii_hexdigit));
        let size = size.and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.ok_or_else(|| format!("chunk size {:?}", String::from_utf8_lossy(line)))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let left = &bytes[at..];
        message.body.extend_from_slice(&left[..size.min(left.len())]);
        if left.len() < size + 2 {
            return Ok(bytes.len());
        }
        if &left[size..size + 2] != b"\r\n" {
            return Err("no CRLF behind a chunk".to_string());
        }
        at += size + 2;
    }
    if bytes[at..].starts_with(b"\r\n") {
        message.complete = true;
        return Ok(at + 2);
    }
    let Some(end) = block(&bytes[at..]) else { return Ok(bytes.len()) };
    message.trailers = lines(&bytes[at..at + end])?.into_iter().map(field).collect::<Result<_, _>>()?;
    message.complete = true;
    Ok(at + end)
}
