//! Requests that are refused.

use super::fixture::*;
use crate::buffer::Buffer;
use crate::config::HeadersWithUnderscoresAction;
use crate::http::Connection;
use crate::http::codes::status_phrase;
use crate::http::http1::{HeadLimits, Http1Settings};

/// Checks for every way of splitting `input` that the codec asks for a reply of `status` with
/// `details`, fails, and that nothing but `before` came before.
fn refused_after(
    settings: &Http1Settings,
    limits: HeadLimits,
    input: &[u8],
    before: &[&str],
    (status, details): (u16, &str),
) {
    let reply = format!("reply {status} {} {details}", status_phrase(status));
    for pieces in splits(input) {
        let log = Server::log_of(settings, limits, &pieces);
        let context = format!("{} in {} pieces: {log:?}", input.escape_ascii(), pieces.len());
        let (last, rest) = log.split_last().expect(&context);
        let text = match details {
            "low_version" => "error Upgrade required for HTTP/1.0 or HTTP/0.9",
            "http1.connection_header_rejected" => "error Invalid nominated headers in Connection.",
            _ => "error http/1.1 protocol error: ",
        };
        assert!(last.starts_with(text), "{context}");
        let (asked, rest) = rest.split_last().expect(&context);
        assert_eq!(*asked, reply, "{context}");
        assert!(is_up_to_an_error(rest, before), "{context}");
    }
}

fn refused(input: impl AsRef<[u8]>, status: u16, details: &str) {
    refused_after(&Http1Settings::default(), LIMITS, input.as_ref(), &["new"], (status, details));
}

const ERROR: &str = "http1.codec_error";
const CHARACTERS: &str = "http1.invalid_characters";
const URL: &str = "http1.invalid_url";

#[test]
fn two_ways_of_framing() {
    let both = "http1.content_length_and_chunked_not_allowed";
    refused(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
        both,
    );
    refused(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n",
        400,
        both,
    );
    let two = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: ";
    refused(format!("{two}4\r\n\r\nabc"), 400, ERROR);
    refused(format!("{two}3\r\n\r\nabc"), 400, ERROR);
    refused(format!("{two}\r\n\r\nabc"), 400, ERROR);
    refused("POST / HTTP/1.1\r\ncontent-length:\r\nContent-Length: 3\r\n\r\nabc", 400, ERROR);
}

#[test]
fn content_lengths_that_are_none() {
    for length in ["", "+3", "-3", "3 3", "0x3", "3,3", "3.0", "18446744073709551616", "\u{b2}"] {
        let input = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\nabc");
        refused(input, 400, ERROR);
    }
}

#[test]
fn transfer_codings_other_than_chunked() {
    for coding in ["gzip", "identity", "gzip, chunked", "chunked, chunked", "chunked;x=y", "xchunked", ""] {
        let input = format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n");
        refused(input, 501, "http1.invalid_transfer_encoding");
    }
    let twice = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n";
    refused(twice, 501, "http1.invalid_transfer_encoding");
    for (first, second) in [("chunked", ""), ("", "chunked"), ("", "")] {
        let input =
            format!("POST / HTTP/1.1\r\ntransfer-encoding: {first}\r\nTransfer-Encoding: {second}\r\n\r\n");
        refused(input, 501, "http1.invalid_transfer_encoding");
    }
    // Also where a Content-Length beside chunked is allowed.
    let settings = Http1Settings { allow_chunked_length: true, ..Http1Settings::default() };
    refused_after(
        &settings,
        LIMITS,
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        &["new"],
        (400, "http1.content_length_and_chunked_not_allowed"),
    );
}

#[test]
fn request_lines() {
    for line in [
        "FOO / HTTP/1.1",
        "GETX / HTTP/1.1",
        "get / HTTP/1.1",
        "G@T / HTTP/1.1",
        "1 / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.x",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTP1.1",
        "GET / ICE/1.1",
        "GET / / HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET",
        "GET /\u{e9} HTTP/1.1",
        "GET /\r/ HTTP/1.1",
    ] {
        refused(format!("{line}\r\nhost: a\r\n\r\n"), 400, ERROR);
    }
    for line in ["GET /\0 HTTP/1.1", "GET /\u{7f} HTTP/1.1"] {
        refused(format!("{line}\r\nhost: a\r\n\r\n"), 400, CHARACTERS);
    }
}

