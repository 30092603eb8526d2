//! Responses that are read.

use super::fixture::*;
use crate::buffer::Buffer;
use crate::http::http1::HeadLimits;
use crate::http::{CodecError, Connection, Protocol};

/// Checks, for every way of splitting `input`, what is told of a response to `method`; with `ended`,
/// of what comes when the upstream has ended its side behind it, too.
fn check_response(method: &str, enable_trailers: bool, input: &[u8], ended: bool, expected: &[&str]) {
    for pieces in splits(input) {
        let client = Client::new(LIMITS, enable_trailers);
        client.request(method);
        for piece in &pieces {
            client.feed(piece);
        }
        if ended {
            client.feed_end();
        }
        assert_eq!(client.log(), expected, "{} in {} pieces", input.escape_ascii(), pieces.len());
    }
}

/// The same, with the connection kept.
fn check(method: &str, input: impl AsRef<[u8]>, expected: &[&str]) {
    check_response(method, false, input.as_ref(), false, expected);
}

/// The same, with the connection ended by the upstream.
fn check_ended(input: impl AsRef<[u8]>, expected: &[&str]) {
    check_response("GET", false, input.as_ref(), true, expected);
}

/// A head whose end is the end of its response.
fn check_head_only(method: &str, status_and_fields: &str, expected: &str) {
    check(method, format!("HTTP/1.1 {status_and_fields}\r\n\r\n"), &[expected]);
}

#[test]
fn a_body_with_content_length() {
    check(
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: \t 1 \r\n\r\nhello",
        &["200 {content-length=5, x-a=1}", "data hello", "end"],
    );
    check_head_only("GET", "200 OK\r\ncontent-length: 0", "200 {content-length=0} end");
}

#[test]
fn a_chunked_body() {
    let head = "200 {transfer-encoding=chunked}";
    let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
        5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n";
    check_response("GET", false, text.as_bytes(), false, &[head, "data hello world", "end"]);
    check_response("GET", true, text.as_bytes(), false, &[head, "data hello world", "trailers {x-t=1}"]);
    let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    check_response("GET", true, text.as_bytes(), false, &[head, "data x", "end"]);
}

#[test]
fn responses_without_a_body() {
    check_head_only("HEAD", "200 OK\r\ncontent-length: 5", "200 {content-length=5} end");
    check_head_only("HEAD", "200 OK\r\ntransfer-encoding: chunked", "200 {transfer-encoding=chunked} end");
    check_head_only("HEAD", "200 OK", "200 {} end");
    check_head_only("GET", "204 No Content", "204 {} end");
    check_head_only("GET", "204 No Content\r\ncontent-length: 0", "204 {} end");
    check_head_only("GET", "304 Not Modified\r\ncontent-length: 5", "304 {content-length=5} end");
    check_head_only("GET", "304 Not Modified", "304 {} end");
    check_head_only("GET", "101 Switching Protocols\r\nupgrade: x", "101 {upgrade=x} end");
}

/// A client that has asked for another protocol.
fn upgrading() -> Client {
    let client = Client::new(LIMITS, false);
    let fields = [("connection", "upgrade"), ("upgrade", "x"), (":method", "GET"), (":path", "/")];
    let encoder = client.new_stream();
    encoder.encode_headers(&head(&fields), false);
    encoder.encode_data(&mut Buffer::from("hello"), false);
    assert!(client.link.output().ends_with("\r\n\r\nhello"), "no chunk");
    client
}

#[test]
fn behind_a_101_that_was_asked_for_all_belongs_to_the_other_protocol() {
    let input = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    for pieces in splits(input.as_bytes()) {
        let client = upgrading();
        pieces.iter().for_each(|piece| client.feed(piece));
        let tunnel = ["101 {connection=upgrade, upgrade=x}", "data HTTP/1.1 200 OK\r\n\r\n"];
        assert_eq!(client.log(), tunnel, "in {} pieces", pieces.len());
        client.feed_end();
        assert_eq!(client.log(), [""; 0], "no message ends there");
    }
}

#[test]
fn behind_a_connect_that_was_granted_all_belongs_to_the_tunnel() {
    for (status, becomes_tunnel) in [("200 OK", true), ("204 No Content", true), ("403 Forbidden", false)] {
        let client = Client::new(LIMITS, false);
        let encoder = client.new_stream();
        encoder.encode_headers(&head(&[(":method", "CONNECT"), (":authority", "h:80")]), false);
        assert_eq!(client.link.output(), "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n");
        client.feed(format!("HTTP/1.1 {status}\r\n\r\nhi"));
        assert_eq!(client.log()[1], "data hi");
        client.feed_end();
        assert_eq!(client.log().is_empty(), becomes_tunnel, "{status}");
    }
}

#[test]
fn another_protocol_may_be_asked_for_in_vain() {
    let client = upgrading();
    client.feed("HTTP/1.1 200 OK\r\nupgrade: x\r\ncontent-length: 2\r\n\r\nno");
    assert_eq!(client.log(), ["200 {upgrade=x, content-length=2}", "data no", "end"]);
}

