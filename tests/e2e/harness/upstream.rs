//! A scripted upstream: it records what it gets byte by byte and plays what a case says.

use super::action::Action;
use super::board::{Board, PATIENCE, contains};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The answer of [`Action::Serve`].
pub const SERVED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A listening upstream; it stops when dropped.
pub struct Upstream {
    port: u16,
    board: Arc<Board>,
}

impl Upstream {
    /// Listens on a free port. The connections play `scripts` in the order in which they come, and the last
    /// script again when there are more.
    pub fn start(scripts: Vec<Vec<Action>>, board: Arc<Board>) -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an upstream port");
        let port = listener.local_addr().expect("its address").port();
        let for_thread = board.clone();
        thread::spawn(move || accept(&listener, &scripts, &for_thread));
        Upstream { port, board }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.board.update(|seen| seen.over = true);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes the accepting thread
    }
}

fn accept(listener: &TcpListener, scripts: &[Vec<Action>], board: &Arc<Board>) {
    for stream in listener.incoming() {
        if board.look(|seen| seen.over) {
            return;
        }
        let Ok(stream) = stream else { return };
        let index = board.update(|seen| {
            seen.upstreams.push(Default::default());
            seen.upstreams.len() - 1
        });
        let script = scripts.get(index).or_else(|| scripts.last()).cloned().unwrap_or_default();
        let board = board.clone();
        thread::spawn(move || Connection { stream, board, index, position: 0 }.play(&script));
    }
}

struct Connection {
    stream: TcpStream,
    board: Arc<Board>,
    index: usize,
    /// Up to where what was received has been waited for.
    position: usize,
}

impl Connection {
    fn play(mut self, script: &[Action]) {
        let _ = self.stream.set_nodelay(true);
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(20)));
        for action in script {
            if !self.act(action) {
                return;
            }
        }
        while self.read() {}
    }

    /// False where the connection is over.
    fn act(&mut self, action: &Action) -> bool {
        match action {
            Action::Head => self.wait_for(b"\r\n\r\n"),
            Action::Until(bytes) => self.wait_for(bytes),
            Action::Send(bytes) => {
                let _ = self.stream.write_all(bytes); // a proxy that has gone is seen by the case
            }
            Action::ClientHas(bytes) => {
                self.board.wait(PATIENCE, |seen| contains(&seen.client, bytes));
            }
            Action::Pause(milliseconds) => thread::sleep(Duration::from_millis(*milliseconds)),
            Action::Close => return false,
            Action::Reset => {
                self.reset();
                return false;
            }
            Action::FinishWriting => {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            Action::Serve => self.serve(),
            Action::AsTold => return self.do_as_told(),
        }
        true
    }

    fn do_as_told(&mut self) -> bool {
        loop {
            let complete =
                self.board.look(|seen| request_length(&seen.upstreams[self.index].received[self.position..]));
            let Some(length) = complete else {
                if self.read() {
                    continue;
                }
                return false;
            };
            self.position += length;
            let served = || vec![Action::Send(SERVED.to_vec())];
            let answer = self.board.update(|seen| seen.answers.pop_front()).unwrap_or_else(served);
            if !answer.iter().all(|action| self.act(action)) {
                return false;
            }
        }
    }

    fn reset(&self) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, sockopt::Linger, &at_once).expect("SO_LINGER");
    }

    /// Reads once; false when nothing can come any more.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 16384];
        match self.stream.read(&mut bytes) {
            Ok(n) if n > 0 => {
                self.board.update(|s| s.upstreams[self.index].received.extend_from_slice(&bytes[..n]));
                true
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                !self.board.look(|seen| seen.over)
            }
            end => {
                let reset = end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
                self.board.update(|seen| {
                    seen.upstreams[self.index].closed_by_proxy = true;
                    seen.upstreams[self.index].reset_by_proxy = reset;
                });
                false
            }
        }
    }

    fn wait_for(&mut self, bytes: &[u8]) {
        loop {
            let found = self.board.look(|seen| {
                let received = &seen.upstreams[self.index].received[self.position..];
                received.windows(bytes.len()).position(|w| w == bytes)
            });
            if let Some(at) = found {
                self.position += at + bytes.len();
                return;
            }
            if !self.read() {
                return;
            }
        }
    }

    fn serve(&mut self) {
        loop {
            let complete =
                self.board.look(|seen| request_length(&seen.upstreams[self.index].received[self.position..]));
            match complete {
                Some(length) => {
                    self.position += length;
                    let _ = self.stream.write_all(SERVED);
                }
                None if !self.read() => return,
                None => {}
            }
        }
    }
}

/// The length of the request at the start of `bytes`, once it is complete. Good enough for what a proxy
/// writes.
pub(super) fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    if text.contains("\r\ntransfer-encoding: chunked\r\n") {
        let body = &bytes[head..];
        let end = if body.starts_with(b"0\r\n") { 0 } else { find(body, b"\r\n0\r\n")? + 2 };
        return Some(head + end + find(&body[end..], b"\r\n\r\n")? + 4);
    }
    let length = text.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let total = head + length.map_or(0, |digits| digits.parse().unwrap_or(usize::MAX / 2));
    (bytes.len() >= total).then_some(total)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