#[test]
fn targets_of_no_known_form() {
    for (line, details) in [
        ("GET x", ERROR),
        ("GET a:80", ERROR),
        ("POST ?x", ERROR),
        ("GET http://a#b", ERROR),
        ("GET http://a\"b<c>/p", ERROR),
        ("GET http://u\"@a/", ERROR),
        ("GET ftp://a^b/", ERROR),
        ("CONNECT a{b:80", ERROR),
        ("GET *", URL),
        ("GET *x", URL),
        ("GET http://a_b/", URL),
        ("GET http://a%20b/", URL),
        ("GET http://[::1/", URL),
        ("GET http://u@v@a/", URL),
        ("GET ftp://a_b/", URL),
        ("CONNECT /x", URL),
        ("CONNECT *", URL),
        ("CONNECT a_b:80", URL),
        ("GET http:///x", URL),
        ("GET http://a:x/", URL),
        ("CONNECT a", URL),
        ("CONNECT http://a/", URL),
        ("GET ftp://a/", "http1.invalid_scheme"),
        ("GET ftp+x-.1://a/", "http1.invalid_scheme"),
    ] {
        refused(format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n"), 400, details);
    }
}

#[test]
fn heads_that_are_sound_but_not_taken() {
    let head = |line: &str, fields: &str| format!("{line}\r\n{fields}\r\n");
    let (get, old) = ("GET / HTTP/1.1", "GET / HTTP/1.0");
    for (line, fields, status, details) in [
        (old, "host: a\r\n", 426, "low_version"),
        ("GET / HTTP/1.2", "host: a\r\n", 426, "low_version"),
        (old, "host: a\"b\r\nexpect: 100-continue\r\n", 426, "low_version"),
        (get, "host: a\"b\r\n", 400, "http.invalid_authority"),
        (get, "connection: x-forwarded-for\r\n", 400, "http1.connection_header_rejected"),
        (old, "connection: x-forwarded-for\r\n", 400, "http1.connection_header_rejected"),
        ("CONNECT a:80 HTTP/1.1", "content-length: 3\r\n", 400, "http1.body_disallowed"),
        ("CONNECT a:80 HTTP/1.1", "transfer-encoding: chunked\r\n", 501, "http1.invalid_transfer_encoding"),
    ] {
        refused(head(line, fields), status, details);
    }
    let action = HeadersWithUnderscoresAction::RejectRequest;
    let settings = Http1Settings { headers_with_underscores_action: action, ..Http1Settings::default() };
    let input = head(old, "host: a\r\na_b: 1\r\n");
    let underscore = (400, "http1.unexpected_underscore");
    refused_after(&settings, LIMITS, input.as_bytes(), &["new"], underscore);
}

#[test]
fn fields() {
    for field in [
        "x : a",
        "x\t: a",
        ": a",
        "x",
        "x y: a",
        "x(y: a",
        "\u{e9}: a",
        "x: a\r\n b",
        "x: a\r\n\tb",
        " x: a",
        "x: a\rb",
        "x: a\r\r\ny: b",
        "x: a\r",
        "host: a",
        "Host: b",
    ] {
        refused(format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n"), 400, ERROR);
    }
    for field in ["x: a\0b", "x\0: a", "x: a\u{7f}", "x: a\u{1}"] {
        refused(format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n"), 400, CHARACTERS);
    }
    // The first line of the block as well: nothing can be continued there.
    refused("GET / HTTP/1.1\r\n host: a\r\n\r\n", 400, ERROR);
    for host in ["a/b", "a b", "a\\b", "a\"", "a<b"] {
        refused(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), 400, "http.invalid_authority");
    }
}

#[test]
fn chunks() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let seen = "POST / {:authority=a, transfer-encoding=chunked}";
    let settings = Http1Settings::default();
    for size in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "0x5\r\n",
        "5 5\r\n",
        "5\n",
        ";x\r\n",
        "5\rxhello\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "5;\0\r\n",
    ] {
        let input = format!("{head}{size}");
        refused_after(&settings, LIMITS, input.as_bytes(), &["new", seen], (400, ERROR));
    }
    for rest in ["x\r\n0\r\n\r\n", "\rx0\r\n\r\n", "\n0\r\n\r\n", "\r0\r\n\r\n", "0\r\n\r\n"] {
        let input = format!("{head}5\r\nhello{rest}");
        let before = ["new", seen, "data hello"];
        refused_after(&settings, LIMITS, input.as_bytes(), &before, (400, ERROR));
    }
}

#[test]
fn trailers() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
    let before = ["new", "POST / {:authority=a, transfer-encoding=chunked}", "data x"];
    for enable_trailers in [false, true] {
        let settings = Http1Settings { enable_trailers, ..Http1Settings::default() };
        for (bad, details) in [
            ("x : a", ERROR),
            ("x", ERROR),
            ("x: a\r\n b", ERROR),
            ("x: a\rb", ERROR),
            (": a", ERROR),
            ("x: \0", CHARACTERS),
        ] {
            let input = format!("{head}{bad}\r\n\r\n");
            refused_after(&settings, LIMITS, input.as_bytes(), &before, (400, details));
        }
        let limits = HeadLimits { max_bytes: 60, max_count: 3 };
        let input = format!("{head}a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n");
        let many = (431, "http1.too_many_headers");
        refused_after(&settings, limits, input.as_bytes(), &before, many);
        let input = format!("{head}a: {}\r\n\r\n", "x".repeat(54));
        let large = (431, "http1.headers_too_large");
        refused_after(&settings, limits, input.as_bytes(), &before, large);
        // The end is not waited for.
        let input = format!("{head}a: {}", "x".repeat(57));
        refused_after(&settings, limits, input.as_bytes(), &before, large);
        let input = format!("{head}a: {}\r\n\r\n", "x".repeat(53));
        let log = Server::log_of(&settings, limits, &[input.as_bytes()]);
        assert!(!log.last().unwrap().starts_with("error"), "{log:?}");
    }
}

