//! A tree that leads from what is known of a request to routes, or to whatever else who has it wants.
//!
//! Mirrors `MatchTree` and its kinds in Envoy 1.40's `source/common/matcher/matcher.h`,
//! `source/common/matcher/list_matcher.h`, `source/common/matcher/exact_map_matcher.h` and
//! `source/common/matcher/prefix_map_matcher.h`, as virtual hosts and the rbac filter use them; 1.1 has none. What a part of the tree leads nowhere
//! for goes on in the part above.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::header_matcher::StringMatcher;
use crate::config::matcher::{self, Branches, MatchInput, Matcher};
use crate::http::header_utility::match_string;
use crate::http::{HeaderMap, HeaderName};
use crate::network::Address;
use crate::stream_info::StreamInfoImpl;

/// What is known of a request (Envoy: `HttpMatchingDataImpl`).
#[derive(Clone, Copy)]
pub struct MatchingData<'a> {
    /// The request.
    pub headers: &'a HeaderMap,
    /// The rest; without it only headers are there.
    pub info: Option<&'a StreamInfoImpl>,
}

/// A tree, or a part of one.
#[derive(Debug)]
pub struct MatchTree<T> {
    kind: Kind<T>,
    on_no_match: Option<OnMatch<T>>,
}

/// What each value leads to.
type Children<T> = Box<[(Box<[u8]>, OnMatch<T>)]>;

#[derive(Debug)]
enum Kind<T> {
    Any,
    List(Box<[(FieldMatcher, OnMatch<T>)]>),
    Exact(Input, HashMap<Box<[u8]>, OnMatch<T>>),
    /// The longest first.
    Prefix(Input, Children<T>),
}

#[derive(Debug)]
enum FieldMatcher {
    Single(Input, StringMatcher),
    Any(Box<[FieldMatcher]>),
    All(Box<[FieldMatcher]>),
    Not(Box<FieldMatcher>),
}

#[derive(Debug)]
enum OnMatch<T> {
    Matcher(Box<MatchTree<T>>),
    Action(T),
}

/// What is asked for.
#[derive(Debug)]
enum Input {
    Header(HeaderName),
    Other(MatchInput),
}

impl<T> MatchTree<T> {
    /// Builds it; `make` is told each action, in the order of the configuration.
    pub fn new<'a, A>(config: &'a Matcher<A>, make: &mut impl FnMut(&'a A) -> T) -> Self {
        let on_no_match = config.on_no_match.as_ref().map(|config| OnMatch::new(config, make));
        let kind = match &config.branches {
            Branches::None => Kind::Any,
            Branches::List(matchers) => {
                let one = |one: &'a matcher::FieldMatcher<A>| {
                    (FieldMatcher::new(&one.predicate), OnMatch::new(&one.on_match, make))
                };
                Kind::List(matchers.iter().map(one).collect())
            }
            Branches::Exact(input, map) => {
                let children =
                    map.iter().map(|(key, config)| (key.as_bytes().into(), OnMatch::new(config, make)));
                Kind::Exact(Input::new(input), children.collect())
            }
            Branches::Prefix(input, map) => {
                let children =
                    map.iter().map(|(key, config)| (key.as_bytes().into(), OnMatch::new(config, make)));
                let mut children: Vec<(Box<[u8]>, OnMatch<T>)> = children.collect();
                children.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
                Kind::Prefix(Input::new(input), children.into())
            }
        };
        MatchTree { kind, on_no_match }
    }

    /// What a request is led to (Envoy: `evaluateMatch`).
    pub fn find(&self, data: MatchingData<'_>) -> Option<&T> {
        let found = match &self.kind {
            Kind::Any => None,
            Kind::List(matchers) => matchers
                .iter()
                .filter(|(matcher, _)| matcher.matches(data))
                .find_map(|(_, on_match)| on_match.find(data)),
            Kind::Exact(input, children) => input
                .value(data)
                .and_then(|value| children.get(&*value))
                .and_then(|on_match| on_match.find(data)),
            Kind::Prefix(input, children) => input.value(data).and_then(|value| {
                let mut longest = children.iter().filter(|(prefix, _)| value.starts_with(prefix));
                longest.find_map(|(_, on_match)| on_match.find(data))
            }),
        };
        found.or_else(|| self.on_no_match.as_ref()?.find(data))
    }
}

