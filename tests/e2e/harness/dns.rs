//! A DNS server that answers what a test wants, by UDP and by TCP.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The most that goes into a datagram.
const DATAGRAM: usize = 512;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// What is to be said of a name.
#[derive(Clone, Debug, Default)]
pub struct DnsAnswer {
    addresses: Vec<IpAddr>,
    ttl: u32,
    code: u16,
    /// To the question for IPv4 addresses alone.
    code_of_v4: u16,
    is_alias: bool,
    is_silent: bool,
    trick: Option<Trick>,
}

/// What else may come of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// First another answer, to a question of another number.
    OtherId,
    /// First another answer, to the question for another name.
    OtherName,
    /// The question is repeated in small letters, and there is no TCP.
    SmallLetters,
    /// A datagram that ends too early; all of it by TCP.
    Half,
    /// More than is usual in a datagram, and there is no TCP.
    Wide,
    /// By TCP, byte for byte.
    Slow,
    /// By TCP, half of it, and then the end.
    HalfByTcp,
    /// By TCP, and there nothing comes.
    SilentByTcp,
    /// By TCP, and there the answer to another question.
    OtherNameByTcp,
    /// By TCP, and there an empty message.
    EmptyByTcp,
    /// By TCP, with something behind it.
    MoreByTcp,
}

impl DnsAnswer {
    /// These addresses.
    pub fn of(addresses: &[&str]) -> DnsAnswer {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        DnsAnswer { addresses, ttl: 60, ..DnsAnswer::default() }
    }

    /// So many addresses.
    pub fn many(count: u8) -> DnsAnswer {
        let addresses = (0..count).map(|i| IpAddr::from([127, 9, 0, i])).collect();
        DnsAnswer { addresses, ttl: 60, ..DnsAnswer::default() }
    }

    /// That something is wrong: 2 for the server, 3 for the name, 5 for who asks.
    pub fn code(code: u16) -> DnsAnswer {
        DnsAnswer { code, ..DnsAnswer::default() }
    }

    /// That there is no IPv6 address, and that something is wrong with IPv4.
    pub fn code_of_v4(code_of_v4: u16) -> DnsAnswer {
        DnsAnswer { code_of_v4, ..DnsAnswer::default() }
    }

    /// Nothing at all.
    pub fn silence() -> DnsAnswer {
        DnsAnswer { is_silent: true, ..DnsAnswer::default() }
    }

    /// The name is an alias of another.
    pub fn by_alias(self) -> DnsAnswer {
        DnsAnswer { is_alias: true, ..self }
    }

    /// It comes with a trick.
    pub fn with(self, trick: Trick) -> DnsAnswer {
        DnsAnswer { trick: Some(trick), ..self }
    }

    /// It is good for so many seconds.
    pub fn ttl(self, ttl: u32) -> DnsAnswer {
        DnsAnswer { ttl, ..self }
    }
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, DnsAnswer>>,
    asked: Mutex<HashMap<String, usize>>,
    is_over: AtomicBool,
}

/// A server on a port of its own; it ends when it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl DnsServer {
    /// Starts one that knows no name.
    pub fn start() -> DnsServer {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("its address");
        let shared = Arc::<Shared>::default();
        let (for_udp, for_tcp) = (shared.clone(), shared.clone());
        thread::spawn(move || serve_udp(&udp, &for_udp));
        thread::spawn(move || serve_tcp(&tcp, &for_tcp));
        DnsServer { address, shared }
    }

    /// Where it is.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, that is the answer.
    pub fn set(&self, name: &str, answer: DnsAnswer) {
        self.shared.answers.lock().expect("no panic").insert(name.to_string(), answer);
    }

    /// How often it was asked for a name.
    pub fn asked(&self, name: &str) -> usize {
        self.shared.asked.lock().expect("no panic").get(name).copied().unwrap_or_default()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes both threads.
        let _ = std::net::TcpStream::connect(self.address);
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[0], self.address);
        }
    }
}

