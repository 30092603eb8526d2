//! A connection: buffers, watermarks, read control, ways of closing.
//!
//! Mirrors Envoy's `source/common/network/connection_impl.cc`. Deliberate differences:
//! - Envoy changes what epoll watches on every `readDisable`, which costs two system calls each.
//!   Here the fd stays registered for Read, Write and Closed for life; a readiness that comes while
//!   reading is disabled is remembered and acted upon when reading is enabled again.
//! - Closed (EPOLLRDHUP) is watched together with Read. While reading is enabled it only tells the
//!   transport socket to read until the end of the stream.
//! - Bytes left in the read buffer are offered again when reading is enabled, as in later Envoys;
//!   in 1.1 they wait for more to arrive.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::{
    Address, ConnectionSocket, FilterManagerImpl, FilterStatus, IoResult, PostIoAction, ReadFilter,
    TransportSocket, TransportSocketCallbacks, WriteFilter,
};
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::envoy_conn_log;
use crate::event::{CLOSED, Dispatcher, FileEvent, READ, Timer, WRITE};
use crate::stats::{Counter, Gauge};

/// What happened to a connection. The numbers are Envoy's and appear in its logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionEvent {
    /// The peer closed, or the socket failed.
    RemoteClose = 0,
    /// This side closed.
    LocalClose = 1,
    /// The connection attempt succeeded.
    Connected = 2,
}

/// How to close. The numbers are Envoy's and appear in its logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionCloseType {
    /// Flush what is pending, then close.
    FlushWrite = 0,
    /// Close now.
    NoFlush = 1,
    /// Flush, then wait for the peer or the delayed close timeout.
    FlushWriteAndDelay = 2,
}

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// In use.
    Open,
    /// Waiting for a flush, the peer or a timer, to be closed then.
    Closing,
    /// The socket is closed.
    Closed,
}

/// Told of a connection's events, in the order of registration.
pub trait ConnectionCallbacks {
    /// The connection was established or closed.
    fn on_event(&self, event: ConnectionEvent);
    /// More is waiting to be written than the buffer limit.
    fn on_above_write_buffer_high_watermark(&self) {}
    /// What waits to be written has fallen below half of the limit.
    fn on_below_write_buffer_low_watermark(&self) {}
}

