//! A transport which is connected later than its socket, as TLS is: it says so from inside a read or a write.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Write,
}

/// Is connected by the first step of the given kind; before that it moves nothing.
struct Handshaking {
    by: Step,
    done: Cell<bool>,
    raw: RawBufferSocket,
}

impl Handshaking {
    fn step(&self, step: Step, raw: impl FnOnce() -> IoResult) -> IoResult {
        if self.done.get() {
            return raw();
        }
        self.done.set(step == self.by);
        IoResult { connected: self.done.get(), ..IoResult::default() }
    }
}

impl TransportSocket for Handshaking {
    fn do_read(&self, callbacks: &dyn TransportSocketCallbacks, buffer: &mut Buffer) -> IoResult {
        self.step(Step::Read, || self.raw.do_read(callbacks, buffer))
    }
    fn do_write(
        &self,
        callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
        end_stream: bool,
    ) -> IoResult {
        self.step(Step::Write, || self.raw.do_write(callbacks, buffer, end_stream))
    }
    fn on_connected(&self, _callbacks: &dyn TransportSocketCallbacks) -> bool {
        false
    }
}

type OnConnected = Box<dyn Fn(&ConnectionImpl)>;

/// What a test has done when the transport is connected.
struct Greeter {
    connection: Weak<ConnectionImpl>,
    events: RefCell<Vec<ConnectionEvent>>,
    on_connected: OnConnected,
}

impl ConnectionCallbacks for Greeter {
    fn on_event(&self, event: ConnectionEvent) {
        self.events.borrow_mut().push(event);
        if event == ConnectionEvent::Connected
            && let Some(connection) = self.connection.upgrade()
        {
            (self.on_connected)(&connection);
        }
    }
    fn on_above_write_buffer_high_watermark(&self) {}
    fn on_below_write_buffer_low_watermark(&self) {}
}

/// A connection with such a transport, and somebody who acts as soon as it is connected.
fn fixture(by: Step, on_connected: impl Fn(&ConnectionImpl) + 'static) -> (Fixture, Rc<Greeter>) {
    let transport = Handshaking { by, done: Cell::new(false), raw: RawBufferSocket };
    let f = Fixture::with_transport(Box::new(transport));
    let greeter = Rc::new(Greeter {
        connection: Rc::downgrade(&f.connection),
        events: RefCell::default(),
        on_connected: Box::new(on_connected),
    });
    f.connection.add_connection_callbacks(Rc::downgrade(&(greeter.clone() as Rc<dyn ConnectionCallbacks>)));
    (f, greeter)
}

const CONNECTED: ConnectionEvent = ConnectionEvent::Connected;
const BOTH: [Step; 2] = [Step::Read, Step::Write];

#[test]
fn what_is_written_when_connected_goes_out_behind_what_was_written_before() {
    for by in BOTH {
        let (mut f, greeter) = fixture(by, |c| c.write(&mut Buffer::from("second "), false));
        f.connection.write(&mut Buffer::from("first "), false);
        f.peer.write_all(b"hello").unwrap();
        f.run_until("the handshake and the data", || *f.recorder.data.borrow() == b"hello");
        f.connection.write(&mut Buffer::from("third"), false);
        let mut text = [0; 18];
        f.settle();
        f.peer.read_exact(&mut text).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), "first second third", "{by:?}");
        assert_eq!(*greeter.events.borrow(), [CONNECTED], "{by:?}");
    }
}

#[test]
fn reading_disabled_when_connected_keeps_the_first_bytes_back() {
    for by in BOTH {
        let (mut f, greeter) = fixture(by, |c| {
            c.read_disable(true);
            c.write(&mut Buffer::from("wait"), false);
        });
        f.peer.write_all(b"hello").unwrap();
        f.connection.write(&mut Buffer::from("please "), false);
        f.run_until("the handshake", || !greeter.events.borrow().is_empty());
        f.settle();
        assert_eq!(f.recorder.reads.get(), 0, "{by:?}");
        let mut text = [0; 11];
        f.peer.read_exact(&mut text).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), "please wait", "{by:?}");
        f.connection.read_disable(false);
        f.run_until("the data", || *f.recorder.data.borrow() == b"hello");
        assert_eq!(f.events(), [CONNECTED], "{by:?}");
    }
}

