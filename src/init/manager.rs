//! Waits for targets. Mirrors Envoy's `source/common/init/manager_impl.cc`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::target::{TargetHandle, TargetImpl};
use super::watcher::{WatcherHandle, WatcherImpl};
use crate::envoy_log;

/// How far a manager is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its targets wait to be started.
    Uninitialized,
    /// It waits for its targets.
    Initializing,
    /// All of them are ready.
    Initialized,
}

/// Starts targets, and tells a watcher when all of them are ready.
pub struct ManagerImpl {
    name: String,
    state: Cell<State>,
    /// Targets that are not ready yet.
    count: Cell<usize>,
    /// What the targets tell.
    watcher: WatcherImpl,
    targets: RefCell<Vec<TargetHandle>>,
    told: RefCell<Option<WatcherHandle>>,
}

impl ManagerImpl {
    /// Without targets.
    pub fn new(name: &str) -> Rc<Self> {
        let name = format!("init manager {name}");
        Rc::new_cyclic(|weak: &Weak<ManagerImpl>| {
            let manager = weak.clone();
            let on_target_ready = move || {
                if let Some(manager) = manager.upgrade() {
                    manager.on_target_ready();
                }
            };
            ManagerImpl {
                watcher: WatcherImpl::new(&name, on_target_ready),
                name,
                state: Cell::new(State::Uninitialized),
                count: Cell::new(0),
                targets: RefCell::default(),
                told: RefCell::default(),
            }
        })
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Waits for a target, too, which is started with the others, or at once when they have been.
    pub fn add(&self, target: &TargetImpl) {
        debug_assert!(self.state() != State::Initialized, "{} comes too late", target.name());
        self.count.set(self.count.get() + 1);
        let handle = target.create_handle(&self.name);
        if self.state() == State::Uninitialized {
            envoy_log!(Init, debug, "added {} to {}", target.name(), self.name);
            self.targets.borrow_mut().push(handle);
        } else {
            handle.initialize(&self.watcher);
        }
    }

    /// Starts the targets; `watcher` is told when the last of them is ready, which may be now. A target that has gone
    /// counts as ready.
    pub fn initialize(&self, watcher: &WatcherImpl) {
        debug_assert!(self.state() == State::Uninitialized, "{} is initialized twice", self.name);
        *self.told.borrow_mut() = Some(watcher.create_handle(&self.name));
        if self.count.get() == 0 {
            envoy_log!(Init, debug, "{} contains no targets", self.name);
            self.ready();
            return;
        }
        envoy_log!(Init, debug, "{} initializing", self.name);
        self.state.set(State::Initializing);
        let targets = self.targets.take();
        for target in targets {
            if !target.initialize(&self.watcher) {
                self.on_target_ready();
            }
        }
    }

    fn on_target_ready(&self) {
        debug_assert!(self.count.get() > 0, "{} called back after its end", self.name);
        self.count.set(self.count.get().saturating_sub(1));
        if self.count.get() == 0 {
            self.ready();
        }
    }

    fn ready(&self) {
        self.state.set(State::Initialized);
        let told = self.told.take();
        if let Some(watcher) = told {
            watcher.ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Watched {
        manager: Rc<ManagerImpl>,
        watcher: WatcherImpl,
        ready: Rc<Cell<u32>>,
    }

    fn watched() -> Watched {
        let ready = Rc::new(Cell::new(0));
        let told = ready.clone();
        let watcher = WatcherImpl::new("test", move || told.set(told.get() + 1));
        Watched { manager: ManagerImpl::new("test"), watcher, ready }
    }

    /// A target, and how often it was started.
    fn target(name: &str) -> (TargetImpl, Rc<Cell<u32>>) {
        let started = Rc::new(Cell::new(0));
        let start = started.clone();
        (TargetImpl::new(name, move || start.set(start.get() + 1)), started)
    }

    #[test]
    fn without_targets_it_is_ready_at_once() {
        let w = watched();
        assert_eq!((w.manager.state(), w.ready.get()), (State::Uninitialized, 0));
        w.manager.initialize(&w.watcher);
        assert_eq!((w.manager.state(), w.ready.get()), (State::Initialized, 1));
    }

    #[test]
    fn it_waits_for_the_last_target_and_for_one_that_comes_meanwhile() {
        let w = watched();
        let ((first, started), (second, _)) = (target("a"), target("b"));
        w.manager.add(&first);
        w.manager.add(&second);
        assert!(!first.ready(), "nobody has asked yet");
        assert_eq!(started.get(), 0);
        w.manager.initialize(&w.watcher);
        assert_eq!((w.manager.state(), started.get()), (State::Initializing, 1));
        let (third, started) = target("c");
        w.manager.add(&third);
        assert_eq!(started.get(), 1);
        assert!(second.ready() && first.ready() && !first.ready());
        assert_eq!(w.ready.get(), 0);
        assert!(third.ready());
        assert_eq!((w.manager.state(), w.ready.get()), (State::Initialized, 1));
    }

    #[test]
    fn a_target_that_is_ready_when_it_starts_and_one_that_has_gone() {
        let w = watched();
        let at_once = Rc::new_cyclic(|weak: &Weak<TargetImpl>| {
            let weak = weak.clone();
            TargetImpl::new("at once", move || {
                weak.upgrade().unwrap().ready();
            })
        });
        w.manager.add(&at_once);
        w.manager.add(&target("gone").0);
        w.manager.initialize(&w.watcher);
        assert_eq!((w.manager.state(), w.ready.get()), (State::Initialized, 1));
    }

    #[test]
    fn a_target_that_goes_meanwhile_is_not_waited_for() {
        let w = watched();
        let ((first, _), (second, _)) = (target("a"), target("b"));
        w.manager.add(&first);
        w.manager.add(&second);
        w.manager.initialize(&w.watcher);
        drop(first);
        assert_eq!((w.manager.state(), w.ready.get()), (State::Initializing, 0));
        drop(second);
        assert_eq!((w.manager.state(), w.ready.get()), (State::Initialized, 1));
    }

    #[test]
    fn a_watcher_and_a_manager_that_have_gone_are_not_told() {
        let w = watched();
        let (first, _) = target("a");
        w.manager.add(&first);
        w.manager.initialize(&w.watcher);
        drop(w.watcher);
        assert!(first.ready(), "the manager is told");
        assert_eq!((w.manager.state(), w.ready.get()), (State::Initialized, 0));
        let w = watched();
        w.manager.add(&first);
        w.manager.initialize(&w.watcher);
        drop(w.manager);
        assert!(!first.ready());
    }
}
