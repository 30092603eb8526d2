//! A question that is asked by TCP: answers that do not fit into a datagram come whole so.
//!
//! Stands where c-ares has it. Each question has a connection of its own.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, connect, recv, send, socket};

use super::message;
use crate::event::{CLOSED, Dispatcher, DnsCallback, DnsError, DnsRecord, FileEvent, READ, Timer, WRITE};
use crate::network::Address;

/// In front of each message stands its length.
const LENGTH: usize = 2;

/// See the module's description. Dropping it closes the connection: its callback does not run.
pub(super) struct TcpQuery {
    question: Vec<u8>,
    record: DnsRecord,
    socket: RefCell<Option<FileEvent<OwnedFd>>>,
    timer: Timer,
    unsent: RefCell<Vec<u8>>,
    received: RefCell<Vec<u8>>,
    callback: Cell<Option<DnsCallback>>,
}

impl TcpQuery {
    /// Asks `server`. `None` where that cannot be begun. `callback` is never called before this returns.
    pub(super) fn new(
        dispatcher: &Rc<Dispatcher>,
        server: SocketAddr,
        name: &str,
        record: DnsRecord,
        timeout: Duration,
        callback: DnsCallback,
    ) -> Option<Rc<Self>> {
        let question = message::question(fastrand::u16(..), name, record)?;
        let mut unsent = (question.len() as u16).to_be_bytes().to_vec();
        unsent.extend(&question);
        let fd = connecting(server).ok()?;
        let query = Rc::new_cyclic(|weak: &Weak<Self>| {
            let on_timeout = weak.clone();
            TcpQuery {
                question,
                record,
                socket: RefCell::default(),
                timer: dispatcher.create_timer(move || {
                    if let Some(query) = on_timeout.upgrade() {
                        query.finish(Err(DnsError::Timeout));
                    }
                }),
                unsent: RefCell::new(unsent),
                received: RefCell::default(),
                callback: Cell::new(Some(callback)),
            }
        });
        let weak = Rc::downgrade(&query);
        let on_event = move |_| {
            if let Some(query) = weak.upgrade() {
                query.on_event();
            }
        };
        let event = dispatcher.create_file_event(fd, on_event, READ | WRITE | CLOSED).ok()?;
        *query.socket.borrow_mut() = Some(event);
        query.timer.enable_timer(timeout);
        Some(query)
    }

    fn on_event(&self) {
        match self.exchange() {
            // Behind a message there is nothing of interest.
            Ok(true) => {
                let answer =
                    message::parse_answer(&self.received.borrow()[LENGTH..], &self.question, self.record);
                self.finish(answer);
            }
            Ok(false) | Err(Errno::EAGAIN) => {}
            Err(error) => self.finish(Err(DnsError::Other(error as i32))),
        }
    }

    /// Sends what is left and receives what there is; whether the answer is whole.
    fn exchange(&self) -> nix::Result<bool> {
        let socket = self.socket.borrow();
        let Some(fd) = socket.as_ref().map(|event| event.socket().as_raw_fd()) else { return Ok(false) };
        let mut unsent = self.unsent.borrow_mut();
        while !unsent.is_empty() {
            let sent = send(fd, &unsent, MsgFlags::MSG_NOSIGNAL)?;
            unsent.drain(..sent);
        }
        let mut received = self.received.borrow_mut();
        let mut buffer = [0; 4096];
        loop {
            match recv(fd, &mut buffer, MsgFlags::empty())? {
                0 => return Err(Errno::ECONNRESET),
                length => received.extend_from_slice(&buffer[..length]),
            }
            if is_whole(&received) {
                return Ok(true);
            }
        }
    }

    fn finish(&self, answer: Result<crate::event::DnsAnswer, DnsError>) {
        self.timer.disable_timer();
        drop(self.socket.take());
        if let Some(callback) = self.callback.take() {
            callback(answer);
        }
    }
}

fn is_whole(received: &[u8]) -> bool {
    let Some((length, rest)) = received.split_first_chunk::<LENGTH>() else { return false };
    rest.len() >= u16::from_be_bytes(*length).into()
}

fn connecting(server: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    let connected = Address::Ip(server).with_sockaddr(|address| connect(fd.as_raw_fd(), address));
    match connected {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}
