//! A host with several addresses: the next one is tried when the one before takes long, or fails, and the first that connects is
//! the connection.
//!
//! Mirrors `HappyEyeballsConnectionImpl` and `HappyEyeballsConnectionProvider` of Envoy 1.40's
//! `source/common/network/happy_eyeballs_connection_impl.cc`. There each attempt is a connection, and a wrapper keeps for the last
//! one what it was told meanwhile. Here there is one connection, whose first attempt is its own; others are sockets, and the
//! one that connects takes the place of its.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::errno::Errno;

use super::socket::StreamSocket;
use super::{Address, ConnectionImpl};
use crate::envoy_conn_log;
use crate::event::{FileEvent, Timer, WRITE};

/// How long an attempt has before the next one begins beside it.
const NEXT_ATTEMPT: Duration = Duration::from_millis(300);

/// Makes a socket for an address, with all that is to be set before it connects.
pub(super) type MakeSocket = Box<dyn Fn(&Address) -> io::Result<StreamSocket>>;

/// The addresses of a host in the order in which they are tried: that of the first one's version of IP and others take turns
/// (Envoy: `sortAddresses`).
pub fn sort_addresses(first: &Address, others: &[Address]) -> Vec<Address> {
    let version = |address: &Address| address.ip().map(|ip| ip.is_ipv4());
    let of_first = version(first);
    let (same, different): (Vec<&Address>, Vec<&Address>) =
        others.iter().partition(|address| version(address) == of_first);
    let (mut same, mut different) = (same.into_iter(), different.into_iter());
    let mut sorted = Vec::with_capacity(others.len() + 1);
    sorted.push(first.clone());
    loop {
        let pair = [different.next(), same.next()];
        if pair.iter().all(Option::is_none) {
            return sorted;
        }
        sorted.extend(pair.into_iter().flatten().cloned());
    }
}

/// See the module's description.
pub(super) struct HappyEyeballs {
    weak: Weak<HappyEyeballs>,
    connection: Weak<ConnectionImpl>,
    /// What is still to be tried, the next one last.
    left: RefCell<Vec<Address>>,
    make: MakeSocket,
    attempts: RefCell<Vec<Attempt>>,
    begun: Cell<u32>,
    timer: Timer,
    own_has_failed: Cell<bool>,
}

/// An attempt beside the connection's own.
struct Attempt {
    number: u32,
    address: Address,
    socket: FileEvent<StreamSocket>,
}

impl HappyEyeballs {
    /// The connection's own attempt has begun; `others` are tried after that.
    pub(super) fn start(
        connection: &Rc<ConnectionImpl>,
        mut others: Vec<Address>,
        make: MakeSocket,
    ) -> Rc<Self> {
        others.reverse();
        let this = Rc::new_cyclic(|weak: &Weak<HappyEyeballs>| {
            let on_timer = weak.clone();
            HappyEyeballs {
                weak: weak.clone(),
                connection: Rc::downgrade(connection),
                left: RefCell::new(others),
                make,
                attempts: RefCell::default(),
                begun: Cell::new(0),
                timer: connection.dispatcher().create_timer(move || {
                    if let Some(this) = on_timer.upgrade() {
                        this.try_another();
                    }
                }),
                own_has_failed: Cell::new(false),
            }
        });
        this.schedule_next_attempt();
        this
    }

    fn schedule_next_attempt(&self) {
        if !self.left.borrow().is_empty() {
            self.timer.enable_timer(NEXT_ATTEMPT);
        }
    }

    /// Whether the connection's own attempt is of no more use.
    pub(super) fn own_has_failed(&self) -> bool {
        self.own_has_failed.get()
    }

    /// The connection's own attempt has failed; whether there is another one.
    pub(super) fn on_own_failure(&self) -> bool {
        self.own_has_failed.set(true);
        self.try_another() || !self.attempts.borrow().is_empty()
    }

    /// Begins with the next address with which that can be done; false where there is none.
    fn try_another(&self) -> bool {
        loop {
            let next = self.left.borrow_mut().pop();
            let Some(address) = next else { return false };
            match self.begin(&address) {
                Ok(()) => {
                    self.schedule_next_attempt();
                    return true;
                }
                Err(error) => self.log(&format!("cannot try {address}: {error}")),
            }
        }
    }

    fn begin(&self, address: &Address) -> io::Result<()> {
        let connection = self.connection.upgrade().ok_or(Errno::ENOTCONN)?;
        let socket = (self.make)(address)?;
        match socket.connect(address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let number = self.begun.replace(self.begun.get() + 1);
        let weak = self.weak.clone();
        let on_ready = move |_| {
            if let Some(this) = weak.upgrade() {
                this.on_ready(number);
            }
        };
        let socket = connection.dispatcher().create_file_event(socket, on_ready, WRITE)?;
        self.log(&format!("trying {address}"));
        self.attempts.borrow_mut().push(Attempt { number, address: address.clone(), socket });
        Ok(())
    }

    fn on_ready(&self, number: u32) {
        let attempt = {
            let mut attempts = self.attempts.borrow_mut();
            let index = attempts.iter().position(|attempt| attempt.number == number);
            index.map(|index| attempts.remove(index))
        };
        let (Some(attempt), Some(connection)) = (attempt, self.connection.upgrade()) else { return };
        let error = match attempt.socket.socket().take_error() {
            0 => match attempt.socket.socket().again() {
                // The loop forgets the socket before it is watched again.
                Ok(socket) => {
                    let address = attempt.address.clone();
                    drop(attempt);
                    return connection.take_socket(socket, address);
                }
                Err(error) => Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            },
            error => Errno::from_raw(error),
        };
        drop(attempt);
        let has_others = self.try_another() || !self.attempts.borrow().is_empty();
        if !has_others && self.own_has_failed.get() {
            connection.fail_connecting(error);
        }
    }

    fn log(&self, what: &str) {
        if let Some(connection) = self.connection.upgrade() {
            envoy_conn_log!(Connection, trace, connection.id(), "happy eyeballs: {}", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_take_turns() {
        let address = |text: &str| Address::Ip(text.parse().unwrap());
        let sorted = |all: &[&str]| -> Vec<String> {
            let others: Vec<Address> = all[1..].iter().map(|text| address(text)).collect();
            sort_addresses(&address(all[0]), &others).iter().map(ToString::to_string).collect()
        };
        assert_eq!(sorted(&["1.1.1.1:1"]), ["1.1.1.1:1"]);
        assert_eq!(
            sorted(&["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "[::1]:1", "[::2]:2"]),
            ["1.1.1.1:1", "[::1]:1", "2.2.2.2:2", "[::2]:2", "3.3.3.3:3"]
        );
        assert_eq!(
            sorted(&["[::1]:1", "[::2]:2", "[::3]:3", "1.1.1.1:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:2", "[::3]:3"]
        );
    }
}
