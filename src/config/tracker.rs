//! Who can show a part of the configuration that is in force. Mirrors Envoy's `source/server/http/config_tracker_impl.cc`.

use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Makes a dump of what has a name that is wanted.
pub type DumpCb = dyn Fn(&dyn Fn(&str) -> bool) -> Value;

/// What can be shown, by key. Main thread only.
#[derive(Default)]
pub struct ConfigTrackerImpl {
    callbacks: RefCell<BTreeMap<&'static str, Weak<DumpCb>>>,
}

/// Keeps a part shown; dropping it ends that.
#[must_use = "nothing is shown any more when it is dropped"]
pub struct EntryOwner {
    _callback: Rc<DumpCb>,
}

impl ConfigTrackerImpl {
    /// Shows a part for as long as what is returned lives; `None` when another has that key.
    pub fn add(
        &self,
        key: &'static str,
        callback: impl Fn(&dyn Fn(&str) -> bool) -> Value + 'static,
    ) -> Option<EntryOwner> {
        let mut callbacks = self.callbacks.borrow_mut();
        if callbacks.get(key).is_some_and(|other| other.strong_count() > 0) {
            return None;
        }
        let callback: Rc<DumpCb> = Rc::new(callback);
        callbacks.insert(key, Rc::downgrade(&callback));
        Some(EntryOwner { _callback: callback })
    }

    /// What shows each part, in the order of the keys.
    pub fn callbacks(&self) -> Vec<Rc<DumpCb>> {
        self.callbacks.borrow().values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_shown_while_its_owner_lives() {
        let tracker = ConfigTrackerImpl::default();
        let shown = || tracker.callbacks().iter().map(|callback| callback(&|_| true)).collect::<Vec<Value>>();
        let second = tracker.add("b", |_| 2.into()).unwrap();
        let _first = tracker.add("a", |wanted| wanted("x").into()).unwrap();
        assert!(tracker.add("b", |_| 3.into()).is_none());
        assert_eq!(shown(), [Value::from(true), 2.into()]);
        drop(second);
        assert_eq!(shown(), [Value::from(true)]);
        let _third = tracker.add("b", |_| 3.into()).unwrap();
        assert_eq!(shown(), [Value::from(true), 3.into()]);
    }
}
