//! Callbacks that end with their handle. Mirrors Envoy's `source/common/common/callback_impl.h`.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// Keeps a callback registered; dropping it ends that.
#[must_use = "the callback is gone when the handle is dropped"]
pub struct CallbackHandle<F: ?Sized> {
    _callback: Rc<F>,
}

/// The callbacks for one kind of event, run in the order of registration.
pub struct CallbackManager<F: ?Sized> {
    callbacks: RefCell<Vec<Weak<F>>>,
}

impl<F: ?Sized> Default for CallbackManager<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: ?Sized> CallbackManager<F> {
    /// Without callbacks.
    pub fn new() -> Self {
        CallbackManager { callbacks: RefCell::new(Vec::new()) }
    }

    /// Registers a callback for as long as the handle lives.
    pub fn add(&self, callback: Rc<F>) -> CallbackHandle<F> {
        let mut callbacks = self.callbacks.borrow_mut();
        callbacks.retain(|c| c.strong_count() > 0);
        callbacks.reserve_exact(1);
        callbacks.push(Rc::downgrade(&callback));
        CallbackHandle { _callback: callback }
    }

    /// Calls `call` with each callback. One that is added meanwhile is not called, and neither is one
    /// whose handle is dropped before its turn.
    pub fn run(&self, call: impl Fn(&F)) {
        let callbacks = self.callbacks.borrow().clone();
        for callback in callbacks.iter().filter_map(Weak::upgrade) {
            call(&callback);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn callbacks_run_in_order_until_their_handle_is_dropped() {
        let manager = CallbackManager::<dyn Fn(u32)>::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let add = |name: &'static str| {
            let seen = seen.clone();
            manager.add(Rc::new(move |n| seen.borrow_mut().push((name, n))))
        };
        let (first, _second) = (add("first"), add("second"));
        manager.run(|c| c(1));
        drop(first);
        manager.run(|c| c(2));
        assert_eq!(*seen.borrow(), [("first", 1), ("second", 1), ("second", 2)]);
    }

    #[test]
    fn a_callback_may_unregister_the_next_and_register_another() {
        let manager = Rc::new(CallbackManager::<dyn Fn()>::new());
        let calls = Rc::new(Cell::new(0));
        let victim = Rc::new(RefCell::new(None::<CallbackHandle<dyn Fn()>>));
        let _first = {
            let (manager, victim, calls) = (Rc::downgrade(&manager), victim.clone(), calls.clone());
            manager.upgrade().unwrap().add(Rc::new(move || {
                calls.set(calls.get() + 1);
                drop(victim.take());
                let calls = calls.clone();
                let added = manager.upgrade().unwrap().add(Rc::new(move || calls.set(calls.get() + 10)));
                victim.replace(Some(added));
            }))
        };
        let other = calls.clone();
        let handle = manager.add(Rc::new(move || other.set(other.get() + 100)));
        victim.replace(Some(handle));
        manager.run(|c| c());
        assert_eq!(calls.get(), 1);
    }
}
