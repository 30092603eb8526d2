//! An upstream that does what the number in a request's path says.

use super::ends::{Ends, listen, lock};
use super::harness::wire::Wire;
use super::plan::{After, Exchange, Fate, Framing, derive, is_body, once_in, pause};
use super::sites::Kind;
use fastrand::Rng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long the proxy may do nothing at all with a connection; its own limits are far shorter.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What came of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it.
    pub length: usize,
    /// They were the right ones.
    pub intact: bool,
}

#[derive(Default)]
struct Shared {
    /// Bodies that came whole, by the number in the path.
    received: Mutex<HashMap<u64, Received>>,
    /// What a proxy must not do.
    complaints: Mutex<Vec<String>>,
    requests: AtomicU64,
}

/// A listening upstream. It lives as long as the test process.
pub struct Upstream {
    port: u16,
    shared: Arc<Shared>,
    /// Its connections.
    pub ends: Arc<Ends>,
}

impl Upstream {
    /// Listens on a free port.
    pub fn start(kind: Kind) -> Upstream {
        let (shared, ends): (Arc<Shared>, Arc<Ends>) = Default::default();
        let for_thread = (shared.clone(), ends.clone());
        let port = listen(&ends, move |wire, id| {
            let (shared, ends) = for_thread.clone();
            Connection { wire, shared, ends, kind, id }.serve();
        });
        Upstream { port, shared, ends }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// What came of the body of the request with that number, once.
    pub fn take_received(&self, seed: u64) -> Option<Received> {
        lock(&self.shared.received).remove(&seed)
    }

    /// What the proxy did wrong since this was asked last. The bodies of requests that nobody asks for any
    /// more are forgotten.
    pub fn take_complaints(&self) -> Vec<String> {
        lock(&self.shared.received).clear();
        std::mem::take(&mut lock(&self.shared.complaints))
    }
}

struct Connection {
    wire: Wire,
    shared: Arc<Shared>,
    ends: Arc<Ends>,
    kind: Kind,
    id: u64,
}

impl Connection {
    fn complain(&self, what: impl Into<String>) {
        lock(&self.shared.complaints).push(format!("upstream {:?}: {}", self.kind, what.into()));
    }

    fn serve(mut self) {
        self.wire.be_patient(PATIENCE);
        if self.kind == Kind::Shaky && self.id.is_multiple_of(4) {
            return self.reset();
        }
        loop {
            let since = Instant::now();
            let head = self.wire.head();
            if head.is_empty() {
                if since.elapsed() >= PATIENCE {
                    self.complain("a connection was neither used nor closed");
                }
                return;
            }
            self.shared.requests.fetch_add(1, Ordering::Relaxed);
            let Some(request) = Request::parse(&head) else {
                return self.complain(format!("not a request: {}", head.escape_ascii()));
            };
            let Some(seed) = request.seed else {
                // The path was mutated.
                let answered = self.receive(&request, 0)
                    && self.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                if answered {
                    continue;
                }
                return;
            };
            let exchange = Exchange::new(seed, self.kind);
            if exchange.reads_first && !self.receive(&request, seed) || !self.respond(&exchange) {
                return;
            }
            match (exchange.fate.0, exchange.after) {
                (Fate::Reset, _) | (Fate::Whole, After::Reset) => return self.reset(),
                (Fate::Close, _) | (Fate::Whole, After::Close | After::SayClose) => return,
                (Fate::FinishWriting, _) => {
                    self.wire.finish_writing();
                    return self.wait_for_the_end();
                }
                (Fate::Silence, _) => return self.wait_for_the_end(),
                (Fate::Whole, After::Keep) => {
                    let until_close = exchange.response.0 == Framing::UntilClose;
                    if until_close && exchange.response_has_body() {
                        return;
                    }
                }
            }
            if !exchange.reads_first && !self.receive(&request, seed) {
                return;
            }
        }
    }

    fn reset(self) {
        self.ends.reset(self.id, self.wire);
    }