/// Where a connection counts its bytes; shared by all connections of one owner.
pub struct ConnectionStats {
    /// Bytes read.
    pub read_total: Counter,
    /// Bytes in read buffers.
    pub read_current: Gauge,
    /// Bytes written.
    pub write_total: Counter,
    /// Bytes in write buffers.
    pub write_current: Gauge,
    /// Failures to bind the source address.
    pub bind_errors: Option<Counter>,
    /// Connections closed by the delayed close timer.
    pub delayed_close_timeouts: Option<Counter>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DelayedCloseState {
    None,
    CloseAfterFlush,
    CloseAfterFlushAndWait,
}

static NEXT_GLOBAL_ID: AtomicU64 = AtomicU64::new(0);

/// A connection of one worker. See the module's description.
pub struct ConnectionImpl {
    weak: Weak<ConnectionImpl>,
    id: u64,
    dispatcher: Rc<Dispatcher>,
    transport_socket: Box<dyn TransportSocket>,
    // Declared before the socket: the event must go before the fd does.
    file_event: RefCell<Option<FileEvent>>,
    socket: RefCell<Option<ConnectionSocket>>,
    remote_address: Address,
    local_address: OnceCell<Option<Address>>,
    connect_failure: Cell<Option<(&'static str, Errno)>>,
    filter_manager: FilterManagerImpl,
    callbacks: RefCell<Vec<Weak<dyn ConnectionCallbacks>>>,
    read_buffer: RefCell<Buffer>,
    write_buffer: RefCell<WatermarkBuffer>,
    read_buffer_limit: Cell<usize>,
    stats: RefCell<Option<Arc<ConnectionStats>>>,
    last_read_buffer_size: Cell<usize>,
    last_write_buffer_size: Cell<usize>,
    connecting: Cell<bool>,
    immediate_error: Cell<Option<ConnectionEvent>>,
    bind_error: Cell<bool>,
    read_disable_count: Cell<u32>,
    read_ready_while_disabled: Cell<bool>,
    dispatch_buffered_data: Cell<bool>,
    peer_closed: Cell<bool>,
    detect_early_close: Cell<bool>,
    enable_half_close: Cell<bool>,
    read_end_stream: Cell<bool>,
    read_end_stream_raised: Cell<bool>,
    write_end_stream: Cell<bool>,
    /// Goes on reading when a read stopped at the buffer limit; made when first needed.
    read_again_timer: RefCell<Option<Timer>>,
    delayed_close_timeout: Cell<Duration>,
    delayed_close_timer: RefCell<Option<Timer>>,
    delayed_close_state: Cell<DelayedCloseState>,
}

impl ConnectionImpl {
    /// Takes over `socket`, connected or not, and watches it on `dispatcher`.
    pub fn new(
        dispatcher: &Rc<Dispatcher>,
        socket: ConnectionSocket,
        transport_socket: Box<dyn TransportSocket>,
        connected: bool,
    ) -> Rc<Self> {
        Rc::new_cyclic(|weak: &Weak<ConnectionImpl>| {
            let on_event = weak.clone();
            let file_event = dispatcher.create_file_event(
                socket.as_fd(),
                move |events| {
                    if let Some(connection) = on_event.upgrade() {
                        connection.on_file_event(events);
                    }
                },
                READ | WRITE | CLOSED,
            );
            let local_address = OnceCell::new();
            if let Some(local) = socket.local_address {
                let _ = local_address.set(Some(local));
            }
            ConnectionImpl {
                weak: weak.clone(),
                id: NEXT_GLOBAL_ID.fetch_add(1, Ordering::Relaxed),
                dispatcher: dispatcher.clone(),
                transport_socket,
                file_event: RefCell::new(Some(file_event)),
                remote_address: socket.remote_address,
                local_address,
                connect_failure: Cell::new(None),
                socket: RefCell::new(Some(socket)),
                filter_manager: FilterManagerImpl::default(),
                callbacks: RefCell::default(),
                read_buffer: RefCell::default(),
                write_buffer: RefCell::default(),
                read_buffer_limit: Cell::new(0),
                stats: RefCell::default(),
                last_read_buffer_size: Cell::new(0),
                last_write_buffer_size: Cell::new(0),
                connecting: Cell::new(!connected),
                immediate_error: Cell::new(None),
                bind_error: Cell::new(false),
                read_disable_count: Cell::new(0),
                read_ready_while_disabled: Cell::new(false),
                dispatch_buffered_data: Cell::new(false),
                peer_closed: Cell::new(false),
                detect_early_close: Cell::new(true),
                enable_half_close: Cell::new(false),
                read_end_stream: Cell::new(false),
                read_end_stream_raised: Cell::new(false),
                write_end_stream: Cell::new(false),
                read_again_timer: RefCell::default(),
                delayed_close_timeout: Cell::new(Duration::ZERO),
                delayed_close_timer: RefCell::default(),
                delayed_close_state: Cell::new(DelayedCloseState::None),
            }
        })
    }

    /// The connection's number, unique in the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The loop that the connection lives on.
    pub fn dispatcher(&self) -> &Rc<Dispatcher> {
        &self.dispatcher
    }

    /// The peer's address.
    pub fn remote_address(&self) -> Address {
        self.remote_address
    }

    /// This end's address, asked from the kernel when it is first wanted.
    pub fn local_address(&self) -> Option<Address> {
        *self.local_address.get_or_init(|| {
            self.socket.borrow().as_ref().and_then(|s| ConnectionSocket::query_local_address(s.as_fd()))
        })
    }

    /// Open, closing or closed.
    pub fn state(&self) -> ConnectionState {
        if !self.is_socket_open() {
            ConnectionState::Closed
        } else if self.in_delayed_close() {
            ConnectionState::Closing
        } else {
            ConnectionState::Open
        }
    }

