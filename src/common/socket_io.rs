//! Reading from and writing to sockets.
//!
//! As `recv(2)` and `send(2)`, but not by libc's functions: those are places where a thread can be cancelled, which costs
//! each call some thirty instructions to say and to take back as soon as there is a second thread. Nobody cancels ours.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Reads into `space`; 0 at the end of what the peer sends.
///
/// # Errors
/// Those of `recv(2)`, `WouldBlock` among them.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, space: &mut [u8]) -> io::Result<usize> {
    let (none, null) = (0 as libc::c_int, ptr::null_mut::<libc::c_void>());
    // SAFETY: the system writes to `space` alone, at most its length.
    let read = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd.as_raw_fd(), space.as_mut_ptr(), space.len(), none, null, null)
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes some of `data`, and raises no SIGPIPE.
///
/// # Errors
/// Those of `send(2)`, `WouldBlock` among them.
#[inline]
pub fn send(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    let (flags, null, none) = (libc::MSG_NOSIGNAL, ptr::null::<libc::c_void>(), 0 as libc::c_int);
    // SAFETY: the system reads `data` alone, at most its length.
    let sent = unsafe {
        libc::syscall(libc::SYS_sendto, fd.as_raw_fd(), data.as_ptr(), data.len(), flags, null, none)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
