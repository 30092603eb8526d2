//! Connections over real sockets and a real loop.

mod edges;
mod handshake;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::*;
use crate::buffer::Buffer;
use crate::event::{Dispatcher, RunType};

type OnData = Box<dyn Fn(&mut Buffer)>;

/// Records what a connection tells and hands over.
#[derive(Default)]
struct Recorder {
    events: RefCell<Vec<ConnectionEvent>>,
    data: RefCell<Vec<u8>>,
    watermarks: RefCell<Vec<&'static str>>,
    on_data: RefCell<Option<OnData>>,
    reads: Cell<usize>,
}

impl ConnectionCallbacks for Recorder {
    fn on_event(&self, event: ConnectionEvent) {
        self.events.borrow_mut().push(event);
    }
    fn on_above_write_buffer_high_watermark(&self) {
        self.watermarks.borrow_mut().push("high");
    }
    fn on_below_write_buffer_low_watermark(&self) {
        self.watermarks.borrow_mut().push("low");
    }
}

impl ReadFilter for Recorder {
    fn on_data(&self, data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        self.reads.set(self.reads.get() + 1);
        if let Some(f) = self.on_data.borrow().as_ref() {
            f(data);
            return FilterStatus::StopIteration;
        }
        self.data.borrow_mut().extend(data.to_vec());
        data.clear();
        FilterStatus::StopIteration
    }
    fn initialize_read_filter_callbacks(&self, _callbacks: ReadFilterCallbacks) {}
}

struct Fixture {
    dispatcher: Rc<Dispatcher>,
    connection: Rc<ConnectionImpl>,
    recorder: Rc<Recorder>,
    peer: TcpStream,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with_transport(Box::<RawBufferSocket>::default())
    }

    fn with_transport(transport: Box<dyn TransportSocket>) -> Fixture {
        let dispatcher = Dispatcher::new("test");
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (accepted, remote) = server.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let socket =
            ConnectionSocket::accepted(accepted.into(), server.local_addr().unwrap().into(), remote.into());
        let connection = ConnectionImpl::new(&dispatcher, socket, transport, true).unwrap();
        let recorder = Rc::new(Recorder::default());
        let callbacks: Weak<dyn ConnectionCallbacks> =
            Rc::downgrade(&(recorder.clone() as Rc<dyn ConnectionCallbacks>));
        connection.add_connection_callbacks(callbacks);
        connection.add_read_filter(recorder.clone());
        Fixture { dispatcher, connection, recorder, peer }
    }

    fn run_until(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "waiting for {what}");
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    fn settle(&self) {
        for _ in 0..5 {
            self.dispatcher.run(RunType::NonBlock);
        }
    }

    fn events(&self) -> Vec<ConnectionEvent> {
        self.recorder.events.borrow().clone()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.connection.close(ConnectionCloseType::NoFlush);
    }
}

#[test]
fn data_and_fin_in_one_segment_are_both_seen() {
    let mut f = Fixture::new();
    f.peer.write_all(b"last words").unwrap();
    f.peer.shutdown(std::net::Shutdown::Write).unwrap();
    f.run_until("the close", || !f.events().is_empty());
    assert_eq!(*f.recorder.data.borrow(), b"last words");
    assert_eq!(f.events(), [ConnectionEvent::RemoteClose]);
}

#[test]
fn reading_disabled_keeps_data_back_until_enabled() {
    let mut f = Fixture::new();
    f.settle();
    f.connection.read_disable(true);
    f.connection.read_disable(true);
    f.peer.write_all(b"abc").unwrap();
    f.settle();
    assert_eq!(f.recorder.reads.get(), 0);
    f.connection.read_disable(false);
    f.settle();
    assert_eq!(f.recorder.reads.get(), 0, "calls nest");
    f.connection.read_disable(false);
    f.run_until("the data", || *f.recorder.data.borrow() == b"abc");
}

#[test]
fn data_left_in_the_buffer_is_offered_again_when_reading_is_enabled() {
    let mut f = Fixture::new();
    let connection = f.connection.clone();
    let first = Cell::new(true);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let s = seen.clone();
    *f.recorder.on_data.borrow_mut() = Some(Box::new(move |data| {
        if first.replace(false) {
            data.drain(1);
            connection.read_disable(true);
        } else {
            s.borrow_mut().extend(data.to_vec());
            data.clear();
        }
    }));
    f.peer.write_all(b"abc").unwrap();
    f.run_until("the first read", || f.recorder.reads.get() == 1);
    f.connection.read_disable(false);
    f.run_until("the rest", || *seen.borrow() == b"bc");
    f.recorder.on_data.borrow_mut().take();
}

#[test]
fn early_close_is_seen_while_reading_is_disabled() {
    let f = Fixture::new();
    f.settle();
    f.connection.read_disable(true);
    f.peer.shutdown(std::net::Shutdown::Write).unwrap();
    f.run_until("the close", || !f.events().is_empty());
    assert_eq!(f.events(), [ConnectionEvent::RemoteClose]);
}

#[test]
fn without_early_close_detection_the_fin_waits_for_the_read() {
    let mut f = Fixture::new();
    f.settle();
    f.connection.detect_early_close_when_read_disabled(false);
    f.connection.read_disable(true);
    f.peer.write_all(b"tail").unwrap();
    f.peer.shutdown(std::net::Shutdown::Write).unwrap();
    f.settle();
    assert!(f.events().is_empty());
    f.connection.read_disable(false);
    f.run_until("the close", || !f.events().is_empty());
    assert_eq!(*f.recorder.data.borrow(), b"tail");
}

