//! A connection's transport over TLS. Mirrors `SslSocket` of Envoy's `source/common/tls/ssl_socket.cc`.
//!
//! BoringSSL reads and writes the socket itself. rustls is given bytes and gives some back, so the reading and writing is
//! done here, on the same events and with the same results: a handshake that is done is [`IoResult::connected`],
//! a `close_notify` is an end of stream, and an end of stream sends one and leaves the socket open. As in
//! Envoy, what waits to be written stays in the connection's buffer until the record that it went into has been written.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, IoSlice, Write};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::{AcceptedAlert, Acceptor};
use rustls::{Connection, ProtocolVersion};

use super::cert_validator::DefaultCertValidator;
use super::client_context::ClientContextImpl;
use super::client_hello::{self, Parsed};
use super::connection_info::{ConnectionInfoImpl, Negotiated};
use super::context::LocalCertificate;
use super::errors::{self, Counted};
use super::server_context::ServerContextImpl;
use super::stats::ContextStats;
use super::verifier::take_peer_signature;
use crate::buffer::Buffer;
use crate::common::socket_io;
use crate::envoy_conn_log;
use crate::network::{
    ConnectionEvent, IoResult, PostIoAction, SslConnectionInfo, TransportSocket, TransportSocketCallbacks,
};
use crate::trace::{self, Stage, log_stage, stage};

/// As much as goes into a record.
const RECORD: usize = 16 * 1024;
/// As much as is read at a time: a record with what is around it.
const READ_SIZE: usize = RECORD + 2048;
/// How many pieces of a buffer a record is made of.
const PIECES: usize = 16;
/// BoringSSL's number for bytes that are no record of TLS.
const WRONG_VERSION_NUMBER: u32 = 247;
/// The same for a message that is too long.
const EXCESSIVE_MESSAGE_SIZE: u32 = 150;
/// Alerts.
const PROTOCOL_VERSION: u8 = 70;
const ILLEGAL_PARAMETER: u8 = 47;
const HANDSHAKE_FAILURE: u8 = 40;
const CERTIFICATE_REQUIRED: u8 = 116;
/// What OpenSSL says where a handshake waits for bytes.
const WANT_READ: u32 = 2;
/// What OpenSSL says where it has failed.
const SSL_ERROR: u32 = 1;

