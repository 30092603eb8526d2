//! What an upstream sends: through connection, codec client, pool, router and connection manager to a
//! client. The first byte chooses the request, how the upstream ends and whether the peers are slow.

use super::super::Target;
use super::super::message::{self, Kind, Message};
use super::super::world::{End, OK, Outcome, Script, Upstream, world};
use super::{cuts, hash};
use legate::network::ConnectionState;

pub const TARGET: Target = Target {
    name: "client",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 80 * 1024,
    memory: (512 * 1024, 64),
};

/// Connection manager and request.
const REQUESTS: &[(usize, &[u8])] = &[
    (0, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    (1, b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n"),
    (0, b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n"),
    (1, b"GET / HTTP/1.0\r\n\r\n"),
    (1, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"),
    (0, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"),
    (1, b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    (3, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhe"),
    (2, b"GET / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\r\n"),
];

const ENDS: &[End] = &[End::Nothing, End::Fin, End::Reset];

const AGAIN: &[u8] = b"GET /again HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";

fn run(input: &[u8]) -> u64 {
    let Some((&choice, data)) = input.split_first() else { return 0 };
    let choice = usize::from(choice);
    let (manager, request) = REQUESTS[choice % REQUESTS.len()];
    let end = ENDS[choice / REQUESTS.len() % ENDS.len()];
    let slowly = choice / REQUESTS.len() / ENDS.len() % 2 == 1;
    // Once is enough to see what comes of another request.
    let mut then = Some(AGAIN);
    let mut results = cuts(data).into_iter().map(|pieces| {
        let upstream = Upstream::Bytes(pieces, end);
        let script = Script { manager, pieces: vec![request.to_vec()], upstream, slowly, then: then.take() };
        let asked_again = script.then.is_some();
        Responses::of(&world().play(script), request, asked_again)
    });
    let whole = results.next().expect("at least one way");
    for other in results {
        whole.same(&other);
    }
    whole.signature()
}

/// What the client got.
#[derive(Debug)]
struct Responses {
    /// Interim responses, and the final one if it began.
    messages: Vec<Message>,
    /// The filters saw the end of the response: a client of HTTP/1.0 cannot tell it from a close.
    complete: bool,
    state: ConnectionState,
    connections: (usize, usize),
}

impl Responses {
    fn of(outcome: &Outcome, request: &[u8], asked_again: bool) -> Responses {
        let closed = outcome.state != ConnectionState::Open;
        let (mut rest, again) = outcome.output.split_at(outcome.first_output);
        let mut messages = Vec::new();
        let kind = Kind::Response { to_head: request.starts_with(b"HEAD "), closed };
        while !rest.is_empty() {
            let (message, length) = message::parse(rest, kind).unwrap_or_else(|error| {
                panic!("sent downstream: {error}\n{:?}", String::from_utf8_lossy(rest))
            });
            rest = &rest[length..];
            let last = message.status() >= 200 || !message.complete;
            messages.push(normal(message));
            assert!(!last || rest.is_empty(), "more than a response: {:?}", String::from_utf8_lossy(rest));
        }
        let answered = messages.last().is_some_and(|m| m.complete && m.status() >= 200);
        if asked_again && !closed && answered && outcome.streams.first().is_some_and(|s| s.request.complete) {
            check_again(again);
        }
        let complete = outcome.streams.first().is_some_and(|stream| stream.response.complete);
        Responses { messages, complete, state: outcome.state, connections: outcome.upstream_connections }
    }

    /// However the response is cut, the same comes of it. Of one that turns out to be bad, the client may
    /// have got as much as came before the bad part was read.
    fn same(&self, cut: &Responses) {
        assert_eq!(self.complete, cut.complete, "{self:#?}\n{cut:#?}");
        if self.complete {
            assert_eq!(self.messages, cut.messages, "the response depends on where it is cut");
        }
        assert_eq!(self.state, cut.state, "{self:#?}\n{cut:#?}");
        assert_eq!(self.connections, cut.connections, "{self:#?}\n{cut:#?}");
    }

    fn signature(&self) -> u64 {
        let shapes: Vec<_> = self
            .messages
            .iter()
            .take(4)
            .map(|m| {
                (
                    m.start.clone(),
                    m.complete,
                    m.body.len().min(3),
                    m.trailers.len().min(2),
                    m.headers.len().min(8),
                )
            })
            .collect();
        hash((shapes, self.state as u8, self.connections))
    }
}

fn normal(mut message: Message) -> Message {
    message.headers.retain(|(name, _)| name != b"date");
    message
}

/// The next response on the same connection is the next upstream's answer, and nobody else's.
fn check_again(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let kind = Kind::Response { to_head: false, closed: false };
    let (message, length) = message::parse(bytes, kind).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    let body = &OK[OK.len() - 2..];
    assert!(
        length == bytes.len()
            && message.complete
            && message.body == body
            && message.header("x-model").is_some(),
        "the next request got this: {text:?}"
    );
}

const SEEDS: &[&[u8]] = &[
    b"\0HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"\0HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"\0HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n",
    b"\x01HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\ngrpc-status: 0\r\n\r\n",
    b"\x02HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    b"\x09HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"\x09HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"\x03HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"\x04HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
    b"\0HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"\x06HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"\0HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
    b"\0HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    b"\0HTTP/1.1 205 Reset\r\ncontent-length: 5\r\n\r\nhello",
    b"\0HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstolen",
    concat!("\x1bHTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n", hundred!("hello ")).as_bytes(),
    concat!("\x1cHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", hundred!("5\r\nhello\r\n"), "0\r\nx: y\r\n\r\n")
        .as_bytes(),
    concat!("\x24HTTP/1.1 200 OK\r\n\r\n", hundred!("until the end ")).as_bytes(),
    b"\x08HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x07HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno",
    b"\0HTTP/1.1 200 \r\nx-envoy-immediate-health-check-fail: 1\r\nserver: s\r\ncontent-length: 0\r\n\r\n",
];

const DICTIONARY: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "\r",
    "\n",
    ": ",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 ",
    "HTTP/2.0 200\r\n",
    "100 Continue\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n\r\n",
    "HTTP/1.1 101 S\r\n\r\n",
    "204",
    "304",
    "205",
    "999",
    "000",
    "199",
    "content-length: 5\r\n",
    "content-length: 0\r\n",
    "content-length: 5, 5\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\n",
    "transfer-encoding: chunked, gzip\r\n",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "proxy-connection: close\r\n",
    "connection: x, content-length\r\n",
    "upgrade: websocket\r\n",
    "connection: upgrade\r\n",
    "trailer: x\r\n",
    "grpc-status: 0\r\n",
    "content-type: application/grpc\r\n",
    "server: x\r\n",
    "date: now\r\n",
    "set-cookie: a\r\n",
    "0\r\n\r\n",
    "0\r\n",
    "5\r\nhello\r\n",
    ";ext",
    "\0",
    "\t",
    "\x7f",
    "\u{e9}",
];