#[test]
fn write_goes_out_in_the_same_pass_and_flush_close_waits_for_it() {
    let mut f = Fixture::new();
    f.settle();
    f.connection.write(&mut Buffer::from("hello"), false);
    f.connection.close(ConnectionCloseType::FlushWrite);
    assert_eq!(f.connection.state(), ConnectionState::Closing);
    f.run_until("the close", || !f.events().is_empty());
    assert_eq!(f.events(), [ConnectionEvent::LocalClose]);
    let mut text = String::new();
    f.peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn delayed_close_ends_with_the_peer_or_the_timer() {
    let f = Fixture::new();
    f.connection.set_delayed_close_timeout(Duration::from_secs(600));
    f.connection.close(ConnectionCloseType::FlushWriteAndDelay);
    f.settle();
    assert_eq!(f.connection.state(), ConnectionState::Closing);
    f.peer.shutdown(std::net::Shutdown::Both).unwrap();
    f.run_until("the peer's close", || f.events() == [ConnectionEvent::RemoteClose]);

    let f = Fixture::new();
    f.connection.set_delayed_close_timeout(Duration::from_millis(1));
    f.connection.write(&mut Buffer::from("x"), false);
    f.connection.close(ConnectionCloseType::FlushWriteAndDelay);
    f.run_until("the timer", || f.events() == [ConnectionEvent::LocalClose]);
}

#[test]
fn watermarks_are_told_on_crossing() {
    let mut f = Fixture::new();
    f.connection.set_buffer_limits(10_000);
    let big = vec![b'x'; 30 * 1024 * 1024];
    f.connection.write(&mut Buffer::from(&big[..]), false);
    assert_eq!(*f.recorder.watermarks.borrow(), ["high"]);
    let reader = std::thread::spawn({
        let mut peer = f.peer.try_clone().unwrap();
        let n = big.len();
        move || {
            let mut left = vec![0; n];
            peer.read_exact(&mut left).unwrap();
        }
    });
    f.run_until("low", || f.recorder.watermarks.borrow().len() == 2);
    assert_eq!(*f.recorder.watermarks.borrow(), ["high", "low"]);
    f.run_until("all written", || reader.is_finished());
    f.peer.write_all(b"x").unwrap();
}

#[test]
fn a_full_read_buffer_is_handed_up_before_reading_on() {
    let mut f = Fixture::new();
    f.connection.set_buffer_limits(16_384);
    let n = 1_000_000;
    let writer = std::thread::spawn({
        let mut peer = f.peer.try_clone().unwrap();
        move || peer.write_all(&vec![b'x'; n]).unwrap()
    });
    f.run_until("all data", || f.recorder.data.borrow().len() == n);
    writer.join().unwrap();
    assert!(f.recorder.reads.get() > n / 40_000, "never more than the limit and a read at once");
    f.peer.flush().unwrap();
}

#[test]
fn closing_inside_a_read_callback_is_safe() {
    let mut f = Fixture::new();
    let connection = f.connection.clone();
    *f.recorder.on_data.borrow_mut() =
        Some(Box::new(move |_| connection.close(ConnectionCloseType::NoFlush)));
    f.peer.write_all(b"x").unwrap();
    f.run_until("the close", || !f.events().is_empty());
    assert_eq!(f.events(), [ConnectionEvent::LocalClose]);
    f.recorder.on_data.borrow_mut().take();
}

#[test]
fn a_client_connection_connects_and_fails_by_event() {
    let dispatcher = Dispatcher::new("test");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let good: Address = server.local_addr().unwrap().into();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused: Address = free.local_addr().unwrap().into();
    drop(free);
    for (address, expected) in [(good, ConnectionEvent::Connected), (refused, ConnectionEvent::RemoteClose)] {
        let client =
            ClientConnectionImpl::new(&dispatcher, address, None, Box::<RawBufferSocket>::default()).unwrap();
        let recorder = Rc::new(Recorder::default());
        client.add_connection_callbacks(Rc::downgrade(&(recorder.clone() as Rc<dyn ConnectionCallbacks>)));
        client.add_read_filter(recorder.clone());
        client.connect();
        assert!(recorder.events.borrow().is_empty(), "nothing is told from inside connect");
        let deadline = Instant::now() + Duration::from_secs(10);
        while recorder.events.borrow().is_empty() && Instant::now() < deadline {
            dispatcher.run(RunType::NonBlock);
        }
        assert_eq!(*recorder.events.borrow(), [expected]);
        client.close(ConnectionCloseType::NoFlush);
    }
}

#[test]
fn a_bind_failure_is_raised_as_a_local_close_from_the_loop() {
    let dispatcher = Dispatcher::new("test");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody: Address = "192.0.2.1:0".parse::<std::net::SocketAddr>().unwrap().into();
    let address = server.local_addr().unwrap().into();
    let client =
        ClientConnectionImpl::new(&dispatcher, address, Some(&nobody), Box::<RawBufferSocket>::default())
            .unwrap();
    let recorder = Rc::new(Recorder::default());
    client.add_connection_callbacks(Rc::downgrade(&(recorder.clone() as Rc<dyn ConnectionCallbacks>)));
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*recorder.events.borrow(), [ConnectionEvent::LocalClose]);
}
