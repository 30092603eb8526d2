//! Changes of a request's query.
//!
//! Mirrors `QueryParameterMutationAppend` of Envoy 1.40's `source/extensions/filters/http/header_mutation/header_mutation.cc`,
//! and `QueryParamsMulti` of `source/common/http/utility.cc`: what is changed is read as a whole and written anew, in the
//! order of the names.

use std::collections::BTreeMap;

use crate::common::percent;
use crate::config::ConfigError;
use crate::config::reader::MessageReader;
use crate::config::route::AppendAction;
use crate::formatter::{Context, Formatter};
use crate::http::{HeaderId, HeaderMap};
use crate::stream_info::StreamInfoImpl;

/// One change.
#[derive(Debug)]
pub(super) enum QueryParameterMutation {
    /// Parameters of this name go.
    Remove(String),
    /// One is added.
    Append { key: String, value: Formatter, action: AppendAction },
}

/// The values of parameters, by their names.
type Parameters = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// `envoy.config.core.v3.KeyValueMutation`.
pub(super) fn read(r: &mut MessageReader<'_>) -> Result<QueryParameterMutation, ConfigError> {
    let key = r.string("remove")?;
    let append = r.message_with("append", read_append)?;
    match (append, key.is_empty()) {
        (None, true) if r.has("append") => Err(r.noted()),
        (None, true) => Err(r.error("append", "One of 'append'/'remove' must be specified.")),
        (None, false) => Ok(QueryParameterMutation::Remove(key)),
        (Some(append), true) => Ok(append),
        (Some(_), false) => Err(r.error("append", "Only one of 'append'/'remove can be specified.")),
    }
}

fn read_append(r: &mut MessageReader<'_>) -> Result<QueryParameterMutation, ConfigError> {
    let action = r.enumeration("action", ACTIONS)?.unwrap_or_default();
    let record = r.message_with("record", |r| {
        let key = r.string("key")?;
        match r.value("value")?.and_then(|value| value.as_str()) {
            Some(value) => Ok((key, Formatter::new_omitting_empty(value).map_err(|e| r.error("value", e))?)),
            None => Err(r.error("value", "Only string value is allowed for record value.")),
        }
    })?;
    let none = |r: &MessageReader<'_>| match r.has("record") {
        true => r.noted(),
        false => r.error("record", "No record specified for append mutation."),
    };
    let (key, value) = record.ok_or_else(|| none(r))?;
    Ok(QueryParameterMutation::Append { key, value, action })
}

/// The names of `KeyValueAppend.KeyValueAppendAction`.
const ACTIONS: &[(&str, AppendAction)] = AppendAction::TABLE;

/// Changes the query of a request, if it has a path.
pub(super) fn mutate(mutations: &[QueryParameterMutation], headers: &mut HeaderMap, info: &StreamInfoImpl) {
    let Some(path) = headers.get(HeaderId::Path).filter(|_| !mutations.is_empty()) else { return };
    let (plain, query) = path.split_at(memchr::memchr(b'?', path).unwrap_or(path.len()));
    let mut parameters = parse(query.get(1..).unwrap_or_default());
    for mutation in mutations {
        match mutation {
            QueryParameterMutation::Remove(key) => {
                parameters.remove(key.as_bytes());
            }
            QueryParameterMutation::Append { key, value, action } => {
                let made = || {
                    let mut made = Vec::new();
                    let context = Context { request_headers: Some(headers), ..Context::new(info) };
                    value.format(&mut made, &context);
                    encode(&made)
                };
                append(&mut parameters, key.as_bytes(), *action, made);
            }
        }
    }
    let mut new = plain.to_vec();
    let mut delimiter = b'?';
    for (key, value) in parameters.iter().flat_map(|(key, all)| all.iter().map(move |value| (key, value))) {
        new.push(delimiter);
        new.extend_from_slice(key);
        new.push(b'=');
        new.extend_from_slice(value);
        delimiter = b'&';
    }
    headers.set(HeaderId::Path, &new);
}

fn append(parameters: &mut Parameters, key: &[u8], action: AppendAction, made: impl Fn() -> Vec<u8>) {
    let is_there = parameters.contains_key(key);
    match action {
        AppendAction::AppendIfExistsOrAdd => parameters.entry(key.to_vec()).or_default().push(made()),
        AppendAction::AddIfAbsent if is_there => {}
        AppendAction::OverwriteIfExists if !is_there => {}
        _ => {
            parameters.insert(key.to_vec(), vec![made()]);
        }
    }
}

fn parse(query: &[u8]) -> Parameters {
    let mut parameters = Parameters::new();
    if query.is_empty() {
        return parameters;
    }
    // Nothing behind the last delimiter is no parameter.
    for parameter in query.strip_suffix(b"&").unwrap_or(query).split(|byte| *byte == b'&') {
        let (key, value) = match memchr::memchr(b'=', parameter) {
            Some(at) => (&parameter[..at], &parameter[at + 1..]),
            None => (parameter, &b""[..]),
        };
        parameters.entry(decode(key)).or_default().push(decode(value));
    }
    parameters
}

/// Without escapes, but those of bytes that a request line cannot have.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = (digit(at + 1).zip(digit(at + 2)))
            .filter(|_| text[at] == b'%')
            .map(|(high, low)| (16 * high + low) as u8)
            .filter(|byte| *byte > b' ' && *byte != 0x7f);
        decoded.push(escaped.unwrap_or(text[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    decoded
}

/// With escapes for all that is not plain.
fn encode(text: &[u8]) -> Vec<u8> {
    percent::encode(text, |byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_that_would_break_a_request_line_stay() {
        for (text, decoded) in [
            ("a%41%2b+", "aA++"),
            ("%0d%0A%00%20%7F", "%0d%0A%00%20%7F"),
            ("%zz%4", "%zz%4"),
            ("%", "%"),
            ("%c3%a9%26", "\u{e9}&"),
        ] {
            assert_eq!(String::from_utf8_lossy(&decode(text.as_bytes())), decoded, "{text}");
        }
        assert_eq!(encode("a b~\u{e9}".as_bytes()), b"a%20b%7E%C3%A9");
    }
}
