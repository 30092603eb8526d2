//! A connection: buffers, watermarks, read control, ways of closing.
//!
//! Mirrors Envoy's `source/common/network/connection_impl.cc`. Deliberate differences:
//! - Envoy changes what epoll watches on every `readDisable`, which costs two system calls each.
//!   Here the fd stays registered for Read, Write and Closed for life; a readiness that comes while
//!   reading is disabled is remembered and acted upon when reading is enabled again.
//! - Closed (the peer's FIN, or an error: see `event/epoll.rs`) is watched together with Read. While
//!   reading is enabled it only tells the transport socket to read until the end. Envoy sees a reset
//!   that comes while reading is disabled when it next writes; legate closes then as for a FIN.
//! - Bytes left in the read buffer are offered again when reading is enabled, as in later Envoys;
//!   in 1.1 they wait for more to arrive.

mod close;
mod io;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::happy_eyeballs::HappyEyeballs;
use super::socket::{StreamSocket, query_local_address};
use super::{
    Address, ConnectionCallbacks, ConnectionEvent, ConnectionInfoProvider, ConnectionSocket, ConnectionState,
    ConnectionStats, FilterManagerImpl, FilterStatus, ReadFilter, SslConnectionInfo, TransportSocket,
    TransportSocketCallbacks, WriteFilter,
};
use crate::buffer::{Buffer, WatermarkBuffer};
use crate::common::appended::Appended;
use crate::envoy_conn_log;
use crate::event::{CLOSED, Dispatcher, FileEvent, READ, Timer, WRITE};
use crate::stats::{Counter, Gauge};
use crate::trace::{self, Stage, stage};

#[derive(Clone, Copy, PartialEq, Eq)]
enum DelayedCloseState {
    None,
    CloseAfterFlush,
    CloseAfterFlushAndWait,
}

static NEXT_GLOBAL_ID: AtomicU64 = AtomicU64::new(0);

/// A connection of one worker. See the module's description. Thousands may be idle: what few have is in [`Seldom`].
pub struct ConnectionImpl {
    weak: Weak<ConnectionImpl>,
    dispatcher: Rc<Dispatcher>,
    transport_socket: Box<dyn TransportSocket>,
    /// The socket with its registration on the loop; `None` once it is closed.
    file_event: RefCell<Option<FileEvent<StreamSocket>>>,
    info: Rc<ConnectionInfoProvider>,
    filter_manager: FilterManagerImpl,
    /// Most connections have two: of the filter that uses them, and of who holds them.
    callbacks: Appended<Weak<dyn ConnectionCallbacks>, 2>,
    /// What filters left of what was read.
    left_to_read: Cell<Option<Box<Buffer>>>,
    write_buffer: RefCell<WatermarkBuffer>,
    stats: OnceCell<Arc<ConnectionStats>>,
    /// As the gauges have them, which know of no more than 4 GiB of one connection.
    last_read_buffer_size: Cell<u32>,
    last_write_buffer_size: Cell<u32>,
    seldom: OnceCell<Box<Seldom>>,
    read_buffer_limit: Cell<u32>,
    read_disable_count: Cell<u32>,
    delayed_close_milliseconds: Cell<u32>,
    delayed_close_state: Cell<DelayedCloseState>,
    connecting: Cell<bool>,
    read_ready_while_disabled: Cell<bool>,
    dispatch_buffered_data: Cell<bool>,
    peer_closed: Cell<bool>,
    detect_early_close: Cell<bool>,
    enable_half_close: Cell<bool>,
    read_end_stream: Cell<bool>,
    read_end_stream_raised: Cell<bool>,
    write_end_stream: Cell<bool>,
}

