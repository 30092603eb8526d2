//! [`ClusterName`]: what routes call a cluster, with a number to find it by.
//!
//! Envoy has no counterpart: there the router looks a name up in each thread's table for each request. Here a name has a
//! number for as long as anybody has the name, so that a thread finds the cluster of a route in a list.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A cluster's name. Equal names have equal numbers, and no two of those that are there have the same; making one takes a
/// lock, which is for when a configuration is loaded.
#[derive(Clone)]
pub struct ClusterName(Arc<Named>);

struct Named {
    text: Arc<str>,
    number: usize,
}

static NAMES: Mutex<Option<Names>> = Mutex::new(None);

#[derive(Default)]
struct Names {
    by_text: HashMap<Arc<str>, Weak<Named>>,
    /// Numbers of names that are gone.
    free: Vec<usize>,
    /// How many numbers were ever given.
    given: usize,
}

fn names() -> MutexGuard<'static, Option<Names>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClusterName {
    /// That name.
    pub fn of(text: &str) -> Self {
        let mut names = names();
        let names = names.get_or_insert_default();
        if let Some(named) = names.by_text.get(text).and_then(Weak::upgrade) {
            return ClusterName(named);
        }
        let number = names.free.pop().unwrap_or_else(|| {
            names.given += 1;
            names.given - 1
        });
        let named = Arc::new(Named { text: text.into(), number });
        names.by_text.insert(named.text.clone(), Arc::downgrade(&named));
        ClusterName(named)
    }

    /// The number, from 0; as small as there is one.
    #[inline]
    pub fn number(&self) -> usize {
        self.0.number
    }

    /// The name, to keep a share of.
    pub fn text(&self) -> &Arc<str> {
        &self.0.text
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(names) = &mut *names() {
            // The name may have been given out anew, with another number, since the last share of this one went.
            if names.by_text.get(&self.text).is_some_and(|named| named.strong_count() == 0) {
                names.by_text.remove(&self.text);
            }
            names.free.push(self.number);
        }
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.text)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_while_it_is_there() {
        let a = ClusterName::of("names: a");
        let b = ClusterName::of("names: b");
        assert_ne!(a.number(), b.number());
        let again = ClusterName::of("names: a");
        assert!(Arc::ptr_eq(&a.0, &again.0));
        drop(a);
        assert_eq!(ClusterName::of("names: a").number(), again.number());
        assert_eq!((format!("{again}"), format!("{again:?}")), ("names: a".into(), "\"names: a\"".into()));
    }

    #[test]
    fn a_name_that_has_gone_leaves_nothing() {
        let number = ClusterName::of("names: gone").number();
        let names = names();
        let names = names.as_ref().unwrap();
        assert!(!names.by_text.contains_key("names: gone"));
        // Tests beside this one may have taken the number since.
        assert!(number < names.given);
    }

    #[test]
    fn threads_that_share_names_agree() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let (a, b) = (ClusterName::of("names: x"), ClusterName::of("names: x"));
                        assert_eq!(a.number(), b.number());
                        assert_ne!(a.number(), ClusterName::of("names: y").number());
                    }
                });
            }
        });
        let names = names();
        assert!(!names.as_ref().unwrap().by_text.contains_key("names: x"));
    }
}
