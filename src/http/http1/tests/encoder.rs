//! What is written.

use super::fixture::*;
use crate::buffer::Buffer;
use crate::config::HeadersWithUnderscoresAction;
use crate::http::StreamEncoder;
use crate::http::http1::Http1Settings;

const HTTP_10: Http1Settings = Http1Settings {
    allow_absolute_url: true,
    validate_scheme: false,
    accept_http_10: true,
    default_host_for_http_10: String::new(),
    enable_trailers: false,
    allow_chunked_length: false,
    ignore_http_11_upgrade: Vec::new(),
    header_key_format: None,
    headers_with_underscores_action: HeadersWithUnderscoresAction::Allow,
};

/// What `answer` writes to a request of `method` and `version`.
fn answered(
    settings: &Http1Settings,
    (method, version): (&str, &str),
    answer: impl Fn(&dyn StreamEncoder) + 'static,
) -> String {
    let server = Server::new(settings.clone(), LIMITS);
    server.answer_with(answer);
    server.feed(format!("{method} / HTTP/{version}\r\nhost: a\r\n\r\n"));
    server.link.output()
}

/// A response head alone, to `method`.
fn head_only(method: &str, fields: &'static [(&str, &str)]) -> String {
    answered(&Http1Settings::default(), (method, "1.1"), |encoder| {
        encoder.encode_headers(&head(fields), true)
    })
}

/// A response of `fields` and the body "hello, world" in two pieces.
fn with_body(settings: &Http1Settings, version: &str, fields: &'static [(&str, &str)]) -> String {
    answered(settings, ("GET", version), |encoder| {
        encoder.encode_headers(&head(fields), false);
        encoder.encode_data(&mut Buffer::from("hello, wor"), false);
        encoder.encode_data(&mut Buffer::from("ld"), true);
    })
}

