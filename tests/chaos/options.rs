//! How a run is asked for: `CHAOS='--seconds 300 --seed 7'` in the environment.

use super::harness::Kind;
use lexopt::prelude::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What can be said. Without a word it is what `make test` runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rounds begin until so much time has passed.
    pub time: Duration,
    /// At most so many rounds.
    pub rounds: u64,
    /// Of the first round; the next one has the next number.
    pub seed: u64,
    /// Clients at the same time.
    pub clients: u64,
    /// Only this client plays, to find out whether a failure needs the others.
    pub only: Option<u64>,
    /// Connections per row of the reset table.
    pub each: usize,
    /// Connections of its row of many.
    pub many: usize,
    /// Whom to test: Envoy shows whether an expectation is right.
    pub against: Kind,
}

impl Options {
    /// From the environment.
    pub fn from_env() -> Options {
        let words = std::env::var("CHAOS").unwrap_or_default();
        parse(words.split_whitespace()).unwrap_or_else(|error| panic!("CHAOS='{words}': {error}"))
    }
}

fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Options, lexopt::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_micros() as u64);
    let mut options = Options {
        time: Duration::from_secs(60),
        rounds: u64::MAX,
        seed: now % 1_000_000_000,
        clients: 40,
        only: None,
        each: 60,
        many: 2000,
        against: Kind::Legate,
    };
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next()? {
        match word {
            Long("seconds") => options.time = Duration::from_secs(parser.value()?.parse()?),
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("clients") => options.clients = parser.value()?.parse()?,
            Long("only") => options.only = Some(parser.value()?.parse()?),
            Long("each") => options.each = parser.value()?.parse()?,
            Long("many") => options.many = parser.value()?.parse()?,
            Long("against") => {
                options.against = match parser.value()?.string()?.as_str() {
                    "legate" => Kind::Legate,
                    "envoy" => Kind::Envoy,
                    other => return Err(format!("neither legate nor envoy: {other}").into()),
                };
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}
