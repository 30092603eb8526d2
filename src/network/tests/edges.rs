//! The table of edges (docs/guide/1-event-loop.md, "What an edge may say"), cell by cell: whatever the
//! kernel says, in one edge or in several, is acted on once in each state of a connection.

use std::net::Shutdown;

use nix::sys::socket::{setsockopt, sockopt};

use super::*;

const REMOTE: &[ConnectionEvent] = &[ConnectionEvent::RemoteClose];
const BIG: usize = 16 * 1024 * 1024;

/// What the peer does between two polls; the kernel tells it in one edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Data,
    Fin,
    DataAndFin,
    Reset,
    DataAndReset,
}

use Says::*;

const ALL: [Says; 5] = [Data, Fin, DataAndFin, Reset, DataAndReset];

impl Says {
    fn has_data(self) -> bool {
        matches!(self, Data | DataAndFin | DataAndReset)
    }

    fn ends(self) -> bool {
        self != Data
    }
}

/// Plays it; the stream comes back where it is still open.
fn say(mut peer: TcpStream, what: Says) -> Option<TcpStream> {
    peer.set_nodelay(true).unwrap(); // else a reset takes back what was not sent yet
    if what.has_data() {
        peer.write_all(b"data").unwrap();
    }
    match what {
        Data => {}
        Fin | DataAndFin => peer.shutdown(Shutdown::Write).unwrap(),
        Reset | DataAndReset => {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&peer, sockopt::Linger, &at_once).unwrap();
            return None;
        }
    }
    Some(peer)
}

impl Fixture {
    /// Plays it on a connection that has seen all earlier edges.
    fn hear(&mut self, what: Says) -> Option<TcpStream> {
        let peer = self.peer.try_clone().unwrap();
        self.peer = TcpStream::connect(unrelated().local_addr().unwrap()).unwrap();
        say(peer, what)
    }

    fn data(&self) -> Vec<u8> {
        self.recorder.data.borrow().clone()
    }

    /// Some passes in which nothing may happen any more.
    fn assert_quiet(&self, what: Says) {
        let (events, reads) = (self.events(), self.recorder.reads.get());
        self.settle();
        assert_eq!((self.events(), self.recorder.reads.get()), (events, reads), "{what:?}: acted on twice");
    }
}

/// A listener whose connection takes the place of the peer's.
fn unrelated() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn while_reading() {
    for what in ALL {
        let mut f = Fixture::new();
        f.settle();
        let _peer = f.hear(what);
        if what.has_data() {
            f.run_until("the data", || f.data() == b"data");
        }
        if what.ends() {
            f.run_until("the end", || !f.events().is_empty());
            assert_eq!(f.events(), REMOTE, "{what:?}");
        }
        f.assert_quiet(what);
        assert_eq!(f.data(), if what.has_data() { &b"data"[..] } else { b"" }, "{what:?}");
        assert_eq!(f.connection.state() == ConnectionState::Open, !what.ends(), "{what:?}");
    }
}

#[test]
fn while_reading_more_than_the_limit() {
    for what in [DataAndFin, DataAndReset] {
        let mut f = Fixture::new();
        f.connection.set_buffer_limits(16_384);
        f.settle();
        f.peer.write_all(&[b'x'; 40_000]).unwrap();
        let _peer = f.hear(what);
        f.run_until("the end", || !f.events().is_empty());
        assert_eq!(f.data().len(), 40_004, "{what:?}: nothing that came before the end is lost");
        assert_eq!(f.events(), REMOTE, "{what:?}");
    }
}

#[test]
fn while_paused() {
    for what in ALL {
        let mut f = Fixture::new();
        f.settle();
        f.connection.read_disable(true);
        let _peer = f.hear(what);
        if what.ends() {
            f.run_until("the early close", || !f.events().is_empty());
            assert_eq!(f.events(), REMOTE, "{what:?}");
            f.assert_quiet(what);
            assert_eq!(f.data(), b"", "{what:?}");
            continue;
        }
        f.assert_quiet(what);
        f.connection.read_disable(false);
        f.run_until("the data", || f.data() == b"data");
    }
}

#[test]
fn while_paused_without_early_close() {
    for what in ALL {
        let mut f = Fixture::new();
        f.connection.detect_early_close_when_read_disabled(false);
        f.settle();
        f.connection.read_disable(true);
        let _peer = f.hear(what);
        f.settle();
        assert_eq!(f.events(), [], "{what:?}");
        f.connection.read_disable(false);
        if what.ends() {
            f.run_until("the end", || !f.events().is_empty());
            assert_eq!(f.events(), REMOTE, "{what:?}");
        } else {
            f.run_until("the data", || f.data() == b"data");
        }
        f.assert_quiet(what);
        assert_eq!(f.data(), if what.has_data() { &b"data"[..] } else { b"" }, "{what:?}");
    }
}