    /// Whether a connection attempt is under way.
    pub fn connecting(&self) -> bool {
        self.connecting.get()
    }

    /// Bytes that wait to be written.
    pub fn write_buffer_length(&self) -> usize {
        self.write_buffer.borrow().buffer.len()
    }

    /// Why connecting or the transport failed; empty for no reason.
    pub fn transport_failure_reason(&self) -> String {
        match self.connect_failure.get() {
            Some((when, error)) => format!("{when} connect error: {}", error.desc()),
            None => self.transport_socket.failure_reason().to_owned(),
        }
    }

    /// Notes why connecting failed, at once ("immediate") or later ("delayed").
    pub(super) fn set_connect_failure(&self, when: &'static str, error: Errno) {
        self.connect_failure.set(Some((when, error)));
    }

    /// Adds a listener of events. The connection does not keep it alive.
    pub fn add_connection_callbacks(&self, callbacks: Weak<dyn ConnectionCallbacks>) {
        self.callbacks.borrow_mut().push(callbacks);
    }

    /// Adds a filter at the end of the read chain.
    pub fn add_read_filter(&self, filter: Rc<dyn ReadFilter>) {
        self.filter_manager.add_read_filter(self.weak.clone(), filter);
    }

    /// Adds a filter at the front of the write chain.
    pub fn add_write_filter(&self, filter: Rc<dyn WriteFilter>) {
        self.filter_manager.add_write_filter(filter);
    }

    /// Tells the read filters that the connection is new; false when there are none.
    pub fn initialize_read_filters(&self) -> bool {
        if self.filter_manager.is_empty() {
            return false;
        }
        self.filter_manager.on_continue_reading(0, &mut Buffer::new(), false);
        true
    }

    pub(super) fn continue_reading_after(&self, index: usize) {
        self.offer_read_buffer(index + 1);
    }

    /// Says where bytes are counted.
    pub fn set_connection_stats(&self, stats: Arc<ConnectionStats>) {
        *self.stats.borrow_mut() = Some(stats);
    }

    /// Limits both buffers, softly, to `limit` bytes; 0 is no limit. The write buffer's high watermark
    /// is one above it, so that passing on one full read does not cross it.
    pub fn set_buffer_limits(&self, limit: usize) {
        self.read_buffer_limit.set(limit);
        if limit > 0 {
            self.write_buffer.borrow_mut().set_watermarks(limit + 1);
        }
    }

    /// The limit given to [`ConnectionImpl::set_buffer_limits`].
    pub fn buffer_limit(&self) -> usize {
        self.read_buffer_limit.get()
    }

    /// Whether the write buffer is above its high watermark.
    pub fn above_high_watermark(&self) -> bool {
        self.write_buffer.borrow().is_above()
    }

    /// How long a delayed close waits for the peer; zero turns the delay off.
    pub fn set_delayed_close_timeout(&self, timeout: Duration) {
        self.delayed_close_timeout.set(timeout);
    }

    /// Whether the peer's FIN closes the connection while reading is disabled (default true).
    pub fn detect_early_close_when_read_disabled(&self, detect: bool) {
        self.detect_early_close.set(detect);
    }

    /// Whether each direction ends on its own (default false: the peer's end closes the connection).
    pub fn enable_half_close(&self, enabled: bool) {
        self.enable_half_close.set(enabled);
    }

    /// Sets TCP_NODELAY.
    pub fn no_delay(&self) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.set_no_delay();
        }
    }

    /// Whether reading is enabled.
    pub fn read_enabled(&self) -> bool {
        self.read_disable_count.get() == 0
    }

    /// Stops or resumes reading; calls nest.
    pub fn read_disable(&self, disable: bool) {
        if self.state() != ConnectionState::Open {
            return;
        }
        let count = self.read_disable_count.get();
        envoy_conn_log!(
            Connection,
            trace,
            self.id,
            "readDisable: enabled={} disable={}",
            count == 0,
            disable
        );
        if disable {
            self.read_disable_count.set(count + 1);
            return;
        }
        debug_assert!(count > 0, "read_disable(false) without read_disable(true)");
        self.read_disable_count.set(count.saturating_sub(1));
        if count > 1 {
            return;
        }
        let buffered = !self.read_buffer.borrow().is_empty();
        self.dispatch_buffered_data.set(buffered);
        if buffered || self.read_ready_while_disabled.replace(false) || self.peer_closed.get() {
            self.activate(READ);
        }
    }

