//! What a connection does when its socket is ready. Mirrors the reading and writing half of
//! `ConnectionImpl` in Envoy's `source/common/network/connection_impl.cc`.

use std::io;

use nix::errno::Errno;

use super::{ConnectionImpl, DelayedCloseState};
use crate::buffer::Buffer;
use crate::envoy_conn_log;
use crate::event::{CLOSED, READ, WRITE};
use crate::network::socket::StreamSocket;
use crate::network::{Address, ConnectionEvent, ConnectionState, IoResult, PostIoAction};
use crate::trace::{self, Stage, stage};

impl ConnectionImpl {
    /// Has the loop watch the socket. One that the kernel does not watch is closed.
    pub(super) fn watch(&self, socket: StreamSocket) -> io::Result<()> {
        let on_event = self.weak.clone();
        let callback = move |events| {
            if let Some(connection) = on_event.upgrade() {
                connection.on_file_event(events);
            }
        };
        let file_event = self.dispatcher.create_file_event(socket, callback, READ | WRITE | CLOSED)?;
        *self.file_event.borrow_mut() = Some(file_event);
        Ok(())
    }

    pub(super) fn on_file_event(&self, events: u32) {
        let watched = self.watched(events);
        if watched != 0 {
            envoy_conn_log!(Connection, trace, self.id(), "socket event: {}", watched);
        }
        let _stage = trace::scope(Stage::OnFileEvent, Some(self.id()), 0, events.into(), 0);
        if let Some(event) = self.seldom.get().and_then(|seldom| seldom.immediate_error.get()) {
            self.raise_immediate_error(event);
            return;
        }
        if events & CLOSED != 0 {
            self.peer_closed.set(true);
            if self.closes_early() || (self.in_delayed_close() && !self.enable_half_close.get()) {
                envoy_conn_log!(Connection, debug, self.id(), "remote early close");
                self.close_socket(ConnectionEvent::RemoteClose);
                return;
            }
        }
        if events & WRITE != 0 {
            self.on_write_ready();
        }
        // A write callback may have closed the socket.
        if events & (READ | CLOSED) == 0 || !self.is_socket_open() || self.waits_for_other_attempts() {
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

    /// Those of the bits that Envoy, which watches for Read or for Closed but never for both, would be told of.
    fn watched(&self, events: u32) -> u32 {
        if self.read_enabled() && !self.in_delayed_close() { events & !CLOSED } else { events & !READ }
    }

    fn on_read_ready(&self) {
        let _stage = stage!(scope OnReadReady(self.id()));
        let mut data = self.take_left_to_read();
        let mut result = self.transport_socket.do_read(self, &mut data);
        if result.connected {
            self.leave_to_read(data);
            if !self.on_transport_connected() {
                return;
            }
            if !self.read_enabled() {
                self.read_ready_while_disabled.set(true);
                return;
            }
            data = self.take_left_to_read();
            result = self.transport_socket.do_read(self, &mut data);
        }
        // What waits is counted behind the filters, so that the gauge shows that (Envoy's shows what came).
        self.count_read(result.bytes_processed);

        if !self.enable_half_close.get() && result.end_stream_read {
            result.end_stream_read = false;
            result.action = PostIoAction::Close;
        }
        if result.end_stream_read {
            self.read_end_stream.set(true);
        }
        let buffered = self.dispatch_buffered_data.replace(false) && !data.is_empty();
        let left = if result.bytes_processed != 0 || result.end_stream_read || buffered {
            self.on_read(data)
        } else {
            self.leave_to_read(data)
        };
        self.show_read_buffer(if self.is_socket_open() { left } else { 0 });
        // The filters may have closed the connection, which makes this a no-op.
        if result.action == PostIoAction::Close || self.both_sides_half_closed() {
            self.note_reset(result);
            envoy_conn_log!(Connection, debug, self.id(), "remote close");
            self.close_socket(ConnectionEvent::RemoteClose);
        }
    }

    /// The transport has become ready for data: tells it, now that no buffer is borrowed, which also writes
    /// what waits. Whether the connection is open after that. One that closes still flushes, and an end of
    /// stream that nothing waits before goes out, too.
    pub(super) fn on_transport_connected(&self) -> bool {
        if self.state() == ConnectionState::Open {
            self.raise_event(ConnectionEvent::Connected);
        }
        if self.in_delayed_close() || self.write_end_stream.get() {
            self.activate(READ | WRITE);
        }
        self.state() == ConnectionState::Open
    }

    fn note_reset(&self, result: IoResult) {
        if result.reset && self.is_socket_open() {
            self.seldom().reset_by_peer.set(true);
        }
    }

    /// Returns how many bytes are left.
    fn on_read(&self, data: Buffer) -> usize {
        let (length, end_stream) = (data.len(), self.read_end_stream.get());
        trace::instant(Stage::OnRead, Some(self.id()), 0, length as u64, end_stream.into());
        if !self.read_enabled()
            || self.in_delayed_close()
            || (length == 0 && !end_stream)
            || (end_stream && self.read_end_stream_raised.replace(true))
        {
            return self.leave_to_read(data);
        }
        trace::instant(Stage::ContinueReading, Some(self.id()), 0, length as u64, end_stream.into());
        self.offer(0, data)
    }

    /// Offers what was left to the filters from number `from` on.
    pub(super) fn offer_what_is_left(&self, from: usize) {
        self.offer(from, self.take_left_to_read());
    }

    /// Hands `data` to the filters. The connection does not have it meanwhile, so that whatever they do to it finds nothing
    /// borrowed; what they leave is kept. Returns how many bytes that is.
    #[inline(always)]
    fn offer(&self, from: usize, mut data: Buffer) -> usize {
        self.filter_manager.on_continue_reading(from, &mut data, self.read_end_stream.get());
        self.leave_to_read(data)
    }

    fn take_left_to_read(&self) -> Buffer {
        self.left_to_read.take().map_or_else(Buffer::new, |left| *left)
    }

    /// Keeps `data`, in front of what has been left meanwhile. Returns how many bytes are there.
    fn leave_to_read(&self, mut data: Buffer) -> usize {
        if let Some(mut behind) = self.left_to_read.take() {
            data.move_from(&mut behind);
        }
        let length = data.len();
        if length > 0 {
            self.left_to_read.set(Some(Box::new(data)));
        }
        length
    }

    pub(super) fn has_left_to_read(&self) -> bool {
        let left = self.left_to_read.take();
        let has = left.is_some();
        self.left_to_read.set(left);
        has
    }

    pub(super) fn on_write_ready(&self) {
        envoy_conn_log!(Connection, trace, self.id(), "write ready");
        if self.has_nothing_to_write() {
            return;
        }
        // Write comes along with every Read; it is a stage where there is something to do.
        let (connecting, bytes) =
            if trace::enabled() { (self.connecting.get(), self.write_buffer_length()) } else { (false, 0) };
        let _stage = (connecting || bytes > 0)
            .then(|| trace::scope(Stage::OnWriteReady, Some(self.id()), 0, bytes as u64, connecting.into()));
        if self.connecting.get() && !self.finish_connecting() {
            return;
        }
        let (mut result, mut left) = self.do_write(self.write_end_stream.get());
        if result.connected {
            if !self.on_transport_connected() {
                return;
            }
            (result, left) = self.do_write(self.write_end_stream.get());
        }
        if result.action == PostIoAction::Close {
            self.note_reset(result);
            self.close_socket(ConnectionEvent::RemoteClose);
            return;
        }
        if (self.in_delayed_close() && left == 0) || self.both_sides_half_closed() {
            if result.bytes_processed > 0 {
                envoy_conn_log!(Connection, debug, self.id(), "write flush complete");
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

    /// As when Write has come along with a Read, which most do.
    #[inline]
    fn has_nothing_to_write(&self) -> bool {
        self.write_buffer.borrow().buffer.is_empty()
            && !(self.connecting.get() || self.write_end_stream.get() || self.in_delayed_close())
            && self.transport_socket.writes_data_alone()
    }

    /// Its own socket has failed, and others are tried.
    fn waits_for_other_attempts(&self) -> bool {
        self.connecting.get() && self.happy_eyeballs().is_some_and(|attempts| attempts.own_has_failed())
    }

    /// Another attempt has connected: its socket is the connection's.
    pub(in crate::network) fn take_socket(&self, socket: StreamSocket, address: Address) {
        if let Some(seldom) = self.seldom.get() {
            drop(seldom.happy_eyeballs.take());
        }
        socket.set_no_delay(&address);
        self.info.set_remote_address(address);
        self.peer_closed.set(false);
        if let Err(error) = self.watch(socket) {
            self.fail_connecting(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
        }
    }

    /// No attempt is left.
    pub(in crate::network) fn fail_connecting(&self, error: Errno) {
        self.set_connect_failure("delayed", error);
        self.close_socket(ConnectionEvent::RemoteClose);
    }

    /// The socket became writable while connecting: false when there is nothing to go on with.
    fn finish_connecting(&self) -> bool {
        if self.waits_for_other_attempts() {
            return false;
        }
        let error = self.with_socket(StreamSocket::take_error).unwrap_or(0);
        if error != 0 {
            envoy_conn_log!(Connection, debug, self.id(), "delayed connection error: {}", error);
            if !self.happy_eyeballs().is_some_and(|attempts| attempts.on_own_failure()) {
                self.fail_connecting(Errno::from_raw(error));
            }
            return false;
        }
        envoy_conn_log!(Connection, debug, self.id(), "connected");
        self.connecting.set(false);
        if let Some(seldom) = self.seldom.get() {
            drop(seldom.happy_eyeballs.take());
        }
        if self.transport_socket.on_connected(self) {
            self.raise_event(ConnectionEvent::Connected);
        }
        if self.state() != ConnectionState::Open {
            envoy_conn_log!(Connection, debug, self.id(), "close during connected callback");
            return false;
        }
        true
    }

    /// Writes what the socket takes, counts it, and tells when the buffer has become low.
    pub(super) fn do_write(&self, end_stream: bool) -> (IoResult, usize) {
        let (result, left, went_below) = {
            let mut write_buffer = self.write_buffer.borrow_mut();
            let result = self.transport_socket.do_write(self, &mut write_buffer.buffer, end_stream);
            let went_below = write_buffer.went_below();
            (result, write_buffer.buffer.len(), went_below)
        };
        self.count_written(result.bytes_processed);
        self.show_write_buffer(left);
        if result.bytes_processed > 0
            && let Some(seldom) = self.seldom.get()
        {
            let callbacks = &seldom.bytes_sent_callbacks;
            (0..callbacks.len()).filter_map(|i| callbacks.get(i)).for_each(|callback| callback());
        }
        if went_below {
            self.on_low_watermark();
        }
        (result, left)
    }
}
