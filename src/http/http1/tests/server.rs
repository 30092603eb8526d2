//! Requests that are served.

use std::rc::Rc;

use super::fixture::*;
use crate::buffer::Buffer;
use crate::config::HeadersWithUnderscoresAction;
use crate::http::http1::Http1Settings;
use crate::http::{Connection, Protocol};
use crate::network::ConnectionCloseType;

fn check(input: &str, expected: &[&str]) {
    check_requests(&Http1Settings::default(), input, expected);
}

#[test]
fn a_head_alone() {
    check(
        "GET /x?y HTTP/1.1\r\nHost: a:1\r\nX-Foo: \t b c \r\nx-empty:\r\nX-FOO: d\r\n\r\n",
        &["new", "GET /x?y {:authority=a:1, x-foo=b c, x-empty=, x-foo=d} end"],
    );
}

#[test]
fn lines_may_end_in_lf_and_empty_lines_in_front_are_skipped() {
    check("\r\n\n\r\nGET / HTTP/1.1\nhost: a\n\n", &["new", "GET / {:authority=a} end"]);
}

#[test]
fn words_of_a_request_line_may_be_any_blanks_apart() {
    for line in ["GET\t/\tHTTP/1.1", "GET  /  HTTP/1.1", "GET / HTTP/1.1 \t"] {
        check(&format!("{line}\r\nhost: a\r\n\r\n"), &["new", "GET / {:authority=a} end"]);
    }
}

#[test]
fn a_head_does_not_end_in_cr_cr_lf() {
    check("GET / HTTP/1.1\r\nhost: a\r\n\r\r\n", &["new"]);
}

#[test]
fn all_that_may_stand_in_a_host() {
    let host = "aZ09-._~!$&'()*+,;=:@[]%";
    let seen = format!("GET / {{:authority={host}}} end");
    check(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), &["new", &seen]);
}

#[test]
fn bytes_beyond_ascii_pass_in_a_value() {
    let input = b"GET / HTTP/1.1\r\nhost: a\r\nx: \xc3\xa9\r\n\r\n";
    let expected = ["new", "GET / {:authority=a, x=\u{e9}} end"];
    check_requests(&Http1Settings::default(), input, &expected);
}

#[test]
fn a_body_with_content_length() {
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world",
        &["new", "POST / {:authority=a, content-length=11}", "data hello world", "end"],
    );
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        &["new", "POST / {:authority=a, content-length=0} end"],
    );
    check(
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        &["new", "GET / {:authority=a, content-length=1}", "data x", "end"],
    );
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n\
    5;name=\"value\"\r\nhello\r\n006\r\n world\r\n0;last\r\nX-One: 1\r\nx-two: 2\r\n\r\n";

#[test]
fn a_chunked_body() {
    let head = "POST / {:authority=a, transfer-encoding=Chunked}";
    let rest = "GET /next HTTP/1.1\r\nhost: b\r\n\r\n";
    let next = ["new", "GET /next {:authority=b} end"];
    // The trailers are read past also when nobody wants them.
    for (enable_trailers, end) in [(false, "end"), (true, "trailers {x-one=1, x-two=2}")] {
        let settings = Http1Settings { enable_trailers, ..Http1Settings::default() };
        let expected = ["new", head, "data hello world", end, next[0], next[1]];
        check_requests(&settings, format!("{CHUNKED}{rest}"), &expected);
    }
}

#[test]
fn a_chunked_body_without_trailers_or_without_anything() {
    let settings = Http1Settings { enable_trailers: true, ..Http1Settings::default() };
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let seen = "POST / {:authority=a, transfer-encoding=chunked}";
    check_requests(&settings, format!("{head}1\r\nx\r\n0\r\n\r\n"), &["new", seen, "data x", "end"]);
    check_requests(&settings, format!("{head}0\r\n\r\n"), &["new", seen, "end"]);
    check_requests(
        &settings,
        format!("{head}A\r\n0123456789\r\n0\r\n\r\n"),
        &["new", seen, "data 0123456789", "end"],
    );
}

#[test]
fn content_length_beside_chunked_is_dropped_where_that_is_allowed() {
    let settings = Http1Settings { allow_chunked_length: true, ..Http1Settings::default() };
    for coding in ["chunked", "Chunked"] {
        let head = format!("POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: {coding}\r\n\r\n");
        let seen = format!("POST / {{transfer-encoding={coding}}}");
        let expected = ["new", &seen, "data x", "end"];
        check_requests(&settings, format!("{head}1\r\nx\r\n0\r\n\r\n"), &expected);
    }
}

