//! Process-wide libevent set-up and ownership of an `event_base`.
//!
//! Mirrors Envoy's `source/common/event/libevent.cc` and `libevent_scheduler.cc`.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_short};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Once;

use nix::errno::Errno;

use super::file_event::from_libevent;
use super::pulse::Pulse;
use super::{clock, ffi};
use crate::{envoy_log, trace};

/// Initialises libevent and ignores SIGPIPE. May be called repeatedly. Envoy calls `evthread_use_pthreads` here;
/// legate touches each base on one thread alone ([`super::waker`] is how others reach it) and needs no locks in it.
pub fn global_init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `on_log` matches libevent's callback type and never unwinds.
        unsafe { ffi::event_set_log_callback(Some(on_log)) };
        // SAFETY: SIG_IGN installs no handler code.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    });
}

extern "C" fn on_log(severity: c_int, message: *const c_char) {
    // Who called libevent asks what went wrong, not how writing of it went.
    let errno = Errno::last();
    // SAFETY: libevent passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    if severity >= ffi::EVENT_LOG_ERR as c_int {
        // libevent is about to call exit(3).
        envoy_log!(Misc, critical, "libevent: {}", text);
    } else if severity >= ffi::EVENT_LOG_WARN as c_int {
        envoy_log!(Misc, warn, "libevent: {}", text);
    } else {
        envoy_log!(Misc, debug, "libevent: {}", text);
    }
    errno.set();
}

/// An owned `event_base`. Every event holds it by `Rc`, so that it is freed after the last of them.
pub(super) struct Base {
    raw: NonNull<ffi::event_base>,
    pulse: Pulse,
}

impl Base {
    /// Makes one that uses epoll: nothing else has edges, and libevent would go on with poll.
    ///
    /// # Errors
    /// Out of fds, of memory, or of what else the kernel has to give.
    pub(super) fn new() -> io::Result<Rc<Base>> {
        global_init();
        // SAFETY: no arguments; null is handled.
        let raw = unsafe { ffi::event_base_new() };
        let Some(raw) = NonNull::new(raw) else { return Err(io::Error::last_os_error()) };
        let base = Rc::new(Base { raw, pulse: Pulse::default() });
        // SAFETY: the base was just made; the name is static, and ends in NUL.
        let method = unsafe { CStr::from_ptr(ffi::event_base_get_method(base.raw())) }.to_string_lossy();
        if !method.starts_with("epoll") {
            return Err(io::Error::other(format!("no epoll, only {method}")));
        }
        Ok(base)
    }

    pub(super) fn raw(&self) -> *mut ffi::event_base {
        self.raw.as_ptr()
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Runs the loop, pass by pass; a panic caught in a callback goes on here.
    ///
    /// # Errors
    /// The kernel could not be asked for events. No event comes any more.
    pub(super) fn run(&self, flags: c_int) -> io::Result<()> {
        let once = flags & ffi::EVLOOP_NONBLOCK as c_int != 0;
        let flags = if once { flags } else { flags | ffi::EVLOOP_ONCE as c_int };
        loop {
            // SAFETY: the base is alive and this thread owns it.
            let rc = unsafe { ffi::event_base_loop(self.raw(), flags) };
            let error = (rc < 0).then(io::Error::last_os_error);
            self.pulse.end_pass();
            trace::end_pass();
            if let Some(panic) = PANIC.with_borrow_mut(Option::take) {
                std::panic::resume_unwind(panic);
            }
            // SAFETY: the base is alive.
            let exit = unsafe { ffi::event_base_got_exit(self.raw()) } != 0;
            if let Some(error) = error {
                return Err(error);
            }
            // Not 0: no event is left.
            if exit || once || rc != 0 {
                return Ok(());
            }
        }
    }

    /// Leaves the loop after the current pass.
    pub(super) fn exit(&self) {
        // SAFETY: the base is alive; a null timeout means "after this pass".
        unsafe { ffi::event_base_loopexit(self.raw(), std::ptr::null()) };
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // SAFETY: the last reference is gone, so no event is assigned to this base any more.
        unsafe { ffi::event_base_free(self.raw()) };
    }
}

thread_local! {
    static PANIC: RefCell<Option<Box<dyn Any + Send>>> = const { RefCell::new(None) };
}

/// What a callback is for.
#[derive(Clone, Copy)]
pub(super) enum CallbackKind {
    FileEvent = 1,
    Timer = 2,
    Signal = 3,
    Listener = 4,
    Dns = 5,
}

/// Runs `f` at the border to C: a panic is kept, the loop broken, and nothing unwinds into libevent.
/// `by_hand` is for the recorder: whether `event_active` and not the kernel is behind it.
#[inline]
pub(super) fn guarded(base: &Base, kind: CallbackKind, bits: c_short, by_hand: bool, f: impl FnOnce()) {
    base.pulse.begin_pass();
    clock::enter_callback();
    let recorded = trace::enter_callback(kind as u64, from_libevent(bits).into(), by_hand);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    drop(recorded);
    clock::leave_callback();
    if let Err(panic) = outcome {
        PANIC.with_borrow_mut(|slot| {
            slot.get_or_insert(panic);
        });
        // SAFETY: the base is alive: the caller's event holds it.
        unsafe { ffi::event_base_loopbreak(base.raw()) };
    }
}
