//! Connection, Proxy-Connection, Keep-Alive, TE, Upgrade, and what Connection names.

use super::{get, got, post, posted};
use crate::harness::{BAD_REQUEST, Case, EMPTY_BAD_REQUEST, OK, run};

#[test]
fn connection() {
    let closed = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{S}connection: close\r\n\r\nok";
    let mut cases = Vec::new();
    for value in ["close", "Close", "CLOSE", "keep-alive, close", "close,keep-alive", "te, close"] {
        let case = Case::new(value).send(get(format!("connection: {value}\r\nfoo: 1\r\n")));
        cases.push(case.reply(closed).reaches(got("foo: 1\r\n")).closed());
    }
    for value in ["keep-alive", "Keep-Alive", "", "\"close\"", "upgrade", "te", "x-request-id", "a, , b"] {
        let case = Case::new(value).send(get(format!("connection: {value}\r\nfoo: 1\r\n")));
        cases.push(case.reply(OK).reaches(got("foo: 1\r\n")));
    }
    for value in ["foo", "FOO", "foo\t,\tbar", "a, foo"] {
        let case = Case::new(value).send(get(format!("connection: {value}\r\nfoo: 1\r\nx: 2\r\n")));
        cases.push(case.reply(OK).reaches(got("x: 2\r\n")));
    }
    for value in ["a,,,,,,,,,,,,foo", "connection, foo"] {
        let case = Case::new(value).send(get(format!("connection: {value}\r\nfoo: 1\r\n")));
        cases.push(case.reply(OK).reaches(got("")));
    }
    let ten = "close,close,close,close,close,close,close,close,close,close";
    for names in
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", ":path", "a,b,c,d,e,f,g,h,i,j", ten]
    {
        let case = Case::new(names).send(get(format!("connection: {names}\r\n"))).reply(BAD_REQUEST);
        cases.push(case.closed().log("400 DPE http1.connection_header_rejected"));
    }
    cases.extend([
        Case::new("a name and close")
            .send(get("connection: foo\r\nfoo: 1\r\nconnection: close\r\n"))
            .reply(closed)
            .reaches(got(""))
            .closed(),
        Case::new("names Host")
            .send(get("connection: host\r\n"))
            .reply(EMPTY_BAD_REQUEST)
            .closed()
            .log("400 - missing_host_header"),
        Case::new("names Content-Length")
            .send(post("connection: content-length\r\ncontent-length: 2\r\n", "ab"))
            .reply(OK)
            .reaches(posted("", "2\r\nab\r\n0\r\n\r\n")),
        Case::new("proxy-connection: close")
            .send(get("proxy-connection: close\r\n"))
            .reply(closed)
            .reaches(got(""))
            .closed(),
        Case::new("proxy-connection: a list with close")
            .send(get("proxy-connection: keep-alive,, Close\r\n"))
            .reply(closed)
            .reaches(got(""))
            .closed(),
        Case::new("connection and close")
            .send(get("connection: connection, close\r\n"))
            .reply(closed)
            .reaches(got(""))
            .closed(),
        Case::new("proxy-connection: keep-alive")
            .send(get("proxy-connection: keep-alive\r\n"))
            .reply(OK)
            .reaches(got("")),
        Case::new("keep-alive").send(get("keep-alive: timeout=5\r\n")).reply(OK).reaches(got("")),
        Case::new("trailer").send(get("trailer: x-foo\r\n")).reply(OK).reaches(got("trailer: x-foo\r\n")),
        Case::new("upgrade without connection").send(get("upgrade: foo\r\n")).reply(OK).reaches(got("")),
        Case::new("upgrade to h2c")
            .send(get("connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n"))
            .reply(OK)
            .reaches(got("")),
        Case::new("pipelined behind close")
            .send([get("connection: close\r\n"), get("")].concat())
            .reply(closed)
            .reaches(got(""))
            .closed(),
    ]);
    run(cases);
}

#[test]
fn te() {
    let mut cases = Vec::new();
    for value in ["trailers", "gzip, trailers", "trailers, deflate"] {
        let case = Case::new(value).send(get(format!("te: {value}\r\n")));
        cases.push(case.reply(OK).reaches(got("te: trailers\r\n")));
    }
    for value in ["gzip", "Trailers", "trailers;q=1", "xtrailers"] {
        cases.push(Case::new(value).send(get(format!("te: {value}\r\n"))).reply(OK).reaches(got("")));
    }
    let named = |value: &str| {
        Case::new(format!("named, {value}")).send(get(format!("connection: te\r\nte: {value}\r\n")))
    };
    cases.extend([
        named("trailers").reply(OK).reaches(got("te: trailers\r\n")),
        named("TRAILERS").reply(OK).reaches(got("te: trailers\r\n")),
        named("gzip,, Trailers").reply(OK).reaches(got("te: trailers\r\n")),
        named("trailers;q=1").reply(OK).reaches(got("")),
        named(&"a".repeat(255)).reply(OK).reaches(got("")),
        named(&"a".repeat(256)).reply(BAD_REQUEST).closed().log("400 DPE http1.connection_header_rejected"),
        named("gzip").reply(OK).reaches(got("")),
        Case::new("empty").send(get("te:\r\n")).reply(OK).reaches(got("te: \r\n")),
        Case::new("twice")
            .send(get("te: trailers\r\nte: trailers\r\n"))
            .reply(OK)
            .reaches(got("te: trailers\r\n")),
    ]);
    run(cases);
}