#[test]
fn status_lines() {
    for (line, expected) in [
        ("HTTP/1.1 200", "200 {content-length=0} end"),
        ("HTTP/1.1 200 ", "200 {content-length=0} end"),
        ("HTTP/1.1 999 What Ever \t\u{e9}", "999 {content-length=0} end"),
        ("HTTP/1.0 404 not found", "404 {content-length=0} end"),
    ] {
        check("GET", format!("{line}\r\ncontent-length: 0\r\n\r\n"), &[expected]);
        check("GET", format!("{line}\ncontent-length: 0\n\n"), &[expected]);
    }
}

#[test]
fn informational_heads_before_the_response() {
    check(
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        &["1xx 100 {}", "1xx 103 {link=</a>}", "200 {content-length=1}", "data x", "end"],
    );
    check(
        "HEAD",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
        &["1xx 100 {}", "200 {content-length=1} end"],
    );
    // Framing fields have no place there, but for a length of 0.
    check(
        "GET",
        "HTTP/1.1 103 X\r\ncontent-length: 0\r\na: b\r\n\r\nHTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n",
        &["1xx 103 {a=b}", "204 {} end"],
    );
    for status in ["100", "101", "103", "199", "204"] {
        for (field, what) in [
            ("content-length: 1", "content length not allowed in 1xx or 204"),
            ("content-length: 00", "content length not allowed in 1xx or 204"),
            ("transfer-encoding: chunked", "transfer encoding not allowed in 1xx or 204"),
        ] {
            let error = format!("error http/1.1 protocol error: {what}");
            check("GET", format!("HTTP/1.1 {status} X\r\n{field}\r\n\r\n"), &[&error]);
        }
    }
}

#[test]
fn a_body_that_lasts_until_the_end_of_the_connection() {
    for version in ["1.0", "1.1"] {
        let text = format!("HTTP/{version} 200 OK\r\nx: 1\r\n\r\nhello\r\n\r\nHTTP/1.1 200");
        check("GET", &text, &["200 {x=1}", "data hello\r\n\r\nHTTP/1.1 200"]);
        check_ended(&text, &["200 {x=1}", "data hello\r\n\r\nHTTP/1.1 200", "end"]);
        check_ended(format!("HTTP/{version} 200 OK\r\n\r\n"), &["200 {}", "end"]);
    }
}

#[test]
fn a_response_cut_off_is_an_error() {
    let eof = "error http/1.1 protocol error: HPE_INVALID_EOF_STATE";
    check_ended(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        &["200 {content-length=3}", "data ab", eof],
    );
    check_ended("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", &["200 {content-length=3}", eof]);
    check_ended("HTTP/1.1 200 OK\r\nx: ", &[eof]);
    check_ended("H", &[eof]);
    check_ended("HTTP/1.1 100 Continue\r\n\r\nHTTP", &["1xx 100 {}", eof]);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let seen = "200 {transfer-encoding=chunked}";
    check_ended(chunked, &[seen, eof]);
    for rest in ["2\r\nab", "2\r\nab\r\n", "2\r\nab\r\n0", "2\r\nab\r\n0\r\n", "2\r\nab\r\n0\r\nx: 1\r\n"] {
        check_ended(format!("{chunked}{rest}"), &[seen, "data ab", eof]);
    }
}

#[test]
fn the_end_of_an_idle_or_unanswered_connection_is_no_error() {
    let client = Client::new(LIMITS, false);
    client.feed_end();
    assert!(client.log().is_empty());
    let client = Client::new(LIMITS, false);
    client.request("GET");
    client.feed_end();
    assert!(client.log().is_empty());
    let client = Client::new(LIMITS, false);
    client.request("GET");
    client.feed("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
    client.log();
    client.feed_end();
    assert!(client.log().is_empty());
}

#[test]
fn a_connection_is_used_again() {
    let client = Client::new(LIMITS, true);
    for (method, text, expected) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
            &["200 {content-length=1}", "data x", "end"][..],
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", &["200 {content-length=1} end"]),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nt: 1\r\n\r\n",
            &["200 {transfer-encoding=chunked}", "data x", "trailers {t=1}"],
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", &["304 {} end"]),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nx", &["200 {}", "data x"]),
    ] {
        client.request(method);
        client.feed(text);
        assert_eq!(client.log(), expected);
    }
}

