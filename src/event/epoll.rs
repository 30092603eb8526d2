//! What epoll says, on its way to libevent.
//!
//! Envoy has nothing in this place. libevent turns `EPOLLERR` into Read and Write, the same bits that data on
//! a writable socket has. Envoy reads until `EAGAIN` and so meets the error behind the data; legate
//! takes a short read for the end of what is there, and would never be told again of a reset that came
//! in one edge with data. Here an error is marked as the end of the stream too (`EPOLLRDHUP`, libevent's
//! `EV_CLOSED`), so that who watches for [`super::CLOSED`] reads on until it meets the error, and a
//! paused reader learns of it as of a FIN. It costs no system call.
//!
//! Ends also come to the front. What one poll has told is worked off in its order, and the request of one
//! connection would be given to another whose end the kernel has told of behind it.
//!
//! libevent calls `epoll_wait` by its name, and a definition in the program comes before that of the C
//! library. `tests::a_reset_behind_data_is_told_apart` fails if it does not.

use std::ffi::c_int;

const ERROR: u32 = libc::EPOLLERR as u32;
const END: u32 = ERROR | libc::EPOLLRDHUP as u32;
const HALF_CLOSED: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP) as u32;

/// The bits that libevent is to see for the kernel's.
fn marked(events: u32) -> u32 {
    if events & ERROR == 0 { events } else { events & !ERROR | HALF_CLOSED }
}

/// Marks errors, and brings what has ended before what has not; each of the two stays in its order.
fn sort(events: &mut [libc::epoll_event]) {
    let mut ends = 0;
    for index in 0..events.len() {
        if events[index].events & END != 0 {
            events[index].events = marked(events[index].events);
            events[ends..=index].rotate_right(1);
            ends += 1;
        }
    }
}

/// `epoll_wait(2)` with errors marked as the end of the stream, and ends in front.
///
/// # Safety
/// That of `epoll_wait(2)`: `events` points to room for `max_events` events.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut libc::epoll_event,
    max_events: c_int,
    timeout: c_int,
) -> c_int {
    // SAFETY: the caller's arguments; without a signal mask it is the same call.
    let ready = unsafe { libc::epoll_pwait(epoll, events, max_events, timeout, std::ptr::null()) };
    if let Some(count) = usize::try_from(ready).ok().filter(|count| *count > 0) {
        // SAFETY: the kernel has filled in so many events.
        sort(unsafe { std::slice::from_raw_parts_mut(events, count) });
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_are_marked() {
        let data = (libc::EPOLLIN | libc::EPOLLOUT) as u32;
        let fin = data | libc::EPOLLRDHUP as u32;
        let unconnected = (libc::EPOLLOUT | libc::EPOLLHUP) as u32;
        for events in [data, fin, unconnected] {
            assert_eq!(marked(events), events);
        }
        let hup = libc::EPOLLHUP as u32;
        assert_eq!(marked(fin | ERROR | hup), fin | hup);
        assert_eq!(marked(ERROR), fin);
    }

    #[test]
    fn what_has_ended_is_in_front() {
        let data = (libc::EPOLLIN | libc::EPOLLOUT) as u32;
        let fin = data | libc::EPOLLRDHUP as u32;
        let order = |events: &[u32]| {
            let numbered = (0..).zip(events).map(|(u64, &events)| libc::epoll_event { events, u64 });
            let mut events: Vec<_> = numbered.collect();
            sort(&mut events);
            events.iter().map(|event| event.u64).collect::<Vec<_>>()
        };
        assert_eq!(order(&[data, data, data]), [0, 1, 2]);
        assert_eq!(order(&[data, data | ERROR, data, fin, data, ERROR]), [1, 3, 5, 0, 2, 4]);
        assert_eq!(order(&[fin, fin, data]), [0, 1, 2]);
    }
}
