//! Which encoding a response gets, of those that the client accepts and the filters of its chain can make.
//!
//! Mirrors `CompressorFilter::chooseEncoding` of Envoy 1.40's
//! `source/extensions/filters/http/compressor/compressor_filter.cc`.

use std::cell::{OnceCell, RefCell};

use super::config::CompressorFilterConfig;
use crate::common::Local;
use crate::http::HeaderMap;
use crate::stream_info::Object;

/// The compressors of a stream, which know of each other by this. The first that has to decide decides for all.
#[derive(Default)]
pub(super) struct CompressorRegistry {
    pub configs: RefCell<Vec<Local<CompressorFilterConfig>>>,
    pub decision: OnceCell<EncodingDecision>,
}

impl Object for CompressorRegistry {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncodingDecision {
    pub encoding: String,
    pub stat: HeaderStat,
}

/// What of the client's wish has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderStat {
    NotValid,
    Identity,
    Wildcard,
    ValidCompressor,
}

const IDENTITY: &str = "identity";
const WILDCARD: &str = "*";

/// An encoding that can be made, and whether it is for clients to whom several are the same.
struct Allowed {
    encoding: &'static str,
    choose_first: bool,
}

impl CompressorRegistry {
    /// What a response with these headers gets.
    pub fn choose_encoding(&self, accept_encoding: &str, headers: &HeaderMap) -> EncodingDecision {
        let configs = self.configs.borrow();
        let can = configs.iter().filter(|config| config.response.is_content_type_allowed(headers));
        let can = can.map(|config| (config.content_encoding(), config.choose_first));
        choose(accept_encoding, can)
    }
}

/// `can` says what can be made, and whether it is to be chosen first; of two for the same encoding the first counts.
fn choose(accept_encoding: &str, can: impl Iterator<Item = (&'static str, bool)>) -> EncodingDecision {
    let decision = |encoding: &str, stat| EncodingDecision { encoding: encoding.to_string(), stat };
    let mut allowed: Vec<Allowed> = Vec::new();
    for (encoding, choose_first) in can {
        if !allowed.iter().any(|other| other.encoding == encoding) {
            allowed.push(Allowed { encoding, choose_first });
        }
    }
    let mut pairs = Vec::new();
    for token in accept_encoding.split(',').filter(|token| !token.is_empty()) {
        let Some((encoding, q_value)) = encoding_and_q(token) else { continue };
        pairs.push((encoding, q_value));
        if q_value == 0.0 {
            allowed.retain(|allowed| allowed.encoding != encoding);
        }
    }
    if pairs.is_empty() || allowed.is_empty() {
        return decision(IDENTITY, HeaderStat::NotValid);
    }
    let mut choice = (IDENTITY, 0.0);
    for (encoding, q_value) in pairs {
        let own = allowed.iter().find(|allowed| allowed.encoding == encoding);
        if own.is_none() && encoding != IDENTITY && encoding != WILDCARD {
            continue;
        }
        let is_first = || q_value == choice.1 && own.is_some_and(|allowed| allowed.choose_first);
        if q_value > choice.1 || is_first() {
            choice = (encoding, q_value);
        }
    }
    match choice {
        (_, 0.0) => decision(IDENTITY, HeaderStat::NotValid),
        (IDENTITY, _) => decision(IDENTITY, HeaderStat::Identity),
        (WILDCARD, _) => decision(allowed[0].encoding, HeaderStat::Wildcard),
        (encoding, _) => decision(encoding, HeaderStat::ValidCompressor),
    }
}

/// `None` where the q is no number.
fn encoding_and_q(token: &str) -> Option<(&str, f32)> {
    let (encoding, parameter) = token.split_once(';').unwrap_or((token, ""));
    let q_value = match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => value.trim().parse().ok()?,
        _ => 1.0,
    };
    Some((encoding.trim(), q_value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_weighs_and_the_chain_can() {
        use HeaderStat::{Identity, NotValid, ValidCompressor, Wildcard};
        let both = [("gzip", false), ("br", false)];
        let first = [("gzip", false), ("br", true)];
        for (accept, can, encoding, stat) in [
            ("gzip", both, "gzip", ValidCompressor),
            ("br", both, "br", ValidCompressor),
            ("br;q=0.5, gzip ; Q = 0.6", both, "gzip", ValidCompressor),
            ("br;q=0.7, gzip;q=0.6", both, "br", ValidCompressor),
            ("gzip, br", both, "gzip", ValidCompressor),
            ("gzip, br", first, "br", ValidCompressor),
            ("*", both, "gzip", Wildcard),
            ("gzip;q=0, *", both, "br", Wildcard),
            ("gzip;q=0, br;q=0, *", both, "identity", NotValid),
            ("identity, gzip;q=0.9", both, "identity", Identity),
            ("deflate", both, "identity", NotValid),
            ("deflate, *;q=0.1", both, "gzip", Wildcard),
            ("", both, "identity", NotValid),
            (",,", both, "identity", NotValid),
            ("gzip;q=x", both, "identity", NotValid),
            ("gzip;a=x", both, "gzip", ValidCompressor),
            ("GZIP", both, "identity", NotValid),
        ] {
            let decision = choose(accept, can.into_iter());
            assert_eq!((&decision.encoding[..], decision.stat), (encoding, stat), "{accept}");
        }
        assert_eq!(choose("gzip, *", std::iter::empty()).stat, NotValid);
    }
}