/// What a connection has when something is the matter with it, or when it is busy.
#[derive(Default)]
struct Seldom {
    connect_failure: Cell<Option<(&'static str, Errno)>>,
    immediate_error: Cell<Option<ConnectionEvent>>,
    bind_error: Cell<bool>,
    reset_by_peer: Cell<bool>,
    /// Told when something was written.
    bytes_sent_callbacks: Appended<Rc<dyn Fn()>, 1>,
    /// Goes on reading when a read stopped at the buffer limit.
    read_again_timer: RefCell<Option<Timer>>,
    delayed_close_timer: RefCell<Option<Timer>>,
    /// While connecting, where the host has several addresses.
    happy_eyeballs: RefCell<Option<Rc<HappyEyeballs>>>,
    /// Until the transport is ready for data.
    transport_connect_timer: RefCell<Option<Timer>>,
}

impl ConnectionImpl {
    /// Takes over `socket`, connected or not, and watches it on `dispatcher`.
    ///
    /// # Errors
    /// The kernel does not watch it: the user watches too many, or it has no memory. The socket is closed.
    pub fn new(
        dispatcher: &Rc<Dispatcher>,
        socket: ConnectionSocket,
        transport_socket: Box<dyn TransportSocket>,
        connected: bool,
    ) -> std::io::Result<Rc<Self>> {
        let (socket, info) = socket.into_parts();
        info.set_connection_id(NEXT_GLOBAL_ID.fetch_add(1, Ordering::Relaxed));
        let this = Rc::new_cyclic(|weak: &Weak<ConnectionImpl>| ConnectionImpl {
            weak: weak.clone(),
            dispatcher: dispatcher.clone(),
            transport_socket,
            file_event: RefCell::default(),
            info,
            filter_manager: FilterManagerImpl::default(),
            callbacks: Appended::default(),
            left_to_read: Cell::default(),
            write_buffer: RefCell::default(),
            stats: OnceCell::new(),
            last_read_buffer_size: Cell::new(0),
            last_write_buffer_size: Cell::new(0),
            seldom: OnceCell::new(),
            read_buffer_limit: Cell::new(0),
            read_disable_count: Cell::new(0),
            delayed_close_milliseconds: Cell::new(0),
            delayed_close_state: Cell::new(DelayedCloseState::None),
            connecting: Cell::new(!connected),
            read_ready_while_disabled: Cell::new(false),
            dispatch_buffered_data: Cell::new(false),
            peer_closed: Cell::new(false),
            detect_early_close: Cell::new(true),
            enable_half_close: Cell::new(false),
            read_end_stream: Cell::new(false),
            read_end_stream_raised: Cell::new(false),
            write_end_stream: Cell::new(false),
        });
        this.watch(socket)?;
        Ok(this)
    }

    /// The connection's number, unique in the process.
    pub fn id(&self) -> u64 {
        self.info.connection_id()
    }

    /// The loop that the connection lives on.
    pub fn dispatcher(&self) -> &Rc<Dispatcher> {
        &self.dispatcher
    }

    /// The peer's address.
    pub fn remote_address(&self) -> Address {
        self.info.remote_address()
    }

    /// This end's address, asked from the kernel when it is first wanted.
    pub fn local_address(&self) -> Option<Address> {
        let query = || self.with_socket(|s| query_local_address(s.as_fd()))?.ok();
        self.info.local_address_or(query)
    }

    /// What is known of the connection, to keep.
    pub fn connection_info(&self) -> &Rc<ConnectionInfoProvider> {
        &self.info
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
        match self.seldom.get().and_then(|seldom| seldom.connect_failure.get()) {
            Some((when @ "immediate", error)) => {
                format!(
                    "{when} connect error: {}|remote address:{}",
                    error.desc(),
                    self.info.remote_address()
                )
            }
            Some((when, error)) => format!("{when} connect error: {}", error.desc()),
            None => self.transport_socket.failure_reason().into_owned(),
        }
    }

    /// The protocol that the transport has negotiated; empty for none.
    pub fn next_protocol(&self) -> Cow<'_, str> {
        self.transport_socket.protocol()
    }

    /// Whether its transport is secure, or will be when the handshake is done.
    pub fn is_secure(&self) -> bool {
        self.transport_socket.is_secure()
    }

    /// What is known of a secure transport, once the handshake is done; `None` for a plain one.
    pub fn ssl(&self) -> Option<Rc<dyn SslConnectionInfo>> {
        self.transport_socket.ssl()
    }

    /// Whether it was closed because the peer has reset it (Envoy 1.40: `detectedCloseType`).
    pub fn reset_by_peer(&self) -> bool {
        self.seldom.get().is_some_and(|seldom| seldom.reset_by_peer.get())
    }

    fn seldom(&self) -> &Seldom {
        self.seldom.get_or_init(Box::default)
    }

    /// Notes why connecting failed, at once ("immediate") or later ("delayed").
    pub(super) fn set_connect_failure(&self, when: &'static str, error: Errno) {
        self.seldom().connect_failure.set(Some((when, error)));
    }

    /// What is known of the connection, this end's address with it, to keep.
    pub fn whole_connection_info(&self) -> Rc<ConnectionInfoProvider> {
        self.local_address();
        self.info.clone()
    }

    /// Adds a listener of events. The connection does not keep it alive.
    pub fn add_connection_callbacks(&self, callbacks: Weak<dyn ConnectionCallbacks>) {
        self.callbacks.push(callbacks);
    }

    /// Has `callback` called each time that the socket has taken something.
    pub fn add_bytes_sent_callback(&self, callback: Rc<dyn Fn()>) {
        self.seldom().bytes_sent_callbacks.push(callback);
    }

