//! What a client sends: through connection, connection manager, filters and router, to an upstream that
//! answers every request. The first byte chooses the connection manager, and whether the peers are slow.

use super::super::Target;
use super::super::bootstrap::MANAGERS;
use super::super::message::Message;
use super::super::recorder::StreamRecord;
use super::super::world::{Outcome, Script, Upstream, world};
use super::{cuts, hash};

pub const TARGET: Target = Target {
    name: "server",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 80 * 1024,
    // What is played is kept, for two plays at a time: many small requests weigh most.
    memory: (512 * 1024, 96),
};

fn run(input: &[u8]) -> u64 {
    let Some((&choice, data)) = input.split_first() else { return 0 };
    let manager = usize::from(choice) % MANAGERS;
    let slowly = usize::from(choice) / MANAGERS % 2 == 1;
    let mut outcomes = cuts(data).into_iter().map(|pieces| {
        world().play(Script { manager, pieces, upstream: Upstream::Model, slowly, then: None })
    });
    let mut whole = outcomes.next().expect("at least one way");
    check(&whole);
    let signature = signature(&whole);
    make_comparable(&mut whole);
    for mut other in outcomes.filter(|other| !whole.flooded && !other.flooded) {
        make_comparable(&mut other);
        same(&whole, &other);
    }
    signature
}

/// Every request that an upstream got is one that the filters saw, in the same order.
fn check(outcome: &Outcome) {
    let mut streams = outcome.streams.iter();
    for request in &outcome.upstream_requests {
        assert!(
            streams.any(|stream| is_request_of(stream, request)),
            "no stream has asked for what went upstream: {request:?}\n{:?}",
            outcome.streams
        );
    }
}

fn is_request_of(stream: &StreamRecord, request: &Message) -> bool {
    let field = |name: &[u8]| {
        stream.request.headers.iter().find(|(n, _)| n == name).map_or(&b""[..], |(_, value)| &value[..])
    };
    let start = [field(b":method"), b" ", field(b":path"), b" HTTP/1.1"].concat();
    start == request.start
        && stream.request.complete
        && stream.request.body == request.body
        && stream.request.trailers == request.trailers
        && request.header("host") == Some(field(b":authority"))
}

/// Drops what may depend on where the input is cut: of a request that turns out to be bad, the filters see as much as came
/// before the bad part was read.
fn make_comparable(outcome: &mut Outcome) {
    for stream in outcome.streams.iter_mut().filter(|stream| !stream.request.complete) {
        stream.request.body.clear();
    }
    outcome.upstream_connections = (0, 0);
}

/// However the input is cut, the same comes of it.
fn same(whole: &Outcome, cut: &Outcome) {
    assert_eq!(
        String::from_utf8_lossy(&whole.output),
        String::from_utf8_lossy(&cut.output),
        "the answers depend on where the input is cut"
    );
    assert_eq!(whole, cut, "what comes of the input depends on where it is cut");
}

fn signature(outcome: &Outcome) -> u64 {
    let lines: Vec<&[u8]> =
        outcome.output.split(|&b| b == b'\n').filter(|l| l.starts_with(b"HTTP/1.")).collect();
    let shapes: Vec<_> = outcome
        .streams
        .iter()
        .take(4)
        .map(|s| (s.request.complete, s.request.body.len().min(3), s.request.trailers.len().min(2)))
        .collect();
    hash((
        lines.iter().take(6).collect::<Vec<_>>(),
        shapes,
        outcome.state as u8,
        outcome.upstream_requests.len().min(4),
    ))
}

const SEEDS: &[&[u8]] = &[
    b"\0GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\0\r",
    b"\0GET / HTTP/1.1\r\nhost: a\r\n\r\n\r",
    b"\0GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /direct HTTP/1.1\r\nhost: a\r\n\r\nHEAD /b HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\0POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\0POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\x01POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\nz: 1\r\n\r\n",
    b"\x01GET /../a//b/%2e%2e/%41?q HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /x HTTP/1.0\r\n\r\n",
    b"\x01POST /p HTTP/1.1\r\nhost: a:80\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    b"\0POST /p HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    b"\0GET http://user@b:81/path?q HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: none.test\r\n\r\n",
    b"\x02GET http://b/path HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\x02GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n",
    b"\x03GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\nx-request-id: 1\r\n\r\n",
    b"\0GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, keep-alive\r\nupgrade: websocket\r\n\r\nabc",
    b"\0GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n",
    b"\0CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\nabc",
    b"\0OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\0GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /never HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\0GET / HTTP/1.1\nhost: a\n\n",
    b"\0GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, x\r\nx: 1\r\nvia: 1.1 b\r\nx-forwarded-for: 1.2.3.4, ::1\r\nx-forwarded-proto: https\r\n\r\n",
    b"\0GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
    concat!("\x04POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 600\r\n\r\n", hundred!("hello "), "GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .as_bytes(),
    concat!("\x05POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", hundred!("5\r\nhello\r\n"), "0\r\nx: y\r\n\r\n")
        .as_bytes(),
    b"\0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

pub const DICTIONARY: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "\r\r\n",
    "\r",
    "\n",
    ": ",
    "GET ",
    "POST ",
    "HEAD ",
    "CONNECT ",
    "OPTIONS ",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/1.2\r\n",
    "HTTP/1.1 ",
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "host: b\r\n",
    "Host:\r\n",
    "content-length: 5\r\n",
    "content-length: 0\r\n",
    "Content-Length: 5, 5\r\n",
    "content-length:\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\n",
    "transfer-encoding: chunked, chunked\r\n",
    "transfer-encoding\t: chunked\r\n",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "Connection: x, content-length\r\n",
    "connection: te\r\n",
    "proxy-connection: close\r\n",
    "upgrade: h2c\r\n",
    "upgrade: websocket\r\n",
    "connection: upgrade\r\n",
    "expect: 100-continue\r\n",
    "te: trailers\r\n",
    "via: x\r\n",
    "cookie: a=b\r\n",
    "x-forwarded-for: 1.2.3.4\r\n",
    "x-envoy-upstream-rq-timeout-ms: 1\r\n",
    "x-envoy-max-retries: 1\r\n",
    "x-request-id: a\r\n",
    "trailer: x\r\n",
    "x_y: 1\r\n",
    "content-type: application/grpc\r\n",
    "0\r\n\r\n",
    "0\r\n",
    "5\r\nhello\r\n",
    ";ext=\"x\"",
    "/direct",
    "/..",
    "/.",
    "//",
    "%2f",
    "%00",
    "http://",
    "https://x@",
    "*",
    "#",
    "?",
    "[::1]:80",
    ":99999",
    "\0",
    "\t",
    "\x7f",
    "\u{e9}",
];
