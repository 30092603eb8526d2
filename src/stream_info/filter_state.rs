//! [`FilterState`]: what filters leave in a stream for others.
//!
//! Mirrors Envoy's `source/common/stream_info/filter_state_impl.h`, and of 1.40 that an object can be told as text.

use std::any::Any;
use std::cell::RefCell;
use std::collections::btree_map::{self, BTreeMap};
use std::rc::Rc;

/// What a filter may leave.
pub trait Object: Any {
    /// Its text, for logs and headers; `None` if it has none.
    fn serialize_as_string(&self) -> Option<String> {
        None
    }

    /// One of its fields, for logs and headers; `None` if it has none of this name.
    fn get_field(&self, _name: &str) -> Option<u64> {
        None
    }

    /// What requests are balanced by that have it; `None` for nothing.
    fn hash(&self) -> Option<u64> {
        None
    }
}

/// Objects by name.
#[derive(Default)]
pub struct FilterState(RefCell<BTreeMap<String, Entry>>);

struct Entry {
    object: Rc<dyn Object>,
    life_span: LifeSpan,
}

/// How long an object stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LifeSpan {
    /// As long as the filters do (Envoy: `FilterChain`).
    FilterChain,
    /// Also where the request begins anew (Envoy: `Request`).
    Request,
}

impl FilterState {
    /// Leaves an object, which stays as it is; false if there is one of this name.
    pub fn set_data(&self, name: &str, object: Rc<dyn Object>) -> bool {
        match self.0.borrow_mut().entry(name.to_string()) {
            btree_map::Entry::Occupied(_) => false,
            btree_map::Entry::Vacant(entry) => {
                entry.insert(Entry { object, life_span: LifeSpan::FilterChain });
                true
            }
        }
    }

    /// What was left under this name.
    pub fn get_data(&self, name: &str) -> Option<Rc<dyn Object>> {
        self.0.borrow().get(name).map(|entry| entry.object.clone())
    }

    /// What is left under this name for as long as the request lasts, made if there is nothing. Something else of the name is
    /// left alone.
    pub fn of_request<T: Object + Default>(&self, name: &str) -> Rc<T> {
        self.get_data_of(name).unwrap_or_else(|| {
            let object = Rc::new(T::default());
            let entry = Entry { object: object.clone(), life_span: LifeSpan::Request };
            self.0.borrow_mut().entry(name.to_string()).or_insert(entry);
            object
        })
    }

    /// Takes what stays with the request, which begins anew here.
    pub fn inherit(&self, other: &FilterState) {
        let other = other.0.borrow();
        let stays = other.iter().filter(|(_, entry)| entry.life_span == LifeSpan::Request);
        let stays = stays.map(|(name, entry)| {
            (name.clone(), Entry { object: entry.object.clone(), life_span: LifeSpan::Request })
        });
        self.0.borrow_mut().extend(stays);
    }

    /// What was left under this name, if it is a `T`.
    pub fn get_data_of<T: Object>(&self, name: &str) -> Option<Rc<T>> {
        let object: Rc<dyn Any> = self.get_data(name)?;
        object.downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Word(&'static str);

    impl Object for Word {
        fn serialize_as_string(&self) -> Option<String> {
            Some(self.0.to_string())
        }
    }

    struct Mute;

    impl Object for Mute {}

    #[test]
    fn what_is_of_the_request_stays_when_it_begins_anew() {
        #[derive(Default)]
        struct Count(std::cell::Cell<u32>);
        impl Object for Count {}
        let (first, second) = (FilterState::default(), FilterState::default());
        first.of_request::<Count>("n").0.set(1);
        assert_eq!(first.of_request::<Count>("n").0.get(), 1);
        assert!(first.set_data("w", Rc::new(Word("one"))));
        second.inherit(&first);
        assert_eq!(second.of_request::<Count>("n").0.get(), 1);
        assert!(second.get_data("w").is_none());
    }

    #[test]
    fn an_object_is_found_by_name_and_type_and_is_not_replaced() {
        let state = FilterState::default();
        assert!(state.set_data("a", Rc::new(Word("one"))));
        assert!(!state.set_data("a", Rc::new(Word("two"))));
        assert!(state.set_data("b", Rc::new(Mute)));
        assert_eq!(state.get_data_of::<Word>("a").as_deref(), Some(&Word("one")));
        assert!(state.get_data_of::<Mute>("a").is_none() && state.get_data("c").is_none());
        let text = |name| state.get_data(name).and_then(|object| object.serialize_as_string());
        assert_eq!((text("a").as_deref(), text("b")), (Some("one"), None));
    }
}
