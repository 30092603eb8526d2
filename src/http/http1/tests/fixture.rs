//! The codec on a connection, and recorders above it.
//!
//! A log reads `new`, `GET /path {name=value, ...}` or `200 {...}` for heads, `data <bytes>` for all of
//! a body that came without something else in between, `trailers {...}`, `end` or ` end` behind a head,
//! `reply <status> <body> <details>` and `error <text>`.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use client_side::Client;

use super::super::{CodecStats, HeadLimits, Http1Settings, ServerCodecConfig, ServerConnectionImpl};
use crate::buffer::Buffer;
use crate::event::{Dispatcher, RunType};
use crate::http::{
    CodecCallbacks, Connection, HeaderId, HeaderMap, HeaderMapPtr, RequestDecoder, ServerConnectionCallbacks,
    StreamCallbacks, StreamDecoder, StreamEncoder, StreamResetReason,
};
use crate::network::{
    ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl, ConnectionSocket,
    FilterStatus, RawBufferSocket, ReadFilter, ReadFilterCallbacks,
};
use crate::stats::Store;

mod client_side;

/// Limits that no test runs into by accident.
pub const LIMITS: HeadLimits = HeadLimits { max_bytes: 61_440, max_count: 100 };

/// What the layers above were told, in order.
#[derive(Default)]
pub struct Log(RefCell<Vec<String>>);

impl Log {
    fn push(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    fn data(&self, data: &mut Buffer, end_stream: bool) {
        if !data.is_empty() {
            let text: String = data.to_vec().into_iter().map(char::from).collect();
            data.clear();
            let mut entries = self.0.borrow_mut();
            match entries.last_mut().filter(|last| last.starts_with("data ")) {
                Some(last) => last.push_str(&text),
                None => entries.push(format!("data {text}")),
            }
        }
        if end_stream {
            self.push("end");
        }
    }

    /// The entries since the last call.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// The fields without those named in `skip`, as `{name=value, ...}`.
fn braces(headers: &HeaderMapPtr, skip: &[&[u8]]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = headers.borrow();
    let fields = headers.iter().filter(|(name, _)| !skip.contains(name));
    let fields: Vec<String> = fields.map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn end(end_stream: bool) -> &'static str {
    if end_stream { " end" } else { "" }
}

/// A head made of `fields`.
pub fn head(fields: &[(&str, &str)]) -> HeaderMapPtr {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.add(name, value.as_bytes());
    }
    headers.shared()
}

/// `input` whole, cut in two at every place, and byte by byte.
pub fn splits(input: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let cuts = (1..input.len()).map(|at| vec![&input[..at], &input[at..]]);
    std::iter::once(vec![input]).chain(cuts).chain([input.chunks(1).collect()])
}

/// A connection and the other end of its socket.
pub struct Link {
    pub dispatcher: Rc<Dispatcher>,
    pub connection: Rc<ConnectionImpl>,
    peer: UnixStream,
    output: RefCell<Vec<u8>>,
}

impl Link {
    fn new() -> Link {
        let dispatcher = Dispatcher::new("test");
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let nowhere: crate::network::Address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
        let socket = ConnectionSocket::accepted(ours.into(), nowhere.clone(), nowhere);
        let connection =
            ConnectionImpl::new(&dispatcher, socket, Box::<RawBufferSocket>::default(), true).unwrap();
        Link { dispatcher, connection, peer, output: RefCell::default() }
    }