    /// Moves `data` to the write buffer and has it written later in this pass.
    pub fn write(&self, data: &mut Buffer, end_stream: bool) {
        if self.write_end_stream.get() || !self.is_socket_open() {
            return;
        }
        if self.filter_manager.on_write(data, end_stream) == FilterStatus::StopIteration {
            return;
        }
        self.write_end_stream.set(end_stream);
        if data.is_empty() && !end_stream {
            return;
        }
        envoy_conn_log!(
            Connection,
            trace,
            self.id,
            "writing {} bytes, end_stream {}",
            data.len(),
            end_stream
        );
        let went_above = {
            let mut write_buffer = self.write_buffer.borrow_mut();
            write_buffer.buffer.move_from(data);
            write_buffer.went_above()
        };
        if went_above {
            self.on_high_watermark();
        }
        if !self.connecting.get() {
            self.activate(WRITE);
        }
    }

    /// Closes; see [`ConnectionCloseType`]. The event is raised when the socket is closed.
    pub fn close(&self, close_type: ConnectionCloseType) {
        if !self.is_socket_open() {
            return;
        }
        let data_to_write = self.write_buffer.borrow().buffer.len();
        envoy_conn_log!(
            Connection,
            debug,
            self.id,
            "closing data_to_write={} type={}",
            data_to_write,
            close_type as u32
        );
        let delay = !self.delayed_close_timeout.get().is_zero();
        if data_to_write == 0
            || close_type == ConnectionCloseType::NoFlush
            || !self.transport_socket.can_flush_close()
        {
            if data_to_write > 0 {
                self.do_write(true);
            }
            if close_type != ConnectionCloseType::FlushWriteAndDelay || !delay {
                self.close_socket(ConnectionEvent::LocalClose);
            } else if !self.in_delayed_close() {
                self.begin_delayed_close(DelayedCloseState::CloseAfterFlushAndWait);
            }
            return;
        }
        let state = if close_type == ConnectionCloseType::FlushWrite || !delay {
            DelayedCloseState::CloseAfterFlush
        } else {
            DelayedCloseState::CloseAfterFlushAndWait
        };
        if self.in_delayed_close() {
            self.delayed_close_state.set(state);
        } else {
            self.begin_delayed_close(state);
        }
    }

    fn begin_delayed_close(&self, state: DelayedCloseState) {
        self.delayed_close_state.set(state);
        let timeout = self.delayed_close_timeout.get();
        if !timeout.is_zero() {
            let weak = self.weak.clone();
            let timer = self.dispatcher.create_timer(move || {
                if let Some(connection) = weak.upgrade() {
                    connection.on_delayed_close_timeout();
                }
            });
            envoy_conn_log!(
                Connection,
                debug,
                self.id,
                "setting delayed close timer with timeout {} ms",
                timeout.as_millis()
            );
            timer.enable_timer(timeout);
            *self.delayed_close_timer.borrow_mut() = Some(timer);
        }
        // What came while reading was disabled is of no more use.
        if self.read_ready_while_disabled.replace(false) {
            self.activate(READ);
        }
        // The edge of a FIN that came earlier is spent: nobody else would tell of it any more.
        if self.peer_closed.get() && !self.enable_half_close.get() {
            self.activate(CLOSED);
        }
    }

    fn on_delayed_close_timeout(&self) {
        drop(self.delayed_close_timer.borrow_mut().take());
        envoy_conn_log!(Connection, debug, self.id, "triggered delayed close");
        if let Some(counter) = self.stats.borrow().as_ref().and_then(|s| s.delayed_close_timeouts.as_ref()) {
            counter.inc();
        }
        self.close_socket(ConnectionEvent::LocalClose);
    }

