//! What a client gets, taken apart as it comes and held against what it asked for.

use super::plan::{After, Exchange, Fate, Framing, is_body};

/// How far the answer that is being received has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// Receives the answers to a connection's requests.
pub struct Answers<'a> {
    exchanges: &'a [Exchange],
    /// Answers must fit their requests. Where a message was mutated nothing can be said.
    checked: bool,
    /// Where nobody knows any more which answer is received.
    lost: bool,
    buffer: Vec<u8>,
    state: State,
    /// Of the answer that is being received: it is the upstream's, and so many bytes of its body have come.
    planned: bool,
    at: usize,
    /// The last head said that the connection ends.
    pub says_close: bool,
    /// Complete answers, and which of them are the upstream's.
    pub complete: Vec<bool>,
    /// Their statuses.
    pub statuses: Vec<u16>,
    /// All bytes.
    pub length: usize,
    /// The last of them, for a report.
    pub tail: Vec<u8>,
}

/// How much of what came is shown.
const TAIL: usize = 700;

impl<'a> Answers<'a> {
    /// Nothing has come yet.
    pub fn new(exchanges: &'a [Exchange], checked: bool) -> Answers<'a> {
        Answers {
            exchanges,
            checked,
            lost: false,
            buffer: Vec::new(),
            state: State::Head,
            planned: false,
            at: 0,
            says_close: false,
            complete: Vec::new(),
            statuses: Vec::new(),
            length: 0,
            tail: Vec::new(),
        }
    }

    /// Whether so many answers have come, or waiting for them makes no sense.
    pub fn have(&self, count: usize) -> bool {
        self.lost || self.complete.len() >= count
    }

    /// An answer has begun and not ended.
    pub fn within(&self) -> bool {
        self.state != State::Head || !self.buffer.is_empty()
    }

    /// Takes bytes; the error says why they cannot be.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.length += bytes.len();
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        if self.lost {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        match self.advance() {
            Err(_) if !self.checked => {
                self.lost = true;
                Ok(())
            }
            other => other,
        }
    }

    /// The connection is over.
    pub fn finish(&mut self) {
        if self.state == State::UntilClose {
            self.ended();
        }
    }

    fn ended(&mut self) {
        self.complete.push(self.planned);
        self.state = State::Head;
    }

    fn advance(&mut self) -> Result<(), String> {
        while !self.buffer.is_empty() {
            match self.state {
                State::Head => {
                    let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
                        return Ok(());
                    };
                    let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                    self.head(&head)?;
                }
                State::Length(left) => {
                    let taken = self.body(left)?;
                    self.state = State::Length(left - taken);
                    if left == taken {
                        self.whole()?;
                    }
                }
                State::UntilClose => {
                    self.body(usize::MAX)?;
                }
                State::Chunk(left) => {
                    let taken = self.body(left)?;
                    self.state = if left == taken { State::ChunkEnd } else { State::Chunk(left - taken) };
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") else { return Ok(()) };
                    let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                    self.line(&line)?;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        self.state = match (self.state, line.is_empty()) {
            (State::ChunkEnd, true) => State::ChunkSize,
            (State::Trailers, true) => return self.whole(),
            (State::Trailers, false) => State::Trailers,
            (State::ChunkSize, false) => {
                let text = String::from_utf8_lossy(line);
                match usize::from_str_radix(&text, 16) {
                    Ok(0) => State::Trailers,
                    Ok(size) => State::Chunk(size),
                    Err(_) => return Err(format!("not a chunk: {text:?}")),
                }
            }
            _ => return Err(format!("not between chunks: {}", line.escape_ascii())),
        };
        Ok(())
    }

    /// Takes what there is of at most `most` bytes of the body.
    fn body(&mut self, most: usize) -> Result<usize, String> {
        let bytes: Vec<u8> = self.buffer.drain(..most.min(self.buffer.len())).collect();
        let exchange = &self.exchanges[self.complete.len()];
        if self.checked && self.planned && !is_body(exchange.seed, self.at, &bytes) {
            let at = self.at;
            return Err(format!(
                "wrong body of {:016x} within {} bytes from {at}",
                exchange.seed,
                bytes.len()
            ));
        }
        self.at += bytes.len();
        Ok(bytes.len())
    }

    /// An answer with a framed body has come to its end.
    fn whole(&mut self) -> Result<(), String> {
        let exchange = &self.exchanges[self.complete.len()];
        let length = exchange.response.1;
        // A proxy cannot tell the early end of a body that ends with its connection. A reset can make one,
        // also the kernel's where the request has not been read.
        let known = exchange.response.0 != Framing::UntilClose
            || exchange.fate.0 == Fate::Whole && exchange.after != After::Reset && exchange.reads_first;
        if self.checked && self.planned && known && exchange.response_has_body() && self.at != length {
            return Err(format!("{} bytes of the {length} of {:016x}, as if whole", self.at, exchange.seed));
        }
        self.ended();
        Ok(())
    }

    fn head(&mut self, head: &[u8]) -> Result<(), String> {
        let mut fields = [httparse::EMPTY_HEADER; 200];
        let mut parsed = httparse::Response::new(&mut fields);
        let status = match parsed.parse(head) {
            Ok(status) if status.is_complete() => parsed.code.unwrap_or_default(),
            other => return Err(format!("no head ({other:?}): {}", head.escape_ascii())),
        };
        if (100..200).contains(&status) {
            return Ok(());
        }
        let Some(exchange) = self.exchanges.get(self.complete.len()) else {
            return Err(format!("an answer that nobody asked for: {}", head.escape_ascii()));
        };
        let field = |name: &str| {
            let found = parsed.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name));
            found.map(|f| String::from_utf8_lossy(f.value).into_owned())
        };
        let plan = field("x-plan");
        let expected = format!("{:016x}", exchange.seed);
        if self.checked && plan.as_ref().is_some_and(|plan| *plan != expected) {
            return Err(format!("the answer to {} instead of {expected}", plan.unwrap_or_default()));
        }
        self.planned = plan.is_some();
        let fits = if self.planned { status == exchange.status } else { may_be_local(status) };
        if self.checked && !fits {
            return Err(format!("not an answer to {expected}: {}", head.escape_ascii()));
        }
        self.says_close = field("connection").is_some_and(|value| value.contains("close"));
        self.at = 0;
        self.statuses.push(status);
        let length = field("content-length").and_then(|digits| digits.parse().ok());
        self.state = match (length, field("transfer-encoding")) {
            _ if exchange.method == "HEAD" || matches!(status, 204 | 304) => State::Length(0),
            (_, Some(_)) => State::ChunkSize,
            (Some(length), None) => State::Length(length),
            (None, None) => State::UntilClose,
        };
        if self.state == State::Length(0) { self.whole() } else { Ok(()) }
    }
}

/// What the proxy may answer by itself to a request that is in order.
fn may_be_local(status: u16) -> bool {
    matches!(status, 408 | 502 | 503 | 504)
}
