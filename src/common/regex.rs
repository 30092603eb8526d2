//! Regular expressions of configurations, on bytes.
//!
//! Mirrors `CompiledGoogleReMatcher` of Envoy's `source/common/common/regex.cc`: what is taken, and what is said of the rest,
//! is RE2's.

use std::fmt;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::re2;

/// A text that has to be matched as a whole.
#[derive(Clone)]
pub struct CompiledMatcher {
    pattern: Box<str>,
    whole: Regex,
}

impl CompiledMatcher {
    /// Compiles an expression.
    ///
    /// # Errors
    /// RE2's text for what is wrong.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let checked = re2::check(pattern)?;
        let whole = build(&format!("\\A(?:{checked})\\z"))?;
        Ok(CompiledMatcher { pattern: pattern.into(), whole })
    }

    /// Whether all of `text` is matched.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }
}

impl PartialEq for CompiledMatcher {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for CompiledMatcher {}

impl fmt::Debug for CompiledMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

/// Parts of a text that are replaced.
#[derive(Clone)]
pub struct Substitution {
    pattern: Box<str>,
    part: Regex,
    pieces: Box<[Piece]>,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    /// The number of what the expression has captured.
    Group(usize),
}

impl Substitution {
    /// Has what `pattern` matches replaced by `by`, in which `\1` is its first group, and `\\` a backslash.
    ///
    /// # Errors
    /// RE2's text for what is wrong.
    pub fn new(pattern: &str, by: &str) -> Result<Self, String> {
        let part = build(&re2::check(pattern)?)?;
        Ok(Substitution { pattern: pattern.into(), part, pieces: pieces(by) })
    }

    /// The text with every match replaced.
    pub fn replace_all(&self, text: &[u8]) -> Vec<u8> {
        // RE2 leaves the text as it is where a group is not there.
        if self.pieces.iter().any(|piece| matches!(piece, Piece::Group(n) if *n >= self.part.captures_len()))
        {
            return text.to_vec();
        }
        self.part
            .replace_all(text, |found: &Captures<'_>| {
                let mut by = Vec::new();
                for piece in &self.pieces {
                    match piece {
                        Piece::Text(text) => by.extend_from_slice(text),
                        Piece::Group(n) => {
                            by.extend_from_slice(found.get(*n).map_or(&[], |group| group.as_bytes()))
                        }
                    }
                }
                by
            })
            .into_owned()
    }
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.pieces == other.pieces
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

fn pieces(by: &str) -> Box<[Piece]> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut bytes = by.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.clone().next()) {
            (b'\\', Some(digit @ b'0'..=b'9')) => {
                bytes.next();
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(Piece::Group((digit - b'0').into()));
            }
            (b'\\', Some(b'\\')) => {
                bytes.next();
                text.push(b'\\');
            }
            (other, _) => text.push(other),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    pieces.into()
}

fn build(pattern: &str) -> Result<Regex, String> {
    // Their size is the operator's affair.
    RegexBuilder::new(pattern).size_limit(64 << 20).build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_text_is_matched() {
        for (pattern, text, matched) in [
            ("a|ab", "ab", true),
            ("a", "ab", false),
            ("b", "ab", false),
            ("", "", true),
            ("a.*", "a\u{e4}", true),
            ("a$", "a\n", false),
            ("{", "{", true),
        ] {
            assert_eq!(
                CompiledMatcher::new(pattern).unwrap().matches(text.as_bytes()),
                matched,
                "{pattern} {text}"
            );
        }
        assert_eq!(CompiledMatcher::new("(").unwrap_err(), "missing ): (");
    }

    #[test]
    fn groups_and_backslashes_stand_in_what_replaces() {
        for (pattern, by, text, replaced) in [
            ("^/a/(.*)$", "/\\1/b", "/a/x", "/x/b"),
            ("o", "0", "foo", "f00"),
            ("(a)(b)?", "[\\2\\1\\\\]", "aab", "[a\\][ba\\]"),
            ("a", "\\1", "a", "a"),
            ("x", "y", "a", "a"),
            ("a", "\\0\\0", "a", "aa"),
        ] {
            let substitution = Substitution::new(pattern, by).unwrap();
            assert_eq!(substitution.replace_all(text.as_bytes()), replaced.as_bytes(), "{pattern} {by}");
        }
    }
}
