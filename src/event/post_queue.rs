//! What other threads, and a loop's own, want done in the loop.
//!
//! Mirrors `DispatcherImpl::post` and `DispatcherImpl::runPostCallbacks` of Envoy's `source/common/event/dispatcher_impl.cc`. It
//! knows the loop as a [`PostTarget`] alone, so that a model may stand in its place.

use std::collections::VecDeque;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};

use crate::trace::{self, Stage};

pub(super) type PostCb = Box<dyn FnOnce() + Send>;

/// The loop, as far as posts go.
pub(super) trait PostTarget: Send {
    /// Whether this is the loop's thread.
    fn is_own_thread(&self) -> bool;
    /// Has [`PostQueue::run`] called in this pass of the loop. Only for its own thread.
    fn activate(&self);
    /// Has [`PostQueue::woken`] called in the loop, from whatever thread.
    fn wake(&self);
    /// Ends the loop after its pass. Only for its own thread.
    fn exit(&self);
}

/// Callbacks on their way into a loop.
pub(super) struct PostQueue<L> {
    state: Mutex<PostState<L>>,
}

struct PostState<L> {
    callbacks: VecDeque<PostCb>,
    exit: bool,
    /// There while the loop is.
    target: Option<L>,
}

impl<L: PostTarget> PostQueue<L> {
    /// A queue that drops what it is given until it is opened.
    pub(super) fn new() -> Self {
        let state = PostState { callbacks: VecDeque::new(), exit: false, target: None };
        PostQueue { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, PostState<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on posts go to `target`.
    pub(super) fn open(&self, target: L) {
        self.lock().target = Some(target);
    }

    /// From here on posts are dropped, as are those that have not run, and none touches the loop.
    pub(super) fn close(&self) {
        let left = {
            let mut state = self.lock();
            state.target = None;
            std::mem::take(&mut state.callbacks)
        };
        drop(left);
    }

    pub(super) fn post(&self, callback: PostCb) {
        let mut state = self.lock();
        if state.target.is_none() {
            drop(state);
            return;
        }
        state.callbacks.push_back(callback);
        let wakes = state.callbacks.len() == 1;
        trace::instant(Stage::Post, None, 0, wakes.into(), 0);
        let Some(target) = &state.target else { return };
        if target.is_own_thread() {
            // Also where another thread has been first: the loop has not heard of that yet, and this is for this pass.
            target.activate();
        } else if wakes {
            // Only the push that found the list empty wakes the loop.
            target.wake();
        }
    }

    /// Ends the loop after its pass.
    pub(super) fn exit(&self) {
        let mut state = self.lock();
        state.exit = true;
        if let Some(target) = &state.target {
            target.wake();
        }
    }

    /// Does in the loop what other threads have woken it for.
    pub(super) fn woken(&self) {
        let mut state = self.lock();
        let exit = std::mem::take(&mut state.exit);
        let posted = !state.callbacks.is_empty();
        let Some(target) = &state.target else { return };
        if exit {
            target.exit();
        }
        if posted {
            target.activate();
        }
    }

    /// Runs callbacks one at a time, outside the lock, until none is left.
    pub(super) fn run(&self) {
        loop {
            let (callback, left) = {
                let callbacks = &mut self.lock().callbacks;
                (callbacks.pop_front(), callbacks.len())
            };
            let Some(callback) = callback else { return };
            let _stage = trace::scope(Stage::RunPostCallbacks, None, 0, left as u64, 0);
            callback();
        }
    }
}

/// That no post is forgotten, in every order of the threads: a loop that sleeps for ever is a deadlock to loom.
#[cfg(all(test, loom))]
mod model {
    use std::sync::Arc as Plain;

    use loom::sync::Arc;
    use loom::sync::Notify;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::thread::{self, ThreadId};

    use super::*;

    /// A loop: an eventfd, and an event that is activated.
    struct Played {
        thread: ThreadId,
        eventfd: Arc<Notify>,
        active: Arc<AtomicBool>,
        exited: Arc<AtomicBool>,
    }

    impl PostTarget for Played {
        fn is_own_thread(&self) -> bool {
            thread::current().id() == self.thread
        }

        fn activate(&self) {
            assert!(self.is_own_thread());
            self.active.store(true, Ordering::Relaxed);
        }

        fn wake(&self) {
            self.eventfd.notify();
        }

        fn exit(&self) {
            assert!(self.is_own_thread());
            self.exited.store(true, Ordering::Relaxed);
        }
    }

    #[derive(Clone)]
    struct Loop {
        queue: Arc<PostQueue<Played>>,
        eventfd: Arc<Notify>,
        active: Arc<AtomicBool>,
        exited: Arc<AtomicBool>,
        done: Arc<AtomicUsize>,
    }

    impl Loop {
        fn new() -> Loop {
            let new = Loop {
                queue: Arc::new(PostQueue::new()),
                eventfd: Arc::new(Notify::new()),
                active: Arc::new(AtomicBool::new(false)),
                exited: Arc::new(AtomicBool::new(false)),
                done: Arc::new(AtomicUsize::new(0)),
            };
            new.queue.open(Played {
                thread: thread::current().id(),
                eventfd: new.eventfd.clone(),
                active: new.active.clone(),
                exited: new.exited.clone(),
            });
            new
        }

        /// Posts what counts itself.
        fn post(&self) {
            let done = self.done.clone();
            self.queue.post(Box::new(move || {
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }

        fn run_active(&self) {
            while self.active.swap(false, Ordering::Relaxed) {
                self.queue.run();
            }
        }

        /// Goes round until `until` holds.
        fn run(&self, until: impl Fn(&Loop) -> bool) {
            self.run_active();
            while !until(self) {
                self.eventfd.wait();
                self.queue.woken();
                self.run_active();
            }
        }
    }

    fn on(of: &Loop, f: impl FnOnce(&Loop) + 'static) -> thread::JoinHandle<()> {
        let of = of.clone();
        thread::spawn(move || f(&of))
    }

    /// Every order in which a thread is interrupted twice where it could go on; all of them would take hours.
    fn explore(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(model);
    }

    #[test]
    fn each_post_of_two_threads_runs_once() {
        explore(|| {
            let played = Loop::new();
            let others = [on(&played, Loop::post), on(&played, Loop::post)];
            played.run(|l| l.done.load(Ordering::Relaxed) == 2);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(played.done.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn a_post_of_the_loop_itself_runs_in_the_same_pass() {
        explore(|| {
            let played = Loop::new();
            let other = on(&played, Loop::post);
            let (again, own) = (played.clone(), played.done.clone());
            played.queue.post(Box::new(move || {
                again.post();
                own.fetch_add(1, Ordering::Relaxed);
            }));
            played.run_active();
            assert!(played.done.load(Ordering::Relaxed) >= 2, "both of its own");
            played.run(|l| l.done.load(Ordering::Relaxed) == 3);
            other.join().unwrap();
        });
    }

    #[test]
    fn an_exit_is_not_forgotten_beside_a_post() {
        explore(|| {
            let played = Loop::new();
            let others = [on(&played, |l| l.queue.exit()), on(&played, Loop::post)];
            played.run(|l| l.exited.load(Ordering::Relaxed) && l.done.load(Ordering::Relaxed) == 1);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    #[test]
    fn what_comes_when_the_loop_goes_is_dropped() {
        explore(|| {
            let played = Loop::new();
            let token = Plain::new(());
            let held = token.clone();
            let other = on(&played, move |l| l.queue.post(Box::new(move || drop(held))));
            played.queue.close();
            other.join().unwrap();
            assert_eq!(Plain::strong_count(&token), 1);
        });
    }
}