thread_local! {
    /// Where sockets of this thread read to, one at a time.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

/// Which contexts a socket belongs to.
enum Context {
    /// It was accepted.
    Server(Arc<ServerContextImpl>),
    /// It goes to a host.
    Client(Arc<ClientContextImpl>),
}

impl Context {
    fn stats(&self) -> &Arc<ContextStats> {
        match self {
            Context::Server(context) => context.stats(),
            Context::Client(context) => context.stats(),
        }
    }

    fn validator(&self) -> &Arc<DefaultCertValidator> {
        match self {
            Context::Server(context) => context.validator(),
            Context::Client(context) => context.validator(),
        }
    }
}

/// How far it has come.
enum State {
    /// Not all of the client's hello is there.
    Accepting(Box<Acceptor>),
    /// rustls has it.
    Going(Box<Connection>),
    /// There is nothing that could go on.
    Failed,
}

/// See the module's description.
pub struct SslSocket {
    context: Context,
    state: RefCell<State>,
    /// What was read and not yet taken: what came with the end of the handshake.
    received: RefCell<Buffer>,
    /// An alert that no connection of rustls holds.
    last_words: RefCell<Vec<u8>>,
    /// Bytes of the buffer that are in records already which have not been written in whole.
    bytes_to_retry: Cell<usize>,
    handshake_complete: Cell<bool>,
    /// Whether the first bytes of a client have been looked at.
    looked_at: Cell<bool>,
    asks_ocsp: Cell<bool>,
    /// Whether the peer has said that nothing more comes.
    peer_has_closed: Cell<bool>,
    shutdown_sent: Cell<bool>,
    failure_reason: RefCell<String>,
    local: RefCell<Option<Arc<LocalCertificate>>>,
    sni: RefCell<Box<str>>,
    info: RefCell<Option<Rc<dyn SslConnectionInfo>>>,
}

/// What a step of the handshake has led to.
#[derive(PartialEq, Eq)]
enum Handshake {
    /// It goes on when the socket is ready.
    Going,
    Done,
    Failed,
}

/// What a read has led to.
#[derive(PartialEq, Eq)]
enum Input {
    /// So many bytes were worked off.
    Read(usize),
    /// There is nothing to be read.
    Nothing,
    /// The peer has closed its side of the socket.
    End,
    /// The socket or what came was bad.
    Failed,
}

impl SslSocket {
    /// For a connection that was accepted.
    pub fn server(context: Arc<ServerContextImpl>) -> Self {
        Self::new(Context::Server(context), State::Accepting(Box::default()), "".into(), None)
    }

    /// For a connection to a host, which is asked for `name` instead of the configured one.
    pub fn client(context: Arc<ClientContextImpl>, name: Option<&str>) -> Self {
        let local = context.local().cloned();
        let (state, sni, reason) = match context.connect(name) {
            Ok((client, sni)) => (State::Going(Box::new(client.into())), sni, String::new()),
            Err(error) => (State::Failed, "".into(), errors::framed(&errors::describe(&error).0)),
        };
        let socket = Self::new(Context::Client(context), state, sni, local);
        *socket.failure_reason.borrow_mut() = reason;
        socket
    }

    fn new(context: Context, state: State, sni: Box<str>, local: Option<Arc<LocalCertificate>>) -> Self {
        SslSocket {
            context,
            state: RefCell::new(state),
            received: RefCell::default(),
            last_words: RefCell::default(),
            bytes_to_retry: Cell::new(0),
            handshake_complete: Cell::new(false),
            looked_at: Cell::new(false),
            asks_ocsp: Cell::new(false),
            peer_has_closed: Cell::new(false),
            shutdown_sent: Cell::new(false),
            failure_reason: RefCell::default(),
            local: RefCell::new(local),
            sni: RefCell::new(sni),
            info: RefCell::default(),
        }
    }

    /// Takes the handshake as far as it goes now.
    fn do_handshake(&self, callbacks: &dyn TransportSocketCallbacks) -> IoResult {
        let mut result = IoResult::default();
        let id = callbacks.connection_id();
        let mut outcome = Handshake::Failed;
        callbacks.with_fd(&mut |fd| outcome = self.handshake_step(fd, &mut result));
        match outcome {
            Handshake::Done => {
                self.on_handshake_complete();
                stage!(SslHandshake(id));
                result.connected = true;
            }
            Handshake::Going => envoy_conn_log!(Connection, debug, id, "handshake error: {}", WANT_READ),
            Handshake::Failed => {
                envoy_conn_log!(Connection, debug, id, "handshake error: {}", SSL_ERROR);
                envoy_conn_log!(Connection, debug, id, "{}", self.failure_reason.borrow());
                result.action = PostIoAction::Close;
            }
        }
        result
    }

    fn handshake_step(&self, fd: BorrowedFd<'_>, result: &mut IoResult) -> Handshake {
        loop {
            if self.flush(fd, result).is_err() {
                // The peer may have said why before it went.
                self.read_once(fd, result);
                return Handshake::Failed;
            }
            match &*self.state.borrow() {
                State::Going(connection) if !connection.is_handshaking() => return Handshake::Done,
                State::Failed => return Handshake::Failed,
                _ => {}
            }
            match self.read_once(fd, result) {
                Input::Read(_) => {}
                Input::Nothing => return Handshake::Going,
                Input::End => return Handshake::Failed,
                Input::Failed => {
                    _ = self.flush(fd, result);
                    return Handshake::Failed;
                }
            }
        }
    }

    /// Envoy: `SslSocket::onSuccess`, which also counts.
    fn on_handshake_complete(&self) {
        self.handshake_complete.set(true);
        let state = self.state.borrow();
        let State::Going(connection) = &*state else { return };
        let chain = connection.peer_certificates().unwrap_or_default();
        let negotiated = Negotiated::of(connection, take_peer_signature());
        self.context.stats().log_handshake(&negotiated, !chain.is_empty());
        let local = self.local.borrow().clone();
        let validator = self.context.validator().clone();
        let info = ConnectionInfoImpl::new(negotiated, &self.sni.borrow(), chain, local, validator);
        *self.info.borrow_mut() = Some(Rc::new(info));
    }

    /// Reads once, and has rustls work off what came.
    fn read_once(&self, fd: BorrowedFd<'_>, result: &mut IoResult) -> Input {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                match socket_io::recv(fd, scratch) {
                    Ok(0) => return Input::End,
                    Ok(read) => {
                        return if self.work_off(&scratch[..read]) {
                            Input::Read(read)
                        } else {
                            Input::Failed
                        };
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
                    Err(error) => {
                        result.reset = error.kind() == io::ErrorKind::ConnectionReset;
                        return Input::Failed;
                    }
                }
            }
        })
    }

    /// Hands bytes to rustls, and keeps what it makes of them. False if they were bad, which has been noted.
    fn work_off(&self, mut bytes: &[u8]) -> bool {
        if !self.looked_at.replace(true) && matches!(self.context, Context::Server(_)) {
            if let Some((number, reason)) = no_hello(bytes) {
                return self.refuse_first_bytes(number, reason);
            }
            // One that comes in pieces is taken for one that does not ask.
            if let Parsed::Hello(hello) = client_hello::parse(bytes) {
                self.asks_ocsp.set(hello.asks_ocsp);
            }
        }
        while !bytes.is_empty() {
            let before = bytes.len();
            let taken = self.take_in(&mut bytes);
            if let Err(error) = taken.and_then(|()| used(before, bytes)) {
                let (text, counted) = errors::describe(&error);
                if error == rustls::Error::NoCertificatesPresented {
                    self.say_handshake_failure();
                }
                return self.fail(text, counted);
            }
        }
        true
    }

    fn refuse_first_bytes(&self, number: u32, reason: &str) -> bool {
        let alert = match number {
            WRONG_VERSION_NUMBER => Some(PROTOCOL_VERSION),
            EXCESSIVE_MESSAGE_SIZE => Some(ILLEGAL_PARAMETER),
            _ => None,
        };
        // In a record of the version that Envoy takes for one.
        let record = alert.into_iter().flat_map(|alert| [21, 3, 1, 0, 2, 2, alert]);
        self.last_words.borrow_mut().extend(record);
        self.fail(errors::text(number, reason), Counted::ConnectionError)
    }

    /// TLS 1.2 has no alert for a missing certificate, but rustls sends that of 1.3.
    fn say_handshake_failure(&self) {
        let mut state = self.state.borrow_mut();
        let State::Going(connection) = &mut *state else { return };
        if connection.protocol_version() != Some(ProtocolVersion::TLSv1_2) {
            return;
        }
        let mut words = self.last_words.borrow_mut();
        while connection.wants_write() && connection.write_tls(&mut *words).is_ok() {}
        if let Some(description) = words.last_mut().filter(|last| **last == CERTIFICATE_REQUIRED) {
            *description = HANDSHAKE_FAILURE;
        }
    }

    fn take_in(&self, bytes: &mut &[u8]) -> Result<(), rustls::Error> {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Failed => *bytes = &[],
            State::Accepting(acceptor) => {
                // What rustls has no room for is no hello.
                let too_large = |_| rustls::Error::InvalidMessage(rustls::InvalidMessage::MessageTooLarge);
                acceptor.read_tls(bytes).map_err(too_large)?;
                if let Some(mut connection) = self.accept(acceptor)? {
                    // What came behind the hello has been read with it.
                    connection.process_new_packets()?;
                    *state = State::Going(connection);
                }
            }
            State::Going(connection) => {
                let too_large = |_| rustls::Error::PeerSentOversizedRecord;
                connection.read_tls(bytes).map_err(too_large)?;
                let io_state = connection.process_new_packets()?;
                take_plaintext(connection, &mut self.received.borrow_mut());
                self.peer_has_closed.set(io_state.peer_has_closed());
            }
        }
        Ok(())
    }

    /// Chooses the certificate and the rest when all of the hello is there.
    fn accept(&self, acceptor: &mut Acceptor) -> Result<Option<Box<Connection>>, rustls::Error> {
        let Context::Server(context) = &self.context else { return Ok(None) };
        let refused = |(error, mut alert): (rustls::Error, AcceptedAlert)| {
            _ = alert.write_all(&mut *self.last_words.borrow_mut());
            error
        };
        let Some(accepted) = acceptor.accept().map_err(refused)? else { return Ok(None) };
        let hello = accepted.client_hello();
        let (config, local) = context.select(&hello, self.asks_ocsp.get());
        *self.sni.borrow_mut() = hello.server_name().unwrap_or_default().into();
        *self.local.borrow_mut() = Some(local);
        let connection = accepted.into_connection(config).map_err(refused)?;
        Ok(Some(Box::new(connection.into())))
    }

    fn fail(&self, text: String, counted: Counted) -> bool {
        let stats = self.context.stats();
        match counted {
            Counted::ConnectionError => stats.connection_error.inc(),
            Counted::NoCertificate => stats.fail_verify_no_cert.inc(),
            Counted::Already => {}
        }
        *self.failure_reason.borrow_mut() = errors::framed(&text);
        false
    }

    /// Writes what rustls has for the peer, as far as the socket takes it.
    fn flush(&self, fd: BorrowedFd<'_>, result: &mut IoResult) -> io::Result<()> {
        let mut writer = FdWriter(fd);
        let written: io::Result<()> = (|| {
            let mut last_words = self.last_words.borrow_mut();
            while !last_words.is_empty() {
                let n = writer.write(&last_words)?;
                last_words.drain(..n);
            }
            if let State::Going(connection) = &mut *self.state.borrow_mut() {
                while connection.wants_write() {
                    connection.write_tls(&mut writer)?;
                }
            }
            Ok(())
        })();
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => {
                result.reset = error.kind() == io::ErrorKind::ConnectionReset;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether there are records that the socket did not take.
    fn has_records(&self) -> bool {
        matches!(&*self.state.borrow(), State::Going(connection) if connection.wants_write())
    }

    /// Makes a record of the begin of `buffer`, which keeps it until it is written.
    fn seal(&self, buffer: &Buffer) {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let (mut used, mut length) = (0, 0);
        for (piece, chunk) in pieces.iter_mut().zip(buffer.chunks()) {
            let part = chunk.len().min(RECORD - length);
            *piece = IoSlice::new(&chunk[..part]);
            used += 1;
            length += part;
            if length == RECORD {
                break;
            }
        }
        if let State::Going(connection) = &mut *self.state.borrow_mut() {
            // rustls limits what it holds to more than this.
            self.bytes_to_retry.set(connection.writer().write_vectored(&pieces[..used]).unwrap_or(0));
        }
    }

    fn shutdown_ssl(&self, fd: BorrowedFd<'_>, id: u64, result: &mut IoResult) {
        if self.shutdown_sent.replace(true) {
            return;
        }
        if let State::Going(connection) = &mut *self.state.borrow_mut() {
            connection.send_close_notify();
        }
        _ = self.flush(fd, result);
        log_stage!(SslShutdown(id), rc = i32::from(self.peer_has_closed.get()));
    }

    fn read_all(
        &self,
        fd: BorrowedFd<'_>,
        callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
    ) -> IoResult {
        let mut result = IoResult::default();
        let id = callbacks.connection_id();
        loop {
            let plain = self.received.borrow().len();
            if plain > 0 {
                log_stage!(SslRead(id), bytes = plain);
                buffer.move_from(&mut self.received.borrow_mut());
                result.bytes_processed += plain;
            }
            if self.peer_has_closed.get() {
                result.end_stream_read = true;
                return result;
            }
            if plain > 0 && callbacks.should_drain_read_buffer(buffer.len()) {
                callbacks.set_read_buffer_ready();
                return result;
            }
            match self.read_once(fd, &mut result) {
                // A short read has emptied the socket, as in `RawBufferSocket`.
                Input::Read(read) if read < READ_SIZE && !callbacks.peer_closed() => {
                    let plain = self.received.borrow().len();
                    if plain > 0 {
                        log_stage!(SslRead(id), bytes = plain);
                        buffer.move_from(&mut self.received.borrow_mut());
                        result.bytes_processed += plain;
                    }
                    result.end_stream_read = self.peer_has_closed.get();
                    return result;
                }
                Input::Read(_) => {}
                Input::Nothing => return result,
                Input::End => {
                    result.action = PostIoAction::Close;
                    return result;
                }
                Input::Failed => {
                    envoy_conn_log!(Connection, debug, id, "{}", self.failure_reason.borrow());
                    result.action = PostIoAction::Close;
                    return result;
                }
            }
        }
    }

    fn write_all(
        &self,
        fd: BorrowedFd<'_>,
        callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
        end_stream: bool,
    ) -> IoResult {
        let mut result = IoResult::default();
        loop {
            if self.flush(fd, &mut result).is_err() {
                self.read_once(fd, &mut result);
                result.action = PostIoAction::Close;
                return result;
            }
            if self.has_records() {
                return result;
            }
            let written = self.bytes_to_retry.take();
            if written > 0 {
                log_stage!(SslWrite(callbacks.connection_id()), bytes = written);
                buffer.drain(written);
                result.bytes_processed += written;
            }
            if buffer.is_empty() || self.shutdown_sent.get() {
                break;
            }
            self.seal(buffer);
            if self.bytes_to_retry.get() == 0 {
                result.action = PostIoAction::Close;
                return result;
            }
        }
        if buffer.is_empty() && end_stream {
            self.shutdown_ssl(fd, callbacks.connection_id(), &mut result);
        }
        result
    }
}

impl TransportSocket for SslSocket {
    fn protocol(&self) -> Cow<'_, str> {
        match &*self.state.borrow() {
            State::Going(connection) => {
                let protocol = connection.alpn_protocol().map(String::from_utf8_lossy);
                Cow::Owned(protocol.unwrap_or_default().into_owned())
            }
            _ => Cow::Borrowed(""),
        }
    }

    fn failure_reason(&self) -> Cow<'_, str> {
        Cow::Owned(self.failure_reason.borrow().clone())
    }

    fn ssl(&self) -> Option<Rc<dyn SslConnectionInfo>> {
        self.info.borrow().clone()
    }

    fn is_secure(&self) -> bool {
        true
    }

    fn can_flush_close(&self) -> bool {
        self.handshake_complete.get()
    }

    fn close_socket(&self, callbacks: &dyn TransportSocketCallbacks, _event: ConnectionEvent) {
        if self.handshake_complete.get() {
            let id = callbacks.connection_id();
            callbacks.with_fd(&mut |fd| self.shutdown_ssl(fd, id, &mut IoResult::default()));
        }
    }

    fn do_read(&self, callbacks: &dyn TransportSocketCallbacks, buffer: &mut Buffer) -> IoResult {
        if !self.handshake_complete.get() {
            return self.do_handshake(callbacks);
        }
        let mut result = IoResult::default();
        callbacks.with_fd(&mut |fd| {
            result = self.read_all(fd, callbacks, buffer);
            // What rustls answers with, a new key or an alert.
            _ = self.flush(fd, &mut result);
        });
        trace::instant(
            Stage::SslRead,
            Some(callbacks.connection_id()),
            0,
            result.bytes_processed as u64,
            result.end_stream_read.into(),
        );
        result
    }

    fn do_write(
        &self,
        callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
        end_stream: bool,
    ) -> IoResult {
        if !self.handshake_complete.get() {
            let result = self.do_handshake(callbacks);
            // What came with the end of the handshake has no event of its own.
            if !self.received.borrow().is_empty() || self.peer_has_closed.get() {
                callbacks.set_read_buffer_ready();
            }
            return result;
        }
        let mut result = IoResult::default();
        callbacks.with_fd(&mut |fd| result = self.write_all(fd, callbacks, buffer, end_stream));
        if result.bytes_processed > 0 || !buffer.is_empty() {
            let (written, left) = (result.bytes_processed as u64, buffer.len() as u64);
            trace::instant(Stage::SslWrite, Some(callbacks.connection_id()), 0, written, left);
        }
        result
    }

    /// A handshake begins with the first write that the connection is ready for.
    fn on_connected(&self, _callbacks: &dyn TransportSocketCallbacks) -> bool {
        false
    }

    fn writes_data_alone(&self) -> bool {
        self.handshake_complete.get() && !self.has_records()
    }
}

