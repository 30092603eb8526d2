//! Who is told that something is ready. Mirrors Envoy's `source/common/init/watcher_impl.cc`.

use std::rc::{Rc, Weak};

use crate::envoy_log;

/// Is told through its handles, for as long as it lives.
pub struct WatcherImpl {
    name: String,
    ready: Rc<dyn Fn()>,
}

impl WatcherImpl {
    /// Calls `ready` when a handle says so.
    pub fn new(name: &str, ready: impl Fn() + 'static) -> Self {
        WatcherImpl { name: name.to_string(), ready: Rc::new(ready) }
    }

    /// A way to tell it; `handle_name` says who does.
    pub(super) fn create_handle(&self, handle_name: &str) -> WatcherHandle {
        WatcherHandle {
            handle_name: handle_name.to_string(),
            name: self.name.clone(),
            ready: Rc::downgrade(&self.ready),
        }
    }
}

impl Drop for WatcherImpl {
    fn drop(&mut self) {
        envoy_log!(Init, debug, "{} destroyed", self.name);
    }
}

/// Tells a watcher that is still there.
pub(super) struct WatcherHandle {
    handle_name: String,
    name: String,
    ready: Weak<dyn Fn()>,
}

impl WatcherHandle {
    /// Tells the watcher; false when it has gone.
    pub(super) fn ready(&self) -> bool {
        let Some(ready) = self.ready.upgrade() else {
            envoy_log!(
                Init,
                debug,
                "{} initialized, but can't notify {} (unavailable)",
                self.handle_name,
                self.name
            );
            return false;
        };
        envoy_log!(Init, debug, "{} initialized, notifying {}", self.handle_name, self.name);
        ready();
        true
    }
}
