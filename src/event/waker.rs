//! What wakes a loop from another thread.
//!
//! Stands where Envoy calls `event_active` on another thread and libevent, which then has a lock in each base,
//! writes to an eventfd of its own (`evthread_notify_base_eventfd`). Here libevent is built without threads, as its
//! locks would cost each call that a request makes, and the eventfd is legate's. As in libevent, its event
//! is an internal one: no loop goes on for it, and what it does in the loop is no callback of its own.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_short, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::ffi;
use super::libevent::Base;

/// The loop's half. Dropping it takes the eventfd out of the loop.
pub(super) struct Waker {
    heap: Rc<Heap>,
}

/// The allocation that libevent points into.
struct Heap {
    event: UnsafeCell<MaybeUninit<ffi::event>>,
    eventfd: Arc<EventFd>,
    /// The event must go before it.
    _base: Rc<Base>,
    woken: Box<dyn Fn()>,
}

/// The other threads' half.
pub(super) struct WakerHandle(Arc<EventFd>);

impl Waker {
    /// `woken` runs in the loop after a wake-up. It is no callback of its own: it does nothing but activate others, and
    /// neither panics nor drops the waker.
    ///
    /// # Errors
    /// The process or the kernel has no more fds, or the kernel does not watch this one.
    pub(super) fn new(base: &Rc<Base>, woken: impl Fn() + 'static) -> io::Result<Self> {
        let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let fd = eventfd.as_raw_fd();
        let waker = Waker {
            heap: Rc::new(Heap {
                event: UnsafeCell::new(MaybeUninit::zeroed()),
                eventfd: Arc::new(eventfd),
                _base: base.clone(),
                woken: Box::new(woken),
            }),
        };
        let event = waker.raw();
        let arg = Rc::as_ptr(&waker.heap).cast_mut().cast::<c_void>();
        let bits = (ffi::EV_READ | ffi::EV_PERSIST | ffi::EV_ET) as c_short;
        // SAFETY: the event is heap memory that stays put until `Drop` has run event_del; `arg` is the start of the same
        // allocation, as which `on_readable` reads it.
        let rc = unsafe { ffi::event_assign(event, base.raw(), fd, bits, Some(on_readable), arg) };
        assert_eq!(rc, 0, "event_assign"); // invariant: only bad flag combinations fail
        // SAFETY: the event is assigned and not added yet, so that libevent does not look at its flags.
        unsafe { (*event).ev_evcallback.evcb_flags |= ffi::EVLIST_INTERNAL as c_short };
        // SAFETY: the event is assigned.
        if unsafe { ffi::event_add(event, std::ptr::null()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(waker)
    }

    pub(super) fn handle(&self) -> WakerHandle {
        WakerHandle(self.heap.eventfd.clone())
    }

    fn raw(&self) -> *mut ffi::event {
        self.heap.event.get().cast()
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        // SAFETY: the event was assigned by `new`.
        unsafe { ffi::event_del(self.raw()) };
    }
}

impl WakerHandle {
    /// Wakes the loop, or has it go round once more.
    pub(super) fn wake(&self) {
        // It fails only while the counter is full, and then the loop has been told.
        let _ = self.0.write(1);
    }
}

extern "C" fn on_readable(_fd: c_int, _bits: c_short, arg: *mut c_void) {
    // SAFETY: `arg` is the heap of a `Waker` which is alive, as libevent has chosen its event, and which `woken` does not drop.
    let heap = unsafe { &*arg.cast::<Heap>() };
    // Back to zero: what is written from now on is a new edge.
    let _ = heap.eventfd.read();
    (heap.woken)();
}
