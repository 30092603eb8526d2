//! Who talks to the proxy: scripted clients and a scripted upstream, both moved by the scenario one step at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, setsockopt, socket,
};

/// How long a proxy may take for its next step.
const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a connection to the proxy.
pub struct Peer {
    stream: TcpStream,
    /// What came and was not asked for yet.
    received: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> io::Result<Peer> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Peer { stream, received: Vec::new() })
    }

    /// Connects a client.
    ///
    /// # Errors
    /// The proxy does not accept.
    pub fn connect(to: SocketAddr) -> io::Result<Peer> {
        Peer::new(TcpStream::connect_timeout(&to, PATIENCE)?)
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The proxy has closed, or takes nothing.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).map_err(named)
    }

    /// Sends `head` and then `size` bytes while the script goes on.
    ///
    /// # Errors
    /// The socket cannot be cloned.
    pub fn send_in_background(&self, head: &str, size: usize) -> io::Result<JoinHandle<io::Result<()>>> {
        let mut stream = self.stream.try_clone()?;
        let bytes = [head.as_bytes(), &vec![b'x'; size]].concat();
        Ok(thread::spawn(move || stream.write_all(&bytes).map_err(named)))
    }

    /// Reads a whole message: the head, and the body that `content-length` or chunked coding announces.
    ///
    /// # Errors
    /// The proxy closes before the end, or sends nothing.
    pub fn read_message(&mut self) -> io::Result<String> {
        loop {
            if let Some(length) = message_length(&self.received) {
                let rest = self.received.split_off(length);
                let message = std::mem::replace(&mut self.received, rest);
                return Ok(String::from_utf8_lossy(&message).into_owned());
            }
            if self.read_some()? == 0 {
                let got = self.received.escape_ascii().to_string();
                return Err(io::Error::other(format!("closed in the middle of a message: {got}")));
            }
        }
    }

    /// Reads until these bytes have come.
    ///
    /// # Errors
    /// The proxy closes before, or sends nothing.
    pub fn read_until(&mut self, end: &str) -> io::Result<()> {
        while !self.received.windows(end.len()).any(|w| w == end.as_bytes()) {
            if self.read_some()? == 0 {
                return Err(io::Error::other(format!("closed before {end:?} came")));
            }
        }
        Ok(())
    }

    /// Reads until the proxy closes, or resets.
    ///
    /// # Errors
    /// It does neither.
    pub fn read_to_end(&mut self) -> io::Result<()> {
        loop {
            match self.read_some() {
                Ok(0) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                other => other.map(drop)?,
            }
        }
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut piece = [0; 65536];
        let n = self.stream.read(&mut piece).map_err(named)?;
        self.received.extend_from_slice(&piece[..n]);
        Ok(n)
    }

    /// Sends a FIN.
    ///
    /// # Errors
    /// The proxy was faster with a reset.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset.
    ///
    /// # Errors
    /// The socket takes no option.
    pub fn reset(self) -> io::Result<()> {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, Linger, &linger)?;
        drop(self.stream);
        Ok(())
    }
}

/// What the kernel says when a timeout ends a call names nobody.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, format!("the proxy does nothing for {PATIENCE:?}"))
        }
        _ => error,
    }
}

/// The length of the message at the start; `None` while it is not complete.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        let last = b"0\r\n\r\n";
        return bytes[head..].windows(last.len()).position(|w| w == last).map(|at| head + at + last.len());
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    (bytes.len() >= head + body).then_some(head + body)
}

/// What the upstream's port does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamKind {
    /// It accepts.
    Listening,
    /// It refuses.
    Refusing,
    /// It lets a connect wait for ever.
    Silent,
}

/// The scripted upstream.
pub struct Upstream {
    listener: Option<TcpListener>,
    /// Keeps the port.
    _socket: Option<OwnedFd>,
    /// They fill the backlog.
    _waiting: Vec<TcpStream>,
    address: SocketAddr,
}

impl Upstream {
    /// Takes a free port.
    ///
    /// # Errors
    /// There is none.
    pub fn new(kind: UpstreamKind) -> io::Result<Upstream> {
        match kind {
            UpstreamKind::Listening => {
                let listener = TcpListener::bind(("127.0.0.1", 0))?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok(Upstream { listener: Some(listener), _socket: None, _waiting: Vec::new(), address })
            }
            UpstreamKind::Refusing => {
                let (socket, address) = bound_socket()?;
                Ok(Upstream { listener: None, _socket: Some(socket), _waiting: Vec::new(), address })
            }
            UpstreamKind::Silent => {
                let (socket, address) = bound_socket()?;
                listen(&socket, Backlog::new(0)?)?;
                // The kernel drops a SYN when the backlog is full.
                let mut waiting = Vec::new();
                while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                    waiting.push(stream);
                }
                Ok(Upstream { listener: None, _socket: Some(socket), _waiting: waiting, address })
            }
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy's next connection.
    ///
    /// # Errors
    /// None comes.
    pub fn accept(&self) -> io::Result<Peer> {
        accept_at_any([self])
    }

    /// A connection that waits, if there is one.
    fn try_accept(&self) -> io::Result<Option<Peer>> {
        let listener =
            self.listener.as_ref().ok_or_else(|| io::Error::other("this upstream does not listen"))?;
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Peer::new(stream).map(Some)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The proxy's next connection to whichever of these.
///
/// # Errors
/// None comes.
pub fn accept_at_any<'a>(upstreams: impl IntoIterator<Item = &'a Upstream> + Clone) -> io::Result<Peer> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for upstream in upstreams.clone() {
            if let Some(peer) = upstream.try_accept()? {
                return Ok(peer);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    let text = format!("the proxy does not connect to the upstream for {PATIENCE:?}");
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

fn bound_socket() -> io::Result<(OwnedFd, SocketAddr)> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    let address: SockaddrIn = getsockname(fd.as_raw_fd())?;
    Ok((fd, SocketAddr::from(([127, 0, 0, 1], address.port()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_message() {
        let length = |text: &str| message_length(text.as_bytes());
        assert_eq!(length("GET / HTTP/1.1\r\nhost: a\r\n"), None);
        assert_eq!(length("GET / HTTP/1.1\r\nhost: a\r\n\r\nnext"), Some(27));
        assert_eq!(length("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx"), None);
        assert_eq!(length("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxyz"), Some(40));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
        assert_eq!(length(chunked), None);
        assert_eq!(length(&format!("{chunked}0\r\n\r\n")), Some(chunked.len() + 5));
    }

    #[test]
    fn upstreams_behave_as_their_kind_says() {
        let listening = Upstream::new(UpstreamKind::Listening).unwrap();
        let mut client = Peer::connect(listening.address()).unwrap();
        let mut peer = listening.accept().unwrap();
        client.send("GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(peer.read_message().unwrap(), "GET / HTTP/1.1\r\n\r\n");
        client.reset().unwrap();
        assert!(peer.read_message().is_err());
        let refusing = Upstream::new(UpstreamKind::Refusing).unwrap();
        assert!(TcpStream::connect(refusing.address()).is_err());
        let silent = Upstream::new(UpstreamKind::Silent).unwrap();
        let error = TcpStream::connect_timeout(&silent.address(), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