    /// Runs the loop, without reading what is written, until `done`.
    pub fn run_until(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "waiting for {what}");
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    fn send(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match (&self.peer).write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.dispatcher.run(RunType::NonBlock);
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Ends the peer's side.
    pub fn shutdown(&self) {
        self.peer.shutdown(Shutdown::Write).unwrap();
    }

    /// Takes what lies in the socket.
    pub fn read_output(&self) {
        let mut piece = [0; 65536];
        while let Ok(n) = (&self.peer).read(&mut piece) {
            if n == 0 {
                return;
            }
            self.output.borrow_mut().extend_from_slice(&piece[..n]);
        }
    }

    /// All that the connection has written since the last call. A write goes out in the pass in which
    /// it is made, and at once into the peer's socket.
    pub fn output(&self) -> String {
        self.dispatcher.run(RunType::NonBlock);
        self.dispatcher.run(RunType::NonBlock);
        self.read_output();
        String::from_utf8(self.output.take()).unwrap()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(ConnectionCloseType::NoFlush);
    }
}

/// Counts what a read filter has been given, bytes left over from before counted once.
#[derive(Default)]
struct Intake {
    seen: Cell<usize>,
    left: Cell<usize>,
}

impl Intake {
    fn note(&self, before: usize, after: usize) {
        self.seen.set(self.seen.get() + before - self.left.get());
        self.left.set(after);
    }
}

type Answer = Box<dyn Fn(&dyn StreamEncoder)>;

/// A server codec with its connection.
pub struct Server {
    pub link: Link,
    pub codec: Rc<ServerConnectionImpl>,
    pub side: Rc<ServerSide>,
}

/// What is above a server codec.
pub struct ServerSide {
    weak: Weak<ServerSide>,
    pub log: Rc<Log>,
    codec: OnceCell<Rc<ServerConnectionImpl>>,
    requests: RefCell<Vec<Rc<Request>>>,
    /// Answers a request when it is complete; without it nothing behind the request is dispatched.
    pub answer: RefCell<Option<Answer>>,
    on_head: RefCell<Option<Box<dyn Fn()>>>,
    intake: Intake,
    failed: Cell<bool>,
}

/// One request with its encoder.
struct Request {
    side: Weak<ServerSide>,
    log: Rc<Log>,
    encoder: Rc<dyn StreamEncoder>,
}

impl Server {
    /// Answers every request with an empty 200.
    pub fn new(settings: Http1Settings, limits: HeadLimits) -> Server {
        let link = Link::new();
        let side = Rc::new_cyclic(|weak: &Weak<ServerSide>| ServerSide {
            weak: weak.clone(),
            log: Rc::default(),
            codec: OnceCell::new(),
            requests: RefCell::default(),
            answer: RefCell::default(),
            on_head: RefCell::default(),
            intake: Intake::default(),
            failed: Cell::new(false),
        });
        let callbacks: Weak<dyn ServerConnectionCallbacks> = side.weak.clone();
        let codec = {
            let stats = CodecStats::new(&Store::new(1).root_scope());
            let config = Arc::new(ServerCodecConfig { settings, stats, limits });
            ServerConnectionImpl::new(&link.connection, callbacks, config)
        };
        assert!(side.codec.set(codec.clone()).is_ok());
        let callbacks: Weak<dyn ConnectionCallbacks> = side.weak.clone();
        link.connection.add_connection_callbacks(callbacks);
        link.connection.add_read_filter(side.clone());
        let server = Server { link, codec, side };
        server.answer_with(|encoder| encoder.encode_headers(&head(&[(":status", "200")]), true));
        server
    }

    /// Sets the answer to complete requests.
    pub fn answer_with(&self, answer: impl Fn(&dyn StreamEncoder) + 'static) {
        *self.side.answer.borrow_mut() = Some(Box::new(answer));
    }

    /// Sets what is done when a head has come.
    pub fn on_head(&self, f: impl Fn() + 'static) {
        *self.side.on_head.borrow_mut() = Some(Box::new(f));
    }

    /// Leaves requests unanswered.
    pub fn answer_nothing(&self) {
        self.side.answer.take();
    }

    /// Sends `bytes` and runs the loop until they have been read.
    pub fn feed(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let target = self.side.intake.seen.get() + bytes.len();
        self.link.send(bytes);
        self.link.run_until("the request to be read", || self.side.intake.seen.get() == target);
    }

    /// The log since the last call.
    pub fn log(&self) -> Vec<String> {
        self.side.log.take()
    }

    /// The encoder of the last request.
    pub fn encoder(&self) -> Rc<dyn StreamEncoder> {
        self.side.requests.borrow().last().unwrap().encoder.clone()
    }