#[test]
fn the_protocol_is_that_of_the_last_response() {
    let client = Client::new(LIMITS, false);
    assert_eq!(client.codec.protocol(), Protocol::Http11);
    for (version, protocol) in [("1.0", Protocol::Http10), ("1.1", Protocol::Http11)] {
        client.request("GET");
        client.feed(format!("HTTP/{version} 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(client.codec.protocol(), protocol);
    }
}

/// Checks that `input` is refused, and told of as `before` up to there.
fn refused(input: &str, before: &[&str]) {
    for pieces in splits(input.as_bytes()) {
        let client = Client::new(LIMITS, false);
        client.request("GET");
        for piece in &pieces {
            client.feed(piece);
        }
        let log = client.log();
        let (last, rest) = log.split_last().unwrap_or_else(|| panic!("{input:?} passed"));
        assert!(last.starts_with("error http/1.1 protocol error: "), "{input:?}: {log:?}");
        assert!(is_up_to_an_error(rest, before), "{input:?}: {log:?}");
    }
}

#[test]
fn heads_that_are_refused() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1",
        "HTTP/1 200 OK",
        "HTTP/x.1 200 OK",
        "HTTPS/1.1 200 OK",
        "ICY 200 OK",
        "\r\nHTTP/1.1 200 OK",
        " HTTP/1.1 200 OK",
    ] {
        refused(&format!("{line}\r\ncontent-length: 0\r\n\r\n"), &[]);
    }
    for fields in [
        "x : 1",
        "x",
        ": 1",
        "x: a\0b",
        "x: a\rb",
        "x: a\r\n b",
        "content-length: 1\r\ncontent-length: 2",
        "content-length: 1\r\ncontent-length: 1",
        "content-length: x",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip",
        "transfer-encoding: gzip, chunked",
    ] {
        refused(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), &[]);
    }
    refused("HTTP/1.1 204 No Content\r\ncontent-length: 1\r\n\r\n", &[]);
    refused("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", &[]);
    refused("HTTP/1.1 100 Continue\r\ncontent-length: 1\r\n\r\n", &[]);
    refused("HTTP/1.1 100 Continue\r\ntransfer-encoding: chunked\r\n\r\n", &[]);
}

#[test]
fn nothing_but_a_response_is_waited_for() {
    for start in ["x", " ", "\n", "\0", "h"] {
        let client = Client::new(LIMITS, false);
        client.request("GET");
        client.feed(start);
        assert_eq!(client.log(), ["error http/1.1 protocol error: HPE_INVALID_CONSTANT"], "{start:?}");
    }
}

#[test]
fn the_end_of_a_head_too_large_is_not_waited_for() {
    let text = "HTTP/1.1 200 OK\r\nx: 1";
    for (max_bytes, refused) in [(text.len(), true), (text.len() + 1, false)] {
        let client = Client::new(HeadLimits { max_bytes, max_count: 100 }, false);
        client.request("GET");
        client.feed(text);
        let expected: &[&str] =
            if refused { &["error http/1.1 protocol error: headers size exceeds limit"] } else { &[] };
        assert_eq!(client.log(), expected);
    }
}

#[test]
fn bodies_that_are_refused() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let seen = "200 {transfer-encoding=chunked}";
    for bad in ["x\r\n", "\r\n", "5 5\r\n", "10000000000000000\r\n"] {
        refused(&format!("{head}{bad}"), &[seen]);
    }
    for bad in ["2\r\nabc", "2\r\nab\n0\r\n\r\n", "2\r\nab\r\n0\r\nx : 1\r\n\r\n"] {
        let data = "data ab";
        refused(&format!("{head}{bad}"), &[seen, data]);
    }
}

#[test]
fn heads_up_to_their_limits() {
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: 1\r\n\r\n";
    for (max_bytes, max_count, error) in [
        (text.len(), 2, None),
        (text.len() - 1, 2, Some("headers size exceeds limit")),
        (text.len(), 1, Some("headers count exceeds limit")),
    ] {
        for pieces in splits(text.as_bytes()) {
            let client = Client::new(HeadLimits { max_bytes, max_count }, false);
            client.request("GET");
            for piece in &pieces {
                client.feed(piece);
            }
            let expected = match error {
                None => "200 {content-length=0, x=1} end".to_string(),
                Some(text) => format!("error http/1.1 protocol error: {text}"),
            };
            assert_eq!(client.log(), [expected]);
        }
    }
}

#[test]
fn a_response_that_nobody_asked_for() {
    let farewell = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: Close\r\n\r\n";
    for (text, expected) in [
        (farewell, "error premature 408"),
        (&farewell.replace("connection: Close\r\n", ""), "error premature 408"),
        (&farewell.replace("408", "200"), "error premature response"),
        ("HTTP/1.1 408 Request", "error premature response"),
        ("x", "error premature response"),
    ] {
        let client = Client::new(LIMITS, false);
        client.feed(text);
        assert_eq!(client.log(), [expected], "{text:?} before any request");
        let client = Client::new(LIMITS, false);
        client.request("GET");
        client.feed("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.log(), ["200 {content-length=0} end"]);
        client.feed(text);
        assert_eq!(client.log(), [expected], "{text:?} behind a response");
    }
}

#[test]
fn what_is_premature_is_dropped() {
    let client = Client::new(LIMITS, false);
    let mut data = Buffer::from("HTTP/1.1 200 OK\r\n\r\nx");
    let error = client.codec.dispatch(&mut data).unwrap_err();
    assert_eq!(error, CodecError::PrematureResponse { idle_timeout: false });
    assert!(data.is_empty());
}

#[test]
fn bytes_behind_a_complete_response_are_premature() {
    check(
        "GET",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy",
        &["200 {content-length=1}", "data x", "end", "error premature response"],
    );
    check("HEAD", "HTTP/1.1 200 OK\r\n\r\nx", &["200 {} end", "error premature response"]);
    check("GET", "HTTP/1.1 304 Not Modified\r\n\r\nx", &["304 {} end", "error premature response"]);
}