/// Both on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = udp.local_addr().expect("its address").port();
        if let Ok(tcp) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return (udp, tcp);
        }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut question = [0; DATAGRAM];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let question = &question[..length];
        let trick = shared.trick(question);
        let limit = match trick {
            Some(Trick::Wide) => 1200,
            Some(
                Trick::Slow
                | Trick::HalfByTcp
                | Trick::SilentByTcp
                | Trick::OtherNameByTcp
                | Trick::EmptyByTcp
                | Trick::MoreByTcp,
            ) => 0,
            _ => DATAGRAM,
        };
        let Some(mut answer) = shared.answer(question, limit) else { continue };
        let forged = || forge(&answer);
        match trick {
            Some(Trick::OtherId) => {
                let mut forged = forged();
                forged[0] ^= 1;
                let _ = socket.send_to(&forged, from);
            }
            Some(Trick::OtherName) => {
                let mut forged = forged();
                forged[13] ^= 1;
                let _ = socket.send_to(&forged, from);
            }
            Some(Trick::SmallLetters) => answer[12..length].make_ascii_lowercase(),
            Some(Trick::Half) => answer.truncate(answer.len() - 7),
            _ => {}
        }
        let _ = socket.send_to(&answer, from);
    }
}

/// The same with another address at its end.
fn forge(answer: &[u8]) -> Vec<u8> {
    let mut forged = answer.to_vec();
    if let Some(last) = forged.last_mut() {
        *last ^= 64;
    }
    forged
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let shared = shared.clone();
        thread::spawn(move || serve_stream(stream, &shared));
    }
}

/// Answers one question. c-ares keeps its connection for the next one; here it has to make another.
fn serve_stream(mut stream: TcpStream, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    if stream.read_exact(&mut question).is_err() {
        return;
    }
    let Some(mut answer) = shared.answer(&question, usize::MAX) else { return };
    let trick = shared.trick(&question);
    match trick {
        Some(Trick::OtherNameByTcp) => answer[13] ^= 1,
        Some(Trick::EmptyByTcp) => answer.clear(),
        Some(Trick::SmallLetters | Trick::Wide) => return,
        Some(Trick::SilentByTcp) => {
            let _ = stream.read_exact(&mut length);
            return;
        }
        _ => {}
    }
    let mut message = (answer.len() as u16).to_be_bytes().to_vec();
    message.extend(&answer);
    match trick {
        Some(Trick::HalfByTcp) => message.truncate(message.len() / 2),
        Some(Trick::MoreByTcp) => message.extend([1; 99]),
        _ => {}
    }
    let step = if trick == Some(Trick::Slow) { 1 } else { usize::MAX };
    stream.set_nodelay(true).expect("no delay");
    for part in message.chunks(step.min(message.len())) {
        let _ = stream.write_all(part);
    }
}

impl Shared {
    fn trick(&self, question: &[u8]) -> Option<Trick> {
        let (name, _) = read_name(question)?;
        self.answers.lock().expect("no panic").get(&name)?.trick
    }

    /// The message that answers a question; without records if it were longer than `limit`.
    fn answer(&self, message: &[u8], limit: usize) -> Option<Vec<u8>> {
        let (name, end) = read_name(message)?;
        let kind = u16::from_be_bytes(message.get(end..end + 2)?.try_into().ok()?);
        *self.asked.lock().expect("no panic").entry(name.clone()).or_default() += 1;
        let known = self.answers.lock().expect("no panic").get(&name).cloned();
        let answer = known.unwrap_or_else(|| DnsAnswer::code(3));
        if answer.is_silent {
            return None;
        }
        let code = if kind == A && answer.code == 0 { answer.code_of_v4 } else { answer.code };
        let records = if code == 0 { answer.records(kind) } else { Vec::new() };
        let is_long = records.iter().map(Vec::len).sum::<usize>() + end + 4 > limit;
        let count = if is_long { 0 } else { records.len() as u16 };
        let flags = 0x8180 | code | if is_long { 0x0200 } else { 0 };
        let mut out = message[..2].to_vec();
        [flags, 1, count, 0, 0].iter().for_each(|word: &u16| out.extend(word.to_be_bytes()));
        out.extend(&message[12..end + 4]);
        records.iter().filter(|_| !is_long).for_each(|record| out.extend(record));
        Some(out)
    }
}

impl DnsAnswer {
    fn records(&self, kind: u16) -> Vec<Vec<u8>> {
        let record = |name: &[u8], kind: u16, data: &[u8]| {
            let mut out = name.to_vec();
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(self.ttl.to_be_bytes());
            out.extend((data.len() as u16).to_be_bytes());
            out.extend(data);
            out
        };
        let (asked, other) = (&[0xc0, 12][..], &b"\x05other\x04test\0"[..]);
        let mut records = Vec::new();
        if self.is_alias {
            records.push(record(asked, CNAME, other));
        }
        let name = if self.is_alias { other } else { asked };
        let data = self.addresses.iter().filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
            _ => None,
        });
        records.extend(data.map(|data| record(name, kind, &data)));
        records
    }
}

/// The name that is asked for, and where it ends.
fn read_name(message: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}