    fn wait_for_the_end(mut self) {
        let since = Instant::now();
        self.wire.rest();
        if since.elapsed() >= PATIENCE {
            self.complain("a connection whose request cannot end was not closed");
        }
    }

    fn respond(&mut self, exchange: &Exchange) -> bool {
        let bytes = exchange.response_bytes();
        let mut rng = Rng::with_seed(derive(exchange.seed, 4));
        let mut rest = &bytes[..];
        if exchange.expects && self.kind == Kind::Lenient && !self.wire.send("HTTP/1.1 100 Continue\r\n\r\n")
        {
            return false;
        }
        for _ in 0..rng.u32(0..4) {
            let near = if once_in(&mut rng, 2) { rest.len() } else { rest.len().min(400) };
            let (now, later) = rest.split_at(rng.usize(0..=near));
            if !self.send(now) {
                return false;
            }
            thread::sleep(pause(&mut rng));
            rest = later;
        }
        self.send(rest)
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        let since = Instant::now();
        let sent = self.wire.send(bytes);
        if since.elapsed() >= PATIENCE {
            self.complain("a response was neither read nor refused");
        }
        sent
    }

    /// Receives a request's body; false when the connection is over.
    fn receive(&mut self, request: &Request, seed: u64) -> bool {
        let mut received = Received { length: 0, intact: true };
        let complete = match request.framing {
            Framing::Length => self.take(request.length, seed, &mut received),
            Framing::Chunked => self.chunks(seed, &mut received),
            _ => true,
        };
        if complete && seed != 0 {
            lock(&self.shared.received).insert(seed, received);
        }
        complete
    }

    fn take(&mut self, mut length: usize, seed: u64, received: &mut Received) -> bool {
        while length > 0 {
            let bytes = self.wire.take(length.min(16_384));
            if bytes.is_empty() {
                return false;
            }
            received.intact &= is_body(derive(seed, 1), received.length, &bytes);
            received.length += bytes.len();
            length -= bytes.len();
        }
        true
    }

    fn chunks(&mut self, seed: u64, received: &mut Received) -> bool {
        loop {
            let line = self.wire.line();
            if line.is_empty() {
                return false;
            }
            let Ok(size) = usize::from_str_radix(&line, 16) else {
                self.complain(format!("not a chunk: {line:?}"));
                return false;
            };
            if size == 0 {
                break;
            }
            if !self.take(size, seed, received) || self.wire.take(2) != b"\r\n" {
                return false;
            }
        }
        // Trailers; the end of the connection is an empty line, too, and is seen next.
        while !self.wire.line().is_empty() {}
        true
    }
}

/// What matters of a request's head.
struct Request {
    /// Unless the path is another.
    seed: Option<u64>,
    framing: Framing,
    length: usize,
}

impl Request {
    /// Parses what a proxy wrote, strictly.
    fn parse(head: &[u8]) -> Option<Request> {
        let mut fields = [httparse::EMPTY_HEADER; 200];
        let mut parsed = httparse::Request::new(&mut fields);
        let complete = parsed.parse(head).ok()?.is_complete() && parsed.version == Some(1);
        let path = parsed.path.filter(|_| complete)?;
        let path = path.strip_prefix('/').filter(|digits| digits.len() == 16);
        let mut request = Request {
            seed: path.and_then(|p| u64::from_str_radix(p, 16).ok()),
            framing: Framing::Absent,
            length: 0,
        };
        let mut hosts = 0;
        for field in parsed.headers.iter() {
            match (field.name.to_ascii_lowercase().as_str(), request.framing) {
                ("content-length", Framing::Absent) => {
                    request.framing = Framing::Length;
                    request.length = std::str::from_utf8(field.value).ok()?.parse().ok()?;
                }
                ("transfer-encoding", Framing::Absent) if field.value == b"chunked" => {
                    request.framing = Framing::Chunked;
                }
                ("content-length" | "transfer-encoding", _) => return None,
                ("host", _) => hosts += 1,
                _ => {}
            }
        }
        (hosts == 1).then_some(request)
    }
}
