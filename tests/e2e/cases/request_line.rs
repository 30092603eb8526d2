//! Request lines: separators, methods, targets, and what comes before the line.

use super::{get, got, join, line, odd};
use crate::harness::{BAD_REQUEST, Case, EMPTY_BAD_REQUEST, NOT_IMPLEMENTED, OK, Step, run};
use serde_json::json;

const CODEC_ERROR: &str = "400 DPE http1.codec_error";
const CHARACTERS: &str = "400 DPE http1.invalid_characters";
const URL: &str = "400 DPE http1.invalid_url";
const QUERY: &str = "a method that legate does not know";
const REASON: &str = "a bare CR is rejected (RFC 9112, 2.2)";

#[test]
fn line_ends() {
    let blank = |lines: &[u8]| odd(lines).send(join(&[lines, &get("")])).reply(OK).reaches(got(""));
    run(vec![
        Case::new("only LF").send("GET /x HTTP/1.1\nhost: a.test\n\n").reply(OK).reaches(got("")),
        Case::new("LF after the first line")
            .send("GET /x HTTP/1.1\nhost: a.test\r\n\r\n")
            .reply(OK)
            .reaches(got("")),
        Case::new("LF after a field")
            .send("GET /x HTTP/1.1\r\nhost: a.test\nfoo: 1\r\n\r\n")
            .reply(OK)
            .reaches(got("foo: 1\r\n")),
        Case::new("LF in the end").send("GET /x HTTP/1.1\r\nhost: a.test\r\n\n").reply(OK).reaches(got("")),
        Case::new("CR after the first line")
            .send("GET /x HTTP/1.1\rhost: a.test\r\n\r\n")
            .reply(BAD_REQUEST)
            .closed()
            .log(CODEC_ERROR),
        Case::new("CR in a target")
            .send(line("GET /x\ry HTTP/1.1"))
            .reply(BAD_REQUEST)
            .closed()
            .log(CODEC_ERROR),
        blank(b"\r\n"),
        blank(b"\r\n\r\n\r\n"),
        blank(&b"\r\n".repeat(1000)),
        blank(b"\n\n"),
        blank(b"\r").legate_refuses(REASON, BAD_REQUEST),
        Case::new("blank line between requests")
            .send([get("").as_slice(), b"\r\n", &get("")].concat())
            .reply(OK)
            .reply(OK)
            .reaches([got(""), got("")].concat()),
        Case::new("blank line behind a body")
            .send(
                [b"GET /x HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nab\r\n".as_slice(), &get("")]
                    .concat(),
            )
            .reply(OK)
            .reply(OK)
            .reaches([got("content-length: 2\r\n").as_slice(), b"ab", &got("")].concat()),
        Case::new("space before the line")
            .send(join(&[b" ", &get("")]))
            .reply(BAD_REQUEST)
            .closed()
            .log(CODEC_ERROR),
        Case::new("tab before the line")
            .send(join(&[b"\t", &get("")]))
            .reply(BAD_REQUEST)
            .closed()
            .log(CODEC_ERROR),
    ]);
}

/// The first half of an empty line, in a segment of its own: nothing can be made of it yet, and a proxy that
/// tried to would answer nobody any more.
#[test]
fn empty_lines_in_pieces() {
    let arrived = |bytes: usize| Step::Stat("http.{}.downstream_cx_rx_bytes_total", bytes as u64);
    let split = |name: &str, before: &[u8]| {
        let case = Case::new(name).send(join(&[before, b"\r"])).then(arrived(before.len() + 1));
        case.send(join(&[b"\n", &get("")]))
    };
    let post = b"POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello";
    let posted = b"POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n{X}\r\nhello";
    // As many empty lines as let the reads, 16 KiB each, end between CR and LF.
    let odd_place = join(&[b"\n", &b"\r\n".repeat(8191), b"\r"]);
    run(vec![
        split("CR on a new connection", b"").reply(OK).reaches(got("")),
        split("CR behind CRLF", b"\r\n").reply(OK).reaches(got("")),
        split("CR behind LF", b"\n").reply(OK).reaches(got("")),
        split("CR behind a request", &get(""))
            .reply(OK)
            .reply(OK)
            .reaches(join(&[got("").as_ref(), got("").as_ref()])),
        split("CR behind a body", post).reply(OK).reply(OK).reaches(join(&[posted, got("").as_ref()])),
        Case::new("CR at the end of a read")
            .send(&odd_place)
            .then(arrived(odd_place.len()))
            .send(join(&[b"\n", &get("")]))
            .reply(OK)
            .reaches(got("")),
        Case::new("CR, and no more").send("\r").then(arrived(1)).waits(),
        Case::new("CR, and the end").send("\r").then(arrived(1)).then(Step::FinishWriting).closed(),
        Case::new("served beside them").send(get("")).reply(OK).reaches(got("")),
    ]);
}