    /// Adds a filter at the end of the read chain.
    pub fn add_read_filter(&self, filter: Rc<dyn ReadFilter>) {
        trace::instant(Stage::AddReadFilter, Some(self.id()), 0, self.filter_manager.len() as u64, 0);
        self.filter_manager.add_read_filter(self.weak.clone(), filter);
    }

    /// Adds a filter at the front of the write chain.
    pub fn add_write_filter(&self, filter: Rc<dyn WriteFilter>) {
        self.filter_manager.add_write_filter(filter);
    }

    /// Tells the read filters that the connection is new; false when there are none.
    pub fn initialize_read_filters(&self) -> bool {
        let filters = self.filter_manager.len();
        trace::instant(Stage::InitializeReadFilters, Some(self.id()), 0, filters as u64, 0);
        if filters == 0 {
            return false;
        }
        self.filter_manager.on_continue_reading(0, &mut Buffer::new(), false);
        true
    }

    pub(super) fn continue_reading_after(&self, index: usize) {
        self.offer_what_is_left(index + 1);
    }

    /// Says where bytes are counted, once.
    pub fn set_connection_stats(&self, stats: Arc<ConnectionStats>) {
        self.stats.get_or_init(|| stats);
    }

    /// Limits both buffers, softly, to `limit` bytes; 0 is no limit. The write buffer's high watermark
    /// is one above it, so that passing on one full read does not cross it.
    pub fn set_buffer_limits(&self, limit: usize) {
        trace::instant(Stage::SetBufferLimits, Some(self.id()), 0, limit as u64, 0);
        self.read_buffer_limit.set(u32::try_from(limit).unwrap_or(u32::MAX));
        if limit > 0 {
            self.write_buffer.borrow_mut().set_watermarks(limit + 1);
        }
    }

    /// The limit given to [`ConnectionImpl::set_buffer_limits`].
    pub fn buffer_limit(&self) -> usize {
        self.read_buffer_limit.get() as usize
    }

    /// Whether the write buffer is above its high watermark.
    pub fn above_high_watermark(&self) -> bool {
        self.write_buffer.borrow().is_above()
    }

    /// How long a delayed close waits for the peer, in milliseconds; zero turns the delay off.
    pub fn set_delayed_close_timeout(&self, timeout: Duration) {
        let milliseconds = timeout.as_micros().div_ceil(1000);
        self.delayed_close_milliseconds.set(u32::try_from(milliseconds).unwrap_or(u32::MAX));
    }

    /// Closes the connection, and counts it, if the transport is not ready for data in `timeout`.
    pub fn set_transport_socket_connect_timeout(&self, timeout: Duration, counter: &Counter) {
        if !self.is_secure() {
            return;
        }
        let (weak, counter) = (self.weak.clone(), counter.clone());
        let timer = self.dispatcher.create_timer(move || {
            if let Some(connection) = weak.upgrade() {
                counter.inc();
                envoy_conn_log!(Connection, debug, connection.id(), "transport socket timeout was reached");
                connection.close_socket(ConnectionEvent::LocalClose);
            }
        });
        timer.enable_timer(timeout);
        *self.seldom().transport_connect_timer.borrow_mut() = Some(timer);
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
        self.with_socket(|socket| socket.set_no_delay(&self.remote_address()));
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
        stage!(ReadDisable(self.id()), disable = disable, before = count; enabled = count == 0);
        if disable {
            self.read_disable_count.set(count + 1);
            // The edge that told of the peer's end is spent, and nobody reads on to it.
            if count == 0 && self.peer_closed.get() && self.closes_early() {
                self.activate(CLOSED);
            }
            return;
        }
        debug_assert!(count > 0, "read_disable(false) without read_disable(true)");
        self.read_disable_count.set(count.saturating_sub(1));
        if count > 1 {
            return;
        }
        let buffered = self.has_left_to_read();
        self.dispatch_buffered_data.set(buffered);
        if buffered || self.read_ready_while_disabled.replace(false) || self.peer_closed.get() {
            self.activate(READ);
        }
    }

