//! A client of the admin interface.

use super::board::PATIENCE;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A response taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedReply {
    /// Of the status line.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl ParsedReply {
    /// Parses a complete response; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<ParsedReply> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
            .collect();
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = &bytes[end + 4..];
        let body = if chunked { dechunk(body)? } else { body.to_vec() };
        Some(ParsedReply { status, headers, body })
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What chunks say; `None` if they are none.
pub fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}

/// The admin interface of one proxy.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Admin {
    /// Gets a page; `None` if the interface does not answer (yet).
    pub fn get(&self, path: &str) -> Option<ParsedReply> {
        self.ask("GET", path)
    }

    /// Asks for something to be done; `None` as for [`Admin::get`].
    pub fn post(&self, path: &str) -> Option<ParsedReply> {
        self.ask("POST", path)
    }

    fn ask(&self, method: &str, path: &str) -> Option<ParsedReply> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        ParsedReply::parse(&bytes)
    }

    /// Gets a page as text; empty if there is none.
    pub fn text(&self, path: &str) -> String {
        self.get(path).map(|reply| String::from_utf8_lossy(&reply.body).into_owned()).unwrap_or_default()
    }

    /// Every counter and gauge.
    pub fn stats(&self) -> HashMap<String, u64> {
        let text = self.text("/stats");
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        pairs.filter_map(|(name, value)| Some((name.to_string(), value.parse().ok()?))).collect()
    }

    /// A counter or gauge; `None` if there is none of that name.
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.stats().get(name).copied()
    }

    /// Waits until a counter or gauge has a value; the error is what it had in the end.
    pub fn wait_for_stat(&self, name: &str, value: u64) -> Result<(), Option<u64>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.stat(name);
            if now == Some(value) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(now);
            }
            thread::sleep(Duration::from_millis(10)); // there is no event for a stat
        }
    }

    /// The listeners' ports by name.
    pub fn listeners(&self) -> HashMap<String, u16> {
        let text = self.text("/listeners");
        let pairs = text.lines().filter_map(|line| line.split_once("::"));
        pairs.filter_map(|(n, a)| Some((n.to_string(), a.parse::<SocketAddr>().ok()?.port()))).collect()
    }
}
