//! What happens, drawn from numbers: an exchange is a number, which travels in the request's path, so that
//! both ends know the same plan whichever connection carries it.

use super::sites::Kind;
use fastrand::Rng;
use std::time::Duration;

/// The number of part `index` of something with a number.
pub fn derive(seed: u64, index: u64) -> u64 {
    // splitmix64
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// True once in `n` times.
pub fn once_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(0..n) == 0
}

/// A body repeats as many letters as fit no buffer.
const PERIOD: usize = 251;

fn letters(seed: u64) -> [u8; PERIOD] {
    let mut rng = Rng::with_seed(seed);
    std::array::from_fn(|_| rng.u8(b'a'..=b'z'))
}

/// A part of the body that belongs to a number.
pub fn body(seed: u64, from: usize, length: usize) -> Vec<u8> {
    let letters = letters(seed);
    let mut bytes = Vec::with_capacity(length + PERIOD);
    bytes.extend_from_slice(&letters[from % PERIOD..]);
    while bytes.len() < length {
        bytes.extend_from_slice(&letters);
    }
    bytes.truncate(length);
    bytes
}

/// Whether `bytes` are the body from there on.
pub fn is_body(seed: u64, from: usize, bytes: &[u8]) -> bool {
    bytes == body(seed, from, bytes.len())
}

/// How long a body is: mostly short, now and then longer than all buffers.
fn length(rng: &mut Rng) -> usize {
    match rng.u32(0..100) {
        0..5 => 0,
        5..50 => rng.usize(1..200),
        50..85 => rng.usize(200..20_000),
        85..97 => rng.usize(20_000..300_000),
        _ => rng.usize(300_000..1_500_000),
    }
}

/// A short time, mostly none.
pub fn pause(rng: &mut Rng) -> Duration {
    match rng.u32(0..10) {
        0..5 => Duration::ZERO,
        5..9 => Duration::from_micros(rng.u64(0..2_000)),
        _ => Duration::from_millis(rng.u64(0..25)),
    }
}

/// How a body says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Absent,
    /// `content-length`.
    Length,
    /// Chunked.
    Chunked,
    /// Chunked, with trailers.
    Trailers,
    /// It ends with the connection; responses only.
    UntilClose,
}

/// What becomes of the upstream's connection during a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: the response is sent to its end.
    Whole,
    /// Closed with a reset.
    Reset,
    /// Closed.
    Close,
    /// Its sending half is closed.
    FinishWriting,
    /// Nothing more comes.
    Silence,
}

/// What becomes of it behind a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It serves on.
    Keep,
    /// The response says `connection: close`, and then it is closed.
    SayClose,
    /// It is closed without a word.
    Close,
    /// It is reset without a word.
    Reset,
}

/// One request and its response.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The number that all of it is drawn from.
    pub seed: u64,
    /// The request's method.
    pub method: &'static str,
    /// Of the request's body.
    pub request: (Framing, usize),
    /// The request says `expect: 100-continue`.
    pub expects: bool,
    /// How many header fields without meaning the request has, and how long each is.
    pub filler: (usize, usize),
    /// Of the response.
    pub status: u16,
    /// Of the response's body, as it would be without HEAD.
    pub response: (Framing, usize),
    /// 1xx responses before it.
    pub interim: Vec<u16>,
    /// The whole request is read before anything is sent.
    pub reads_first: bool,
    /// What happens while it is sent, and after how many thousandths of it.
    pub fate: (Fate, usize),
    /// What happens behind it.
    pub after: After,
    /// The response's bytes are changed at random.
    pub mutated: bool,
}

impl Exchange {
    /// The exchange of that number with an upstream of that kind.
    pub fn new(seed: u64, kind: Kind) -> Exchange {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let method = ["GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE"][rng.usize(0..8)];
        let request_framing = match method {
            "POST" | "PUT" => [Framing::Length, Framing::Chunked, Framing::Trailers][rng.usize(0..3)],
            _ => Framing::Absent,
        };
        let request_length = if request_framing == Framing::Absent { 0 } else { length(rng) };
        let status = [200, 200, 200, 201, 204, 304, 404, 500][rng.usize(0..8)];
        let framing =
            [Framing::Length, Framing::Length, Framing::Chunked, Framing::Trailers, Framing::UntilClose];
        let framing = if matches!(status, 204 | 304) { Framing::Absent } else { framing[rng.usize(0..5)] };
        let response_length = if framing == Framing::Absent { 0 } else { length(rng) };
        let interim = (0..rng.usize(0..8).saturating_sub(5)).map(|_| [102, 103][rng.usize(0..2)]).collect();
        let after = match rng.u32(0..20) {
            0..15 => After::Keep,
            15..17 => After::SayClose,
            17 => After::Close,
            _ => After::Reset,
        };
        Exchange {
            seed,
            method,
            request: (request_framing, request_length),
            expects: request_framing != Framing::Absent && once_in(rng, 5),
            filler: if once_in(rng, 4) { (rng.usize(0..30), rng.usize(0..400)) } else { (0, 0) },
            status,
            response: (framing, response_length),
            interim,
            reads_first: !once_in(rng, 6),
            fate: upstream_fate(rng, kind),
            after,
            mutated: kind == Kind::Wild && once_in(rng, 2),
        }
    }