#[test]
fn separators() {
    let mut cases = Vec::new();
    for first in ["GET  /x HTTP/1.1", "GET /x  HTTP/1.1", "GET /x HTTP/1.1 ", "GET\t/x\tHTTP/1.1\t"] {
        cases.push(odd(first).send(line(first)).reply(OK).reaches(got("")));
    }
    for (first, log) in [
        ("GET /x y HTTP/1.1", CODEC_ERROR),
        ("GET\x0b/x HTTP/1.1", CHARACTERS),
        ("GET /x\x0bHTTP/1.1", CHARACTERS),
        ("GET", CODEC_ERROR),
        ("GET ", CODEC_ERROR),
        (" /x HTTP/1.1", CODEC_ERROR),
        ("GE T /x HTTP/1.1", CODEC_ERROR),
    ] {
        cases.push(odd(first).send(line(first)).reply(BAD_REQUEST).closed().log(log));
    }
    run(cases);
}

#[test]
fn methods() {
    let mut cases = Vec::new();
    for method in [
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "NOTIFY",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ] {
        let upstream = format!("{method} /x HTTP/1.1\r\nhost: a.test\r\n{{X}}content-length: 0\r\n\r\n");
        cases.push(odd(method).send(line(format!("{method} /x HTTP/1.1"))).reply(OK).reaches(upstream));
    }
    for method in
        ["get", "Get", "FOO", "GETX", "G!T", "G@T", "M-SEARCH", "DESCRIBE", "ANNOUNCE", "FLUSH", "PRI", "Ä"]
    {
        let case = odd(method).send(line(format!("{method} /x HTTP/1.1")));
        cases.push(case.reply(BAD_REQUEST).closed().log(CODEC_ERROR));
    }
    cases.extend([
        odd("G\0T").send(line("G\0T /x HTTP/1.1")).reply(BAD_REQUEST).closed().log(CHARACTERS),
        odd("QUERY without content-type")
            .send(line("QUERY /x HTTP/1.1"))
            .reply(EMPTY_BAD_REQUEST)
            .closed()
            .log("400 - query_missing_content_type")
            .legate_refuses(QUERY, BAD_REQUEST),
        odd("QUERY")
            .send("QUERY /x HTTP/1.1\r\nhost: a.test\r\ncontent-type: a\r\n\r\n")
            .reply(OK)
            .reaches("QUERY /x HTTP/1.1\r\nhost: a.test\r\ncontent-type: a\r\n{X}content-length: 0\r\n\r\n")
            .legate_refuses(QUERY, BAD_REQUEST),
    ]);
    run(cases);
}

#[test]
fn targets() {
    let request = |target: &[u8]| odd(target).send(line(join(&[b"GET ", target, b" HTTP/1.1"])));
    let mut cases = Vec::new();
    for target in [
        "//b.test/y",
        "/a/../b",
        "/a//b",
        "/a/./b/..%2fc",
        "/..",
        "/%00",
        "/%zz",
        "/a\\b",
        "/a%2Fb",
        "/:x",
        "/x?<>\"{}|^`",
        "/<>\"{}|\\^`[]",
        "/?",
    ] {
        let upstream = format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n{{X}}\r\n");
        cases.push(request(target.as_bytes()).reply(OK).reaches(upstream));
    }
    for target in
        ["x", "?q", "#", "b.test:80", "b.test", "[::1]:80", ":path", "/x?a b", "/x\u{e4}", "http://b.test#f"]
    {
        cases.push(request(target.as_bytes()).reply(BAD_REQUEST).closed().log(CODEC_ERROR));
    }
    for target in ["/x\0y", "/x\x7f", "/x\x01"] {
        cases.push(request(target.as_bytes()).reply(BAD_REQUEST).closed().log(CHARACTERS));
    }
    for target in ["*", "http:///y", "http://", "http://b.test:99999/"] {
        cases.push(request(target.as_bytes()).reply(BAD_REQUEST).closed().log(URL));
    }
    for target in ["/x#frag", "/x#", "/x?q#f"] {
        let case = request(target.as_bytes()).reply(EMPTY_BAD_REQUEST).closed();
        cases.push(case.log("400 - path_normalization_failed"));
    }
    cases.push(request(b"/x\xff").reply(BAD_REQUEST).closed().log(CODEC_ERROR));
    cases.push(request(b"ftp://b.test/y").reply(BAD_REQUEST).closed().log("400 DPE http1.invalid_scheme"));
    run(cases);
}

