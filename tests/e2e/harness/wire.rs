//! A client for traffic that no script describes: it blocks, and its test looks at what it gets.

use super::board::PATIENCE;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// One blocking connection. Reads give up after [`PATIENCE`].
pub struct Wire {
    /// The connection.
    pub stream: TcpStream,
    /// Received, and not yet taken as part of an answer.
    pending: Vec<u8>,
}

impl Wire {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        Wire::new(stream)
    }

    /// A connection that exists.
    pub fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let wire = Wire { stream, pending: Vec::new() };
        wire.be_patient(PATIENCE);
        wire
    }

    /// Reads and writes give up only after `patience`.
    pub fn be_patient(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a limit on reading");
        self.stream.set_write_timeout(Some(patience)).expect("a limit on writing");
    }

    /// The port of this end.
    pub fn local_port(&self) -> u16 {
        self.stream.local_addr().expect("its own address").port()
    }

    /// Sends; false when the peer takes no more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Closes the sending half.
    pub fn finish_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, sockopt::Linger, &at_once).expect("SO_LINGER");
    }

    /// Everything up to the end of the next head; empty at the end of the connection.
    pub fn head(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.pending.windows(4).position(|w| w == b"\r\n\r\n") {
                return self.pending.drain(..end + 4).collect();
            }
            if !self.fill() {
                return Vec::new();
            }
        }
    }

    /// The next line without its end; empty also at the end of the connection.
    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.pending.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.pending.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            if !self.fill() {
                return String::new();
            }
        }
    }

    /// The next `length` bytes, or what there is before the end.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.pending.len() < length && self.fill() {}
        let length = length.min(self.pending.len());
        self.pending.drain(..length).collect()
    }

    /// The next answer, which has to have a content-length unless it is one to HEAD.
    pub fn answer(&mut self, to_head: bool) -> Vec<u8> {
        let mut answer = self.head();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let length = text.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length = length.and_then(|digits| digits.parse().ok()).filter(|_| !to_head);
        answer.extend(self.take(length.unwrap_or(0)));
        answer
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.pending)
    }

    /// Some bytes; empty at the end of the connection.
    pub fn some(&mut self) -> Vec<u8> {
        if self.pending.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.pending)
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(n) if n > 0 => {
                self.pending.extend_from_slice(&bytes[..n]);
                true
            }
            _ => false,
        }
    }
}

/// Runs `serve` with each connection to a listener, in a thread of its own. The listener lives as long as
/// the test process.
pub fn serve_each(listener: TcpListener, serve: impl Fn(Wire) + Send + Sync + 'static) -> SocketAddr {
    let address = listener.local_addr().expect("its address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(Wire::new(stream)));
        }
    });
    address
}