/// The edge came while reading, and the filter pauses in the middle of what it brought.
#[test]
fn while_reading_and_then_paused() {
    for (what, detect) in
        [(DataAndFin, true), (DataAndReset, true), (DataAndFin, false), (DataAndReset, false)]
    {
        let mut f = Fixture::new();
        f.connection.set_buffer_limits(16_384);
        f.connection.detect_early_close_when_read_disabled(detect);
        f.settle();
        let (connection, recorder) = (Rc::downgrade(&f.connection), Rc::downgrade(&f.recorder));
        *f.recorder.on_data.borrow_mut() = Some(Box::new(move |data| {
            recorder.upgrade().unwrap().data.borrow_mut().extend(data.to_vec());
            data.clear();
            let connection = connection.upgrade().unwrap();
            if connection.read_enabled() {
                connection.read_disable(true);
            }
        }));
        f.peer.write_all(&[b'x'; 40_000]).unwrap();
        let _peer = f.hear(what);
        if detect {
            f.run_until("the early close", || !f.events().is_empty());
            assert!(f.data().len() < 40_000, "{what:?}");
        } else {
            f.run_until("the pause", || !f.connection.read_enabled());
            f.settle();
            assert_eq!(f.events(), [], "{what:?}");
            while f.events().is_empty() {
                f.connection.read_disable(false);
                f.run_until("the next pause", || !f.events().is_empty() || !f.connection.read_enabled());
            }
            assert_eq!(f.data().len(), 40_004, "{what:?}");
        }
        assert_eq!(f.events(), REMOTE, "{what:?}");
        f.assert_quiet(what);
    }
}

/// The peer takes nothing, so that the write buffer stays full.
#[test]
fn while_writing_is_blocked() {
    for what in ALL {
        let mut f = Fixture::new();
        f.settle();
        f.connection.write(&mut Buffer::from(&vec![b'x'; BIG][..]), false);
        f.settle();
        assert!(f.connection.write_buffer_length() > 0);
        let _peer = f.hear(what);
        if what.ends() {
            f.run_until("the end", || !f.events().is_empty());
            assert_eq!(f.events(), REMOTE, "{what:?}");
        } else {
            f.run_until("the data", || f.data() == b"data");
        }
        f.assert_quiet(what);
    }
}

/// All is written: a delayed close waits for the peer, and what still comes is thrown away.
#[test]
fn while_a_delayed_close_waits() {
    for what in ALL {
        let mut f = Fixture::new();
        f.settle();
        f.connection.set_delayed_close_timeout(Duration::from_secs(600));
        f.connection.close(ConnectionCloseType::FlushWriteAndDelay);
        f.settle();
        let _peer = f.hear(what);
        if what.ends() {
            f.run_until("the end", || !f.events().is_empty());
            assert_eq!(f.events(), REMOTE, "{what:?}");
        }
        f.assert_quiet(what);
        assert_eq!(f.data(), b"", "{what:?}");
    }
}

/// Not all is written, and the peer takes nothing.
#[test]
fn while_a_delayed_close_flushes() {
    for close in [ConnectionCloseType::FlushWrite, ConnectionCloseType::FlushWriteAndDelay] {
        for what in ALL {
            let mut f = Fixture::new();
            f.settle();
            f.connection.set_delayed_close_timeout(Duration::from_secs(600));
            f.connection.write(&mut Buffer::from(&vec![b'x'; BIG][..]), false);
            f.connection.close(close);
            f.settle();
            assert_eq!(f.connection.state(), ConnectionState::Closing);
            let _peer = f.hear(what);
            if what.ends() {
                f.run_until("the end", || !f.events().is_empty());
                assert_eq!(f.events(), REMOTE, "{what:?}");
            }
            f.assert_quiet(what);
            assert_eq!(f.data(), b"", "{what:?}");
        }
    }
}

/// A delayed close that begins after the edge, while reading was paused.
#[test]
fn before_a_delayed_close() {
    for what in ALL {
        let mut f = Fixture::new();
        f.connection.detect_early_close_when_read_disabled(false);
        f.settle();
        f.connection.read_disable(true);
        let _peer = f.hear(what);
        f.settle();
        f.connection.set_delayed_close_timeout(Duration::from_secs(600));
        f.connection.close(ConnectionCloseType::FlushWriteAndDelay);
        if what.ends() {
            f.run_until("the end", || !f.events().is_empty());
            assert_eq!(f.events(), REMOTE, "{what:?}");
        }
        f.assert_quiet(what);
        assert_eq!(f.data(), b"", "{what:?}");
    }
}

#[test]
fn while_connecting() {
    use ConnectionEvent::{Connected, RemoteClose};
    for what in ALL {
        let dispatcher = Dispatcher::new("test");
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().into();
        let client =
            ClientConnectionImpl::new(&dispatcher, address, None, Box::<RawBufferSocket>::default()).unwrap();
        let recorder = Rc::new(Recorder::default());
        client.add_connection_callbacks(Rc::downgrade(&(recorder.clone() as Rc<dyn ConnectionCallbacks>)));
        client.add_read_filter(recorder.clone());
        client.connect();
        // The handshake, and all that the peer says, is over before the loop asks.
        let _peer = say(server.accept().unwrap().0, what);
        let expected = match what {
            Data => vec![Connected],
            Fin | DataAndFin => vec![Connected, RemoteClose],
            // SO_ERROR has it: to the one who connects this is a failed attempt.
            Reset | DataAndReset => vec![RemoteClose],
        };
        let data: &[u8] = if matches!(what, Data | DataAndFin) { b"data" } else { b"" };
        let deadline = Instant::now() + Duration::from_secs(10);
        while *recorder.events.borrow() != expected || *recorder.data.borrow() != data {
            assert!(Instant::now() < deadline, "{what:?}: {:?}", recorder.events.borrow());
            dispatcher.run(RunType::NonBlock);
        }
        for _ in 0..5 {
            dispatcher.run(RunType::NonBlock);
        }
        assert_eq!(*recorder.events.borrow(), expected, "{what:?}: acted on twice");
        client.close(ConnectionCloseType::NoFlush);
    }
}