#[test]
fn absolute_targets() {
    let rejected = "HTTP/1.1 404 Not Found\r\n{DS}content-length: 0\r\n\r\n";
    let rejected_log = "404 - absolute_path_rejected";
    let mut cases = vec![
        Case::new("OPTIONS *").send(line("OPTIONS * HTTP/1.1")).reply(rejected).log(rejected_log),
        Case::new("without a path, with a query")
            .send(line("GET http://b.test?q HTTP/1.1"))
            .reply(rejected)
            .log(rejected_log),
        Case::new("not allowed")
            .hcm(json!({"http_protocol_options": {"allow_absolute_url": false}}))
            .send(line("GET http://b.test/y HTTP/1.1"))
            .reply(rejected)
            .log(rejected_log),
        Case::new("OPTIONS http://b.test")
            .send(line("OPTIONS http://b.test HTTP/1.1"))
            .reply(OK)
            .reaches("OPTIONS / HTTP/1.1\r\nhost: b.test\r\n{X}content-length: 0\r\n\r\n"),
    ];
    for (target, path, host) in [
        ("http://b.test/y", "/y", "b.test"),
        ("http://b.test", "/", "b.test"),
        ("https://b.test/y?q", "/y?q", "b.test"),
        ("http://u:p@b.test:81/y", "/y", "b.test:81"),
        ("HTTP://B.TEST/Y", "/Y", "B.TEST"),
        ("http://b.test:80/", "/", "b.test:80"),
        ("http://[::1]/z", "/z", "[::1]"),
        ("http://[1::2:3.4.5.6]:8/z", "/z", "[1::2:3.4.5.6]:8"),
        ("http://@b.test/\"<z>", "/\"<z>", "b.test"),
    ] {
        let upstream = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{{X}}\r\n");
        cases
            .push(Case::new(target).send(line(format!("GET {target} HTTP/1.1"))).reply(OK).reaches(upstream));
    }
    cases.push(
        Case::new("Host does not matter")
            .send("GET http://b.test/ HTTP/1.1\r\nhost: a\"b\r\n\r\n")
            .reply(OK)
            .reaches("GET / HTTP/1.1\r\nhost: b.test\r\n{X}\r\n"),
    );
    run(cases);
}

#[test]
fn absolute_targets_with_bad_authorities() {
    let request = |authority: &str| {
        let request = format!("GET http://{authority}/p HTTP/1.1");
        odd(authority).send(line(request)).reply(BAD_REQUEST).closed()
    };
    let mut cases = Vec::new();
    for authority in ["a\"b<c>", "a\\b", "a^b", "a`b", "a{b", "a|b", "a}b", "a#b", "u\"@a", "a@@b"] {
        cases.push(request(authority).log(CODEC_ERROR));
    }
    for authority in [
        "a_b",
        "a~b",
        "a!b",
        "a$b",
        "a%20b",
        "a&b",
        "a'b",
        "a(b",
        "a)b",
        "a*b",
        "a+b",
        "a,b",
        "a;b",
        "a=b",
        "a[b",
        "a]b",
        "[::1",
        "[zz]",
        "[1::2::3]",
        "[fe80::1%25a]",
        "[]",
        "[::1]a",
        "u@v@a",
        ":80",
        "a:8:9",
        "a:",
    ] {
        cases.push(request(authority).log(URL));
    }
    cases.push(
        odd("ftp+x")
            .send(line("GET ftp+x://a/ HTTP/1.1"))
            .reply(BAD_REQUEST)
            .closed()
            .log("400 DPE http1.invalid_scheme"),
    );
    run(cases);
}