    fn close_socket(&self, event: ConnectionEvent) {
        if !self.is_socket_open() {
            return;
        }
        drop(self.delayed_close_timer.borrow_mut().take());
        drop(self.read_again_timer.borrow_mut().take());
        envoy_conn_log!(Connection, debug, self.id, "closing socket: {}", event as u32);
        self.transport_socket.close_socket(event);
        self.update_read_buffer_stats(0, 0);
        self.update_write_buffer_stats(0, 0);
        drop(self.stats.borrow_mut().take());
        drop(self.file_event.borrow_mut().take());
        drop(self.socket.borrow_mut().take());
        self.raise_event(event);
    }

    pub(super) fn on_file_event(&self, events: u32) {
        envoy_conn_log!(Connection, trace, self.id, "socket event: {}", events);
        if let Some(event) = self.immediate_error.get() {
            self.raise_immediate_error(event);
            return;
        }
        if events & CLOSED != 0 {
            self.peer_closed.set(true);
            let early = !self.read_enabled() && self.detect_early_close.get();
            if (early || self.in_delayed_close()) && !self.enable_half_close.get() {
                envoy_conn_log!(Connection, debug, self.id, "remote early close");
                self.close_socket(ConnectionEvent::RemoteClose);
                return;
            }
        }
        // libevent tells of a reset as Read and Write together; a paused reader would not see it.
        if events & (READ | WRITE) == READ | WRITE
            && !self.read_enabled()
            && self.detect_early_close.get()
            && self.with_socket(ConnectionSocket::take_error).is_some_and(|error| error != 0)
        {
            envoy_conn_log!(Connection, debug, self.id, "remote early close");
            self.close_socket(ConnectionEvent::RemoteClose);
            return;
        }
        if events & WRITE != 0 {
            self.on_write_ready();
        }
        // A write callback may have closed the socket.
        if events & (READ | CLOSED) == 0 || !self.is_socket_open() {
            return;
        }
        if self.in_delayed_close() {
            self.discard_input();
            return;
        }
        if self.read_enabled() {
            self.on_read_ready();
        } else {
            self.read_ready_while_disabled.set(true);
        }
    }

    /// Throws away what still comes while closing: closing a socket with unread data would send a
    /// reset, which can take the answer away from the peer.
    fn discard_input(&self) {
        let mut dropped = Buffer::new();
        let result = self.transport_socket.do_read(self, &mut dropped);
        if result.end_stream_read || result.action == PostIoAction::Close {
            self.close_socket(ConnectionEvent::RemoteClose);
        }
    }

    fn raise_immediate_error(&self, event: ConnectionEvent) {
        if self.bind_error.get() {
            envoy_conn_log!(Connection, debug, self.id, "raising bind error");
            if let Some(counter) = self.stats.borrow().as_ref().and_then(|s| s.bind_errors.as_ref()) {
                counter.inc();
            }
        } else {
            envoy_conn_log!(Connection, debug, self.id, "raising immediate error");
        }
        self.close_socket(event);
    }

    fn on_read_ready(&self) {
        envoy_conn_log!(Connection, trace, self.id, "read ready");
        let (mut result, length) = {
            let mut buffer = self.read_buffer.borrow_mut();
            let result = self.transport_socket.do_read(self, &mut buffer);
            (result, buffer.len())
        };
        // What waits is counted behind the filters, so that the gauge shows that (Envoy's shows what came).
        self.update_read_buffer_stats(result.bytes_processed, self.last_read_buffer_size.get());

        if !self.enable_half_close.get() && result.end_stream_read {
            result.end_stream_read = false;
            result.action = PostIoAction::Close;
        }
        if result.end_stream_read {
            self.read_end_stream.set(true);
        }
        let buffered = self.dispatch_buffered_data.replace(false);
        if result.bytes_processed != 0 || result.end_stream_read || (buffered && length > 0) {
            self.on_read(length);
        }
        let waiting = self.read_buffer.borrow().len();
        self.update_read_buffer_stats(0, waiting);
        // The filters may have closed the connection, which makes this a no-op.
        if result.action == PostIoAction::Close || self.both_sides_half_closed() {
            envoy_conn_log!(Connection, debug, self.id, "remote close");
            self.close_socket(ConnectionEvent::RemoteClose);
        }
    }

