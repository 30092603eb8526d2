//! Heads of responses: status lines, framing, fields.

use super::{get, got, join, odd};
use crate::harness::{Case, End, OK, PROTOCOL_ERROR, Step, run};

const BROKEN: &str = "502 UPE upstream_reset_before_response_started{protocol_error}";

/// A request whose answer is `bytes`.
fn answered(bytes: impl AsRef<[u8]>) -> Case {
    odd(&bytes).send(get("")).answer(bytes)
}

/// As before, and another request that shows that the connection to the upstream is used again.
fn reused(bytes: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) -> Case {
    let case = answered(bytes).then(Step::Has(b"\r\n\r\n".to_vec())).send(get("again: 1\r\n"));
    case.reply(reply).reply(OK).reaches(join(&[&got(""), &got("again: 1\r\n")]))
}

/// As before, but the second request goes over a connection of its own.
fn not_reused(bytes: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) -> Case {
    let case = answered(bytes).then(Step::UpstreamClosed(1)).send(get("again: 1\r\n"));
    case.reply(reply).reply(OK).reaches(got("")).reaches(got("again: 1\r\n"))
}

#[test]
fn status_lines() {
    let mut cases = Vec::new();
    for line in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 200  OK",
        "HTTP/1.1 200 A Very Odd Phrase",
        "HTTP/1.1\t200\tOK",
        "HTTP/1.1 200 \u{e4}",
    ] {
        cases.push(reused(format!("{line}\r\ncontent-length: 2\r\n\r\nok"), OK));
    }
    for (line, phrase) in [
        ("HTTP/1.1 404", "404 Not Found"),
        ("HTTP/1.1 413 x", "413 Payload Too Large"),
        ("HTTP/1.1 429 x", "429 Too Many Requests"),
        ("HTTP/1.1 299 x", "299 Unknown"),
        ("HTTP/1.1 451 x", "451 Unknown"),
        ("HTTP/1.1 600 X", "600 Unknown"),
        ("HTTP/1.1 999 X", "999 Unknown"),
    ] {
        let reply = format!("HTTP/1.1 {phrase}\r\ncontent-length: 2\r\n{{S}}\r\nok");
        cases.push(reused(format!("{line}\r\ncontent-length: 2\r\n\r\nok"), reply));
    }
    for (line, phrase) in [
        ("HTTP/1.1 +200 X", "200 OK"),
        ("HTTP/1.1 0200 X", "200 OK"),
        ("HTTP/1.1 1000 X", "1000 Unknown"),
        ("HTTP/1.1 2000 OK", "2000 Unknown"),
    ] {
        let case = answered(format!("{line}\r\ncontent-length: 2\r\n\r\nok")).reaches(got(""));
        let case = case.reply(format!("HTTP/1.1 {phrase}\r\ncontent-length: 2\r\n{{S}}\r\nok"));
        let digits = "a status is three digits (RFC 9112, 4)";
        cases.push(case.legate_differs(digits, |expect| expect.reply = PROTOCOL_ERROR.to_vec()));
    }
    cases.extend([
        reused("HTTP/1.1 200 OK\ncontent-length: 2\n\nok", OK),
        reused("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", OK)
            .then(Step::Stat("cluster.{}.upstream_cx_close_notify", 0)),
        reused("HTTP/1.0 200 OK\r\nconnection: close, keep-alive\r\ncontent-length: 2\r\n\r\nok", OK),
    ]);
    run(cases);
}

#[test]
fn status_lines_that_end_the_connection() {
    let mut cases = Vec::new();
    for line in ["HTTP/1.0 200 OK", "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "HTTP/0.9 200 OK"] {
        let case = not_reused(format!("{line}\r\ncontent-length: 2\r\n\r\nok"), OK);
        cases.push(case.then(Step::Stat("cluster.{}.upstream_cx_close_notify", 1)));
    }
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 99 OK",
        "HTTP/1.1 000 X",
        "HTTP/1.1 2x0 X",
        "HTTP/1.1 -200 X",
        "HTTP/1.1 OK",
        "HTTP/1.1",
        "HTTP/1.1 200OK",
        " HTTP/1.1 200 OK",
        "HTTP/2 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "HTTP/1 200 OK",
        "ICY 200 OK",
        "GET / HTTP/1.1",
        "HTTPS/1.1 200 OK",
        "HTTP/1.1 200 O\x01K",
        "HTTP/1.1 200 O\0K",
        "\r\nHTTP/1.1 200 OK",
        "hello",
        "\x15\x03\x01\0\x02\x02\x28",
    ] {
        let case = not_reused(format!("{line}\r\ncontent-length: 2\r\n\r\nok"), PROTOCOL_ERROR);
        cases.push(case.log(BROKEN));
    }
    cases.push(not_reused(
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ));
    run(cases);
}

