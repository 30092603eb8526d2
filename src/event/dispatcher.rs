//! The dispatcher: one event loop and what is scheduled on it.
//!
//! Mirrors Envoy's `source/common/event/dispatcher_impl.cc`. "Do it next" is always `event_active`,
//! so a post or a deferred deletion made inside a callback happens in the same pass, without a poll
//! in between, after everything that was queued before it.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::thread::{self, ThreadId};

use super::ffi;
use super::libevent::Base;
use super::post_queue::{PostQueue, PostTarget};
use super::timeout::TimeoutLists;
use super::waker::{Waker, WakerHandle};
use super::{AcceptedFd, DnsChannel, DnsOptions, FileEvent, Listener, Pulse, SignalEvent, Timer};
use crate::envoy_log;
use crate::trace::{self, Stage, log_stage};

/// What may wait for the end of the pass to be dropped.
pub trait DeferredDeletable {}
impl<T: 'static> DeferredDeletable for T {}

/// How [`Dispatcher::run`] ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunType {
    /// Runs until no event is left or `exit` is called.
    Block,
    /// Runs what is ready now and returns.
    NonBlock,
    /// Runs until `exit` is called, even with no event registered.
    RunUntilExit,
}

/// Why [`Dispatcher::run`] has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunEnd {
    /// As its [`RunType`] says.
    Done,
    /// The kernel cannot be asked for events any more, which is logged: what is registered never runs again.
    Failed,
}

/// One `event_base` and the thread-bound things made from it.
pub struct Dispatcher {
    name: String,
    base: Rc<Base>,
    posts: Arc<PostQueue<LoopRef>>,
    post_timer: Timer,
    waker: Waker,
    deferred_delete_timer: Timer,
    timeouts: Rc<TimeoutLists>,
    deferred: [RefCell<Vec<Rc<dyn DeferredDeletable>>>; 2],
    current_deferred: Cell<usize>,
    deferred_deleting: Cell<bool>,
}

impl Dispatcher {
    /// [`Dispatcher::create`] for who cannot go on without.
    ///
    /// # Panics
    /// Where that fails.
    pub fn new(name: &str) -> Rc<Dispatcher> {
        Dispatcher::create(name).expect("an event loop")
    }

    /// Makes a dispatcher; `name` appears in logs only.
    ///
    /// # Errors
    /// The kernel has no more fds or memory for it.
    pub fn create(name: &str) -> io::Result<Rc<Dispatcher>> {
        let base = Base::new()?;
        let posts = Arc::new(PostQueue::new());
        let to_wake = posts.clone();
        let waker = Waker::new(&base, move || to_wake.woken())?;
        let dispatcher = Rc::new_cyclic(|weak: &Weak<Dispatcher>| {
            let on_deferred = weak.clone();
            let to_run = posts.clone();
            Dispatcher {
                name: name.to_string(),
                post_timer: Timer::new(&base, move || to_run.run()),
                deferred_delete_timer: Timer::new(&base, move || {
                    if let Some(dispatcher) = on_deferred.upgrade() {
                        dispatcher.clear_deferred_delete_list();
                    }
                }),
                timeouts: TimeoutLists::new(&base),
                base,
                posts,
                waker,
                deferred: [RefCell::default(), RefCell::default()],
                current_deferred: Cell::new(0),
                deferred_deleting: Cell::new(false),
            }
        });
        dispatcher.posts.open(LoopRef {
            thread: thread::current().id(),
            base: dispatcher.base.raw(),
            post_event: dispatcher.post_timer.raw_event(),
            waker: dispatcher.waker.handle(),
        });
        Ok(dispatcher)
    }