    fn on_read(&self, length: usize) {
        if !self.read_enabled() || self.in_delayed_close() {
            return;
        }
        let end_stream = self.read_end_stream.get();
        if length == 0 && !end_stream {
            return;
        }
        if end_stream && self.read_end_stream_raised.replace(true) {
            return;
        }
        self.offer_read_buffer(0);
    }

    /// Hands the read buffer to the filters. It is taken out meanwhile, so that whatever they do to
    /// this connection finds nothing borrowed; what they leave is put back.
    fn offer_read_buffer(&self, from_filter: usize) {
        let mut data = std::mem::take(&mut *self.read_buffer.borrow_mut());
        self.filter_manager.on_continue_reading(from_filter, &mut data, self.read_end_stream.get());
        if !data.is_empty() {
            let mut buffer = self.read_buffer.borrow_mut();
            data.move_from(&mut buffer);
            *buffer = data;
        }
    }

    fn on_write_ready(&self) {
        envoy_conn_log!(Connection, trace, self.id, "write ready");
        if self.connecting.get() && !self.finish_connecting() {
            return;
        }
        let (result, left) = self.do_write(self.write_end_stream.get());
        if result.action == PostIoAction::Close {
            self.close_socket(ConnectionEvent::RemoteClose);
            return;
        }
        if (self.in_delayed_close() && left == 0) || self.both_sides_half_closed() {
            if result.bytes_processed > 0 {
                envoy_conn_log!(Connection, debug, self.id, "write flush complete");
            }
            if self.delayed_close_state.get() == DelayedCloseState::CloseAfterFlushAndWait {
                if result.bytes_processed > 0 {
                    self.restart_delayed_close_timer();
                }
            } else {
                self.close_socket(ConnectionEvent::LocalClose);
            }
        } else if result.bytes_processed > 0 {
            self.restart_delayed_close_timer();
        }
    }

    /// The socket became writable while connecting: false when there is nothing to go on with.
    fn finish_connecting(&self) -> bool {
        let error = self.socket.borrow().as_ref().map_or(0, ConnectionSocket::take_error);
        if error != 0 {
            envoy_conn_log!(Connection, debug, self.id, "delayed connection error: {}", error);
            self.set_connect_failure("delayed", Errno::from_raw(error));
            self.close_socket(ConnectionEvent::RemoteClose);
            return false;
        }
        envoy_conn_log!(Connection, debug, self.id, "connected");
        self.connecting.set(false);
        self.transport_socket.on_connected(self);
        if self.state() != ConnectionState::Open {
            envoy_conn_log!(Connection, debug, self.id, "close during connected callback");
            return false;
        }
        true
    }

    /// Writes what the socket takes, counts it, and tells when the buffer has become low.
    fn do_write(&self, end_stream: bool) -> (IoResult, usize) {
        let (result, left, went_below) = {
            let mut write_buffer = self.write_buffer.borrow_mut();
            let result = self.transport_socket.do_write(self, &mut write_buffer.buffer, end_stream);
            let went_below = write_buffer.went_below();
            (result, write_buffer.buffer.len(), went_below)
        };
        self.update_write_buffer_stats(result.bytes_processed, left);
        if went_below {
            self.on_low_watermark();
        }
        (result, left)
    }

    fn restart_delayed_close_timer(&self) {
        if let Some(timer) = self.delayed_close_timer.borrow().as_ref() {
            timer.enable_timer(self.delayed_close_timeout.get());
        }
    }

    fn on_high_watermark(&self) {
        envoy_conn_log!(Connection, debug, self.id, "onAboveWriteBufferHighWatermark");
        self.for_each_callback(|c| c.on_above_write_buffer_high_watermark());
    }

    fn on_low_watermark(&self) {
        envoy_conn_log!(Connection, debug, self.id, "onBelowWriteBufferLowWatermark");
        self.for_each_callback(|c| c.on_below_write_buffer_low_watermark());
    }