#[test]
fn framing() {
    let mut cases = Vec::new();
    let chunked = "HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for lines in [
        "content-length: 2\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: identity\r\ncontent-length: 2\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "content-length: 2\r\ncontent-length: 2\r\n",
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2\r\ncontent-length: \r\n",
        "content-length: \r\ncontent-length: 2\r\n",
        "content-length: +2\r\n",
        "content-length: -1\r\n",
        "content-length: 2, 2\r\n",
        "content-length: \r\n",
        "content-length: abc\r\n",
        "content-length: 18446744073709551616\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n2\r\nok\r\n0\r\n\r\n");
        cases.push(not_reused(answer, PROTOCOL_ERROR).log(BROKEN));
    }
    for answer in [
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 00\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        cases.push(not_reused(answer, PROTOCOL_ERROR).log(BROKEN));
    }
    for (answer, reply) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", chunked),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 02\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 02\r\n{S}\r\nok",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{S}\r\n"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n{S}\r\n"),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nx: y\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nx: y\r\n{S}\r\n",
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n{S}\r\n"),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n{S}\r\n",
        ),
        (
            "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n{S}\r\n",
        ),
        (
            "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n{S}\r\n",
        ),
    ] {
        cases.push(reused(answer, reply));
    }
    for value in ["0,0", "", "abc"] {
        let answer = format!("HTTP/1.1 304 Not Modified\r\ncontent-length: {value}\r\n\r\n");
        let reply = format!("HTTP/1.1 304 Not Modified\r\ncontent-length: {value}\r\n{{S}}\r\n");
        let number = "a Content-Length is a number (RFC 9112, 6.3)";
        let case = answered(answer).reply(reply).reaches(got(""));
        cases.push(case.legate_differs(number, |expect| expect.reply = PROTOCOL_ERROR.to_vec()));
    }
    run(cases);
}

#[test]
fn fields() {
    let mut cases = Vec::new();
    let answer = |lines: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{lines}\r\nok");
    let reply = |lines: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{lines}{{S}}\r\nok");
    for lines in [
        "a: \0\r\n",
        "a: \x01\r\n",
        "a: \x7f\r\n",
        "a : b\r\n",
        "abc\r\n",
        ": x\r\n",
        "a@b: c\r\n",
        "a b: c\r\n",
        ":status: 500\r\n",
    ] {
        cases.push(not_reused(answer(lines), PROTOCOL_ERROR).log(BROKEN));
    }
    for lines in [
        "connection: close, x\r\n",
        "Connection: CLOSE\r\n",
        "proxy-connection: close\r\n",
        "proxy-connection: x, Close\r\n",
    ] {
        cases.push(not_reused(answer(lines), OK));
    }
    for (lines, passed) in [
        ("keep-alive: x\r\n", ""),
        ("connection: keep-alive\r\n", ""),
        ("upgrade: h2c\r\n", ""),
        ("upgrade: websocket\r\nconnection: upgrade\r\n", ""),
        ("connection: foo\r\nfoo: 1\r\n", "foo: 1\r\n"),
        ("te: trailers\r\n", "te: trailers\r\n"),
        ("trailer: x\r\n", "trailer: x\r\n"),
        ("host: q\r\n", "host: q\r\n"),
        ("X-Empty:\r\nX-Sp:   a b  \r\n", "x-empty: \r\nx-sp: a b\r\n"),
        ("x-envoy-upstream-service-time: 99\r\n", ""),
        ("x-envoy-attempt-count: 3\r\nx-envoy-foo: 1\r\n", "x-envoy-attempt-count: 3\r\nx-envoy-foo: 1\r\n"),
        ("a: b\nc: d\r\n", "a: b\r\nc: d\r\n"),
        ("Set-Cookie: a=1\r\nq: 1\r\nSet-Cookie: b=2\r\n", "set-cookie: a=1\r\nq: 1\r\nset-cookie: b=2\r\n"),
    ] {
        cases.push(reused(answer(lines), reply(passed)));
    }
    cases.extend([
        reused(
            answer("Server: up\r\nZ: 1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver: envoy\r\nz: 1\r\ndate: <D>\r\n\
             x-envoy-upstream-service-time: <T>\r\n\r\nok",
        ),
        reused(
            answer("date: a\r\ndate: b\r\n"),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: a,b\r\nx-envoy-upstream-service-time: <T>\r\n\
             server: envoy\r\n\r\nok",
        ),
    ]);
    let bare_cr = "a bare CR is rejected (RFC 9112, 2.2)";
    let fold = "obs-fold is rejected (RFC 9112, 5.2)";
    for (lines, passed, reason) in
        [("a: x\ry\r\n", "a: xy\r\n", bare_cr), ("a: b\r\n c\r\n", "a: b c\r\n", fold)]
    {
        let case = answered(answer(lines)).reply(reply(passed)).reaches(got(""));
        cases.push(case.legate_differs(reason, |expect| {
            expect.reply = PROTOCOL_ERROR.to_vec();
            expect.end = End::Kept;
        }));
    }
    run(cases);
}

#[test]
fn duplicates() {
    let mut cases = Vec::new();
    let case = |name: &str, passed: String| {
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{name}: 1\r\nz: 1\r\n{name}: 2\r\n\r\nok");
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{passed}{{S}}\r\nok");
        answered(answer).reply(reply).reaches(got(""))
    };
    for name in [
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "access-control-max-age",
        "age",
        "cache-control",
        "content-encoding",
        "content-type",
        "etag",
        "expires",
        "grpc-message",
        "grpc-status",
        "last-modified",
        "location",
        "proxy-status",
        "vary",
        "via",
        "x-envoy-attempt-count",
        "x-envoy-decorator-operation",
        "x-envoy-degraded",
        "x-envoy-immediate-health-check-fail",
        "x-envoy-ratelimited",
        "x-envoy-upstream-canary",
        "x-envoy-upstream-healthchecked-cluster",
        "x-request-id",
    ] {
        cases.push(case(name, format!("{name}: 1,2\r\nz: 1\r\n")));
    }
    for name in [
        "accept-ranges",
        "allow",
        "content-language",
        "link",
        "pragma",
        "set-cookie",
        "warning",
        "www-authenticate",
        "x-envoy-overloaded",
        "x-anything",
    ] {
        cases.push(case(name, format!("{name}: 1\r\nz: 1\r\n{name}: 2\r\n")));
    }
    run(cases);
}