#[test]
fn bytes_and_an_end_that_wait_while_reading_is_disabled_are_not_lost() {
    let (mut f, greeter) = fixture(Step::Read, |c| {
        c.detect_early_close_when_read_disabled(false);
        c.read_disable(true);
    });
    f.peer.write_all(b"hello").unwrap();
    f.peer.shutdown(std::net::Shutdown::Write).unwrap();
    f.run_until("the handshake", || !greeter.events.borrow().is_empty());
    f.settle();
    assert_eq!((f.events(), f.recorder.reads.get()), (vec![CONNECTED], 0));
    f.connection.read_disable(false);
    f.run_until("the end", || f.events() == [CONNECTED, ConnectionEvent::RemoteClose]);
    assert_eq!(*f.recorder.data.borrow(), b"hello");
}

#[test]
fn closing_when_connected_is_safe() {
    for by in BOTH {
        let (mut f, _greeter) = fixture(by, |c| c.close(ConnectionCloseType::NoFlush));
        f.connection.write(&mut Buffer::from("never mind"), false);
        f.peer.write_all(b"hello").unwrap();
        f.run_until("the close", || f.events().len() == 2);
        f.settle();
        assert_eq!(f.events(), [CONNECTED, ConnectionEvent::LocalClose], "{by:?}");
        assert_eq!(f.recorder.reads.get(), 0, "{by:?}");
    }
}

#[test]
fn closing_when_connected_waits_for_what_is_to_be_written() {
    for by in BOTH {
        let (mut f, _greeter) = fixture(by, |c| c.close(ConnectionCloseType::FlushWriteAndDelay));
        f.connection.set_delayed_close_timeout(Duration::from_secs(600));
        f.connection.write(&mut Buffer::from("last words"), false);
        f.peer.write_all(b"hello").unwrap();
        f.run_until("the flush", || f.connection.write_buffer_length() == 0);
        f.peer.shutdown(std::net::Shutdown::Write).unwrap();
        f.run_until("the close", || f.events() == [CONNECTED, ConnectionEvent::RemoteClose]);
        let mut text = String::new();
        f.peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words", "{by:?}");
        assert_eq!(f.recorder.reads.get(), 0, "{by:?}");
    }
}

#[test]
fn an_end_written_before_the_handshake_is_passed_on_after_it() {
    for by in BOTH {
        let (mut f, _greeter) = fixture(by, |_| {});
        f.connection.enable_half_close(true);
        f.connection.write(&mut Buffer::new(), true);
        f.peer.write_all(b"hello").unwrap();
        f.run_until("the data", || *f.recorder.data.borrow() == b"hello");
        f.settle();
        assert_eq!(f.peer.read(&mut [0; 1]).unwrap(), 0, "{by:?}");
        assert_eq!(f.events(), [CONNECTED], "{by:?}");
    }
}

#[test]
fn a_client_is_connected_when_its_transport_is() {
    let dispatcher = Dispatcher::new("test");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let transport = Handshaking { by: Step::Write, done: Cell::new(false), raw: RawBufferSocket };
    let client = ClientConnectionImpl::new(
        &dispatcher,
        server.local_addr().unwrap().into(),
        None,
        Box::new(transport),
    )
    .unwrap();
    let greeter = Rc::new(Greeter {
        connection: Rc::downgrade(&client),
        events: RefCell::default(),
        on_connected: Box::new(|c| c.write(&mut Buffer::from("second"), false)),
    });
    client.add_connection_callbacks(Rc::downgrade(&(greeter.clone() as Rc<dyn ConnectionCallbacks>)));
    client.connect();
    client.write(&mut Buffer::from("first "), false);
    let (mut peer, _) = server.accept().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.write_buffer_length() > 0 && Instant::now() < deadline {
        dispatcher.run(RunType::NonBlock);
    }
    client.close(ConnectionCloseType::NoFlush);
    assert_eq!(*greeter.events.borrow(), [CONNECTED, ConnectionEvent::LocalClose]);
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first second");
}
