//! A tree that leads from a request's headers to routes.
//!
//! Mirrors `MatchTree` and its kinds in Envoy 1.40's `source/common/matcher/matcher.h`,
//! `source/common/matcher/list_matcher.h`, `source/common/matcher/exact_map_matcher.h` and
//! `source/common/matcher/prefix_map_matcher.h`, as virtual hosts use them; 1.1 has none. What a part of the tree leads nowhere
//! for goes on in the part above.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use crate::config::header_matcher::StringMatcher;
use crate::config::matcher::{self, Branches, MatchInput, Matcher};
use crate::config::route::{MatchedRoutes, Route};
use crate::http::header_utility::match_string;
use crate::http::{HeaderMap, HeaderName};

/// A tree, or a part of one. It leads to places of routes.
#[derive(Debug)]
pub(super) struct MatchTree {
    kind: Kind,
    on_no_match: Option<OnMatch>,
}

#[derive(Debug)]
enum Kind {
    Any,
    List(Box<[(FieldMatcher, OnMatch)]>),
    Exact(HeaderName, HashMap<Box<[u8]>, OnMatch>),
    /// The longest first.
    Prefix(HeaderName, Box<[(Box<[u8]>, OnMatch)]>),
}

#[derive(Debug)]
enum FieldMatcher {
    Single(HeaderName, StringMatcher),
    Any(Box<[FieldMatcher]>),
    All(Box<[FieldMatcher]>),
    Not(Box<FieldMatcher>),
}

#[derive(Debug)]
enum OnMatch {
    Matcher(Box<MatchTree>),
    Action(Range<usize>),
}

impl MatchTree {
    /// Builds it, and puts the routes that it leads to behind the others.
    pub(super) fn new<'a>(config: &'a Matcher<MatchedRoutes>, routes: &mut Vec<&'a Route>) -> Self {
        let mut on_match = |config: &'a matcher::OnMatch<MatchedRoutes>| OnMatch::new(config, routes);
        let on_no_match = config.on_no_match.as_ref().map(&mut on_match);
        let kind = match &config.branches {
            Branches::None => Kind::Any,
            Branches::List(matchers) => {
                let one = |one: &'a matcher::FieldMatcher<MatchedRoutes>| {
                    (FieldMatcher::new(&one.predicate), on_match(&one.on_match))
                };
                Kind::List(matchers.iter().map(one).collect())
            }
            Branches::Exact(input, map) => {
                let children = map.iter().map(|(key, config)| (key.as_bytes().into(), on_match(config)));
                Kind::Exact(name(input), children.collect())
            }
            Branches::Prefix(input, map) => {
                let mut children: Vec<(Box<[u8]>, OnMatch)> =
                    map.iter().map(|(key, config)| (key.as_bytes().into(), on_match(config))).collect();
                children.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
                Kind::Prefix(name(input), children.into())
            }
        };
        MatchTree { kind, on_no_match }
    }

    /// The places of the routes that a request is led to (Envoy: `evaluateMatch`).
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<Range<usize>> {
        let found = match &self.kind {
            Kind::Any => None,
            Kind::List(matchers) => matchers
                .iter()
                .filter(|(matcher, _)| matcher.matches(headers))
                .find_map(|(_, on_match)| on_match.find(headers)),
            Kind::Exact(name, children) => value(name, headers)
                .and_then(|value| children.get(&*value))
                .and_then(|on_match| on_match.find(headers)),
            Kind::Prefix(name, children) => value(name, headers).and_then(|value| {
                let mut longest = children.iter().filter(|(prefix, _)| value.starts_with(prefix));
                longest.find_map(|(_, on_match)| on_match.find(headers))
            }),
        };
        found.or_else(|| self.on_no_match.as_ref()?.find(headers))
    }
}

impl OnMatch {
    fn new<'a>(config: &'a matcher::OnMatch<MatchedRoutes>, routes: &mut Vec<&'a Route>) -> Self {
        match config {
            matcher::OnMatch::Matcher(matcher) => OnMatch::Matcher(Box::new(MatchTree::new(matcher, routes))),
            matcher::OnMatch::Action(MatchedRoutes(matched)) => {
                let start = routes.len();
                routes.extend(matched);
                OnMatch::Action(start..routes.len())
            }
        }
    }

    fn find(&self, headers: &HeaderMap) -> Option<Range<usize>> {
        match self {
            OnMatch::Matcher(tree) => tree.find(headers),
            OnMatch::Action(places) => Some(places.clone()),
        }
    }
}

impl FieldMatcher {
    fn new(config: &matcher::Predicate) -> Self {
        let all = |predicates: &[matcher::Predicate]| predicates.iter().map(FieldMatcher::new).collect();
        match config {
            matcher::Predicate::Single(input, string) => FieldMatcher::Single(name(input), string.clone()),
            matcher::Predicate::Or(predicates) => FieldMatcher::Any(all(predicates)),
            matcher::Predicate::And(predicates) => FieldMatcher::All(all(predicates)),
            matcher::Predicate::Not(predicate) => FieldMatcher::Not(Box::new(FieldMatcher::new(predicate))),
        }
    }

    fn matches(&self, headers: &HeaderMap) -> bool {
        match self {
            FieldMatcher::Single(name, string) => {
                value(name, headers).is_some_and(|value| match_string(&value, string))
            }
            FieldMatcher::Any(matchers) => matchers.iter().any(|matcher| matcher.matches(headers)),
            FieldMatcher::All(matchers) => matchers.iter().all(|matcher| matcher.matches(headers)),
            FieldMatcher::Not(matcher) => !matcher.matches(headers),
        }
    }
}

fn name(input: &MatchInput) -> HeaderName {
    HeaderName::new(&input.0)
}

/// What a header says, with commas where it comes several times.
fn value<'a>(name: &'a HeaderName, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
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
