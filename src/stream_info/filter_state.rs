//! [`FilterState`]: what filters leave in a stream for others.
//!
//! Mirrors Envoy's `source/common/stream_info/filter_state_impl.h`, and of 1.40 that an object can be told as text.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

/// What a filter may leave.
pub trait Object: Any {
    /// Its text, for logs and headers; `None` if it has none.
    fn serialize_as_string(&self) -> Option<String> {
        None
    }

    /// What requests are balanced by that have it; `None` for nothing.
    fn hash(&self) -> Option<u64> {
        None
    }
}

/// Objects by name.
#[derive(Default)]
pub struct FilterState(RefCell<BTreeMap<String, Rc<dyn Object>>>);

impl FilterState {
    /// Leaves an object, which stays as it is; false if there is one of this name.
    pub fn set_data(&self, name: &str, object: Rc<dyn Object>) -> bool {
        match self.0.borrow_mut().entry(name.to_string()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(object);
                true
            }
        }
    }

    /// What was left under this name.
    pub fn get_data(&self, name: &str) -> Option<Rc<dyn Object>> {
        self.0.borrow().get(name).cloned()
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