    fn for_each_callback(&self, f: impl Fn(&dyn ConnectionCallbacks)) {
        let mut index = 0;
        loop {
            let Some(callbacks) = self.callbacks.borrow().get(index).map(Weak::upgrade) else { return };
            if let Some(callbacks) = callbacks {
                f(&*callbacks);
            }
            index += 1;
        }
    }

    fn raise_event(&self, event: ConnectionEvent) {
        self.for_each_callback(|c| c.on_event(event));
        // What was written meanwhile can go at once.
        if event == ConnectionEvent::Connected
            && self.state() == ConnectionState::Open
            && !self.write_buffer.borrow().buffer.is_empty()
        {
            self.on_write_ready();
        }
    }

    pub(super) fn set_immediate_error(&self, event: ConnectionEvent, bind_error: bool) {
        self.immediate_error.set(Some(event));
        self.bind_error.set(bind_error || self.bind_error.get());
        self.connecting.set(false);
        self.activate(WRITE);
    }

    pub(super) fn with_socket<R>(&self, f: impl FnOnce(&ConnectionSocket) -> R) -> Option<R> {
        self.socket.borrow().as_ref().map(f)
    }

    fn activate(&self, bits: u32) {
        if let Some(file_event) = self.file_event.borrow().as_ref() {
            file_event.activate(bits);
        }
    }

    fn is_socket_open(&self) -> bool {
        self.socket.borrow().is_some()
    }

    fn in_delayed_close(&self) -> bool {
        self.delayed_close_state.get() != DelayedCloseState::None
    }

    fn both_sides_half_closed(&self) -> bool {
        self.read_end_stream.get()
            && self.write_end_stream.get()
            && self.write_buffer.borrow().buffer.is_empty()
    }

    fn update_read_buffer_stats(&self, bytes: usize, new_size: usize) {
        if let Some(stats) = self.stats.borrow().as_ref() {
            update_stats(
                bytes,
                new_size,
                &self.last_read_buffer_size,
                &stats.read_total,
                &stats.read_current,
            );
        }
    }

    fn update_write_buffer_stats(&self, bytes: usize, new_size: usize) {
        if let Some(stats) = self.stats.borrow().as_ref() {
            update_stats(
                bytes,
                new_size,
                &self.last_write_buffer_size,
                &stats.write_total,
                &stats.write_current,
            );
        }
    }
}

fn update_stats(bytes: usize, new_size: usize, last_size: &Cell<usize>, total: &Counter, current: &Gauge) {
    if bytes > 0 {
        total.add(bytes as u64);
    }
    let last = last_size.replace(new_size);
    match new_size.cmp(&last) {
        std::cmp::Ordering::Greater => current.add((new_size - last) as u64),
        std::cmp::Ordering::Less => current.sub((last - new_size) as u64),
        std::cmp::Ordering::Equal => {}
    }
}

impl TransportSocketCallbacks for ConnectionImpl {
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            f(socket.as_fd());
        }
    }

    fn connection_id(&self) -> u64 {
        self.id
    }

    fn should_drain_read_buffer(&self, length: usize) -> bool {
        let limit = self.read_buffer_limit.get();
        limit > 0 && length >= limit
    }

    /// After a poll, so that a peer which always has more does not keep the others waiting: an event
    /// activated here would run in this same pass, without end.
    fn set_read_buffer_ready(&self) {
        let mut timer = self.read_again_timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| {
            let weak = self.weak.clone();
            self.dispatcher.create_timer(move || {
                if let Some(connection) = weak.upgrade() {
                    connection.on_file_event(READ);
                }
            })
        });
        timer.enable_after_poll();
    }

    fn peer_closed(&self) -> bool {
        self.peer_closed.get()
    }

    fn raise_event(&self, event: ConnectionEvent) {
        ConnectionImpl::raise_event(self, event);
    }
}

impl Drop for ConnectionImpl {
    fn drop(&mut self) {
        debug_assert!(
            !self.is_socket_open() || std::thread::panicking(),
            "connection dropped without being closed"
        );
    }
}
