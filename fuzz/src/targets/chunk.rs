//! A chunked body, in a request and in a response, beside a decoder that was written for this purpose. The
//! first byte chooses which of the two.

use super::super::Target;
use super::super::world::{End, Outcome, Script, Upstream, world};
use super::{cuts, hash};

pub const TARGET: Target = Target {
    name: "chunk",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 16 * 1024,
    memory: (512 * 1024, 64),
};

/// What a body comes to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Verdict {
    /// Its data.
    Complete(Vec<u8>),
    Partial,
    Bad,
}

fn run(input: &[u8]) -> u64 {
    let Some((&choice, data)) = input.split_first() else { return 0 };
    // Trailers are headers, which are another target's.
    let expected = decode(data);
    let Some(expected) = expected else { return 1 };
    for pieces in cuts(data) {
        let outcome = if choice & 1 == 0 { as_request(pieces) } else { as_response(pieces) };
        assert_eq!(verdict(&outcome, choice & 1 == 0), expected);
    }
    hash((
        choice & 1,
        match expected {
            Verdict::Complete(data) => 2 + data.len().min(5),
            Verdict::Partial => 1,
            Verdict::Bad => 0,
        },
    ))
}

fn as_request(mut pieces: Vec<Vec<u8>>) -> Outcome {
    pieces.insert(0, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec());
    world().play(Script { manager: 0, pieces, upstream: Upstream::Model, slowly: false, then: None })
}

fn as_response(mut pieces: Vec<Vec<u8>>) -> Outcome {
    pieces.insert(0, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec());
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
    let upstream = Upstream::Bytes(pieces, End::Nothing);
    world().play(Script { manager: 0, pieces: vec![request], upstream, slowly: false, then: None })
}

fn verdict(outcome: &Outcome, request: bool) -> Verdict {
    let stream = &outcome.streams[0];
    let half = if request { &stream.request } else { &stream.response };
    let open = outcome.state == legate::network::ConnectionState::Open;
    match (half.complete, open) {
        (true, _) => Verdict::Complete(half.body.clone()),
        (false, true) => Verdict::Partial,
        (false, false) => Verdict::Bad,
    }
}

/// `None` where trailers, or another message, decide.
fn decode(mut bytes: &[u8]) -> Option<Verdict> {
    let mut data = Vec::new();
    loop {
        let Some(end) = bytes.iter().position(|&b| b == b'\n' || b == 0) else {
            // A line that is not complete may be bad already.
            return Some(if line_may_begin(bytes) { Verdict::Partial } else { Verdict::Bad });
        };
        let Some(size) = bytes[..end].strip_suffix(b"\r").filter(|_| bytes[end] == b'\n').and_then(size)
        else {
            return Some(Verdict::Bad);
        };
        bytes = &bytes[end + 1..];
        if size == 0 {
            return match bytes {
                b"" | b"\r" => Some(Verdict::Partial),
                b"\r\n" => Some(Verdict::Complete(data)),
                _ => None,
            };
        }
        let here = size.min(bytes.len() as u64) as usize;
        data.extend_from_slice(&bytes[..here]);
        bytes = &bytes[here..];
        if (here as u64) < size {
            return Some(Verdict::Partial);
        }
        match bytes {
            b"" | b"\r" => return Some(Verdict::Partial),
            [b'\r', b'\n', rest @ ..] => bytes = rest,
            _ => return Some(Verdict::Bad),
        }
    }
}

/// The size in a line without its end.
fn size(line: &[u8]) -> Option<u64> {
    let (number, extension) = match line.iter().position(|&b| b == b';') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &b""[..]),
    };
    let blank = number.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let digits = &number[..number.len() - blank];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) || extension.contains(&b'\r') {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether more bytes can make a line of these.
fn line_may_begin(bytes: &[u8]) -> bool {
    let line = bytes.strip_suffix(b"\r");
    match (line, bytes) {
        (_, b"") => true,
        (Some(line), _) => size(line).is_some(),
        (None, _) => size(bytes).is_some(),
    }
}

const SEEDS: &[&[u8]] = &[
    b"\x005\r\nhello\r\n0\r\n\r\n",
    b"\x015\r\nhello\r\n0\r\n\r\n",
    b"\x00a;x=\"y\"\r\n0123456789\r\n00\r\n\r\n",
    b"\x01F \t;x\r\n0123456789abcde\r\n3\r\nabc\r\n0;last\r\n\r\n",
    b"\x00ffffffffffffffff\r\nx",
    b"\x001\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n",
];

const DICTIONARY: &[&str] = &[
    "\r\n",
    "\r",
    "\n",
    ";",
    " ",
    "\t",
    "0\r\n\r\n",
    "1\r\nx\r\n",
    "0",
    "00000000",
    "ffffffffffffffff",
    "fffffffffffffffff",
    "8000000000000000",
    "10000000000000000",
    "0x1",
    "+1",
    "-1",
    "\"",
    "\0",
];