#[test]
fn connect() {
    let refused = "HTTP/1.1 404 Not Found\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n";
    let request = |target: &str| odd(target).send(line(format!("CONNECT {target} HTTP/1.1"))).closed();
    let mut cases = Vec::new();
    for target in ["b.test:80", "[::1]:80"] {
        let case = request(target).reply(refused).log("404 NR route_not_found");
        cases.push(case.then(Step::Stat("http.{}.no_route", 1)));
    }
    for target in [
        "/x",
        "b.test",
        "*",
        "http://b.test/",
        "b.test:443/x",
        "b.test:x",
        "[::1",
        "u@b.test:80",
        "b_test:80",
    ] {
        cases.push(request(target).reply(BAD_REQUEST).log(URL));
    }
    cases.push(request("b\"test:80").reply(BAD_REQUEST).log(CODEC_ERROR));
    let with = |fields: &str| {
        let request = format!("CONNECT b.test:80 HTTP/1.1\r\n{fields}\r\n");
        odd(fields).send(request).closed()
    };
    cases.extend([
        with("").reply(refused).log("404 NR route_not_found"),
        with("content-length: 0\r\n").reply(refused).log("404 NR route_not_found"),
        with("content-length: 3\r\n").reply(BAD_REQUEST).log("400 DPE http1.body_disallowed"),
        with("transfer-encoding: chunked\r\n")
            .reply(NOT_IMPLEMENTED)
            .log("501 DPE http1.invalid_transfer_encoding"),
    ]);
    run(cases);
}

#[test]
fn path_normalization() {
    let request = |target: &str| {
        odd(target)
            .hcm(json!({"normalize_path": true, "merge_slashes": true}))
            .send(line(format!("GET {target} HTTP/1.1")))
    };
    let mut cases = Vec::new();
    for (target, path) in [
        ("/a/../b", "/b"),
        ("/a//b", "/a/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a%2fb", "/a%2fb"),
        ("/..", "/"),
        ("/a\\b", "/a/b"),
        ("/%7Ea", "/~a"),
        ("/%zz", "/%zz"),
        ("//a", "/a"),
        ("/a\"<>^`{|}b?\"<>", "/a%22%3C%3E%5E%60%7B%7C%7Db?\"<>"),
        ("/a/..;/b", "/b"),
        ("/a/b/..;x=1/.;y/c", "/a/c"),
        ("/a/%2e%2e;/b", "/a/..;/b"),
        ("/x?%00", "/x?%00"),
    ] {
        let upstream = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{{X}}\r\n");
        cases.push(request(target).reply(OK).reaches(upstream));
    }
    for target in ["/x#f", "/x%00y", "/%00/..", "http://a/x%00", "http://a/x#f"] {
        let case = request(target).reply(EMPTY_BAD_REQUEST).closed().log("400 - path_normalization_failed");
        cases.push(case.then(Step::Stat("http.{}.downstream_rq_failed_path_normalization", 1)));
    }
    let plain = odd("not asked for").send(line("GET /x%00\"y HTTP/1.1")).reply(OK);
    cases.push(plain.reaches("GET /x%00\"y HTTP/1.1\r\nhost: a.test\r\n{X}\r\n"));
    run(cases);
}

#[test]
fn no_http() {
    let text = |bytes: &[u8]| odd(bytes).send(bytes).reply(BAD_REQUEST).closed().log(CODEC_ERROR);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    run(vec![
        text(b"\0\x01\x02\x03\xff\xfe"),
        text(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0\0\0\0\0\0"),
        text(b"hello world\r\n\r\n"),
        text(preface).hcm(json!({"codec_type": "HTTP1"})),
        Case::new("behind a request")
            .send(join(&[&get(""), b"BAD\r\n\r\n"]))
            .reply(OK)
            .reply(BAD_REQUEST)
            .reaches(got(""))
            .closed(),
        Case::new("behind a direct answer")
            .send(b"GET /direct/empty HTTP/1.1\r\nhost: a\r\n\r\nBAD\r\n\r\n")
            .reply("HTTP/1.1 200 OK\r\n{DS}content-length: 0\r\n\r\n")
            .reply(BAD_REQUEST)
            .closed(),
    ]);
}