    /// Whether the peer's end, seen while reading is disabled, closes the connection.
    fn closes_early(&self) -> bool {
        !self.read_enabled() && self.detect_early_close.get() && !self.enable_half_close.get()
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
        stage!(Write(self.id()), bytes = data.len(), end = end_stream);
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

    fn on_high_watermark(&self) {
        stage!(HighWatermark(self.id()), bytes = self.write_buffer_length());
        self.for_each_callback(|c| c.on_above_write_buffer_high_watermark());
    }

    fn on_low_watermark(&self) {
        stage!(LowWatermark(self.id()), bytes = self.write_buffer_length());
        self.for_each_callback(|c| c.on_below_write_buffer_low_watermark());
    }

    fn for_each_callback(&self, f: impl Fn(&dyn ConnectionCallbacks)) {
        let mut index = 0;
        loop {
            let Some(callbacks) = self.callbacks.get(index) else { return };
            if let Some(callbacks) = callbacks.upgrade() {
                f(&*callbacks);
            }
            index += 1;
        }
    }

    fn raise_event(&self, event: ConnectionEvent) {
        trace::instant(Stage::RaiseEvent, Some(self.id()), 0, event as u64, 0);
        if event == ConnectionEvent::Connected
            && let Some(ssl) = self.ssl()
        {
            self.info.set_ssl_connection(ssl);
            drop(self.seldom.get().and_then(|seldom| seldom.transport_connect_timer.take()));
        }
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
        let seldom = self.seldom();
        seldom.immediate_error.set(Some(event));
        seldom.bind_error.set(bind_error || seldom.bind_error.get());
        self.connecting.set(false);
        self.activate(WRITE);
    }

    /// Other addresses are tried, too.
    pub(super) fn set_happy_eyeballs(&self, happy_eyeballs: Rc<HappyEyeballs>) {
        *self.seldom().happy_eyeballs.borrow_mut() = Some(happy_eyeballs);
    }

    fn happy_eyeballs(&self) -> Option<Rc<HappyEyeballs>> {
        self.seldom.get()?.happy_eyeballs.borrow().clone()
    }

    pub(super) fn with_socket<R>(&self, f: impl FnOnce(&StreamSocket) -> R) -> Option<R> {
        self.file_event.borrow().as_ref().map(|event| f(event.socket()))
    }

    fn activate(&self, bits: u32) {
        if let Some(file_event) = self.file_event.borrow().as_ref() {
            file_event.activate(bits);
        }
    }

    fn is_socket_open(&self) -> bool {
        self.file_event.borrow().is_some()
    }

    /// Whether nothing more comes or is to be written: it closes when all is flushed.
    pub fn ends_by_itself(&self) -> bool {
        self.read_end_stream.get() && self.write_end_stream.get()
    }

    fn both_sides_half_closed(&self) -> bool {
        self.read_end_stream.get()
            && self.write_end_stream.get()
            && self.write_buffer.borrow().buffer.is_empty()
    }

    /// Counts what was read.
    fn count_read(&self, bytes: usize) {
        if let Some(stats) = self.stats.get().filter(|_| bytes > 0) {
            stats.read_total.add(bytes as u64);
        }
    }

    /// Counts what was written.
    fn count_written(&self, bytes: usize) {
        if let Some(stats) = self.stats.get().filter(|_| bytes > 0) {
            stats.write_total.add(bytes as u64);
        }
    }

    /// Has the gauge show how much is in the read buffer.
    #[inline]
    fn show_read_buffer(&self, size: usize) {
        self.show_buffer(size, &self.last_read_buffer_size, |stats| &stats.read_current);
    }

    /// Has the gauge show how much is in the write buffer.
    #[inline]
    fn show_write_buffer(&self, size: usize) {
        self.show_buffer(size, &self.last_write_buffer_size, |stats| &stats.write_current);
    }

    #[inline]
    fn show_buffer(&self, size: usize, shown: &Cell<u32>, gauge: impl Fn(&ConnectionStats) -> &Gauge) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if size == shown.get() {
            return;
        }
        let Some(stats) = self.stats.get() else { return };
        let before = shown.replace(size);
        // It wraps where it falls.
        gauge(stats).add(u64::from(size).wrapping_sub(before.into()));
    }
}

impl TransportSocketCallbacks for ConnectionImpl {
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.with_socket(|socket| f(socket.as_fd()));
    }

    fn shut_down_write(&self) {
        self.with_socket(StreamSocket::shut_down_write);
    }

    fn connection_id(&self) -> u64 {
        self.id()
    }

    fn should_drain_read_buffer(&self, length: usize) -> bool {
        let limit = self.buffer_limit();
        limit > 0 && length >= limit
    }

    /// After a poll, so that a peer which always has more does not keep the others waiting: an event
    /// activated here would run in this same pass, without end.
    fn set_read_buffer_ready(&self) {
        let mut timer = self.seldom().read_again_timer.borrow_mut();
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
}

impl Drop for ConnectionImpl {
    fn drop(&mut self) {
        debug_assert!(
            !self.is_socket_open() || std::thread::panicking(),
            "connection dropped without being closed"
        );
    }
}
