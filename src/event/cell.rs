//! One `struct event` with its callback: the shared heart of [`super::FileEvent`], [`super::Timer`]
//! and [`super::SignalEvent`].

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_short, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

use super::ffi;
use super::libevent::{Base, CallbackKind, guarded};
use crate::trace;

/// Whether `event_active` and not the kernel is behind an event's callback; known while stages are recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ByHand {
    No,
    Once,
    Always,
}

/// The allocation that libevent points into. `F` is last so that the cell can be held unsized.
struct EventCell<F: ?Sized> {
    event: UnsafeCell<MaybeUninit<ffi::event>>,
    base: Rc<Base>,
    kind: CallbackKind,
    by_hand: Cell<ByHand>,
    callback: F,
}

type Trampoline = unsafe extern "C" fn(c_int, c_short, *mut c_void);

/// An assigned event. Dropping it removes the event from the loop.
pub(super) struct Event {
    cell: Rc<EventCell<dyn Fn(c_short)>>,
}

impl Event {
    /// Assigns an event for `fd` (a signal number, or -1 for a timer) without adding it.
    pub(super) fn new<F: Fn(c_short) + 'static>(
        base: &Rc<Base>,
        fd: c_int,
        bits: c_short,
        callback: F,
    ) -> Self {
        let cell = Rc::new(EventCell {
            event: UnsafeCell::new(MaybeUninit::zeroed()),
            base: base.clone(),
            kind: match fd {
                -1 => CallbackKind::Timer,
                _ if bits & ffi::EV_SIGNAL as c_short != 0 => CallbackKind::Signal,
                _ => CallbackKind::FileEvent,
            },
            by_hand: Cell::new(ByHand::No),
            callback,
        });
        let event = Event { cell };
        event.assign_to(trampoline::<F>, fd, bits);
        event
    }

    /// `event_assign`, again. The event must not be pending or active.
    pub(super) fn assign(&self, fd: c_int, bits: c_short) {
        // SAFETY: the event was assigned, for a callback of its own kind, when it was made.
        let callback = unsafe { (*self.raw()).ev_evcallback.evcb_cb_union.evcb_callback };
        self.assign_to(callback.expect("an event that was assigned"), fd, bits); // invariant
    }

    fn assign_to(&self, callback: Trampoline, fd: c_int, bits: c_short) {
        let arg = Rc::as_ptr(&self.cell) as *const c_void as *mut c_void;
        // SAFETY: the cell is heap memory that stays put until `Drop` has run event_del; `arg` is the
        // start of the same allocation, which the trampoline made for this `F` knows how to read.
        let rc =
            unsafe { ffi::event_assign(self.raw(), self.cell.base.raw(), fd, bits, Some(callback), arg) };
        assert_eq!(rc, 0, "event_assign"); // invariant: only bad flag combinations fail
    }

    /// `event_add`, with a timeout when given. A timeout of zero is due right after the next poll.
    ///
    /// # Errors
    /// The kernel does not watch the fd (the user watches too many, or it has no memory), or the signal.
    pub(super) fn add(&self, timeout: Option<Duration>) -> io::Result<()> {
        let tv = timeout.map(to_timeval);
        let tv = tv.as_ref().map_or(std::ptr::null(), |tv| tv as *const ffi::timeval);
        // SAFETY: the event is assigned; libevent copies the timeval.
        let rc = unsafe { ffi::event_add(self.raw(), tv) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn del(&self) {
        // SAFETY: the event is assigned.
        unsafe { ffi::event_del(self.raw()) };
    }

    /// `event_active`: the callback runs in the current pass, after what is queued already.
    pub(super) fn activate(&self, bits: c_short) {
        if trace::enabled() {
            self.mark_by_hand(ByHand::Once);
        }
        // SAFETY: the event is assigned; this runs on the loop's thread.
        unsafe { ffi::event_active(self.raw(), bits as c_int, 0) };
    }

    /// Whether any of `bits` is pending or active.
    pub(super) fn pending(&self, bits: c_short) -> bool {
        // SAFETY: the event is assigned; a null timeval is allowed.
        unsafe { ffi::event_pending(self.raw(), bits, std::ptr::null_mut()) != 0 }
    }

    pub(super) fn mark_by_hand(&self, by_hand: ByHand) {
        self.cell.by_hand.set(by_hand);
    }

    pub(super) fn raw(&self) -> *mut ffi::event {
        self.cell.event.get().cast()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.del();
    }
}

unsafe extern "C" fn trampoline<F: Fn(c_short) + 'static>(_fd: c_int, bits: c_short, arg: *mut c_void) {
    let raw = arg as *const EventCell<F>;
    // SAFETY: `arg` came from `Rc::as_ptr` of an `EventCell<F>`, and the `Event` that held that Rc
    // was alive when libevent chose this event (its `Drop` would have deleted it). The extra count
    // keeps the cell until this function returns even if the callback drops the `Event`.
    let cell = unsafe {
        Rc::increment_strong_count(raw);
        Rc::from_raw(raw)
    };
    let by_hand = take_by_hand(&cell.by_hand);
    guarded(&cell.base, cell.kind, bits, by_hand, || (cell.callback)(bits));
}

fn take_by_hand(by_hand: &Cell<ByHand>) -> bool {
    if by_hand.get() == ByHand::Once {
        by_hand.set(ByHand::No);
        return true;
    }
    by_hand.get() == ByHand::Always
}

fn to_timeval(d: Duration) -> ffi::timeval {
    // libevent adds the timeout to a clock reading; clamp far below where time_t would overflow.
    let secs = d.as_secs().min(i32::MAX as u64);
    ffi::timeval { tv_sec: secs as _, tv_usec: d.subsec_micros() as _ }
}
