//! First bytes, as listener filters look at them: a hello of TLS, a header of the PROXY protocol.

use legate::filters::listener::proxy_protocol::parse_header;
use legate::network::tls::client_hello::{Parsed, parse};

use super::super::Target;
use super::hash;

pub const TARGET: Target =
    Target { name: "hello", run, seeds: SEEDS, dictionary: DICTIONARY, max_len: 4096, memory: (8192, 16) };

/// What was decided once stays so, whatever comes behind it.
fn run(input: &[u8]) -> u64 {
    let hello = parse(input);
    let header = parse_header(input);
    for cut in [input.len() / 3, input.len() / 2, input.len().saturating_sub(1)] {
        let begin = &input[..cut];
        match parse(begin) {
            Parsed::Incomplete => {}
            decided => assert_eq!(decided, hello),
        }
        if let Some(decided) = parse_header(begin) {
            assert_eq!(Some(decided), header);
        }
    }
    if let Some(Ok((length, _))) = header {
        assert!(length <= input.len());
    }
    let of_hello = match hello {
        Parsed::Incomplete => "incomplete".to_string(),
        Parsed::Invalid => "invalid".to_string(),
        Parsed::Hello(hello) => {
            format!("{} {} {}", hello.server_name.len().min(3), hello.alpn.len().min(3), hello.asks_ocsp)
        }
    };
    let of_header = match header {
        None => "incomplete".to_string(),
        Some(Err(text)) => text.to_string(),
        Some(Ok((length, ends))) => format!("{} {}", length.min(64), ends.is_some()),
    };
    hash([of_hello, of_header])
}

const SEEDS: &[&[u8]] = &[
    b"\x16\x03\x01\x00Y\x01\x00\x00U\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\x00\x02\x13\x01\x01\x00\x00*\x00\x00\x00\x0b\x00\x09\x00\x00\x06a.test\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1\x00\x05\x00\x05\x01\x00\x00\x00\x00",
    b"\x16\x03\x01\x00\x14\x01\x00\x00U\x03\x03rrrrrrrrrrrrrr\x16\x03\x01\x00Errrrrrrrrrrrrrrrrr\x00\x00\x02\x13\x01\x01\x00\x00*\x00\x00\x00\x0b\x00\x09\x00\x00\x06a.test\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1\x00\x05\x00\x05\x01\x00\x00\x00\x00",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET / HTTP/1.1\r\n\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a",
];

const DICTIONARY: &[&str] =
    &["\x16\x03\x01", "\x01\0\0", "\0\x10", "PROXY ", "TCP4", "TCP6", "UNKNOWN", "\r\n", "\x21\x21"];
