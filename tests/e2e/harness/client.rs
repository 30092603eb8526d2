//! A client that sends bytes as they are and lets a thread collect what comes back.

use super::board::Board;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;

/// A connection to a proxy.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects; what is received goes to the board.
    pub fn connect(port: u16, board: &Arc<Board>) -> std::io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        let reading = stream.try_clone()?;
        let board = board.clone();
        thread::spawn(move || collect(reading, &board));
        Ok(Client { stream })
    }

    /// Sends; what the proxy refuses to take is seen in its answer.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Closes both halves.
    pub fn leave(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Closes the sending half.
    pub fn finish_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both); // ends the collecting thread
    }
}

fn collect(mut stream: TcpStream, board: &Board) {
    let mut bytes = [0; 16384];
    loop {
        match stream.read(&mut bytes) {
            Ok(n) if n > 0 => board.update(|seen| seen.client.extend_from_slice(&bytes[..n])),
            _ => return board.update(|seen| seen.client_closed = true),
        }
    }
}
