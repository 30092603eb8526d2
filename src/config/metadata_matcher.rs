//! `envoy.type.matcher.v3.MetadataMatcher` and `FilterStateMatcher`: what filters have said of a stream, or left in it.

use serde_json::Value;

use super::error::ConfigError;
use super::header_matcher::StringMatcher;
use super::reader::{FromMessage, MessageReader};
use crate::message;

/// What a value among metadata has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataMatcher {
    /// Who has said it.
    pub filter: String,
    /// Where in what it has said.
    pub path: Vec<String>,
    /// What it has to be.
    pub value: ValueMatcher,
    /// It has to be anything else.
    pub invert: bool,
}

/// What a value has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatcher {
    /// Nothing, and said to be.
    Null,
    /// This number.
    Number(f64),
    /// A number from the first on, below the second.
    Range(f64, f64),
    /// A text.
    String(StringMatcher),
    /// A yes or a no.
    Bool(bool),
    /// There, whatever it is; `false` is never so.
    Present(bool),
    /// A list with one that is such.
    List(Box<ValueMatcher>),
    /// One of these.
    Or(Vec<ValueMatcher>),
}

message! {
    /// A step to a value.
    #[derive(Eq)]
    pub message PathSegment = "envoy.type.matcher.v3.MetadataMatcher.PathSegment" {
        /// The key of the next one.
        pub key: String,
    }
}

impl FromMessage for MetadataMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let path: Vec<PathSegment> = r.messages("path")?;
        Ok(MetadataMatcher {
            filter: r.string("filter")?,
            path: path.into_iter().map(|segment| segment.key).collect(),
            invert: r.bool("invert")?,
            value: r.required_message("value")?,
        })
    }
}

impl FromMessage for ValueMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let members = [
            "null_match",
            "double_match",
            "string_match",
            "bool_match",
            "present_match",
            "list_match",
            "or_match",
        ];
        let missing = |r: &MessageReader<'_>, name: &str| r.error(name, "value is required");
        Ok(match r.exactly_one(&members)? {
            "null_match" => {
                r.message_with("null_match", |_| Ok(()))?;
                ValueMatcher::Null
            }
            name @ "double_match" => r.message_with(name, read_double)?.ok_or_else(|| missing(r, name))?,
            "string_match" => ValueMatcher::String(r.required_message("string_match")?),
            "bool_match" => ValueMatcher::Bool(r.bool("bool_match")?),
            "present_match" => ValueMatcher::Present(r.bool("present_match")?),
            name @ "list_match" => {
                let one: Option<ValueMatcher> = r.message_with(name, |r| r.required_message("one_of"))?;
                ValueMatcher::List(Box::new(one.ok_or_else(|| missing(r, name))?))
            }
            name => {
                let all = r.message_with(name, |r| r.messages("value_matchers"))?;
                ValueMatcher::Or(all.ok_or_else(|| missing(r, name))?)
            }
        })
    }
}

fn read_double(r: &mut MessageReader<'_>) -> Result<ValueMatcher, ConfigError> {
    if r.exactly_one(&["range", "exact"])? == "exact" {
        return Ok(ValueMatcher::Number(r.opt_f64("exact")?.unwrap_or_default()));
    }
    let range = r.message_with("range", |r| {
        Ok((r.opt_f64("start")?.unwrap_or_default(), r.opt_f64("end")?.unwrap_or_default()))
    })?;
    let (start, end) = range.unwrap_or_default();
    Ok(ValueMatcher::Range(start, end))
}

/// What the text of an object in the state of a stream has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterStateMatcher {
    /// The object's name.
    pub key: String,
    /// Its text.
    pub text: StringMatcher,
}

impl FromMessage for FilterStateMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(FilterStateMatcher { key: r.string("key")?, text: r.required_message("string_match")? })
    }
}

impl ValueMatcher {
    /// Whether a value is such; `matches` compares texts.
    pub fn matches(&self, value: Option<&Value>, matches: fn(&[u8], &StringMatcher) -> bool) -> bool {
        let number = || value.and_then(Value::as_f64);
        match self {
            ValueMatcher::Null => value.is_some_and(Value::is_null),
            ValueMatcher::Number(wanted) => number() == Some(*wanted),
            ValueMatcher::Range(start, end) => {
                number().is_some_and(|number| (*start..*end).contains(&number))
            }
            ValueMatcher::String(text) => {
                value.and_then(Value::as_str).is_some_and(|value| matches(value.as_bytes(), text))
            }
            ValueMatcher::Bool(wanted) => value.and_then(Value::as_bool) == Some(*wanted),
            ValueMatcher::Present(wanted) => *wanted && value.is_some(),
            ValueMatcher::List(one) => {
                let list = value.and_then(Value::as_array);
                list.is_some_and(|list| list.iter().any(|value| one.matches(Some(value), matches)))
            }
            ValueMatcher::Or(all) => all.iter().any(|matcher| matcher.matches(value, matches)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::header_matcher::Place;
    use serde_json::json;

    #[test]
    fn values_are_compared_by_their_kind() {
        let text = |text: &str| {
            ValueMatcher::String(StringMatcher { text: text.into(), place: Place::Whole, ignore_case: false })
        };
        let same = |value: &[u8], matcher: &StringMatcher| value == matcher.text.as_bytes();
        let matches = |matcher: &ValueMatcher, value: Value| matcher.matches(Some(&value), same);
        assert!(matches(&ValueMatcher::Null, json!(null)) && !ValueMatcher::Null.matches(None, same));
        assert!(
            matches(&ValueMatcher::Number(1.0), json!(1)) && !matches(&ValueMatcher::Number(1.0), json!("1"))
        );
        let range = ValueMatcher::Range(1.0, 2.0);
        assert!(matches(&range, json!(1)) && matches(&range, json!(1.5)) && !matches(&range, json!(2)));
        assert!(matches(&text("a"), json!("a")) && !matches(&text("a"), json!(["a"])));
        assert!(
            matches(&ValueMatcher::Bool(false), json!(false))
                && !ValueMatcher::Bool(false).matches(None, same)
        );
        assert!(
            matches(&ValueMatcher::Present(true), json!(null))
                && !matches(&ValueMatcher::Present(false), json!(1))
        );
        let list = ValueMatcher::List(Box::new(ValueMatcher::Or(vec![text("a"), ValueMatcher::Number(2.0)])));
        assert!(
            matches(&list, json!(["b", 2])) && !matches(&list, json!(["b"])) && !matches(&list, json!("a"))
        );
    }
}