#[test]
fn kept_alive_and_pipelined_requests() {
    let one = "POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    let two = "\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let expected = [
        "new",
        "POST /1 {:authority=a, content-length=2}",
        "data hi",
        "end",
        "new",
        "GET /2 {:authority=a} end",
        "new",
        "POST /1 {:authority=a, content-length=2}",
        "data hi",
        "end",
    ];
    check(&format!("{one}{two}"), &expected[..6]);

    let server = Server::new(Http1Settings::default(), LIMITS);
    for text in [one, two, one] {
        server.feed(text);
        assert_eq!(server.link.output(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
    assert_eq!(server.log(), expected);
}

#[test]
fn a_head_of_lf_ends_before_a_head_of_cr_lf() {
    let expected = ["new", "GET /1 {:authority=a} end", "new", "GET /2 {:authority=a} end"];
    let (lf, cr_lf) = ("GET /1 HTTP/1.1\nhost: a\n\n", "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    check(&format!("{lf}{cr_lf}"), &expected);
}

#[test]
fn dispatch_returns_after_each_message() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    let one = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n";
    let two = "POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    let three = "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut data = Buffer::from(format!("{one}{CHUNKED}{two}{three}").as_str());
    for left in [CHUNKED.len() + two.len() + three.len(), two.len() + three.len(), three.len(), 0] {
        server.codec.dispatch(&mut data).unwrap();
        assert_eq!(data.len(), left);
        let log = server.log();
        assert_eq!(log.iter().filter(|entry| *entry == "new").count(), 1, "{log:?}");
        assert!(log.last().unwrap().ends_with("end"), "{log:?}");
        assert!(server.link.output().starts_with("HTTP/1.1 200 OK"));
    }
    server.codec.dispatch(&mut data).unwrap();
    assert!(server.log().is_empty(), "nothing comes of nothing");
}

#[test]
fn a_third_request_must_wait_for_a_response_to_be_taken() {
    let one = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let log = Server::log_of(&Http1Settings::default(), LIMITS, &[one.repeat(3).as_bytes()]);
    let seen = "GET / {:authority=a} end";
    assert_eq!(log, ["new", seen, "new", seen, "new", "error Too many responses queued."]);
}

#[test]
fn a_body_is_passed_on_as_it_comes() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.feed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(server.log(), ["new", "POST / {:authority=a, content-length=4}"]);
    server.feed("ab");
    assert_eq!(server.log(), ["data ab"]);
    server.feed("cd");
    assert_eq!(server.log(), ["data cd", "end"]);
}

#[test]
fn a_large_body_comes_in_order() {
    let body: String = (0..50_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let server = Server::new(Http1Settings::default(), LIMITS);
    let head = "POST / HTTP/1.1\r\nhost: a\r\n";
    server.feed(format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(server.log()[2..], [format!("data {body}"), "end".to_string()]);
    let (one, two) = body.split_at(33_000);
    let chunks = format!("{:x}\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    server.feed(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}"));
    assert_eq!(server.log()[2..], [format!("data {body}"), "end".to_string()]);
}

#[test]
fn the_protocol_is_that_of_the_last_request() {
    let server = Server::new(Http1Settings { accept_http_10: true, ..Http1Settings::default() }, LIMITS);
    assert_eq!(server.codec.protocol(), Protocol::Http11);
    server.feed("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(server.log(), ["new", "GET / {} end"]);
    assert_eq!(server.codec.protocol(), Protocol::Http10);
    server.feed("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(server.codec.protocol(), Protocol::Http11);
    // As Envoy: what is not 1.1 is taken for 1.0, and so is a request line without a version.
    for version in [" HTTP/0.9", " HTTP/2.0", " HTTP/1.2", ""] {
        server.feed(format!("GET /{version}\r\n\r\n").replace("//", "/"));
        assert_eq!(server.codec.protocol(), Protocol::Http10, "{version}");
        server.feed("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    server.feed("GET / HTTP/1.0\r\n\r\n");
    server.feed("BAD\r\n\r\n");
    assert_eq!(server.codec.protocol(), Protocol::Http11); // nothing has said otherwise
}

#[test]
fn an_absolute_url_is_taken_apart() {
    for (url, expected) in [
        ("http://b/c?d", "GET /c?d {:authority=b, x=1, :scheme=http} end"),
        ("HTTP://b:81", "GET / {:authority=b:81, x=1, :scheme=http} end"),
        ("https://u@b/", "GET / {:authority=b, x=1, :scheme=https} end"),
    ] {
        check(&format!("GET {url} HTTP/1.1\r\nhost: a\r\nx: 1\r\n\r\n"), &["new", expected]);
    }
    check("GET http://b/c HTTP/1.1\r\n\r\n", &["new", "GET /c {:authority=b, :scheme=http} end"]);
    let settings = Http1Settings { allow_absolute_url: false, ..Http1Settings::default() };
    let expected = ["new", "GET http://b/c {:authority=a} end"];
    check_requests(&settings, "GET http://b/c HTTP/1.1\r\nhost: a\r\n\r\n", &expected);
}

#[test]
fn other_forms_of_a_target() {
    check("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", &["new", "OPTIONS * {:authority=a} end"]);
    check("OPTIONS *x HTTP/1.1\r\nhost: a\r\n\r\n", &["new", "OPTIONS *x {:authority=a} end"]);
    let connect = "CONNECT  {:authority=b:443}";
    check(
        "CONNECT b:443 HTTP/1.1\r\nhost: a\r\n\r\nany\r\n\r\nbytes",
        &["new", connect, "data any\r\n\r\nbytes"],
    );
    check("CONNECT b:443 HTTP/1.1\r\ncontent-length: 0\r\n\r\n", &["new", connect]);
}

#[test]
fn an_offer_of_h2c_is_removed() {
    let offer = "upgrade: H2C\r\nhttp2-settings: AAM\r\nx: 1\r\n";
    check(
        &format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\n{offer}\r\n"),
        &["new", "GET / {:authority=a, x=1} end"],
    );
    check(
        &format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close, Upgrade\r\n{offer}\r\n"),
        &["new", "GET / {:authority=a, connection=close, x=1} end"],
    );
    check(
        &format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{offer}\r\n"),
        &["new", "GET / {:authority=a, connection=close, upgrade=H2C, http2-settings=AAM, x=1} end"],
    );
}

#[test]
fn behind_an_upgrade_all_belongs_to_the_other_protocol() {
    let request = |fields: &str| {
        format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for, upgrade\r\nupgrade: foo\r\n{fields}\r\nabc\r\n\r\n"
        )
    };
    let seen = |more: &str| {
        format!("GET / {{:authority=a, connection=x-forwarded-for, upgrade, upgrade=foo{more}}}")
    };
    for (fields, more) in [("", ""), ("content-length: 1\r\n", ", content-length=1")] {
        check(&request(fields), &["new", &seen(more), "data abc\r\n\r\n"]);
    }
}

#[test]
fn fields_with_underscores_are_dropped_where_that_is_asked_for() {
    let action = HeadersWithUnderscoresAction::DropHeader;
    let settings = Http1Settings {
        headers_with_underscores_action: action,
        enable_trailers: true,
        ..Http1Settings::default()
    };
    check_requests(
        &settings,
        "POST / HTTP/1.1\r\nhost: a\r\n_: 0\r\na_b: 1\r\nx: 2\r\na_b: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\nc_d: 4\r\ny: 5\r\n\r\n",
        &["new", "POST / {:authority=a, x=2, transfer-encoding=chunked}", "trailers {y=5}"],
    );
}

#[test]
fn the_empty_line_behind_chunks_may_end_in_lf() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let next = "GET /next HTTP/1.1\r\nhost: b\r\n\r\n";
    let seen = "POST / {:authority=a, transfer-encoding=chunked}";
    check(
        &format!("{head}1\r\nx\r\n0\r\n\n{next}"),
        &["new", seen, "data x", "end", "new", "GET /next {:authority=b} end"],
    );
}

#[test]
fn a_short_head_behind_long_trailers() {
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let trailers = format!("0\r\nx: {}\r\n\r\n", "y".repeat(50));
    check(
        &format!("{head}{trailers}GET / HTTP/1.1\r\n\r\n"),
        &["new", "POST / {transfer-encoding=chunked}", "end", "new", "GET / {} end"],
    );
}

#[test]
fn nothing_is_passed_on_once_the_connection_is_closed() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    let connection = Rc::downgrade(&server.link.connection);
    server.on_head(move || connection.upgrade().unwrap().close(ConnectionCloseType::NoFlush));
    let mut data = Buffer::from("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
    server.codec.dispatch(&mut data).unwrap();
    assert_eq!(server.log(), ["new", "POST / {:authority=a, content-length=4}"]);
}
