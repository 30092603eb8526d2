//! `envoy.config.route.v3.HeaderMatcher` and the `envoy.type.matcher.v3.StringMatcher` in it.

use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader};
use crate::common::regex::CompiledMatcher;

/// What a header has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// In lower case.
    pub name: String,
    /// What its value has to be.
    pub matches: HeaderMatch,
    /// It has to be anything else.
    pub invert: bool,
    /// Where it is absent, its value counts as empty.
    pub treat_missing_as_empty: bool,
}

/// What the value of a header has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMatch {
    /// There, or not there.
    Present(bool),
    /// An integer from `start` on, below `end`.
    Range {
        /// The first that matches.
        start: i64,
        /// The first that does not.
        end: i64,
    },
    /// A text.
    String(StringMatcher),
}

/// What a text has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringMatcher {
    /// What is looked for; in lower case where the case does not count.
    pub text: String,
    /// Where in it that has to be.
    pub place: Place,
    /// The case of letters does not count.
    pub ignore_case: bool,
}

/// Where in a text something is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is the text.
    Whole,
    /// It begins the text.
    Start,
    /// It ends the text.
    End,
    /// It is somewhere in it.
    Anywhere,
    /// Instead of a text an expression is looked for, which has to match all of it.
    Regex(CompiledMatcher),
}

/// The fields of both messages that say a text, and where it is looked for.
const PLACES: [(&str, Place); 4] = [
    ("exact", Place::Whole),
    ("prefix", Place::Start),
    ("suffix", Place::End),
    ("contains", Place::Anywhere),
];

impl FromMessage for HeaderMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?.to_ascii_lowercase();
        let invert = r.bool("invert_match")?;
        let treat_missing_as_empty = r.bool("treat_missing_header_as_empty")?;
        let members = [
            "string_match",
            "present_match",
            "range_match",
            "safe_regex_match",
            "exact_match",
            "prefix_match",
            "suffix_match",
            "contains_match",
        ];
        let matches = match r.at_most_one(&members)? {
            // As Envoy has it: the header is there.
            None => HeaderMatch::Present(true),
            Some("present_match") => HeaderMatch::Present(r.bool("present_match")?),
            Some("range_match") => r.required_message("range_match")?,
            Some("string_match") => HeaderMatch::String(r.required_message("string_match")?),
            // The older forms.
            Some("safe_regex_match") => {
                HeaderMatch::String(StringMatcher::regex(r.required_message("safe_regex_match")?))
            }
            Some(field) => {
                let place =
                    PLACES.iter().find(|(name, _)| field.strip_suffix("_match") == Some(name)).cloned();
                let text = r.string(field)?;
                let mut place = place.map_or(Place::Whole, |(_, place)| place);
                // As Envoy has it: any value is one that is exactly nothing.
                if text.is_empty() {
                    place = Place::Start;
                }
                HeaderMatch::String(StringMatcher { text, place, ignore_case: false })
            }
        };
        Ok(HeaderMatcher { name, matches, invert, treat_missing_as_empty })
    }
}

/// `envoy.type.v3.Int64Range`.
impl FromMessage for HeaderMatch {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(HeaderMatch::Range { start: r.i64("start")?, end: r.i64("end")? })
    }
}

impl FromMessage for StringMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let ignore_case = r.bool("ignore_case")?;
        let field = r.exactly_one(&["exact", "prefix", "suffix", "contains", "safe_regex"])?;
        if field == "safe_regex" {
            return Ok(StringMatcher { ignore_case, ..StringMatcher::regex(r.required_message(field)?) });
        }
        let place = PLACES.iter().find(|(name, _)| *name == field).cloned();
        let place = place.map_or(Place::Whole, |(_, place)| place);
        let mut text = r.string(field)?;
        if ignore_case {
            text.make_ascii_lowercase();
        }
        Ok(StringMatcher { text, place, ignore_case })
    }
}

impl StringMatcher {
    /// Whether a text is as it says.
    pub fn matches(&self, value: &[u8]) -> bool {
        let text = self.text.as_bytes();
        let is_text =
            |part: &[u8]| if self.ignore_case { part.eq_ignore_ascii_case(text) } else { part == text };
        match &self.place {
            Place::Regex(regex) => regex.matches(value),
            Place::Whole => is_text(value),
            Place::Start => value.get(..text.len()).is_some_and(is_text),
            Place::End => value.len().checked_sub(text.len()).is_some_and(|start| is_text(&value[start..])),
            Place::Anywhere if text.is_empty() => true,
            Place::Anywhere if self.ignore_case => value.windows(text.len()).any(is_text),
            Place::Anywhere => memchr::memmem::find(value, text).is_some(),
        }
    }

    fn regex(regex: CompiledMatcher) -> Self {
        StringMatcher { text: String::new(), place: Place::Regex(regex), ignore_case: false }
    }
}

/// `envoy.type.matcher.v3.RegexMatcher`.
impl FromMessage for CompiledMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        r.message_with("google_re2", |_| Ok(()))?;
        let pattern = r.string("regex")?;
        CompiledMatcher::new(&pattern).map_err(|message| r.error("regex", message))
    }
}