/// Whether some of the bytes were used, so that there is an end to it.
fn used(before: usize, left: &[u8]) -> Result<(), rustls::Error> {
    if left.len() < before { Ok(()) } else { Err(rustls::Error::PeerSentOversizedRecord) }
}

fn take_plaintext(connection: &mut Connection, received: &mut Buffer) {
    let mut reader = connection.reader();
    while let Ok(plain) = reader.fill_buf() {
        if plain.is_empty() {
            return;
        }
        let length = plain.len();
        received.add(plain);
        reader.consume(length);
    }
}

/// What BoringSSL says of first bytes that cannot be a hello.
fn no_hello(bytes: &[u8]) -> Option<(u32, &'static str)> {
    let is = |method: &&[u8]| bytes.starts_with(method);
    if [&b"GET "[..], b"POST ", b"HEAD ", b"PUT "].iter().any(is) {
        return Some((156, "HTTP_REQUEST"));
    }
    if bytes.starts_with(b"CONNE") {
        return Some((155, "HTTPS_PROXY_REQUEST"));
    }
    let is_record = matches!(bytes, [20..=23] | [20..=23, 3, ..]);
    if !is_record {
        return Some((WRONG_VERSION_NUMBER, "WRONG_VERSION_NUMBER"));
    }
    // A message that begins as no hello is one that is too long, nearly always.
    let is_no_hello = bytes[0] == 22 && bytes.get(5).is_some_and(|kind| *kind != 1);
    is_no_hello.then_some((EXCESSIVE_MESSAGE_SIZE, "EXCESSIVE_MESSAGE_SIZE"))
}

/// Writes to a socket, and raises no SIGPIPE.
struct FdWriter<'a>(BorrowedFd<'a>);

impl Write for FdWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        loop {
            match socket_io::send(self.0, data) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
