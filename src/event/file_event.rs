//! A watched file descriptor: `event_assign` with `EV_PERSIST|EV_ET`.
//!
//! Mirrors Envoy's `source/common/event/file_event_impl.cc`. The bits are Envoy's
//! (`include/envoy/event/file_event.h`) and appear so in the trace log.

use std::ffi::c_short;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use super::cell::Event;
use super::ffi;
use super::libevent::Base;

/// The fd is readable.
pub const READ: u32 = 1;
/// The fd is writable.
pub const WRITE: u32 = 2;
/// The peer has shut down its writing side (EPOLLRDHUP), or the connection has failed (EPOLLERR): what
/// is left to read ends, in an end of stream or in an error.
pub const CLOSED: u32 = 4;

/// An edge-triggered event for one fd; the callback gets the OR of [`READ`], [`WRITE`], [`CLOSED`].
///
/// Edge-triggered means that the kernel reports a readiness once: the owner must use it up, or
/// remember that it did not and [`activate`](FileEvent::activate) itself later.
///
/// It owns what it watches, or a share of it: nobody closes the fd under the loop.
pub struct FileEvent<S> {
    /// Declared before the socket: the event must go before the fd does.
    event: Event,
    socket: S,
}

impl<S: AsFd + 'static> FileEvent<S> {
    pub(super) fn new(
        base: &Rc<Base>,
        socket: S,
        callback: impl Fn(u32) + 'static,
        bits: u32,
    ) -> io::Result<Self> {
        let fd = socket.as_fd().as_raw_fd();
        let event = Event::new(base, fd, to_libevent(bits), move |what| callback(from_libevent(what)));
        event.add(None)?;
        Ok(FileEvent { event, socket })
    }

    /// What is watched.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Runs the callback with `bits` in the current pass of the loop, after what is queued already,
    /// whether or not the fd is ready.
    pub fn activate(&self, bits: u32) {
        self.event.activate(to_libevent(bits) & (ffi::EV_READ | ffi::EV_WRITE | ffi::EV_CLOSED) as c_short);
    }

    /// Watches for `bits` from now on: deletes, assigns and adds the event, so that the kernel
    /// reports the present readiness again. Costs two system calls.
    ///
    /// # Errors
    /// The kernel does not take the fd back.
    pub fn set_enabled(&self, bits: u32) -> io::Result<()> {
        self.event.del();
        self.event.assign(self.socket.as_fd().as_raw_fd(), to_libevent(bits));
        self.event.add(None)
    }
}

fn to_libevent(bits: u32) -> c_short {
    let mut out = ffi::EV_PERSIST | ffi::EV_ET;
    if bits & READ != 0 {
        out |= ffi::EV_READ;
    }
    if bits & WRITE != 0 {
        out |= ffi::EV_WRITE;
    }
    if bits & CLOSED != 0 {
        out |= ffi::EV_CLOSED;
    }
    out as c_short
}

pub(super) fn from_libevent(what: c_short) -> u32 {
    let what = what as u32;
    let mut bits = 0;
    if what & ffi::EV_READ != 0 {
        bits |= READ;
    }
    if what & ffi::EV_WRITE != 0 {
        bits |= WRITE;
    }
    if what & ffi::EV_CLOSED != 0 {
        bits |= CLOSED;
    }
    bits
}
