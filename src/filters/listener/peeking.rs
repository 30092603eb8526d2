//! What listener filters have in common that look at the first bytes of a connection without taking them.
//!
//! Stands where Envoy 1.40 has `source/common/network/listener_filter_buffer_impl.cc`; in 1.1 each of them peeks by itself.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::{Rc, Weak};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::event::{CLOSED, FileEvent, READ};
use crate::network::{ConnectionSocket, FilterStatus, ListenerFilter, ListenerFilterCallbacks};

/// As much as any of them looks at.
const MOST: usize = 64 * 1024;

thread_local! {
    /// Where sockets of this thread are peeked to, one at a time.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 4096]);
}

/// What follows from what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// More has to come.
    Wait,
    /// The next filter is asked.
    Continue,
    /// The next filter is asked, and so many bytes are taken: they are not for the connection.
    Take(usize),
    /// The socket is closed.
    Close,
}

/// Decides by the first bytes.
pub(super) trait Decide {
    /// How many bytes it looks at, at most.
    fn most(&self) -> usize;
    /// What follows from `bytes`, which are all that has come, up to that many.
    fn decide(&self, bytes: &[u8], socket: &ConnectionSocket) -> Decision;
    /// The peer has said nothing more, or the socket is bad.
    fn on_end(&self) {}
}

/// A filter that decides by the first bytes.
pub(super) struct Peeking<D> {
    weak: Weak<Peeking<D>>,
    decide: D,
    event: RefCell<Option<FileEvent<Rc<ConnectionSocket>>>>,
}

impl<D: Decide + 'static> Peeking<D> {
    /// One with what decides.
    pub(super) fn filter(decide: D) -> Rc<dyn ListenerFilter> {
        Rc::new_cyclic(|weak| Peeking { weak: weak.clone(), decide, event: RefCell::default() })
    }

    fn look(&self, socket: &ConnectionSocket) -> Decision {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let most = self.decide.most().min(MOST);
                let size = scratch.len().min(most);
                let came = match recv(socket.as_fd().as_raw_fd(), &mut scratch[..size], MsgFlags::MSG_PEEK) {
                    Ok(came) => came,
                    Err(Errno::EINTR) => continue,
                    Err(Errno::EAGAIN) => return Decision::Wait,
                    Err(_) => 0,
                };
                if came == 0 {
                    self.decide.on_end();
                    return Decision::Close;
                }
                // More may be there than there was room for.
                if came == scratch.len() && came < most {
                    scratch.resize(most.min(2 * came), 0);
                    continue;
                }
                return self.decide.decide(&scratch[..came], socket);
            }
        })
    }

    fn on_event(&self, events: u32, callbacks: &Weak<dyn ListenerFilterCallbacks>) {
        let Some(held) = callbacks.upgrade() else { return };
        let Some(socket) = held.socket() else { return };
        let mut decision = self.look(&socket);
        if let Decision::Take(length) = decision {
            decision = if take(&socket, length) { Decision::Continue } else { Decision::Close };
        }
        // The edge of the peer's end comes once, also where bytes are before it.
        if decision == Decision::Wait && events & CLOSED != 0 {
            self.decide.on_end();
            decision = Decision::Close;
        }
        drop(socket);
        if decision != Decision::Wait {
            drop(self.event.borrow_mut().take());
            held.continue_filter_chain(decision == Decision::Continue);
        }
    }
}

fn take(socket: &ConnectionSocket, mut length: usize) -> bool {
    let mut dropped = [0; 256];
    while length > 0 {
        let size = length.min(dropped.len());
        match recv(socket.as_fd().as_raw_fd(), &mut dropped[..size], MsgFlags::empty()) {
            Ok(taken) if taken > 0 => length -= taken,
            Err(Errno::EINTR) => {}
            _ => return false,
        }
    }
    true
}

impl<D: Decide + 'static> ListenerFilter for Peeking<D> {
    fn on_accept(&self, callbacks: &Weak<dyn ListenerFilterCallbacks>) -> FilterStatus {
        let Some(held) = callbacks.upgrade() else { return FilterStatus::StopIteration };
        let Some(socket) = held.socket() else { return FilterStatus::StopIteration };
        let (this, callbacks) = (self.weak.clone(), callbacks.clone());
        let on_event = move |events| {
            if let Some(this) = this.upgrade() {
                this.on_event(events, &callbacks);
            }
        };
        match held.dispatcher().create_file_event(socket, on_event, READ | CLOSED) {
            Ok(event) => *self.event.borrow_mut() = Some(event),
            Err(_) => held.continue_filter_chain(false),
        }
        FilterStatus::StopIteration
    }
}
