//! Options of sockets by their numbers, for such as only a configuration knows.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Sets an option to the bytes of `value`.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_socket_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads `value.len()` bytes of `value`.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    Errno::result(result).map(drop)
}
