//! Accepting: the listening fd registered with `evconnlistener_new(base, cb, arg, 0, -1, fd)`.
//!
//! Mirrors the libevent half of Envoy's `source/common/network/listener_impl.cc`. Several loops may
//! each have a listener on the same fd; the kernel wakes them and the first to call accept wins.
//! Where Envoy panics on an accept error, legate reports it to a callback, so that running out of
//! fds need not end the process.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::rc::Rc;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::ffi;
use super::libevent::{Base, CallbackKind, guarded};

/// A connection that libevent has accepted: non-blocking, with the peer's address.
pub struct AcceptedFd {
    /// The connected socket.
    pub fd: OwnedFd,
    /// The peer's address; `None` for an address family that legate does not know.
    pub remote: Option<SockaddrStorage>,
}

struct ListenerCell {
    base: Rc<Base>,
    on_accept: Box<dyn Fn(AcceptedFd)>,
    on_error: Box<dyn Fn(io::Error)>,
}

/// A listening socket registered on a loop. Dropping it unregisters the fd and then lets go of the socket,
/// which it owns or has a share of: nobody closes the fd under the loop.
pub struct Listener<S> {
    raw: NonNull<ffi::evconnlistener>,
    _cell: Rc<ListenerCell>,
    _socket: S,
}

impl<S: AsFd + 'static> Listener<S> {
    pub(super) fn new(
        base: &Rc<Base>,
        socket: S,
        on_accept: impl Fn(AcceptedFd) + 'static,
        on_error: impl Fn(io::Error) + 'static,
    ) -> io::Result<Self> {
        let cell = Rc::new(ListenerCell {
            base: base.clone(),
            on_accept: Box::new(on_accept),
            on_error: Box::new(on_error),
        });
        let arg = Rc::as_ptr(&cell) as *mut c_void;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the cell outlives the evconnlistener (freed in Drop), and the socket the registration of
        // its fd.
        let raw = unsafe { ffi::evconnlistener_new(base.raw(), Some(accept_cb), arg, 0, -1, fd) };
        let Some(raw) = NonNull::new(raw) else { return Err(io::Error::last_os_error()) };
        // SAFETY: `raw` was just made.
        unsafe { ffi::evconnlistener_set_error_cb(raw.as_ptr(), Some(error_cb)) };
        let listener = Listener { raw, _cell: cell, _socket: socket };
        // libevent does not tell whether it could watch the fd; where it did, this does nothing.
        listener.enable()?;
        Ok(listener)
    }

    /// Accepts again after [`disable`](Listener::disable).
    ///
    /// # Errors
    /// The kernel does not watch the fd.
    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: the listener is alive.
        let rc = unsafe { ffi::evconnlistener_enable(self.raw.as_ptr()) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Stops accepting; connections wait in the kernel's backlog.
    pub fn disable(&self) {
        // SAFETY: the listener is alive.
        unsafe { ffi::evconnlistener_disable(self.raw.as_ptr()) };
    }
}

impl<S> Drop for Listener<S> {
    fn drop(&mut self) {
        // Freeing is deferred when libevent is inside one of the callbacks, and with it the removal of the
        // event, which must not wait: the fd may close now.
        // SAFETY: the listener is alive.
        unsafe {
            ffi::evconnlistener_disable(self.raw.as_ptr());
            ffi::evconnlistener_free(self.raw.as_ptr());
        }
    }
}

unsafe fn hold(arg: *mut c_void) -> Rc<ListenerCell> {
    let raw = arg as *const ListenerCell;
    // SAFETY: `arg` came from `Rc::as_ptr` and the listener still holds that Rc; the extra count keeps
    // the cell for the length of the callback even if the callback drops the listener.
    unsafe {
        Rc::increment_strong_count(raw);
        Rc::from_raw(raw)
    }
}

unsafe extern "C" fn accept_cb(
    _listener: *mut ffi::evconnlistener,
    fd: c_int,
    addr: *mut ffi::sockaddr,
    len: c_int,
    arg: *mut c_void,
) {
    // SAFETY: libevent hands over a new fd that nobody else owns, a sockaddr of `len` bytes and our arg.
    let (cell, fd, remote) = unsafe {
        let remote = SockaddrStorage::from_raw(addr as *const libc::sockaddr, Some(len as libc::socklen_t));
        (hold(arg), OwnedFd::from_raw_fd(fd), remote)
    };
    guarded(&cell.base, CallbackKind::Listener, 0, false, || (cell.on_accept)(AcceptedFd { fd, remote }));
}

unsafe extern "C" fn error_cb(_listener: *mut ffi::evconnlistener, arg: *mut c_void) {
    let error = io::Error::last_os_error();
    // SAFETY: as in `accept_cb`.
    let cell = unsafe { hold(arg) };
    guarded(&cell.base, CallbackKind::Listener, 0, false, || (cell.on_error)(error));
}
