//! The end of a head is looked for once over each byte.

use super::super::head::HeadScanner;
use super::fixture::*;
use crate::buffer::Buffer;
use crate::http::Connection;
use crate::http::http1::Http1Settings;

/// `length` bytes of which the last `fresh` are real and all before say that the head ends here.
fn decoy(length: usize, fresh: &[u8]) -> Buffer {
    let mut data = Buffer::from("\r\n\r\n".repeat(length / 4 + 1).get(..length - fresh.len()).unwrap());
    data.add(fresh);
    data
}

#[test]
fn the_scanner_does_not_look_back() {
    let head: Vec<u8> = (0..60_000).map(|n| if n % 97 == 0 { b'\n' } else { b'x' }).collect();
    let mut scanner = HeadScanner::default();
    let mut length = 0;
    for piece in head.chunks(251) {
        length += piece.len();
        assert_eq!(scanner.find_end(&decoy(length, piece)), None, "at {length}");
    }
    assert_eq!(scanner.find_end(&decoy(length + 2, b"\n\n")), Some(length + 2));
}

#[test]
fn single_bytes_are_scanned_once_each() {
    let mut scanner = HeadScanner::default();
    for length in 1..2000 {
        assert_eq!(scanner.find_end(&decoy(length, b"x")), None, "at {length}");
    }
    for (length, byte) in [(2000, b"\r"), (2001, b"\n"), (2002, b"\r")] {
        assert_eq!(scanner.find_end(&decoy(length, byte)), None, "at {length}");
    }
    assert_eq!(scanner.find_end(&decoy(2003, b"\n")), Some(2003));
}

#[test]
fn the_codec_keeps_its_place_in_a_head() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    let begin = "GET / HTTP/1.1\r\nhost: a\r\nx: ";
    server.codec.dispatch(&mut Buffer::from(begin)).unwrap();
    // Were these bytes looked at again, there would be a head.
    let other = "GET / HTTP/1.1\r\n\r\n";
    let mut data = Buffer::from(format!("{other}{}", "y".repeat(begin.len() - other.len())).as_str());
    server.codec.dispatch(&mut data).unwrap();
    assert_eq!(server.log(), ["new"]);
    let mut data = Buffer::from(format!("{begin}1\r\n\r\n").as_str());
    server.codec.dispatch(&mut data).unwrap();
    assert_eq!(server.log(), ["GET / {:authority=a, x=1} end"]);
    // For the next head it begins anew.
    let mut data = Buffer::from(format!("{begin}2\r\n\r\n").as_str());
    server.codec.dispatch(&mut data).unwrap();
    assert_eq!(server.log(), ["new", "GET / {:authority=a, x=2} end"]);
}

#[test]
fn the_codec_of_an_upstream_keeps_its_place_in_a_head() {
    let client = Client::new(LIMITS, false);
    client.request("GET");
    client.codec.dispatch(&mut Buffer::from("HTTP/1.1 304 Not Modified\r\nx: ")).unwrap();
    // Were these bytes looked at again, there would be a head.
    client.codec.dispatch(&mut Buffer::from("HTTP/1.1 304 Not\r\n\r\n        y")).unwrap();
    assert!(client.log().is_empty());
    client.codec.dispatch(&mut Buffer::from("HTTP/1.1 304 Not Modified\r\nx: 1\r\n\r\n")).unwrap();
    assert_eq!(client.log(), ["304 {x=1} end"]);
}

#[test]
fn sixty_kilobytes_in_single_bytes() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    let value = "v".repeat(1000);
    let fields: String = (0..60).map(|n| format!("x-{n}: {value}\r\n")).collect();
    let input = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    assert!((60_000..LIMITS.max_bytes).contains(&input.len()));
    let mut data = Buffer::new();
    let (last, begin) = input.as_bytes().split_last().unwrap();
    for byte in begin {
        data.add(&[*byte]);
        server.codec.dispatch(&mut data).unwrap();
    }
    assert_eq!(server.log(), ["new"]);
    data.add(&[*last]);
    server.codec.dispatch(&mut data).unwrap();
    assert!(data.is_empty());
    let log = server.log();
    assert_eq!(log.len(), 1);
    assert!(log[0].ends_with(&format!("x-59={value}}} end")));
}

#[test]
fn trailers_too_are_scanned_once() {
    let settings = Http1Settings { enable_trailers: true, ..Http1Settings::default() };
    let server = Server::new(settings, LIMITS);
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
    let mut data = Buffer::from(head);
    server.codec.dispatch(&mut data).unwrap();
    assert!(data.is_empty());
    server.log();
    server.codec.dispatch(&mut Buffer::from("x: 1\r\ny: ")).unwrap();
    server.codec.dispatch(&mut Buffer::from("x: 1\r\n\r\n ")).unwrap();
    assert!(server.log().is_empty());
    server.codec.dispatch(&mut Buffer::from("x: 1\r\ny: 2\r\n\r\n")).unwrap();
    assert_eq!(server.log(), ["trailers {x=1, y=2}"]);
}