#[test]
fn what_follows_a_complete_request() {
    let input = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n{}";
    let before = ["new", "GET / {:authority=a} end", "new"];
    refused_after(&Http1Settings::default(), LIMITS, input, &before, (400, ERROR));
}

#[test]
fn nothing_but_a_request_is_waited_for() {
    for start in ["x", "{", "\0", "\x16\x03\x01", " ", "1"] {
        let server = Server::new(Http1Settings::default(), LIMITS);
        server.feed(start);
        assert_eq!(server.log()[1], "reply 400 Bad Request http1.codec_error", "{start:?}");
    }
}

#[test]
fn heads_up_to_their_limit_in_bytes() {
    let settings = Http1Settings::default();
    let too_large = (431, "http1.headers_too_large");
    let input = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(50));
    let limits = |max_bytes| HeadLimits { max_bytes, max_count: 100 };
    let seen = format!("GET / {{:authority=a, x={}}} end", "y".repeat(50));
    for pieces in splits(input.as_bytes()) {
        let log = Server::log_of(&settings, limits(input.len()), &pieces);
        assert_eq!(log, ["new", &seen]);
    }
    refused_after(&settings, limits(input.len() - 1), input.as_bytes(), &["new"], too_large);
    // The end is not waited for.
    let endless = "GET /".to_string() + &"x".repeat(100);
    refused_after(&settings, limits(105), endless.as_bytes(), &["new"], too_large);
    assert_eq!(Server::log_of(&settings, limits(106), &[endless.as_bytes()]), ["new"]);
}

#[test]
fn the_limit_in_bytes_is_each_heads_own() {
    let one = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let limits = HeadLimits { max_bytes: one.len(), max_count: 100 };
    let body = "x".repeat(one.len() * 2);
    let post = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    let long = HeadLimits { max_bytes: post.len(), ..limits };
    let log = Server::log_of(&Http1Settings::default(), limits, &[one.repeat(2).as_bytes()]);
    assert_eq!(log.len(), 4, "{log:?}");
    let log = Server::log_of(&Http1Settings::default(), long, &[format!("{post}{body}").as_bytes()]);
    assert_eq!(log.last().unwrap(), "end", "{log:?}");
}

#[test]
fn heads_up_to_their_limit_in_fields() {
    // Up to 31 fields and the empty line are parsed on the stack, more on the heap.
    for max_count in [3, 30, 31, 32, 200] {
        let limits = HeadLimits { max_bytes: 61_440, max_count };
        let input =
            |count: usize| format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(count - 1));
        let settings = Http1Settings::default();
        let log = Server::log_of(&settings, limits, &[input(max_count).as_bytes()]);
        assert!(log.len() == 2 && log[1].ends_with(" end"), "{log:?}");
        for count in [max_count + 1, max_count + 2, max_count * 2] {
            let log = Server::log_of(&settings, limits, &[input(count).as_bytes()]);
            assert_eq!(log[1], "reply 431 Request Header Fields Too Large http1.too_many_headers");
        }
    }
    let limits = HeadLimits { max_bytes: 61_440, max_count: 2 };
    let input = b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\ny: 1\r\n\r\n";
    let many = (431, "http1.too_many_headers");
    refused_after(&Http1Settings::default(), limits, input, &["new"], many);
}

#[test]
fn no_configuration_allows_more_than_60_000_fields() {
    let limits = HeadLimits { max_bytes: 1 << 20, max_count: usize::MAX - 1 };
    for (count, refused) in [(60_000, false), (60_001, true), (70_000, true)] {
        let server = Server::new(Http1Settings::default(), limits);
        let input = format!("GET / HTTP/1.1\r\n{}\r\n", "x:1\r\n".repeat(count));
        let result = server.codec.dispatch(&mut Buffer::from(input.as_str()));
        assert_eq!(result.is_err(), refused, "{count}");
        let entry = &server.log()[1];
        assert_eq!(entry.starts_with("reply 431 "), refused, "{count}");
    }
}

#[test]
fn a_response_that_has_begun_is_not_replaced() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.feed("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    server.encoder().encode_headers(&head(&[(":status", "200")]), false);
    server.log();
    server.feed("x\r\n");
    assert_eq!(server.log(), ["error http/1.1 protocol error: HPE_INVALID_CHUNK_SIZE"]);
}
