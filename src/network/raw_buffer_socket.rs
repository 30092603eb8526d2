//! Plain TCP. Mirrors Envoy's `source/common/network/raw_buffer_socket.cc`.
//!
//! Differs in one thing: a read that brings less than it asked for has emptied the socket, so there
//! is no second read just to see EAGAIN - unless the kernel has reported the peer's FIN or an error,
//! whose edge will not come again.

use std::io;
use std::sync::Arc;

use super::{
    IoResult, PostIoAction, TransportSocket, TransportSocketCallbacks, TransportSocketConfig,
    TransportSocketConfigFactory, TransportSocketFactory, TransportSocketFactoryContext, TransportSocketFor,
};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::envoy_conn_log;
use crate::trace::{self, Stage, log_stage};

/// The transport socket that adds nothing, not even memory.
#[derive(Default)]
pub struct RawBufferSocket;

impl TransportSocket for RawBufferSocket {
    fn do_read(&self, callbacks: &dyn TransportSocketCallbacks, buffer: &mut Buffer) -> IoResult {
        let mut result = IoResult::default();
        let id = callbacks.connection_id();
        callbacks.with_fd(&mut |fd| {
            loop {
                match buffer.read_from(fd) {
                    Ok(read) => {
                        log_stage!(DoRead(id), bytes = read.bytes);
                        if read.bytes == 0 {
                            result.end_stream_read = true;
                            break;
                        }
                        result.bytes_processed += read.bytes;
                        if callbacks.should_drain_read_buffer(buffer.len()) {
                            callbacks.set_read_buffer_ready();
                            break;
                        }
                        if read.bytes < read.asked && !callbacks.peer_closed() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        envoy_conn_log!(Connection, trace, id, "read error: {}", error);
                        if error.kind() != io::ErrorKind::WouldBlock {
                            result.action = PostIoAction::Close;
                            result.reset = error.kind() == io::ErrorKind::ConnectionReset;
                        }
                        break;
                    }
                }
            }
        });
        trace::instant(
            Stage::DoRead,
            Some(id),
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
        let mut result = IoResult::default();
        let id = callbacks.connection_id();
        callbacks.with_fd(&mut |fd| {
            while !buffer.is_empty() {
                match buffer.write_to(fd) {
                    Ok(written) => {
                        log_stage!(DoWrite(id), bytes = written);
                        result.bytes_processed += written;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        envoy_conn_log!(Connection, trace, id, "write error: {}", error);
                        if error.kind() != io::ErrorKind::WouldBlock {
                            result.action = PostIoAction::Close;
                            result.reset = error.kind() == io::ErrorKind::ConnectionReset;
                        }
                        return;
                    }
                }
            }
            if end_stream {
                callbacks.shut_down_write();
            }
        });
        if result.bytes_processed > 0 || !buffer.is_empty() {
            let (written, left) = (result.bytes_processed as u64, buffer.len() as u64);
            trace::instant(Stage::DoWrite, Some(id), 0, written, left);
        }
        result
    }

    fn writes_data_alone(&self) -> bool {
        true
    }

    fn on_connected(&self, callbacks: &dyn TransportSocketCallbacks) -> bool {
        trace::instant(Stage::OnConnected, Some(callbacks.connection_id()), 0, 0, 0);
        true
    }
}

/// Plain TCP among the extensions, of both sides.
pub static RAW_BUFFER: TransportSocketConfigFactory = TransportSocketConfigFactory::new(
    "envoy.transport_sockets.raw_buffer",
    &["envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"],
    |_| Ok(Arc::new(RawBuffer)),
);

/// There is nothing to be said of it.
#[derive(Debug)]
struct RawBuffer;

impl TransportSocketConfig for RawBuffer {
    fn create_transport_socket_factory(
        &self,
        _context: &TransportSocketFactoryContext<'_>,
    ) -> Result<Box<dyn TransportSocketFactory>, ConfigError> {
        Ok(Box::new(RawBufferSocketFactory))
    }
}

/// Makes [`RawBufferSocket`]s.
pub struct RawBufferSocketFactory;

impl TransportSocketFactory for RawBufferSocketFactory {
    fn implements_secure_transport(&self) -> bool {
        false
    }

    fn create_transport_socket(&self, _connection: TransportSocketFor<'_>) -> Box<dyn TransportSocket> {
        Box::new(RawBufferSocket)
    }
}