    /// The name given to [`Dispatcher::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes over `socket` and watches it, edge-triggered, for the given bits ([`super::READ`], ...).
    ///
    /// # Errors
    /// The kernel does not watch it: the user watches too many, or it has no memory. The socket is dropped.
    pub fn create_file_event<S: AsFd + 'static>(
        &self,
        socket: S,
        callback: impl Fn(u32) + 'static,
        bits: u32,
    ) -> io::Result<FileEvent<S>> {
        FileEvent::new(&self.base, socket, callback, bits)
    }

    /// Makes a disarmed timer.
    pub fn create_timer(&self, callback: impl Fn() + 'static) -> Timer {
        Timer::new(&self.base, callback)
    }

    pub(super) fn timeout_lists(&self) -> &Rc<TimeoutLists> {
        &self.timeouts
    }

    /// Takes over a bound socket, or a share of it, listens (libevent calls `listen(2)` with a backlog of
    /// 128) and hands over what it accepts.
    ///
    /// # Errors
    /// The error of `listen(2)`, or the kernel does not watch the fd.
    pub fn create_listener<S: AsFd + 'static>(
        &self,
        socket: S,
        on_accept: impl Fn(AcceptedFd) + 'static,
        on_error: impl Fn(io::Error) + 'static,
    ) -> io::Result<Listener<S>> {
        Listener::new(&self.base, socket, on_accept, on_error)
    }

    /// Opens sockets to the DNS servers that `options` tell of.
    ///
    /// # Errors
    /// There is no server that can be asked.
    pub fn create_dns_channel(&self, options: &DnsOptions) -> io::Result<DnsChannel> {
        DnsChannel::new(&self.base, options)
    }

    /// Runs `callback` in the loop for each arrival of `signal`. One dispatcher a process only.
    ///
    /// # Errors
    /// The kernel refuses the handler, or does not watch the fd that it writes to.
    pub fn listen_for_signal(&self, signal: i32, callback: impl Fn() + 'static) -> io::Result<SignalEvent> {
        SignalEvent::new(&self.base, signal, callback)
    }

    /// Runs `callback` on this loop; from inside a callback, later in the same pass.
    pub fn post(&self, callback: impl FnOnce() + Send + 'static) {
        self.posts.post(Box::new(callback));
    }

    /// A handle with which other threads reach this loop.
    pub fn handle(&self) -> DispatcherHandle {
        DispatcherHandle { posts: self.posts.clone() }
    }

    /// What other threads see of this loop.
    pub fn pulse(&self) -> Pulse {
        self.base.pulse().clone()
    }

    /// Keeps `item` until the end of the pass and drops it then, first in first out.
    pub fn deferred_delete(&self, item: Rc<dyn DeferredDeletable>) {
        let size = {
            let mut list = self.deferred[self.current_deferred.get()].borrow_mut();
            list.push(item);
            list.len()
        };
        log_stage!(DeferredDelete(), size = size);
        trace::instant(Stage::DeferredDelete, None, 0, size as u64, 0);
        if size == 1 {
            self.deferred_delete_timer.enable_timer(std::time::Duration::ZERO);
        }
    }

    /// Drops what waits for deletion. What the drops add goes to the other list and has its own turn.
    pub fn clear_deferred_delete_list(&self) {
        let current = self.current_deferred.get();
        let size = self.deferred[current].borrow().len();
        if self.deferred_deleting.get() || size == 0 {
            return;
        }
        log_stage!(ClearDeferredDeleteList(), size = size);
        let _stage = trace::scope(Stage::ClearDeferredDeleteList, None, 0, size as u64, 0);
        self.current_deferred.set(1 - current);
        self.deferred_deleting.set(true);
        let mut dead = std::mem::take(&mut *self.deferred[current].borrow_mut());
        for item in dead.drain(..) {
            drop(item);
        }
        // The emptied vector goes back, so that a busy loop does not allocate one a pass.
        *self.deferred[current].borrow_mut() = dead;
        self.deferred_deleting.set(false);
    }

    /// Runs posted callbacks once, then the loop. A panic in a callback goes on from here.
    pub fn run(&self, run_type: RunType) -> RunEnd {
        trace::instant(Stage::DispatcherRun, None, 0, run_type as u64, 0);
        self.base.pulse().begin_pass();
        self.posts.run();
        self.base.pulse().end_pass();
        let flags = match run_type {
            RunType::Block => 0,
            RunType::NonBlock => ffi::EVLOOP_NONBLOCK,
            RunType::RunUntilExit => ffi::EVLOOP_NO_EXIT_ON_EMPTY,
        };
        match self.base.run(flags as c_int) {
            Ok(()) => RunEnd::Done,
            Err(error) => {
                envoy_log!(Main, critical, "the event loop of {} has failed: {}", self.name, error);
                RunEnd::Failed
            }
        }
    }

    /// Ends [`Dispatcher::run`] after the current pass.
    pub fn exit(&self) {
        self.base.exit();
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        // From here on other threads' posts are dropped, and none touches the post event.
        self.posts.close();
        for list in &self.deferred {
            let dead = std::mem::take(&mut *list.borrow_mut());
            drop(dead);
        }
    }
}

/// Reaches a dispatcher from any thread.
#[derive(Clone)]
pub struct DispatcherHandle {
    posts: Arc<PostQueue<LoopRef>>,
}

impl DispatcherHandle {
    /// Runs `callback` on the loop's thread and wakes the loop. Dropped unrun once the dispatcher is gone.
    pub fn post(&self, callback: impl FnOnce() + Send + 'static) {
        self.posts.post(Box::new(callback));
    }

    /// Ends the dispatcher's `run` after its current pass.
    pub fn exit(&self) {
        self.posts.exit();
    }
}

/// What a post touches of the loop; present while the dispatcher lives.
struct LoopRef {
    /// The loop's own, which alone uses the pointers.
    thread: ThreadId,
    base: *mut ffi::event_base,
    post_event: *mut ffi::event,
    waker: WakerHandle,
}

// SAFETY: the pointers are used on the loop's own thread only, and are removed before the dispatcher goes.
unsafe impl Send for LoopRef {}

impl PostTarget for LoopRef {
    fn is_own_thread(&self) -> bool {
        self.thread == thread::current().id()
    }

    fn activate(&self) {
        debug_assert!(self.is_own_thread());
        // SAFETY: this is the loop's thread, and the event lives as long as `self` is in the queue.
        unsafe { ffi::event_active(self.post_event, ffi::EV_TIMEOUT as c_int, 0) };
    }

    fn wake(&self) {
        self.waker.wake();
    }

    fn exit(&self) {
        debug_assert!(self.is_own_thread());
        // SAFETY: this is the loop's thread, and the base lives as long as `self` is in the queue.
        unsafe { ffi::event_base_loopexit(self.base, std::ptr::null()) };
    }
}

impl std::fmt::Debug for DispatcherHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DispatcherHandle").finish_non_exhaustive()
    }
}
