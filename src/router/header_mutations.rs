//! Changes of headers, one after the other.
//!
//! Mirrors `HeaderMutations` of Envoy 1.40's `source/common/http/header_mutation.cc`.

use std::sync::Arc;

use super::header_parser::{Changed, HeaderParser};
use crate::config::ConfigError;
use crate::config::header_matcher::StringMatcher;
use crate::config::route;
use crate::http::HeaderMap;
use crate::http::header_utility::match_string;
use crate::stream_info::StreamInfoImpl;

/// See the module's description.
#[derive(Debug, Default)]
pub struct HeaderMutations(Box<[Mutation]>);

#[derive(Debug)]
enum Mutation {
    Remove(Box<str>),
    RemoveOnMatch(StringMatcher),
    Append(Arc<HeaderParser>),
}

impl HeaderMutations {
    /// Parses the formats of the list that stands in the field `name`.
    ///
    /// # Errors
    /// A format that cannot be parsed.
    pub fn new(config: &[route::HeaderMutation], name: &str) -> Result<Self, ConfigError> {
        let one = |(i, mutation): (usize, &route::HeaderMutation)| {
            Ok(match mutation {
                route::HeaderMutation::Remove(name) => Mutation::Remove(name.as_str().into()),
                route::HeaderMutation::RemoveOnMatch(matcher) => Mutation::RemoveOnMatch(matcher.clone()),
                route::HeaderMutation::Append(option) => {
                    Mutation::Append(HeaderParser::of_one(option).map_err(|message| {
                        ConfigError::new(format!("{name}[{i}].append.header.value"), message)
                    })?)
                }
            })
        };
        Ok(HeaderMutations(config.iter().enumerate().map(one).collect::<Result<_, _>>()?))
    }

    /// Changes such headers.
    pub fn evaluate(&self, headers: &mut HeaderMap, changed: Changed<'_>, info: &StreamInfoImpl) {
        for mutation in &self.0 {
            match mutation {
                Mutation::Remove(name) => headers.remove_by_name(name.as_bytes()),
                Mutation::RemoveOnMatch(matcher) => headers.remove_if(|name| match_string(name, matcher)),
                Mutation::Append(parser) => parser.evaluate(headers, changed, info),
            }
        }
    }
}
