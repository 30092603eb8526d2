//! Something that has to be ready. Mirrors Envoy's `source/common/init/target_impl.cc`.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::watcher::{WatcherHandle, WatcherImpl};
use crate::envoy_log;

/// Is started by a manager, and says when it is ready.
pub struct TargetImpl {
    name: String,
    inner: Rc<Inner>,
}

struct Inner {
    initialize: Box<dyn Fn()>,
    watcher: RefCell<Option<WatcherHandle>>,
}

impl TargetImpl {
    /// `initialize` starts it.
    pub fn new(name: &str, initialize: impl Fn() + 'static) -> Self {
        let inner = Inner { initialize: Box::new(initialize), watcher: RefCell::default() };
        TargetImpl { name: format!("target {name}"), inner: Rc::new(inner) }
    }

    /// Its name, as the log has it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A way to start it; `handle_name` says who does.
    pub(super) fn create_handle(&self, handle_name: &str) -> TargetHandle {
        TargetHandle {
            handle_name: handle_name.to_string(),
            name: self.name.clone(),
            inner: Rc::downgrade(&self.inner),
        }
    }

    /// Says that it is ready. Only the first time counts; false when there was nobody to tell.
    pub fn ready(&self) -> bool {
        let watcher = self.inner.watcher.take();
        watcher.is_some_and(|watcher| watcher.ready())
    }
}

impl Drop for TargetImpl {
    fn drop(&mut self) {
        // Nobody need wait for what nobody wants any more. In Envoy its owners see to it.
        self.ready();
        envoy_log!(Init, debug, "{} destroyed", self.name);
    }
}

/// Starts a target that is still there.
pub(super) struct TargetHandle {
    handle_name: String,
    name: String,
    inner: Weak<Inner>,
}

impl TargetHandle {
    /// Starts the target, which tells `watcher`; false when it has gone.
    pub(super) fn initialize(&self, watcher: &WatcherImpl) -> bool {
        let Some(inner) = self.inner.upgrade() else {
            envoy_log!(Init, debug, "{} can't initialize {} (unavailable)", self.handle_name, self.name);
            return false;
        };
        envoy_log!(Init, debug, "{} initializing {}", self.handle_name, self.name);
        *inner.watcher.borrow_mut() = Some(watcher.create_handle(&self.name));
        (inner.initialize)();
        true
    }
}