    /// The request's head.
    pub fn request_head(&self) -> Vec<u8> {
        let (framing, length) = self.request;
        let mut head = format!("{} /{:016x} HTTP/1.1\r\nhost: chaos.test\r\n", self.method, self.seed);
        for number in 0..self.filler.0 {
            head += &format!("x-filler-{number}: {}\r\n", "f".repeat(self.filler.1));
        }
        head += &fields(framing, length);
        if self.expects {
            head += "expect: 100-continue\r\n";
        }
        (head + "\r\n").into_bytes()
    }

    /// The request's body with its framing.
    pub fn request_body(&self) -> Vec<u8> {
        framed(derive(self.seed, 1), self.request)
    }

    /// Whether a response has a body.
    pub fn response_has_body(&self) -> bool {
        self.method != "HEAD" && self.response.0 != Framing::Absent
    }

    /// All of the response; it is `cut` where something happens.
    pub fn response_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for status in &self.interim {
            bytes.extend_from_slice(format!("HTTP/1.1 {status} Wait\r\nx-interim: yes\r\n\r\n").as_bytes());
        }
        let (framing, length) = self.response;
        let mut head = format!("HTTP/1.1 {} Fine\r\nx-plan: {:016x}\r\n", self.status, self.seed);
        head += &fields(framing, length);
        if self.after == After::SayClose {
            head += "connection: close\r\n";
        }
        bytes.extend_from_slice((head + "\r\n").as_bytes());
        if self.response_has_body() {
            bytes.extend_from_slice(&framed(self.seed, self.response));
        }
        let mut rng = Rng::with_seed(derive(self.seed, 2));
        if self.mutated {
            let ends = [0, bytes.len()];
            mutate(&mut rng, &mut bytes, &ends);
        }
        if self.fate.0 != Fate::Whole {
            // Half of the time somewhere in the head.
            let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
            let of = if once_in(&mut rng, 2) { bytes.len() } else { head };
            bytes.truncate(of * self.fate.1 / 1000);
        }
        bytes
    }
}

fn upstream_fate(rng: &mut Rng, kind: Kind) -> (Fate, usize) {
    let fate = match rng.u32(0..40) {
        0..3 => Fate::Reset,
        3..5 => Fate::Close,
        5 => Fate::FinishWriting,
        // Only a time limit ends it.
        6 if kind.has_limits() => Fate::Silence,
        _ => Fate::Whole,
    };
    (fate, [0, 0, rng.usize(1..1000), rng.usize(1..1000), rng.usize(1..1000)][rng.usize(0..5)])
}

fn fields(framing: Framing, length: usize) -> String {
    match framing {
        Framing::Length => format!("content-length: {length}\r\n"),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_string(),
        Framing::Trailers => "transfer-encoding: chunked\r\ntrailer: x-sum\r\n".to_string(),
        Framing::Absent | Framing::UntilClose => String::new(),
    }
}

fn framed(seed: u64, (framing, length): (Framing, usize)) -> Vec<u8> {
    match framing {
        Framing::Absent => Vec::new(),
        Framing::Length | Framing::UntilClose => body(seed, 0, length),
        Framing::Chunked | Framing::Trailers => {
            let mut rng = Rng::with_seed(derive(seed, 3));
            let mut bytes = Vec::new();
            let mut at = 0;
            while at < length {
                let most = if once_in(&mut rng, 3) { 20 } else { 60_000 };
                let size = rng.usize(1..=most).min(length - at);
                let extension = if once_in(&mut rng, 10) { ";x=\"y\"" } else { "" };
                bytes.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
                bytes.extend_from_slice(&body(seed, at, size));
                bytes.extend_from_slice(b"\r\n");
                at += size;
            }
            let trailers = if framing == Framing::Trailers { "x-sum: 1\r\n" } else { "" };
            bytes.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            bytes
        }
    }
}

/// What is odd in a message, or between two.
const ODD: [&[u8]; 18] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\r",
    b"\n\r",
    b"\r\n\r",
    b"\r\n\r\n",
    b"\0",
    b":",
    b" ",
    b"\r\nhost: b.test\r\n",
    b"\r\ncontent-length: 5\r\n",
    b"\r\ntransfer-encoding: chunked\r\n",
    b"\r\nconnection: close\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"GET /direct HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
];

/// Changes some of the bytes, at the ends of messages and near the start more often than elsewhere. Says
/// where.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, ends: &[usize]) -> usize {
    let mut at = 0;
    for _ in 0..rng.usize(1..4) {
        at = match rng.u32(0..3) {
            0 => ends.get(rng.usize(0..ends.len().max(1))).copied().unwrap_or_default(),
            1 => rng.usize(0..=bytes.len().min(300)),
            _ => rng.usize(0..=bytes.len()),
        };
        at = at.min(bytes.len());
        let span = at..(at + rng.usize(0..12)).min(bytes.len());
        match rng.u32(0..8) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.u32(0..8),
            2 => drop(bytes.drain(span)),
            3 => {
                let copy = bytes[span].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => bytes.truncate(at),
            _ => {
                let odd = ODD[rng.usize(0..ODD.len())];
                bytes.splice(at..at, odd.iter().copied());
                at += odd.len();
            }
        }
    }
    at.min(bytes.len())
}
