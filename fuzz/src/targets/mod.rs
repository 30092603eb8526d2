//! The targets: one file for each kind of input.

/// A text a hundred times.
macro_rules! hundred {
    ($text:literal) => {
        hundred!(@ hundred!(@ $text))
    };
    (@ $text:expr) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
    };
}

mod admin;
mod chunk;
mod client;
mod config;
mod dns;
mod format;
mod headers;
mod hello;
mod options;
mod server;

use super::Target;

/// Those of all files.
pub const ALL: &[Target] = &[
    server::TARGET,
    client::TARGET,
    chunk::TARGET,
    config::TARGET,
    dns::TARGET,
    format::TARGET,
    headers::TARGET,
    hello::TARGET,
    options::TARGET,
    admin::TARGET,
];

/// A number for anything.
fn hash(value: impl std::hash::Hash) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// Ways of cutting `data` into reads: whole, at random, and for short inputs, or now and then, byte by byte.
fn cuts(data: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let seed = hash(data);
    let mut ways = vec![vec![data.to_vec()], cut(data, seed)];
    if data.len() < 48 || (seed.is_multiple_of(16) && data.len() < 1024) {
        ways.push(data.iter().map(|byte| vec![*byte]).collect());
    }
    ways
}

fn cut(data: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut places: Vec<usize> = (0..rng.usize(1..=8)).map(|_| place(&mut rng, data)).collect();
    places.push(data.len());
    places.sort_unstable();
    let mut start = 0;
    let pieces = places.into_iter().map(|end| data[std::mem::replace(&mut start, end)..end].to_vec());
    pieces.filter(|piece| !piece.is_empty()).collect()
}

/// Where to cut: anywhere, or beside a byte at which parsers change their state.
fn place(rng: &mut fastrand::Rng, data: &[u8]) -> usize {
    let at = rng.usize(..=data.len());
    if rng.bool() {
        return at;
    }
    let next = data[at..].iter().position(|b| b"\r\n:; ".contains(b));
    next.map_or(at, |offset| at + offset + usize::from(rng.bool()))
}