impl<T> OnMatch<T> {
    fn new<'a, A>(config: &'a matcher::OnMatch<A>, make: &mut impl FnMut(&'a A) -> T) -> Self {
        match config {
            matcher::OnMatch::Matcher(matcher) => OnMatch::Matcher(Box::new(MatchTree::new(matcher, make))),
            matcher::OnMatch::Action(action) => OnMatch::Action(make(action)),
        }
    }

    fn find(&self, data: MatchingData<'_>) -> Option<&T> {
        match self {
            OnMatch::Matcher(tree) => tree.find(data),
            OnMatch::Action(action) => Some(action),
        }
    }
}

impl FieldMatcher {
    fn new(config: &matcher::Predicate) -> Self {
        let all = |predicates: &[matcher::Predicate]| predicates.iter().map(FieldMatcher::new).collect();
        match config {
            matcher::Predicate::Single(input, string) => {
                FieldMatcher::Single(Input::new(input), string.clone())
            }
            matcher::Predicate::Or(predicates) => FieldMatcher::Any(all(predicates)),
            matcher::Predicate::And(predicates) => FieldMatcher::All(all(predicates)),
            matcher::Predicate::Not(predicate) => FieldMatcher::Not(Box::new(FieldMatcher::new(predicate))),
        }
    }

    fn matches(&self, data: MatchingData<'_>) -> bool {
        match self {
            FieldMatcher::Single(input, string) => {
                input.value(data).is_some_and(|value| match_string(&value, string))
            }
            FieldMatcher::Any(matchers) => matchers.iter().any(|matcher| matcher.matches(data)),
            FieldMatcher::All(matchers) => matchers.iter().all(|matcher| matcher.matches(data)),
            FieldMatcher::Not(matcher) => !matcher.matches(data),
        }
    }
}

impl Input {
    fn new(config: &MatchInput) -> Self {
        match config {
            MatchInput::RequestHeader(name) => Input::Header(HeaderName::new(name)),
            other => Input::Other(other.clone()),
        }
    }

    /// `None` for what is not there.
    fn value<'a>(&'a self, data: MatchingData<'a>) -> Option<Cow<'a, [u8]>> {
        let other = match self {
            Input::Header(name) => return joined(name, data.headers),
            Input::Other(other) => other,
        };
        let info = data.info?;
        let connection = || info.downstream_connection();
        let text = match other {
            MatchInput::DestinationIp => ip(connection()?.local_address()?)?,
            MatchInput::DestinationPort => port(connection()?.local_address()?)?,
            MatchInput::SourceIp => ip(info.downstream_remote_address()?)?,
            MatchInput::SourcePort => port(info.downstream_remote_address()?)?,
            MatchInput::DirectSourceIp => ip(connection()?.remote_address())?,
            MatchInput::FilterState(key) => info.filter_state()?.get_data(key)?.serialize_as_string()?,
            MatchInput::RequestHeader(_) | MatchInput::Nothing => return None,
        };
        Some(Cow::Owned(text.into_bytes()))
    }
}

fn ip(address: Address) -> Option<String> {
    Some(address.ip()?.ip().to_string())
}

fn port(address: Address) -> Option<String> {
    Some(address.ip()?.port().to_string())
}

/// What a header says, with commas where it comes several times.
fn joined<'a>(name: &'a HeaderName, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let mut values = name.values(headers);
    let first = values.next()?;
    let mut all = Cow::Borrowed(first);
    for value in values {
        let all = all.to_mut();
        all.push(b',');
        all.extend_from_slice(value);
    }
    Some(all)
}
