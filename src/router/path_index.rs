//! Which of many routes can be for a path.
//!
//! Envoy tries a virtual host's routes one after the other. Here those with literal paths and prefixes are found by them, and
//! only what is left is tried with those, in the order of the configuration.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::route_match::{RouteMatch, plain};
use crate::config::route::PathMatch;

/// Fewer routes are tried one after the other.
const FEW: usize = 8;

/// The places of the routes with some text, in order. The quick hash has no secret: who asks for paths does not choose those that
/// are there.
type Places = HashMap<Box<[u8]>, Vec<u32>, FixedState>;

/// The places of routes, by their paths.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    exact: Places,
    /// By their lengths, the shortest first.
    prefixes: Vec<(usize, Places)>,
    /// What can be for any path.
    others: Vec<u32>,
}

impl PathIndex {
    /// `None` where it would gain nothing.
    pub(super) fn new<'a>(routes: impl ExactSizeIterator<Item = &'a RouteMatch>) -> Option<Self> {
        if routes.len() <= FEW {
            return None;
        }
        let mut index = PathIndex::default();
        for (place, route) in routes.enumerate() {
            let place = place as u32;
            match route.path() {
                PathMatch::Path(path) if route.is_case_sensitive() && !route.ignores_parameters() => {
                    index.exact.entry(path.as_bytes().into()).or_default().push(place);
                }
                PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix)
                    if route.is_case_sensitive() =>
                {
                    index.add_prefix(prefix.as_bytes(), place);
                }
                _ => index.others.push(place),
            }
        }
        index.prefixes.sort_by_key(|(length, _)| *length);
        Some(index)
    }

    fn add_prefix(&mut self, prefix: &[u8], place: u32) {
        let found = self.prefixes.iter().position(|(length, _)| *length == prefix.len());
        let at = found.unwrap_or_else(|| {
            self.prefixes.push((prefix.len(), Places::default()));
            self.prefixes.len() - 1
        });
        self.prefixes[at].1.entry(prefix.into()).or_default().push(place);
    }

    /// The first of the routes that can be for this path and that `matches`.
    pub(super) fn find(&self, path: &[u8], mut matches: impl FnMut(usize) -> bool) -> Option<usize> {
        let path = plain(path);
        let mut lists: SmallVec<[&[u32]; 8]> = SmallVec::new();
        lists.push(&self.others);
        lists.extend(self.exact.get(path).map(Vec::as_slice));
        for (length, prefixes) in self.prefixes.iter().take_while(|(length, _)| *length <= path.len()) {
            lists.extend(prefixes.get(&path[..*length]).map(Vec::as_slice));
        }
        loop {
            let next = lists.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
            let place = next[0] as usize;
            *next = &next[1..];
            if matches(place) {
                return Some(place);
            }
        }
    }
}
