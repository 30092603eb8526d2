//! Inputs that nobody thought of, for everything in legate that reads bytes from outside.
//!
//! A [`Target`] is a plain function over bytes which panics when an invariant breaks: no panic, progress,
//! the same result however the input is cut, bounded time and memory. Three drivers call them:
//! `tests/fuzz.rs` for a few seconds in `make test`, `main.rs` for as long as one likes (`make fuzz`), and
//! `libfuzzer.rs` under libFuzzer.
//!
//! The proxy's targets run the product itself: its loop, connection manager, router and pool. Only the
//! two sockets are played, by [`world`]'s transport sockets.

mod bootstrap;
pub mod driver;
pub mod memory;
mod message;
mod mutate;
mod recorder;
mod targets;
mod world;

/// Something that reads bytes from outside.
pub struct Target {
    pub name: &'static str,
    /// Reads the input and returns a number for what came of it: inputs with a new number are worth keeping.
    pub run: fn(&[u8]) -> u64,
    /// Where mutation starts.
    pub seeds: &'static [&'static [u8]],
    /// What mutation puts in.
    pub dictionary: &'static [&'static str],
    /// Longest input.
    pub max_len: usize,
    /// Bytes that an input of length `n` may hold at once: the first number, and so many a byte.
    pub memory: (usize, usize),
}

/// All targets.
pub static TARGETS: &[Target] = targets::ALL;

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
