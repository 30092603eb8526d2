//! How a connection ends. Mirrors the closing half of `ConnectionImpl` in Envoy's
//! `source/common/network/connection_impl.cc`.

use std::time::Duration;

use super::{ConnectionImpl, DelayedCloseState};
use crate::buffer::Buffer;
use crate::envoy_conn_log;
use crate::event::{CLOSED, READ};
use crate::network::socket::StreamSocket;
use crate::network::{ConnectionCloseType, ConnectionEvent, PostIoAction};
use crate::trace::stage;

impl ConnectionImpl {
    /// Closes; see [`ConnectionCloseType`]. The event is raised when the socket is closed.
    pub fn close(&self, close_type: ConnectionCloseType) {
        if !self.is_socket_open() {
            return;
        }
        let data_to_write = self.write_buffer.borrow().buffer.len();
        stage!(Close(self.id()), type = close_type as u32, bytes = data_to_write);
        if close_type == ConnectionCloseType::AbortReset {
            self.with_socket(StreamSocket::reset_when_closed);
            return self.close_socket(ConnectionEvent::LocalClose);
        }
        let delay = self.delayed_close_milliseconds.get() != 0;
        if data_to_write == 0
            || close_type == ConnectionCloseType::NoFlush
            || !self.transport_socket.can_flush_close()
        {
            if data_to_write > 0 {
                // A transport that gets ready only now is of no more use.
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
        let milliseconds = self.delayed_close_milliseconds.get();
        if milliseconds != 0 {
            let weak = self.weak.clone();
            let timer = self.dispatcher.create_timer(move || {
                if let Some(connection) = weak.upgrade() {
                    connection.on_delayed_close_timeout();
                }
            });
            envoy_conn_log!(
                Connection,
                debug,
                self.id(),
                "setting delayed close timer with timeout {} ms",
                milliseconds
            );
            timer.enable_timer(Duration::from_millis(milliseconds.into()));
            *self.seldom().delayed_close_timer.borrow_mut() = Some(timer);
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
        self.drop_timers();
        stage!(DelayedCloseTimeout(self.id()));
        if let Some(counter) = self.stats.get().and_then(|s| s.delayed_close_timeouts.as_ref()) {
            counter.inc();
        }
        self.close_socket(ConnectionEvent::LocalClose);
    }

    pub(super) fn close_socket(&self, event: ConnectionEvent) {
        if !self.is_socket_open() {
            return;
        }
        self.drop_timers();
        stage!(CloseSocket(self.id()), event = event as u32);
        self.transport_socket.close_socket(self, event);
        let failure = self.transport_socket.failure_reason();
        if !failure.is_empty() {
            self.info.set_transport_failure_reason(&failure);
        }
        self.show_read_buffer(0);
        self.show_write_buffer(0);
        drop(self.file_event.borrow_mut().take());
        self.raise_event(event);
    }

    /// Throws away what still comes while closing: closing a socket with unread data would send a
    /// reset, which can take the answer away from the peer.
    pub(super) fn discard_input(&self) {
        let mut dropped = Buffer::new();
        let mut result = self.transport_socket.do_read(self, &mut dropped);
        if result.connected {
            self.on_transport_connected();
            result = self.transport_socket.do_read(self, &mut dropped);
        }
        if result.end_stream_read || result.action == PostIoAction::Close {
            self.close_socket(ConnectionEvent::RemoteClose);
        }
    }

    pub(super) fn raise_immediate_error(&self, event: ConnectionEvent) {
        if self.happy_eyeballs().is_some_and(|attempts| attempts.on_own_failure()) {
            self.seldom().immediate_error.set(None);
            return self.connecting.set(true);
        }
        if self.seldom().bind_error.get() {
            envoy_conn_log!(Connection, debug, self.id(), "raising bind error");
            if let Some(counter) = self.stats.get().and_then(|s| s.bind_errors.as_ref()) {
                counter.inc();
            }
        } else {
            envoy_conn_log!(Connection, debug, self.id(), "raising immediate error");
        }
        self.close_socket(event);
    }

    pub(super) fn restart_delayed_close_timer(&self) {
        if let Some(timer) = self
            .seldom
            .get()
            .map(|seldom| seldom.delayed_close_timer.borrow())
            .as_deref()
            .and_then(Option::as_ref)
        {
            timer.enable_timer(Duration::from_millis(self.delayed_close_milliseconds.get().into()));
        }
    }

    fn drop_timers(&self) {
        if let Some(seldom) = self.seldom.get() {
            drop(seldom.delayed_close_timer.borrow_mut().take());
            drop(seldom.read_again_timer.borrow_mut().take());
            drop(seldom.happy_eyeballs.take());
            drop(seldom.transport_connect_timer.borrow_mut().take());
        }
    }

    pub(super) fn in_delayed_close(&self) -> bool {
        self.delayed_close_state.get() != DelayedCloseState::None
    }
}