    /// The log of `input`, sent in `pieces`.
    pub fn log_of(settings: &Http1Settings, limits: HeadLimits, pieces: &[&[u8]]) -> Vec<String> {
        let server = Server::new(settings.clone(), limits);
        for piece in pieces {
            server.feed(piece);
        }
        server.log()
    }
}

/// Whether `log` is `expected`, or lacks the end of the data in `expected`'s last entry: what comes in one
/// read with an error is not passed on.
pub fn is_up_to_an_error(log: &[String], expected: &[&str]) -> bool {
    let Some((last, before)) = expected.split_last().filter(|(last, _)| last.starts_with("data ")) else {
        return log == expected;
    };
    match log.split_at_checked(before.len()) {
        Some((start, [])) => start == before,
        Some((start, [data])) => start == before && data.starts_with("data ") && last.starts_with(data),
        _ => false,
    }
}

/// Checks the log of `input` for every way of splitting it.
pub fn check_requests(settings: &Http1Settings, input: impl AsRef<[u8]>, expected: &[&str]) {
    for pieces in splits(input.as_ref()) {
        let log = Server::log_of(settings, LIMITS, &pieces);
        assert_eq!(log, expected, "{:?}", pieces.iter().map(|p| p.escape_ascii().to_string()));
    }
}

impl CodecCallbacks for ServerSide {
    fn on_go_away(&self) {}
}

impl ServerConnectionCallbacks for ServerSide {
    fn new_stream(&self, encoder: Rc<dyn StreamEncoder>) -> Weak<dyn RequestDecoder> {
        self.log.push("new");
        let request = Rc::new(Request { side: self.weak.clone(), log: self.log.clone(), encoder });
        self.requests.borrow_mut().push(request.clone());
        let decoder: Rc<dyn RequestDecoder> = request;
        Rc::downgrade(&decoder)
    }
}

impl ReadFilter for ServerSide {
    fn on_data(&self, data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        let given = data.len();
        let codec = self.codec.get().unwrap();
        loop {
            let before = data.len();
            if !self.failed.get()
                && let Err(error) = codec.dispatch(data)
            {
                self.log.push(format!("error {error}"));
                self.failed.set(true);
            }
            if self.failed.get() {
                data.clear();
            }
            if data.is_empty() || data.len() == before || self.answer.borrow().is_none() {
                break;
            }
        }
        self.intake.note(given, data.len());
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, _callbacks: ReadFilterCallbacks) {}
}

impl ConnectionCallbacks for ServerSide {
    fn on_event(&self, _event: ConnectionEvent) {}

    fn on_above_write_buffer_high_watermark(&self) {
        self.codec.get().unwrap().on_underlying_connection_above_write_buffer_high_watermark();
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.codec.get().unwrap().on_underlying_connection_below_write_buffer_low_watermark();
    }
}

impl Request {
    fn complete(&self) {
        let side = self.side.upgrade().unwrap();
        let answer = side.answer.borrow();
        if let Some(answer) = answer.as_ref() {
            answer(&*self.encoder);
        }
    }
}

impl StreamDecoder for Request {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        let (method, path) = {
            let headers = headers.borrow();
            let text = |id| headers.get_str(id).unwrap_or_default().to_string();
            (text(HeaderId::Method), text(HeaderId::Path))
        };
        let fields = braces(&headers, &[b":method", b":path"]);
        self.log.push(format!("{method} {path} {fields}{}", end(end_stream)));
        if let Some(on_head) = self.side.upgrade().unwrap().on_head.borrow().as_ref() {
            on_head();
        }
        if end_stream {
            self.complete();
        }
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        self.log.data(data, end_stream);
        if end_stream {
            self.complete();
        }
    }

    fn decode_trailers(&self, trailers: HeaderMapPtr) {
        self.log.push(format!("trailers {}", braces(&trailers, &[])));
        self.complete();
    }
}

impl RequestDecoder for Request {
    fn send_local_reply(&self, status: u16, body: &str, details: &'static str) {
        self.log.push(format!("reply {status} {body} {details}"));
    }
}

/// Records what befalls a stream.
#[derive(Default)]
pub struct Watcher(RefCell<Vec<String>>);

impl Watcher {
    /// Watches `encoder`'s stream.
    pub fn on(encoder: &dyn StreamEncoder) -> Rc<Watcher> {
        let watcher = Rc::new(Watcher::default());
        encoder.stream().add_callbacks(watcher.as_callbacks());
        watcher
    }

    /// What [`crate::http::Stream::add_callbacks`] was given.
    pub fn as_callbacks(self: &Rc<Self>) -> Weak<dyn StreamCallbacks> {
        let callbacks: Rc<dyn StreamCallbacks> = self.clone();
        Rc::downgrade(&callbacks)
    }

    pub fn log(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

impl StreamCallbacks for Watcher {
    fn on_reset_stream(&self, reason: StreamResetReason) {
        self.0.borrow_mut().push(format!("reset: {}", reason.as_str()));
    }

    fn on_above_write_buffer_high_watermark(&self) {
        self.0.borrow_mut().push("high".to_string());
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.0.borrow_mut().push("low".to_string());
    }
}