#[test]
fn a_response_head_alone() {
    for (method, fields, expected) in [
        ("GET", &[(":status", "200")][..], "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (
            "GET",
            &[(":status", "404"), ("x-a", "1"), ("x-a", "2")],
            "HTTP/1.1 404 Not Found\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "GET",
            &[("content-length", "0"), (":status", "200"), (":other", "x")],
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ),
        ("GET", &[(":status", "299")], "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n"),
        ("GET", &[(":status", "204")], "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", &[(":status", "304")], "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (
            "GET",
            &[(":status", "304"), ("content-length", "5")],
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        ),
        ("GET", &[(":status", "101")], "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ] {
        assert_eq!(head_only(method, fields), expected);
    }
}

#[test]
fn the_answer_to_a_head_request_has_no_body() {
    for (fields, expected) in [
        (&[(":status", "200")][..], "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (&[(":status", "200"), ("content-length", "5")], "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (&[(":status", "204")], "HTTP/1.1 204 No Content\r\n\r\n"),
        (&[(":status", "304")], "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ] {
        assert_eq!(head_only("HEAD", fields), expected);
    }
    // Nor when the end comes later.
    let late = answered(&Http1Settings::default(), ("HEAD", "1.1"), |encoder| {
        encoder.encode_headers(&head(&[(":status", "200")]), false);
        encoder.encode_data(&mut Buffer::new(), true);
    });
    assert_eq!(late, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
}

#[test]
fn a_response_body() {
    let settings = Http1Settings::default();
    assert_eq!(
        with_body(&settings, "1.1", &[(":status", "200")]),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhello, wor\r\n2\r\nld\r\n0\r\n\r\n"
    );
    assert_eq!(
        with_body(&settings, "1.1", &[(":status", "200"), ("content-length", "12")]),
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world"
    );
}

#[test]
fn an_empty_piece_is_no_chunk() {
    let output = answered(&Http1Settings::default(), ("GET", "1.1"), |encoder| {
        encoder.encode_headers(&head(&[(":status", "200")]), false);
        encoder.encode_data(&mut Buffer::new(), false);
        encoder.encode_data(&mut Buffer::from("x"), false);
        encoder.encode_data(&mut Buffer::new(), true);
    });
    assert_eq!(output, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
}

#[test]
fn the_size_of_a_chunk_is_hexadecimal() {
    let output = answered(&Http1Settings::default(), ("GET", "1.1"), |encoder| {
        encoder.encode_headers(&head(&[(":status", "200")]), false);
        encoder.encode_data(&mut Buffer::from("y".repeat(0xabcd).as_str()), true);
    });
    let (_, body) = output.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, format!("abcd\r\n{}\r\n0\r\n\r\n", "y".repeat(0xabcd)));
}

#[test]
fn trailers_are_written_behind_chunks_where_enabled() {
    for (enable_trailers, length, end) in [
        (true, None, "1\r\nx\r\n0\r\nx-t: 1\r\nx-u: 2\r\n\r\n"),
        (false, None, "1\r\nx\r\n0\r\n\r\n"),
        (true, Some(("content-length", "1")), "x"),
    ] {
        let settings = Http1Settings { enable_trailers, ..Http1Settings::default() };
        let output = answered(&settings, ("GET", "1.1"), move |encoder| {
            let fields: Vec<_> = [(":status", "200")].into_iter().chain(length).collect();
            encoder.encode_headers(&head(&fields), false);
            encoder.encode_data(&mut Buffer::from("x"), false);
            encoder.encode_trailers(&head(&[("x-t", "1"), ("x-u", "2")]));
        });
        let (_, body) = output.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, end);
    }
}

#[test]
fn http_10_has_no_chunks_and_its_own_status_line_where_accepted() {
    assert_eq!(with_body(&HTTP_10, "1.0", &[(":status", "200")]), "HTTP/1.0 200 OK\r\n\r\nhello, world");
    assert_eq!(
        with_body(&HTTP_10, "1.0", &[(":status", "200"), ("content-length", "12")]),
        "HTTP/1.0 200 OK\r\ncontent-length: 12\r\n\r\nhello, world"
    );
    let empty = |encoder: &dyn StreamEncoder| encoder.encode_headers(&head(&[(":status", "200")]), true);
    assert_eq!(answered(&HTTP_10, ("GET", "1.0"), empty), "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(answered(&HTTP_10, ("HEAD", "1.0"), empty), "HTTP/1.0 200 OK\r\n\r\n");
    assert_eq!(answered(&HTTP_10, ("GET", "1.1"), empty), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn informational_heads_come_before_the_response() {
    let answer = |encoder: &dyn StreamEncoder| {
        encoder.encode_1xx_headers(&head(&[(":status", "100")]));
        encoder.encode_1xx_headers(&head(&[(":status", "103"), ("link", "</a>")]));
        encoder.encode_headers(&head(&[(":status", "200")]), false);
        encoder.encode_data(&mut Buffer::from("x"), true);
    };
    assert_eq!(
        answered(&Http1Settings::default(), ("GET", "1.1"), answer),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Unknown\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    );
}

#[test]
fn informational_heads_to_http_10_where_accepted() {
    let answer = |encoder: &dyn StreamEncoder| {
        encoder.encode_1xx_headers(&head(&[(":status", "100")]));
        encoder.encode_headers(&head(&[(":status", "200")]), true);
    };
    let end = "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answered(&HTTP_10, ("GET", "1.0"), answer), format!("HTTP/1.0 100 Continue\r\n\r\n{end}"));
}

#[test]
fn framing_is_decided_anew_for_each_response() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (method, expected) in [
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    ] {
        server.answer_with(move |encoder| {
            let head = head(&[(":status", "200")]);
            encoder.encode_headers(&head, method == "HEAD");
            if method != "HEAD" {
                encoder.encode_data(&mut Buffer::from("x"), true);
            }
        });
        server.feed(request.replace("GET", method));
        assert_eq!(server.link.output(), expected);
    }
}

/// What a request of `fields` looks like, with `body` behind it.
fn requested(fields: &[(&str, &str)], body: Option<&str>) -> String {
    let client = Client::new(LIMITS, false);
    let encoder = client.new_stream();
    encoder.encode_headers(&head(fields), body.is_none());
    if let Some(body) = body {
        encoder.encode_data(&mut Buffer::from(body), true);
    }
    client.link.output()
}

#[test]
fn a_request_head_alone() {
    for method in ["GET", "HEAD", "DELETE", "TRACE"] {
        let text = requested(&[(":method", method), (":path", "/x?y")], None);
        assert_eq!(text, format!("{method} /x?y HTTP/1.1\r\n\r\n"));
    }
    for method in ["POST", "PUT", "PATCH", "OPTIONS", "PROPFIND"] {
        let text = requested(&[(":method", method), (":path", "/")], None);
        assert_eq!(text, format!("{method} / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"));
    }
    // The host comes first, whatever the order of the fields.
    assert_eq!(
        requested(
            &[("x", "1"), (":path", "/"), (":scheme", "http"), (":method", "GET"), (":authority", "a:1")],
            None
        ),
        "GET / HTTP/1.1\r\nhost: a:1\r\nx: 1\r\n\r\n"
    );
}

#[test]
fn a_request_body() {
    for method in ["GET", "POST"] {
        assert_eq!(
            requested(&[(":method", method), (":path", "/")], Some("hello")),
            format!("{method} / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        );
        assert_eq!(
            requested(&[(":method", method), (":path", "/"), ("content-length", "5")], Some("hello")),
            format!("{method} / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello")
        );
    }
}

#[test]
fn request_trailers() {
    for (enable_trailers, end) in [(true, "0\r\nx: 1\r\n\r\n"), (false, "0\r\n\r\n")] {
        let client = Client::new(LIMITS, enable_trailers);
        let encoder = client.new_stream();
        encoder.encode_headers(&head(&[(":method", "PUT"), (":path", "/")]), false);
        encoder.encode_trailers(&head(&[("x", "1")]));
        assert_eq!(
            client.link.output(),
            format!("PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{end}")
        );
    }
}
